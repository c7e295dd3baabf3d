"""Word problems in small words, with worked steps."""

import random

from texts.grammar import pick, render
from texts.heldout import difference_is_free, sum_is_free
from texts.numbers import addends, factors, minuend
from texts.words import BOYS, COUNTED, GIRLS, plural

Problem = tuple[str, str, str]


def problem(rng: random.Random) -> Problem:
    """(the problem, its worked steps ending in the answer, the short answer)."""
    return pick(rng, _PROBLEMS)(rng)


def ask_problem(rng: random.Random) -> tuple[str, str]:
    """A problem and its worked answer, as a user would ask."""
    text, steps, _ = problem(rng)
    return text, steps


def document(rng: random.Random) -> str:
    """One to three problems with their answers."""
    style = pick(
        rng,
        (
            "{q}\n{a}",
            "Question: {q}\nAnswer: {a}",
            "Problem: {q}\nSolution: {a}",
            "{q} {a}",
            "Q: {q}\nA: {a}",
        ),
    )
    found = []
    for _ in range(1 + rng.randrange(3)):
        text, steps, _ = problem(rng)
        found.append(style.format(q=text, a=steps))
    return "\n\n".join(found)


def _cast(rng: random.Random, **numbers: int) -> dict[str, object]:
    """Names, pronouns and a counted noun; `n_a` is number a with its noun."""
    girl = rng.random() < 0.5
    name = pick(rng, GIRLS if girl else BOYS)
    other = name
    while other == name:
        other = pick(rng, BOYS + GIRLS)
    noun = pick(rng, COUNTED)
    slots: dict[str, object] = {"x": name, "y": other, "items": plural(noun), "item": noun}
    slots |= {"he": "she" if girl else "he", "He": "She" if girl else "He"}
    slots |= {"his": "her" if girl else "his", "him": "her" if girl else "him"}
    slots |= numbers
    slots |= {f"n_{key}": f"{value} {plural(noun, value)}" for key, value in numbers.items()}
    return slots


def _solved(rng: random.Random, text: str, steps: str, answer: int, **slots: object) -> Problem:
    return render(text, rng, **slots), render(steps, rng, **slots), str(answer)


def _gain(rng: random.Random) -> Problem:
    a, b = addends(rng, pick(rng, (10, 20, 50, 99)))
    a, b = max(a, 2), max(b, 2)
    if not sum_is_free(a, b):
        return _gain(rng)
    text = (
        "[{x} has {n_a}. [{y} gives {him} {b} more|{He} gets {b} more|{He} finds {b} more|{He} buys {b} more]. "
        "How many {items} does {x} have [now|in all|altogether]?|"
        "{x} had {n_a} and got {b} more from {y}. How many {items} does {he} have now?|"
        "There are {n_a} on the table. {x} puts {b} more on it. How many {items} are on the table now?|"
        "{x} has {n_a} and {y} has {n_b}. How many {items} do they have [together|in all|altogether]?|"
        "In one bag there are {n_a}, in another {n_b}. How many {items} are there in all?|"
        "{x} picks {n_a} in the morning and {n_b} in the afternoon. How many {items} does {he} pick?]"
    )
    steps = (
        "[{a} + {b} = {c}. [The answer is {n_c}.|There are {n_c}.|The answer is {c}.]|"
        "We add: {a} + {b} = {c}. The answer is {c}.]"
    )
    return _solved(rng, text, steps, a + b, **_cast(rng, a=a, b=b, c=a + b))


def _loss(rng: random.Random) -> Problem:
    a, b = minuend(rng, pick(rng, (10, 20, 50, 99)))
    if b < 2 or a - b < 1:
        return _loss(rng)
    text = (
        "[{x} has {n_a}. {He} [gives {b} to {y}|gives {y} {b} of them|loses {b} of them|sells {b} of them]. "
        "How many {items} [are left|does {he} have left|does {x} still have]?|"
        "There were {n_a} in the box. {x} took {b} out. How many {items} are still in the box?|"
        "{x} needs {n_a} and has {b}. How many more {items} does {he} need?|"
        "{x} has {n_a}. {y} has {b} fewer. How many {items} does {y} have?|"
        "Of {n_a}, {b} are sold. How many {items} are not sold?|"
        "{x} has {n_a} and {y} has {n_b}. How many more {items} does {x} have than {y}?]"
    )
    steps = (
        "[{a} - {b} = {c}. [The answer is {n_c}.|The answer is {c}.]|We take away: {a} - {b} = {c}. The answer is {c}.]"
    )
    return _solved(rng, text, steps, a - b, **_cast(rng, a=a, b=b, c=a - b))


def _times(rng: random.Random) -> Problem:
    a, b = factors(rng)
    if a < 2 or b < 2:
        return _times(rng)
    text = (
        "[There are {a} boxes with {n_b} in each. How many {items} are there [in all|altogether]?|"
        "{x} has {a} bags. In each bag there are {n_b}. How many {items} does {x} have?|"
        "{x} buys {n_b} a day. How many {items} does {he} buy in {a} days?|"
        "{a} children have {n_b} each. How many {items} do they have together?|"
        "[One|Each] {item} costs {b} coins. How much do {n_a} cost?|"
        "{x} puts {n_b} in each of {a} rows. How many {items} is that?]"
    )
    steps = "[{a} x {b} = {c}. The answer is {c}.|Each of {a} has {b}: {a} x {b} = {c}. The answer is {c}.]"
    return _solved(rng, text, steps, a * b, **_cast(rng, a=a, b=b, c=a * b))


