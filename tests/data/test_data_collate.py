"""Batches against tensors written by hand: shifting, masks, borders between documents, bins, fillers."""

import numpy as np
import pytest
import torch

from swiftlite.data.collate import Layout, collate, collate_bins, collate_blocks
from swiftlite.data.tokens import Packing

PAD = 2  # equal to the end token, as in many tokenizers
A = (np.array([5, 6, 7, 2], np.int32), np.array([0, 0, 1, 0.5], np.float16))
B = (np.array([8, 2], np.int32), np.array([0, 1], np.float16))


def layout(**more):
    return Layout(**{"pad_token_id": PAD, "rows": 2, "length": 6, "multiple": 1} | more)


def test_padded_labels_are_shifted():
    batch = collate([A, B], layout())
    assert batch.input_ids.tolist() == [[5, 6, 7, 2], [8, 2, PAD, PAD]]
    assert batch.labels.tolist() == [[-100, 7, 2, -100], [2, -100, -100, -100]]
    assert batch.weights.tolist() == [[0, 1, 0.5, 0], [1, 0, 0, 0]]
    assert batch.position_ids is None


def test_the_mask_comes_from_lengths_not_from_ids():
    assert collate([A, B], layout()).attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_rows_of_one_length_need_no_mask():
    assert collate([A, A], layout(multiple=8)).attention_mask is None


def test_length_is_rounded_up():
    batch = collate([A, B], layout(multiple=8))
    assert batch.input_ids.shape == (2, 8)
    assert batch.attention_mask.sum(1).tolist() == [4, 2]


def test_padding_free_joins_documents():
    batch = collate([A, B], layout(padding_free=True))
    assert batch.input_ids.tolist() == [[5, 6, 7, 2, 8, 2]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1]]
    assert batch.attention_mask is None
    # Room for two rows and for padding; no document is longer than --max_length.
    assert (batch.cu_seqlens.tolist(), batch.max_seqlen) == ([0, 4, 6, 6], 6)


def test_what_rounds_a_joined_row_up_is_a_document_of_its_own():
    batch = collate([A, B], layout(padding_free=True, multiple=8))
    assert batch.input_ids.tolist() == [[5, 6, 7, 2, 8, 2, PAD, PAD]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 0, 1]]
    assert batch.labels.tolist() == [[-100, 7, 2, -100, 2, -100, -100, -100]]
    assert (batch.cu_seqlens.tolist(), batch.max_seqlen) == ([0, 4, 6, 8], 8)
    assert (batch.tokens, batch.padded) == (6, 8)


def test_the_borders_have_one_length_though_rows_are_missing():
    batch = collate([A, B], layout(padding_free=True, rows=4, multiple=8))
    assert batch.cu_seqlens.tolist() == [0, 4, 6, 8, 8, 8]


def row(length):
    return np.arange(length, dtype=np.int32), np.ones(length, np.float16)


@pytest.mark.parametrize(("lengths", "joined"), [((98, 100), False), ((96, 100), True), ((100,), False)])
def test_rows_of_nearly_one_length_stay_a_rectangle(lengths, joined):
    """Padding 98 + 100 to 200 costs 1.01 % of the tokens, 96 + 100 costs 2.04 %."""
    batch = collate([row(n) for n in lengths], layout(padding_free=True, length=100, multiple=8))
    assert (batch.cu_seqlens is not None) == (batch.position_ids is not None) == joined
    assert batch.attention_mask is None
    assert batch.input_ids.shape == ((1, 200) if joined else (len(lengths), 104))


@pytest.mark.parametrize(
    ("length", "width"), [(5, 8), (300, 304), (1030, 1056), (4100, 4224), (10_000, 10_112)], ids=str
)
def test_long_joined_rows_are_rounded_to_coarser_lengths(length, width):
    """To a 32nd of the power of two below, at least 8 and at most 128 tokens."""
    batch = collate([row(2), row(length - 2)], layout(padding_free=True, length=10_000, multiple=None))
    assert batch.padded == width


def test_bins_are_padded_one_by_one():
    bins = collate_bins([[B, B], [A]], layout(rows=2, length=5, multiple=None, most_documents=3))
    assert bins.input_ids.tolist() == [[8, 2, 8, 2, *[PAD] * 4, 5, 6, 7, 2, *[PAD] * 4]]
    assert bins.position_ids.tolist() == [[0, 1, 0, 1, *range(4), *range(4), *range(4)]]
    assert bins.labels.tolist() == [[2, -100, 2, *[-100] * 6, 7, 2, *[-100] * 5]]
    assert bins.cu_seqlens.tolist() == [0, 2, 4, 8, 12, 16, 16, 16, 16]
    assert (bins.samples, bins.tokens, bins.trained, bins.padded) == (3, 8, 3.5, 16)


