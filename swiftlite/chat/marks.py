"""Marks around the text that a conversation brings, to find it again in what a chat template makes of it.

A marked conversation is rendered like the plain one. Each mark is one private-use character that occurs nowhere
else, so the places of all texts come from one rendering, whatever stands twice in it; that the rendering without
its marks equals the plain one shows that the marks changed nothing.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from swiftlite.chat.tokens import any_of
from swiftlite.config.errors import UserError

MARK = re.compile("[\U00100000-\U0010fffd]")
_FIRST, _MOST = 0x100000, 0x7FFF
# What a template may look for in a message: <think>, </tool_call>, <|im_end|>, [THINK]. Marks stay outside.
_TAG = re.compile(r"<[^<>\s'\"]{1,40}>|\[/?[A-Z_]+\]")
# Fields of a message that a template prints as they stand.
_TEXTS = ("content", "reasoning_content", "thinking", "reasoning", "text")


class Fragment(NamedTuple):
    """A marked text: `message` is its index (-1: of the tools), `control` that it is a typed control token."""

    message: int
    text: str
    control: bool


class Marker:
    """Puts marks into conversations.

    Args:
        template: the text of the chat template; tags that it mentions stay outside of the marks, as does white
            space at the ends of a text, so that looking for tags and trimming work as without marks.
        control: control tokens, each marked apart wherever it is typed.
    """

    def __init__(self, template: str, control: Iterable[str]) -> None:
        self._control = any_of(control)
        self._cut = re.compile(f"({self._control.pattern}|{any_of(_TAG.findall(template)).pattern})")

    def mark(self, messages: list[dict[str, Any]], tools: Any) -> tuple[list[dict[str, Any]], Any, list[Fragment]]:
        """The marked messages and tools, and what was marked: the k-th mark pair stands around the k-th fragment."""
        fragments: list[Fragment] = []
        marked = [self._message(message, i, fragments) for i, message in enumerate(messages)]
        return marked, self._values(tools, -1, fragments), fragments

    def typed(self, messages: list[dict[str, Any]], tools: Any) -> bool:
        """Whether a control token is typed somewhere."""
        return any(self._control.search(text) for text in _strings([messages, tools]))

    def _message(self, message: dict[str, Any], i: int, fragments: list[Fragment]) -> dict[str, Any]:
        before = len(fragments)
        marked: dict[str, Any] = {}
        for key, value in message.items():
            if key in _TEXTS:
                marked[key] = self._text(value, i, fragments)
            elif key == "tool_calls":
                marked[key] = [self._call(call, i, fragments) for call in value]
            else:
                marked[key] = value if key == "role" else self._values(value, i, fragments)
        # An answer of nothing but tags or white space has a place too.
        if len(fragments) == before and message.get("role") == "assistant" and isinstance(message.get("content"), str):
            marked["content"] += _around("", i, fragments)
        return marked

    def _text(self, value: Any, i: int, fragments: list[Fragment]) -> Any:
        if isinstance(value, list):
            return [self._text(item, i, fragments) for item in value]
        if isinstance(value, dict):
            return {key: self._text(item, i, fragments) if key in _TEXTS else item for key, item in value.items()}
        if not isinstance(value, str):
            return value
        marked = ""
        for part in self._cut.split(value):
            core = part.strip()
            if self._control.fullmatch(part):
                marked += _around(part, i, fragments, control=True)
            elif not core or self._cut.fullmatch(part):
                marked += part
            else:
                at = part.index(core)
                marked += part[:at] + _around(core, i, fragments) + part[at + len(core) :]
        return marked

    def _call(self, call: dict[str, Any], i: int, fragments: list[Fragment]) -> dict[str, Any]:
        if isinstance(call.get("function"), dict):
            return call | {"function": self._call(call["function"], i, fragments)}
        name = self._text(call["name"], i, fragments) if "name" in call else None
        others = {key: self._values(value, i, fragments) for key, value in call.items() if key != "name"}
        return {key: name if key == "name" else others[key] for key in call}

    def _values(self, value: Any, i: int, fragments: list[Fragment]) -> Any:
        """`value` with the control tokens in its texts marked."""
        if isinstance(value, str):
            return self._control.sub(lambda found: _around(found.group(), i, fragments, control=True), value)
        if isinstance(value, dict):
            return {key: self._values(item, i, fragments) for key, item in value.items()}
        if isinstance(value, list):
            return [self._values(item, i, fragments) for item in value]
        return value


def _around(text: str, message: int, fragments: list[Fragment], *, control: bool = False) -> str:
    code = _FIRST + 2 * len(fragments)
    if len(fragments) == _MOST:
        raise UserError(f"the conversation has more than {_MOST} pieces of text: split it")
    fragments.append(Fragment(message, text, control))
    return chr(code) + text + chr(code + 1)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


class Layout:
    """Where the fragments of a conversation stand in its rendering.

    Attributes:
        text: the rendering without marks.
        places: [start, end) of each fragment; None for one that is missing or stands there more than once.
        missing: indices of the messages of which some text is not there at all.
    """

    def __init__(self, marked: str, fragments: list[Fragment]) -> None:
        self.fragments = fragments
        self.places: list[tuple[int, int] | None] = []
        self.missing: set[int] = set()
        borders: dict[int, list[int]] = {}
        parts, at, done = [], 0, 0
        for mark in MARK.finditer(marked):
            parts.append(marked[done : mark.start()])
            at += mark.start() - done
            done = mark.end()
            borders.setdefault(ord(mark.group()) - _FIRST, []).append(at)
        self.text = "".join([*parts, marked[done:]])
        for k in range(len(fragments)):
            begin, end = borders.get(2 * k, []), borders.get(2 * k + 1, [])
            if not begin and not fragments[k].control:
                self.missing.add(fragments[k].message)
            once = len(begin) == len(end) == 1 and begin[0] <= end[0]
            self.places.append((begin[0], end[0]) if once else None)

    def of(self, message: int) -> list[tuple[int, tuple[int, int]]]:
        """Number and place of each fragment of a message that is there."""
        return [(k, place) for k, place in enumerate(self.places) if place and self.fragments[k].message == message]

    def whole(self, message: int) -> bool:
        """Whether every text of a message is there, once, and the same up to white space."""
        for place, fragment in zip(self.places, self.fragments):
            if fragment.message != message:
                continue
            if place is None or "".join(self.text[slice(*place)].split()) != "".join(fragment.text.split()):
                return False
        return True

    def control(self) -> list[tuple[int, int]]:
        """The places of the control tokens typed into texts, in order."""
        return sorted(p for p, fragment in zip(self.places, self.fragments) if p and fragment.control)
