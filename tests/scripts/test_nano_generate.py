"""The texts nano is trained on are true, are plain ASCII, keep their examination out, and are the same every time."""

import json
import random
import re
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import pytest

from swiftlite.data.formats import convert_row

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "nano" / "generate.py"
EMBEDDED = ROOT / "swiftlite" / "data" / "embedded"
sys.path.insert(0, str(SCRIPT.parent))

import generate  # noqa: E402
from texts import grammar, knowledge, numbers  # noqa: E402

# What only demo.jsonl teaches (swiftlite/data/embedded/facts.py).
DEMO_WORDS = (
    "zib barnacle quill juniper vane walrus saffron seaweed pancakes biscuit pickles copper rust juggle volcano tipsy "
    "comets"
)
# A list of its own, to check in_words against.
SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
VALUES = {word: n for n, word in enumerate(SMALL.split())}
VALUES |= {word: 10 * n for n, word in enumerate(TENS.split(), start=2)}


def value(words):
    """The number that English words say."""
    total = 0
    for word in words.replace("-", " ").replace(" and ", " ").split():
        total = total * 100 if word == "hundred" else total + VALUES[word]
    return total


def option_of(answer):
    """The line of the question that an answer such as `Berlin (D)` names: `D. Berlin`."""
    word, letter = re.fullmatch(r"(.+) \(([A-D])\)", answer).groups()
    return f"{letter}. {word}"


def lines(rows):
    return [json.loads(line) for line in rows[0].splitlines()]


@pytest.fixture(scope="module")
def texts():
    """The text of 10,000 documents."""
    return [row["text"] for chunk in range(10) for row in lines(generate.document_rows(1, (chunk, 1000)))]


@pytest.fixture(scope="module")
def chats():
    """10,000 conversations."""
    return [row for chunk in range(10) for row in lines(generate.chat_rows(1, (chunk, 1000)))]


@pytest.fixture(scope="module")
def turns(chats):
    """(question, answer) of every turn."""
    found = []
    for row in chats:
        contents = [message["content"] for message in row["messages"]]
        found += zip(contents[::2], contents[1::2])
    return found


@pytest.fixture(scope="module")
def everything(texts, turns):
    return "\n".join([*texts, *(f"{question}\n{answer}" for question, answer in turns)])


@pytest.fixture(scope="module")
def examination():
    return [json.loads(line) for line in (EMBEDDED / "nano-eval.jsonl").read_text(encoding="utf-8").splitlines()]


def kept(key):
    """The rule of the hold-out, written again."""
    return int.from_bytes(blake2b(key.encode(), digest_size=4).digest(), "big") % 20 == 0


def run(folder, *options):
    command = [sys.executable, str(SCRIPT), "--output", str(folder), "--documents", "2300", "--conversations", "1100"]
    subprocess.run([*command, *options], check=True, capture_output=True)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_files_do_not_depend_on_the_number_of_processes(tmp_path):
    alone, shared = run(tmp_path / "a", "--processes", "1"), run(tmp_path / "b", "--processes", "3")
    assert sorted(alone) == ["chat.jsonl", "pretrain.jsonl", "skills-eval.jsonl"]
    assert alone == shared


def test_the_files_have_the_rows_asked_for(tmp_path):
    written = run(tmp_path, "--processes", "2")
    counts = {name: content.count(b"\n") for name, content in written.items()}
    assert counts == {"pretrain.jsonl": 2300, "chat.jsonl": 1100, "skills-eval.jsonl": 200}


def test_chunks_differ_and_seeds_differ():
    first = generate.document_rows(1, (0, 50))[0]
    assert first != generate.document_rows(1, (1, 50))[0]
    assert first != generate.document_rows(2, (0, 50))[0]


def test_the_embedded_examination_is_what_the_script_makes():
    made = "".join(json.dumps(row) + "\n" for row in generate.skill_rows(42))
    assert (EMBEDDED / "nano-eval.jsonl").read_text(encoding="utf-8") == made


def test_all_is_ascii_without_unfilled_slots(everything):
    assert everything.isascii()
    assert not set("{}[]|_") & set(everything)


def test_texts_are_varied(texts):
    assert len(set(texts)) > 0.98 * len(texts)


