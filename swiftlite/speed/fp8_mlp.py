"""The gated MLP, down(silu(gate(x)) · up(x)), with its layers in fp8 and what lies between the products in one pass.

Layer by layer, silu(gate) · up is written in half precision, read to find each row's largest value and read again to be
quantised, and so are both gradients on the way back. Here one kernel computes and quantises; half precision is written
only where an adapter reads it. The numbers are those of the layers one by one (fp8_linears.py).
"""

import torch
from torch import Tensor

from swiftlite.quant import fp8
from swiftlite.speed.fp8_linears import Fp8Layers, Settings, flat, input_gradient, no_read
from swiftlite.speed.frozen_linears import adapter_gradients, spread, spread_gradients


def fp8_mlp(x: Tensor, first: Fp8Layers, last: Fp8Layers, gate: int) -> Tensor:
    """down(silu(gate(x)) · up(x)), (..., out), for x (..., in); gradients go to x and the adapters.

    Args:
        first: gate and up; gate: which of the two is gate, 0 or 1.
        last: down.
    """
    rows = x.reshape(-1, x.shape[-1]).to(first.dtype)
    first_settings, first_trained, first_kept = flat(first)
    last_settings, last_trained, last_kept = flat(last)
    settings = (first_settings, last_settings, gate, x.requires_grad, len(first_kept))
    output = _Fp8Mlp.apply(settings, rows, *first_trained, *last_trained, *first_kept, *last_kept)
    return output.view(*x.shape[:-1], output.shape[-1])


class _Fp8Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, settings, x, *tensors):  # pyrefly: ignore
        first, last, gate, _, kept = settings
        bias, last_bias = tensors[0], tensors[first.trained]
        tensors = tensors[first.trained + last.trained :]
        rows, scale, _, _, copies, riders = _named(first, tensors[:kept])
        y, read = torch.ops.swiftlite.fp8_linears(x, rows, scale, copies, riders, first.adapted, bias, first.sizes)
        rows, scale, _, _, copies, riders = _named(last, tensors[kept:])
        # Two operators, so that a checkpointed layer need not compute the last product again.
        product, its_read, *quantised = torch.ops.swiftlite.fp8_gated(y, gate, copies, riders)
        output = torch.ops.swiftlite.fp8_last_product(*quantised, rows, scale, last_bias, its_read, copies, riders)
        ctx.settings = settings
        wanted = (*first.wanted_back(x, read), *last.wanted_back(product, its_read))
        ctx.save_for_backward(y, *wanted, *tensors)
        return output

    @staticmethod
    def backward(ctx, incoming):  # pyrefly: ignore
        first, last, gate, for_x, kept = ctx.settings
        y, x, read, product, its_read, *tensors = ctx.saved_tensors
        read, its_read = (no_read(y) if one is None else one for one in (read, its_read))
        *weights, copies, riders = _named(last, tensors[kept:])
        through = for_x or bool(first.ranks)
        gradients = torch.ops.swiftlite.fp8_linears_backward(
            [incoming], product, its_read, *weights, copies, riders, last.adapted, through
        )
        last_a, last_b, incoming = spread_gradients(last, gradients)
        gradients = []
        if through:
            *weights, copies, riders = _named(first, tensors[:kept])
            gradients = torch.ops.swiftlite.fp8_gated_backward(
                incoming, y, gate, x, read, *weights, copies, riders, first.adapted, for_x
            )
        first_a, first_b, for_x = spread_gradients(first, gradients)
        return (None, for_x, None, *first_a, *first_b, None, *last_a, *last_b, *[None] * len(tensors))


def _named(settings: Settings, tensors):  # pyrefly: ignore
    """rows, scale, back_scale, turned, copies and riders, as `flat` lays them side by side."""
    return *tensors[:4], list(tensors[4 : 4 + settings.copied]), list(tensors[4 + settings.copied :])


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) · up, computed in float32."""
    return (torch.nn.functional.silu(gate.float()) * up.float()).to(gate.dtype)


def gated_gradients(incoming: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Of gate and up, computed in float32."""
    g, d, sigmoid = gate.float(), incoming.float(), torch.sigmoid(gate.float())
    for_gate = d * up.float() * sigmoid * (1 + g * (1 - sigmoid))
    return for_gate.to(gate.dtype), (d * g * sigmoid).to(gate.dtype)


def _halves(y: Tensor, gate: int) -> tuple[Tensor, Tensor]:
    """gate and up, of (tokens, 2 · columns)."""
    halves = y.chunk(2, dim=1)
    return halves[gate], halves[1 - gate]


