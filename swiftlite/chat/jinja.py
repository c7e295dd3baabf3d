"""The tokenizer's own Jinja chat template, with an exact loss mask or a refusal."""

import json
import re
from bisect import bisect_left
from typing import Any

from swiftlite.chat.encoded import Encoded
from swiftlite.chat.tokens import (
    ROWS_PER_CALL,
    Span,
    backend_copy,
    digest,
    is_trained,
    special_token_ids,
    starts_of,
    weigh,
)
from swiftlite.config.errors import UserError

GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")


class JinjaTemplate:
    """A `Template` that renders through the tokenizer's `chat_template`.

    Ids equal `tokenizer.apply_chat_template(messages, tokenize=True)`; as there, a special token typed into a
    message is read as one. What is trained:
    - with `{% generation %}` tags in the template: what they enclose;
    - else, for each assistant turn, what the whole rendering has between the rendering of the messages before
      it (with the generation prompt) and the rendering up to and including it, both of which must be prefixes
      of the whole; white space after the last special token of that span is left out.

    Args:
        system: system prompt put before conversations that bring none; None leaves it to the template.

    Raises:
        UserError: when the tokenizer has no chat template or it drops `system`, and, on encoding, for a
            conversation that it refuses or whose trained turns cannot be located exactly.
    """

    name = "tokenizer"

    def __init__(self, tokenizer: Any, system: str | None = None) -> None:
        text = tokenizer.chat_template
        if not text:
            raise UserError("the tokenizer has no chat template: choose --template chatml or another")
        if not isinstance(text, str):
            raise UserError(
                f"the tokenizer has several chat templates ({', '.join(sorted(text))}): keep one of them as "
                "the chat_template of its tokenizer_config.json"
            )
        self._eos = tokenizer.eos_token_id
        self._variables = dict(tokenizer.special_tokens_map)
        self._template = text if system is None else _with_system(text, system)
        self._tagged = GENERATION_TAG.search(text) is not None
        self._backend = backend_copy(tokenizer)
        self._special_ids = special_token_ids(tokenizer)
        if system is not None and system.strip() not in self.render([{"role": "user", "content": "?"}]):
            raise UserError("--system: the tokenizer's chat template leaves the system prompt out")
        self.stop_token_ids = self._find_stops()
        variables = json.dumps(self._variables, sort_keys=True, default=str)
        self.fingerprint = digest(self._backend, self._template, variables)

    def encode(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        *,
        for_generation: bool = False,
    ) -> Encoded:
        """Ids and weights of one conversation; with `for_generation`, all weights are 0 (see the class)."""
        if for_generation:
            text = self.render(messages, tools, for_generation=True)
            ids = self._backend.encode(text, add_special_tokens=False).ids
            return Encoded(ids, [0.0] * len(ids))
        return self.encode_batch([{"messages": messages, "tools": tools}])[0]

    def encode_batch(self, conversations: list[dict[str, Any]]) -> list[Encoded]:
        """`encode` of each conversation (`messages`, optional `tools`), with one tokenizer call for many."""
        encoded: list[Encoded] = []
        for first in range(0, len(conversations), ROWS_PER_CALL):
            rows = conversations[first : first + ROWS_PER_CALL]
            rendered = [self._trained_spans(row["messages"], row.get("tools")) for row in rows]
            encodings = self._backend.encode_batch([text for text, _ in rendered], add_special_tokens=False)
            for (text, spans), encoding in zip(rendered, encodings, strict=True):
                encoded.append(self._weigh(text, spans, encoding))
        return encoded

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        *,
        for_generation: bool = False,
    ) -> str:
        """The conversation as text; raises UserError with the template's own complaint when it refuses."""
        return self._render(messages, tools, for_generation)[0]

    def jinja(self) -> str:
        """The tokenizer's chat_template, with the system prompt of this run as its default."""
        return self._template

    def _render(
        self, messages: list[dict[str, Any]], tools: Any, for_generation: bool = False, tags: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        """The text, and with `tags` the [start, end) of each generation tag in it."""
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        if not messages:
            raise UserError("the conversation has no messages")
        # transformers drops keys without a value since 5.23, templates then take them for absent.
        clean = [{k: v for k, v in m.items() if k != "loss" and v is not None} for m in messages]
        try:
            rendered: Any = render_jinja_template(
                conversations=[clean],
                tools=tools or None,
                chat_template=self._template,
                return_assistant_tokens_mask=tags,
                add_generation_prompt=for_generation,
                **self._variables,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise UserError(f"the tokenizer's chat template refuses this conversation: {error}") from error
        texts, found = rendered
        return texts[0], found[0] if tags else []

    def _trained_spans(self, messages: list[dict[str, Any]], tools: Any) -> tuple[str, list[Span]]:
        text, tags = self._render(messages, tools, tags=self._tagged)
        turns = [i for i, message in enumerate(messages) if message.get("role") == "assistant"]
        trained = [i for i in turns if is_trained(messages[i])]
        if not self._tagged:
            return text, [self._locate(text, messages, tools, i) for i in trained]
        if len(trained) == len(turns):
            return text, [Span(start, end, 1.0) for start, end in tags]
        if len(tags) != len(turns):
            raise UserError(
                f"the chat template marks {len(tags)} generated parts for {len(turns)} assistant turns, so "
                "the one with loss: false cannot be told from the others: choose --template chatml or another"
            )
        return text, [Span(*tag, 1.0) for turn, tag in zip(turns, tags, strict=True) if turn in trained]

    def _locate(self, text: str, messages: list[dict[str, Any]], tools: Any, turn: int) -> Span:
        """Where assistant turn `turn` lies in the whole rendering `text`."""
        if turn == 0:
            raise UserError(
                "message 1 is an assistant turn, which the tokenizer's chat template cannot place: start the "
                "conversation with a user turn, or give this turn loss: false"
            )
        before = self._render(messages[:turn], tools, for_generation=True)[0]
        upto = text if turn + 1 == len(messages) else self._render(messages[: turn + 1], tools)[0]
        if not (text.startswith(before) and text.startswith(upto) and len(before) < len(upto)):
            raise UserError(
                f"message {turn + 1}: the tokenizer's chat template writes this assistant turn "
                "differently when other messages follow, or not after its own generation prompt (many drop "
                "earlier <think> text), so its tokens cannot be trained exactly: choose --template chatml or "
                "another, or give the turn loss: false"
            )
        return Span(len(before), len(upto), 1.0)

    def _weigh(self, text: str, spans: list[Span], encoding: Any) -> Encoded:
        ids, starts = encoding.ids, starts_of(encoding)
        if not self._tagged:
            spans = [span._replace(end=self._without_tail(text, span, ids, starts)) for span in spans]
        return Encoded(ids, weigh(starts, spans))

    def _without_tail(self, text: str, span: Span, ids: list[int], starts: list[int]) -> int:
        """The end of a span without the white space that follows its last special token."""
        first, last = bisect_left(starts, span.start), bisect_left(starts, span.end)
        end = span.end
        for k in range(last - 1, first - 1, -1):
            if ids[k] in self._special_ids:
                return end
            if not text[starts[k] : end].isspace():
                break
            end = starts[k]
        return span.end

    def _find_stops(self) -> list[int]:
        """The special token that ends a trained turn, then EOS."""
        stops = [self._eos]
        try:
            sample = self.encode([{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}])
        except UserError:
            # Such a template can still be generated with; encoding for training says what is wrong.
            sample = Encoded([], [])
        trained = [i for i, weight in zip(sample.ids, sample.weights, strict=True) if weight]
        if trained and trained[-1] in self._special_ids:
            stops.insert(0, trained[-1])
        return list(dict.fromkeys(i for i in stops if i is not None))


def _with_system(template: str, system: str) -> str:
    """`template` with a system message put first where there is none.

    Jinja removes the line break after the inserted block (trim_blocks), whatever the template begins with.
    """
    message = f"[{{'role': 'system', 'content': {json.dumps(system, ensure_ascii=False)}}}]"
    condition = "messages[0]['role'] != 'system'"
    return f"{{%- if {condition} %}}{{%- set messages = {message} + messages %}}{{%- endif %}}\n{template}"