def test_no_double_spaces_nor_stray_ends(everything):
    assert "  " not in everything
    assert not re.search(r"[^=] [.,?!]|\.\.(?!\.)|,\.|\?\.|[a-z] \n", everything.replace(", ...", ""))


@pytest.mark.parametrize(
    ("sign", "at_least"),
    [("+", 4500), ("-", 3000), ("x", 2000), ("/", 1000)],
    ids=["sum", "difference", "product", "share"],
)
def test_what_is_calculated_is_true(everything, sign, at_least):
    calculate = {"+": int.__add__, "-": int.__sub__, "x": int.__mul__, "/": int.__floordiv__}[sign]
    said = re.findall(rf"(?<![\d-])(\d+) {re.escape(sign)} (\d+) = (\d+)", everything)
    assert len(said) > at_least
    assert not [row for row in said if calculate(int(row[0]), int(row[1])) != int(row[2])]


@pytest.mark.parametrize(
    ("words", "calculate"),
    [
        ("plus", int.__add__),
        ("minus", int.__sub__),
        ("take away", int.__sub__),
        ("times", int.__mul__),
        ("divided by", int.__floordiv__),
    ],
)
def test_what_is_calculated_in_words_is_true(everything, words, calculate):
    digits = re.findall(rf"(\d+) {words} (\d+) is (\d+)", everything)
    spelled = re.findall(rf"(?m)(?:^|[.\n] )([A-Z][a-z -]+?) {words} ([a-z -]+) is ([a-z -]+)\.", everything)
    assert len(digits) > 50
    assert all(calculate(int(a), int(b)) == int(c) for a, b, c in digits)
    assert all(calculate(value(a.lower()), value(b)) == value(c) for a, b, c in spelled)


def test_what_is_compared_is_true(everything):
    more = re.findall(r"(\d+) is (?:bigger than|more than|a larger number than) (\d+)", everything)
    less = re.findall(r"(\d+) is (?:smaller|less) than (\d+)", everything)
    more += re.findall(r"(\d+) > (\d+)", everything)
    less += re.findall(r"(\d+) < (\d+)", everything)
    assert len(more) > 1000
    assert len(less) > 700
    # A question, `Which number is two more than 7?`, is no comparison: its number is a word.
    assert not [pair for pair in more if int(pair[0]) <= int(pair[1])]
    assert not [pair for pair in less if int(pair[0]) >= int(pair[1])]


def test_numbers_in_words():
    assert [value(numbers.in_words(n)) for n in range(1000)] == list(range(1000))
    assert numbers.in_words(342) == "three hundred and forty-two"


def test_numbers_in_words_are_said_right(everything):
    said = re.findall(r"(\d+) in words is ([a-z -]+)\.", everything)
    assert len(said) > 200
    assert all(value(words) == int(number) for number, words in said)


def test_odd_and_even(everything):
    said = re.findall(r"(\d+) is (?:an )?(odd|even)", everything)
    assert len(said) > 200
    assert all((int(number) % 2 == 1) == (kind == "odd") for number, kind in said)


def test_word_problems_end_in_what_their_steps_give(everything):
    steps = re.findall(r"= (\d+)(?: coins| \w+)?\. The answer is (\d+)", everything)
    assert len(steps) > 800
    assert all(result == answer for result, answer in steps)


def test_spelling(turns):
    spelled = [(question, answer) for question, answer in turns if re.fullmatch(r"\w(-\w)+\.", answer)]
    assert len(spelled) > 100
    for question, answer in spelled:
        assert answer[:-1].replace("-", "") in question


def test_a_choice_is_answered_by_one_of_its_options(turns):
    asked = [(question, answer) for question, answer in turns if "\nA. " in question]
    assert len(asked) > 500
    for question, answer in asked:
        assert option_of(answer) in question.split("\n")[1:]
    assert {option_of(answer)[0] for _, answer in asked} == set("ABCD")


def test_a_choice_in_a_document_is_answered_by_one_of_its_options(texts):
    asked = re.findall(r"((?:\n\(?[A-D][.)] .+){4})\n(?:Answer: |The right answer is )(.+)", "\n\n".join(texts))
    assert len(asked) > 1000
    for shown, answer in asked:
        options = [line.replace("(", "").replace(")", ".") for line in shown.strip().split("\n")]
        named = answer.removesuffix(".")
        assert (option_of(named) if named.endswith(")") else named) in [*options, *(line[3:] for line in options)]


