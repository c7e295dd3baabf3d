"""All facts together, and how they are drawn, said and asked."""

import random

from texts import lexicon
from texts.facts import Fact
from texts.facts_things import amounts, things
from texts.facts_words import order, words
from texts.facts_world import animals, geography
from texts.grammar import capital, pick, render
from texts.science import SCIENCE

Asked = tuple[str, str]

FACTS = [*geography(), *animals(), *things(), *amounts(), *words(), *order()]
FACTS += [Fact("science", answer, answer, question, answer) for question, answer in SCIENCE]
_KINDS = {kind: [fact for fact in FACTS if fact.kind == kind] for kind in {fact.kind: None for fact in FACTS}}
_BY_KIND = list(_KINDS.values())
_BY_SUBJECT: dict[str, list[Fact]] = {}
for _fact in FACTS:
    _BY_SUBJECT.setdefault(_fact.subject, []).append(_fact)
_RICH = [group for group in _BY_SUBJECT.values() if len(group) >= 3]
_SCALES = (
    (lexicon.BY_SIZE, "bigger", "smaller"),
    (lexicon.BY_SPEED, "faster", "slower"),
    (lexicon.BY_WEIGHT, "heavier", "lighter"),
    (lexicon.BY_HEAT, "hotter", "colder"),
)


def any_fact(rng: random.Random) -> Fact:
    """A fact: half by its kind, half by itself, so that small tables are heard too."""
    return pick(rng, FACTS) if rng.random() < 0.6 else pick(rng, pick(rng, _BY_KIND))


def ask_fact(rng: random.Random) -> Asked:
    """A fact as question and answer; sometimes a comparison of things."""
    if rng.random() < 0.04:
        return _ask_scale(rng)
    fact = any_fact(rng)
    return render(fact.asks, rng), fact.answer


def paragraph(rng: random.Random) -> str:
    """Several facts: about one thing, of one kind, or mixed."""
    shape = rng.random()
    if shape < 0.35:
        group = pick(rng, _RICH)
        chosen = rng.sample(group, min(len(group), 2 + rng.randrange(4)))
    elif shape < 0.7:
        kind = pick(rng, _BY_KIND)
        chosen = rng.sample(kind, min(len(kind), 3 + rng.randrange(5)))
    else:
        chosen = [any_fact(rng) for _ in range(3 + rng.randrange(4))]
    said = [render(fact.says, rng) for fact in chosen]
    if rng.random() < 0.1:
        said.append(_say_scale(rng))
    return pick(rng, (" ", " ", "\n")).join(said)


def quiz(rng: random.Random) -> str:
    """Facts asked and answered in plain text, with full or short answers."""
    style = pick(rng, ("Q: {q}\nA: {a}", "Question: {q}\nAnswer: {a}", "{q}\n{a}", "{q} {a}", "- {q}\n- {a}"))
    short = rng.random() < 0.3
    lines = []
    for _ in range(2 + rng.randrange(4)):
        fact = any_fact(rng)
        if short and fact.choice:
            lines.append(style.format(q=render(fact.choice, rng), a=fact.right))
        elif not short:
            lines.append(style.format(q=render(fact.asks, rng), a=fact.answer))
    return "\n".join(lines) or paragraph(rng)


def _ask_scale(rng: random.Random) -> Asked:
    scale, more, less = pick(rng, _SCALES)
    low, high = sorted(rng.sample(range(len(scale)), 2))
    first, second = (low, high) if rng.random() < 0.5 else (high, low)
    if rng.random() < 0.5:
        return f"What is {more}, {scale[first]} or {scale[second]}?", capital(
            f"{scale[high]} is {more} than {scale[low]}."
        )
    return f"What is {less}, {scale[first]} or {scale[second]}?", capital(f"{scale[low]} is {less} than {scale[high]}.")


def _say_scale(rng: random.Random) -> str:
    return _ask_scale(rng)[1]
