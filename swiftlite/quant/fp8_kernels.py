"""Triton kernels around fp8 products: rows to fp8, and weights transposed."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from swiftlite.quant.fp8 import E4M3, LARGEST, SMALLEST_SCALE

_BLOCK = 4096


def quantise_rows(
    x: Tensor,
    *,
    column_scale: Tensor | None = None,
    extra: Tensor | None = None,
    extra_scale: Tensor | None = None,
    spare: int = 0,
) -> tuple[Tensor, Tensor]:
    """Rows of x · column_scale to e4m3 with one scale a row, and `extra` in the spare columns behind them.

    Each extra value stands there as a high and a low digit, which together carry about 8 bits; the row's scale covers
    both, so an extra value that is larger than all of the row does not overflow.

    Args:
        x: (tokens, columns), half or single precision, contiguous rows.
        column_scale: (columns,), half or single precision.
        extra, extra_scale: (tokens, ranks) and (ranks,) float32.

    Returns:
        (tokens, columns + spare) e4m3 and (tokens, 1) float32.
    """
    tokens, columns = x.shape
    out = torch.empty(tokens, columns + spare, dtype=E4M3, device=x.device)
    scale = torch.empty(tokens, 1, dtype=torch.float32, device=x.device)
    ranks = 0 if extra is None else extra.shape[1]
    # Each row's factors are loaded once for several rows.
    group = 1 if column_scale is None else 4
    _quantise_rows[(triton.cdiv(tokens, group),)](
        x, column_scale, extra, extra_scale, out, scale, x.stride(0), 0 if extra is None else extra.stride(0),
        out.stride(0), tokens, columns, spare, ranks,
        ROWS=group, SCALED=column_scale is not None, BLOCK=min(triton.next_power_of_2(columns), _BLOCK),
        RANK_BLOCK=max(triton.next_power_of_2(ranks), 16), SPARE_BLOCK=max(triton.next_power_of_2(spare), 16),
        LARGEST=LARGEST, SMALLEST=SMALLEST_SCALE, num_warps=4,
    )  # fmt: skip
    return out, scale


@triton.jit
def _quantise_rows(
    x, column_scale, extra, extra_scale, out, row_scale, x_stride, extra_stride, out_stride, tokens, columns, spare,
    ranks: tl.constexpr, ROWS: tl.constexpr, SCALED: tl.constexpr, BLOCK: tl.constexpr, RANK_BLOCK: tl.constexpr,
    SPARE_BLOCK: tl.constexpr, LARGEST: tl.constexpr, SMALLEST: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0).to(tl.int64) * ROWS
    rank = tl.arange(0, RANK_BLOCK)
    left = tl.arange(0, SPARE_BLOCK)
    for step in range(ROWS):
        row = first + step
        # Behind the last row nothing is read or written.
        end = tl.where(row < tokens, columns, 0)
        known = rank < tl.where(row < tokens, ranks, 0)
        largest = 0.0
        # The row is read twice; the second time it comes from the cache.
        for start in range(0, columns, BLOCK):
            column = start + tl.arange(0, BLOCK)
            values = _scaled(x + row * x_stride, column_scale, column, column < end, SCALED)
            largest = tl.maximum(largest, tl.max(tl.abs(values)))
        if ranks > 0:
            added = tl.load(extra + row * extra_stride + rank, mask=known, other=0.0).to(tl.float32)
            added *= tl.load(extra_scale + rank, mask=known, other=0.0)
            largest = tl.maximum(largest, tl.max(tl.abs(added)))
        scale = tl.maximum(largest / LARGEST, SMALLEST)
        inverse = 1.0 / scale
        tl.store(row_scale + row, scale, mask=row < tokens)
        target = out + row * out_stride
        for start in range(0, columns, BLOCK):
            column = start + tl.arange(0, BLOCK)
            inside = column < end
            values = _scaled(x + row * x_stride, column_scale, column, inside, SCALED)
            tl.store(target + column, (values * inverse).to(tl.float8e4nv), mask=inside)
        if ranks > 0:
            added = added * inverse  # pyrefly: ignore
            high = added.to(tl.float8e4nv)
            low = (added - high.to(tl.float32)).to(tl.float8e4nv)
            tl.store(target + columns + rank, high, mask=known)
            tl.store(target + columns + ranks + rank, low, mask=known)
            tl.store(target + columns + 2 * ranks + rank, high, mask=known)
        zero = tl.zeros((SPARE_BLOCK,), tl.float32).to(tl.float8e4nv)
        tl.store(target + columns + left, zero, mask=(left >= 3 * ranks) & (left < tl.where(row < tokens, spare, 0)))


@triton.jit
def _scaled(row, column_scale, column, inside, SCALED: tl.constexpr):
    values = tl.load(row + column, mask=inside, other=0.0).to(tl.float32)
    if SCALED:
        values *= tl.load(column_scale + column, mask=inside, other=0.0).to(tl.float32)
    return values


def transpose(rows: Tensor, behind: Tensor | None) -> Tensor:
    """(n, columns) e4m3 as (columns, n + spare), with `behind` (columns, spare) in the spare columns."""
    n, columns = rows.shape
    spare = 0 if behind is None else behind.shape[1]
    out = torch.empty(columns, n + spare, dtype=E4M3, device=rows.device)
    source, target = rows.view(torch.int8), out.view(torch.int8)
    last = target if behind is None else behind.view(torch.int8)
    grid = (triton.cdiv(n, 128) + (spare > 0), triton.cdiv(columns, 128))
    _transpose[grid](
        source, target, last, n, columns, source.stride(0), target.stride(0), SPARE=spare, BLOCK=128, num_warps=4
    )
    return out


@triton.jit
def _transpose(
    source, target, behind, n, columns, source_stride, target_stride, SPARE: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    if tl.program_id(0) * BLOCK >= n:
        for start in tl.static_range(0, SPARE, BLOCK):
            place = start + tl.arange(0, BLOCK)
            inside = (column < columns)[:, None] & (place < SPARE)[None, :]
            last = tl.load(behind + column[:, None] * SPARE + place[None, :], mask=inside)
            tl.store(target + column[:, None] * target_stride + n + place[None, :], last, mask=inside)
    else:
        inside = (row < n)[:, None] & (column < columns)[None, :]
        tile = tl.load(source + row[:, None] * source_stride + column[None, :], mask=inside)
        # Whole tiles on both sides: loads run along the source's rows, stores along the target's.
        tl.store(target + column[:, None] * target_stride + row[None, :], tl.trans(tile), mask=tl.trans(inside))
