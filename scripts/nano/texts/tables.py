"""Small true facts of the world as tables: what belongs to what."""


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """`a: b, c: d` as ((a, b), (c, d))."""
    rows = (entry.split(":") for entry in text.replace("\n", " ").split(","))
    return tuple((" ".join(a.split()), " ".join(b.split())) for a, b in rows)


CAPITALS = pairs("""
    France: Paris, Italy: Rome, Spain: Madrid, Germany: Berlin, Japan: Tokyo, China: Beijing, Egypt: Cairo,
    Greece: Athens, Portugal: Lisbon, England: London, Scotland: Edinburgh, Wales: Cardiff, Ireland: Dublin,
    Norway: Oslo, Sweden: Stockholm, Denmark: Copenhagen, Finland: Helsinki, Iceland: Reykjavik, Poland: Warsaw,
    Austria: Vienna, Hungary: Budapest, Russia: Moscow, Turkey: Ankara, India: New Delhi, Canada: Ottawa,
    Cuba: Havana, Peru: Lima, Chile: Santiago, Argentina: Buenos Aires, Kenya: Nairobi, Morocco: Rabat,
    Thailand: Bangkok, Vietnam: Hanoi, South Korea: Seoul, Australia: Canberra, New Zealand: Wellington,
    Belgium: Brussels, Romania: Bucharest, Bulgaria: Sofia, Serbia: Belgrade, Croatia: Zagreb, Iran: Tehran,
    Iraq: Baghdad, Ethiopia: Addis Ababa, Ghana: Accra, Nepal: Kathmandu, Mexico: Mexico City, Jordan: Amman,
    Lebanon: Beirut, Syria: Damascus, Colombia: Bogota, Venezuela: Caracas, Uruguay: Montevideo, Latvia: Riga,
    Estonia: Tallinn, Lithuania: Vilnius, Albania: Tirana, Libya: Tripoli, Tunisia: Tunis, Uganda: Kampala
""")
CONTINENTS = pairs("""
    France: Europe, Italy: Europe, Spain: Europe, Germany: Europe, Greece: Europe, Portugal: Europe, Poland: Europe,
    Norway: Europe, Sweden: Europe, Austria: Europe, Ireland: Europe, Japan: Asia, China: Asia, India: Asia,
    Thailand: Asia, Vietnam: Asia, Nepal: Asia, Iran: Asia, Egypt: Africa, Kenya: Africa, Morocco: Africa,
    Ethiopia: Africa, Ghana: Africa, Uganda: Africa, Libya: Africa, Canada: North America, Mexico: North America,
    Cuba: North America, Peru: South America, Chile: South America, Argentina: South America, Brazil: South America,
    Colombia: South America, Uruguay: South America
""")
LANGUAGES = pairs("""
    France: French, Italy: Italian, Spain: Spanish, Germany: German, Japan: Japanese, China: Chinese,
    England: English, Greece: Greek, Portugal: Portuguese, Russia: Russian, Poland: Polish, Sweden: Swedish,
    Norway: Norwegian, Denmark: Danish, Hungary: Hungarian, Turkey: Turkish, Egypt: Arabic, Brazil: Portuguese,
    Mexico: Spanish, Austria: German, Thailand: Thai, Vietnam: Vietnamese, Argentina: Spanish, Iceland: Icelandic
""")
SOUNDS = pairs("""
    dog: woof, cat: meow, cow: moo, duck: quack, bee: buzz, sheep: baa, horse: neigh, pig: oink, hen: cluck,
    rooster: cock-a-doodle-doo, owl: hoot, frog: croak, snake: hiss, mouse: squeak, donkey: hee-haw, crow: caw,
    turkey: gobble, dove: coo, chick: cheep
""")
YOUNG = pairs("""
    dog: puppy, cat: kitten, cow: calf, sheep: lamb, horse: foal, pig: piglet, hen: chick, duck: duckling,
    goose: gosling, swan: cygnet, goat: kid, lion: cub, bear: cub, frog: tadpole, deer: fawn, kangaroo: joey,
    owl: owlet, eagle: eaglet, butterfly: caterpillar, elephant: calf, wolf: cub, hare: leveret
""")
HOMES = pairs("""
    dog: kennel, bird: nest, bee: hive, horse: stable, pig: sty, spider: web, rabbit: burrow, lion: den, bear: den,
    fox: den, hen: coop, mole: burrow, beaver: lodge, cow: barn, ant: anthill, goldfish: bowl, squirrel: tree
""")
EATS = pairs("""
    cow: grass, sheep: grass, horse: grass and hay, rabbit: grass and leaves, cat: meat and fish, lion: meat,
    tiger: meat, wolf: meat, panda: bamboo, squirrel: nuts, monkey: fruit, giraffe: leaves, koala: leaves,
    frog: insects, spider: insects, owl: mice, seal: fish, penguin: fish, pelican: fish, caterpillar: leaves,
    hen: grain, zebra: grass, elephant: grass and leaves, goat: grass and leaves, eagle: small animals, mole: worms
""")
LEGS = pairs("""
    dog: four, cat: four, cow: four, horse: four, sheep: four, pig: four, lion: four, mouse: four, elephant: four,
    fox: four, bear: four, hen: two, duck: two, owl: two, eagle: two, crow: two, goose: two, ant: six, bee: six,
    fly: six, beetle: six, butterfly: six, spider: eight, snake: no, worm: no, fish: no, snail: no, frog: four,
    turtle: four
""")
COVERED = pairs("""
    bird: feathers, hen: feathers, owl: feathers, duck: feathers, swan: feathers, fish: scales, snake: scales,
    cat: fur, dog: fur, bear: fur, fox: fur, rabbit: fur, sheep: wool, wolf: fur, mouse: fur, squirrel: fur,
    eagle: feathers, salmon: scales
""")
CLASSES = pairs("""
    dog: mammal, cat: mammal, cow: mammal, whale: mammal, lion: mammal, horse: mammal, elephant: mammal,
    eagle: bird, hen: bird, owl: bird, duck: bird, penguin: bird, swan: bird, salmon: fish, trout: fish,
    shark: fish, tuna: fish, snake: reptile, lizard: reptile, turtle: reptile, crocodile: reptile, ant: insect,
    bee: insect, fly: insect, beetle: insect, butterfly: insect, frog: amphibian, toad: amphibian, mouse: mammal,
    bat: mammal, dolphin: mammal
""")
COLOURS = pairs("""
    the sky on a clear day: blue, grass: green, snow: white, coal: black, a lemon: yellow, blood: red, milk: white,
    a ripe banana: yellow, a carrot: orange, salt: white, a leaf in spring: green, the sun: yellow, a crow: black,
    a ripe tomato: red, chocolate: brown, a flamingo: pink, a polar bear: white, a frog: green, a pea: green,
    an elephant: grey, the night sky: black, a fire engine: red, a ripe strawberry: red, sugar: white,
    spinach: green, a swan: white, a raven: black, rice: white, soil: brown, an emerald: green, a ruby: red,
    the yolk of an egg: yellow, a cucumber: green, a ripe pumpkin: orange, honey: gold, ash: grey
""")
MATERIALS = pairs("""
    a window: glass, a book: paper, a newspaper: paper, a nail: metal, a coin: metal, a tyre: rubber,
    a shoe: leather, a candle: wax, a brick: clay, a sweater: wool, bread: flour, cheese: milk, butter: milk,
    wine: grapes, a log: wood, a mirror: glass, a bottle: glass, a door: wood, a desk: wood, a horseshoe: iron,
    a statue: stone, a rubber band: rubber, a snowman: snow, an igloo: snow, a flower pot: clay,
    chocolate: cocoa beans, jam: fruit, an omelette: eggs
""")
BODY = pairs("""
    see: eyes, hear: ears, smell: nose, taste: tongue, walk: legs, think: brain, bite: teeth, kick: feet,
    wave: hands, breathe: lungs, chew: teeth, hug: arms
""")
TOOLS = pairs("""
    cut wood: saw, cut paper: pair of scissors, drive in a nail: hammer, dig a hole: spade, sweep the floor: broom,
    paint a wall: brush, write a letter: pen, tell the time: clock, measure a room: ruler, open a lock: key,
    eat soup: spoon, comb hair: comb, brush teeth: toothbrush, sew a button: needle, take a picture: camera,
    see the stars: telescope, light a dark room: lamp, keep off the rain: umbrella, cut bread: knife,
    boil water: kettle, chop down a tree: axe, turn a screw: screwdriver, water the plants: watering can,
    dry your hands: towel, wash your hands: bar of soap, bake a cake: oven, keep food cold: fridge,
    find north: compass, iron a shirt: iron, weigh flour: scale, mow the lawn: lawn mower,
    catch a fish: fishing rod, call a friend: telephone, look up a word: dictionary,
    measure the heat of a room: thermometer
""")
JOBS = pairs("""
    baker: bakes bread, teacher: teaches children, doctor: helps sick people, farmer: grows food,
    pilot: flies a plane, cook: makes meals, painter: paints pictures, writer: writes books, singer: sings songs,
    dancer: dances, gardener: looks after a garden, carpenter: makes things of wood, tailor: makes clothes,
    barber: cuts hair, dentist: looks after teeth, butcher: sells meat, judge: works in a court,
    nurse: cares for sick people, sailor: sails on ships, fisherman: catches fish, firefighter: puts out fires,
    librarian: looks after books, plumber: mends pipes, miner: digs for coal, shepherd: looks after sheep,
    astronomer: studies the stars, soldier: serves in an army, vet: helps sick animals,
    driver: drives a car or a bus, actor: plays in films, builder: builds houses, postman: brings letters,
    waiter: brings food to the table, beekeeper: keeps bees
""")
PLACES = pairs("""
    buy bread: bakery, borrow a book: library, see animals: zoo, catch a train: station, buy meat: butcher's shop,
    learn to read: school, see a film: cinema, see old things: museum, swim: swimming pool,
    post a letter: post office, keep money: bank, see a doctor: hospital, catch a plane: airport,
    buy medicine: pharmacy, watch a play: theatre, grow vegetables: garden, cook dinner: kitchen, sleep: bedroom,
    take a bath: bathroom, park a car: garage, see a king: palace, pray: church, eat a meal out: restaurant,
    stay on a journey: hotel
""")
AUTHORS = pairs("""
    Hamlet: William Shakespeare, Romeo and Juliet: William Shakespeare, Oliver Twist: Charles Dickens,
    Treasure Island: Robert Louis Stevenson, Alice in Wonderland: Lewis Carroll, Peter Pan: J. M. Barrie,
    Emma: Jane Austen, Don Quixote: Miguel de Cervantes, War and Peace: Leo Tolstoy, Moby-Dick: Herman Melville,
    The Jungle Book: Rudyard Kipling, Robinson Crusoe: Daniel Defoe, The Time Machine: H. G. Wells,
    Frankenstein: Mary Shelley, The Secret Garden: Frances Hodgson Burnett, Tom Sawyer: Mark Twain,
    Heidi: Johanna Spyri
""")
SHAPES = pairs("""
    triangle: three, square: four, rectangle: four, pentagon: five, hexagon: six, octagon: eight, heptagon: seven
""")
AMOUNTS = pairs("""
    minutes are in an hour: 60, seconds are in a minute: 60, hours are in a day: 24, days are in a week: 7,
    months are in a year: 12, days are in a year: 365, weeks are in a year: 52, eggs are in a dozen: 12,
    letters are in the alphabet: 26, fingers are on one hand: 5, legs are on a chair: 4, wheels are on a bicycle: 2,
    wheels are on a car: 4, years are in a century: 100, seasons are in a year: 4, centimetres are in a metre: 100,
    metres are in a kilometre: 1000, grams are in a kilogram: 1000, years are in a decade: 10,
    wheels are on a tricycle: 3, strings are on a violin: 4, days are in a leap year: 366, toes are on two feet: 10,
    planets are in our solar system: 8, arms are on an octopus: 8, sides are on a cube: 6,
    letters are in the word cat: 3
""")
