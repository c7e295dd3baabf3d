"""Each row layout becomes the conversation written out by hand here; every other row has its reason."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftlite.data.formats import BadRow, convert_row


def messages(row, columns=None):
    return convert_row(row, columns).content["messages"]


def turns(*texts, system=None):
    roles = ("user", "assistant")
    said = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return ([{"role": "system", "content": system}] if system else []) + said


HISTORY = [["a", "b"], ["c", "d"]]


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
        "tools": [{"name": "f"}],
    }


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
        ({"response": "a"}, "unknown fields: response"),
        ({"question": "a", "function": []}, "unknown fields"),
        ({"query": "a", "response": " "}, "empty content: response"),
        ({"query": "", "response": "a"}, "empty content: query"),
        ({"query": "a", "response": 3.5}, "wrong type: response is 3.5"),
        ({"query": "a", "response": "b", "history": "[["}, "JSON text that cannot be read: history"),
        ({"query": "a", "response": "b", "history": [["x"]]}, "history entry is not a pair"),
        ({"query": "a", "response": "b", "history": 3}, "history is not a list"),
        ({"query": "a", "response": "\ud800"}, "broken text"),
        ({"query": "a", "response": "b", "images": ["x.png"]}, "row with media: it has the field images"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference row: it has the field chosen"),
        ({"messages": turns("a", "b"), "label": True}, "preference row: it has a true/false label"),
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
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "part of type image_url"),
        ({"messages": [*turns("a"), {"role": "assistant", "content": "b", "loss": 0.5}]}, "loss is 0.5"),
        (
            {"messages": [{"role": "user", "content": "a", "loss": True}, *turns("", "b")[1:]]},
            "loss set in a user",
        ),
        (
            {"messages": [*turns("a"), {"role": "assistant", "content": "b", "reasoning_content": "r"}]},
            "separate reasoning",
        ),
        ({"messages": turns("a", "b"), "tools": ["f"]}, "tools is not a list of objects"),
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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
SEEDS = [
    {"messages": turns("a", "b", system="s"), "tools": [{"name": "f"}]},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    {"instruction": "a", "input": "i", "output": "b", "history": HISTORY, "system": "s"},
    {"messages": [*turns("a"), {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_mutated_row_is_read_whole_or_refused(data):
    row = copy.deepcopy(data.draw(st.sampled_from(SEEDS)))
    place = row
    while True:  # walk down to some container and change one thing in it
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        inner = place[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
            break
        place = inner
    if data.draw(st.booleans()):
        place[key] = data.draw(JSON)
    else:
        del place[key]
    try:
        content = convert_row(row).content
    except BadRow:
        return
    said = content.get("messages", [])
    assert content.get("text") or any(m["role"] == "assistant" for m in said)
    assert all(isinstance(m["content"], str) for m in said)
