"""A stream gives the rows that reading everything at once gives, in an order that can be taken up anywhere."""

import json
import math

import numpy as np
import pytest

from swiftlite.config.errors import UsageError, UserError
from swiftlite.data import stream as stream_module
from swiftlite.data.loading import load_data
from swiftlite.data.sampler import EpochPlan
from swiftlite.data.stream import Position, StreamPlan


@pytest.fixture
def streamed(config, template):
    """streamed(*datasets, **fields) is the Data of a stream."""

    def load(*datasets, **fields):
        return load_data(config(*datasets, streaming=True, **fields), template)

    return load


def plan(data, epoch=0, micro_batch_size=2, accumulation=2, world_size=1, **where):
    shape = {"micro_batch_size": micro_batch_size, "accumulation": accumulation, "world_size": world_size}
    return StreamPlan(data.stream, **shape, seed=7, epoch=epoch, **where)


def rows_of(dataset):
    return [dataset[i][0].tolist() for i in range(len(dataset))]


def steps(plan):
    """[(rows, position behind)] of every step of a pass."""
    found, k = [], plan._next
    while k < plan.steps:
        dataset, _, position = plan.read(k)
        found.append((rows_of(dataset), position))
        k += 1
    return found


def flat(found):
    return [row for rows, _ in found for row in rows]


def mixed_rows(count):
    """Some of them too long, some to be split, some bad."""
    rows = [{"query": f"q{i}", "response": f"{i} " * (1 + i % 5)} for i in range(count)]
    for i in range(3, count, 7):
        rows[i]["response"] = ""
    return rows


OPTIONS = {"max_length": 9, "truncation_strategy": "split", "on_bad_row": "drop"}


def test_unshuffled_rows_are_those_read_at_once(config, write, template, streamed):
    files = [write("a.jsonl", mixed_rows(150)), write("b.jsonl", mixed_rows(40))]
    whole = load_data(config(*files, **OPTIONS), template)
    data = streamed(*files, shuffle_buffer=0, **OPTIONS)
    assert flat(steps(plan(data))) == rows_of(whole.train)
    assert len(whole.train) > 190  # rows were split


def test_steps_are_those_of_an_epoch_in_order(config, write, qa, template, streamed):
    """Denominators, fillers and each rank's share, on one process and on three."""
    path = write("a.jsonl", qa(22))
    whole, data = load_data(config(path), template).train, streamed(path, shuffle_buffer=0)
    for world_size in (1, 3):
        shape = {"micro_batch_size": 2, "accumulation": 2, "world_size": world_size}
        epoch = EpochPlan(whole.lengths, whole.trained, **shape, seed=0, epoch=0, shuffle=False)
        passed = plan(data, **shape)
        for k in range(epoch.steps):
            expected = epoch.step(k)
            rows, step, _ = passed.read(k)
            assert step.denominator == expected.denominator
            got = [[(rows_of(rows.subset(m.indices)), m.counts) for m in rank] for rank in step.micro_batches]
            want = [[(rows_of(whole.subset(m.indices)), m.counts) for m in rank] for rank in expected.micro_batches]
            assert [[rows for rows, counts in rank if counts] for rank in got] == [
                [rows for rows, counts in rank if counts] for rank in want
            ]
            assert [len(rank) for rank in got] == [len(rank) for rank in want]
        assert passed.steps == epoch.steps


def test_the_end_is_known_when_the_last_step_is(write, qa, streamed):
    for rows, expected in ((8, 2), (9, 3)):
        passed = plan(streamed(write("a.jsonl", qa(rows)), shuffle_buffer=0))
        assert passed.steps == math.inf
        for k in range(expected):
            assert passed.steps == math.inf
            passed.read(k)
        assert passed.steps == expected
        with pytest.raises(IndexError):
            passed.read(expected)


def test_a_shuffled_pass_has_every_row_once_in_another_order(write, qa, streamed):
    data = streamed(write("a.jsonl", qa(100)), shuffle_buffer=10)
    first, again, second = (flat(steps(plan(data, epoch=e))) for e in (0, 0, 1))
    ordered = flat(steps(plan(streamed(write("a.jsonl", qa(100)), shuffle_buffer=0))))
    assert first == again
    assert sorted(first) == sorted(second) == sorted(ordered)
    assert first != second and first != ordered


def test_no_row_comes_earlier_than_the_buffer_allows(write, qa, streamed):
    found = flat(steps(plan(streamed(write("a.jsonl", qa(100)), shuffle_buffer=10))))
    answers = [int("".join(map(chr, row)).split("answer ")[1].rstrip("\x02")) for row in found]
    assert all(number <= place + 10 for place, number in enumerate(answers))


def test_the_order_of_the_files_is_kept_without_shuffling(write, qa, streamed):
    data = streamed(write("a.jsonl", qa(50)), dataset_shuffle=False)
    assert flat(steps(plan(data))) == rows_of(data.train)


