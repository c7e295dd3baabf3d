"""Plots of short stories: each a row of sentences with choices, told of {x}, perhaps with {y}.

Slots: x, y names; he, He, his, His, him for x; she, her for y; pet, wild: animals; kin: one of the family; thing,
colour, size, flower (a colour), food, other (food), place, wilds, room, shed, spot and outside (where things lie). A
plot is one story from its first sentence to its last.
"""

PLOTS = (
    (
        "[One day|One morning|On a sunny afternoon|Last week], {x} could not find {his} {colour} {thing}.",
        "[{He} looked in {room}, but it was not there.|{He} looked everywhere in {room}.|First {he} searched {room}.]",
        "[Then {he} asked {his} {kin}.|{He} asked {his} {kin} for help.|{His} {kin} came to help.]",
        '["Did you look {spot}?" asked {his} {kin}.|"Perhaps it is {spot}," said {his} {kin}.]',
        "[{x} looked, and there it was, {spot}!|The {thing} was {spot}!|{x} ran to look. The {thing} lay {spot}.]",
        "[{x} was very happy.|{He} laughed and said thank you.|After that, {x} always put the {thing} away with care.]",
    ),
    (
        "[{x} had a {size} {pet}.|There was a {size} {pet} that belonged to {x}.|{x} loved {his} {size} {pet}.]",
        "[Every morning|Every day|Each evening] they went out to {wilds} together.",
        "[One day|Once], the {pet} ran away [after a bird|when it heard a loud noise|because a door was open].",
        "[{x} was sad and called its name.|{x} called and called.|{x} looked for it [until dark|all day].]",
        "[At last|In the end|When it was nearly dark], {y} found the {pet} {outside}.",
        '["Here is your {pet}," said {y}.|{y} brought it back.|"Look who I found!" said {y}.]',
        "[{x} hugged the {pet} and gave {y} some {food}.|{x} thanked {y} with all {his} heart.|They were happy again.]",
    ),
    (
        "[{x} and {y} wanted to play in {place}.|{x} and {y} planned a trip to {place}.|"
        "{x} and {y} were on the way to {place}.]",
        "[But it began to rain.|Then dark clouds came, and it rained.|Suddenly it rained hard.]",
        '["What shall we do?" asked {x}.|"Oh no," said {x}. "We will get wet."|{x} was sad.]',
        '["Let us stay in {room}," said {y}.|{y} had an idea. "We can play in {room}."]',
        "[They built a house of [boxes|blankets|chairs].|They drew pictures of {place}.|They baked a cake.|"
        "They read a story together.]",
        "[When the sun came out, they did not want to stop.|It was the best day of the week.|"
        "In the evening the rain stopped.]",
    ),
    (
        "[It was {x}'s birthday.|Today was {x}'s birthday.|The birthday of {x} came at last.]",
        "{His} {kin} gave {him} a {colour} box.",
        "[{x} opened it quickly.|{x} opened it with care.|{x} shook it and wondered what it was.]",
        "[Inside was a {size} {thing}!|In the box there was a {size} {thing}.|There was a {size} {thing} inside.]",
        '["Thank you!" said {x}. "I always wanted a {thing}."|{x} jumped for joy.|{x} smiled from ear to ear.]',
        "[{He} showed the {thing} to {y}.|That night the {thing} lay beside {his} bed.|"
        "{x} and {y} played with it all day.]",
    ),
    (
        "[On the way home|On a walk in {wilds}|Near {wilds}], {x} saw a {size} {wild}.",
        "[The {wild} had hurt its leg.|The {wild} was hungry.|The {wild} was cold and afraid.]",
        "[{x} spoke softly and came near.|{x} sat down beside it.|{x} did not want to frighten it.]",
        "[{He} gave it some {food}.|{He} put {his} coat over it.|{He} carried it home with care.]",
        "[After some days the {wild} was well again.|Soon the {wild} felt better.]",
        "[Then it went back to {wilds}.|It looked at {x} once more and went away.]",
        "[{x} never forgot the {wild}.|{x} waved for a long time.|Now and then it came back to see {x}.]",
    ),
    (
        "[{x} was hungry.|{x} wanted to cook for {his} {kin}.|{x} came home hungry from {place}.]",
        "[{He} went into the kitchen and looked for {food}.|In the kitchen {he} found some {food}.]",
        "[But there was no {other}.|There was only a little {other}.|But the {other} was all gone.]",
        "[So {he} went to the market.|So {he} asked {y}.|{y} lived next door and had plenty.]",
        "[{y} gave {him} some {other}.|There {he} met {y}, who gave {him} some {other}.]",
        "[They cooked together and had {food} and {other}.|{x} cooked a meal of {food} and {other}, and they shared "
        "it.]",
        '[It tasted very good.|Nobody was hungry any more.|"The best meal of my life," said {y}.]',
    ),
    (
        "[{x} planted a {size} seed in the garden.|In spring {x} put a seed into the ground.]",
        "[Every day {he} gave it water.|{He} watered it each morning.]",
        "[For a long time nothing happened.|At first there was nothing to see.]",
        '["Be patient," said {his} {kin}.|{His} {kin} said that a plant needs time.]',
        "[One morning there was a {size} green leaf.|Then a green leaf came out of the ground.]",
        "[In summer there was a {flower} flower.|The plant grew and grew and had a {flower} flower.]",
        "[{x} was proud of it.|{x} showed it to {y}.|Bees came to visit it.]",
    ),
    (
        "{x} and {y} [ran a race to {place}|had a race|wanted to know who was faster].",
        "[{y} was fast and ran ahead.|At first {y} was in front.|{y} started like the wind.]",
        "[But {y} stopped to [rest|look at a {wild}|drink some water].|Then {y} fell over a stone.]",
        "[{x} ran on without a stop.|{x} was slow but did not give up.|{x} saw it and ran on.]",
        "[So {x} came first.|In the end {x} won the race.|{x} was the first to arrive.]",
        '["Well done," said {y}.|They shook hands and laughed.|"Next time I will not stop," said {y}.]',
    ),
    (
        "[{x} was afraid of the dark.|At night {x} could not sleep.|One night {x} heard a noise.]",
        "[Something made a noise {spot}.|There was a strange sound {spot}.|{He} thought that something moved {spot}.]",
        "[{He} called {his} {kin}.|{He} pulled the blanket over {his} head.|{He} took a lamp and looked.]",
        "[It was only a {size} cat!|But it was only the wind.|There sat a {size} {wild} and looked at {him}.]",
        '[{x} laughed.|Then {x} was not afraid any more.|"So it was you," said {x}.]',
        "[Soon {he} was asleep.|After that {he} slept well.|{He} went back to bed and slept till morning.]",
    ),
    (
        "{x} [wanted to build a {size} boat|made a kite of {colour} paper|wanted to build a house for birds].",
        "[{He} worked all day in the {shed}.|{He} took wood, nails and a hammer.|{He} began early in the morning.]",
        "[But it broke.|At first it did not work.|The first one fell apart.]",
        '["Try again," said {his} {kin}.|{y} showed {him} how to do it.|{He} was sad, but {he} tried again.]',
        "[The second one was better.|This time it held.|Now it was strong.]",
        "[They took it to {place}, and everyone looked.|{x} and {y} took it to {place}.|{x} was proud.]",
    ),
    (
        "[{x} found a {thing} near {place}.|Near {place} {x} saw a {colour} {thing} on the ground.]",
        '[It did not belong to {him}.|"Whose {thing} is this?" {he} asked.]',
        "[{He} asked a man, but the man shook his head.|{He} waited for a while, but nobody came.]",
        "[Then {he} saw {y}, who was crying.|Then {y} came and looked for something.]",
        '"Is this your {thing}?" asked {x}.',
        '["Yes! Thank you," said {y}.|{y} was so glad that {she} danced.]',
        "[From that day they were friends.|So {x} and {y} became friends.|{y} gave {x} some {food}.]",
    ),
    (
        "[{x} had some {food}, but {y} had nothing to eat.|At noon {x} ate {food}. {y} had forgotten to bring food.]",
        "[{y} looked sad.|{y} said nothing.|{y} was hungry.]",
        "[{x} saw it.|{x} thought for a moment.|{x} knew what it is like to be hungry.]",
        '["Take half of it," said {x}.|{He} gave half of it to {y}.]',
        '["You are kind," said {y}.|{y} smiled and ate.]',
        "[The next day {y} brought {other} for both of them.|The next day {y} shared {her} {other} with {x}.]",
    ),
    (
        "[{x} lived near {place} with {his} {kin}.|{x} and {his} {kin} lived in a {size} house near {place}.]",
        "[Every morning {he} fed the hens.|Each day {he} helped in the garden.|In the morning {he} carried water.]",
        "[One day {his} {kin} was ill.|One winter {his} {kin} became ill.]",
        "[{x} made soup and tea.|{x} went to fetch the doctor.|{x} sat by the bed and read a story.]",
        "[After a week {his} {kin} was well again.|Soon {his} {kin} could get up.]",
        '["You took good care of me," said {his} {kin}.|"Thank you, {x}," said {his} {kin}.]',
    ),
    (
        "[{x} and {y} went for a walk to {wilds}.|One Sunday {x} and {y} went to {wilds}.]",
        "[They took {food} and {other} with them.|In the bag they had {food} and {other}.]",
        "[They saw a {size} {wild} there.|There they saw a {colour} boat and a {size} {wild}.]",
        '["Look!" said {x}. "It is looking at us."|{x} wanted to go nearer, but {y} said no.]',
        "[They sat in the grass and ate.|At noon they ate the {food}.]",
        "[In the evening they were tired and happy.|When they came home, it was dark.]",
    ),
    (
        "[{x} went to the market with {his} {kin}.|It was market day, and {x} went along with {his} {kin}.]",
        "[They wanted to buy {food} and {other}.|On the list stood {food} and {other}.]",
        "[First they bought the {food}.|The {food} was easy to find.]",
        "[But where was the {other}?|Then they looked for the {other}.]",
        '["Ask the old man over there," said {y}.|{y} showed them the way.]',
        "[The {other} was [cheap|fresh|very good].|The old man gave them the best {other} he had.]",
        "[{x} carried the basket home.|On the way home {x} carried the heavy bag.]",
    ),
    (
        "[{x} wanted to learn to [swim|ride a bicycle|play the flute|read].|{x} could not [swim|ride a bicycle|"
        "sing] yet.]",
        '[{His} {kin} said, "I will teach you."|{y} offered to help.]',
        "[The first day was hard.|On the first day nothing went well.|At first it was not easy.]",
        '[{x} wanted to stop, but {he} went on.|{x} tried again and again.|"I cannot do it," said {x}.]',
        "[After a week it went better.|Each day it became a little easier.|Then, one day, it worked.]",
        '[Now {x} could do it alone.|"Look at me!" cried {x}.|{x} was proud and happy.]',
    ),
    (
        "[It was winter, and snow lay on {place}.|In the night it had snowed.|The first snow fell on {place}.]",
        "[{x} put on a {colour} coat and went out.|{x} and {y} ran outside.]",
        "[They made a big snowman.|{y} threw a snowball, and {x} threw one back.|"
        "{x} and {y} rolled the snow into balls.]",
        "[For a nose it had a carrot.|They gave the snowman a {colour} scarf.|The snowman got an old hat.]",
        "[Soon their hands were cold.|After an hour they were wet and cold.]",
        "[{His} {kin} made hot tea for them.|Inside there was hot soup for everyone.|"
        "They went in and sat by the fire.]",
    ),
    (
        "[{x} and {y} were angry with each other.|{x} and {y} did not speak to each other.]",
        "[{x} had broken {y}'s {thing}.|{y} thought that {x} had taken the {colour} {thing}.|"
        "Both wanted the same {thing}.]",
        '[{x} sat alone and thought.|"You should talk," said {his} {kin}.]',
        "[So {x} went to {y}'s house.|The next day {x} knocked at {y}'s door.]",
        '["I am sorry," said {x}.|"Let us be friends again," said {x}.]',
        '["I am sorry too," said {y}.|{y} smiled and opened the door wide.|"Come in," said {y}.]',
        "[They shared some {food}.|They played till evening.|From then on they shared the {thing}.]",
    ),
)
