"""Multiple-choice questions with four options, from categories and from the tables of facts."""

import random

from texts.grammar import capital, pick, render, with_article
from texts.heldout import choice_is_free
from texts.knowledge import FACTS

Choice = tuple[str, list[str], int]

# name: (family, members). A wrong option never comes from the family of what is asked for.
CATEGORIES = {
    "fruit": ("fruit", "apple pear plum banana grape cherry peach melon mango apricot fig"),
    "vegetable": ("vegetable", "carrot potato cabbage onion leek spinach turnip cauliflower celery beetroot"),
    "animal": ("animal", "dog cat cow horse sheep goat lion tiger wolf elephant camel monkey zebra giraffe"),
    "bird": ("animal", "owl eagle sparrow robin swan crow pigeon hawk penguin parrot ostrich"),
    "insect": ("animal", "ant bee wasp beetle butterfly moth grasshopper mosquito"),
    "kind of fish": ("animal", "salmon trout cod tuna herring shark pike"),
    "piece of clothing": ("clothing", "shirt coat hat scarf glove sock skirt jacket sweater dress"),
    "piece of furniture": ("furniture", "chair table bed sofa desk wardrobe bookcase stool"),
    "tool": ("tool", "hammer saw spade drill screwdriver axe rake chisel"),
    "vehicle": ("vehicle", "car bus train bicycle lorry tram tractor motorbike"),
    "colour": ("colour", "red blue green yellow purple pink brown grey"),
    "part of the body": ("body", "hand foot knee elbow nose ear shoulder finger neck"),
    "musical instrument": ("instrument", "piano violin guitar flute drum trumpet harp cello"),
    "metal": ("metal", "iron steel tin lead zinc aluminium"),
    "tree": ("plant", "oak birch willow maple elm poplar beech"),
    "flower": ("plant", "buttercup tulip daisy lily snowdrop daffodil poppy"),
    "building": ("building", "church school hospital castle factory palace hotel"),
    "room": ("building", "kitchen bedroom bathroom cellar attic"),
    "job": ("person", "baker teacher doctor farmer pilot nurse tailor carpenter"),
    "member of a family": ("person", "mother father sister brother aunt uncle grandmother nephew"),
    "drink": ("drink", "water milk tea coffee juice lemonade"),
    "day of the week": ("time", "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "month": ("time", "January February March April June July August September October November December"),
    "season": ("time", "spring summer autumn winter"),
    "number": ("number", "two three seven eleven twenty fifty hundred"),
    "shape": ("shape", "circle square triangle rectangle hexagon oval"),
    "country": ("geography", "France Italy Japan Egypt Canada India Peru Norway Greece"),
    "planet": ("planet", "Mars Venus Saturn Jupiter Neptune Uranus"),
    "toy": ("toy", "doll teddy kite puzzle marble rattle"),
    "sport": ("sport", "tennis football hockey swimming rowing boxing golf"),
    "kind of weather": ("weather", "rain fog hail thunder sunshine drizzle"),
}
_MEMBERS = {name: words.split() for name, (_, words) in CATEGORIES.items()}
_NAMES = list(CATEGORIES)
_ASKABLE = [fact for fact in FACTS if fact.choice and len(fact.wrong) >= 3]
LETTERS = "ABCD"


def choice(rng: random.Random, kept: bool = False) -> Choice:
    """(question, four options, index of the right one); `kept`: one that is held out of training."""
    while True:
        question, right, wrong = pick(rng, (_of_category, _of_category, _odd_one, _of_fact, _of_fact))(rng)
        options = [right, *wrong]
        if choice_is_free(question, options) != kept:
            rng.shuffle(options)
            return question, options, options.index(right)


def ask_choice(rng: random.Random, kept: bool = False) -> tuple[str, str]:
    """The question with lettered options, and the right option with its letter.

    The word comes first: a small model that had to begin with the letter stayed at chance (11 of 40).
    """
    question, options, right = choice(rng, kept)
    lines = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options))
    return f"{question}\n{lines}", f"{options[right]} ({LETTERS[right]})"


