"""Triton kernels around fp8 products: rows and adapter columns to fp8, and weights transposed."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from swiftlite.quant.fp8 import E4M3, LARGEST, SMALLEST_SCALE

# An adapter's weights are scaled to this, so that their products with activations stay inside e4m3's range.
_RANK_LARGEST = 256.0


def quantise_rows(
    x: Tensor, *, column_scale: Tensor | None = None, extra: Tensor | None = None,
    extra_scale: Tensor | None = None, spare: int = 0,
) -> tuple[Tensor, Tensor]:
    """Rows of x · column_scale to e4m3 with one scale a row, and `extra` in the spare columns behind them.

    Each extra value stands there as a high and a low digit, which together carry about 8 bits; the row's scale covers
    both, so an extra value that is larger than all of the row does not overflow.

    Args:
        x: (tokens, columns), half or single precision, contiguous rows.
        column_scale: (columns,) float32.
        extra, extra_scale: (tokens, ranks) and (ranks,) float32.

    Returns:
        (tokens, columns + spare) e4m3 and (tokens, 1) float32.
    """
    tokens, columns = x.shape
    out = torch.empty(tokens, columns + spare, dtype=E4M3, device=x.device)
    scale = torch.empty(tokens, 1, dtype=torch.float32, device=x.device)
    block = triton.next_power_of_2(columns)
    ranks = 0 if extra is None else extra.shape[1]
    _quantise_rows[(tokens,)](
        x, column_scale, extra, extra_scale, out, scale, x.stride(0), 0 if extra is None else extra.stride(0),
        out.stride(0), columns, spare, ranks,
        SCALED=column_scale is not None, BLOCK=block, RANK_BLOCK=max(triton.next_power_of_2(ranks), 2),
        SPARE_BLOCK=max(triton.next_power_of_2(spare), 2), LARGEST=LARGEST, SMALLEST=SMALLEST_SCALE,
        num_warps=4 if block <= 2048 else 8 if block <= 8192 else 16,
    )  # fmt: skip
    return out, scale


@triton.jit
def _quantise_rows(
    x, column_scale, extra, extra_scale, out, row_scale, x_stride, extra_stride, out_stride, columns, spare,
    ranks: tl.constexpr, SCALED: tl.constexpr, BLOCK: tl.constexpr, RANK_BLOCK: tl.constexpr,
    SPARE_BLOCK: tl.constexpr, LARGEST: tl.constexpr, SMALLEST: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    values = tl.load(x + row * x_stride + column, mask=inside, other=0.0).to(tl.float32)
    if SCALED:
        values *= tl.load(column_scale + column, mask=inside, other=0.0)
    largest = tl.max(tl.abs(values))
    rank = tl.arange(0, RANK_BLOCK)
    if ranks > 0:
        added = tl.load(extra + row * extra_stride + rank, mask=rank < ranks, other=0.0).to(tl.float32)
        added *= tl.load(extra_scale + rank, mask=rank < ranks, other=0.0)
        largest = tl.maximum(largest, tl.max(tl.abs(added)))
    scale = tl.maximum(largest / LARGEST, SMALLEST)
    tl.store(row_scale + row, scale)
    tl.store(out + row * out_stride + column, (values / scale).to(tl.float8e4nv), mask=inside)
    behind = out + row * out_stride + columns
    if ranks > 0:
        added = added / scale
        high = added.to(tl.float8e4nv)
        low = (added - high.to(tl.float32)).to(tl.float8e4nv)
        tl.store(behind + rank, high, mask=rank < ranks)
        tl.store(behind + ranks + rank, low, mask=rank < ranks)
        tl.store(behind + 2 * ranks + rank, high, mask=rank < ranks)
    left = tl.arange(0, SPARE_BLOCK)
    zero = tl.zeros((SPARE_BLOCK,), tl.float32).to(tl.float8e4nv)
    tl.store(behind + left, zero, mask=(left >= 3 * ranks) & (left < spare))


def write_ranks(
    values: Tensor, factor: float, row_scale: Tensor | None, rows: Tensor, columns: int, first: int, ranks: int,
    limits: Tensor,
) -> None:  # fmt: skip
    """Writes an adapter's (n, rank) weights into the spare columns of `rows`, and what they were divided by.

    What is written is values · factor / row_scale / limits, as a high and a low digit: the counterpart of the extra
    values of `quantise_rows`, so that one product of whole rows adds up both.

    Args:
        values: (n, rank), any strides.
        row_scale: (n,) float32, the scales of the rows, or None for ones.
        rows: (n, columns + spare) e4m3.
        columns: of `rows` before the spare ones.
        first, ranks: the first of this adapter's ranks, among so many in all.
        limits: (ranks,) float32; [first : first + rank] is written.
    """
    n, rank = values.shape
    arguments = (values, row_scale, rows, limits, n, values.stride(0), values.stride(1), factor)
    _rank_limits[(rank,)](*arguments, first, SCALED=row_scale is not None, LARGEST=_RANK_LARGEST, BLOCK=4096)
    rank_block = max(triton.next_power_of_2(rank), 2)
    block = max(2048 // rank_block, 16)
    _write_ranks[(triton.cdiv(n, block),)](
        *arguments, rows.stride(0), columns, first, ranks, rank,
        SCALED=row_scale is not None, BLOCK=block, RANK_BLOCK=rank_block,
    )  # fmt: skip


@triton.jit
def _rank_limits(
    values, row_scale, rows, limits, n, row_stride, rank_stride, factor, first,
    SCALED: tl.constexpr, LARGEST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    rank = tl.program_id(0)
    largest = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, n, BLOCK):
        row = start + tl.arange(0, BLOCK)
        value = tl.load(values + row * row_stride + rank * rank_stride, mask=row < n, other=0.0).to(tl.float32)
        if SCALED:
            value = value / tl.load(row_scale + row, mask=row < n, other=1.0)
        largest = tl.maximum(largest, tl.abs(value * factor))
    tl.store(limits + first + rank, tl.maximum(tl.max(largest) / LARGEST, 1e-30))


@triton.jit
def _write_ranks(
    values, row_scale, rows, limits, n, row_stride, rank_stride, factor, rows_stride, columns, first, ranks, rank,
    SCALED: tl.constexpr, BLOCK: tl.constexpr, RANK_BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    r = tl.arange(0, RANK_BLOCK)
    inside = (row < n)[:, None] & (r < rank)[None, :]
    place = row[:, None] * row_stride + r[None, :] * rank_stride
    value = tl.load(values + place, mask=inside, other=0.0).to(tl.float32) * factor
    if SCALED:
        value = value / tl.load(row_scale + row, mask=row < n, other=1.0)[:, None]
    value = value / tl.load(limits + first + r, mask=r < rank, other=1.0)[None, :]
    high = value.to(tl.float8e4nv)
    low = (value - high.to(tl.float32)).to(tl.float8e4nv)
    target = rows + row.to(tl.int64)[:, None] * rows_stride + columns + first + r[None, :]
    tl.store(target, high, mask=inside)
    tl.store(target + ranks, high, mask=inside)
    tl.store(target + 2 * ranks, low, mask=inside)


def transpose(rows: Tensor, spare: int) -> Tensor:
    """(n, columns) bytes as (columns, n + spare), the spare ones zero."""
    n, columns = rows.shape
    out = torch.empty(columns, n + spare, dtype=E4M3, device=rows.device)
    source, target = rows.view(torch.int8), out.view(torch.int8)
    grid = (triton.cdiv(n, 128), triton.cdiv(columns, 128))
    _transpose[grid](source, target, n, columns, source.stride(0), target.stride(0), BLOCK=128, num_warps=4)
    if spare:
        target[:, n:].zero_()
    return out


@triton.jit
def _transpose(source, target, n, columns, source_stride, target_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = (row < n)[:, None] & (column < columns)[None, :]
    tile = tl.load(source + row[:, None] * source_stride + column[None, :], mask=inside)
    # Whole tiles on both sides: loads run along the source's rows, stores along the target's.
    tl.store(target + column[:, None] * target_stride + row[None, :], tl.trans(tile), mask=tl.trans(inside))


