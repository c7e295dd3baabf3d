"""Each row layout becomes the conversation written out by hand here; every other row has its reason."""

import json

import pytest

from swiftlite.data.formats import convert_row
from swiftlite.data.values import BadRow


def messages(row, columns=None):
    return convert_row(row, columns).content["messages"]


def turns(*texts, system=None):
    roles = ("user", "assistant")
    said = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return ([{"role": "system", "content": system}] if system else []) + said


HISTORY = [["a", "b"], ["c", "d"]]


def nested(depth):
    """A list in a list in a list ..."""
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": turns("a", "b", system="s")}, turns("a", "b", system="s")),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            turns("a", "b"),
        ),
        (
            {"system": "s", "conversations": [{"from": "user", "value": "a"}, {"from": "gpt", "value": "b"}]},
            turns("a", "b", system="s"),
        ),
        (
            {"conversation": [{"human": "a", "assistant": "b"}, {"human": "c", "assistant": "d"}]},
            turns("a", "b", "c", "d"),
        ),
        ({"instruction": "a", "input": "", "output": "b"}, turns("a", "b")),
        ({"instruction": "a", "input": "i", "output": "b"}, turns("a\ni", "b")),
        (
            {"instruction": "x", "input": None, "output": "y", "history": HISTORY, "system": "s"},
            turns("a", "b", "c", "d", "x", "y", system="s"),
        ),
        ({"query": "a", "response": "b"}, turns("a", "b")),
        ({"query": "a", "response": "b", "history": [], "system": ""}, turns("a", "b")),
        (
            {"query": "x", "response": "y", "history": json.dumps(HISTORY)},
            turns("a", "b", "c", "d", "x", "y"),
        ),
        ({"question": "a", "answer": "b"}, turns("a", "b")),
        ({"prompt": "a", "response": "b"}, turns("a", "b")),
        ({"prompt": "a", "completion": "b"}, turns("a", "b")),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, *turns("", "b")[1:]]},
            turns("a", "b"),
        ),
    ],
)
def test_layout(row, expected):
    assert messages(row) == expected


def test_plain_text():
    assert convert_row({"text": "a", "url": "u"}).content == {"text": "a"}


def test_the_answers_alone_are_plain_text_on_request():
    """ms-swift's pre-training layout: unasked, a lost question would go unnoticed."""
    assert convert_row({"response": "a"}, {"response": "text"}).content == {"text": "a"}


def test_columns_are_renamed_first():
    assert messages({"q": "a", "a": "b"}, {"q": "query", "a": "response"}) == turns("a", "b")


def test_rename_onto_a_column_that_exists():
    with pytest.raises(BadRow, match="two columns of one name"):
        convert_row({"q": "a", "query": "x", "response": "b"}, {"q": "query"})


def test_unread_fields_are_named():
    row = {"query": "a", "response": "b", "id": 3, "source": "web", "note": ""}
    assert convert_row(row).ignored == ("id", "source")


def test_unread_fields_of_turns_are_named():
    row = {"messages": [{"role": "user", "content": "a", "name": "Ann"}, *turns("", "b")[1:]]}
    assert convert_row(row).ignored == ("messages.name",)


def test_function_calls_become_openai_tool_calls():
    call = {"name": "f", "arguments": {"x": 1}}
    row = {
        "conversations": [
            {"from": "human", "value": "a"},
            {"from": "function_call", "value": json.dumps(call)},
            {"from": "observation", "value": "1"},
            {"from": "gpt", "value": "b"},
        ],
        "tools": json.dumps([{"name": "f"}]),
    }
    assert convert_row(row).content == {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]},
            {"role": "tool", "content": "1"},
            {"role": "assistant", "content": "b"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }


TOOL = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
WRAPPED = {"type": "function", "function": TOOL}


@pytest.mark.parametrize(
    "tools",
    [
        [TOOL],
        [WRAPPED],
        [{"function": TOOL}],
        json.dumps([TOOL]),
        [json.dumps(WRAPPED)],
        [{"type": "function", **TOOL}],
    ],
    ids=["bare", "openai", "no type", "JSON text", "list of JSON texts", "flat"],
)
def test_tools_come_in_the_layout_of_openai(tools):
    assert convert_row({"messages": turns("a", "b"), "tools": tools}).content["tools"] == [WRAPPED]


