"""Instructions whose answer stands in the question: repeat, spell, order, follow a pattern or a made-up rule."""

import random
from collections.abc import Callable, Sequence

from texts import choices, invented
from texts.grammar import capital, listed, pick, render, with_article
from texts.words import COLOURS, COUNTED, NAMES, SHORT_WORDS, SURNAMES, plural

Asked = tuple[str, str]


def ask_copy(rng: random.Random) -> Asked:
    """An instruction and what it gives."""
    return pick(rng, _COPIES)(rng)


def ask_rule(rng: random.Random) -> Asked:
    """Two or three examples of a made-up rule, then the case to solve."""
    *examples, (asked, answer) = _cases(rng, 3 + rng.randrange(2))
    shown = " ".join(solved for _, solved in examples)
    head = render("[Here is a rule|Look|Learn this|Look at these|Examples|New rule]: {e} ", rng, e=shown)
    return head + render("[What is {q}?|Now {q}?|What is {q}?|And {q}?]", rng, q=asked), answer


def document(rng: random.Random) -> str:
    """Instructions and answers in plain text."""
    style = pick(
        rng, ("{q}\n{a}", "Q: {q}\nA: {a}", "Task: {q}\nAnswer: {a}", "{q} -> {a}", "Question: {q}\nAnswer: {a}")
    )
    if rng.random() < 0.5:
        kind = pick(rng, _COPIES)
        return "\n".join(style.format(q=q, a=a) for q, a in (kind(rng) for _ in range(2 + rng.randrange(3))))
    return "\n".join(style.format(q=q, a=a) for q, a in (ask_copy(rng) for _ in range(2 + rng.randrange(4))))


def patterns(rng: random.Random) -> str:
    """Many cases of one made-up rule, so that the last ones can be told from the first."""
    cases = _cases(rng, 4 + rng.randrange(6))
    if rng.random() < 0.25:
        return "\n".join(f"Q: What is {q}?\nA: {a}" for q, a in cases)
    return pick(rng, ("\n", "\n", " ")).join(a for _, a in cases)


def records(rng: random.Random) -> str:
    """A small table of people and what is known of them, written out as sentences."""
    lines, sentences = [], []
    for name in rng.sample(NAMES, 2 + rng.randrange(3)):
        colour, age, noun = pick(rng, COLOURS), 3 + rng.randrange(90), pick(rng, COUNTED)
        lines.append(f"Name: {name}. Age: {age}. Colour: {colour}. Has: {noun}.")
        sentences.append(f"{name} is {age} years old, likes {colour} and has {with_article(noun)}.")
    return (
        "\n".join(lines + sentences) if rng.random() < 0.5 else "\n".join(f"{a} {b}" for a, b in zip(lines, sentences))
    )


def _phrase(rng: random.Random) -> str:
    kind = rng.randrange(6)
    if kind == 0:
        return f"{pick(rng, COLOURS)} {pick(rng, SHORT_WORDS)}"
    if kind == 1:
        return f"the {pick(rng, COLOURS)} {pick(rng, SHORT_WORDS)}"
    if kind == 2:
        n = 2 + rng.randrange(98)
        return f"{n} {plural(pick(rng, COUNTED))}"
    if kind == 3:
        return f"{pick(rng, NAMES)} {pick(rng, SURNAMES)}"
    if kind == 4:
        return f"{pick(rng, SHORT_WORDS)} and {pick(rng, SHORT_WORDS)}"
    return invented.word(rng) if rng.random() < 0.5 else str(rng.randrange(10000))


def _repeat(rng: random.Random) -> Asked:
    text = pick(rng, SHORT_WORDS) if rng.random() < 0.3 else _phrase(rng)
    asked = (
        "[Say {t}.|Repeat: {t}|Repeat after me: {t}|Say this: {t}|Write: {t}|Copy this: {t}|Repeat the words: {t}|"
        'Say "{t}".|Write "{t}".|Repeat "{t}".|Please repeat this: {t}]'
    )
    return render(asked, rng, t=text), capital(f"{text}.")


