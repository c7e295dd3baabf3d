"""Token arrays come back from disk as they were written, and can be selected and joined."""

import pickle
from fractions import Fraction

import numpy as np
import pytest

from swiftlite.data.tokens import Shard, TokenizedDataset, TokenStatistics, TokenWriter, concatenate

ROWS = [([1, 5, 6], [0, 0, 1]), ([1, 7], [0, 0.5]), ([1, 8, 9, 2], [1, 1, 1, 1])]


def written(folder, rows=ROWS):
    with TokenWriter(folder) as writer:
        for number, (ids, weights) in enumerate(rows):
            writer.add(np.array(ids, np.int32), np.array(weights, np.float16), number)
        writer.finish()
    return folder


def as_lists(dataset):
    return [(ids.tolist(), weights.tolist()) for ids, weights in (dataset[i] for i in range(len(dataset)))]


def test_disk_and_memory_hold_what_was_put_in(tmp_path):
    on_disk = TokenizedDataset.of_shard(Shard.open(written(tmp_path)))
    in_memory = TokenizedDataset.from_rows(ROWS)
    assert as_lists(on_disk) == as_lists(in_memory) == ROWS
    assert (on_disk.hashes == in_memory.hashes).all()
    assert (on_disk.trained == in_memory.trained).all()


def test_types_of_a_sample(tmp_path):
    ids, weights = TokenizedDataset.of_shard(Shard.open(written(tmp_path)))[0]
    assert (ids.dtype, weights.dtype) == (np.int32, np.float16)


def test_headers_grow_in_place(tmp_path):
    many = [([1] * 100, [1.0] * 100)] * 2000
    assert np.load(written(tmp_path, many) / "ids.npy").shape == (200_000,)


def test_lengths_and_trained_weight_after_the_shift():
    dataset = TokenizedDataset.from_rows(ROWS)
    assert dataset.lengths.tolist() == [3, 2, 4]
    assert dataset.trained.tolist() == [1.0, 0.5, 3.0]


def test_trained_weight_is_exact_beyond_half_precision():
    assert TokenizedDataset.from_rows([([1] * 5001, [1.0] * 5001)]).trained.tolist() == [5000.0]


def test_subset_may_repeat_and_keeps_order():
    dataset = TokenizedDataset.from_rows(ROWS).subset([2, 0, 2])
    assert as_lists(dataset) == [ROWS[2], ROWS[0], ROWS[2]]
    assert dataset.lengths.tolist() == [4, 3, 4]


def test_concatenate_subsets():
    one, two = TokenizedDataset.from_rows(ROWS), TokenizedDataset.from_rows(ROWS[:1])
    both = concatenate([one.subset([1]), two, one])
    assert as_lists(both) == [ROWS[1], ROWS[0], *ROWS]
    assert both.trained.tolist() == [0.5, 1.0, 1.0, 0.5, 3.0]
    assert as_lists(both.subset([4, 1])) == [ROWS[2], ROWS[0]]


def test_concatenate_nothing():
    assert len(concatenate([])) == 0


def test_equal_ids_have_equal_hashes():
    hashes = TokenizedDataset.from_rows([([1, 2], [0, 1]), ([1, 2], [1, 1]), ([1, 3], [0, 1])]).hashes
    assert (hashes[0] == hashes[1], hashes[0] == hashes[2]) == (True, False)


def test_a_mapped_set_travels_to_other_processes_by_its_path(tmp_path):
    many = [([1] * 1000, [1.0] * 1000)] * 100
    dataset = TokenizedDataset.of_shard(Shard.open(written(tmp_path, many)))
    packed = pickle.dumps(dataset)
    assert len(packed) < 50_000
    assert as_lists(pickle.loads(packed)) == as_lists(dataset)


def test_a_cut_file_is_damaged(tmp_path):
    written(tmp_path)
    np.save(tmp_path / "weights.npy", np.zeros(3, np.float16))
    with pytest.raises(ValueError, match="damaged"):
        Shard.open(tmp_path)


def test_statistics_in_the_wording_of_ms_swift():
    lengths = np.array([91, 400, 19548])
    mean = Fraction(sum(lengths.tolist()), 3)
    std = float(sum((int(n) - mean) ** 2 for n in lengths) / 3) ** 0.5
    assert TokenStatistics.of(lengths).line() == f"{float(mean):.1f}±{std:.1f}, min=91, max=19548"
