"""Rows to questions: every layout, kinds, limits, what the data's fingerprint covers, and refusals."""

import hashlib
import json

import pytest

from swiftlite.config.errors import UserError
from swiftlite.evaluate.questions import read_questions
from tests.evaluate.conftest import pairs

ROWS = [
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": "1 + 1?"},
            {"role": "assistant", "content": "2"},
        ],
        "kind": "addition",
    },
    {"conversations": [{"from": "human", "value": "Red?"}, {"from": "gpt", "value": "Yes."}], "kind": 7},
    {"question": "Capital?", "answer": "Paris", "source": "map"},
    {"instruction": "Add", "input": "1 2", "output": "3", "kind": None},
]


def test_the_last_answer_of_any_layout_is_the_reference(write):
    write("q.jsonl", ROWS)
    (found,) = read_questions(["q.jsonl"], None, 0)
    assert [q.reference for q in found.questions] == ["2", "Yes.", "Paris", "3"]
    assert found.questions[0].prompt.messages == ROWS[0]["messages"][:-1]
    assert found.questions[3].prompt.messages == [{"role": "user", "content": "Add\n1 2"}]


def test_a_kind_is_read_and_other_fields_are_named(write):
    write("q.jsonl", ROWS)
    (found,) = read_questions(["q.jsonl"], None, 0)
    assert [q.kind for q in found.questions] == ["addition", "7", None, None]
    assert found.unread == {"source": 1}


def test_a_limit_keeps_the_first_of_each_set(write):
    write("a.jsonl", pairs({f"a{n}": "yes" for n in range(5)}))
    write("b.jsonl", pairs({f"b{n}": "yes" for n in range(2)}))
    sets = read_questions(["a.jsonl", "b.jsonl"], 3, 0)
    assert [[q.prompt.messages[0]["content"] for q in s.questions] for s in sets] == [["a0", "a1", "a2"], ["b0", "b1"]]


def test_a_count_draws_different_rows_by_the_seed(write):
    write("a.jsonl", [{"query": f"a{n}", "response": str(n), "kind": str(n)} for n in range(50)])

    def drawn(seed: int) -> list[str]:
        (found,) = read_questions(["a.jsonl#10"], None, seed)
        assert all(q.kind == q.reference for q in found.questions)
        return [q.reference for q in found.questions]

    assert len(set(drawn(1))) == 10 and drawn(1) == drawn(1) != drawn(2)


def test_fingerprints_are_of_the_file_and_of_the_questions_asked(write):
    path = write("q.jsonl", pairs({"Why?": "Because.", "Who?": "Me"}))
    (found,) = read_questions(["q.jsonl"], 1, 0)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.files == [{"file": "q.jsonl", "fingerprint": digest}]
    line = json.dumps([[{"content": "Why?", "role": "user"}], None, "Because."]) + "\n"
    assert found.fingerprint == hashlib.sha256(line.encode()).hexdigest()


@pytest.mark.parametrize(
    "row",
    [
        {"query": "Why?"},
        {"query": "Why?", "response": " "},
        {"instruction": "Say why", "output": None},
        {"messages": [{"role": "user", "content": "Why?"}]},
    ],
)
def test_a_row_without_its_answer_is_named(write, row):
    write("q.jsonl", [*pairs({"a": "b"}), row])
    with pytest.raises(UserError, match=r"^q\.jsonl, line 2: the row has no answer to compare with; expected"):
        read_questions(["q.jsonl"], None, 0)


def test_an_answer_that_calls_a_tool_is_refused(write):
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "clock", "arguments": {}}}]}
    write("q.jsonl", [{"messages": [{"role": "user", "content": "What time is it?"}, call]}])
    with pytest.raises(UserError, match=r"q\.jsonl, line 1: the row's answer calls a tool"):
        read_questions(["q.jsonl"], None, 0)


def test_a_row_that_asks_nothing_is_named(write):
    write("q.jsonl", [{"text": "Once upon a time"}])
    with pytest.raises(UserError, match=r"q\.jsonl, line 1: plain text: it asks nothing"):
        read_questions(["q.jsonl"], None, 0)


def test_an_empty_file_is_refused(write):
    write("q.jsonl", [])
    with pytest.raises(UserError, match=r"file q\.jsonl is empty"):
        read_questions(["q.jsonl"], None, 0)


def test_an_empty_set_of_a_hub_is_refused(monkeypatch):
    monkeypatch.setattr("swiftlite.data.sources.fetch", lambda info: [[]])
    with pytest.raises(UserError, match="--eval_dataset hf::owner/name: it has no rows"):
        read_questions(["hf::owner/name"], None, 0)


def test_more_rows_than_there_are_is_refused(write):
    write("q.jsonl", pairs({"a": "b", "c": "d"}))
    with pytest.raises(UserError, match=r"--eval_dataset q\.jsonl#3: it has 2 rows.*at most #2"):
        read_questions(["q.jsonl#3"], None, 0)


def test_an_unknown_name_gets_the_closest():
    with pytest.raises(UserError, match=r"--eval_dataset dem: no dataset is registered .*; did you mean demo"):
        read_questions(["dem"], None, 0)


def test_a_file_that_is_missing_gets_the_closest(write):
    write("questions.jsonl", pairs({"a": "b"}))
    with pytest.raises(UserError, match=r"file question\.jsonl does not exist .*; did you mean questions\.jsonl\?"):
        read_questions(["question.jsonl"], None, 0)


@pytest.mark.parametrize("name", ["gsm8k", "arc", "ceval#20"])
def test_benchmarks_that_are_no_exact_match_are_not_taken_for_data(name):
    with pytest.raises(UserError, match=f"--eval_dataset {name}: the benchmark .* is not in this version"):
        read_questions([name], None, 0)
