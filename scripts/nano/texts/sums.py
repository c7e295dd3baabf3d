"""The four operations: statements, questions with their one answer, and worked steps."""

import random
from collections.abc import Callable

from texts.grammar import capital, pick, render
from texts.heldout import difference_is_free, sum_is_free, wording_is_free
from texts.numbers import addends, factors, in_words, minuend

Asked = tuple[str, str]

ADDITION = (
    "What is {a} + {b}?",
    "{a} + {b} = ?",
    "Add {a} and {b}.",
    "How much is {a} + {b}?",
    "What is {a} plus {b}?",
    "What is the sum of {a} and {b}?",
    "Calculate {a} + {b}.",
    "Work out {a} + {b}.",
    "How much do {a} and {b} make?",
    "If you add {a} and {b}, what do you get?",
    "What do {a} and {b} make together?",
    "What does {a} + {b} equal?",
    "Find the sum of {a} and {b}.",
    "{a} plus {b}?",
    "{a} + {b}",
    "{a}+{b}=?",
)
SUBTRACTION = (
    "What is {a} - {b}?",
    "{a} - {b} = ?",
    "Take {b} from {a}.",
    "Subtract {b} from {a}.",
    "How much is {a} - {b}?",
    "What is {a} minus {b}?",
    "What is the difference of {a} and {b}?",
    "Calculate {a} - {b}.",
    "Work out {a} - {b}.",
    "If you take {b} away from {a}, what is left?",
    "What is left when you take {b} from {a}?",
    "What does {a} - {b} equal?",
    "How much is {a} take away {b}?",
    "{a} minus {b}?",
    "{a} - {b}",
    "{a}-{b}=?",
)
# No wording stands inside another: one that is held out must not be shown as a part.
MULTIPLICATION = (
    "What is {a} x {b}?",
    "{a} x {b} = ?",
    "Multiply {a} by {b}.",
    "How much is {a} x {b}?",
    "What is {a} times {b}?",
    "What is the product of {a} and {b}?",
    "Calculate {a} x {b}.",
    "Work out {a} times {b}.",
    "How much is {a} times {b}?",
    "What do you get when you multiply {a} by {b}?",
    "What does {a} x {b} equal?",
    "{a} * {b} = ?",
    "What is {a} * {b}?",
)
DIVISION = (
    "What is {a} / {b}?",
    "{a} / {b} = ?",
    "Divide {a} by {b}.",
    "What is {a} divided by {b}?",
    "How much is {a} divided by {b}?",
    "How many times does {b} go into {a}?",
    "Work out {a} / {b}.",
    "Calculate {a} divided by {b}.",
    "If you share {a} between {b}, how much does each get?",
)


def ask_addition(rng: random.Random) -> Asked:
    """A sum, in a wording of ADDITION."""
    a, b = addends(rng)
    return pick(rng, ADDITION).format(a=a, b=b), f"{a} + {b} = {a + b}."


def ask_subtraction(rng: random.Random) -> Asked:
    """A difference, in a wording of SUBTRACTION."""
    a, b = minuend(rng)
    return pick(rng, SUBTRACTION).format(a=a, b=b), f"{a} - {b} = {a - b}."


def ask_multiplication(rng: random.Random) -> Asked:
    """A product of the tables, in a wording of MULTIPLICATION that is not held out for it."""
    while True:
        (a, b), wording = factors(rng), rng.randrange(len(MULTIPLICATION))
        if wording_is_free(a, b, wording):
            return MULTIPLICATION[wording].format(a=a, b=b), f"{a} x {b} = {a * b}."


def ask_division(rng: random.Random) -> Asked:
    """A division of the tables, without remainder."""
    a, b = _dividend(rng)
    return pick(rng, DIVISION).format(a=a, b=b), f"{a} / {b} = {a // b}."


ASKED: tuple[Callable[[random.Random], Asked], ...] = (
    ask_addition,
    ask_addition,
    ask_subtraction,
    ask_subtraction,
    ask_multiplication,
    ask_division,
)


def drill(rng: random.Random) -> str:
    """Lines of sums of one kind, or of all kinds."""
    kinds = (pick(rng, _SAID),) * 8 if rng.random() < 0.6 else tuple(pick(rng, _SAID) for _ in range(8))
    count = 3 + rng.randrange(6)
    separator = pick(rng, ("\n", "\n", " ", ", "))
    if separator == ", ":
        return ", ".join(_symbols(rng) for _ in range(count)) + "."
    lines = [said(rng) for said in kinds[:count]]
    return separator.join(lines) if separator == "\n" else " ".join(f"{line.removesuffix('.')}." for line in lines)


def questions(rng: random.Random) -> str:
    """Sums asked and answered in plain text."""
    style = pick(rng, ("Q: {q}\nA: {a}", "Question: {q}\nAnswer: {a}", "{q}\n{a}", "{q} {a}"))
    lines = []
    for _ in range(2 + rng.randrange(4)):
        question, answer = pick(rng, ASKED)(rng)
        lines.append(style.format(q=question, a=answer))
    return "\n".join(lines)


def table(rng: random.Random) -> str:
    """One of the tables, forwards or backwards."""
    n = 2 + rng.randrange(11)
    order = list(range(1, 13))
    if rng.random() < 0.2:
        order.reverse()
    order = order[: 6 + rng.randrange(7)]
    row = pick(rng, ("{k} x {n} = {c}", "{n} x {k} = {c}", "{k} times {n} is {c}.", "{n} times {k} is {c}."))
    head = render("[The table of {n}|The {n} times table|Here is the table of {n}|Let us multiply by {n}]:\n", rng, n=n)
    return (head if rng.random() < 0.7 else "") + "\n".join(row.format(k=k, n=n, c=k * n) for k in order)


