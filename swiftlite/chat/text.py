"""Plain text in a template's place: what a model without a chat format reads, and how it is continued."""

from typing import Any

from swiftlite.chat.encoded import Encoded
from swiftlite.chat.tokens import backend_copy, digest
from swiftlite.config.errors import UserError

NAME = "text"


class TextTemplate:
    """A `Template` of no format: messages are one text, one after the other; generation goes on where it ends.

    It trains on no conversation: `swiftlite pt` reads texts through the tokenizer alone.
    """

    name = NAME

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.stop_token_ids = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
        self.fingerprint = digest(backend_copy(tokenizer), NAME)
        self.notes: list[str] = []

    def encode(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        *,
        for_generation: bool = False,
    ) -> Encoded:
        """The ids of the text; raises a UserError for tools, which a text cannot describe."""
        ids = self._tokenizer(self.render(messages, tools), return_attention_mask=False, verbose=False)["input_ids"]
        end = self._tokenizer.eos_token_id
        if end is not None and ids and ids[-1] == end:
            ids = ids[:-1]
        return Encoded(ids, [0.0] * len(ids))

    def encode_batch(self, conversations: list[dict[str, Any]]) -> list[Encoded]:
        """Raises a UserError: a conversation has turns, which this is blind to."""
        raise UserError("a conversation, which plain text has no form for; train on it with `swiftlite sft`")

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        *,
        for_generation: bool = False,
    ) -> str:
        """The contents of all messages, joined."""
        if tools:
            raise UserError("--template text: plain text has no form for tools; choose a chat template")
        return "".join(message["content"] for message in messages)

    def jinja(self) -> str | None:
        """The tokenizer's own chat template, which training on text leaves as it is."""
        return self._tokenizer.chat_template
