"""Facts about things, people's work and amounts."""

from dataclasses import replace

from texts import tables
from texts.facts import Fact, facts
from texts.grammar import capital, with_article


def things() -> list[Fact]:
    """Colours, materials, tools, jobs, places, books and shapes."""
    return [
        *facts(
            "colour",
            tables.COLOURS,
            "[{A} is {b}.|The colour of {a} is {b}.|{A} has the colour {b}.|If you look at {a}, you see {b}.]",
            "[What colour is {a}?|Which colour is {a}?|What is the colour of {a}?|Tell me the colour of {a}.|"
            "Name the colour of {a}.]",
            "{A} is {b}.",
        ),
        *facts(
            "material",
            tables.MATERIALS,
            "[{A} is made of {b}.|{A} is usually made of {b}.|People make {a} of {b}.]",
            "[What is {a} made of?|What do people make {a} of?|What do you need to make {a}?|Of what is {a} made?]",
            "{A} is made of {b}.",
            "What is {a} made of?",
        ),
        *facts(
            "body",
            tables.BODY,
            "[We {a} with our {b}.|You {a} with your {b}.|To {a}, people use their {b}.|People {a} with their {b}.]",
            "[What do we {a} with?|What do you {a} with?|With what do people {a}?|"
            "Which part of the body do we use to {a}?|What do you use to {a}?]",
            "We {a} with our {b}.",
            "What do we {a} with?",
        ),
        *facts(
            "tool",
            tables.TOOLS,
            "[You use {bn} to {a}.|To {a}, you need {bn}.|With {bn} you can {a}.|{Bn} helps you to {a}.|"
            "People use {bn} to {a}.]",
            "[What do you use to {a}?|What do you need to {a}?|With what do you {a}?|Which thing helps you to {a}?|"
            "What can you use to {a}?|I want to {a}. What do I need?]",
            "You use {bn} to {a}.",
            "What do you use to {a}?",
            "{b}",
        ),
        *facts(
            "job",
            tables.JOBS,
            "[{An} {b}.|The {a} {b}.|The work of {an}: {an} {b}.|Someone who {b} is {an}.]",
            "[What does {an} do?|What does the {a} do?|What is the work of {an}?|What is the job of {an}?|"
            "Tell me what {an} does.]",
            "{An} {b}.",
        ),
        *facts(
            "worker",
            tuple((b, a) for a, b in tables.JOBS),
            "[Someone who {a} is {bn}.|A person who {a} is called {bn}.|If a person {a}, that person is {bn}.]",
            "[Who {a}?|What do you call someone who {a}?|What is a person who {a}?|Who is it that {a}?]",
            "{Bn} {a}.",
            "[Who {a}?|What do you call someone who {a}?]",
            "{b}",
        ),
        *facts(
            "place",
            _places(),
            "[You can {a} {b}.|People {a} {b}.|If you want to {a}, you can do it {b}.]",
            "[Where can you {a}?|Where do people {a}?|Where do you go to {a}?|I want to {a}. Where should I go?|"
            "Where can I {a}?]",
            "You can {a} {b}.",
            "Where can you {a}?",
        ),
        *facts(
            "author",
            tables.AUTHORS,
            "[{b} wrote {a}.|{a} was written by {b}.|{a} is a work by {b}.|The author of {a} is {b}.]",
            "[Who wrote {a}?|Who is the author of {a}?|By whom is {a}?|Who was the writer of {a}?|"
            "{a} was written by whom?]",
            "{b} wrote {a}.",
            "Who wrote {a}?",
        ),
        *facts(
            "shape",
            tables.SHAPES,
            "[{An} has {b} sides.|The {a} has {b} sides.|A shape called {a} has {b} sides.|{An} has {b} corners.]",
            "[How many sides does {an} have?|How many sides has {an}?|How many corners does {an} have?|"
            "Count the sides of {an}.]",
            "{An} has {b} sides.",
            "How many sides does {an} have?",
        ),
    ]


def amounts() -> list[Fact]:
    """How many minutes are in an hour, and so on."""
    found = []
    for fact in facts(
        "amount",
        tables.AMOUNTS,
        "{a}",
        "[How many {a}?|Tell me how many {a}.|Do you know how many {a}?]",
        "{b}",
        "How many {a}?",
    ):
        what, _, where = fact.subject.partition(" are ")
        sentence = f"There are {fact.right} {what} {where}."
        says = f"[{sentence}|{capital(where)} there are {fact.right} {what}.|{fact.right} {what} are {where}.]"
        found.append(replace(fact, says=says, answer=sentence))
    return found


def _places() -> tuple[tuple[str, str], ...]:
    inside = {"hospital", "garden", "kitchen", "bedroom", "bathroom", "garage", "palace", "church"}
    return tuple((a, f"{'in' if b in inside else 'at'} {with_article(b)}") for a, b in tables.PLACES)