def worked(rng: random.Random) -> str:
    """A sum, difference or product, step by step."""
    while True:
        text = pick(rng, (_worked_sum, _worked_sum, _worked_difference, _worked_product))(rng)
        if text:
            return text


def family(rng: random.Random) -> str:
    """The sums that belong together: a + b, b + a, c - a, c - b."""
    while True:
        a, b = addends(rng, 60)
        c = a + b
        if difference_is_free(c, a) and difference_is_free(c, b):
            break
    lines = [f"{a} + {b} = {c}", f"{b} + {a} = {c}", f"{c} - {a} = {b}", f"{c} - {b} = {a}"]
    if rng.random() < 0.3:
        return f"{a}, {b} and {c} belong together: {', '.join(lines)}."
    return "\n".join(lines)


def _dividend(rng: random.Random) -> tuple[int, int]:
    a, b = factors(rng)
    b = max(b, 1)
    return a * b, b


def _symbols(rng: random.Random) -> str:
    return pick(rng, ASKED)(rng)[1][:-1]


def _say_sum(rng: random.Random) -> str:
    a, b = addends(rng)
    text = (
        "[{a} + {b} = {c}|{a} + {b} = {c}.|{a} plus {b} is {c}.|{a} and {b} make {c}.|The sum of {a} and {b} is {c}.]"
    )
    if rng.random() < 0.15:
        return capital(f"{in_words(a)} plus {in_words(b)} is {in_words(a + b)}.")
    return render(text, rng, a=a, b=b, c=a + b)


def _say_difference(rng: random.Random) -> str:
    a, b = minuend(rng)
    if rng.random() < 0.15:
        return capital(f"{in_words(a)} minus {in_words(b)} is {in_words(a - b)}.")
    text = (
        "[{a} - {b} = {c}|{a} - {b} = {c}.|{a} minus {b} is {c}.|{a} take away {b} is {c}.|"
        "If you take {b} from {a}, {c} is left.]"
    )
    return render(text, rng, a=a, b=b, c=a - b)


def _say_product(rng: random.Random) -> str:
    a, b = factors(rng)
    if rng.random() < 0.15:
        return capital(f"{in_words(a)} times {in_words(b)} is {in_words(a * b)}.")
    text = "[{a} x {b} = {c}|{a} x {b} = {c}.|{a} times {b} is {c}.|{a} * {b} = {c}|The product of {a} and {b} is {c}.]"
    return render(text, rng, a=a, b=b, c=a * b)


def _say_quotient(rng: random.Random) -> str:
    a, b = _dividend(rng)
    return render(
        "[{a} / {b} = {c}|{a} / {b} = {c}.|{a} divided by {b} is {c}.|{a} shared between {b} is {c}.]",
        rng,
        a=a,
        b=b,
        c=a // b,
    )


_SAID = (_say_sum, _say_sum, _say_difference, _say_difference, _say_product, _say_quotient)


def _worked_sum(rng: random.Random) -> str | None:
    a, b = addends(rng, 99)
    if a < 10 or b < 10:
        return None
    ones, tens, c = a % 10 + b % 10, a - a % 10 + b - b % 10, a + b
    if not (sum_is_free(a - a % 10, b - b % 10) and sum_is_free(tens, ones)):
        return None
    return render(
        "[What is {a} + {b}?|Let us add {a} and {b}.|We want to know {a} + {b}.|Add {a} and {b}.] "
        "[First add the ones|The ones|Ones first]: {e} + {f} = {ones}. "
        "[Then add the tens|The tens|Now the tens]: {g} + {h} = {tens}. "
        "[Together that makes|Put them together|Now|So] {tens} + {ones} = {c}.[ So {a} + {b} = {c}.|"
        " The answer is {c}.]",
        rng,
        a=a,
        b=b,
        c=c,
        e=a % 10,
        f=b % 10,
        g=a - a % 10,
        h=b - b % 10,
        ones=ones,
        tens=tens,
    )


def _worked_difference(rng: random.Random) -> str | None:
    a, b = minuend(rng, 99)
    tens, ones = b - b % 10, b % 10
    if b < 10 or not (difference_is_free(a, tens) and difference_is_free(a - tens, ones)):
        return None
    return render(
        "[What is {a} - {b}?|Let us take {b} from {a}.|We want to know {a} - {b}.|Take {b} from {a}.] "
        "[First take away the tens|The tens first]: {a} - {tens} = {rest}. "
        "[Then take away the ones|Now the ones]: {rest} - {ones} = {c}. [So {a} - {b} = {c}.|The answer is {c}.]",
        rng,
        a=a,
        b=b,
        c=a - b,
        tens=tens,
        ones=ones,
        rest=a - tens,
    )


def _worked_product(rng: random.Random) -> str | None:
    n, k = 2 + rng.randrange(8), 2 + rng.randrange(4)
    running = [n]
    steps = []
    for _ in range(k - 1):
        if not sum_is_free(running[-1], n):
            return None
        steps.append(f"{running[-1]} + {n} = {running[-1] + n}")
        running.append(running[-1] + n)
    return render(
        "[{k} x {n} means {k} times {n}|{k} times {n} means {n} taken {k} times]: {steps}. So {k} x {n} = {c}.",
        rng,
        k=k,
        n=n,
        steps=", ".join(steps),
        c=running[-1],
    )
