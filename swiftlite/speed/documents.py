"""Where the documents of a batch lie, however its rows are laid out; nothing here waits for the device."""

import torch
from torch import Tensor


def document_borders(input_ids: Tensor, cu_seqlens: Tensor | None, row_lengths: Tensor | None) -> Tensor:
    """(documents + 1,) int32: the borders of all documents along the batch * seq tokens; padding is one of its own.

    Args:
        input_ids: (batch, seq).
        cu_seqlens, row_lengths: as in a `Batch`; without either each row is one document to its end.
    """
    if cu_seqlens is not None:
        return cu_seqlens
    rows, width = input_ids.shape
    starts = torch.arange(rows + 1, dtype=torch.int32, device=input_ids.device) * width
    if row_lengths is None:
        return starts
    ends = starts[:-1] + row_lengths.to(torch.int32)
    return torch.cat([torch.stack([starts[:-1], ends], dim=1).flatten(), starts[-1:]])


def document_of(borders: Tensor, tokens: int) -> Tensor:
    """(tokens,) int64: the number of the document that each token is in; empty documents have none."""
    places = torch.arange(tokens, dtype=borders.dtype, device=borders.device)
    return torch.bucketize(places, borders, right=True) - 1
