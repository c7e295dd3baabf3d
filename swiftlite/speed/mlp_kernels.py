"""Triton kernels of the gated MLP between its fp8 products: silu(gate) · up, and its gradients, written in e4m3."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from swiftlite.quant.fp8 import E4M3, LARGEST, SMALLEST_SCALE

# Of those tried on an H200 with 8,160 x 11,008 the fastest.
_WARPS = 32
_GRADIENT_WARPS = 16
_BLOCK = 4096


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
    first, second = _blocks(columns)
    _gated[(tokens,)](
        gate, up, product, out, scale, gate.stride(0), out.stride(0), columns,
        KEEP=keep, FIRST=first, SECOND=second, LARGEST=LARGEST, SMALLEST=SMALLEST_SCALE, num_warps=_WARPS,
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
    strides = incoming.stride(0), gate.stride(0), out.stride(0)
    limits = {"LARGEST": LARGEST, "SMALLEST": SMALLEST_SCALE, "num_warps": _GRADIENT_WARPS}
    if kept is None and column_scale is None:
        first, second = _blocks(columns)
        _held_gradients[(tokens,)](
            incoming, gate, up, out, scale, *strides, columns, gate_start, up_start,
            FIRST=first, SECOND=second, **limits,
        )  # fmt: skip
    else:
        block = max(min(triton.next_power_of_2(columns), _BLOCK), 16)
        _gradients_twice[(tokens,)](
            incoming, gate, up, kept, out, scale, column_scale, *strides, columns, gate_start, up_start,
            KEEP=keep, SCALED=column_scale is not None, BLOCK=block, **limits,
        )  # fmt: skip
    return out, scale, kept


def _blocks(columns: int) -> tuple[int, int]:
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
def _held_gradients(
    incoming, gate, up, out, row_scale, incoming_stride, stride, out_stride, columns, gate_start, up_start,
    FIRST: tl.constexpr, SECOND: tl.constexpr, LARGEST: tl.constexpr, SMALLEST: tl.constexpr,
):  # fmt: skip
    """Holds a row in registers, as two blocks, from its largest value to its digits."""
    row = tl.program_id(0).to(tl.int64)
    incoming += row * incoming_stride
    gate += row * stride
    up += row * stride
    out += row * out_stride
    column = tl.arange(0, FIRST)
    inside = column < columns
    for_gate, for_up = _gradients(incoming + column, gate + column, up + column, inside)
    largest = _largest(for_gate, for_up)
    if SECOND > 0:
        rest_column = FIRST + tl.arange(0, SECOND)
        rest_inside = rest_column < columns
        rest_gate, rest_up = _gradients(incoming + rest_column, gate + rest_column, up + rest_column, rest_inside)
        largest = tl.maximum(largest, _largest(rest_gate, rest_up))
    scale = tl.maximum(largest / LARGEST, SMALLEST)
    inverse = 1.0 / scale
    tl.store(row_scale + row, scale)
    _write(out + gate_start + column, for_gate, inside, inverse)
    _write(out + up_start + column, for_up, inside, inverse)
    if SECOND > 0:
        _write(out + gate_start + rest_column, rest_gate, rest_inside, inverse)  # pyrefly: ignore
        _write(out + up_start + rest_column, rest_up, rest_inside, inverse)  # pyrefly: ignore


@triton.jit
def _gradients_twice(
    incoming, gate, up, kept, out, row_scale, column_scale, incoming_stride, stride, out_stride, columns,
    gate_start, up_start, KEEP: tl.constexpr, SCALED: tl.constexpr, BLOCK: tl.constexpr, LARGEST: tl.constexpr,
    SMALLEST: tl.constexpr,
):  # fmt: skip
    """Reads and computes a row twice, the second time from the cache; where more is written, that is faster."""
    row = tl.program_id(0).to(tl.int64)
    incoming += row * incoming_stride
    gate += row * stride
    up += row * stride
    out += row * out_stride
    largest = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, columns, BLOCK):
        column = start + tl.arange(0, BLOCK)
        inside = column < columns
        for_gate, for_up = _gradients(incoming + column, gate + column, up + column, inside)
        if KEEP:
            tl.store(kept + row * 2 * columns + gate_start + column, for_gate, mask=inside)
            tl.store(kept + row * 2 * columns + up_start + column, for_up, mask=inside)
        for_gate = _scaled(for_gate, column_scale, gate_start + column, inside, SCALED)
        for_up = _scaled(for_up, column_scale, up_start + column, inside, SCALED)
        largest = tl.maximum(largest, tl.maximum(tl.abs(for_gate), tl.abs(for_up)))
    scale = tl.maximum(tl.max(largest) / LARGEST, SMALLEST)
    inverse = 1.0 / scale
    tl.store(row_scale + row, scale)
    for start in range(0, columns, BLOCK):
        column = start + tl.arange(0, BLOCK)
        inside = column < columns
        for_gate, for_up = _gradients(incoming + column, gate + column, up + column, inside)
        _write(
            out + gate_start + column,
            _scaled(for_gate, column_scale, gate_start + column, inside, SCALED),
            inside,
            inverse,
        )
        _write(
            out + up_start + column, _scaled(for_up, column_scale, up_start + column, inside, SCALED), inside, inverse
        )


@triton.jit
def _largest(for_gate, for_up):
    return tl.max(tl.maximum(tl.abs(for_gate.to(tl.float32)), tl.abs(for_up.to(tl.float32))))


@triton.jit
def _write(target, values, inside, inverse):
    tl.store(target, (values.to(tl.float32) * inverse).to(tl.float8e4nv), mask=inside)


@triton.jit
def _gradients(incoming, gate, up, inside):
    """Of gate and up, rounded to their type."""
    stored = tl.load(gate, mask=inside, other=0.0)
    g = stored.to(tl.float32)
    u = tl.load(up, mask=inside, other=0.0).to(tl.float32)
    d = tl.load(incoming, mask=inside, other=0.0).to(tl.float32)
    sigmoid = 1.0 / (1.0 + tl.exp(-g))
    for_gate = d * u * sigmoid * (1.0 + g * (1.0 - sigmoid))
    return for_gate.to(stored.dtype), (d * g * sigmoid).to(stored.dtype)


@triton.jit
def _scaled(values, column_scale, column, inside, SCALED: tl.constexpr):
    values = values.to(tl.float32)
    if SCALED:
        values *= tl.load(column_scale + column, mask=inside, other=0.0)
    return values
