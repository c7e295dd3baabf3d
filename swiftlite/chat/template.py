"""What a template is to the rest of the house, and which one a run uses."""

from dataclasses import replace
from typing import Any, Protocol

from swiftlite.chat import text
from swiftlite.chat.config import ChatConfig
from swiftlite.chat.encoded import Encoded
from swiftlite.chat.jinja import JinjaTemplate
from swiftlite.chat.pieces import PieceTemplate
from swiftlite.chat.registry import CHATML, template_names, template_pieces
from swiftlite.chat.specials import missing_specials
from swiftlite.config.errors import UserError


class Template(Protocol):
    """Writes conversations (lists of messages) as text and as weighted token ids.

    Attributes:
        name: what --template calls it.
        stop_token_ids: tokens that end an answer; the first is the one trained.
        fingerprint: 16 hex digits over everything that decides ids and weights.
        notes: what the template puts into conversations by itself (a system prompt, a date), to be shown.
    """

    name: str
    stop_token_ids: list[int]
    fingerprint: str
    notes: list[str]

    def encode(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        *,
        for_generation: bool = False,
    ) -> Encoded:
        """One conversation; `for_generation` ends it with the assistant's header, all weights 0."""
        ...

    def encode_batch(self, conversations: list[dict[str, Any]]) -> list[Encoded]:
        """The same as `encode` for each {"messages": ..., "tools": ...}, faster."""
        ...

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        *,
        for_generation: bool = False,
    ) -> str:
        """The text whose tokens `encode` gives."""
        ...

    def jinja(self) -> str | None:
        """The chat_template to save with the checkpoint's tokenizer; None: it has none."""
        ...


def choose_template(config: ChatConfig, tokenizer: Any, family_template: str | None) -> Template:
    """The template of a run.

    Args:
        family_template: the registered template of the model's family, if it has one; what `auto` prefers.

    Raises:
        UserError: for an unknown name, or when the tokenizer does not have what the template needs.
    """
    config.check()
    name = config.template
    if name == "auto":
        name = family_template or ("tokenizer" if tokenizer.chat_template else "chatml")
        if name == "chatml" and not family_template and missing_specials(CHATML, tokenizer):
            raise UserError(
                "--template auto: the tokenizer has no chat template of its own and no <|im_start|>, "
                f"<|im_end|> for chatml: name the one that fits the model ({', '.join(template_names())}) "
                "or add a chat_template to its tokenizer_config.json"
            )
    # An empty text is the old spelling of `none`.
    system = config.system or None
    if name == text.NAME:
        return text.TextTemplate(tokenizer)
    if name == "tokenizer":
        return JinjaTemplate(tokenizer, system, day=config.day(), loss_scale=config.loss_scale)
    pieces = template_pieces(name)
    if system != "auto":
        pieces = replace(pieces, default_system=system)
    return PieceTemplate(name, pieces, tokenizer, config.loss_scale)