def test_ms_swift_tool_roles():
    """Two calls in a row are one turn with two calls; JSON text and objects are the same."""
    row = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "tool_call", "content": '{"name": "f", "arguments": {"x": 1}}'},
            {"role": "tool_call", "content": '{"name": "g", "arguments": "{}"}'},
            {"role": "tool_response", "content": "1"},
            {"role": "tool_response", "content": "2"},
            {"role": "assistant", "content": "b"},
        ]
    }
    said = messages(row)
    assert [m["role"] for m in said] == ["user", "assistant", "tool", "tool", "assistant"]
    calls = [(c["type"], c["function"]["name"], c["function"]["arguments"]) for c in said[1]["tool_calls"]]
    assert calls == [("function", "f", {"x": 1}), ("function", "g", {})]


def test_a_result_keeps_the_call_it_answers():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {}}}
    row = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "content": "1", "tool_call_id": "c1", "name": "f"},
            {"role": "assistant", "content": "b"},
        ]
    }
    converted = convert_row(row)
    assert converted.content["messages"][2] == {"role": "tool", "content": "1", "tool_call_id": "c1", "name": "f"}
    assert converted.ignored == ()


def test_reasoning_is_passed_on():
    row = {"messages": [*turns("a"), {"role": "assistant", "content": "b", "reasoning_content": "r"}]}
    assert messages(row)[1] == {"role": "assistant", "content": "b", "reasoning_content": "r"}


@pytest.mark.parametrize("blank", ["", " \n", None])
def test_blank_reasoning_is_none(blank):
    row = {"messages": [*turns("a"), {"role": "assistant", "content": "b", "reasoning_content": blank}]}
    assert messages(row) == turns("a", "b")


def test_parts_of_text_reasoning_and_calls():
    """LLaMA-Factory's newer layout."""
    parts = [
        {"type": "reasoning", "value": "r"},
        {"type": "text", "value": "b"},
        {"type": "tool_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
    ]
    row = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "value": "a"}]},
            {"role": "assistant", "content": parts},
            {"role": "tool", "content": [{"type": "text", "value": "1"}]},
            *turns("", "c")[1:],
        ]
    }
    assert messages(row)[1] == {
        "role": "assistant",
        "content": "b",
        "reasoning_content": "r",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}],
    }


def test_a_column_can_be_taken_away():
    row = {"query": "a", "response": "b", "rejected_response": "c"}
    converted = convert_row(row, {"rejected_response": "_"})
    assert (converted.content["messages"], converted.ignored) == (turns("a", "b"), ())


# (row, what --columns would make a plain row of it)
PAIRED = [
    ({"query": "a", "response": "b", "rejected_response": "c"}, {"rejected_response": "_"}),
    ({"prompt": "a", "chosen": "b", "rejected": "c"}, {"chosen": "response", "rejected": "_"}),
    ({"chosen": turns("a", "b"), "rejected": turns("a", "c")}, {"chosen": "messages", "rejected": "_"}),
    (
        {"chosen_messages": turns("a", "b"), "rejected_messages": turns("a", "c")},
        {"chosen_messages": "messages", "rejected_messages": "_"},
    ),
    ({"chosen": "Human: a", "rejected": "Human: b"}, {"chosen": "text", "rejected": "_"}),
]


@pytest.mark.parametrize(("row", "columns"), PAIRED)
def test_a_preference_row_is_refused_with_the_columns_that_make_it_plain(row, columns):
    with pytest.raises(BadRow, match="preference row: a better and a worse answer, for rlhf") as caught:
        convert_row(row)
    assert json.dumps(columns) in caught.value.expected
    assert convert_row(row, columns).content


def test_a_preference_row_without_such_columns_gets_no_advice():
    row = {"conversations": [{"from": "human", "value": "a"}], "chosen": {"from": "gpt", "value": "b"}, "rejected": {}}
    with pytest.raises(BadRow) as caught:
        convert_row(row)
    assert caught.value.expected == "one answer a row"


def test_a_judged_row_can_be_made_plain():
    row = {"messages": turns("a", "b"), "label": False}
    with pytest.raises(BadRow, match="judged good or bad"):
        convert_row(row)
    assert messages(row, {"label": "_"}) == turns("a", "b")


