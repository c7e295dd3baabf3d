"""The questions that were held out of all training text: nano's examination."""

import random
from collections.abc import Callable, Iterator

from texts import choices, counting, sums
from texts.grammar import pick
from texts.heldout import comparison_is_free, difference_is_free, sum_is_free, wording_is_free

Asked = tuple[str, str]

EACH = 40


def questions(rng: random.Random) -> Iterator[tuple[str, Asked]]:
    """(kind, question and answer), EACH of every kind, no question twice."""
    for kind, draw in _KINDS.items():
        asked: set[str] = set()
        while len(asked) < EACH:
            question, answer = draw(rng)
            if question not in asked:
                asked.add(question)
                yield kind, (question, answer)


def _kept(rng: random.Random, is_free: Callable[[int, int], bool], fits: Callable[[int, int], bool]) -> tuple[int, int]:
    while True:
        a, b = rng.randrange(100), rng.randrange(100)
        if fits(a, b) and not is_free(a, b):
            return a, b


def _addition(rng: random.Random) -> Asked:
    a, b = _kept(rng, sum_is_free, lambda a, b: True)
    return pick(rng, sums.ADDITION).format(a=a, b=b), f"{a} + {b} = {a + b}."


def _subtraction(rng: random.Random) -> Asked:
    a, b = _kept(rng, difference_is_free, lambda a, b: a >= b)
    return pick(rng, sums.SUBTRACTION).format(a=a, b=b), f"{a} - {b} = {a - b}."


def _multiplication(rng: random.Random) -> Asked:
    """The tables are all taught: what is held out is this wording of this product."""
    while True:
        a, b, wording = 2 + rng.randrange(11), 2 + rng.randrange(11), rng.randrange(len(sums.MULTIPLICATION))
        if not wording_is_free(a, b, wording):
            return sums.MULTIPLICATION[wording].format(a=a, b=b), f"{a} x {b} = {a * b}."


def _comparison(rng: random.Random) -> Asked:
    a, b = _kept(rng, comparison_is_free, lambda a, b: a != b)
    if rng.random() < 0.5:
        return pick(rng, counting.BIGGER).format(a=a, b=b), f"{max(a, b)} is bigger than {min(a, b)}."
    return pick(rng, counting.SMALLER).format(a=a, b=b), f"{min(a, b)} is smaller than {max(a, b)}."


_KINDS: dict[str, Callable[[random.Random], Asked]] = {
    "addition": _addition,
    "subtraction": _subtraction,
    "multiplication": _multiplication,
    "comparison": _comparison,
    "multiple choice": lambda rng: choices.ask_choice(rng, kept=True),
}
