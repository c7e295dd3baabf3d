"""Triton kernels of the gated MLP between its products in half precision, which add what its adapters give."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_TOKENS = 32
_COLUMNS = 128
_WARPS = 8


def gated(gate: Tensor, up: Tensor, gate_read: Tensor, up_read: Tensor, gate_b: Tensor, up_b: Tensor) -> Tensor:
    """silu(gate + gate_read gate_b^T) · (up + up_read up_b^T), (tokens, columns).

    Args:
        gate, up: (tokens, columns), what the frozen layers give.
        gate_read, up_read: (tokens, rank), what each adapter has read; gate_b, up_b: (columns, rank), s · B.
    """
    tokens, columns = gate.shape
    product = torch.empty_like(gate)
    grid, blocks = _launch(tokens, columns, gate_b, up_b)
    _gated[grid](
        gate, up, gate_read, up_read, gate_b, up_b, product, tokens, columns, gate_read.stride(0), up_read.stride(0),
        gate_b.shape[1], up_b.shape[1], **blocks,
    )  # fmt: skip
    return product


def gated_gradients(
    incoming: Tensor, back: Tensor, a: Tensor, gate: Tensor, up: Tensor, gate_read: Tensor, up_read: Tensor,
    gate_b: Tensor, up_b: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The gradients of gate and up, of which gate's takes the place of `incoming`.

    Args:
        incoming: (tokens, columns), what came through the last layer's weight; back: (tokens, rank), what came
            through its adapter's B, and a: (rank, columns), its A.
    """
    tokens, columns = gate.shape
    for_up = torch.empty_like(up)
    grid, blocks = _launch(tokens, columns, gate_b, up_b, a.t())
    _gated_gradients[grid](
        incoming, back, a, gate, up, gate_read, up_read, gate_b, up_b, for_up, tokens, columns, back.stride(0),
        a.stride(0), gate_read.stride(0), up_read.stride(0), a.shape[0], gate_b.shape[1], up_b.shape[1], **blocks,
    )  # fmt: skip
    return incoming, for_up


def _launch(tokens: int, columns: int, *adapters: Tensor) -> tuple[tuple[int, int], dict[str, int]]:
    rank = max(triton.next_power_of_2(max(one.shape[1] for one in adapters)), 16)
    # Ranks of 64 would fill the registers.
    size = max(16, min(_COLUMNS, _COLUMNS * 16 // rank))
    grid = (triton.cdiv(columns, size), triton.cdiv(tokens, _TOKENS))
    return grid, {"TOKENS": _TOKENS, "COLUMNS": size, "RANK": rank, "num_warps": _WARPS}


@triton.jit
def _gated(
    gate, up, gate_read, up_read, gate_b, up_b, product, tokens, columns, gate_stride: tl.constexpr,
    up_stride: tl.constexpr, gate_rank: tl.constexpr, up_rank: tl.constexpr, TOKENS: tl.constexpr,
    COLUMNS: tl.constexpr, RANK: tl.constexpr,
):  # fmt: skip
    token = (tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)).to(tl.int64)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    g, place, inside = _layer(
        gate, gate_read, gate_b, token, column, tokens, columns, gate_stride, gate_rank, TOKENS, COLUMNS, RANK
    )
    u, place, inside = _layer(
        up, up_read, up_b, token, column, tokens, columns, up_stride, up_rank, TOKENS, COLUMNS, RANK
    )
    value = g / (1.0 + tl.exp(-g)) * u
    tl.store(product + place, value.to(product.dtype.element_ty), mask=inside)


@triton.jit
def _gated_gradients(
    incoming, back, a, gate, up, gate_read, up_read, gate_b, up_b, for_up, tokens, columns, back_stride: tl.constexpr,
    a_stride, gate_stride: tl.constexpr, up_stride: tl.constexpr, a_rank: tl.constexpr, gate_rank: tl.constexpr,
    up_rank: tl.constexpr, TOKENS: tl.constexpr, COLUMNS: tl.constexpr, RANK: tl.constexpr,
):  # fmt: skip
    token = (tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)).to(tl.int64)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    g, place, inside = _layer(
        gate, gate_read, gate_b, token, column, tokens, columns, gate_stride, gate_rank, TOKENS, COLUMNS, RANK
    )
    u, place, inside = _layer(
        up, up_read, up_b, token, column, tokens, columns, up_stride, up_rank, TOKENS, COLUMNS, RANK
    )
    r = tl.arange(0, RANK)
    valid = (token < tokens)[:, None] & (r < a_rank)[None, :]
    came = tl.load(back + token[:, None] * back_stride + r[None, :], mask=valid, other=0.0)
    valid = (r < a_rank)[:, None] & (column < columns)[None, :]
    down = tl.load(a + r[:, None] * a_stride + column[None, :], mask=valid, other=0.0)
    d = tl.dot(came, down) + tl.load(incoming + place, mask=inside, other=0.0).to(tl.float32)
    sigmoid = 1.0 / (1.0 + tl.exp(-g))
    for_gate = d * u * sigmoid * (1.0 + g * (1.0 - sigmoid))
    tl.store(for_up + place, (d * g * sigmoid).to(for_up.dtype.element_ty), mask=inside)
    tl.store(incoming + place, for_gate.to(incoming.dtype.element_ty), mask=inside)


@triton.jit
def _layer(
    y, read, b, token, column, tokens, columns, read_stride: tl.constexpr, rank: tl.constexpr,
    TOKENS: tl.constexpr, COLUMNS: tl.constexpr, RANK: tl.constexpr,
):  # fmt: skip
    """A layer's output with its adapter's, float32; where it stands, and what of it there is."""
    r = tl.arange(0, RANK)
    valid = (token < tokens)[:, None] & (r < rank)[None, :]
    its_read = tl.load(read + token[:, None] * read_stride + r[None, :], mask=valid, other=0.0)
    valid = (column < columns)[:, None] & (r < rank)[None, :]
    its_b = tl.load(b + column[:, None] * rank + r[None, :], mask=valid, other=0.0)
    place = token[:, None] * columns + column[None, :]
    inside = (token < tokens)[:, None] & (column < columns)[None, :]
    return tl.dot(its_read, tl.trans(its_b)) + tl.load(y + place, mask=inside, other=0.0).to(tl.float32), place, inside