@pytest.mark.parametrize(
    ("bins", "apart"),
    [([[row(7)], [row(8)]], True), ([[row(6)], [row(8)]], False), ([[row(8)]], False), ([[B, B], [row(8)]], False)],
    ids=["nearly full", "one is not", "one is missing", "one holds two"],
)
def test_bins_of_one_row_each_stay_a_rectangle(bins, apart):
    batch = collate_bins(bins, layout(rows=2, length=8, most_documents=2))
    assert (batch.cu_seqlens is None) == (batch.position_ids is None) == apart
    assert batch.input_ids.shape == ((2, 8) if apart else (1, 16))
    assert batch.tokens == sum(len(ids) for rows in bins for ids, _ in rows)


@pytest.mark.parametrize(("bins", "counts"), [([[B, B]], True), ([[A]], False)], ids=["last of an epoch", "filler"])
def test_bins_that_are_missing_change_no_shape(bins, counts):
    full = collate_bins([[B, B], [A]], layout(rows=2, length=5, most_documents=3))
    short = collate_bins(bins, layout(rows=2, length=5, most_documents=3), counts)
    # How many positions are trained varies: only the loss sees them, which is not compiled.
    names = ("input_ids", "position_ids", "labels", "weights", "cu_seqlens")
    shapes = [[getattr(b, name).shape for name in names] for b in (full, short)]
    assert shapes[0] == shapes[1] and short.max_seqlen == full.max_seqlen
    assert (short.samples, short.tokens) == ((2, 4) if counts else (0, 0))


def test_nothing_is_predicted_across_a_border():
    batch = collate([A, B], layout(padding_free=True))
    assert batch.labels.tolist() == [[-100, 7, 2, -100, 2, -100]]
    assert batch.weights.tolist() == [[0, 1, 0.5, 0, 1, 0]]


def test_the_first_token_of_a_trained_row_is_no_target():
    whole = (np.array([5, 6], np.int32), np.ones(2, np.float16))
    batch = collate([whole, A, whole], layout(padding_free=True))
    assert batch.labels.tolist() == [[6, -100, -100, 7, 2, -100, 6, -100]]


@pytest.mark.parametrize("padding_free", [False, True])
def test_counters(padding_free):
    batch = collate([A, B], layout(padding_free=padding_free))
    assert (batch.samples, batch.tokens, batch.trained) == (2, 6, 2.5)
    assert batch.padded == batch.input_ids.numel() == (6 if padding_free else 8)


@pytest.mark.parametrize("padding_free", [False, True])
def test_a_filler_computes_and_counts_nothing(padding_free):
    batch = collate([A], layout(padding_free=padding_free), counts=False)
    assert batch.input_ids.tolist() == [[5, 6, 7, 2]]
    assert (batch.labels == -100).all() and (batch.weights == 0).all()
    assert (batch.samples, batch.tokens, batch.trained, batch.padded) == (0, 0, 0.0, 4)


@pytest.mark.parametrize("padding_free", [False, True])
def test_trained_positions_are_where_labels_are(padding_free):
    batch = collate([A, B], layout(padding_free=padding_free))
    assert batch.trained_positions.tolist() == [1, 2, 4]
    assert batch.trained_positions.dtype == torch.int64
    assert batch.labels.flatten()[batch.trained_positions].tolist() == [7, 2, 2]


@pytest.mark.parametrize(("length", "listed"), [(19, True), (20, False)])
def test_positions_are_not_listed_where_nearly_all_are_trained(length, listed):
    """The last of a row has no target: 18 of 19 are 94.7 %, 19 of 20 are 95 %."""
    assert (collate([row(length)], layout(length=20)).trained_positions is not None) == listed


def test_blocks_train_every_position_and_list_none():
    packing = Packing(length=8, separator=0, led=False, isolated=False)
    block = (np.arange(1, 10, dtype=np.int32), np.ones(9, np.float16))
    assert collate_blocks([block], layout(rows=1, length=8, packing=packing)).trained_positions is None


def test_a_filler_has_no_trained_position():
    filler = collate([A], layout(), counts=False)
    assert filler.trained_positions.tolist() == []


def test_types():
    batch = collate([A, B], layout(padding_free=True))
    kinds = (batch.input_ids, batch.position_ids, batch.labels, batch.weights, batch.cu_seqlens)
    expected = [torch.int64, torch.int64, torch.int64, torch.float32, torch.int32]
    assert [tensor.dtype for tensor in kinds] == expected


def test_to_moves_every_tensor_and_keeps_the_counters():
    batch = collate([A, B], layout()).to("meta")
    assert batch.input_ids.device == batch.attention_mask.device == batch.weights.device == torch.device("meta")
    assert (batch.tokens, batch.cu_seqlens) == (6, None)


@pytest.mark.gpu
def test_pin_memory():
    assert collate([A, B], layout()).pin_memory().input_ids.is_pinned()


def test_padded_and_padding_free_losses_are_equal():
    """The same toy bigram model on both layouts: the same weighted sum of losses."""
    torch.manual_seed(0)
    table = torch.randn(10, 10)
    sums = []
    for padding_free in (False, True):
        batch = collate([A, B], layout(padding_free=padding_free))
        loss = torch.nn.functional.cross_entropy(
            table[batch.input_ids].flatten(0, 1), batch.labels.flatten(), reduction="none"
        )
        sums.append((loss * batch.weights.flatten()).sum())
    torch.testing.assert_close(sums[0], sums[1])