def _share(rng: random.Random) -> Problem:
    b, c = factors(rng)
    if b < 2 or c < 1:
        return _share(rng)
    text = (
        "[{x} shares {n_a} between {b} friends. How many {items} does each friend get?|"
        "{n_a} are put into {b} boxes, the same number in each. How many {items} are in one box?|"
        "{b} children share {n_a}. How many {items} does each child get?|"
        "{x} has {n_a} and uses {c} a day. After how many days are they gone?]"
    )
    slots = _cast(rng, a=b * c, b=b, c=c)
    asked = render(text, rng, **slots)
    result, by = (b, c) if "how many days" in asked else (c, b)
    steps = f"{b * c} / {by} = {result}. The answer is {result}."
    return asked, steps, str(result)


def _two_steps(rng: random.Random) -> Problem:
    a, b = addends(rng, 50)
    total = a + b
    _, c = minuend(rng, 40)
    if a < 2 or b < 2 or not 2 <= c < total or not difference_is_free(total, c):
        return _two_steps(rng)
    text = (
        "[{x} has {n_a}. {He} buys {b} more and then gives {c} to {y}. How many {items} does {he} have now?|"
        "There are {n_a} in a basket. {x} adds {b} and {y} takes {c} away. How many {items} are in the basket?|"
        "{x} picks {n_a} and {y} picks {n_b}. They give {c} away. How many {items} are left?]"
    )
    steps = "[First|At first], {a} + {b} = {t}. [Then|After that], {t} - {c} = {d}. The answer is {d}."
    return _solved(rng, text, steps, total - c, **_cast(rng, a=a, b=b, c=c, t=total, d=total - c))


def _price(rng: random.Random) -> Problem:
    a, b = 2 + rng.randrange(8), 2 + rng.randrange(8)
    cost = a * b
    paid = next(note for note in (10, 20, 50, 100) if note > cost)
    if not difference_is_free(paid, cost):
        return _price(rng)
    text = (
        "[{x} buys {n_a} for {b} coins each and pays with {paid} coins. How many coins does {he} get back?|"
        "Each {item} costs {b} coins. {x} buys {a} and has {paid} coins. How many coins are left?]"
    )
    steps = "The {items} cost {a} x {b} = {cost} coins. {paid} - {cost} = {rest}. The answer is {rest}."
    slots = _cast(rng, a=a, b=b) | {"paid": paid, "cost": cost, "rest": paid - cost}
    return _solved(rng, text, steps, paid - cost, **slots)


def _three(rng: random.Random) -> Problem:
    a, b = addends(rng, 30)
    c = 2 + rng.randrange(30)
    if a < 2 or b < 2 or not sum_is_free(a + b, c):
        return _three(rng)
    text = (
        "[{x} has {a} red, {b} blue and {c} green {items}. How many {items} does {he} have?|"
        "On Monday {x} finds {n_a}, on Tuesday {b} and on Wednesday {c}. How many {items} does {he} find in all?]"
    )
    steps = "{a} + {b} = {t}, and {t} + {c} = {d}. The answer is {d}."
    return _solved(rng, text, steps, a + b + c, **_cast(rng, a=a, b=b, c=c, t=a + b, d=a + b + c))


def _groups_and_more(rng: random.Random) -> Problem:
    a, b = 2 + rng.randrange(8), 2 + rng.randrange(9)
    c = 2 + rng.randrange(20)
    if not sum_is_free(a * b, c):
        return _groups_and_more(rng)
    text = (
        "[{x} has {a} boxes with {n_b} in each and {c} more on the table. How many {items} does {he} have?|"
        "There are {a} shelves with {n_b} on each shelf. {x} brings {c} more. How many {items} are there now?]"
    )
    steps = "The {k} hold {a} x {b} = {t} {items}. With {c} more that is {t} + {c} = {d}. The answer is {d}."
    slots = _cast(rng, a=a, b=b, c=c) | {"t": a * b, "d": a * b + c}
    asked = render(text, rng, **slots)
    slots["k"] = "boxes" if "boxes" in asked else "shelves"
    return asked, render(steps, rng, **slots), str(a * b + c)


def _age(rng: random.Random) -> Problem:
    a, b = addends(rng, 40)
    if a < 2 or b < 2:
        return _age(rng)
    text = (
        "[{x} is {a} years old. How old will {he} be in {b} years?|"
        "{x} is {a} years old. {y} is {b} years older. How old is {y}?]"
    )
    return _solved(rng, text, "{a} + {b} = {c}. The answer is {c}.", a + b, **_cast(rng, a=a, b=b, c=a + b))


_PROBLEMS = (
    _gain,
    _gain,
    _gain,
    _loss,
    _loss,
    _loss,
    _times,
    _times,
    _share,
    _two_steps,
    _two_steps,
    _price,
    _three,
    _groups_and_more,
    _age,
)