@pytest.mark.parametrize("buffer", [0, 1, 7, 1000])
def test_a_pass_goes_on_anywhere(write, streamed, buffer, monkeypatch):
    """After any step, whatever the chunks in which rows are tokenised: the rest of the pass is the same."""
    path = write("a.jsonl", mixed_rows(90))
    whole = steps(plan(streamed(path, shuffle_buffer=buffer, **OPTIONS)))
    inside = 0
    for k in range(1, len(whole)):
        monkeypatch.setattr(stream_module, "CHUNK", 5 + k % 13)
        data, position = streamed(path, shuffle_buffer=buffer, **OPTIONS), whole[k - 1][1]
        inside += position.pieces > 0
        assert steps(plan(data, first=k, start=Position(*json.loads(json.dumps(position))))) == whole[k:]
    assert inside > 3  # steps that end within a split row are among them


def test_what_was_read_before_is_not_tokenised_again(write, qa, template, streamed):
    data = streamed(write("a.jsonl", qa(2000)), shuffle_buffer=100)
    before = template.rows_encoded
    plan(data, first=475, start=Position(1900)).read(475)
    assert template.rows_encoded - before == stream_module.CHUNK


def test_reports_add_up(write, streamed):
    data = streamed(write("a.jsonl", mixed_rows(150)), **OPTIONS)
    found = flat(steps(plan(data)))
    source = data.report_at_end()["sources"][0]
    assert source["rows"] == 150 == source["kept"] + sum(d["count"] for d in source["dropped"].values())
    lengths = np.array([len(row) for row in found])
    assert source["samples"] == len(found)
    assert source["line"] == f"{lengths.mean():.1f}±{lengths.std():.1f}, min={lengths.min()}, max={lengths.max()}"
    json.dumps(data.report_at_end())


def test_the_first_rows_stand_for_the_others(write, qa, streamed, monkeypatch):
    monkeypatch.setattr(stream_module, "PREVIEW_ROWS", 10)
    data = streamed(write("a.jsonl", qa(50)), write("b.jsonl", qa(5)))
    assert len(data.train) == 15
    assert [source["rows"] for source in data.report["sources"]] == [10, 5]
    assert (data.report["train"], data.val) == (None, None)


def test_a_validation_set_is_read_whole(write, qa, streamed):
    data = streamed(write("a.jsonl", qa(50)), val_dataset=[write("b.jsonl", qa(5))], split_dataset_ratio=0.5)
    assert (len(data.val), data.report["val"]["samples"]) == (5, 5)


def test_a_count_takes_the_first_rows_and_begins_again(write, qa, streamed):
    path = write("a.jsonl", qa(4))
    for count in (2, 4, 10):
        data = streamed(f"{path}#{count}", shuffle_buffer=0)
        wanted = rows_of(streamed(path, shuffle_buffer=0).train)
        assert flat(steps(plan(data))) == (wanted * 3)[:count]


def test_columns_of_each_source(write, qa, streamed):
    one, two = write("a.jsonl", [{"prompt": "a", "answer": "b"}]), write("b.jsonl", qa(1))
    data = streamed(f"cls-fudan-news-zh={one}", two, shuffle_buffer=2)
    assert len(flat(steps(plan(data)))) == 2


def test_a_column_that_no_row_has(write, qa, streamed):
    with pytest.raises(UsageError, match="--columns names 'qestion', but none of the first 1000 rows"):
        streamed(write("a.jsonl", qa(2)), columns={"qestion": "query"})


def test_a_bad_row_stops_with_its_line(write, qa, streamed, monkeypatch):
    path = write("a.jsonl", [*qa(30), {"query": "q"}])
    with pytest.raises(UserError, match=r"a\.jsonl, line 31: unknown fields: query; .*--on_bad_row drop"):
        streamed(path)
    monkeypatch.setattr(stream_module, "PREVIEW_ROWS", 10)
    with pytest.raises(UserError, match=r"a\.jsonl, line 31: unknown fields"):
        steps(plan(streamed(path)))


def test_nothing_to_train_on(write, qa, streamed, monkeypatch):
    long = [{"query": "q", "response": "x" * 50}] * 30
    with pytest.raises(UserError, match=r"\(the first 1000 rows\): all 30 rows were dropped .*raise --max_length 10"):
        streamed(write("a.jsonl", long), max_length=10)
    # A preview of good rows, and a file that has changed since.
    path = write("a.jsonl", qa(1))
    data = streamed(path, max_length=30)
    write("a.jsonl", long)
    with pytest.raises(UserError, match="all 30 rows were dropped"):
        plan(data).read(0)


def test_data_that_shrank_is_not_gone_on_with(write, qa, streamed):
    data = streamed(write("a.jsonl", qa(10)))
    with pytest.raises(UserError, match="no rows after row 50, where the run was to go on"):
        plan(data, first=5, start=Position(50)).read(5)


@pytest.mark.parametrize(
    "field", [{"group_by_length": True}, {"train_dataset_mix_ratio": 1.0}, {"train_dataset_sample": 5}]
)
def test_what_needs_every_row_is_refused(write, qa, streamed, field):
    with pytest.raises(UsageError, match=f"--{next(iter(field))} .* --streaming true reads them one by one"):
        streamed(write("a.jsonl", qa(2)), **field)
