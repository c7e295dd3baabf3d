"""The documents nano reads before it is taught to chat: a mixture of all kinds of text."""

import random
from collections.abc import Callable, Sequence

from texts import chat, choices, copying, counting, knowledge, problems, stories, sums
from texts.grammar import pick, render, weighted
from texts.words import NAMES


def talk(rng: random.Random) -> str:
    """A dialogue of two people, as a play or as a story tells it, or of a user with nano."""
    if rng.random() < 0.35:
        turns = chat.conversation(rng)
        while len(turns) < 4 and rng.random() < 0.5:
            turns += chat.conversation(rng)
        return _play("User", "nano", turns)
    a, b = rng.sample(NAMES, 2)
    turns = [pick(rng, _ASKED)(rng) for _ in range(1 + rng.randrange(4))]
    if rng.random() < 0.5:
        return _play(*pick(rng, ((a, b), (a, b), ("Teacher", "Child"), ("Mother", "Son"))), turns)
    lines = []
    for question, answer in turns:
        if question[-1] not in "?!":
            question = (
                f"Please, {question[0].lower()}{question[1:]}" if question[-1] == "." else f"Tell me: {question}."
            )
        spoken = question if question[-1] in "?!" else question[:-1] + ","
        ended = answer[:-1] + "," if answer[-1] == "." else answer
        asks = "[asked {a}.|{a} asked.|said {a}.]" if spoken[-1] == "?" else "[said {a}.|{a} said.]"
        told = f'"{{q}}" {asks} "{{s}}" [said {{b}}.|{{b}} answered.|answered {{b}}.|said {{b}}.]'
        lines.append(render(told, rng, a=a, b=b, q=spoken, s=ended))
    return "\n".join(lines)


def _play(asking: str, answering: str, turns: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{asking}: {question}\n{answering}: {answer}" for question, answer in turns)


def mixed(rng: random.Random) -> str:
    """Two short texts of different kinds, one after the other."""
    kinds = (
        knowledge.paragraph,
        stories.story,
        counting.about,
        problems.document,
        choices.categories,
        counting.comparisons,
    )
    return "\n\n".join(kind(rng) for kind in rng.sample(kinds, 2))


# What people ask each other: nothing about nano.
_ASKED = (
    *sums.ASKED[:3],
    *counting.ASKED[:4],
    *(knowledge.ask_fact,) * 6,
    problems.ask_problem,
    stories.ask_passage,
)
# kind -> (writer, weight).
KINDS: dict[str, tuple[Callable[[random.Random], str], int]] = {
    "sums": (sums.drill, 9),
    "sums asked": (sums.questions, 7),
    "tables": (sums.table, 2),
    "worked sums": (sums.worked, 4),
    "sum families": (sums.family, 2),
    "comparisons": (counting.comparisons, 3),
    "counting": (counting.counted, 2),
    "about a number": (counting.about, 3),
    "number words": (counting.words, 2),
    "word problems": (problems.document, 10),
    "facts": (knowledge.paragraph, 12),
    "facts asked": (knowledge.quiz, 9),
    "categories": (choices.categories, 4),
    "multiple choice": (choices.document, 14),
    "stories": (stories.story, 13),
    "reading": (stories.reading, 7),
    "copying": (copying.document, 7),
    "made-up rules": (copying.patterns, 6),
    "records": (copying.records, 1),
    "dialogues": (talk, 8),
    "mixed": (mixed, 4),
}
_kind = weighted(tuple((name, weight) for name, (_, weight) in KINDS.items()))


def document(rng: random.Random) -> tuple[str, str]:
    """(its kind, a text)."""
    name = _kind(rng)
    return name, KINDS[name][0](rng)
