"""Triton kernels around fp8 products: rows to fp8, and weights transposed."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from swiftlite.quant.fp8 import E4M3, LARGEST, SMALLEST_SCALE

# How many values of a row a thread holds at most.
VALUES = 48
_MOST_PARTS = 4


def quantise_rows(
    parts: Sequence[Tensor],
    *,
    column_scale: Tensor | None = None,
    extra: Tensor | None = None,
    extra_scale: Tensor | None = None,
    spare: int = 0,
) -> tuple[Tensor, Tensor]:
    """Rows to e4m3 with one scale a row, and `extra` in the spare columns behind them.

    Each extra value stands there as a high and a low digit, which together carry about 8 bits; the row's scale covers
    both, so an extra value that is larger than all of the row does not overflow.

    Args:
        parts: (tokens, columns_i) each, which stand side by side in the rows.
        column_scale: (columns,) float32, multiplied into the rows.
        extra, extra_scale: (tokens, ranks) and (ranks,) float32.

    Returns:
        (tokens, columns + spare) e4m3 and (tokens, 1) float32.
    """
    if len(parts) > _MOST_PARTS:
        parts = [torch.cat(list(parts), 1)]
    tokens, sizes = parts[0].shape[0], [part.shape[1] for part in parts]
    columns = sum(sizes)
    out = torch.empty(tokens, columns + spare, dtype=E4M3, device=parts[0].device)
    scale = torch.empty(tokens, 1, dtype=torch.float32, device=parts[0].device)
    ranks = 0 if extra is None else extra.shape[1]
    empty = _MOST_PARTS - len(parts)
    # A place holder where nothing is scaled.
    factors = scale if column_scale is None else column_scale
    strides = [part.stride(0) for part in parts] + [0] * empty
    blocks = [max(triton.next_power_of_2(size), 16) for size in sizes]
    warps = min(max(triton.next_power_of_2(triton.cdiv(sum(blocks), 32 * VALUES)), 4), 16)
    _quantise_rows[(tokens,)](
        *parts, *[parts[0]] * empty, factors, extra, extra_scale, out, scale, *strides,
        0 if extra is None else extra.stride(0), out.stride(0), *sizes, *[0] * empty, columns, spare, ranks,
        SCALED=column_scale is not None, **dict(zip(("BLOCK0", "BLOCK1", "BLOCK2", "BLOCK3"), blocks + [0] * empty)),
        RANK_BLOCK=max(triton.next_power_of_2(ranks), 16), SPARE_BLOCK=max(triton.next_power_of_2(spare), 16),
        LARGEST=LARGEST, SMALLEST=SMALLEST_SCALE, num_warps=warps,
    )  # fmt: skip
    return out, scale


@triton.jit
def _quantise_rows(
    p0, p1, p2, p3, column_scale, extra, extra_scale, out, row_scale, stride0, stride1, stride2, stride3,
    extra_stride, out_stride, size0, size1, size2, size3, columns, spare, ranks: tl.constexpr,
    SCALED: tl.constexpr, BLOCK0: tl.constexpr, BLOCK1: tl.constexpr, BLOCK2: tl.constexpr, BLOCK3: tl.constexpr,
    RANK_BLOCK: tl.constexpr, SPARE_BLOCK: tl.constexpr, LARGEST: tl.constexpr, SMALLEST: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    rank = tl.arange(0, RANK_BLOCK)
    start2, start3 = size0 + size1, size0 + size1 + size2
    # All parts are read before the first is looked at, and stay in registers until they are written.
    values0 = _read(p0 + row * stride0, size0, BLOCK0)
    if BLOCK1 > 0:
        values1 = _read(p1 + row * stride1, size1, BLOCK1)
    if BLOCK2 > 0:
        values2 = _read(p2 + row * stride2, size2, BLOCK2)
    if BLOCK3 > 0:
        values3 = _read(p3 + row * stride3, size3, BLOCK3)
    largest = tl.max(tl.abs(_scaled(values0, column_scale, size0, SCALED, BLOCK0)))
    if BLOCK1 > 0:
        largest = tl.maximum(largest, tl.max(tl.abs(_scaled(values1, column_scale + size0, size1, SCALED, BLOCK1))))  # pyrefly: ignore
    if BLOCK2 > 0:
        largest = tl.maximum(largest, tl.max(tl.abs(_scaled(values2, column_scale + start2, size2, SCALED, BLOCK2))))  # pyrefly: ignore
    if BLOCK3 > 0:
        largest = tl.maximum(largest, tl.max(tl.abs(_scaled(values3, column_scale + start3, size3, SCALED, BLOCK3))))  # pyrefly: ignore
    if ranks > 0:
        added = tl.load(extra + row * extra_stride + rank, mask=rank < ranks, other=0.0).to(tl.float32)
        added *= tl.load(extra_scale + rank, mask=rank < ranks, other=0.0)
        largest = tl.maximum(largest, tl.max(tl.abs(added)))
    scale = tl.maximum(largest / LARGEST, SMALLEST)
    inverse = 1.0 / scale
    tl.store(row_scale + row, scale)
    target = out + row * out_stride
    _write(values0, column_scale, size0, inverse, target, SCALED, BLOCK0)
    if BLOCK1 > 0:
        _write(values1, column_scale + size0, size1, inverse, target + size0, SCALED, BLOCK1)
    if BLOCK2 > 0:
        _write(values2, column_scale + start2, size2, inverse, target + start2, SCALED, BLOCK2)
    if BLOCK3 > 0:
        _write(values3, column_scale + start3, size3, inverse, target + start3, SCALED, BLOCK3)
    behind = target + columns
    if ranks > 0:
        _write_digits(behind, added, inverse, rank, ranks)  # pyrefly: ignore
    _write_zeros(behind, ranks, spare, SPARE_BLOCK)


@triton.jit
def _write_digits(behind, added, inverse, rank, ranks: tl.constexpr):
    added = added * inverse
    high = added.to(tl.float8e4nv)
    low = (added - high.to(tl.float32)).to(tl.float8e4nv)
    tl.store(behind + rank, high, mask=rank < ranks)
    tl.store(behind + ranks + rank, low, mask=rank < ranks)
    tl.store(behind + 2 * ranks + rank, high, mask=rank < ranks)


@triton.jit
def _write_zeros(behind, ranks: tl.constexpr, spare, SPARE_BLOCK: tl.constexpr):
    left = tl.arange(0, SPARE_BLOCK)
    zero = tl.zeros((SPARE_BLOCK,), tl.float32).to(tl.float8e4nv)
    tl.store(behind + left, zero, mask=(left >= 3 * ranks) & (left < spare))


def write_extra(
    rows: Tensor,
    scale: Tensor,
    source: Tensor,
    extra: Tensor,
    extra_scale: Tensor,
    *,
    column_scale: Tensor | None = None,
) -> None:
    """Writes `extra` behind rows that were quantised alone, to what quantise_rows makes of both together.

    Where an extra value is larger than all of its row (hardly ever), the row is quantised again with the scale that
    covers both; all other rows are left unread.

    Args:
        rows, scale: (tokens, columns + spare) e4m3 and (tokens, 1), changed in place.
        source: (tokens, columns), what the rows were made of.
    """
    tokens, columns = source.shape
    ranks, spare = extra.shape[1], rows.shape[1] - columns
    _write_extra[(tokens,)](
        rows, scale, source, extra, extra_scale, scale if column_scale is None else column_scale,
        rows.stride(0), source.stride(0), extra.stride(0), columns, spare, ranks, SCALED=column_scale is not None,
        BLOCK=max(triton.next_power_of_2(columns), 16),
        RANK_BLOCK=max(triton.next_power_of_2(ranks), 16), SPARE_BLOCK=max(triton.next_power_of_2(spare), 16),
        LARGEST=LARGEST, num_warps=4,
    )  # fmt: skip


@triton.jit
def _write_extra(
    rows, row_scale, source, extra, extra_scale, column_scale, stride, source_stride, extra_stride, columns, spare,
    ranks: tl.constexpr, SCALED: tl.constexpr, BLOCK: tl.constexpr, RANK_BLOCK: tl.constexpr,
    SPARE_BLOCK: tl.constexpr, LARGEST: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    rank = tl.arange(0, RANK_BLOCK)
    added = tl.load(extra + row * extra_stride + rank, mask=rank < ranks, other=0.0).to(tl.float32)
    added *= tl.load(extra_scale + rank, mask=rank < ranks, other=0.0)
    alone = tl.load(row_scale + row)
    scale = tl.maximum(alone, tl.max(tl.abs(added)) / LARGEST)
    inverse = 1.0 / scale
    target = rows + row * stride
    if scale > alone:
        tl.store(row_scale + row, scale)
        values = _read(source + row * source_stride, columns, BLOCK)
        _write(values, column_scale, columns, inverse, target, SCALED, BLOCK)
    _write_digits(target + columns, added, inverse, rank, ranks)
    _write_zeros(target + columns, ranks, spare, SPARE_BLOCK)


@triton.jit
def _read(row, columns, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    return tl.load(row + column, mask=column < columns, other=0.0)


@triton.jit
def _scaled(values, column_scale, columns, SCALED: tl.constexpr, BLOCK: tl.constexpr):
    values = values.to(tl.float32)
    if SCALED:
        column = tl.arange(0, BLOCK)
        values *= tl.load(column_scale + column, mask=column < columns, other=0.0)
    return values


@triton.jit
def _write(values, column_scale, columns, inverse, target, SCALED: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    values = _scaled(values, column_scale, columns, SCALED, BLOCK) * inverse
    tl.store(target + column, values.to(tl.float8e4nv), mask=column < columns)


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
