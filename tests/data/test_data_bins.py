"""Bins: every row in exactly one, none over its size, as full as best-fit-decreasing written plainly makes them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftlite.config.errors import UsageError
from swiftlite.data.bins import BinDataset, pack, pack_data
from swiftlite.data.config import DataConfig
from swiftlite.data.loading import load_data
from swiftlite.data.sampler import EpochPlan
from swiftlite.data.tokens import TokenizedDataset

ROWS = st.lists(st.integers(1, 40), min_size=1, max_size=60)
LIMITS = st.sampled_from([None, 1, 3])


def plain_best_fit(lengths, capacity):
    """The definition, in O(rows * bins): tokens of each bin."""
    bins = []
    for length in sorted(lengths, reverse=True):
        fits = [i for i, tokens in enumerate(bins) if tokens + length <= capacity]
        if fits:
            bins[max(fits, key=lambda i: bins[i])] += length
        else:
            bins.append(length)
    return sorted(bins)


def first_fit(lengths, capacity):
    """Bins that first-fit-decreasing needs."""
    free = np.empty(0, int)
    for length in sorted(lengths, reverse=True):
        fits = free >= length
        at = int(fits.argmax()) if fits.any() else len(free)
        free = free if at < len(free) else np.append(free, capacity)
        free[at] -= length
    return len(free)


@settings(max_examples=200, deadline=None)
@given(lengths=ROWS, capacity=st.integers(40, 100), most_rows=LIMITS)
def test_every_row_is_in_one_bin_and_no_bin_overflows(lengths, capacity, most_rows):
    order, starts = pack(np.array(lengths), capacity, most_rows)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    bins = [order[a:b].tolist() for a, b in itertools.pairwise(starts)]
    assert all(0 < sum(lengths[row] for row in rows) <= capacity for rows in bins)
    assert all(len(rows) <= (most_rows or len(lengths)) for rows in bins)
    assert bins == sorted(sorted(rows) for rows in bins)


@settings(max_examples=200, deadline=None)
@given(lengths=ROWS, capacity=st.integers(40, 100))
def test_bins_are_as_full_as_the_definition_makes_them(lengths, capacity):
    order, starts = pack(np.array(lengths), capacity)
    sums = [sum(lengths[row] for row in order[a:b]) for a, b in itertools.pairwise(starts)]
    # Which of two rows of one length comes first, and which of two equally full bins it joins, is left open.
    assert sorted(sums) == plain_best_fit(lengths, capacity)


@pytest.mark.parametrize("seed", range(3))
def test_rows_as_they_are_in_practice_need_no_more_bins_than_first_fit(seed):
    lengths = np.random.default_rng(seed).lognormal(np.log(435) - 0.5, 1, 2000).astype(int).clip(2, 2048)
    _, starts = pack(lengths, 2048)
    assert len(starts) - 1 <= first_fit(lengths.tolist(), 2048)


def test_a_row_that_fits_nowhere_is_refused():
    with pytest.raises(ValueError, match="3 to 9 tokens in bins of 8"):
        pack(np.array([3, 9]), 8)


def some_rows():
    lengths = np.random.default_rng(0).integers(2, 30, 50)
    random = np.random.default_rng(1)
    return TokenizedDataset.from_rows([(random.integers(0, 9, n), random.random(n)) for n in lengths])


def test_a_bin_counts_what_its_rows_do():
    source = some_rows()
    bins = BinDataset.of(source, 64)
    seen = []
    for i in range(len(bins)):
        rows = bins.members(i)
        ids, weights = bins[i]
        assert ids.tolist() == [int(t) for row, _ in rows for t in row]
        assert bins.lengths[i] == len(ids) == len(weights)
        assert bins.squares[i] == sum(len(row) ** 2 for row, _ in rows)
        assert bins.trained[i] == pytest.approx(sum(float(w[1:].sum(dtype=float)) for _, w in rows))
        assert bins.rows[i] == len(rows) <= bins.most_documents
        seen += [row.tobytes() for row, _ in rows]
    assert sorted(seen) == sorted(source[i][0].tobytes() for i in range(len(source)))
    assert bins.fill == source.lengths.sum() / (64 * len(bins))


def test_the_shortest_rows_do_not_crowd_in_one_bin():
    lengths = [640] * 200 + [2] * 1000
    source = TokenizedDataset.from_rows([(np.zeros(n), np.ones(n)) for n in lengths])
    _, starts = pack(source.lengths, 640)
    assert np.diff(starts).max() == 320
    # 130,000 tokens: 1,200 / 130,000 rows a token, 5.9 a bin.
    assert BinDataset.of(source, 640).most_documents == np.ceil(8 * 640 * 1200 / 130_000)


@settings(max_examples=40, deadline=None)
@given(
    world=st.sampled_from([1, 2, 3]), micro=st.integers(1, 3), accumulation=st.integers(1, 3), epoch=st.integers(0, 2)
)
def test_every_row_is_trained_on_once_an_epoch_and_ranks_stay_together(world, micro, accumulation, epoch):
    source = some_rows()
    bins = BinDataset.of(source, 64)
    plan = EpochPlan(bins.lengths, bins.trained, micro, accumulation, world, seed=3, epoch=epoch)
    steps = [plan.step(k) for k in range(plan.steps)]
    counted = [i for step in steps for share in step.micro_batches for m in share if m.counts for i in m.indices]
    assert sum(bins.rows[counted]) == len(source) and sorted(counted) == list(range(len(bins)))
    assert all(len({len(share) for share in step.micro_batches}) == 1 for step in steps)
    assert sum(step.denominator for step in steps) == pytest.approx(source.trained.sum())


def test_grouping_by_length_is_refused():
    with pytest.raises(UsageError, match="--group_by_length has nothing to do in full bins"):
        DataConfig(packing=True, group_by_length=True).check()


@pytest.fixture
def streamed(config, template, write, monkeypatch):
    """A stream of bins over 40 rows (one of which is too long) in windows of 16 rows, and the rows' tokens."""
    monkeypatch.setattr("swiftlite.data.bins.WINDOW_ROWS", 16)
    lines = [
        {"query": "q" * (n % 5 + 1), "response": str(n) + "a" * (n * 7 % 11 if n != 20 else 99)} for n in range(1, 41)
    ]
    options = config(write("rows.jsonl", lines), streaming=True, packing=True, max_length=40, shuffle_buffer=8)
    rows = load_data(options, template)
    bins = pack_data(load_data(options, template), 40).stream
    return bins, [sample.ids for sample in rows.stream.samples(3, 1)]


def test_a_stream_packs_every_row_once(streamed):
    stream, rows = streamed
    bins = list(stream.samples(3, 1))
    data = stream.dataset(bins)
    packed = [row.tolist() for i in range(len(bins)) for row, _ in data.members(i)]
    assert sorted(packed) == sorted(row.tolist() for row in rows)
    assert len(rows) == 39 and sum(data.rows) == 39 and data.lengths.max() <= 40
    assert [len(sample.ids) for sample in bins] == data.lengths.tolist()
    # Windows of 16, 16 and 8 rows less the one dropped: as full as packing each alone.
    assert len({sample.end.rows for sample in bins if sample.end.pieces}) == 3


def test_a_stream_of_bins_goes_on_at_any_of_them(streamed):
    stream, _ = streamed
    bins = list(stream.samples(3, 1))
    for number, sample in enumerate(bins[:-1], 1):
        rest = list(stream.samples(3, 1, sample.end))
        assert [(r.ids.tolist(), r.end) for r in rest] == [(b.ids.tolist(), b.end) for b in bins[number:]]
