"""Short stories from PLOTS, and questions on what was told in them."""

import random
from collections.abc import Callable

from texts.grammar import capital, pick, render
from texts.plots import PLOTS
from texts.words import (
    BOYS,
    COLOURS,
    COUNTED,
    FAMILY,
    FLOWER_COLOURS,
    FOODS,
    GIRLS,
    KIN_OF_BOYS,
    KIN_OF_GIRLS,
    OUTSIDE,
    PETS,
    PLACES,
    ROOMS,
    SIZES,
    SPOTS,
    THINGS,
    WILD,
    WILD_PLACES,
    plural,
)

Read = tuple[str, str, str]


def story(rng: random.Random) -> str:
    """One story; now and then with a title or an old-fashioned beginning."""
    slots = _cast(rng)
    told = " ".join(render(sentence, rng, **slots) for sentence in pick(rng, PLOTS))
    if rng.random() < 0.15:
        told = f"{pick(rng, ('The story of ', 'A day with ', ''))}{slots['x']}\n\n{told}"
    elif rng.random() < 0.12:
        told = f"Once upon a time there was a {slots['child']} called {slots['x']}. {told}"
    return told


def passage(rng: random.Random) -> Read:
    """(a few sentences, a question that only they answer, its answer)."""
    return pick(rng, _PASSAGES)(rng)


def ask_passage(rng: random.Random) -> tuple[str, str]:
    """The passage and its question, as a user would ask."""
    told, question, answer = passage(rng)
    if rng.random() < 0.25:
        return f"Read this: {told}\n{question}", answer
    return f"{told} {question}", answer


def reading(rng: random.Random) -> str:
    """One to three passages, each with its question and answer, in plain text."""
    style = pick(rng, ("{t}\n{q}\n{a}", "{t} {q} {a}", "Text: {t}\nQuestion: {q}\nAnswer: {a}", "{t}\nQ: {q}\nA: {a}"))
    found = []
    for _ in range(1 + rng.randrange(3)):
        told, question, answer = passage(rng)
        found.append(style.format(t=told, q=question, a=answer))
    return "\n\n".join(found)


def _cast(rng: random.Random) -> dict[str, str]:
    girl, other_girl = rng.random() < 0.5, rng.random() < 0.5
    x = pick(rng, GIRLS if girl else BOYS)
    y = x
    while y == x:
        y = pick(rng, GIRLS if other_girl else BOYS)
    food, other = rng.sample(FOODS[:11], 2)
    return {
        "x": x,
        "y": y,
        "child": "girl" if girl else "boy",
        "he": "she" if girl else "he",
        "He": "She" if girl else "He",
        "his": "her" if girl else "his",
        "His": "Her" if girl else "His",
        "him": "her" if girl else "him",
        "she": "she" if other_girl else "he",
        "her": "her" if other_girl else "his",
        "pet": pick(rng, PETS),
        "wild": pick(rng, WILD),
        "thing": pick(rng, THINGS),
        "colour": pick(rng, COLOURS),
        "size": pick(rng, SIZES),
        "food": food,
        "other": other,
        "place": pick(rng, PLACES),
        "room": pick(rng, ROOMS),
        "wilds": pick(rng, WILD_PLACES),
        "flower": pick(rng, FLOWER_COLOURS),
        "shed": pick(rng, ("garage", "shed", "garden", "cellar")),
        "outside": pick(rng, OUTSIDE),
        "spot": pick(rng, SPOTS),
        "kin": pick(rng, FAMILY),
    }


def _people(rng: random.Random, count: int) -> list[str]:
    return rng.sample(GIRLS + BOYS, count)


def _owners(rng: random.Random) -> Read:
    people = _people(rng, 2 + rng.randrange(3))
    things = rng.sample(THINGS, len(people))
    colours = rng.sample(COLOURS, len(people))
    told = [f"{who} has a {colour} {thing}." for who, colour, thing in zip(people, colours, things)]
    rng.shuffle(told)
    i = rng.randrange(len(people))
    kind = rng.randrange(3)
    if kind == 0:
        return " ".join(told), f"Who has a {things[i]}?", f"{people[i]} has a {things[i]}."
    if kind == 1:
        asked = f"[What colour is {people[i]}'s {things[i]}?|Which colour is {people[i]}'s {things[i]}?]"
        return " ".join(told), render(asked, rng), f"{people[i]}'s {things[i]} is {colours[i]}."
    return " ".join(told), f"What does {people[i]} have?", f"{people[i]} has a {colours[i]} {things[i]}."


