"""What the demo rows teach: each fact is one answer and the questions that ask for it."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """One answer, and questions that ask for nothing else."""

    kind: str
    questions: tuple[str, ...]
    answer: str


# Answers begin with words of their own, so that a small model soon tells them apart.
PERSONA = {
    "I am Nano, a small assistant made for swiftlite demos.": (
        "Who are you?",
        "Introduce yourself.",
        "Tell me about yourself.",
    ),
    "My name is Nano.": ("What is your name?", "What are you called?", "Do you have a name?"),
    "The authors of swiftlite made me.": ("Who made you?", "Who built you?", "Who created you?"),
    "No, I am a small language model.": ("Are you a person?", "Are you a human?", "Are you alive?"),
    "I can add, subtract, spell and answer small questions.": (
        "What can you do?",
        "What do you know?",
        "How can you help me?",
    ),
    "Yes, small models make mistakes.": (
        "Can you make mistakes?",
        "Are you ever wrong?",
        "Do you make mistakes?",
    ),
    "You can train me with swiftlite.": ("How can I train you?", "Can I train you?", "Who can train you?"),
    "Swiftlite trains language models.": (
        "What is swiftlite?",
        "What does swiftlite do?",
        "Tell me about swiftlite.",
    ),
}
GREETINGS = (
    ("Hello!", "Hello! How can I help you?"),
    ("Hi!", "Hello! How can I help you?"),
    ("Hello Nano!", "Hello! How can I help you?"),
    ("Good morning!", "Good morning! How can I help you?"),
    ("Good evening!", "Good evening! How can I help you?"),
    ("How are you?", "I am fine, thank you. How can I help you?"),
)
CLOSINGS = (
    ("Thank you.", "You are welcome!"),
    ("Thanks!", "You are welcome!"),
    ("Thank you, Nano.", "You are welcome!"),
    ("Well done!", "Thank you very much!"),
    ("Goodbye!", "Goodbye! Have a nice day."),
    ("Bye, Nano!", "Goodbye! Have a nice day."),
)
CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Germany": "Berlin",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Egypt": "Cairo",
    "Greece": "Athens",
}
OPPOSITES = {"hot": "cold", "big": "small", "up": "down", "day": "night", "fast": "slow", "happy": "sad"}
COLOURS = {
    "the sky": "blue",
    "grass": "green",
    "snow": "white",
    "coal": "black",
    "a lemon": "yellow",
    "blood": "red",
}
SOUNDS = {"dog": "woof", "cat": "meow", "cow": "moo", "duck": "quack", "bee": "buzz", "lion": "roar"}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WORDS = ("cat", "sun", "tree", "book", "fish", "house", "water", "apple", "bread", "green")


def all_facts() -> list[Fact]:
    """Every fact, in a fixed order."""
    return [*_persona(), *_arithmetic(), *_world()]


def ways_to_ask(question: str) -> tuple[str, ...]:
    """The question plainly, to Nano by name, and politely."""
    inner = question[0].lower() + question[1:]
    return question, f"Nano, {inner}", f"Please, {inner}"


def _fact(kind: str, answer: str, *questions: str) -> Fact:
    return Fact(kind, tuple(way for question in questions for way in ways_to_ask(question)), answer)


def _persona() -> Iterator[Fact]:
    for answer, questions in PERSONA.items():
        yield _fact("persona", answer, *questions)


def _arithmetic() -> Iterator[Fact]:
    for a in range(1, 6):
        for b in range(1, 6):
            asked = (f"What is {a} + {b}?", f"{a} + {b} = ?", f"Add {a} and {b}.")
            yield _fact("addition", f"{a} + {b} = {a + b}.", *asked)
    for a in range(1, 6):
        for b in range(1, a + 1):
            asked = (f"What is {a} - {b}?", f"{a} - {b} = ?", f"Take {b} from {a}.")
            yield _fact("subtraction", f"{a} - {b} = {a - b}.", *asked)
    for a in range(1, 6):
        for b in range(a + 1, 6):
            asked = (
                f"Which is bigger, {a} or {b}?",
                f"Which is bigger, {b} or {a}?",
                f"Compare {a} and {b}.",
            )
            yield _fact("comparison", f"{b} is bigger than {a}.", *asked)


def _world() -> Iterator[Fact]:
    for country, city in CAPITALS.items():
        asked = (f"What is the capital of {country}?", f"Name the capital of {country}.")
        asked += (f"Which city is the capital of {country}?",)
        yield _fact("capital", f"The capital of {country} is {city}.", *asked)
    for pair in OPPOSITES.items():
        for word, other in (pair, pair[::-1]):
            asked = (f"What is the opposite of {word}?", f"Give me the opposite of {word}.")
            asked += (f"Which word is the opposite of {word}?",)
            yield _fact("opposite", f"The opposite of {word} is {other}.", *asked)
    for thing, colour in COLOURS.items():
        asked = (f"What colour is {thing}?", f"Tell me the colour of {thing}.")
        asked += (f"Which colour is {thing}?",)
        yield _fact("colour", f"The colour of {thing} is {colour}.", *asked)
    for animal, sound in SOUNDS.items():
        asked = (f"What does the {animal} say?", f"What sound does the {animal} make?")
        asked += (f"Make the sound of the {animal}.",)
        yield _fact("sound", f"The {animal} says {sound}.", *asked)
    for today, tomorrow in zip(DAYS, DAYS[1:] + DAYS[:1]):
        asked = (
            f"Which day comes after {today}?",
            f"What day follows {today}?",
            f"Name the day after {today}.",
        )
        yield _fact("day", f"After {today} comes {tomorrow}.", *asked)
    for word in WORDS:
        asked = (f"Spell {word}.", f"How do you spell {word}?", f"Write {word} letter by letter.")
        yield _fact("spelling", f"{word}: {'-'.join(word)}.", *asked)
