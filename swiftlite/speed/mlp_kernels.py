"""Triton kernels of the gated MLP between its fp8 products: silu(gate) · up, and its gradients, written in e4m3."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from swiftlite.quant.fp8 import E4M3, LARGEST, SMALLEST_SCALE

# A row is held in registers, as two blocks, from its largest value to its digits.
WARPS = 32
GRADIENT_WARPS = 16


def gated(gate: Tensor, up: Tensor, *, spare: int, keep: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """silu(gate) · up, rounded to the inputs' type and then to e4m3 with one scale a row.

    Args:
        gate, up: (tokens, columns) each, with one row stride; columns stand next to each other.
        spare: columns left unwritten behind each row.
        keep: whether the product is wanted before it is quantised too.

    Returns:
        (tokens, columns + spare) e4m3, (tokens, 1) float32, and (tokens, columns) or None.
    """
    tokens, columns = gate.shape
    out = torch.empty(tokens, columns + spare, dtype=E4M3, device=gate.device)
    scale = torch.empty(tokens, 1, dtype=torch.float32, device=gate.device)
    product = torch.empty(tokens, columns, dtype=gate.dtype, device=gate.device) if keep else None
    first, second = blocks(columns)
    _gated[(tokens,)](
        gate, up, product, out, scale, gate.stride(0), out.stride(0), columns,
        KEEP=keep, FIRST=first, SECOND=second, LARGEST=LARGEST, SMALLEST=SMALLEST_SCALE, num_warps=WARPS,
    )  # fmt: skip
    return out, scale, product


def gated_gradients(
    incoming: Tensor, gate: Tensor, up: Tensor, *, gate_first: bool, column_scale: Tensor | None, spare: int, keep: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The gradients of gate and up side by side, rounded to the inputs' type and then to e4m3 with one scale a row.

    Args:
        incoming, gate, up: (tokens, columns) each; gate and up have one row stride.
        gate_first: whether gate's gradient comes first.
        column_scale: (2 · columns,) float32, multiplied into the rows before they are quantised.
        spare: columns left unwritten behind each row.
        keep: whether the gradients are wanted before they are scaled and quantised too.

    Returns:
        (tokens, 2 · columns + spare) e4m3, (tokens, 1) float32, and (tokens, 2 · columns) or None.
    """
    tokens, columns = gate.shape
    out = torch.empty(tokens, 2 * columns + spare, dtype=E4M3, device=gate.device)
    scale = torch.empty(tokens, 1, dtype=torch.float32, device=gate.device)
    kept = torch.empty(tokens, 2 * columns, dtype=gate.dtype, device=gate.device) if keep else None
    gate_start, up_start = (0, columns) if gate_first else (columns, 0)
    first, second = blocks(columns)
    _gated_gradients[(tokens,)](
        incoming, gate, up, kept, out, scale, column_scale, incoming.stride(0), gate.stride(0), out.stride(0), columns,
        gate_start, up_start, KEEP=keep, SCALED=column_scale is not None, FIRST=first, SECOND=second, LARGEST=LARGEST,
        SMALLEST=SMALLEST_SCALE, num_warps=GRADIENT_WARPS,
    )  # fmt: skip
    return out, scale, kept


def blocks(columns: int) -> tuple[int, int]:
    """Two powers of two, or one and 0, that cover the columns: 8192 and 4096 for 11,008."""
    whole = max(triton.next_power_of_2(columns), 16)
    half = whole // 2
    rest = max(triton.next_power_of_2(columns - half), 16)
    return (whole, 0) if rest >= half else (half, rest)


