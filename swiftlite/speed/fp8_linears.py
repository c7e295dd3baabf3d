"""The same as frozen_linears.py for weights in fp8: one product for all layers of a group, forward and back.

An adapter rides along in spare columns behind the rows: its B stands behind the weight's rows and what it has read
behind the activations' rows, each as a high and a low digit, so that one product of whole rows adds up both. On the way
back, what has come through B stands behind the gradient's rows and A behind those of the transposed weight.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from swiftlite.quant import fp8
from swiftlite.speed.frozen_linears import (
    adapter_copies,
    adapter_gradients,
    parts_of,
    present,
    remember_adapters,
    spread,
    spread_gradients,
)


def fp8_linears(
    x: Tensor,
    weights: fp8.Fp8Rows,
    sizes: Sequence[int],
    bias: Tensor | None,
    a: Sequence[Tensor | None],
    b: Sequence[Tensor | None],
    factors: Sequence[float],
    *,
    copies: Sequence[Tensor] = (),
    riders: Sequence[Tensor] = (),
    dtype: torch.dtype,
) -> tuple[Tensor, ...]:
    """The outputs of all layers, (..., out_i) in `dtype`; gradients go to x, a and b.

    Args:
        x: (..., in).
        weights: of all layers, (n, in); sizes: each one's out_i, which add up to n; bias: (n,) or None.
        a, b: (rank_i, in) and (out_i, rank_i), or None for a layer without adapter.
        factors: s of each layer.
        copies, riders: of a and b, up to date (speed/adapter_copies.py). Without riders the adapters are multiplied
            by products of their own.
    """
    read_rows = x.reshape(-1, x.shape[-1]).to(dtype)
    adapted = [one is not None for one in a]
    a, b, factors = present(a), present(b), [f for f, has in zip(factors, adapted) if has]
    copies = copies or adapter_copies(a, b, factors, dtype)
    settings = (adapted, factors, list(sizes), x.requires_grad, len(a), len(copies))
    outputs = _Fp8Linears.apply(
        settings, bias, read_rows, weights.rows, weights.scale, weights.back_scale, weights.turned,
        *a, *b, *copies, *riders,
    )  # fmt: skip
    return tuple(output.view(*x.shape[:-1], output.shape[-1]) for output in outputs)


class _Fp8Linears(torch.autograd.Function):
    """Of one product's columns, handed out apart so that their gradients need not be put side by side again."""

    @staticmethod
    def forward(ctx, settings, bias, x, rows, scale, back_scale, turned, *tensors):  # pyrefly: ignore
        adapted, factors, sizes, for_x, adapters, copied = settings
        a, b = tensors[:adapters], tensors[adapters : 2 * adapters]
        copies = list(tensors[2 * adapters : 2 * adapters + copied])
        riders = list(tensors[2 * adapters + copied :])
        output, read = torch.ops.swiftlite.fp8_linears(x, rows, scale, copies, riders, adapted, bias, sizes)
        remember_adapters(ctx, a, b, factors)
        ctx.adapted, ctx.for_x, ctx.copied, ctx.arguments = adapted, for_x, copied, len(tensors)
        ctx.save_for_backward(x, read, rows, scale, back_scale, turned, *copies, *riders)
        return output.split(sizes, dim=1)

    @staticmethod
    def backward(ctx, *incoming):  # pyrefly: ignore
        x, read, rows, scale, back_scale, turned, *rest = ctx.saved_tensors
        copies, riders = list(rest[: ctx.copied]), list(rest[ctx.copied :])
        gradients = torch.ops.swiftlite.fp8_linears_backward(
            list(incoming), x, read, rows, scale, back_scale, turned, copies, riders, ctx.adapted, ctx.for_x
        )
        for_a, for_b, for_x = spread_gradients(ctx, gradients)
        others = [None] * (ctx.arguments - len(for_a) - len(for_b))
        return (None, None, for_x, None, None, None, None, *for_a, *for_b, *others)