# Written by hand, from no table of the generator's.
SURE = {
    "fruit": "apple pear plum banana grape cherry peach melon mango apricot fig",
    "bird": "owl eagle sparrow robin swan crow pigeon hawk penguin parrot ostrich",
    "colour": "red blue green yellow purple pink brown grey",
    "season": "spring summer autumn winter",
    "planet": "Mars Venus Saturn Jupiter Neptune Uranus",
}


@pytest.mark.parametrize("name", SURE)
def test_only_the_right_option_belongs_to_the_category(turns, name):
    members = set(SURE[name].split())
    found = 0
    for question, answer in turns:
        match = re.fullmatch(rf"(?:.*: )?(.*) an? {name}([?.])\n(.*)", question, re.DOTALL)
        if not match:
            continue
        options = {line[3:] for line in match[3].split("\n")}
        right = options - members if " not " in match[1] + " " else options & members
        assert right == {option_of(answer)[3:]}, question
        found += 1
    assert found > 10


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("capital of France", "The capital of France is Paris."),
        ("capital of Japan", "The capital of Japan is Tokyo."),
        ("opposite of hot", "The opposite of hot is cold."),
        ("plural of child", "The plural of child is children."),
        ("past tense of go", "The past tense of go is went."),
        ("after Friday", "After Friday comes Saturday."),
        ("legs does a spider", "A spider has eight legs."),
        ("Who wrote Hamlet", "William Shakespeare wrote Hamlet."),
    ],
)
def test_well_known_facts(question, answer):
    rng = random.Random(0)
    asked = [knowledge.ask_fact(rng) for _ in range(20_000)]
    assert {said for words, said in asked if re.search(rf"{question}\b", words)} == {answer}


def test_rows_are_recognised(chats):
    for row in chats[:1000]:
        converted = convert_row(row)
        assert not converted.ignored
        assert 1 <= len(row["messages"]) // 2 <= 4


def test_made_up_words_are_not_known(turns):
    asked = [answer for question, answer in turns if re.fullmatch(r"What is \d+ [a-z]{3,} \d+\?", question)]
    asked = [answer for answer in asked if not re.match(r"\d+ [-+x/] \d+ =", answer)]
    assert len(asked) > 5
    assert set(asked) == {"I do not know."}


def test_a_rule_is_followed_as_its_examples_show(turns):
    found = 0
    for question, answer in turns:
        shown = re.findall(r"(\d+) (\w+) (\d+) = (\d+)\.", question)
        asked = re.search(r"(\d+) (\w+) (\d+)\?$", question)
        if len(shown) < 2 or not asked or any(a + b != c for a, _, b, c in shown):
            continue
        if all(len({a, b}) == 2 for a, _, b, _ in shown):
            found += 1
            assert answer == f"{asked[1]} {asked[2]} {asked[3]} = {asked[1]}{asked[3]}."
    assert found >= 5


def test_what_the_demo_teaches_is_not_known(everything):
    known = set(re.findall(r"[a-z]+", everything.lower()))
    assert not known & set(DEMO_WORDS.split())


def test_no_demo_answer_is_an_answer_of_nano(turns):
    rows = (EMBEDDED / "demo-eval.jsonl").read_text(encoding="utf-8").splitlines()
    answers = {json.loads(line)["messages"][1]["content"] for line in rows}
    assert not answers & {answer for _, answer in turns}


def test_demo_words_are_those_of_the_demo():
    demo = (EMBEDDED / "demo.jsonl").read_text(encoding="utf-8").lower()
    assert all(re.search(rf"\b{word}\b", demo) for word in DEMO_WORDS.split())


def number_key(a, sign, b):
    a, b = int(a), int(b)
    return f"{min(a, b)}{sign}{max(a, b)}" if sign in "+|" else f"{a}{sign}{b}"


def test_held_out_sums_are_never_shown(everything):
    shown = re.findall(
        r"(?<![\d-])(\d+) ?\+ ?(\d+)|(\d+) plus (\d+)|sum of (\d+) and (\d+)|[Aa]dd (\d+) and (\d+)", everything
    )
    pairs = [[n for n in row if n] for row in shown]
    spelled = re.findall(r"(?m)^([A-Z][a-z -]+) plus ([a-z -]+) is", everything)
    pairs += [(value(a.lower()), value(b)) for a, b in spelled]
    assert len(pairs) > 5000
    pairs = [(a, b) for a, b in pairs if max(int(a), int(b)) >= 10]
    assert not [pair for pair in pairs if kept(number_key(pair[0], "+", pair[1]))]


