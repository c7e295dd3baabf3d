"""Triton kernels of the gated MLP's backward pass with adapters on gate or up, whose gradients are never stored.

An adapter wants products with the whole gradient of gate or up. Instead of storing the two gradients, reading each
twice and once more to quantise them, one kernel computes them tile by tile and multiplies each tile where it is, and
another computes them again, row by row, and quantises: what they are computed of is half as much to read.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from swiftlite.quant.fp8 import E4M3, LARGEST, SMALLEST_SCALE
from swiftlite.quant.fp8_kernels import write_digits, write_zeros
from swiftlite.speed.adapter_products import add_products, add_up, load_up, rank_block, store_share, tiles
from swiftlite.speed.mlp_kernels import gradients, scaled

TOKENS = 64
COLUMNS = 128
WARPS = 8
STAGES = 2
PROGRAMS = 528
# Of a row.
BLOCK = 4096
ROW_WARPS = 16


def products(
    incoming: Tensor,
    gate: Tensor,
    up: Tensor,
    ups: Sequence[Tensor | None],
    reads: Sequence[Tensor],
    backs: Sequence[Tensor],
    column_scales: Sequence[Tensor] | None,
) -> tuple[list[Tensor], Tensor]:
    """What adapters take from the gradients of gate and up, and how large these are.

    Args:
        incoming, gate, up: (tokens, columns) each; gate and up have one row stride.
        ups: B of gate and of up, (columns, rank) each, or None. reads: (tokens, rank) each, what its A has read.
        backs: (tokens, rank) each, to which gradient @ B is written.
        column_scales: of gate and of up, (columns,) each, multiplied into them before their size is taken.

    Returns:
        gradient.T @ read of those that have an adapter, (columns, rank) float32, and (n, tokens): the largest values
        of each row, one for each of n blocks of columns.
    """
    tokens, columns = gate.shape
    across, along = grid = tiles(tokens, columns, TOKENS, COLUMNS, PROGRAMS)
    ranks = [0 if one is None else one.shape[1] for one in ups]
    new = {"dtype": torch.float32, "device": gate.device}
    sums = [torch.empty(across, tokens, rank, **new) if rank else None for rank in ranks]
    shares = [torch.empty(along, columns, rank, **new) if rank else None for rank in ranks]
    largest = torch.empty(across, tokens, **new)
    _products[grid](
        incoming, gate, up, *ups, *reads, *sums, *shares, largest, *(column_scales or (None, None)),
        incoming.stride(0), gate.stride(0), reads[0].stride(0), tokens, columns, GATE_RANK=ranks[0], UP_RANK=ranks[1],
        GATE_BLOCK=rank_block(ranks[0]), UP_BLOCK=rank_block(ranks[1]), SCALED=column_scales is not None,
        TOKENS=TOKENS, COLUMNS=COLUMNS, num_warps=WARPS, num_stages=STAGES,
    )  # fmt: skip
    for one, back in zip(sums, backs):
        if one is not None:
            add_up(one, back)
    return [add_up(one, torch.empty(one.shape[1:], **new)) for one in shares if one is not None], largest


@triton.jit
def _products(
    incoming, gate, up, gate_b, up_b, gate_read, up_read, gate_sums, up_sums, gate_shares, up_shares, largest,
    gate_scale, up_scale, incoming_stride, stride, read_stride, tokens, columns,
    GATE_RANK: tl.constexpr, UP_RANK: tl.constexpr, GATE_BLOCK: tl.constexpr, UP_BLOCK: tl.constexpr,
    SCALED: tl.constexpr, TOKENS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    across = tl.program_id(0).to(tl.int64)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    largest += across * tokens
    if GATE_RANK > 0:
        b_of_gate = load_up(gate_b, column, columns, GATE_RANK, GATE_BLOCK)
        gate_share = tl.zeros((COLUMNS, GATE_BLOCK), tl.float32)
        gate_sums += across * tokens * GATE_RANK
    if UP_RANK > 0:
        b_of_up = load_up(up_b, column, columns, UP_RANK, UP_BLOCK)
        up_share = tl.zeros((COLUMNS, UP_BLOCK), tl.float32)
        up_sums += across * tokens * UP_RANK
    step = tl.num_programs(1) * TOKENS
    inside_row = (column < columns)[None, :]
    for_gate = tl.zeros((TOKENS, COLUMNS), gate.dtype.element_ty)
    for_up = for_gate
    # Each tile is multiplied while the next is read; handed from turn to turn it is also computed only once: Triton
    # would compute it anew in the layout of each product.
    for start in range(tl.program_id(1) * TOKENS, tokens + step, step):
        token = (start + tl.arange(0, TOKENS)).to(tl.int64)
        inside = (token < tokens)[:, None] & inside_row
        place = token[:, None] * stride + column[None, :]
        its_place = token[:, None] * incoming_stride + column[None, :]
        next_gate, next_up = gradients(incoming + its_place, gate + place, up + place, inside)
        size = tl.abs(scaled(next_gate, gate_scale, column[None, :], inside_row, SCALED))
        size = tl.maximum(size, tl.abs(scaled(next_up, up_scale, column[None, :], inside_row, SCALED)))
        tl.store(largest + token, tl.max(size, 1), mask=token < tokens)
        before = token - step
        if GATE_RANK > 0:
            gate_share = add_products(
                for_gate, b_of_gate, gate_read, read_stride, gate_sums, gate_share,  # pyrefly: ignore
                before, tokens, GATE_RANK, GATE_BLOCK,
            )  # fmt: skip
        if UP_RANK > 0:
            up_share = add_products(
                for_up, b_of_up, up_read, read_stride, up_sums, up_share,  # pyrefly: ignore
                before, tokens, UP_RANK, UP_BLOCK,
            )  # fmt: skip
        for_gate, for_up = next_gate, next_up
    if GATE_RANK > 0:
        store_share(gate_shares, gate_share, column, columns, GATE_RANK, GATE_BLOCK)  # pyrefly: ignore
    if UP_RANK > 0:
        store_share(up_shares, up_share, column, columns, UP_RANK, UP_BLOCK)  # pyrefly: ignore


def quantised(
    incoming: Tensor,
    gate: Tensor,
    up: Tensor,
    largest: Tensor,
    *,
    gate_first: bool,
    column_scale: Tensor | None,
    extra: Tensor,
    extra_scale: Tensor,
    spare: int,
) -> tuple[Tensor, Tensor]:
    """The gradients of gate and up side by side in e4m3, as quantise_rows makes them with `extra` behind them.

    Args:
        largest: of each row, from `products`.
        gate_first: whether gate's gradient comes first.
        column_scale: (2 · columns,) float32. extra, extra_scale: (tokens, ranks) and (ranks,) float32.

    Returns:
        (tokens, 2 · columns + spare) e4m3 and (tokens, 1) float32.
    """
    tokens, columns = gate.shape
    out = torch.empty(tokens, 2 * columns + spare, dtype=E4M3, device=gate.device)
    scale = torch.empty(tokens, 1, dtype=torch.float32, device=gate.device)
    gate_start, up_start = (0, columns) if gate_first else (columns, 0)
    ranks, parts = extra.shape[1], largest.shape[0]
    _quantised[(tokens,)](
        incoming, gate, up, largest, out, scale, column_scale, extra, extra_scale, incoming.stride(0), gate.stride(0),
        out.stride(0), extra.stride(0), tokens, columns, gate_start, up_start, parts, spare, ranks,
        PARTS=max(triton.next_power_of_2(parts), 16), SCALED=column_scale is not None,
        BLOCK=max(min(triton.next_power_of_2(columns), BLOCK), 16), RANK_BLOCK=rank_block(ranks),
        SPARE_BLOCK=max(triton.next_power_of_2(spare), 16), LARGEST=LARGEST, SMALLEST=SMALLEST_SCALE,
        num_warps=ROW_WARPS,
    )  # fmt: skip
    return out, scale


@triton.jit
def _quantised(
    incoming, gate, up, largest, out, row_scale, column_scale, extra, extra_scale, incoming_stride, stride, out_stride,
    extra_stride, tokens, columns, gate_start, up_start, parts, spare, ranks: tl.constexpr,
    PARTS: tl.constexpr, SCALED: tl.constexpr, BLOCK: tl.constexpr, RANK_BLOCK: tl.constexpr,
    SPARE_BLOCK: tl.constexpr, LARGEST: tl.constexpr, SMALLEST: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    rank = tl.arange(0, RANK_BLOCK)
    added = tl.load(extra + row * extra_stride + rank, mask=rank < ranks, other=0.0).to(tl.float32)
    added *= tl.load(extra_scale + rank, mask=rank < ranks, other=0.0)
    part = tl.arange(0, PARTS).to(tl.int64)
    most = tl.max(tl.load(largest + part * tokens + row, mask=part < parts, other=0.0))
    scale = tl.maximum(tl.maximum(most, tl.max(tl.abs(added))) / LARGEST, SMALLEST)
    inverse = 1.0 / scale
    tl.store(row_scale + row, scale)
    incoming += row * incoming_stride
    gate += row * stride
    up += row * stride
    out += row * out_stride
    for start in range(0, columns, BLOCK):
        column = start + tl.arange(0, BLOCK)
        inside = column < columns
        for_gate, for_up = gradients(incoming + column, gate + column, up + column, inside)
        for_gate = scaled(for_gate, column_scale, gate_start + column, inside, SCALED) * inverse
        for_up = scaled(for_up, column_scale, up_start + column, inside, SCALED) * inverse
        tl.store(out + gate_start + column, for_gate.to(tl.float8e4nv), mask=inside)
        tl.store(out + up_start + column, for_up.to(tl.float8e4nv), mask=inside)
    write_digits(out + 2 * columns, added, inverse, rank, ranks)  # pyrefly: ignore
    write_zeros(out + 2 * columns, ranks, spare, SPARE_BLOCK)