def _twice(rng: random.Random) -> Asked:
    text = pick(rng, SHORT_WORDS) if rng.random() < 0.5 else _phrase(rng)
    if rng.random() < 0.25:
        return render("[Say {t} three times.|Repeat {t} three times.]", rng, t=text), capital(
            f"{text}, {text}, {text}."
        )
    asked = render("[Say {t} twice.|Repeat {t} two times.|Write {t} twice.|Say it twice: {t}]", rng, t=text)
    return asked, capital(f"{text}, {text}.")


def _spell(rng: random.Random) -> Asked:
    word = (
        pick(rng, SHORT_WORDS) if rng.random() < 0.7 else pick(rng, NAMES) if rng.random() < 0.5 else invented.word(rng)
    )
    asked = "[Spell {w}.|How do you spell {w}?|Write {w} letter by letter.|Spell the word {w}.|Can you spell {w}?]"
    return render(asked, rng, w=word), f"{'-'.join(word)}."


def _join(rng: random.Random) -> Asked:
    word = pick(rng, SHORT_WORDS)
    return render("[Which word is {w}?|Put the letters together: {w}|What word is {w}?]", rng, w="-".join(word)), (
        capital(f"{word}.")
    )


def _reverse(rng: random.Random) -> Asked:
    words = rng.sample(SHORT_WORDS, 2 + rng.randrange(3))
    if rng.random() < 0.4:
        words = [str(rng.randrange(100)) for _ in words]
    asked = render(
        "[Write in reverse order|Turn the order round|Say backwards|Reverse the list]: {t}", rng, t=", ".join(words)
    )
    return asked, capital(f"{', '.join(reversed(words))}.")


def _alphabet(rng: random.Random) -> Asked:
    words = rng.sample(SHORT_WORDS, 3)
    while len({word[0] for word in words}) < 3:
        words = rng.sample(SHORT_WORDS, 3)
    asked = render(
        "[Put in the order of the alphabet|Sort by the alphabet|Order by first letter]: {t}", rng, t=", ".join(words)
    )
    return asked, capital(f"{', '.join(sorted(words))}.")


def _place_in_list(rng: random.Random) -> Asked:
    words = rng.sample(SHORT_WORDS, 3 + rng.randrange(3))
    ordinal = rng.randrange(4)
    name = ("first", "second", "third", "last")[ordinal]
    word = words[-1] if ordinal == 3 else words[ordinal]
    asked = render(
        "[What is the {n} word|Which word is {n}|Name the {n} word]: {t}[?|]", rng, n=name, t=", ".join(words)
    )
    return asked, f"The {name} word is {word}."


def _after_in_list(rng: random.Random) -> Asked:
    words = rng.sample(SHORT_WORDS, 4)
    i = rng.randrange(3)
    if rng.random() < 0.5:
        return (
            f"In the list {', '.join(words)}, what comes after {words[i]}?",
            f"After {words[i]} comes {words[i + 1]}.",
        )
    return f"In the list {', '.join(words)}, what comes before {words[i + 1]}?", (
        f"Before {words[i + 1]} comes {words[i]}."
    )


def _given_order(rng: random.Random) -> Asked:
    first, second = rng.sample(SHORT_WORDS, 2) if rng.random() < 0.6 else (_phrase(rng), _phrase(rng))
    kind = rng.randrange(4)
    if kind == 0:
        return f"Say {first} and then {second}.", capital(f"{first}, {second}.")
    if kind == 1:
        return f"Say {second}, but first say {first}.", capital(f"{first}, {second}.")
    if kind == 2:
        return f"Put {first} before {second}.", capital(f"{first}, {second}.")
    return f"Write {first} between {second} and {second}.", capital(f"{second}, {first}, {second}.")


