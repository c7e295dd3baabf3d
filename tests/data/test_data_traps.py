"""What bites users of other tools: odd names, byte order marks, line ends, NUL, numbers and nesting without end."""

import csv
import json
import sys

import pytest

from swiftlite.chat.config import ChatConfig
from swiftlite.chat.template import choose_template
from swiftlite.config.errors import UserError
from swiftlite.data.loading import load_data


@pytest.fixture(scope="module")
def nano():
    """A real tokenizer with its template."""
    from transformers import AutoTokenizer

    from swiftlite.models.families.nano import FOLDER

    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    return choose_template(ChatConfig(), tokenizer, None), tokenizer


def answers(data):
    """What is trained of each row, decoded from FakeTemplate's ids."""
    rows = (data.train[i] for i in range(len(data.train)))
    return ["".join(chr(t) for t, w in zip(ids, weights) if w and t != 2) for ids, weights in rows]


@pytest.mark.parametrize(
    "name", ["数据/行 1.jsonl", "a b/ü.jsonl", "🙂.jsonl", "a#b.jsonl", "a=b.jsonl", "x:y.jsonl", "[1]*.jsonl"]
)
def test_file_names(config, write, qa, template, name):
    path = write(name, qa(3))
    for _ in range(2):
        data = load_data(config(path), template)
        assert data.report["sources"][0]["files"][0]["file"] == path
    assert data.report["sources"][0]["cache"] == "hit"
    assert len(load_data(config(path + "#2"), template).train) == 2


def test_a_bad_row_in_a_file_of_an_odd_name_is_reported(config, write, qa, template):
    path = write("数据.jsonl", [*qa(1), {"问": "x"}])
    data = load_data(config(path, on_bad_row="drop"), template)
    reason = data.report["sources"][0]["dropped"]["unknown fields"]["examples"][0]
    assert (reason["file"], reason["reason"]) == (path, "unknown fields: 问")
    with pytest.raises(UserError, match=r"数据\.jsonl, line 2"):
        load_data(config(path), template)


ROW = '{"query": "a", "response": "b"}'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", ROW + "\n" + ROW),
        ("a.json", f"[{ROW}, {ROW}]"),
        ("a.csv", "query,response\na,b\na,b\n"),
        ("a.tsv", "query\tresponse\na\tb\na\tb\n"),
    ],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_byte_order_marks_and_line_ends(config, write, template, name, content, mark, end):
    path = write(name, mark + content.replace("\n", end).encode())
    assert answers(load_data(config(path), template)) == ["b", "b"]


def test_line_ends_within_a_text_stay(config, write, template):
    path = write("a.csv", 'query,response\r\na,"x\r\ny ""z"", w"\r\n')
    assert answers(load_data(config(path), template)) == ['x\r\ny "z", w']


def test_csv_survives_the_way_there_and_back(config, tmp_path, template):
    said = ['"', 'a "quoted" word', "one\ntwo", ",", "a\tb", "'", ' " , \n ', "日本語", "a\x00b", "a\u2028b"]
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["query", "response"], *[["q", text] for text in said]])
    assert answers(load_data(config(str(path)), template)) == said


@pytest.mark.parametrize(
    "text", ["\x00", "a\x00b", "\x1b[31m", "a\u2028b", "a\x85b", "\ufeff", "\u202e", "a" * 100_000, "🙂" * 9]
)
def test_odd_characters_are_text_to_a_real_tokenizer(config, write, nano, text):
    template, tokenizer = nano
    path = write("a.jsonl", [{"query": text, "response": text}])
    data = load_data(config(path, max_length=1_000_000), template, tokenizer=tokenizer)
    ids, weights = data.train[0]
    trained = tokenizer.decode([int(i) for i, w in zip(ids, weights) if w], clean_up_tokenization_spaces=False)
    assert trained == text + "<|im_end|>"


# Lines that JSON readers of all kinds stumble over; each is one bad row and no more.
ODD_LINES = {
    "raw NUL": b'{"query": "a", "response": "\x00"}',
    "lone NUL": b"\x00",
    "half a surrogate pair": rb'{"query": "a", "response": "\ud800"}',
    "half a surrogate pair in a key": rb'{"query": "a", "response": "b", "\udfff": 1}',
    "a number without end": b'{"query": "a", "response": ' + b"9" * 10_000 + b"}",
    "a number without end in a flag": b'{"messages": [{"role": "user", "content": "a", "weight": '
    + b"9" * 4000
    + b"}]}",
    "nested without end": b'{"query": "a", "response": ' + b"[" * 100_000,
    "nested to the brink": b'{"query": "a", "response": ' + b"[" * 900 + b"]" * 900 + b"}",
    "tools nested to the brink": b'{"query": "a", "response": "b", "tools": [{"name": "f", "x": '
    + b"[" * 500
    + b"]" * 500
    + b"}]}",
    "infinity": b'{"query": "a", "response": Infinity}',
    "not a number": b"NaN",
    "text": b'"query"',
    "a list": b'["query", "response"]',
    "two objects": ROW.encode() * 2,
    "a key twice": b'{"query": "a", "query": "a", "response": "b"}',
    "UTF-16": ROW.encode("utf-16-le"),
    "Latin-1": '{"query": "a", "response": "é"}'.encode("latin-1"),
    "cut off": ROW.encode()[:-5],
    "single quotes": ROW.replace('"', "'").encode(),
}


@pytest.mark.parametrize("odd", ODD_LINES.values(), ids=ODD_LINES)
def test_odd_lines_are_one_bad_row(config, write, template, odd):
    path = write("a.jsonl", b"\n".join([ROW.encode(), odd.replace(b"\n", b" "), ROW.encode()]))
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: .*fix it or pass --on_bad_row drop"):
        load_data(config(path), template)
    data = load_data(config(path, on_bad_row="drop"), template)
    source = data.report["sources"][0]
    assert (source["rows"], source["kept"], sum(d["count"] for d in source["dropped"].values())) == (3, 2, 1)
    json.dumps(data.report, ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("value", [1e999, 10**400, -0.0, True, None, [[[[]]]], {"a": {"b": None}}, "x" * 100_000])
def test_fields_that_are_not_read_may_hold_anything(config, write, template, value):
    path = write("a.jsonl", [{"query": "a", "response": "b", "meta": value}])
    assert answers(load_data(config(path), template)) == ["b"]


def test_a_row_with_fields_without_end_names_the_first_few(config, write, template):
    path = write("a.jsonl", [{"query": "a", "response": "b"} | {f"field {i}": 1 for i in range(5000)}])
    ignored = load_data(config(path), template).report["sources"][0]["ignored_fields"]
    assert len(ignored) == 201
    assert ignored["(other fields)"] == 4800


def test_deep_json_files_are_refused_as_a_whole(config, write, template):
    path = write("a.json", b"[" * 200_000)
    with pytest.raises(UserError, match=r"a\.json"):
        load_data(config(path), template)


def test_the_limits_of_python_are_left_as_they_are(config, write, qa, template):
    before = sys.getrecursionlimit(), sys.get_int_max_str_digits()
    load_data(config(write("a.jsonl", qa(2))), template)
    assert (sys.getrecursionlimit(), sys.get_int_max_str_digits()) == before