@torch.library.custom_op(
    "swiftlite::fp8_gated",
    mutates_args=(),
    schema="(Tensor y, int gate, Tensor[] copies, Tensor[] riders) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _gated(y, gate, copies, riders):  # pyrefly: ignore
    """silu(gate) · up where an adapter reads it, what the adapter reads of it, and its e4m3 rows and their scales."""
    if not y.is_cuda:
        product = gated(*_halves(y, gate))
        rows, scale = fp8.quantise_rows(product)
    else:
        from swiftlite.speed import mlp_kernels

        spare = riders[2].shape[1] if riders else 0
        rows, scale, product = mlp_kernels.gated(*_halves(y, gate), spare=spare, keep=bool(copies))
    if not copies:
        return y.new_empty(0), no_read(y), rows, scale
    assert product is not None
    read = product @ copies[0].t()
    if riders:
        from swiftlite.quant.fp8_kernels import write_extra

        write_extra(rows, scale, product, read, riders[0])
    return product, read, rows, scale


@_gated.register_fake
def _(y, gate, copies, riders):  # pyrefly: ignore
    tokens, columns, spare = y.shape[0], y.shape[1] // 2, riders[2].shape[1] if riders else 0
    rows = y.new_empty(tokens, columns + spare, dtype=fp8.E4M3)
    scale = y.new_empty(tokens, 1, dtype=torch.float32)
    if not copies:
        return y.new_empty(0), no_read(y), rows, scale
    return y.new_empty(tokens, columns), y.new_empty(tokens, copies[0].shape[0]), rows, scale


@torch.library.custom_op(
    "swiftlite::fp8_last_product",
    mutates_args=(),
    schema="(Tensor quantised, Tensor row_scale, Tensor rows, Tensor scale, Tensor? bias, Tensor read, Tensor[] copies,"
    " Tensor[] riders) -> Tensor",
)
def _last_product(quantised, row_scale, rows, scale, bias, read, copies, riders):  # pyrefly: ignore
    output = fp8.product(quantised, row_scale, fp8.whole_rows(rows) if riders else rows, scale, bias, read.dtype)
    return output.addmm_(read, copies[1].t()) if copies and not riders else output


@_last_product.register_fake
def _(quantised, row_scale, rows, scale, bias, read, copies, riders):  # pyrefly: ignore
    return read.new_empty(read.shape[0], rows.shape[0])


@torch.library.custom_op(
    "swiftlite::fp8_gated_backward",
    mutates_args=(),
    schema="(Tensor incoming, Tensor y, int gate, Tensor? x, Tensor read, Tensor rows, Tensor scale,"
    " Tensor? back_scale, Tensor? turned, Tensor[] copies, Tensor[] riders, bool[] adapted, bool for_x) -> Tensor[]",
)
def _gated_backward(
    incoming, y, gate, x, read, rows, scale, back_scale, turned, copies, riders, adapted, for_x
):  # fmt: skip # pyrefly: ignore
    """From the gradient of silu(gate) · up: of all a of gate and up below each other, of each b / factor, of x."""
    column_scale = scale if back_scale is None else None
    ups = spread(copies[1:], adapted)
    if not y.is_cuda:
        both = gated_gradients(incoming, *_halves(y, gate))
        g = torch.cat(both if gate == 0 else both[::-1], 1)
        quantised, row_scale = fp8.quantise_rows(g if column_scale is None else g * column_scale)
    else:
        from swiftlite.speed import mlp_kernels

        quantised, row_scale, g = mlp_kernels.gated_gradients(
            incoming, *_halves(y, gate), gate_first=gate == 0, column_scale=column_scale,
            spare=riders[2].shape[1] if riders else 0, keep=bool(copies),
        )  # fmt: skip
    gradients, back = [], read
    if g is not None and copies:
        gradients, back = adapter_gradients(g.chunk(2, dim=1), x, read, ups)
    if not for_x:
        return gradients
    if g is not None and riders:
        from swiftlite.quant.fp8_kernels import write_extra

        write_extra(quantised, row_scale, g, back, riders[1], column_scale=column_scale)
    return [*gradients, input_gradient(quantised, row_scale, back, rows, back_scale, turned, copies, riders)]


@_gated_backward.register_fake
def _(
    incoming, y, gate, x, read, rows, scale, back_scale, turned, copies, riders, adapted, for_x
):  # fmt: skip # pyrefly: ignore
    gradients = [torch.empty_like(one, dtype=torch.float32) for one in copies]
    return [*gradients, y.new_empty(y.shape[0], rows.shape[1])] if for_x else gradients
