"""Sampling, holding out and expanding rows, against their definitions."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftlite.data.selection import expand, hold_out, take


def test_no_count_is_every_row_in_order():
    assert take(4, None, 0).tolist() == [0, 1, 2, 3]


def test_a_sample_is_drawn_from_all_rows():
    """ms-swift 2 permuted only the first N rows, so it always took those."""
    drawn = take(1000, 100, 42)
    assert len(set(drawn.tolist())) == 100
    assert drawn.max() > 900


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 50), count=st.integers(1, 200), seed=st.integers(0, 5))
def test_beyond_the_set_each_row_comes_equally_often_up_to_one(rows, count, seed):
    times = Counter(take(rows, count, seed).tolist())
    assert times.total() == count
    assert all(times[row] - count // rows in (0, 1) for row in range(rows))


def test_same_seed_same_sample_and_another_seed_another():
    assert take(100, 10, 1).tolist() == take(100, 10, 1).tolist()
    assert take(100, 10, 1).tolist() != take(100, 10, 2).tolist()


@pytest.mark.parametrize(
    ("rows", "ratio", "held"),
    [(100, 0.1, 10), (100, 0.0, 0), (10, 0.01, 1), (2, 0.01, 1), (1, 0.5, 0), (2, 0.9, 1), (0, 0.5, 0)],
)
def test_rows_held_out(rows, ratio, held):
    assert hold_out(np.ones(rows, bool), ratio, 42).sum() == held


def test_only_kept_rows_are_held_out():
    kept = np.arange(50) % 2 == 0
    held = hold_out(kept, 0.5, 0)
    assert held.sum() == 12  # round(25 / 2), half to even
    assert not (held & ~kept).any()


def test_dropping_other_rows_moves_few_between_the_sets():
    kept = np.ones(1000, bool)
    before = hold_out(kept, 0.1, 42)
    kept[::50] = False
    after = hold_out(kept, 0.1, 42)
    assert (before & kept & ~after).sum() <= 2


def test_expand_gives_pieces_and_skips_what_was_dropped():
    rows = np.array([0, 2, 2, 2, 5])
    assert expand(rows, np.array([2, 1, 0, 2])).tolist() == [1, 2, 3, 0, 1, 2, 3]


def test_expand_nothing():
    assert expand(np.array([0, 1]), np.array([], dtype=np.int64)).tolist() == []