def test_openai_tool_calls_get_their_arguments_as_an_object():
    call = {"id": "7", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    row = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "", "tool_call_id": "7"},
            {"role": "assistant", "content": "b"},
        ]
    }
    expected = {"id": "7", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    assert messages(row)[1] == {"role": "assistant", "content": "", "tool_calls": [expected]}


def test_a_call_turn_joins_the_answer_before_it():
    row = {
        "conversations": [
            {"from": "human", "value": "a"},
            {"from": "gpt", "value": "let me see"},
            {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
            {"from": "observation", "value": "1"},
            {"from": "gpt", "value": "b"},
        ]
    }
    said = messages(row)[1]
    assert (said["content"], said["tool_calls"][0]["function"]["name"]) == ("let me see", "f")


@pytest.mark.parametrize(("key", "value"), [("loss", False), ("loss_weight", 0.0), ("weight", 0)])
def test_an_answer_can_be_left_untrained(key, value):
    row = {"messages": [*turns("a"), {"role": "assistant", "content": "b", key: value}, *turns("c", "d")]}
    assert [m.get("loss") for m in messages(row)] == [None, False, None, None]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "unknown fields: the row is empty"),
        ({"sentence": "a", "label": 3}, "unknown fields: label, sentence"),
        ({"response": "a"}, "another kind of row: an answer without a question"),
        ({"question": "a", "function": []}, "another kind of row: a function-calling test"),
        ({"sentence": "a", "label": 3, "label_desc": "b"}, "another kind of row: a labelled sentence"),
        ({"version": "v1.0", "data": []}, "another kind of row: a SQuAD file"),
        ({"query": "a", "response": "b", "\ud800": 1}, "broken text: the name of a field"),
        ({"query": "a", "response": " "}, "empty content: response"),
        ({"query": "", "response": "a"}, "empty content: query"),
        ({"query": "a", "response": 3.5}, "wrong type: response is 3.5"),
        ({"query": "a", "response": "b", "history": "[["}, "JSON text that cannot be read: history"),
        ({"query": "a", "response": "b", "history": [["x"]]}, "history entry is not a pair"),
        ({"query": "a", "response": "b", "history": 3}, "history is not a list"),
        ({"query": "a", "response": "\ud800"}, "broken text"),
        ({"query": "a", "response": "b", "images": ["x.png"]}, "row with media: it has the field images"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "it has the field chosen"),
        ({"messages": turns("a", "b"), "label": True}, "it has a true/false label"),
        ({"messages": []}, "no assistant turn"),
        ({"messages": turns("a")}, "no assistant turn"),
        ({"messages": turns("a", "b", "c")}, "roles out of order: user last"),
        ({"messages": turns("a", "b")[1:]}, "roles out of order: assistant first"),
        ({"messages": turns("a")[:1] + turns("a", "b")}, "roles out of order: user after user"),
        ({"messages": turns("a", "b") + turns("a", "b")[1:]}, "assistant after assistant"),
        ({"system": "s", "messages": turns("a", "b", system="s")}, "roles out of order: system after system"),
        ({"messages": [{"role": "king", "content": "a"}]}, "unknown role: 'king'"),
        ({"messages": [{"content": "a"}]}, "unknown role: None"),
        ({"messages": "a"}, "JSON text that cannot be read: messages"),
        ({"messages": ["a"]}, "messages is not a list of turns"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "part of type 'image_url'"),
        ({"messages": [*turns("a"), {"role": "assistant", "content": "b", "loss": 0.5}]}, "loss is 0.5"),
        (
            {"messages": [{"role": "user", "content": "a", "loss": True}, *turns("", "b")[1:]]},
            "loss set in a user",
        ),
        (
            {"messages": [{"role": "user", "content": "a", "reasoning_content": "r"}, *turns("", "b")[1:]]},
            "reasoning_content in a user turn",
        ),
        ({"messages": turns("a", "b"), "tools": [3]}, "tools is not a list of objects"),
        ({"messages": turns("a", "b"), "tools": ["f"]}, "JSON text that cannot be read: tools"),
        ({"messages": turns("a", "b"), "tools": {"name": "f"}}, "tools is not a list"),
        ({"messages": turns("a", "b"), "tools": [{"parameters": {}}]}, "tool without a name"),
        ({"messages": turns("a", "b"), "tools": [{"name": "f", "x": "\ud800"}]}, "broken text: tools"),
        ({"messages": turns("a", "b"), "tools": [{"name": "f", "x": nested(65)}]}, "nested too deep: tools"),
        ({"messages": [*turns("a"), {"role": "function_call", "content": "{}"}]}, "tool call without a name"),
        (
            {"messages": [*turns("a"), {"role": "assistant", "content": ""}]},
            "empty content: assistant content",
        ),
    ],
)
def test_bad_row_has_its_reason(row, reason):
    with pytest.raises(BadRow) as caught:
        convert_row(row)
    assert reason in caught.value.reason
    assert caught.value.expected
