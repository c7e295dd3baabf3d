"""The tokenizer's own Jinja chat template, with an exact loss mask or a refusal."""

import json
from datetime import date
from typing import Any, NamedTuple

from swiftlite.chat.dates import CLOCK
from swiftlite.chat.encoded import Encoded
from swiftlite.chat.loss_scale import LossScale, answer_spans, is_trained, trained_turns
from swiftlite.chat.marks import Layout, Marker
from swiftlite.chat.rendering import Renderer, refuse_marks
from swiftlite.chat.tokens import (
    ROWS_PER_CALL,
    Backends,
    Span,
    any_of,
    backend_of,
    control_tokens,
    digest,
    encode_mixed,
    starts_of,
    weigh,
)
from swiftlite.chat.turns import TurnFinder
from swiftlite.config.errors import UserError

_ASKED = {"role": "user", "content": "?"}
_SAID = {"role": "assistant", "content": "!"}


class Row(NamedTuple):
    """A rendered conversation: its text, what is trained, where control tokens are typed, and two counts."""

    text: str
    spans: list[Span]
    typed: list[tuple[int, int]]
    untrained_turns: int
    special_in_text: int


class JinjaTemplate:
    """A `Template` that renders through the tokenizer's `chat_template`.

    Ids equal `tokenizer.apply_chat_template(messages, tokenize=True)`, but for two things: a control token typed
    into a message is encoded as plain characters, and a template that leaves the last answer open (Qwen1.5's)
    closes it like those before it.

    What is trained of an answer is what its `{% generation %}` tags enclose, else what the model would write after
    the generation prompt, up to its stop token (see turns.py). An answer that the template rewrites is read but
    not trained, and counted.

    Args:
        system: system prompt put before conversations that bring none; "auto" leaves it to the template, None
            means that there is none.
        day: the date that the template prints, if it prints one.
        loss_scale: see `ChatConfig`.

    Attributes:
        notes: what the template adds to conversations by itself.

    Raises:
        UserError: when the tokenizer has no chat template or it drops `system`, and, on encoding, for a
            conversation that it refuses or whose trained turns cannot be located exactly.
    """

    name = "tokenizer"

    def __init__(
        self,
        tokenizer: Any,
        system: str | None = "auto",
        *,
        day: date | None = None,
        loss_scale: LossScale = "default",
    ) -> None:
        template = _one_template(tokenizer)
        variables = dict(tokenizer.special_tokens_map)
        self._loss_scale = loss_scale
        self._renderer, self.notes = _prepared(template, variables, system, day or date.today())
        written = self._renderer.tried([_ASKED, _SAID])
        with_tools = self._renderer.tried([_ASKED, _SAID], with_tools=True)
        self._tools_left_out = written != "" and written == with_tools
        added = [token.content for token in backend_of(tokenizer).get_added_tokens_decoder().values()]
        self._control = control_tokens(tokenizer, {token for token in added if token in with_tools})
        self._backends = Backends(tokenizer, self._control)
        self._marker = Marker(self._renderer.text, self._control)
        ignores_prompt = self._renderer.tried([_ASKED, _SAID], for_generation=True, with_tools=True) == with_tools
        self._turns = TurnFinder(self._layout, added, tokenizer.eos_token, ignores_prompt)
        self._closing = self._missing_closing(written, added)
        self.stop_token_ids = self._find_stops(tokenizer.eos_token_id)
        settings = json.dumps([variables, loss_scale], sort_keys=True, default=str)
        self.fingerprint = digest(self._backends.whole, self._renderer.text, settings)

    def encode(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        *,
        for_generation: bool = False,
    ) -> Encoded:
        """Ids and weights of one conversation; with `for_generation`, all weights are 0 (see the class)."""
        if not for_generation:
            return self.encode_batch([{"messages": messages, "tools": tools}])[0]
        text = self.render(messages, tools, for_generation=True)
        typed: list[tuple[int, int]] = []
        if self._marker.typed(messages, tools):
            typed = self._checked(text, messages, tools, for_generation=True).control()
        row = Row(text, [], typed, 0, len(typed))
        return self._weigh(row, None if typed else self._backends.whole.encode(text, add_special_tokens=False))

    def encode_batch(self, conversations: list[dict[str, Any]]) -> list[Encoded]:
        """`encode` of each conversation (`messages`, optional `tools`), with one tokenizer call for many."""
        encoded: list[Encoded] = []
        for first in range(0, len(conversations), ROWS_PER_CALL):
            chunk = conversations[first : first + ROWS_PER_CALL]
            rows = [self._row(conversation["messages"], conversation.get("tools")) for conversation in chunk]
            plain = [row.text for row in rows if not row.typed]
            encodings = iter(self._backends.whole.encode_batch(plain, add_special_tokens=False))
            encoded += [self._weigh(row, None if row.typed else next(encodings)) for row in rows]
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
        """The tokenizer's chat_template, with the system prompt of this run as its default; its date is not pinned."""
        return self._renderer.saved

    def _render(
        self, messages: list[dict[str, Any]], tools: Any, for_generation: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        if tools and self._tools_left_out:
            raise UserError(
                "the tokenizer's chat template leaves tools out: take them out of the data or choose another --template"
            )
        text, tags = self._renderer.render(messages, tools, for_generation, tags=self._renderer.tagged)
        if not for_generation and messages[-1].get("role") == "assistant":
            text += self._closing
        refuse_marks(text)
        return text, tags

    def _layout(self, messages: list[dict[str, Any]], tools: Any, for_generation: bool) -> Layout:
        layout = self._renderer.layout(self._marker, messages, tools, for_generation)
        if not for_generation and messages[-1].get("role") == "assistant":
            layout.text += self._closing
        return layout

    def _checked(self, text: str, messages: list[dict[str, Any]], tools: Any, for_generation: bool = False) -> Layout:
        """The layout of a conversation, which must be that of `text`."""
        layout = self._layout(messages, tools, for_generation)
        if layout.text != text:
            raise UserError(
                "the tokenizer's chat template reads the text of this conversation in a way that swiftlite cannot "
                "follow (a special token typed into it, or the same text twice), so where each message stands in it "
                "is unknown: choose --template chatml or another, or take the row out"
            )
        return layout

    def _row(self, messages: list[dict[str, Any]], tools: Any) -> Row:
        text, tags = self._render(messages, tools)
        layout = self._checked(text, messages, tools)
        _refuse_left_out(layout, messages)
        trained = trained_turns(messages, self._loss_scale)
        whole = [i for i in trained if layout.whole(i)]
        spans: list[Span] = []
        if self._loss_scale == "all":
            excluded = [i for i, m in enumerate(messages) if m.get("role") == "assistant" and not is_trained(m)]
            spans.append(Span(0, len(text), 1.0))
            spans += [s._replace(weight=0.0) for i in excluded for s in self._answer(layout, tags, messages, tools, i)]
            trained = whole = []
        for i in whole:
            spans += self._answer(layout, tags, messages, tools, i)
        typed = sum(fragment.control for fragment in layout.fragments)
        return Row(text, spans, layout.control(), len(trained) - len(whole), typed)

    def _answer(
        self, layout: Layout, tags: list[tuple[int, int]], messages: list[dict[str, Any]], tools: Any, turn: int
    ) -> list[Span]:
        """What is trained of one answer."""
        if not layout.of(turn):
            return []
        if not self._renderer.tagged:
            found = self._turns.find(layout, messages, tools, turn)
            closing = Span(found.said, found.end, 1.0)
            return [*answer_spans(layout.text, found.start, found.said, self._loss_scale), closing]
        places = [place for _, place in layout.of(turn)]
        said = max(end for _, end in places)
        spans = []
        for start, end in tags:
            if any(start <= place[0] < end for place in places):
                said = min(max(said, start), end)
                spans += [*answer_spans(layout.text, start, said, self._loss_scale), Span(said, end, 1.0)]
        return spans

    def _weigh(self, row: Row, encoding: Any) -> Encoded:
        if encoding is None:
            ids, starts = encode_mixed(self._backends, self._control, row.text, row.typed)
        else:
            ids, starts = encoding.ids, starts_of(encoding)
        return Encoded(ids, weigh(starts, row.spans), row.untrained_turns, row.special_in_text)

    def _missing_closing(self, written: str, added: list[str]) -> str:
        """What ends an answer, where the template writes it only once more follows (Qwen1.5, vLLM's ChatML)."""
        if not written.endswith("!"):
            return ""
        going_on = self._renderer.tried([_ASKED, _SAID, _ASKED])[len(written) :]
        asked = self._renderer.tried([_ASKED, _SAID], for_generation=True)[len(written) :]
        found = any_of(added).match(going_on)
        return found.group() if found and asked.startswith(found.group()) else ""

    def _find_stops(self, eos: int | None) -> list[int]:
        """The special token that ends a trained turn, then EOS."""
        stops = [eos]
        messages = [_ASKED, _SAID]
        try:
            text, tags = self._render(messages, None)
            spans = self._answer(self._checked(text, messages, None), tags, messages, None, 1)
        except UserError:
            # Such a template can still be generated with; encoding for training says what is wrong.
            text, spans = "", []
        end = max((span.end for span in spans), default=0)
        stops[:0] = [number for name, number in self._control.items() if text.endswith(name, 0, end)]
        return list(dict.fromkeys(i for i in stops if i is not None))


def _refuse_left_out(layout: Layout, messages: list[dict[str, Any]]) -> None:
    """What the model should read before it answers must be there."""
    for i in sorted(layout.missing):
        role = messages[i].get("role")
        if role != "assistant":
            raise UserError(
                f"message {i + 1}: the tokenizer's chat template leaves text of this {role} turn out: take the turn "
                "out of the row, or choose another --template"
            )


def _one_template(tokenizer: Any) -> str:
    text = tokenizer.chat_template
    if not text:
        raise UserError("the tokenizer has no chat template: choose --template chatml or another")
    if not isinstance(text, str):
        raise UserError(
            f"the tokenizer has several chat templates ({', '.join(sorted(text))}): keep one of them as "
            "the chat_template of its tokenizer_config.json"
        )
    return text


def _prepared(template: str, variables: dict[str, Any], system: str | None, day: date) -> tuple[Renderer, list[str]]:
    """The template with the system prompt and date of the run, and what is to be said of them."""
    notes = [f"the chat template prints a date; it is {day.isoformat()}"] if CLOCK in template else []
    own = Renderer(template, variables, None, day)
    if system == "auto":
        if own.injects_system():
            notes.append("the chat template puts a system prompt of its own where a conversation brings none")
        return own, notes
    if system is None:
        if not own.injects_system():
            return own, notes
        if not own.can_empty_system():
            raise UserError(
                "--system none: the tokenizer's own chat template puts in a system prompt and takes no empty one; "
                "choose --template chatml or another for conversations without one"
            )
        return Renderer(template, variables, "", day), notes
    renderer = Renderer(template, variables, system, day)
    if system.strip() not in renderer.render([_ASKED])[0]:
        raise UserError("--system: the tokenizer's chat template leaves the system prompt out")
    return renderer, notes