@torch.library.custom_op(
    "swiftlite::fp8_linears",
    mutates_args=(),
    schema="(Tensor x, Tensor rows, Tensor scale, Tensor[] copies, Tensor[] riders, bool[] adapted, Tensor? bias,"
    " SymInt[] sizes) -> (Tensor, Tensor)",
)
def _forward(x, rows, scale, copies, riders, adapted, bias, sizes):  # pyrefly: ignore
    """The outputs side by side, and x A^T of all adapters, (tokens, ranks)."""
    read = x @ copies[0].t() if copies else x.new_empty(x.shape[0], 0)
    if not x.is_cuda:
        quantised, row_scale = fp8.quantise_rows(x)
    else:
        from swiftlite.quant.fp8_kernels import quantise_rows

        rows = fp8.whole_rows(rows) if riders else rows
        extra, limits = (read, riders[0]) if riders else (None, None)
        spare = rows.shape[1] - x.shape[1]
        quantised, row_scale = quantise_rows([x], extra=extra, extra_scale=limits, spare=spare)
    output = fp8.product(quantised, row_scale, rows, scale, bias, x.dtype)
    if copies and not riders:
        ups = spread(copies[1:], adapted)
        for part, up, its_read in zip(output.split(list(sizes), dim=1), ups, parts_of(read, ups)):
            if up is not None:
                part.addmm_(its_read, up.t())
    return output, read


@_forward.register_fake
def _(x, rows, scale, copies, riders, adapted, bias, sizes):  # pyrefly: ignore
    ranks = copies[0].shape[0] if copies else 0
    return x.new_empty(x.shape[0], rows.shape[0]), x.new_empty(x.shape[0], ranks)


@torch.library.custom_op(
    "swiftlite::fp8_linears_backward",
    mutates_args=(),
    schema="(Tensor[] incoming, Tensor x, Tensor read, Tensor rows, Tensor scale, Tensor? back_scale, Tensor? turned,"
    " Tensor[] copies, Tensor[] riders, bool[] adapted, bool for_x) -> Tensor[]",
)
def _backward(incoming, x, read, rows, scale, back_scale, turned, copies, riders, adapted, for_x):  # pyrefly: ignore
    """Gradients of all a below each other, then of each b / factor, then of x."""
    # Rows may lie apart in memory, but their columns may not.
    incoming = [g if g.stride(1) == 1 else g.contiguous() for g in incoming]
    gradients, back = adapter_gradients(incoming, x, read, spread(copies[1:], adapted))
    if not for_x:
        return gradients
    column_scale = scale if back_scale is None else None
    back_scale = _ones(x.shape[1], x.device) if back_scale is None else back_scale
    if not x.is_cuda:
        g = torch.cat(list(incoming), 1)
        quantised, row_scale = fp8.quantise_rows(g if column_scale is None else g * column_scale)
        turned = rows.t()
    else:
        from swiftlite.quant.fp8_kernels import quantise_rows, transpose

        extra, limits, digits = (back, *riders[1:]) if riders else (None, None, None)
        if turned is None:
            turned = transpose(rows, digits)
        elif digits is not None:
            columns = fp8.whole_rows(turned)
            columns[:, turned.shape[1] :].view(torch.int8).copy_(digits.view(torch.int8))
            turned = columns
        spare = turned.shape[1] - rows.shape[0]
        quantised, row_scale = quantise_rows(
            incoming, column_scale=column_scale, extra=extra, extra_scale=limits, spare=spare
        )
    for_x = fp8.product(quantised, row_scale, turned, back_scale, None, x.dtype)
    return [*gradients, for_x.addmm_(back, copies[0]) if copies and not riders else for_x]


@_backward.register_fake
def _(incoming, x, read, rows, scale, back_scale, turned, copies, riders, adapted, for_x):  # pyrefly: ignore
    gradients = [torch.empty_like(one, dtype=torch.float32) for one in copies]
    return [*gradients, torch.empty_like(x)] if for_x else gradients


@functools.cache
def _ones(size: int, device: torch.device) -> Tensor:
    return torch.ones(size, dtype=torch.float32, device=device)