@triton.jit
def _gated(
    gate, up, product, out, row_scale, stride, out_stride, columns,
    KEEP: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr, LARGEST: tl.constexpr, SMALLEST: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    gate += row * stride
    up += row * stride
    column = tl.arange(0, FIRST)
    value = _product(gate, up, product, row * columns, column, columns, KEEP)
    largest = tl.max(tl.abs(value.to(tl.float32)))
    if SECOND > 0:
        rest_column = FIRST + tl.arange(0, SECOND)
        rest = _product(gate, up, product, row * columns, rest_column, columns, KEEP)
        largest = tl.maximum(largest, tl.max(tl.abs(rest.to(tl.float32))))
    scale = tl.maximum(largest / LARGEST, SMALLEST)
    inverse = 1.0 / scale
    tl.store(row_scale + row, scale)
    out += row * out_stride
    tl.store(out + column, (value.to(tl.float32) * inverse).to(tl.float8e4nv), mask=column < columns)
    if SECOND > 0:
        tl.store(out + rest_column, (rest.to(tl.float32) * inverse).to(tl.float8e4nv), mask=rest_column < columns)  # pyrefly: ignore


@triton.jit
def _product(gate, up, product, start, column, columns, KEEP: tl.constexpr):
    inside = column < columns
    stored = tl.load(gate + column, mask=inside, other=0.0)
    g = stored.to(tl.float32)
    value = g / (1.0 + tl.exp(-g)) * tl.load(up + column, mask=inside, other=0.0).to(tl.float32)
    value = value.to(stored.dtype)
    if KEEP:
        tl.store(product + start + column, value, mask=inside)
    return value


@triton.jit
def _gated_gradients(
    incoming, gate, up, kept, out, row_scale, column_scale, incoming_stride, stride, out_stride, columns,
    gate_start, up_start, KEEP: tl.constexpr, SCALED: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr,
    LARGEST: tl.constexpr, SMALLEST: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    incoming += row * incoming_stride
    gate += row * stride
    up += row * stride
    out += row * out_stride
    column = tl.arange(0, FIRST)
    inside = column < columns
    for_gate, for_up = gradients(incoming + column, gate + column, up + column, inside)
    largest = _largest(for_gate, for_up, column_scale, column, inside, gate_start, up_start, SCALED)
    if SECOND > 0:
        rest_column = FIRST + tl.arange(0, SECOND)
        rest_inside = rest_column < columns
        rest_gate, rest_up = gradients(incoming + rest_column, gate + rest_column, up + rest_column, rest_inside)
        largest = tl.maximum(
            largest, _largest(rest_gate, rest_up, column_scale, rest_column, rest_inside, gate_start, up_start, SCALED)
        )
    scale = tl.maximum(largest / LARGEST, SMALLEST)
    inverse = 1.0 / scale
    tl.store(row_scale + row, scale)
    start = row * 2 * columns
    _write(for_gate, kept, start, out, column_scale, column, inside, gate_start, inverse, KEEP, SCALED)
    _write(for_up, kept, start, out, column_scale, column, inside, up_start, inverse, KEEP, SCALED)
    if SECOND > 0:
        _write(rest_gate, kept, start, out, column_scale, rest_column, rest_inside, gate_start, inverse, KEEP, SCALED)  # pyrefly: ignore
        _write(rest_up, kept, start, out, column_scale, rest_column, rest_inside, up_start, inverse, KEEP, SCALED)  # pyrefly: ignore


@triton.jit
def _largest(for_gate, for_up, column_scale, column, inside, gate_start, up_start, SCALED: tl.constexpr):
    for_gate = scaled(for_gate, column_scale, gate_start + column, inside, SCALED)
    for_up = scaled(for_up, column_scale, up_start + column, inside, SCALED)
    return tl.max(tl.maximum(tl.abs(for_gate), tl.abs(for_up)))


@triton.jit
def _write(
    values, kept, start, out, column_scale, column, inside, part, inverse, KEEP: tl.constexpr, SCALED: tl.constexpr
):
    if KEEP:
        tl.store(kept + start + part + column, values, mask=inside)
    values = scaled(values, column_scale, part + column, inside, SCALED) * inverse
    tl.store(out + part + column, values.to(tl.float8e4nv), mask=inside)


@triton.jit
def gradients(incoming, gate, up, inside):
    """Of gate and up, rounded to their type."""
    stored = tl.load(gate, mask=inside, other=0.0)
    g = stored.to(tl.float32)
    u = tl.load(up, mask=inside, other=0.0).to(tl.float32)
    d = tl.load(incoming, mask=inside, other=0.0).to(tl.float32)
    sigmoid = 1.0 / (1.0 + tl.exp(-g))
    for_gate = d * u * sigmoid * (1.0 + g * (1.0 - sigmoid))
    return for_gate.to(stored.dtype), (d * g * sigmoid).to(stored.dtype)


@triton.jit
def scaled(values, column_scale, column, inside, SCALED: tl.constexpr):
    values = values.to(tl.float32)
    if SCALED:
        values *= tl.load(column_scale + column, mask=inside, other=0.0)
    return values
