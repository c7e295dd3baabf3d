"""Batches against tensors written by hand: shifting, masks, borders between documents, fillers."""

import numpy as np
import pytest
import torch

from swiftlite.data.collate import collate

PAD = 2  # equal to the end token, as in many tokenizers
A = (np.array([5, 6, 7, 2], np.int32), np.array([0, 0, 1, 0.5], np.float16))
B = (np.array([8, 2], np.int32), np.array([0, 1], np.float16))


def test_padded_labels_are_shifted():
    batch = collate([A, B], pad_token_id=PAD)
    assert batch.input_ids.tolist() == [[5, 6, 7, 2], [8, 2, PAD, PAD]]
    assert batch.labels.tolist() == [[-100, 7, 2, -100], [2, -100, -100, -100]]
    assert batch.weights.tolist() == [[0, 1, 0.5, 0], [1, 0, 0, 0]]
    assert batch.position_ids is None


def test_the_mask_comes_from_lengths_not_from_ids():
    assert collate([A, B], pad_token_id=PAD).attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_rows_of_one_length_need_no_mask():
    assert collate([A, A], pad_token_id=PAD, pad_to_multiple_of=8).attention_mask is None


def test_length_is_rounded_up():
    batch = collate([A, B], pad_token_id=PAD, pad_to_multiple_of=8)
    assert batch.input_ids.shape == (2, 8)
    assert batch.attention_mask.sum(1).tolist() == [4, 2]


def test_padding_free_joins_documents():
    batch = collate([A, B], pad_token_id=PAD, padding_free=True, pad_to_multiple_of=8)
    assert batch.input_ids.tolist() == [[5, 6, 7, 2, 8, 2]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1]]
    assert batch.attention_mask is None
    assert (batch.cu_seqlens.tolist(), batch.max_seqlen) == ([0, 4, 6], 4)


def test_nothing_is_predicted_across_a_border():
    batch = collate([A, B], pad_token_id=PAD, padding_free=True)
    assert batch.labels.tolist() == [[-100, 7, 2, -100, 2, -100]]
    assert batch.weights.tolist() == [[0, 1, 0.5, 0, 1, 0]]


def test_the_first_token_of_a_trained_row_is_no_target():
    whole = (np.array([5, 6], np.int32), np.ones(2, np.float16))
    batch = collate([whole, whole], pad_token_id=PAD, padding_free=True)
    assert batch.labels.tolist() == [[6, -100, 6, -100]]


@pytest.mark.parametrize("padding_free", [False, True])
def test_counters(padding_free):
    batch = collate([A, B], pad_token_id=PAD, padding_free=padding_free)
    assert (batch.samples, batch.tokens, batch.trained) == (2, 6, 2.5)
    assert batch.padded == batch.input_ids.numel() == (6 if padding_free else 8)


@pytest.mark.parametrize("padding_free", [False, True])
def test_a_filler_computes_and_counts_nothing(padding_free):
    batch = collate([A], pad_token_id=PAD, padding_free=padding_free, counts=False)
    assert batch.input_ids.tolist() == [[5, 6, 7, 2]]
    assert (batch.labels == -100).all() and (batch.weights == 0).all()
    assert (batch.samples, batch.tokens, batch.trained, batch.padded) == (0, 0, 0.0, 4)


def test_types():
    batch = collate([A], pad_token_id=PAD, padding_free=True)
    kinds = (batch.input_ids, batch.position_ids, batch.labels, batch.weights, batch.cu_seqlens)
    expected = [torch.int64, torch.int64, torch.int64, torch.float32, torch.int32]
    assert [tensor.dtype for tensor in kinds] == expected


def test_to_moves_every_tensor_and_keeps_the_counters():
    batch = collate([A, B], pad_token_id=PAD).to("meta")
    assert batch.input_ids.device == batch.attention_mask.device == batch.weights.device == torch.device("meta")
    assert (batch.tokens, batch.cu_seqlens) == (6, None)


@pytest.mark.gpu
def test_pin_memory():
    assert collate([A, B], pad_token_id=PAD).pin_memory().input_ids.is_pinned()


def test_padded_and_padding_free_losses_are_equal():
    """The same toy bigram model on both layouts: the same weighted sum of losses."""
    torch.manual_seed(0)
    table = torch.randn(10, 10)
    sums = []
    for padding_free in (False, True):
        batch = collate([A, B], pad_token_id=PAD, padding_free=padding_free)
        loss = torch.nn.functional.cross_entropy(
            table[batch.input_ids].flatten(0, 1), batch.labels.flatten(), reduction="none"
        )
        sums.append((loss * batch.weights.flatten()).sum())
    torch.testing.assert_close(sums[0], sums[1])
