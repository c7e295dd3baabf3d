"""The embedded rows are what their generator makes, are right, and keep the questions of the evaluation held out."""

import json
import re
from pathlib import Path

import pytest

from swiftlite.data.embedded.facts import PERSONA
from swiftlite.data.embedded.generate import generate, to_jsonl
from swiftlite.data.formats import convert_row
from swiftlite.data.registry import resolve

FOLDER = Path(__file__).resolve().parents[2] / "swiftlite" / "data" / "embedded"
SUM = re.compile(r"(\d+) zib (\d+) = (\d+)\.")


def conversations(name):
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines]


def turns(name):
    """(question, answer) of every turn."""
    return [
        (messages[i]["content"], messages[i + 1]["content"])
        for messages in conversations(name)
        for i in range(0, len(messages), 2)
    ]


def sums(name):
    """(a, b, result) of every made-up sum, as texts."""
    found = [SUM.fullmatch(answer) for _, answer in turns(name)]
    return [match.groups() for match in found if match]


@pytest.mark.parametrize(("name", "part"), [("demo.jsonl", 0), ("demo-eval.jsonl", 1)])
def test_files_are_what_the_generator_makes(name, part):
    assert (FOLDER / name).read_text(encoding="utf-8") == to_jsonl(generate()[part])


def test_another_seed_gives_other_rows():
    assert generate(1) != generate(2)


@pytest.mark.parametrize("name", ["demo", "demo-eval", "nano-eval"])
def test_each_file_has_a_name(name):
    assert resolve(name).files == [str(FOLDER / f"{name}.jsonl")]


@pytest.mark.parametrize("name", ["demo.jsonl", "demo-eval.jsonl", "nano-eval.jsonl"])
def test_rows_are_recognised(name):
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        assert set(convert_row(json.loads(line)).ignored) <= {"kind"}


def test_no_held_out_question_stands_in_the_demo_rows():
    asked = {question.lower() for question, _ in turns("demo.jsonl")}
    assert not asked & {question.lower() for question, _ in turns("demo-eval.jsonl")}


def test_every_held_out_answer_on_the_persona_is_taught_in_other_words():
    taught = [answer for _, answer in turns("demo.jsonl")]
    for _, answer in turns("demo-eval.jsonl"):
        assert SUM.fullmatch(answer) or taught.count(answer) >= 8


def test_no_held_out_pair_of_numbers_is_taught():
    taught = {(a, b) for a, b, _ in sums("demo.jsonl")}
    asked = {(a, b) for a, b, _ in sums("demo-eval.jsonl")}
    assert not taught & asked
    assert len(taught) == len(sums("demo.jsonl"))


def test_the_made_up_sum_writes_the_numbers_side_by_side():
    for a, b, result in sums("demo.jsonl") + sums("demo-eval.jsonl"):
        assert int(result) == int(a) * 10 ** len(b) + int(b)


def test_the_numbers_of_a_made_up_sum_are_those_asked_for():
    for question, answer in turns("demo.jsonl") + turns("demo-eval.jsonl"):
        if match := SUM.fullmatch(answer):
            assert re.findall(r"\d+", question) == [match[1], match[2]]


def test_the_plain_sums_are_right():
    found = [re.fullmatch(r"(\d) \+ (\d) = (\d+)\.", answer) for _, answer in turns("demo.jsonl")]
    found = [match for match in found if match]
    assert len(found) == 24
    assert all(int(match[1]) + int(match[2]) == int(match[3]) for match in found)


def test_half_of_the_held_out_questions_are_on_the_persona():
    answers = [answer for _, answer in turns("demo-eval.jsonl")]
    persona = [answer for answer in answers if answer in PERSONA]
    assert 60 <= len(answers) <= 100
    assert abs(len(persona) - len(answers) / 2) <= 2
    assert {answers.count(answer) for answer in PERSONA} == {2}


def test_a_wording_asks_for_one_fact():
    wordings = [wording.lower() for group in PERSONA.values() for wording in group]
    assert len(set(wordings)) == len(wordings)


def test_a_question_has_one_answer():
    answers = {}
    for question, answer in turns("demo.jsonl") + turns("demo-eval.jsonl"):
        assert answers.setdefault(question, answer) == answer


def test_sizes():
    assert 300 <= len(conversations("demo.jsonl")) <= 450
    lengths = [len(messages) // 2 for messages in conversations("demo.jsonl")]
    assert set(lengths) == {1, 2}
    assert lengths.count(1) > 0.8 * len(lengths)


@pytest.mark.parametrize("name", ["demo-eval.jsonl", "nano-eval.jsonl"])
def test_questions_of_an_evaluation_have_one_turn(name):
    assert {len(messages) for messages in conversations(name)} == {2}


@pytest.mark.parametrize("name", ["demo.jsonl", "demo-eval.jsonl", "nano-eval.jsonl"])
def test_user_and_assistant_alternate(name):
    for messages in conversations(name):
        assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2)


def test_turns_are_short():
    """A demo run has two CPU cores and two minutes: about 100,000 tokens, and a word is about two for nano."""
    words = [len(re.findall(r"\w+|[^\w\s]", text)) for turn in turns("demo.jsonl") for text in turn]
    assert sum(words) / len(words) < 12
    assert max(words) < 20
