"""Counting, comparing, ordering, number words and sequences."""

import random
from collections.abc import Callable

from texts.grammar import capital, pick, render
from texts.heldout import comparison_is_free, sum_is_free
from texts.numbers import ORDINALS, in_words, unequal

Asked = tuple[str, str]

BIGGER = (
    "Which is bigger, {a} or {b}?",
    "Which number is bigger, {a} or {b}?",
    "Which is larger, {a} or {b}?",
    "Which is more, {a} or {b}?",
    "Is {a} or {b} the bigger number?",
    "What is bigger, {a} or {b}?",
    "Name the bigger number: {a} or {b}.",
    "Compare {a} and {b}.",
    "Which of {a} and {b} is the bigger number?",
    "Tell me the larger number, {a} or {b}.",
)
SMALLER = (
    "Which is smaller, {a} or {b}?",
    "Which number is smaller, {a} or {b}?",
    "Which is less, {a} or {b}?",
    "Is {a} or {b} the smaller number?",
    "What is smaller, {a} or {b}?",
    "Name the smaller number: {a} or {b}.",
    "Which of {a} and {b} is the smaller number?",
    "Tell me the smaller number, {a} or {b}.",
)


def ask_comparison(rng: random.Random) -> Asked:
    """Which of two numbers is bigger or smaller."""
    a, b = unequal(rng)
    if rng.random() < 0.55:
        return pick(rng, BIGGER).format(a=a, b=b), f"{max(a, b)} is bigger than {min(a, b)}."
    return pick(rng, SMALLER).format(a=a, b=b), f"{min(a, b)} is smaller than {max(a, b)}."


def _ask_true(rng: random.Random) -> Asked:
    a, b = unequal(rng)
    more = rng.random() < 0.5
    word = pick(rng, ("bigger", "larger", "more")) if more else pick(rng, ("smaller", "less"))
    right = (a > b) == more
    verdict = f"{a} is {'bigger' if a > b else 'smaller'} than {b}."
    return f"Is {a} {word} than {b}?", f"{'Yes' if right else 'No'}, {verdict}"


def _ask_neighbour(rng: random.Random) -> Asked:
    n = 1 + rng.randrange(100)
    if rng.random() < 0.5:
        asked = "[What|Which] number comes [after|right after|next after] {n}?|What comes after {n}?|What follows {n}?"
        return render(f"[{asked}]", rng, n=n), f"After {n} comes {n + 1}."
    return render("[[What|Which] number comes [right |]before {n}?|What comes before {n}?]", rng, n=n), (
        f"Before {n} comes {n - 1}."
    )


def _ask_parity(rng: random.Random) -> Asked:
    n = rng.randrange(200)
    asked = render(
        "[Is {n} even or odd?|Is {n} odd or even?|Is the number {n} even or odd?|Even or odd: {n}?]", rng, n=n
    )
    return asked, f"{n} is {'odd' if n % 2 else 'even'}."


def _ask_words(rng: random.Random) -> Asked:
    n = rng.randrange(100) if rng.random() < 0.8 else rng.randrange(1000)
    if rng.random() < 0.5:
        asked = "[Write {n} in words.|How do you write {n} in words?|What is {n} in words?|Say {n} in words.]"
        return render(asked, rng, n=n), f"{n} in words is {in_words(n)}."
    word = in_words(n)
    asked = "[Write {w} as a number.|Write {w} in digits.|What number is {w}?|Which number is {w}?]"
    return render(asked, rng, w=word), f"{capital(word)} is {n}."


def _ask_next(rng: random.Random) -> Asked:
    step = pick(rng, (1, 2, 2, 3, 4, 5, 5, 10, 10, 100))
    start = rng.randrange(60) if step < 100 else 100 * (1 + rng.randrange(4))
    if rng.random() < 0.4:
        start = step * rng.randrange(6)
    numbers = [start + step * i for i in range(5)]
    if rng.random() < 0.25 and step < 100:
        numbers.reverse()
    asked = render(
        "[What comes next: {s}?|What number comes next? {s}, ...|Continue: {s}, ...|Which number is next: {s}?|"
        "Go on: {s}, ...]",
        rng,
        s=", ".join(map(str, numbers[:4])),
    )
    return asked, f"The next number is {numbers[4]}."


def _ask_count(rng: random.Random) -> Asked:
    start, length = rng.randrange(1, 80), 3 + rng.randrange(6)
    end = start + length
    up = ", ".join(str(n) for n in range(start, end + 1))
    if rng.random() < 0.25:
        down = ", ".join(str(n) for n in range(end, start - 1, -1))
        return render("[Count down from {b} to {a}.|Count backwards from {b} to {a}.]", rng, a=start, b=end), f"{down}."
    return render(
        "[Count from {a} to {b}.|Please count from {a} to {b}.|List the numbers from {a} to {b}.]", rng, a=start, b=end
    ), f"{up}."


def _ask_order(rng: random.Random) -> Asked:
    numbers = rng.sample(range(100), 3 + rng.randrange(2))
    down = rng.random() < 0.3
    asked = (
        "[Sort|Order|Put in order], [biggest|largest] first: {s}."
        if down
        else "[Sort|Order|Put in order][, smallest first|]: {s}."
    )
    ordered = sorted(numbers, reverse=down)
    return render(asked, rng, s=", ".join(map(str, numbers))), f"{', '.join(map(str, ordered))}."


