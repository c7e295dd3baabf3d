"""Facts about countries and animals."""

from texts import tables
from texts.facts import Fact, facts, turned


def geography() -> list[Fact]:
    """Capitals, continents and languages."""
    return [
        *facts(
            "capital",
            tables.CAPITALS,
            "[The capital of {a} is {b}.|{b} is the capital of {a}.|The capital city of {a} is {b}.|"
            "{a} has a capital called {b}.|{b} is the most important city of {a}, its capital.|"
            "In {a} the capital is {b}.]",
            "[[What|Which city] is the capital of {a}?|What is the capital city of {a}?|Name the capital of {a}.|"
            "What is {a}'s capital?|Tell me the capital of {a}.|What is the name of the capital of {a}?|"
            "Capital of {a}?|Which city is {a}'s capital?|Do you know the capital of {a}?]",
            "The capital of {a} is {b}.",
            "[What|Which city] is the capital of {a}?",
        ),
        *facts(
            "country",
            turned(tables.CAPITALS),
            "[{a} lies in {b}.|{a} is a city in {b}.|You can visit {a} in {b}.|The city of {a} is in {b}.]",
            "[Which country has the capital {a}?|{a} is the capital of which country?|"
            "Of which country is {a} the capital?|In which country is {a}?|Where is {a}?|Where is the city of {a}?|"
            "In which country does {a} lie?]",
            "{a} is the capital of {b}.",
            "[In which country is {a}?|{a} is the capital of which country?]",
        ),
        *facts(
            "continent",
            tables.CONTINENTS,
            "[{a} is in {b}.|{a} lies in {b}.|{a} is a country in {b}.|One of the countries of {b} is {a}.]",
            "[On which continent is {a}?|Which continent is {a} in?|In which part of the world is {a}?|"
            "What continent does {a} belong to?|Where is {a}?]",
            "{a} is in {b}.",
            "[On which continent is {a}?|Which continent is {a} in?]",
        ),
        *facts(
            "language",
            tables.LANGUAGES,
            "[In {a} people speak {b}.|People in {a} speak {b}.|{b} is spoken in {a}.|The language of {a} is {b}.]",
            "[What language do people speak in {a}?|Which language is spoken in {a}?|What do they speak in {a}?|"
            "What is the language of {a}?|Name the language of {a}.]",
            "People in {a} speak {b}.",
            "[What|Which] language is spoken in {a}?",
        ),
    ]


def animals() -> list[Fact]:
    """Sounds, young, homes, food, legs, coats and kinds."""
    return [
        *facts(
            "sound",
            tables.SOUNDS,
            "[The {a} says {b}.|{An} says {b}.|{B}, says the {a}.|The sound of {an} is {b}.|Hear the {a}: {b}!]",
            "[What does the {a} say?|What does {an} say?|What sound does {an} make?|What sound does the {a} make?|"
            "Make the sound of the {a}.|How does {an} sound?|What noise does {an} make?]",
            "The {a} says {b}.",
            "What does {an} say?",
        ),
        *facts(
            "young",
            tables.YOUNG,
            "[A young {a} is called {bn}.|A baby {a} is {bn}.|The young of the {a} is the {b}.|{Bn} is a young {a}.|"
            "{Bn} grows up to be {an}.]",
            "[What is a young {a} called?|What do you call a young {a}?|What is the young of {an} called?|"
            "What is a baby {a} called?|What do we call a baby {a}?|Name the young of the {a}.]",
            "A young {a} is called {bn}.",
            "What is a young {a} called?",
        ),
        *facts(
            "home",
            tables.HOMES,
            "[The {a} lives in {bn}.|{An} lives in {bn}.|The home of the {a} is {bn}.|{Bn} is the home of the {a}.]",
            "[Where does the {a} live?|Where does {an} live?|What is the home of {an}?|Name the home of the {a}.|"
            "What is the home of the {a} called?|In what does {an} live?]",
            "The {a} lives in {bn}.",
            "Where does {an} live?",
        ),
        *facts(
            "food",
            tables.EATS,
            "[The {a} eats {b}.|{An} eats {b}.|The food of the {a} is {b}.|Most of all, {an} likes {b}.]",
            "[What does the {a} eat?|What does {an} eat?|What is the food of the {a}?|What does {an} like to eat?|"
            "What do you feed {an}?]",
            "The {a} eats {b}.",
        ),
        *facts(
            "legs",
            tables.LEGS,
            "[{An} has {b} legs.|The {a} has {b} legs.|{An} is an animal that has {b} legs.]",
            "[How many legs does {an} have?|How many legs has {an}?|How many legs does the {a} have?|"
            "How many legs are on {an}?|Count the legs of {an}.]",
            "{An} has {b} legs.",
            "How many legs does {an} have?",
        ),
        *facts(
            "cover",
            tables.COVERED,
            "[{An} is covered with {b}.|The {a} has {b}.|The body of {an} is covered with {b}.]",
            "[What is {an} covered with?|What covers the body of {an}?|What does {an} have on its body?|"
            "Does {an} have fur, feathers, scales or wool?]",
            "{An} is covered with {b}.",
            "What is {an} covered with?",
        ),
        *facts(
            "class",
            tables.CLASSES,
            "[{An} is {bn}.|The {a} is {bn}.|{An} is an animal: {bn}.]",
            "[What kind of animal is {an}?|What sort of animal is the {a}?|What is {an}?|"
            "What kind of animal is the {a}?|Is {an} a mammal, a bird, a fish, an amphibian, a reptile or an insect?]",
            "{An} is {bn}.",
            "What kind of animal is {an}?",
        ),
    ]
