"""Rows to tokens: truncation, drops and their report, one fact each on texts of one token a character."""

import numpy as np
import pytest

from swiftlite.config.errors import UserError
from swiftlite.data.readers import Origin, Unreadable
from swiftlite.data.tokenize import Encoder, Report, Rules, cut, require_rows, tokenize_rows
from swiftlite.data.tokens import Shard, TokenizedDataset, TokenWriter


@pytest.fixture
def tokenize(tmp_path, template, tokenizer):
    """tokenize(rows, **rules) -> (samples as lists, report)."""

    def run(rows, max_length=100, truncation_strategy="delete", on_bad_row="stop", progress=None):
        rules = Rules(max_length, truncation_strategy, on_bad_row, {})
        numbered = [(i, (row, Origin("f.jsonl", i + 1))) for i, row in enumerate(rows)]
        with TokenWriter(tmp_path) as writer:
            report = tokenize_rows(numbered, Encoder(template, tokenizer), writer, rules, progress)
            require_rows(report, rules, "mine")
            writer.finish()
        dataset = TokenizedDataset.of_shard(Shard.open(tmp_path))
        return [(i.tolist(), w.tolist()) for i, w in (dataset[n] for n in range(len(dataset)))], report

    return run


def qa(question, answer):
    return {"query": question, "response": answer}


# Encoded by hand: a 1 before each turn, then characters, then 2 after the answer.
AB = ([1, 97, 1, 98, 2], [0, 0, 0, 1, 1])


def test_a_conversation(tokenize):
    samples, report = tokenize([qa("a", "b")])
    assert samples == [AB]
    assert (report.rows, report.kept, report.samples, report.tokens, report.trained) == (1, 1, 1, 5, 2.0)


def test_plain_text_is_trained_whole_and_ends(tokenize):
    samples, report = tokenize([{"text": "ab"}])
    assert samples == [([97, 98, 2], [1, 1, 1])]
    assert report.trained == 2.0  # the first token is never predicted


def test_kinds_may_be_mixed_in_order(tokenize):
    samples, _ = tokenize([{"text": "ab"}, qa("a", "b"), {"text": "c"}])
    assert [ids for ids, _ in samples] == [[97, 98, 2], AB[0], [99, 2]]


def test_plain_text_without_a_tokenizer(tmp_path, template):
    with (
        TokenWriter(tmp_path) as writer,
        pytest.raises(UserError, match="f, line 1: plain text: no question"),
    ):
        rows = [(0, ({"text": "a"}, Origin("f", 1)))]
        tokenize_rows(rows, Encoder(template), writer, Rules(10, "delete", "stop", {}))


def test_plain_text_without_an_end_token(tokenize, tokenizer, monkeypatch):
    monkeypatch.setattr(type(tokenizer), "eos_token_id", None)
    with pytest.raises(UserError, match="eos_token"):
        tokenize([{"text": "a"}])


def test_delete_counts_and_names_the_row(tokenize):
    samples, report = tokenize([qa("a", "b"), qa("a", "b" * 10)], max_length=5)
    assert samples == [AB]
    dropped = report.dropped["longer than max_length"]
    assert dropped.count == 1
    assert dropped.examples == [{"file": "f.jsonl", "line": 2, "unit": "line", "reason": "14 tokens, --max_length 5"}]


@pytest.mark.parametrize(
    ("strategy", "pieces"),
    [
        ("delete", []),
        ("left", [([4, 5, 6], [0.5, 1, 1])]),
        ("right", [([0, 1, 2], [0, 0, 0])]),
        ("split", [([0, 1, 2], [0, 0, 0]), ([3, 4, 5], [0, 0.5, 1]), ([6], [1])]),
    ],
)
def test_cut(strategy, pieces):
    ids, weights = np.arange(7, dtype=np.int32), np.array([0, 0, 0, 0, 0.5, 1, 1], np.float16)
    found = cut(ids, weights, 3, strategy)
    assert [(i.tolist(), w.tolist()) for i, w in found] == pieces


def test_a_row_that_fits_is_not_cut():
    row = (np.arange(3), np.ones(3))
    assert cut(*row, 3, "delete") == [row]


