"""Some rows of a matrix, none twice, whose gradients go back to their places without being added up."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def take_unique_rows(rows: Tensor, places: Tensor) -> Tensor:
    """`rows[places]`; the host does not wait for the device.

    The gradient is written to its places, exactly and in any order. That of `index_select` is added to zeros, by
    atomic additions on CUDA, or sorted first where algorithms must be deterministic.

    Args:
        rows: (count, ...).
        places: (n,) int64, none of them twice; n may be 0.
    """
    return _TakeUniqueRows.apply(rows, places)  # pyrefly: ignore


class _TakeUniqueRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:  # pyrefly: ignore
        ctx.save_for_backward(places)
        ctx.count = rows.shape[0]
        return rows.index_select(0, places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, None]:  # pyrefly: ignore
        (places,) = ctx.saved_tensors
        whole = incoming.new_zeros(ctx.count, *incoming.shape[1:])
        return whole.index_copy_(0, places, incoming), None
