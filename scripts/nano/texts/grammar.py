"""Sentences with choices: `[a|b]` picks one, `{slot}` is filled in, so that one line gives many wordings."""

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

Parts = list["str | list[Parts]"]
T = TypeVar("T")
_PARSED: dict[str, Parts] = {}


def render(template: str, rng: random.Random, **slots: object) -> str:
    """`template` with each choice made by `rng` and each slot filled from `slots`."""
    parts = _PARSED.get(template)
    if parts is None:
        parts, end = _parse(template, 0)
        if end != len(template):
            raise ValueError(f"a ] too many in {template!r}")
        _PARSED[template] = parts
    out: list[str] = []
    _expand(parts, rng, out)
    text = "".join(out)
    return text.format(**slots) if slots else text


def word_list(text: str) -> list[str]:
    """The words of `text`."""
    return text.split()


def capital(text: str) -> str:
    """`text` with a capital first letter."""
    return text[:1].upper() + text[1:]


def with_article(noun: str) -> str:
    """`a dog`, `an owl`."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def pick(rng: random.Random, items: Sequence[T]) -> T:
    """One of `items`; a quicker random.choice, and the same on every Python."""
    return items[int(rng.random() * len(items))]


def weighted(table: Sequence[tuple[T, int]]) -> Callable[[random.Random], T]:
    """A function that draws from (item, weight) rows."""
    drawn = [item for item, weight in table for _ in range(weight)]
    return lambda rng: pick(rng, drawn)


def listed(words: Sequence[str], last: str = "and") -> str:
    """`a, b and c`."""
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def _parse(text: str, at: int, inside: bool = False) -> tuple[Parts, int]:
    """Parts from `at` on, up to the end or, inside a choice, to the next `|` or `]`."""
    parts: Parts = []
    literal = ""
    while at < len(text):
        char = text[at]
        if char == "[":
            parts.append(literal)
            literal = ""
            options: list[Parts] = []
            while text[at] != "]":
                option, at = _parse(text, at + 1, inside=True)
                options.append(option)
                if at == len(text):
                    raise ValueError(f"a ] is missing in {text!r}")
            parts.append(options)
        elif inside and char in "|]":
            break
        elif char == "]":
            return parts, at
        else:
            literal += char
        at += 1
    return [*parts, literal], at


def _expand(parts: Parts, rng: random.Random, out: list[str]) -> None:
    for part in parts:
        if isinstance(part, str):
            out.append(part)
        else:
            _expand(part[int(rng.random() * len(part))], rng, out)
