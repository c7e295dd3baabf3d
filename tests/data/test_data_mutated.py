"""Rows broken in every way: each is trained on or counted, in memory and streamed, and nothing ends in a traceback."""

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swiftlite.chat.config import ChatConfig
from swiftlite.chat.template import choose_template
from swiftlite.config.errors import UserError
from swiftlite.data.formats import convert_row
from swiftlite.data.loading import load_data
from swiftlite.data.stream import StreamPlan
from swiftlite.data.values import BadRow

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"x": [1, {"y": None}]}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {}}}}}
USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
PARTS = [{"type": "reasoning", "value": "r"}, {"type": "tool_call", "value": '{"name": "f", "arguments": {}}'}]
# One row of each layout that is read.
VALID: list[dict[str, Any]] = [
    {"messages": [{"role": "system", "content": "s"}, USER, ANSWER]},
    {"messages": [USER, {**ANSWER, "loss": False}, USER, {**ANSWER, "reasoning_content": "r"}]},
    {"messages": [USER, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "1"}, ANSWER]},
    {"messages": [USER, {"role": "tool_call", "content": json.dumps(CALL["function"])}, ANSWER], "tools": [TOOL]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {**ANSWER, "content": PARTS}]},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "tools": json.dumps([TOOL])},
    {"conversation": [{"human": "a", "assistant": "b"}, {"human": "c", "assistant": "d"}], "system": "s"},
    {"instruction": "a", "input": "i", "output": "b", "history": [["c", "d"]], "system": "s"},
    {"query": "a", "response": "b", "history": '[["c", "d"]]', "tools": [TOOL["function"]]},
    {"question": "a", "answer": "b", "id": 3},
    {"prompt": "a", "completion": "b"},
    {"text": "a plain text", "meta": {"url": "u"}},
    {"prompt": "a", "chosen": "b", "rejected": "c"},
    {"messages": [USER, ANSWER], "label": True},
]
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        ["", " ", "user", "assistant", "tool", "king", "\ud800", "\x00", "x" * 20_000, "[[", "{}", "null"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["role", "content", "from", "value", "tool_calls", "tools", "messages", "query", "loss", "images", "\udc00", "name"]
)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A valid row with one to three things in it dropped, replaced, renamed, repeated or buried."""
    row = copy.deepcopy(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = row
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if not isinstance(place[key], (dict, list)) or not place[key] or draw(st.booleans()):
                break
            place = place[key]
        if not keys:
            continue
        kind = draw(st.sampled_from(["drop", "replace", "rename", "repeat", "bury"]))
        if kind == "drop":
            del place[key]
        elif kind == "replace":
            place[key] = draw(JUNK)
        elif kind == "rename" and isinstance(place, dict):
            place[draw(KEYS)] = place.pop(key)
        elif kind == "repeat" and isinstance(place, list):
            place.insert(draw(st.integers(0, len(place))), copy.deepcopy(place[key]))
        elif kind == "bury":
            for _ in range(draw(st.sampled_from([1, 5, 100, 300]))):
                place[key] = [place[key]]
    return row


@settings(max_examples=300, deadline=None)
@given(mutated())
def test_a_row_is_read_whole_or_refused_with_a_reason(row):
    try:
        content = convert_row(row).content
    except BadRow as error:
        assert error.reason.encode() and error.expected.encode() and len(error.reason) < 2000
        return
    said = content.get("messages", [])
    assert content.get("text") or any(m["role"] == "assistant" for m in said)
    assert all(isinstance(m["content"], str) for m in said)
    json.dumps(content, ensure_ascii=False).encode()


# Writes all that a conversation may hold, as templates in the wild do: with little care for what is missing.
WRITES_ALL = """{%- for tool in tools or [] %}{{ tool.function.name }}{{ tool | tojson }}{% endfor -%}
{%- for message in messages %}<|im_start|>{{ message.role }}
{%- if message.role == 'assistant' %}
{% generation %}{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}
{{- message.content }}{% for call in message.tool_calls or [] %}{{ call.function.name }}
{{- call.function.arguments | tojson }}{% endfor %}<|im_end|>{% endgeneration %}
{%- else %}
{{ message.content }}<|im_end|>
{%- endif %}{% endfor %}"""


@pytest.fixture(scope="module")
def real():
    """nano's tokenizer with ChatML, and with a template that writes tools, calls and reasoning."""
    from transformers import AutoTokenizer

    from swiftlite.models.families.nano import FOLDER

    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    tokenizer.chat_template = WRITES_ALL
    return [choose_template(ChatConfig(template=name), tokenizer, None) for name in ("chatml", "tokenizer")], tokenizer


def samples(dataset):
    return [(ids.tolist(), weights.tolist()) for ids, weights in (dataset[i] for i in range(len(dataset)))]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=st.lists(mutated(), min_size=10, max_size=10), which=st.integers(0, 1))
def test_250_mutated_rows_are_trained_on_or_counted(config, write, real, rows, which):
    templates, tokenizer = real
    rows = [*rows, {"query": "a", "response": "b"}]
    path = write("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    given = {"on_bad_row": "drop", "max_length": 4000}
    data = load_data(config(path, **given), templates[which], tokenizer=tokenizer)
    source = data.report["sources"][0]
    dropped = sum(entry["count"] for entry in source["dropped"].values())
    assert source["rows"] == len(rows) == source["kept"] + dropped
    json.dumps(data.report, ensure_ascii=False).encode()

    streamed = load_data(config(path, streaming=True, shuffle_buffer=0, **given), templates[which], tokenizer=tokenizer)
    assert streamed.stream is not None
    plan = StreamPlan(streamed.stream, micro_batch_size=50, accumulation=1, world_size=1, seed=0, epoch=0)
    assert samples(plan.read(0)[0]) == samples(data.train)

    bad = dropped - source["dropped"].get("longer than max_length", {"count": 0})["count"]
    bad -= source["dropped"].get("no trained token", {"count": 0})["count"]
    if bad:
        with pytest.raises(UserError, match=r"a\.jsonl, line \d+: "):
            load_data(config(path, max_length=4000), templates[which], tokenizer=tokenizer)
    else:
        load_data(config(path, max_length=4000), templates[which], tokenizer=tokenizer)
