"""Every layout of the data room is a prompt, with or without its answer."""

import json

import pytest

from swiftlite.config.errors import UserError
from swiftlite.infer.prompts import read_prompts

USER = {"role": "user", "content": "Why?"}
ASSISTANT = {"role": "assistant", "content": "Because."}


def read(tmp_path, *rows, name="in.jsonl", spec=""):
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_prompts([str(tmp_path / name) + spec], seed=0)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER]},
        {"messages": json.dumps([USER])},
        {"conversations": [{"from": "human", "value": "Why?"}]},
        {"query": "Why?"},
        {"query": "Why?", "response": None},
        {"question": "Why?", "answer": ""},
        {"prompt": "Why?", "completion": ""},
        {"instruction": "Why?", "input": ""},
    ],
)
def test_a_row_without_an_answer_is_a_prompt(tmp_path, row):
    (prompt,), _ = read(tmp_path, row)
    assert prompt.messages == [USER] and prompt.reference is None


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, ASSISTANT]},
        {"messages": [USER, ASSISTANT | {"loss": False}]},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]},
        {"conversation": [{"human": "Why?", "assistant": "Because."}]},
        {"query": "Why?", "response": "Because."},
        {"question": "Why?", "answer": "Because."},
        {"prompt": "Why?", "completion": "Because."},
        {"instruction": "Why?", "output": "Because."},
    ],
)
def test_a_rows_own_answer_is_kept_as_reference_and_not_asked(tmp_path, row):
    (prompt,), _ = read(tmp_path, row)
    assert prompt.messages == [USER] and prompt.reference == "Because."


def test_earlier_turns_and_the_system_prompt_are_part_of_the_prompt(tmp_path):
    system = {"role": "system", "content": "Be brief."}
    (prompt,), _ = read(tmp_path, {"messages": [system, USER, ASSISTANT | {"loss": False}, USER]})
    assert prompt.messages == [system, USER, ASSISTANT, USER]
    (prompt,), _ = read(tmp_path, {"system": "Be brief.", "history": [["Why?", "Because."]], "query": "Why?"})
    assert prompt.messages == [system, USER, ASSISTANT, USER]


def test_a_conversation_may_end_on_a_tools_answer(tmp_path):
    call = {"type": "function", "function": {"name": "clock", "arguments": {}}}
    turns = [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "12:00"},
    ]
    (prompt,), _ = read(tmp_path, {"messages": turns, "tools": [{"name": "clock"}]})
    assert [m["role"] for m in prompt.messages] == ["user", "assistant", "tool"]
    assert prompt.tools == [{"type": "function", "function": {"name": "clock"}}]


def test_a_tool_call_is_a_reference_too(tmp_path):
    call = {"type": "function", "function": {"name": "clock", "arguments": {}}}
    (prompt,), _ = read(tmp_path, {"messages": [USER, {"role": "assistant", "tool_calls": [call]}]})
    assert prompt.messages == [USER] and json.loads(prompt.reference) == [call]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "Once upon a time"}, "plain text"),
        ({"id": 7}, "unknown fields"),
        ({"messages": []}, "assistant first"),
        ({"messages": [ASSISTANT, USER]}, "assistant first"),
        ({"query": 7}, "query is 7"),
        ({"prompt": "Why?", "chosen": "a", "rejected": "b"}, "preference row"),
    ],
)
def test_a_row_that_asks_nothing_stops_with_its_line(tmp_path, row, reason):
    with pytest.raises(UserError, match=rf"in.jsonl, line 2: .*{reason}.*; expected "):
        read(tmp_path, {"query": "Why?"}, row)


def test_a_line_that_is_no_json_stops_with_its_line(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"query": "Why?"}\n{"query": \n')
    with pytest.raises(UserError, match=r"line 2: not readable: not JSON"):
        read_prompts([str(tmp_path / "in.jsonl")], 0)


def test_unread_fields_are_counted(tmp_path):
    _, unread = read(tmp_path, {"query": "Why?", "id": 1}, {"query": "Why?", "id": 2, "tag": "x"})
    assert unread == {"id": 2, "tag": 1}


def test_a_count_draws_rows_by_the_seed(tmp_path):
    rows = [{"query": f"q{i}"} for i in range(9)]
    asked = [p.messages[0]["content"] for p in read(tmp_path, *rows, spec="#4")[0]]
    assert len(set(asked)) == 4 and set(asked) < {row["query"] for row in rows}
    assert asked == [p.messages[0]["content"] for p in read(tmp_path, *rows, spec="#4")[0]]


def test_a_registered_name_is_a_source_too():
    prompts, _ = read_prompts(["demo#3"], seed=0)
    assert len(prompts) == 3 and all(prompt.reference for prompt in prompts)