def _list_of(rng: random.Random) -> Asked:
    name = pick(
        rng, ("fruit", "vegetable", "animal", "bird", "insect", "tool", "colour", "tree", "flower", "country", "sport")
    )
    many = {"country": "countries", "fruit": "fruits"}.get(name, f"{name}s")
    count = 2 + rng.randrange(3)
    found = rng.sample(choices.members(name)[:6], count)
    asked = "[Name {n} {m}.|Write a list of {n} {m}.|List {n} {m}.|Give me {n} {m}.|Tell me {n} {m}.]"
    return render(asked, rng, n=("two", "three", "four")[count - 2], m=many), capital(f"{listed(sorted(found))}.")


def _swap(rng: random.Random) -> Asked:
    old, new, verb = (
        pick(rng, SHORT_WORDS),
        pick(rng, SHORT_WORDS),
        pick(rng, ("is here", "was big", "is red", "fell down")),
    )
    asked = "[Replace {o} by {w}|Put {w} for {o}|Write {w} where it says {o}]: the {o} {v}"
    return render(asked, rng, o=old, w=new, v=verb), capital(f"the {new} {verb}.")


def _remember(rng: random.Random) -> Asked:
    pairs = list(zip(rng.sample(SHORT_WORDS, 3), rng.sample(range(100), 3)))
    told = ", ".join(f"{word} is {number}" for word, number in pairs)
    word, number = pick(rng, pairs)
    return render("[Remember|Learn this|Suppose]: {t}. What is {w}?", rng, t=told, w=word), capital(
        f"{word} is {number}."
    )


def _short_form(rng: random.Random) -> Asked:
    name, age, colour = pick(rng, NAMES), 3 + rng.randrange(90), pick(rng, COLOURS)
    if rng.random() < 0.5:
        return f"Write a sentence. Name: {name}. Age: {age}.", f"{name} is {age} years old."
    return f"Write a sentence. Name: {name}. Likes: {colour}.", f"{name} likes {colour}."


def _first_letter(rng: random.Random) -> Asked:
    word = pick(rng, SHORT_WORDS)
    kind = rng.randrange(3)
    if kind == 0:
        return render("[What is the first letter of {w}?|With which letter does {w} begin?]", rng, w=word), (
            f"{capital(word)} begins with {word[0]}."
        )
    if kind == 1:
        return render("[What is the last letter of {w}?|With which letter does {w} end?]", rng, w=word), (
            f"{capital(word)} ends with {word[-1]}."
        )
    return render("[How many letters has {w}?|How many letters are in {w}?]", rng, w=word), (
        f"{capital(word)} has {len(word)} letters."
    )


_COPIES: tuple[Callable[[random.Random], Asked], ...] = (
    _repeat,
    _repeat,
    _repeat,
    _twice,
    _spell,
    _spell,
    _join,
    _reverse,
    _alphabet,
    _place_in_list,
    _after_in_list,
    _given_order,
    _given_order,
    _list_of,
    _swap,
    _remember,
    _short_form,
    _first_letter,
)


def _cases(rng: random.Random, count: int) -> list[Asked]:
    """(unsolved, solved) cases of one rule."""
    name = invented.word(rng)
    result: Callable[[str, str], str] = pick(rng, _RULES)
    digits = pick(rng, (10, 10, 100, 100, 100))
    of_words = rng.random() < 0.3
    found = []
    for _ in range(count):
        a, b = rng.sample(SHORT_WORDS, 2) if of_words else (str(rng.randrange(digits)), str(rng.randrange(digits)))
        found.append((f"{a} {name} {b}", f"{a} {name} {b} = {result(a, b)}."))
    return found


def _between(text: str) -> Callable[[str, str], str]:
    return lambda a, b: text.format(a=a, b=b)


_RULES: Sequence[Callable[[str, str], str]] = [
    _between(text)
    for text in (
        "{a}{b}",
        "{a}{b}",
        "{b}{a}",
        "{b}{a}",
        "{a}{b}{a}",
        "{b}{b}",
        "{a}{a}",
        "{a}",
        "{b}",
        "{b} {a}",
        "{a} {b}",
        "{b} {a} {b}",
        "{b}, {a}",
        "{a}-{b}",
        "{b}-{a}",
        "{a} and {b}",
        "{b} and {a}",
        "0{a}{b}",
        "{b}0{a}",
    )
]