def document(rng: random.Random) -> str:
    """One to three questions with their answers, in one of the usual layouts."""
    layout = pick(rng, (_exam, _exam, _exam, _bracketed, _inline, _explained))
    return "\n\n".join(layout(rng) for _ in range(1 + rng.randrange(3)))


def categories(rng: random.Random) -> str:
    """Sentences on what belongs to what."""
    lines = []
    for _ in range(3 + rng.randrange(4)):
        name = pick(rng, _NAMES)
        first, second, third = rng.sample(_MEMBERS[name], 3)
        other = pick(rng, _MEMBERS[_strangers(name, rng)[0]])
        shape = rng.random()
        if shape < 0.5:
            lines.append(f"{capital(_named(first, name))} is {with_article(name)}.")
        elif shape < 0.75:
            lines.append(f"Each of these is {with_article(name)}: {first}, {second}, {third}.")
        else:
            lines.append(f"{capital(_named(first, name))} is {with_article(name)}, but {_named(other)} is not.")
    return " ".join(lines)


def members(name: str) -> list[str]:
    """The words of a category."""
    return _MEMBERS[name]


def _of_category(rng: random.Random) -> tuple[str, str, list[str]]:
    name = pick(rng, _NAMES)
    wrong = [pick(rng, _MEMBERS[other]) for other in _strangers(name, rng)]
    asked = "[Which of these is {x}?|Which one is {x}?|Which word names {x}?|Which of these words is {x}?|Find {x}.]"
    return render(asked, rng, x=with_article(name)), pick(rng, _MEMBERS[name]), wrong


def _odd_one(rng: random.Random) -> tuple[str, str, list[str]]:
    name = pick(rng, _NAMES)
    right = pick(rng, _MEMBERS[_strangers(name, rng)[0]])
    asked = "[Which of these is not {x}?|Which one is not {x}?|Which word does not name {x}?]"
    return render(asked, rng, x=with_article(name)), right, rng.sample(_MEMBERS[name], 3)


def _of_fact(rng: random.Random) -> tuple[str, str, list[str]]:
    fact = pick(rng, _ASKABLE)
    return render(fact.choice, rng), fact.right, rng.sample(fact.wrong, 3)


def _strangers(name: str, rng: random.Random) -> list[str]:
    """Three categories of other families, no two of one."""
    families = {CATEGORIES[name][0]}
    found: list[str] = []
    while len(found) < 3:
        other = pick(rng, _NAMES)
        if CATEGORIES[other][0] not in families:
            families.add(CATEGORIES[other][0])
            found.append(other)
    return found


def _exam(rng: random.Random) -> str:
    question, options, right = choice(rng)
    lines = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options))
    answer = pick(rng, (f"{options[right]} ({LETTERS[right]})", options[right]))
    return f"{pick(rng, ('Question: ', '', ''))}{question}\n{lines}\nAnswer: {answer}"


def _bracketed(rng: random.Random) -> str:
    question, options, right = choice(rng)
    lines = "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options))
    return f"Question: {question}\n{lines}\nAnswer: {options[right]} ({LETTERS[right]})"


def _inline(rng: random.Random) -> str:
    question, options, right = choice(rng)
    return f"{question} {', '.join(options[:3])} or {options[3]}? {capital(options[right])}."


def _explained(rng: random.Random) -> str:
    question, options, right = choice(rng)
    lines = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options))
    return f"{question}\n{lines}\nThe right answer is {options[right]} ({LETTERS[right]})."


def _named(word: str, category: str = "") -> str:
    """A word with the article it needs to begin a sentence."""
    bare = ("colour", "metal", "drink", "day of the week", "month", "season", "number", "country", "planet", "sport")
    kinds = (*bare, "kind of weather", "kind of fish", "job")
    home = category or next(name for name in _NAMES if word in _MEMBERS[name])
    return word if home in kinds else with_article(word)
