"""Triton kernels that read an output's gradient once for both things an adapter wants of it: dy B and B's gradient.

Both are products with a handful of columns, bound by reading dy: (tokens, rank) sums over its columns, (columns, rank)
over its tokens. A program takes some columns of some tokens and writes what both sums have from there; a second kernel
adds up. No atomics, so that the numbers are the same each time.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# Up to here the partial sums are small beside dy.
LARGEST_RANK = 64
_TOKENS = 64
_COLUMNS = 256
_STAGES = 3
_WARPS = 4
_PROGRAMS = 264


def through_and_gradient(incoming: Tensor, up: Tensor, read: Tensor, through: Tensor) -> Tensor:
    """Writes dy B into `through`, and returns the gradient of B, dy^T (x A^T), (columns, rank) float32.

    Args:
        incoming: dy, (tokens, columns); columns stand next to each other.
        up: B, (columns, rank), rank at most LARGEST_RANK; read: x A^T, (tokens, rank).
        through: (tokens, rank), where the result goes.
    """
    tokens, columns = incoming.shape
    rank = up.shape[1]
    column_blocks = triton.cdiv(columns, _COLUMNS)
    token_blocks = triton.cdiv(tokens, _TOKENS)
    splits = max(min(triton.cdiv(_PROGRAMS, column_blocks), token_blocks), 1)
    each = triton.cdiv(token_blocks, splits) * _TOKENS
    splits = triton.cdiv(tokens, each)
    rank_block = max(triton.next_power_of_2(rank), 16)
    through_parts = torch.empty(column_blocks, tokens, rank, dtype=torch.float32, device=incoming.device)
    gradient_parts = torch.empty(splits, columns, rank, dtype=torch.float32, device=incoming.device)
    _parts[(column_blocks, splits)](
        incoming, up, read, through_parts, gradient_parts, tokens, columns, each, incoming.stride(0), rank,
        up.stride(0), read.stride(0), TOKENS=_TOKENS, COLUMNS=_COLUMNS, RANK=rank_block, STAGES=_STAGES,
        num_warps=_WARPS, num_stages=_STAGES,
    )  # fmt: skip
    gradient = torch.empty(columns, rank, dtype=torch.float32, device=incoming.device)
    _sums[(triton.cdiv(max(tokens, columns), 64), 2)](
        through_parts, gradient_parts, through, gradient, tokens, columns, column_blocks, splits, rank,
        through.stride(0), ROWS=64, RANK=rank_block, num_warps=4,
    )  # fmt: skip
    return gradient


@triton.jit
def _parts(
    incoming, up, read, through_parts, gradient_parts, tokens, columns, each, incoming_stride, rank: tl.constexpr,
    up_stride: tl.constexpr, read_stride: tl.constexpr, TOKENS: tl.constexpr, COLUMNS: tl.constexpr,
    RANK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    # Known when compiled, small strides let whole rows of the rank's few values be loaded at once.
    block, split = tl.program_id(0), tl.program_id(1)
    column = block * COLUMNS + tl.arange(0, COLUMNS)
    r = tl.arange(0, RANK)
    inside = (column < columns)[:, None] & (r < rank)[None, :]
    b = tl.load(up + column[:, None] * up_stride + r[None, :], mask=inside, other=0.0)
    gradient = tl.zeros((COLUMNS, RANK), tl.float32)
    first = split * each
    for start in tl.range(first, min(first + each, tokens), TOKENS, num_stages=STAGES):
        token = (start + tl.arange(0, TOKENS)).to(tl.int64)
        present = token < tokens
        place = incoming + token[:, None] * incoming_stride + column[None, :]
        dy = tl.load(place, mask=present[:, None] & (column < columns)[None, :], other=0.0)
        valid = present[:, None] & (r < rank)[None, :]
        its_read = tl.load(read + token[:, None] * read_stride + r[None, :], mask=valid, other=0.0)
        through = tl.dot(dy, b)
        target = through_parts + (block.to(tl.int64) * tokens + token[:, None]) * rank + r[None, :]
        tl.store(target, through, mask=valid)
        gradient = tl.dot(tl.trans(dy), its_read, gradient)
    target = gradient_parts + (split * columns + column[:, None]) * rank + r[None, :]
    tl.store(target, gradient, mask=inside)


@triton.jit
def _sums(
    through_parts, gradient_parts, through, gradient, tokens, columns, column_blocks, splits, rank: tl.constexpr,
    through_stride: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    r = tl.arange(0, RANK)
    total = tl.zeros((ROWS, RANK), tl.float32)
    if tl.program_id(1) == 0:
        inside = (row < tokens)[:, None] & (r < rank)[None, :]
        for part in range(0, column_blocks):
            place = through_parts + (part * tokens + row[:, None]) * rank + r[None, :]
            total += tl.load(place, mask=inside, other=0.0)
        tl.store(through + row[:, None] * through_stride + r[None, :], total.to(through.dtype.element_ty), mask=inside)
    else:
        inside = (row < columns)[:, None] & (r < rank)[None, :]
        for part in range(0, splits):
            place = gradient_parts + (part * columns + row[:, None]) * rank + r[None, :]
            total += tl.load(place, mask=inside, other=0.0)
        tl.store(gradient + row[:, None] * rank + r[None, :], total, mask=inside)
