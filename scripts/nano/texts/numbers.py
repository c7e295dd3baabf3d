"""Numbers to calculate with, drawn so that no held-out question is asked, and numbers in words."""

import random

from texts.grammar import word_list
from texts.heldout import comparison_is_free, difference_is_free, sum_is_free

UNITS = word_list(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = word_list("ten twenty thirty forty fifty sixty seventy eighty ninety")
ORDINALS = word_list("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth")


def in_words(number: int) -> str:
    """0 to 999 in words: `forty-two`, `one hundred and five`."""
    if number < 20:
        return UNITS[number]
    if number < 100:
        rest = f"-{UNITS[number % 10]}" if number % 10 else ""
        return TENS[number // 10 - 1] + rest
    rest = f" and {in_words(number % 100)}" if number % 100 else ""
    return f"{UNITS[number // 100]} hundred{rest}"


def addends(rng: random.Random, most: int = 0) -> tuple[int, int]:
    """Two numbers to add: mostly 0 to 99, sometimes small, sometimes up to 999; `most` sets another bound."""
    while True:
        a, b = _pair(rng, most)
        if sum_is_free(a, b):
            return a, b


def minuend(rng: random.Random, most: int = 0) -> tuple[int, int]:
    """(a, b) with a >= b, to take b from a."""
    while True:
        a, b = _pair(rng, most)
        a, b = max(a, b), min(a, b)
        if difference_is_free(a, b):
            return a, b


def unequal(rng: random.Random, most: int = 0) -> tuple[int, int]:
    """Two different numbers to compare."""
    while True:
        a, b = _pair(rng, most)
        if a != b and comparison_is_free(a, b):
            return a, b


def factors(rng: random.Random) -> tuple[int, int]:
    """Two numbers of the tables, 1 to 12; seldom 0."""
    low = 0 if rng.random() < 0.05 else 1
    return low + rng.randrange(13 - low), low + rng.randrange(13 - low)


def _pair(rng: random.Random, most: int) -> tuple[int, int]:
    if not most:
        size = rng.random()
        most = 99 if size < 0.72 else 20 if size < 0.88 else 999
    return rng.randrange(most + 1), rng.randrange(most + 1)
