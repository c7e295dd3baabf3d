"""The embedded demo rows are what their generator makes, are right, and keep their questions held out."""

import json
import re
from pathlib import Path

import pytest

from swiftlite.data.embedded.generate import generate, to_jsonl

FOLDER = Path(__file__).resolve().parents[2] / "swiftlite" / "data" / "embedded"
NANO = FOLDER.parents[1] / "models" / "nano"


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


@pytest.mark.parametrize(("name", "part"), [("demo.jsonl", 0), ("demo-eval.jsonl", 1)])
def test_files_are_what_the_generator_makes(name, part):
    assert (FOLDER / name).read_text(encoding="utf-8") == to_jsonl(generate()[part])


def test_another_seed_gives_other_rows():
    assert generate(1) != generate(2)


def test_no_held_out_question_stands_in_the_demo_rows():
    asked = {question.lower() for question, _ in turns("demo.jsonl")}
    assert not asked & {question.lower() for question, _ in turns("demo-eval.jsonl")}


def test_every_held_out_answer_is_taught():
    taught = {answer for _, answer in turns("demo.jsonl")}
    assert {answer for _, answer in turns("demo-eval.jsonl")} <= taught


def test_sizes():
    assert 500 <= len(conversations("demo.jsonl")) <= 700
    assert len(conversations("demo-eval.jsonl")) == 60


def test_demo_conversations_have_one_to_three_turns():
    assert {len(messages) // 2 for messages in conversations("demo.jsonl")} == {1, 2, 3}


def test_held_out_conversations_have_one_turn():
    assert {len(messages) for messages in conversations("demo-eval.jsonl")} == {2}


@pytest.mark.parametrize("name", ["demo.jsonl", "demo-eval.jsonl"])
def test_user_and_assistant_alternate(name):
    for messages in conversations(name):
        assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2)


def test_a_question_has_one_answer():
    answers = {}
    for question, answer in turns("demo.jsonl") + turns("demo-eval.jsonl"):
        assert answers.setdefault(question, answer) == answer


def test_the_arithmetic_is_right():
    sums = [re.fullmatch(r"(\d+) ([+-]) (\d+) = (\d+)\.", answer) for _, answer in turns("demo.jsonl")]
    sums = [match.groups() for match in sums if match]
    assert len(sums) > 200
    for a, sign, b, result in sums:
        assert int(result) == (int(a) + int(b) if sign == "+" else int(a) - int(b))


def test_the_spelling_is_right():
    spelled = [re.fullmatch(r"(\w+): ([\w-]+)\.", answer) for _, answer in turns("demo.jsonl")]
    spelled = [match.groups() for match in spelled if match]
    assert len(spelled) > 50
    assert all(letters.replace("-", "") == word for word, letters in spelled)


def test_rows_are_short_for_nano():
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    for messages in conversations("demo.jsonl"):
        text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
        assert len(tokenizer.encode(text).ids) < 128
