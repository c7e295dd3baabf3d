"""Conversations of 1 to 4 turns between a user and nano."""

import random
from collections.abc import Callable

from texts import choices, copying, counting, invented, knowledge, persona, problems, stories, sums
from texts.grammar import pick, render, weighted, word_list
from texts.words import COLOURS, COUNTED, NAMES, plural

Asked = tuple[str, str]

# Words that lose their capital after `Please,` or `Nano,`.
_LOWERED = frozenset(
    word_list(
        "What Which Who Whose Whom Where When Why How Is Are Do Does Did Can Could Will May By In On Of At With "
        "Under From Tell Name Give Find Write Say Repeat Spell Add Take Subtract Multiply Divide Calculate Work "
        "If Count Sort Order Put List Describe Introduce Compare Double Halve Continue Go Replace Copy Learn "
        "Remember Suppose Turn Reverse Since"
    )
)
_ADDRESS = (
    "Nano, {q}",
    "nano, {q}",
    "Please, {q}",
    "Hi nano, {q}",
    "Hey nano, {q}",
    "Please tell me: {q}",
    "Tell me, {q}",
    "Now, {q}",
    "So {q}",
    "And {q}",
    "Dear nano, {q}",
    "One more: {q}",
    "Quick question: {q}",
)
# Around questions only, not instructions.
_FRAMES = (
    "I have a question. {q}",
    "Can you help me? {q}",
    "{q} Please answer.",
    "{q} Thank you.",
    "Hello! {q}",
    "{q} Do you know?",
    "Nano? {q}",
    "Next question. {q}",
)


def ask_number(rng: random.Random) -> Asked:
    """One of the four operations, or counting and comparing."""
    return pick(rng, sums.ASKED if rng.random() < 0.6 else counting.ASKED)(rng)


# (kind, weight): a turn of a conversation.
TURNS: tuple[tuple[Callable[[random.Random], Asked], int], ...] = (
    (ask_number, 24),
    (knowledge.ask_fact, 20),
    (choices.ask_choice, 11),
    (copying.ask_copy, 14),
    (copying.ask_rule, 5),
    (stories.ask_passage, 7),
    (problems.ask_problem, 5),
    (invented.ask_unknown, 7),
    (persona.ask_persona, 6),
    (persona.greet, 1),
)
_turn = weighted(TURNS)
_length = weighted(((1, 55), (2, 27), (3, 12), (4, 6)))


def conversation(rng: random.Random) -> list[Asked]:
    """(user, assistant) turns; seldom a greeting before them or thanks after."""
    if rng.random() < 0.03:
        return _told(rng)
    turns = []
    kind = _turn(rng)
    for _ in range(_length(rng)):
        question, answer = kind(rng)
        turns.append((address(question, rng), answer))
        if rng.random() < 0.6:
            kind = _turn(rng)
    if len(turns) < 4:
        manners = rng.random()
        if manners < 0.06:
            turns.insert(0, persona.greet(rng))
        elif manners < 0.12:
            turns.append(persona.thank(rng))
        elif manners < 0.16:
            turns.append(persona.leave(rng))
    return turns


def row(turns: list[Asked]) -> dict[str, list[dict[str, str]]]:
    """The turns in the messages format."""
    messages = []
    for question, answer in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def address(question: str, rng: random.Random) -> str:
    """The question as it is, or to nano by name, politely, curtly or in lower case."""
    manner = rng.random()
    if manner < 0.62 or "\n" in question or len(question) > 120:
        return question
    first = question.split(" ", 1)[0]
    if manner < 0.78:
        lowered = question[0].lower() + question[1:] if first in _LOWERED else question
        return pick(rng, _ADDRESS).format(q=lowered)
    if manner < 0.86 and question[-1] == "?":
        return pick(rng, _FRAMES).format(q=question)
    if manner < 0.94 and question[-1] in "?." and not question.endswith("..."):
        return question[:-1]
    return question[0].lower() + question[1:] if first in _LOWERED else question


def _told(rng: random.Random) -> list[Asked]:
    """The user tells something and asks for it afterwards, perhaps with another question between."""
    name, colour, noun, n = pick(rng, NAMES), pick(rng, COLOURS), pick(rng, COUNTED), 2 + rng.randrange(98)
    told, answer, asked, recalled = pick(
        rng,
        (
            (
                "[My name is {x}.|I am {x}.|I am called {x}.|Hello, my name is {x}.|Hi, I am {x}.]",
                "Hello {x}! How can I help you?",
                "[What is my name?|Do you know my name?|Who am I?|What am I called?]",
                "Your name is {x}.",
            ),
            (
                "[I am {n} years old.|My age is {n}.]",
                "You are {n} years old.",
                "[How old am I?|What is my age?|Do you know how old I am?]",
                "You are {n} years old.",
            ),
            (
                "[My favourite colour is {c}.|I like {c} best.|The colour that I like best is {c}.]",
                "You like {c}.",
                "[What is my favourite colour?|Which colour do I like?|Which colour do I like best?]",
                "You like {c}.",
            ),
            (
                "[I have {n} {i}.|There are {n} {i} in my bag.|I bought {n} {i}.]",
                "You have {n} {i}.",
                "[How many {i} do I have?|Do you remember how many {i} I have?]",
                "You have {n} {i}.",
            ),
        ),
    )
    slots = {"x": name, "c": colour, "n": n, "i": plural(noun)}
    between = [_turn(rng)(rng)] if rng.random() < 0.4 else []
    first = (render(told, rng, **slots), answer.format(**slots))
    return [first, *between, (render(asked, rng, **slots), recalled.format(**slots))]
