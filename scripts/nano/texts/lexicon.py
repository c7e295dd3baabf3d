"""Words and the words that go with them: opposites, plurals, past tenses, synonyms, rhymes, order."""

from texts.grammar import word_list
from texts.tables import pairs

OPPOSITES = pairs("""
    hot: cold, big: small, up: down, day: night, fast: slow, happy: sad, old: young, rich: poor, full: empty,
    open: closed, hard: soft, long: short, wet: dry, light: dark, good: bad, high: low, near: far, left: right,
    clean: dirty, early: late, strong: weak, loud: quiet, thick: thin, wide: narrow, true: false, begin: end,
    buy: sell, push: pull, win: lose, love: hate, inside: outside, above: below, before: after, always: never,
    first: last, front: back, deep: shallow, sharp: blunt, smooth: rough, sweet: sour, tall: short, brave: cowardly,
    friend: enemy, peace: war, question: answer, laugh: cry, come: go, give: take, rise: fall, sink: float,
    asleep: awake, north: south, east: west, summer: winter, morning: evening, yes: no, more: less,
    everything: nothing, safe: dangerous, easy: difficult, kind: unkind, polite: rude, cheap: expensive,
    remember: forget
""")
PLURALS = pairs("""
    man: men, woman: women, child: children, mouse: mice, foot: feet, tooth: teeth, goose: geese, ox: oxen,
    leaf: leaves, wolf: wolves, knife: knives, wife: wives, life: lives, shelf: shelves, half: halves, loaf: loaves,
    calf: calves, baby: babies, city: cities, lady: ladies, story: stories, fly: flies, cherry: cherries,
    puppy: puppies, box: boxes, fox: foxes, bus: buses, glass: glasses, dish: dishes, watch: watches,
    church: churches, potato: potatoes, tomato: tomatoes, hero: heroes, cat: cats, dog: dogs, tree: trees,
    book: books, house: houses, day: days, boy: boys, key: keys, sheep: sheep, deer: deer, thief: thieves,
    family: families, country: countries, berry: berries, bench: benches, dress: dresses, brush: brushes,
    peach: peaches
""")
PASTS = pairs("""
    go: went, see: saw, eat: ate, run: ran, come: came, give: gave, take: took, make: made, write: wrote,
    drink: drank, sing: sang, swim: swam, begin: began, break: broke, speak: spoke, buy: bought, bring: brought,
    think: thought, catch: caught, teach: taught, find: found, sleep: slept, keep: kept, leave: left, feel: felt,
    tell: told, sell: sold, stand: stood, sit: sat, win: won, fly: flew, grow: grew, know: knew, throw: threw,
    draw: drew, fall: fell, hold: held, hear: heard, lose: lost, pay: paid, say: said, send: sent, build: built,
    walk: walked, play: played, jump: jumped, look: looked, help: helped, stop: stopped, carry: carried, try: tried,
    cry: cried, be: was, have: had, do: did, ride: rode, drive: drove, rise: rose, choose: chose, forget: forgot,
    meet: met, lead: led, hide: hid
""")
SYNONYMS = pairs("""
    big: large, small: little, happy: glad, sad: unhappy, fast: quick, begin: start, end: finish, shut: close,
    quiet: silent, sick: ill, angry: cross, clever: smart, rich: wealthy, brave: bold, hard: difficult,
    easy: simple, afraid: scared, look: watch, speak: talk, jump: leap, gift: present, stone: rock, forest: wood,
    road: street, ship: boat, pretty: beautiful, wonderful: marvellous, correct: right, odd: strange, tired: weary,
    shout: yell, repair: mend, reply: answer, choose: pick, build: construct, hurry: rush, error: mistake,
    famous: well-known, funny: amusing
""")
RHYMES = pairs("""
    cat: hat, dog: log, sun: run, tree: bee, house: mouse, cake: lake, night: light, day: play, star: car,
    ring: king, bed: red, book: cook, moon: spoon, fish: dish, ball: wall, rain: train, snow: grow, bell: well,
    fox: box, bear: chair, boat: coat, hill: mill, nest: best, sand: hand, pen: hen, mice: rice, sheep: sleep,
    duck: truck
""")
FEMALES = pairs("""
    king: queen, prince: princess, man: woman, boy: girl, father: mother, brother: sister, son: daughter,
    uncle: aunt, grandfather: grandmother, husband: wife, rooster: hen, bull: cow, actor: actress, nephew: niece,
    lion: lioness
""")
GROUPS = pairs("""
    sheep: flock, cows: herd, bees: swarm, wolves: pack, fish: school, birds: flock, lions: pride, puppies: litter,
    soldiers: army, players: team, singers: choir, ships: fleet, cards: deck, flowers: bunch, elephants: herd,
    geese: gaggle, stars: galaxy
""")
DAYS = word_list("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = word_list("January February March April May June July August September October November December")
MONTH_LENGTHS = dict(zip(MONTHS, (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)))
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PLANETS = word_list("Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune")
# From small to big, with steps so wide that nobody would argue.
BY_SIZE = (
    "an ant",
    "a bee",
    "a mouse",
    "a rabbit",
    "a dog",
    "a pony",
    "a horse",
    "an elephant",
    "a whale",
    "a mountain",
)
BY_SPEED = ("a snail", "a child on foot", "a bicycle", "a train", "a plane", "a rocket")
BY_WEIGHT = ("a feather", "an egg", "a brick", "a chair", "a piano", "a car", "a ship")
BY_HEAT = ("ice", "cold water", "warm milk", "boiling water", "a fire", "the sun")