def test_split_drops_pieces_without_a_trained_token_and_counts_them(tokenize):
    samples, report = tokenize([qa("aaaa", "bbb")], max_length=5, truncation_strategy="split")
    assert samples == [([1, 98, 98, 98, 2], [0, 1, 1, 1, 1])]
    assert (report.rows, report.kept, report.truncated, report.pieces_dropped) == (1, 1, 1, 1)


def test_a_row_left_without_a_trained_token_is_dropped(tokenize):
    rows = [qa("a" * 9, "b"), qa("a", "b")]
    _, report = tokenize(rows, max_length=5, truncation_strategy="right")
    assert report.dropped["no trained token"].count == 1
    assert (report.rows, report.kept, report.truncated) == (2, 1, 0)


def test_an_untrained_conversation_is_dropped(tokenize):
    silent = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "loss": False}]}
    _, report = tokenize([silent, qa("a", "b")])
    assert report.dropped["no trained token"].examples[0]["reason"] == "5 tokens, none of them trained"


def test_stop_names_file_line_reason_and_the_way_out(tokenize):
    with pytest.raises(UserError) as caught:
        tokenize([qa("a", "b"), qa("a", "")])
    assert str(caught.value) == (
        "f.jsonl, line 2: empty content: response; expected text that is not blank; fix it or pass --on_bad_row drop"
    )


def test_drop_counts_each_kind(tokenize):
    rows = [qa("a", "b"), qa("a", ""), Unreadable("not JSON"), qa("REFUSE", "b"), qa("", "b")]
    samples, report = tokenize(rows, on_bad_row="drop")
    assert samples == [AB]
    counts = {kind: entry.count for kind, entry in report.dropped.items()}
    assert counts == {"empty content": 2, "not readable": 1, "refused by the chat template": 1}
    assert report.rows == report.kept + sum(counts.values())


def test_the_row_a_template_refuses_is_named(tokenize):
    with pytest.raises(UserError, match=r"f\.jsonl, line 2: refused by the chat template: the fake template"):
        tokenize([qa("a", "b"), qa("REFUSE", "b"), qa("c", "d")])


def test_twenty_examples_are_kept_of_many(tokenize):
    _, report = tokenize([qa("a", "")] * 50 + [qa("a", "b")], on_bad_row="drop")
    entry = report.dropped["empty content"]
    assert (entry.count, len(entry.examples)) == (50, 20)


def test_all_rows_too_long_says_what_to_do(tokenize):
    with pytest.raises(UserError) as caught:
        tokenize([qa("a" * 20, "b"), qa("a" * 10, "b")], max_length=8)
    text = str(caught.value)
    assert "mine: all 2 rows were dropped (2 longer than max_length)" in text
    assert "raise --max_length 8 (the shortest row has 14 tokens)" in text
    assert "--truncation_strategy" in text


def test_all_rows_bad_shows_the_first(tokenize):
    with pytest.raises(UserError, match=r"1 empty content\); fix the rows; the first is f\.jsonl, line 1"):
        tokenize([qa("a", "")], on_bad_row="drop")


def test_statistics_are_of_the_samples(tokenize):
    _, report = tokenize([qa("a", "b"), qa("a", "b" * 3)])
    assert report.line() == "6.0±1.0, min=5, max=7"


def test_unread_and_renamed_fields_are_counted(tokenize):
    _, report = tokenize([qa("a", "b") | {"id": 1}, qa("a", "b")])
    assert report.ignored_fields == {"id": 1}


def test_progress_after_each_chunk(tokenize):
    seen = []
    tokenize([qa("a", "b")] * 2500, progress=seen.append)
    assert seen == [1000, 2000, 2500]


def test_the_report_survives_json(tokenize):
    import json

    _, report = tokenize([qa("a", "b") | {"id": 1}, qa("a", "")], on_bad_row="drop")
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_plain_text_through_a_real_tokenizer(tmp_path, shared):
    from transformers import PreTrainedTokenizerFast

    file = shared / "tokenizers" / "minimind" / "tokenizer.json"
    if not file.is_file():
        pytest.skip(f"no tokenizer at {file}")
    real = PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token="<|im_end|>")
    encoded = Encoder(None, real).encode([{"text": "Hello world"}])[0]
    assert real.decode(encoded.ids) == "Hello world<|im_end|>"
    assert encoded.weights == [1.0] * len(encoded.ids)