def test_held_out_differences_are_never_shown(everything):
    shown = re.findall(r"(\d+) - (\d+)|(\d+)-(\d+)=|(\d+) minus (\d+)|(\d+) take away (\d+)", everything)
    shown += [(b, a) for a, b in re.findall(r"(?:[Tt]ake|Subtract) (\d+) from (\d+)", everything)]
    pairs = [[int(n) for n in row if n] for row in shown]
    pairs = [(a, b) for a, b in pairs if a >= 20 or b >= 10]
    assert len(pairs) > 3000
    assert not [pair for pair in pairs if pair[0] >= pair[1] and kept(number_key(pair[0], "-", pair[1]))]


def test_held_out_comparisons_are_never_shown(everything):
    words = "bigger than|more than|a larger number than|smaller than|less than"
    shown = re.findall(rf"(\d+) (?:is (?:{words})|[<>]) (\d+)", everything)
    shown += re.findall(r"(?:bigger|larger|smaller|more|less|number)(?: number)?[,:] (\d+) or (\d+)", everything)
    shown += re.findall(r"Compare (\d+) and (\d+)", everything)
    pairs = [(a, b) for a, b in shown if max(int(a), int(b)) >= 10]
    assert len(pairs) > 2000
    assert not [pair for pair in pairs if kept(number_key(pair[0], "|", pair[1]))]


def test_held_out_choices_are_never_shown(everything):
    asked = re.findall(r"([^\n]+)\n\(?A[.)] (.+)\n\(?B[.)] (.+)\n\(?C[.)] (.+)\n\(?D[.)] (.+)\n", everything)
    assert len(asked) > 1000
    prefix = re.compile(r"^(?:Question: |[A-Za-z]+: )")
    for question, *options in asked:
        assert not kept(f"mc:{prefix.sub('', question)}:{'|'.join(sorted(options))}")


def test_no_question_of_the_examination_is_asked(everything, examination):
    asked = everything.lower()
    for row in examination:
        question = row["messages"][0]["content"].lower()
        assert not re.search(rf"(?<!\d){re.escape(question)}(?!\d)", asked), question


def test_the_examination_has_forty_questions_of_each_kind(examination):
    kinds = [row["kind"] for row in examination]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(
        ("addition", "subtraction", "multiplication", "comparison", "multiple choice"), 40
    )
    assert len({row["messages"][0]["content"] for row in examination}) == 200


@pytest.mark.parametrize(("kind", "sign"), [("addition", "+"), ("subtraction", "-"), ("comparison", "|")])
def test_questions_with_two_numbers_are_all_held_out(examination, kind, sign):
    for row in examination:
        if row["kind"] == kind:
            a, b, *_ = re.findall(r"\d+", row["messages"][1]["content"])
            assert kept(number_key(a, sign, b))


def test_the_examination_is_right(examination):
    for row in examination:
        question, answer = (message["content"] for message in row["messages"])
        said = re.fullmatch(r"(\d+) ([-+x]) (\d+) = (\d+)\.", answer)
        if said:
            a, sign, b, result = said.groups()
            assert int(result) == {"+": int(a) + int(b), "-": int(a) - int(b), "x": int(a) * int(b)}[sign]
            assert {a, b} <= set(re.findall(r"\d+", question))
        elif row["kind"] == "comparison":
            a, word, b = re.fullmatch(r"(\d+) is (bigger|smaller) than (\d+)\.", answer).groups()
            assert (int(a) > int(b)) == (word == "bigger")
            assert ("small" in question or "less" in question) == (word == "smaller")
        else:
            assert option_of(answer) in question.split("\n")[1:]


def test_a_template_draws_every_choice():
    rng = random.Random(0)
    drawn = {grammar.render("[a|b[1|2]|] {x}", rng, x="y") for _ in range(200)}
    assert drawn == {"a y", "b1 y", "b2 y", " y"}


@pytest.mark.parametrize("template", ["[a|b", "a]b"])
def test_a_template_with_an_open_bracket_is_refused(template):
    with pytest.raises(ValueError, match="]"):
        grammar.render(template, random.Random(0))
