"""Facts about words, days, months and letters."""

from texts import lexicon
from texts.facts import Fact, Table, facts, turned


def words() -> list[Fact]:
    """Opposites, plurals, past tenses, synonyms, rhymes, female forms and groups."""
    opposites = (*lexicon.OPPOSITES, *turned(lexicon.OPPOSITES))
    return [
        *facts(
            "opposite",
            opposites,
            "[The opposite of {a} is {b}.|{A} is the opposite of {b}.|{A} and {b} are opposites.]",
            "[What is the opposite of {a}?|Which word is the opposite of {a}?|Give me the opposite of {a}.|"
            "Opposite of {a}?|What is the contrary of {a}?|Tell me the opposite of {a}.|Name the opposite of {a}.]",
            "The opposite of {a} is {b}.",
            "What is the opposite of {a}?",
        ),
        *facts(
            "plural",
            lexicon.PLURALS,
            "[The plural of {a} is {b}.|One {a}, two {b}.|One {a}, many {b}.|We say one {a} but two {b}.|{A}: {b}.]",
            "[What is the plural of {a}?|Give me the plural of {a}.|One {a}, two what?|"
            "What is more than one {a} called?|Write the plural of {a}.|Plural of {a}?]",
            "The plural of {a} is {b}.",
        ),
        *facts(
            "past",
            lexicon.PASTS,
            "[The past of {a} is {b}.|The past tense of {a} is {b}.|Today: {a}. Yesterday: {b}.]",
            "[What is the past tense of {a}?|What is the past of {a}?|Give me the past tense of {a}.|"
            "Write the past tense of {a}.|Put {a} into the past.]",
            "The past tense of {a} is {b}.",
        ),
        *facts(
            "synonym",
            lexicon.SYNONYMS,
            "[Another word for {a} is {b}.|{A} and {b} mean the same.|{A} means the same as {b}.|{A} means {b}.]",
            "[What is another word for {a}?|Which word means the same as {a}?|Give me a word that means {a}.|"
            "What does {a} mean?|Find another word for {a}.]",
            "Another word for {a} is {b}.",
        ),
        *facts(
            "rhyme",
            lexicon.RHYMES,
            "[{A} rhymes with {b}.|{A} and {b} rhyme.|The words {a} and {b} rhyme.|{B} rhymes with {a}.]",
            "[What rhymes with {a}?|Which word rhymes with {a}?|Find a rhyme for {a}.|"
            "Give me a word that rhymes with {a}.]",
            "{A} rhymes with {b}.",
            "Which word rhymes with {a}?",
        ),
        *facts(
            "female",
            lexicon.FEMALES,
            "[The female of {a} is {b}.|The female word for {a} is {b}.|{A} and {b} belong together.]",
            "[What is the female of {a}?|What is the female word for {a}?|Give me the female form of {a}.]",
            "The female of {a} is {b}.",
            "What is the female of {a}?",
        ),
        *facts(
            "group",
            lexicon.GROUPS,
            "[A group of {a} is called {bn}.|Many {a} together are {bn}.|{Bn} is a group of {a}.|Many {a} make {bn}.]",
            "[What is a group of {a} called?|What do you call a group of {a}?|What is the word for a group of {a}?|"
            "Many {a} together are called what?]",
            "A group of {a} is called {bn}.",
        ),
    ]


def order() -> list[Fact]:
    """What comes after and before: days, months, letters, planets."""
    following = "[After {a} comes {b}.|{b} comes after {a}.|{b} follows {a}.|Before {b} comes {a}.]"
    return [
        *facts(
            "day",
            _following(lexicon.DAYS),
            following,
            "[Which day comes after {a}?|What day follows {a}?|Name the day after {a}.|What is the day after {a}?|"
            "If today is {a}, what is tomorrow?|What day comes next after {a}?]",
            "After {a} comes {b}.",
            "Which day comes after {a}?",
        ),
        *facts(
            "day before",
            tuple((b, a) for a, b in _following(lexicon.DAYS)),
            "[Before {a} comes {b}.|{b} comes before {a}.|The day before {a} is {b}.]",
            "[Which day comes before {a}?|What day is before {a}?|Name the day before {a}.|"
            "If today is {a}, what was yesterday?]",
            "Before {a} comes {b}.",
            "Which day comes before {a}?",
        ),
        *facts(
            "month",
            _following(lexicon.MONTHS),
            following,
            "[Which month comes after {a}?|What month follows {a}?|Name the month after {a}.|"
            "What is the month after {a}?]",
            "After {a} comes {b}.",
            "Which month comes after {a}?",
        ),
        *facts(
            "month before",
            tuple((b, a) for a, b in _following(lexicon.MONTHS)),
            "[Before {a} comes {b}.|{b} comes before {a}.|The month before {a} is {b}.]",
            "[Which month comes before {a}?|What month is before {a}?|Name the month before {a}.]",
            "Before {a} comes {b}.",
            "Which month comes before {a}?",
        ),
        *facts(
            "month length",
            tuple((month, str(days)) for month, days in lexicon.MONTH_LENGTHS.items()),
            "[{a} has {b} days.|In {a} there are {b} days.|The month of {a} has {b} days.]",
            "[How many days does {a} have?|How many days are in {a}?|How long is {a}?|How many days has {a}?]",
            "{a} has {b} days.",
            "How many days does {a} have?",
        ),
        *facts(
            "letter",
            tuple(zip(lexicon.LETTERS, lexicon.LETTERS[1:])),
            following,
            "[Which letter comes after {a}?|What letter follows {a}?|Name the letter after {a}.|"
            "What comes after the letter {a}?]",
            "After {a} comes {b}.",
            "Which letter comes after {a}?",
        ),
        *facts(
            "planet",
            tuple(zip(lexicon.PLANETS, lexicon.PLANETS[1:])),
            "[The planet after {a} is {b}.|Going out from the sun, {b} comes after {a}.|"
            "Next to {a}, further out, is {b}.]",
            "[Which planet comes after {a}?|What is the next planet after {a}?|Name the planet after {a}.]",
            "The planet after {a} is {b}.",
            "Which planet comes after {a}?",
        ),
    ]


def _following(words: list[str]) -> Table:
    return tuple(zip(words, words[1:] + words[:1]))
