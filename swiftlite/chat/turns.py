"""Finds each answer in the rendering of a whole conversation: what the model says, with the token that stops it."""

import re
from collections.abc import Callable
from itertools import takewhile
from typing import Any, NamedTuple

from swiftlite.chat.marks import Layout
from swiftlite.chat.tokens import any_of
from swiftlite.config.errors import UserError

Message = dict[str, Any]
_REMEMBERED = 1000
_OPENS_THOUGHT = re.compile(r"\s*[<\[][^<>\[\]]*think", re.IGNORECASE)


class Turn(NamedTuple):
    """Characters of a rendering: the answer's text is [start, said), the whole with its stop token [start, end)."""

    start: int
    said: int
    end: int


class TurnFinder:
    """Finds answers from the marks around the texts of a conversation.

    The model continues the generation prompt, so an answer begins where the whole rendering, counted from the
    last text before it, parts from the prompt that the messages before it give. It ends with what the template
    writes after an answer whatever follows: what the rendering with more messages shares with the one that ends
    there, up to its EOS token, else up to its last special token, else all of it. What the template writes between
    two messages depends on their roles and is remembered by its text, so most rows cost no further rendering.

    Args:
        layout: (messages, tools, for_generation) -> Layout.
        added: the added tokens of the tokenizer, by text.
        eos: text of the EOS token, if there is one.
        ignores_prompt: whether the template makes no difference for add_generation_prompt.
    """

    def __init__(self, layout: Callable[..., Layout], added: list[str], eos: str | None, ignores_prompt: bool) -> None:
        self._layout = layout
        self._token = any_of(added)
        # Tags count as one unit: two texts that both begin with "<" share nothing yet.
        self._units = re.compile(rf"{self._token.pattern}|<[^<>\s]{{1,40}}>|.", re.DOTALL)
        self._eos = eos
        self._ignores_prompt = ignores_prompt
        self._starts: dict[Any, int] = {}
        self._closings: dict[Any, str] = {}

    def find(self, layout: Layout, messages: list[Message], tools: Any, turn: int) -> Turn:
        """The answer of message `turn`, all of whose texts are in `layout`.

        Raises:
            UserError: its borders cannot be told exactly.
        """
        own = layout.of(turn)
        first = min(place[0] for _, place in own)
        last, said = max(((k, place[1]) for k, place in own), key=lambda pair: pair[1])
        start = self._start(layout, messages, tools, turn, first)
        return Turn(start, said, said + len(self._closing(layout, messages, tools, turn, last)))

    def _start(self, layout: Layout, messages: list[Message], tools: Any, turn: int, first: int) -> int:
        if turn == 0:
            raise UserError(
                "message 1 is an assistant turn, which the tokenizer's chat template cannot place: start the "
                "conversation with a user turn, or give this turn loss: false"
            )
        before = [
            (place[1], k)
            for k, place in enumerate(layout.places)
            if place and layout.fragments[k].message < turn and place[1] <= first
        ]
        at, anchor = max(before, default=(0, None))
        between = layout.text[at:first]
        role = None if anchor is None else messages[max(layout.fragments[anchor].message, 0)]["role"]
        key = (role, bool(tools), between)
        if key not in self._starts:
            found = self._header(between, messages, tools, turn, anchor)
            self._remember(self._starts, key, found)
        return at + self._starts[key]

    def _header(self, between: str, messages: list[Message], tools: Any, turn: int, anchor: int | None) -> int:
        """How much of `between`, the text before an answer, the generation prompt has written already."""
        prompt = self._layout(messages[:turn], tools, True)
        place = (0, 0) if anchor is None else prompt.places[anchor]
        if place is not None:
            tail = prompt.text[place[1] :]
            shared = self._shared(between, tail)
            # A prompt that opens a thought is not followed by an answer without one.
            if shared in (tail, between) or _OPENS_THOUGHT.match(tail, len(shared)):
                return len(shared)
        # A template that closes its last message in another way than those before it (Hermes-3) still writes the
        # same header.
        asked = self._layout(messages[:turn], tools, False).text
        header = prompt.text.removeprefix(asked) if prompt.text != asked and prompt.text.startswith(asked) else ""
        if header and between.count(header) == 1:
            return between.index(header) + len(header)
        raise UserError(
            f"message {turn + 1}: the tokenizer's chat template does not write this assistant turn after its own "
            "generation prompt, so its tokens cannot be trained exactly: choose --template chatml or another, or "
            "give the turn loss: false"
        )

    def _closing(self, layout: Layout, messages: list[Message], tools: Any, turn: int, last: int) -> str:
        """What ends the answer, from after its last text to its stop token."""
        at = layout.places[last][1]  # pyrefly: ignore[unsupported-operation]
        later = [p[0] for p, f in zip(layout.places, layout.fragments) if p and f.message > turn and p[0] >= at]
        after = layout.text[at : min(later, default=len(layout.text))]
        more = messages[turn + 1]["role"] if turn + 1 < len(messages) else None
        key = (more, bool(tools), after)
        if key not in self._closings:
            other = self._other(messages, tools, turn, last, after)
            self._remember(self._closings, key, self._stopped(self._shared(after, other), turn))
        return self._closings[key]

    def _other(self, messages: list[Message], tools: Any, turn: int, last: int, after: str) -> str:
        """What follows the answer when the conversation ends there; for the last, when it goes on."""
        if turn + 1 < len(messages):
            shorter = self._layout(messages[: turn + 1], tools, False)
            place = shorter.places[last]
            return after if place is None else shorter.text[place[1] :]
        try:
            longer = self._layout([*messages, {"role": "user", "content": "?"}], tools, False)
        except UserError:
            return after  # No user may speak after a tool call.
        place = longer.places[last]
        return after if place is None else longer.text[place[1] :]

    def _stopped(self, closing: str, turn: int) -> str:
        if self._eos and self._eos in closing:
            return closing[: closing.index(self._eos) + len(self._eos)]
        tokens = list(self._token.finditer(closing))
        if self._ignores_prompt and len(tokens) > 1:
            raise UserError(
                f"message {turn + 1}: the tokenizer's chat template writes a generation prompt after every "
                f"conversation, and which of {closing!r} ends an answer cannot be told: give the tokenizer the right "
                "eos_token"
            )
        rest = closing[tokens[-1].end() :] if tokens else closing
        return closing[: len(closing) - len(rest)] if tokens and not rest.strip() else closing

    def _shared(self, a: str, b: str) -> str:
        """What two texts share at their beginning, in whole tokens and tags."""
        pairs = takewhile(lambda pair: pair[0] == pair[1], zip(self._units.findall(a), self._units.findall(b)))
        return "".join(unit for unit, _ in pairs)

    def _remember(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        if len(table) >= _REMEMBERED:
            table.clear()
        table[key] = value