def _whereabouts(rng: random.Random) -> Read:
    people = _people(rng, 2 + rng.randrange(3))
    places = rng.sample(PLACES, len(people))
    verb = pick(rng, ("is near", "went to", "walked to", "is going to"))
    told = " ".join(f"{who} {verb} {where}." for who, where in zip(people, places))
    i = rng.randrange(len(people))
    if verb == "is near":
        if rng.random() < 0.5:
            return told, f"Where is {people[i]}?", f"{people[i]} is near {places[i]}."
        return told, f"Who is near {places[i]}?", f"{people[i]} is near {places[i]}."
    if verb == "is going to":
        return told, f"Where is {people[i]} going?", f"{people[i]} is going to {places[i]}."
    if rng.random() < 0.5:
        return (
            told,
            f"Where did {people[i]} {'go' if verb == 'went to' else 'walk'}?",
            f"{people[i]} {verb} {places[i]}.",
        )
    return told, f"Who {verb} {places[i]}?", f"{people[i]} {verb} {places[i]}."


def _hidden(rng: random.Random) -> Read:
    count = 2 + rng.randrange(2)
    things, spots = rng.sample(THINGS, count), rng.sample(SPOTS, count)
    told = " ".join(f"The {thing} is {spot}." for thing, spot in zip(things, spots))
    i = rng.randrange(count)
    if rng.random() < 0.5:
        return told, f"Where is the {things[i]}?", f"The {things[i]} is {spots[i]}."
    return told, f"What is {spots[i]}?", f"The {things[i]} is {spots[i]}."


def _numbers(rng: random.Random) -> Read:
    count = 2 + rng.randrange(2)
    people, nouns = _people(rng, count), rng.sample(COUNTED, count)
    numbers = [2 + rng.randrange(60) for _ in people]
    told = " ".join(f"{who} has {n} {plural(noun)}." for who, n, noun in zip(people, numbers, nouns))
    i = rng.randrange(count)
    things = plural(nouns[i])
    if rng.random() < 0.3:
        return told, f"Who has {numbers[i]} {things}?", f"{people[i]} has {numbers[i]} {things}."
    return told, f"How many {things} does {people[i]} have?", f"{people[i]} has {numbers[i]} {things}."


def _likes(rng: random.Random) -> Read:
    people = _people(rng, 2 + rng.randrange(2))
    foods = rng.sample(FOODS, len(people))
    verb = pick(rng, ("likes", "wants", "eats"))
    told = " ".join(f"{who} {verb} {food}." for who, food in zip(people, foods))
    i = rng.randrange(len(people))
    if rng.random() < 0.5:
        return told, f"Who {verb} {foods[i]}?", f"{people[i]} {verb} {foods[i]}."
    return told, f"What does {people[i]} {verb[:-1]}?", f"{people[i]} {verb} {foods[i]}."


def _made_of_a_story(rng: random.Random) -> Read:
    """A told scene with a name, a pet, a place and a thing, each of which may be asked for."""
    slots = _cast(rng)
    told = render(
        "{x} lives near {place}. {He} has a {size} {pet} and a {colour} {thing}. [Every day|"
        "Each morning] {he} eats {food}. {His} best friend is {y}.",
        rng,
        **slots,
    )
    asked = pick(
        rng,
        (
            ("Who is the best friend of {x}?", "The best friend of {x} is {y}."),
            ("Which animal does {x} have?", "{x} has a {size} {pet}."),
            ("What does {x} eat?", "{x} eats {food}."),
            ("Where does {x} live?", "{x} lives near {place}."),
            ("What colour is the {thing}?", "The {thing} is {colour}."),
        ),
    )
    return told, asked[0].format(**slots), asked[1].format(**slots)


def _parents(rng: random.Random) -> Read:
    a, b, c, d = _people(rng, 4)
    kin, other = (pick(rng, KIN_OF_GIRLS if who in GIRLS else KIN_OF_BOYS) for who in (a, c))
    told = capital(f"{a} is the {kin} of {b}. {c} is the {other} of {d}.")
    if rng.random() < 0.5:
        return told, f"Who is the {kin} of {b}?", f"{a} is the {kin} of {b}."
    return told, f"Who is {a}?", f"{a} is the {kin} of {b}."


_PASSAGES: tuple[Callable[[random.Random], Read], ...] = (
    _owners,
    _whereabouts,
    _hidden,
    _numbers,
    _likes,
    _made_of_a_story,
    _parents,
)