def _ask_extreme(rng: random.Random) -> Asked:
    numbers = rng.sample(range(100), 3 + rng.randrange(2))
    listing = f"{', '.join(map(str, numbers[:-1]))} or {numbers[-1]}"
    if rng.random() < 0.5:
        return render("[Which is the biggest number|Which number is the largest]: {s}?", rng, s=listing), (
            f"The biggest number is {max(numbers)}."
        )
    return render("[Which is the smallest number|Which number is the smallest]: {s}?", rng, s=listing), (
        f"The smallest number is {min(numbers)}."
    )


def _ask_double(rng: random.Random) -> Asked:
    n = 1 + rng.randrange(50)
    if rng.random() < 0.5 and sum_is_free(n, n):
        return render("[What is double {n}?|Double {n}.|What is twice {n}?]", rng, n=n), f"Double {n} is {2 * n}."
    return render(
        "[What is half of {n}?|Halve {n}.|How much is half of {n}?]", rng, n=2 * n
    ), f"Half of {2 * n} is {n}."


def _ask_more(rng: random.Random) -> Asked:
    n, step = rng.randrange(10, 90), pick(rng, (1, 2, 10))
    if rng.random() < 0.5 and sum_is_free(n, step):
        asked = render("[What|Which] number is {s} more than {n}?", rng, n=n, s=in_words(step))
        return asked, f"{n} + {step} = {n + step}."
    return f"How many tens and ones are in {n}?", _places(n)


ASKED: tuple[Callable[[random.Random], Asked], ...] = (
    ask_comparison,
    ask_comparison,
    ask_comparison,
    _ask_true,
    _ask_neighbour,
    _ask_parity,
    _ask_words,
    _ask_next,
    _ask_count,
    _ask_order,
    _ask_extreme,
    _ask_double,
    _ask_more,
)


def comparisons(rng: random.Random) -> str:
    """Sentences that compare numbers."""
    lines = []
    for _ in range(2 + rng.randrange(5)):
        a, b = unequal(rng)
        big, small = max(a, b), min(a, b)
        lines.append(
            render(
                "[{x} is bigger than {y}.|{y} is smaller than {x}.|{x} is more than {y}.|{y} is less than {x}.|"
                "{x} > {y}|{y} < {x}|{y} comes before {x}.|{x} is a larger number than {y}.]",
                rng,
                x=big,
                y=small,
            )
        )
    return "\n".join(lines) if rng.random() < 0.5 else " ".join(f"{line.removesuffix('.')}." for line in lines)


def counted(rng: random.Random) -> str:
    """A run of numbers, in digits or words."""
    step = pick(rng, (1, 1, 1, 2, 3, 4, 5, 10))
    start = rng.randrange(100) if rng.random() < 0.5 else step
    numbers = [start + step * i for i in range(8 + rng.randrange(13))]
    if rng.random() < 0.2:
        numbers.reverse()
    shown = [in_words(n) for n in numbers] if rng.random() < 0.4 else [str(n) for n in numbers]
    if step == 1:
        head = render("[Let us count|Counting|Numbers in order|We count]: ", rng)
    else:
        head = render("[Let us count by {s}|Counting in steps of {s}|We count in {s}s]: ", rng, s=in_words(step))
        head = head.replace("sixs", "sixes")
    if numbers[0] > numbers[-1]:
        head = pick(rng, ("Counting down: ", "Backwards: "))
    return (head if rng.random() < 0.6 else "") + pick(rng, (", ", " ", ", ")).join(shown) + pick(rng, ("", "."))


def about(rng: random.Random) -> str:
    """What there is to say of one number."""
    n = 1 + rng.randrange(120)
    found = [
        f"{n} in words is {in_words(n)}.",
        f"{n} is an {'odd' if n % 2 else 'even'} number.",
        f"After {n} comes {n + 1}.",
        f"Before {n} comes {n - 1}.",
        f"{n} lies between {n - 1} and {n + 1}.",
    ]
    if sum_is_free(n, n):
        found.append(f"Double {n} is {2 * n}.")
    if n % 2 == 0:
        found.append(f"Half of {n} is {n // 2}.")
    if 10 <= n < 100:
        found.append(_places(n))
    other = rng.randrange(1, 120)
    if other != n and comparison_is_free(n, other):
        found.append(f"{n} is {'bigger' if n > other else 'smaller'} than {other}.")
    found += [f"{n} is {a} times {n // a}." for a in range(2, 13) if n % a == 0 and 1 < n // a <= 12][:2]
    rng.shuffle(found)
    return f"The number {n}: " * (rng.random() < 0.5) + " ".join(found[: 3 + rng.randrange(4)])


def words(rng: random.Random) -> str:
    """Digits and number words side by side, and places in a row."""
    if rng.random() < 0.2:
        start, length = rng.randrange(6), 4 + rng.randrange(6)
        return ", ".join(ORDINALS[start : start + length])
    shape = pick(rng, ("{n} is {w}.", "{n}: {w}", "{w} = {n}", "The number {n} is written {w}.", "{w} is {n}."))
    lines = []
    for _ in range(3 + rng.randrange(6)):
        n = rng.randrange(100) if rng.random() < 0.75 else rng.randrange(1000)
        lines.append(capital(shape.format(n=n, w=in_words(n))))
    return "\n".join(lines)


def _places(n: int) -> str:
    tens, ones = divmod(n, 10)
    return f"{n} is {tens} {'ten' if tens == 1 else 'tens'} and {ones} {'one' if ones == 1 else 'ones'}."
