"""Made-up words and people, and what nano answers where nothing can be known: `I do not know.`"""

import random

from texts.grammar import pick, render, word_list
from texts.words import NAMES, PLACES, SURNAMES, THINGS

IDK = "I do not know."
# Checked by eye against the dictionary: syllables drawn at random give too many real words.
_SHORT = word_list(
    "blan blarb bleeg blerk blev blild bloomp bloork bluld brarn brirp brolk broork brulb brurn dilk dolb drerb "
    "drern drisp droob drork drulm feenk felb ferb flarb fleerp flelk flerg flild flirg flolk flomp florg flurn "
    "fralb framp frarg frilb frirn froorv frorb frosp frulb frurk garmp geerb glalb glarp gleerb glemp glerd glev "
    "glilk glisp glonk gloord glorg glurp gorp gralb grelm grilk groont grosk grulb grurk herg hilp hirb hoolb jalb "
    "jeelk jerb jilb jirn jorp keeld kerv kiv klalb klarb klenk klerd klirm kloov klord klosp klurn koolb korv kreld "
    "krerm krisp krolb krorv krulm leelb lerd lirv lolk loorb lurn meelb merp mirv molb mulk murv neelb nerv nilk "
    "nirb nolk norv plalb plerk plilk plirv plomp plorg plulk plurn prarb prelk prerm prirn prolb prulk prurn quelb "
    "querm quilb quirv quolb quorp reelk rirb rolv rulm seelb selk sirb skalb skerm skilv skolb skorm skurn slalb "
    "slelk slirv slolb sloorm slulk smalb smeelb smelk smirv smolb smorp smulk snalb snelk snerm snirv snolb snorv "
    "snulk sorb spalb spelk spirv spolb sporv spulk stalb stelk stirv stolb storv talb telv tirb tolb tralb trelk "
    "trilb trolv trulm trurk tulm twalb twelk twirm twolb twurn valb velk virm volb vorm vulk welb wilk wolb wulm "
    "yalb yelk yirm yolb yorp yulm"
)
_STARTS = word_list("bl br d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sk sl sm sn sp st t tr tw v w y")
_MIDDLES = word_list("a e i o u oo ee")
_ENDS = word_list("b d lb ld lk m mp n nk nt rb rd rg rk rm rn rp sk sp st v")
_TAILS = word_list("oo ix ak ul ub ev im om")
_REAL = frozenset(
    word_list("denim freedom kabul karnak kodak minim novak remix seldom sodom stardom taboo venom voodoo")
)


def word(rng: random.Random) -> str:
    """A word that means nothing, of one or two syllables."""
    if rng.random() < 0.35:
        return pick(rng, _SHORT)
    while True:
        found = pick(rng, _STARTS) + pick(rng, _MIDDLES) + pick(rng, _ENDS) + pick(rng, _TAILS)
        if found not in _REAL:
            return found


def name(rng: random.Random) -> str:
    """A made-up name of a person or country, of two syllables or more."""
    return (pick(rng, _STARTS) + pick(rng, _MIDDLES) + word(rng)).capitalize()


def ask_unknown(rng: random.Random) -> tuple[str, str]:
    """A question that nano cannot answer, and that it says so."""
    person = name(rng) if rng.random() < 0.4 else f"{pick(rng, NAMES)} {pick(rng, SURNAMES)}"
    slots = {
        "w": word(rng),
        "v": word(rng),
        "country": name(rng),
        "person": person,
        "first": pick(rng, NAMES),
        "a": rng.randrange(100),
        "b": rng.randrange(100),
        "thing": pick(rng, THINGS),
        "place": pick(rng, PLACES),
        "role": pick(rng, _ROLES),
    }
    return render(pick(rng, _UNKNOWN), rng, **slots), IDK


_ROLES = word_list("king queen president captain mayor owner ruler master chief leader father mother son wife brother")
_UNKNOWN = (
    "[What is {a} {w} {b}?|{a} {w} {b} = ?|How much is {a} {w} {b}?|Work out {a} {w} {b}.|Calculate {a} {w} {b}.]",
    "[What is {a} {w} {b}?|What does {a} {w} {b} give?|Tell me {a} {w} {b}.|{a} {w} {b}?|{w} {a} and {b}.]",
    "[Who is the {role} of {country}?|Who was the {role} of {country}?|Name the {role} of {country}.]",
    "[What is the capital of {country}?|Where is {country}?|Which language is spoken in {country}?]",
    "[What is a {w}?|What does {w} mean?|What is the meaning of {w}?|What colour is a {w}?|What is a {w} made of?]",
    "[What does a {w} eat?|Where does a {w} live?|How many legs does a {w} have?|What sound does a {w} make?]",
    "[What is the opposite of {w}?|What is the plural of {w}?|What rhymes with {w}?|What is another word for {w}?]",
    "[Who is {person}?|How old is {person}?|Where does {person} live?|What does {person} do?|Where was {person} born?]",
    "[Who is the {role} of {person}?|What is the name of {person}'s dog?|What does {person} like to eat?]",
    "[When was {person} born?|Who are the friends of {person}?|What is {person}'s telephone number?]",
    "[What is the weather today?|Will it rain tomorrow?|Is it raining?|How is the weather in {country}?|"
    "Is it cold outside?]",
    "[What time is it?|What is the date today?|What day is it today?|Which year is it?|What month is it now?]",
    "[What is my name?|How old am I?|Where do I live?|What did I eat today?|Where is my {thing}?|What do I want?]",
    "[Where is {first} now?|Where did {first} put the {thing}?|What is {first} doing?|Who took my {thing}?]",
    "[Who won the race?|Who is at the door?|What is in my bag?|What is behind the door?|Who came to {place} today?]",
    "[How many people are in {place}?|Who lives near {place}?|How much does the {thing} of {first} cost?]",
    "[Who wrote the book of {country}?|Who wrote {country}?|What happens in the story of {country}?]",
    "[What will happen tomorrow?|Who will win?|What did {first} say?|What am I thinking of?|"
    "Which number am I thinking of?]",
    "[What {w} is the {v}?|Which {w} is {v}?|Why is the {w} so {v}?|When does the {w} come?|Can a {w} {v}?]",
    "[How do you make a {w}?|How big is a {w}?|Is a {w} bigger than a {v}?|Which is bigger, a {w} or a {v}?]",
)
