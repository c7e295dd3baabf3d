"""The plan of an epoch: every row once, the same steps on any number of ranks, nothing counted twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftlite.data.sampler import EpochPlan


def plan(rows=100, micro=2, accumulation=4, world=1, seed=0, epoch=0, lengths=None, **options):
    if lengths is None:
        lengths = np.random.default_rng(1).integers(5, 500, rows)
    return EpochPlan(lengths, lengths - 1.0, micro, accumulation, world, seed, epoch, **options)


def counted(step):
    """Rows of a step that count, over all ranks."""
    return [int(i) for share in step.micro_batches for m in share if m.counts for i in m.indices]


def all_steps(epoch_plan):
    return [epoch_plan.step(k) for k in range(epoch_plan.steps)]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 60),
    micro=st.integers(1, 4),
    accumulation=st.integers(1, 3),
    world=st.sampled_from([1, 2, 4]),
    shuffle=st.booleans(),
    grouped=st.booleans(),
)
def test_each_row_once_and_every_rank_in_step(rows, micro, accumulation, world, shuffle, grouped):
    p = plan(rows, micro, accumulation, world, shuffle=shuffle, group_by_length=grouped)
    steps = all_steps(p)
    assert sorted(i for step in steps for i in counted(step)) == list(range(rows))
    for step in steps:
        assert len(step.micro_batches) == world
        assert len({len(share) for share in step.micro_batches}) == 1
        assert len(step.micro_batches[0]) <= accumulation
        assert all(1 <= len(m.indices) <= micro for share in step.micro_batches for m in share)
        assert step.denominator == sum(p.trained[i] for i in counted(step))
    # All but the last are full: no step is short in the middle of an epoch.
    assert all(len(counted(step)) == micro * accumulation * world for step in steps[:-1])


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("rows", [64, 61, 3])
def test_steps_do_not_depend_on_the_number_of_ranks(grouped, rows):
    steps = [all_steps(plan(rows, 2, 8 // world, world, group_by_length=grouped)) for world in (1, 2, 4)]
    for one, two, four in zip(*steps, strict=True):
        assert sorted(counted(one)) == sorted(counted(two)) == sorted(counted(four))
        assert one.denominator == two.denominator == four.denominator


def test_steps_do_not_depend_on_the_micro_batch_size():
    one, two = plan(61, 1, 8), plan(61, 4, 2)
    assert [sorted(counted(s)) for s in all_steps(one)] == [sorted(counted(s)) for s in all_steps(two)]


def test_a_filler_runs_and_does_not_count():
    step = plan(rows=1, micro=1, accumulation=2, world=4).step(0)
    assert [[m.counts for m in share] for share in step.micro_batches] == [[True], [False], [False], [False]]
    assert all(len(share[0].indices) == 1 for share in step.micro_batches)
    assert counted(step) == [0]


def test_a_filler_is_the_cheapest_row():
    step = plan(lengths=np.array([9, 3, 7]), micro=1, accumulation=1, world=2).step(1)
    assert step.micro_batches[1][0].indices.tolist() == [1]


def test_the_same_seed_and_epoch_give_the_same_plan():
    assert (plan(seed=3, epoch=1).order == plan(seed=3, epoch=1).order).all()


@pytest.mark.parametrize("other", [{"seed": 4, "epoch": 1}, {"seed": 3, "epoch": 2}, {"seed": 1, "epoch": 3}])
def test_another_seed_or_epoch_gives_another_order(other):
    assert plan(seed=3, epoch=1).order.tolist() != plan(**other).order.tolist()


def test_without_shuffling_rows_keep_their_order():
    assert plan(rows=20, shuffle=False).order.tolist() == list(range(20))


def test_a_step_can_be_asked_for_alone():
    """Resuming needs the cursor only: step 5 of a new plan is step 5 of the old one."""
    assert counted(plan().step(5)) == counted(all_steps(plan())[5])


def test_beyond_the_last_step():
    p = plan(rows=16)
    assert p.steps == 2
    with pytest.raises(IndexError):
        p.step(2)


def padded(p):
    """Elements computed in an epoch when every micro-batch is padded to its longest row."""
    batches = [m.indices for step in all_steps(p) for share in step.micro_batches for m in share]
    return sum(int(p.lengths[rows].max()) * len(rows) for rows in batches)


def test_grouping_saves_padding():
    real = int(plan(400, micro=8).lengths.sum())
    assert padded(plan(400, micro=8, group_by_length=True)) < 1.15 * real < padded(plan(400, micro=8))


def test_grouping_puts_the_largest_micro_batch_first():
    p = plan(1000, micro=4, group_by_length=True)
    first = p.step(0).micro_batches[0][0].indices
    assert int(np.argmax(p.lengths)) in first


def test_grouping_gives_ranks_similar_lengths_at_a_time():
    p = plan(800, micro=1, accumulation=8, world=2, group_by_length=True)
    gaps = [
        abs(int(p.lengths[a.indices[0]]) - int(p.lengths[b.indices[0]]))
        for step in all_steps(p)
        for a, b in zip(*step.micro_batches, strict=True)
    ]
    assert np.mean(gaps) < 0.3 * 495 / 3  # two uniform draws from 5..500 lie a third of the range apart


def test_grouped_micro_batches_come_in_random_order():
    p = plan(1000, micro=4, group_by_length=True)
    means = [p.lengths[counted(step)].mean() for step in all_steps(p)]
    assert means != sorted(means, reverse=True)
