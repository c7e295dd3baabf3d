"""Triton kernels that write the copies of all adapters at once, from a table of their addresses."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from swiftlite.quant.fp8 import SMALLEST_SCALE

# An adapter's digits are scaled to this; what it is multiplied by stays inside e4m3's range with it.
_LARGEST = 256.0
_FIELDS = 17
_TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


def write_copies(
    table: Tensor, factors: Tensor, *, longest: int, rank: int, source: torch.dtype, target: torch.dtype
) -> None:
    """Writes up, down and, where an adapter has them, limits and digits.

    With v = s · B or v = A^T, over the scale of the rows it stands behind, the limits are max |v| / 256 of each rank,
    and the digits v / limits in e4m3: high, high and low, so that beside activations written as high, low, high
    (quantise_rows) one sum holds high·high + low·high + high·low, about 8 bits of either.

    Args:
        table: (adapters, 17) int64, rows of speed/adapter_copies.py.
        factors: (adapters,) float32, s.
        longest, rank: the largest input or output size, and the largest rank.
    """
    types = {"SOURCE": _TYPES[source], "TARGET": _TYPES[target]}
    _write_limits[(len(table), rank, 2)](
        table, factors, FIELDS=_FIELDS, LARGEST=_LARGEST, SMALLEST=SMALLEST_SCALE, BLOCK=2048, SOURCE=types["SOURCE"]
    )
    rank_block = max(triton.next_power_of_2(rank), 16)
    block = max(4096 // rank_block, 16)
    _write_copies[(len(table), triton.cdiv(longest, block), 2)](
        table, factors, FIELDS=_FIELDS, BLOCK=block, RANK_BLOCK=rank_block, **types
    )


@triton.jit
def _address(base, place, kind: tl.constexpr):
    return tl.load(base + place).to(tl.pointer_type(kind))


@triton.jit
def _write_limits(
    table, factors, FIELDS: tl.constexpr, LARGEST: tl.constexpr, SMALLEST: tl.constexpr, BLOCK: tl.constexpr,
    SOURCE: tl.constexpr,
):  # fmt: skip
    one = table + tl.program_id(0) * FIELDS
    r = tl.program_id(1)
    for_b = tl.program_id(2) == 0
    rank = tl.load(one + 11)
    rides = tl.load(one + 4) != 0
    if rides & (r < rank):
        largest = tl.zeros((BLOCK,), tl.float32)
        if for_b:
            n = tl.load(one + 9)
            b = _address(one, 1, SOURCE)
            scale = _address(one, 5, tl.float32)
            for start in range(0, n, BLOCK):
                row = start + tl.arange(0, BLOCK)
                value = tl.load(b + row * rank + r, mask=row < n, other=0.0).to(tl.float32)
                largest = tl.maximum(largest, tl.abs(value / tl.load(scale + row, mask=row < n, other=1.0)))
            limit = tl.max(largest) * tl.abs(tl.load(factors + tl.program_id(0))) / LARGEST
            tl.store(_address(one, 6, tl.float32) + tl.load(one + 12) + r, tl.maximum(limit, SMALLEST))
        else:
            n = tl.load(one + 10)
            a = _address(one, 0, SOURCE)
            for start in range(0, n, BLOCK):
                row = start + tl.arange(0, BLOCK)
                value = tl.load(a + r * n + row, mask=row < n, other=0.0).to(tl.float32)
                largest = tl.maximum(largest, tl.abs(value))
            limit = tl.max(largest) / _back_scale(one) / LARGEST
            tl.store(_address(one, 8, tl.float32) + tl.load(one + 12) + r, tl.maximum(limit, SMALLEST))


@triton.jit
def _write_copies(
    table, factors, FIELDS: tl.constexpr, BLOCK: tl.constexpr, RANK_BLOCK: tl.constexpr,
    SOURCE: tl.constexpr, TARGET: tl.constexpr,
):  # fmt: skip
    one = table + tl.program_id(0) * FIELDS
    row = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    r = tl.arange(0, RANK_BLOCK)
    outputs, inputs, rank = tl.load(one + 9), tl.load(one + 10), tl.load(one + 11)
    rides = tl.load(one + 4) != 0
    if tl.program_id(2) == 0:
        inside = (row < outputs)[:, None] & (r < rank)[None, :]
        place = row[:, None] * rank + r[None, :]
        value = tl.load(_address(one, 1, SOURCE) + place, mask=inside, other=0.0).to(tl.float32)
        value *= tl.load(factors + tl.program_id(0))
        tl.store(_address(one, 3, TARGET) + place, value.to(TARGET), mask=inside)
        if rides:
            value = value / tl.load(_address(one, 5, tl.float32) + row, mask=row < outputs, other=1.0)[:, None]
            first, ranks = tl.load(one + 12), tl.load(one + 13)
            value = value / tl.load(_address(one, 6, tl.float32) + first + r, mask=r < rank, other=1.0)[None, :]
            start = inputs + first
            _write_digits(_address(one, 4, tl.float8e4nv), value, inside, row, r, tl.load(one + 14), start, ranks)
    else:
        inside = (row < inputs)[:, None] & (r < rank)[None, :]
        place = r[None, :] * inputs + row[:, None]
        value = tl.load(_address(one, 0, SOURCE) + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(_address(one, 2, TARGET) + place, value.to(TARGET), mask=inside)
        if rides:
            value = value / _back_scale(one)
            first, ranks = tl.load(one + 12), tl.load(one + 13)
            value = value / tl.load(_address(one, 8, tl.float32) + first + r, mask=r < rank, other=1.0)[None, :]
            _write_digits(_address(one, 7, tl.float8e4nv), value, inside, row, r, tl.load(one + 15), first, ranks)


@triton.jit
def _back_scale(one):
    """The one scale of all rows, or 1 where each has its own."""
    address = tl.load(one + 16)
    scale = 1.0
    if address != 0:
        scale = tl.load(address.to(tl.pointer_type(tl.float32)))
    return scale


@triton.jit
def _write_digits(target, value, inside, row, r, stride, start, ranks):
    high = value.to(tl.float8e4nv)
    low = (value - high.to(tl.float32)).to(tl.float8e4nv)
    place = target + row.to(tl.int64)[:, None] * stride + start + r[None, :]
    tl.store(place, high, mask=inside)
    tl.store(place + ranks, high, mask=inside)
    tl.store(place + 2 * ranks, low, mask=inside)
