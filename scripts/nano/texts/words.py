"""The people, things and places that stories, problems and lists are made of."""

from texts.grammar import word_list

GIRLS = word_list(
    "Anna Mary Lucy Sara Emma Rose Alice Clara Ella Grace Helen Ida Jane Kate Laura Mia Nora Olga Paula Ruth Sally "
    "Tina Vera Wendy Zoe Amy Betty Carol Dora Eva Fiona Gina Hannah Iris Julia Lily Molly Nina Polly Rita Sophie "
    "Maya Leila Priya Amina Yuki Mei Rosa Ines Fatima Lena Marta Nadia Elsa Greta Hilda Joan Karin Lola"
)
BOYS = word_list(
    "Tom Ben Sam Max Leo Jack Paul Peter John David Adam Bill Carl Dan Eric Frank George Harry Ian James Ken Luke "
    "Mark Nick Oscar Otto Ralph Simon Tim Victor Will Alex Bob Colin Dennis Edward Felix Hugo Ivan Jim Karl Liam "
    "Martin Noah Omar Ravi Chen Kenji Ali Hassan Diego Pablo Pedro Mateo Samir Jamal Emil Anton Boris Oliver Walter"
)
SURNAMES = word_list("Smith Brown Green Baker Miller Hill Wood King Cook Taylor Young White Stone Fisher Carter Lane")
NAMES = GIRLS + BOYS
# Things that are counted; the plural is regular.
COUNTED = word_list(
    "apple ball book pen hat egg pear plum cake coin shell stone flower card stamp toy car kite button sticker cup "
    "plate spoon lemon carrot potato nut star key ring marble pencil balloon orange cookie sweet leaf"
)
# The first eleven cannot be counted.
FOODS = word_list(
    "bread cheese soup rice fish cake pie salad pasta honey jam eggs apples pears beans carrots plums grapes"
)
COLOURS = word_list("red blue green yellow white black brown pink grey purple")
SIZES = ("small", "big", "tiny", "large", "little")
PETS = word_list("dog cat rabbit pony goat duck parrot hamster lamb kitten puppy hen")
WILD = word_list("fox deer owl squirrel frog hedgehog rabbit mouse crow turtle")
THINGS = word_list(
    "ball book hat kite bag coat cup key drum bell boat basket blanket doll map flute scarf ring wagon spade"
)
PLACES = (
    "the park",
    "the garden",
    "the forest",
    "the beach",
    "the market",
    "the school",
    "the farm",
    "the river",
    "the lake",
    "the library",
    "the zoo",
    "the village",
    "the station",
    "the museum",
    "the hill",
    "the meadow",
)
ROOMS = ("the kitchen", "the bedroom", "the bathroom", "the hall", "the attic", "the cellar", "the garage", "the shed")
SPOTS = (
    "under the bed",
    "on the table",
    "behind the door",
    "in the box",
    "on the shelf",
    "under the chair",
    "near the window",
    "behind the sofa",
    "in the cupboard",
    "next to the lamp",
    "on the stairs",
    "in the drawer",
)
OUTSIDE = ("under a tree", "behind the house", "beside the well", "near the gate", "on a bench", "next to the road")
WILD_PLACES = ("the park", "the garden", "the forest", "the river", "the hill", "the meadow", "the lake")
FLOWER_COLOURS = ("red", "blue", "yellow", "white", "pink", "purple")
# For people whose name says whether they are a woman or a man.
KIN_OF_GIRLS = ("mother", "sister", "grandmother", "aunt", "friend", "teacher", "cousin", "daughter")
KIN_OF_BOYS = ("father", "brother", "grandfather", "uncle", "friend", "teacher", "cousin", "son")
FAMILY = ("mother", "father", "sister", "brother", "grandmother", "grandfather", "aunt", "uncle", "friend", "teacher")
# For spelling, repeating and ordering: short and common.
SHORT_WORDS = word_list(
    "cat dog sun sky tree book fish house water apple bread green red blue bird ball cake door egg farm fire frog "
    "girl boy hand hat hill home horse ice jam king lake lamp leaf lion milk moon nest night nose park pen pig queen "
    "rain ring river road rock rose sand school sea ship shoe snow song star stone table tea time town toy train "
    "wall wind winter wolf wood yellow zebra garden flower music summer window butter cheese cloud dance dream earth "
    "friend grass happy heart honey light mouse north ocean paper piano plant plate quick quiet sheep sleep smile "
    "spoon storm story sugar sweet tiger train uncle voice watch white world young"
)


def plural(noun: str, count: int = 2) -> str:
    """`1 box`, `2 boxes`: the form of a noun of COUNTED for a count."""
    if count == 1:
        return noun
    if noun == "leaf":
        return "leaves"
    return noun + ("es" if noun[-1] in "xo" else "s")
