"""The same as frozen_linears.py for weights in fp8: one product for all layers of a group, forward and back.

An adapter rides along in spare columns behind the rows: its B stands behind the weight's rows and what it has read
behind the activations' rows, each as a high and a low digit, so that one product of whole rows adds up both. On the way
back, what has come through B stands behind the gradient's rows and A behind those of the transposed weight.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from swiftlite.quant import fp8
from swiftlite.speed.frozen_linears import (
    adapter_copies,
    adapter_gradients,
    parts_of,
    present,
    spread,
    spread_gradients,
)


class Fp8Layers(NamedTuple):
    """Frozen layers that read the same input, and the adapters on them.

    Attributes:
        weights: of all layers, (n, in); sizes: each one's out_i, which add up to n; bias: (n,) or None.
        a, b: (rank_i, in) and (out_i, rank_i), or None for a layer without adapter; factors: s of each layer.
        copies, riders: of a and b, up to date (speed/adapter_copies.py). Without riders the adapters are multiplied
            by products of their own.
        dtype: of the outputs.
    """

    weights: fp8.Fp8Rows
    sizes: Sequence[int]
    bias: Tensor | None
    a: Sequence[Tensor | None]
    b: Sequence[Tensor | None]
    factors: Sequence[float]
    copies: Sequence[Tensor]
    riders: Sequence[Tensor]
    dtype: torch.dtype


class Settings(NamedTuple):
    """What is no tensor of Fp8Layers, of those that have an adapter; copied is the number of copies."""

    adapted: list[bool]
    sizes: list[int]
    factors: list[float]
    ranks: list[int]
    dtypes: list[torch.dtype]
    copied: int

    @property
    def trained(self) -> int:
        """How many tensors `flat` puts into its first list."""
        return 1 + 2 * len(self.ranks)

    def wanted_back(self, x: Tensor, read: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """x and x A^T where there are adapters. Kept needlessly, a checkpointed layer would compute them again."""
        return (x, read) if self.ranks else (None, None)


def no_read(rows: Tensor) -> Tensor:
    """x A^T of no adapters, (tokens, 0)."""
    return rows.new_empty(rows.shape[0], 0)


def flat(layers: Fp8Layers) -> tuple[Settings, list[Tensor | None], list[Tensor | None]]:
    """The layers as an autograd function takes them: settings, then bias, a and b, then what the backward wants."""
    adapted = [one is not None for one in layers.a]
    a, b, factors = present(layers.a), present(layers.b), [f for f, has in zip(layers.factors, adapted) if has]
    copies = layers.copies or adapter_copies(a, b, factors, layers.dtype)
    ranks, dtypes = [one.shape[0] for one in a], [one.dtype for one in (*a, *b)]
    weights = layers.weights
    kept = [weights.rows, weights.scale, weights.back_scale, weights.turned, *copies, *layers.riders]
    settings = Settings(adapted, list(layers.sizes), factors, ranks, dtypes, len(copies))
    return settings, [layers.bias, *a, *b], kept


def fp8_linears(x: Tensor, layers: Fp8Layers) -> tuple[Tensor, ...]:
    """The outputs of all layers for x (..., in): (..., out_i) each; gradients go to x, a and b."""
    rows = x.reshape(-1, x.shape[-1]).to(layers.dtype)
    settings, trained, kept = flat(layers)
    outputs = _Fp8Linears.apply(settings, x.requires_grad, rows, *trained, *kept)
    return tuple(output.view(*x.shape[:-1], output.shape[-1]) for output in outputs)


class _Fp8Linears(torch.autograd.Function):
    """Of one product's columns, handed out apart so that their gradients need not be put side by side again."""

    @staticmethod
    def forward(ctx, settings, for_x, x, bias, *tensors):  # pyrefly: ignore
        kept = tensors[settings.trained - 1 :]
        rows, scale, _, _, *rest = kept
        copies, riders = list(rest[: settings.copied]), list(rest[settings.copied :])
        output, read = torch.ops.swiftlite.fp8_linears(
            x, rows, scale, copies, riders, settings.adapted, bias, settings.sizes
        )
        ctx.settings, ctx.for_x = settings, for_x
        ctx.save_for_backward(*settings.wanted_back(x, read), *kept)
        parts = output.split(settings.sizes, dim=1)
        # To autograd no views of one tensor, or no model might change its own in place (OLMo's clip_qkv does).
        return parts if torch.compiler.is_compiling() else tuple(part.data for part in parts)

    @staticmethod
    def backward(ctx, *incoming):  # pyrefly: ignore
        settings = ctx.settings
        x, read, *kept = ctx.saved_tensors
        read = no_read(incoming[0]) if read is None else read
        rows, scale, back_scale, turned, *rest = kept
        copies, riders = list(rest[: settings.copied]), list(rest[settings.copied :])
        gradients = torch.ops.swiftlite.fp8_linears_backward(
            list(incoming), x, read, rows, scale, back_scale, turned, copies, riders, settings.adapted, ctx.for_x
        )
        for_a, for_b, for_x = spread_gradients(settings, gradients)
        return (None, None, for_x, None, *for_a, *for_b, *[None] * len(kept))


@torch.library.custom_op(
    "swiftlite::fp8_linears",
    mutates_args=(),
    schema="(Tensor x, Tensor rows, Tensor scale, Tensor[] copies, Tensor[] riders, bool[] adapted, Tensor? bias,"
    " SymInt[] sizes) -> (Tensor, Tensor)",
)
def _forward(x, rows, scale, copies, riders, adapted, bias, sizes):  # pyrefly: ignore
    """The outputs side by side, and x A^T of all adapters, (tokens, ranks)."""
    # As for `incoming` below.
    x = x if x.stride(1) == 1 else x.contiguous()
    read = x @ copies[0].t() if copies else no_read(x)
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
    schema="(Tensor[] incoming, Tensor? x, Tensor read, Tensor rows, Tensor scale, Tensor? back_scale, Tensor? turned,"
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
    if not rows.is_cuda:
        g = torch.cat(list(incoming), 1)
        quantised, row_scale = fp8.quantise_rows(g if column_scale is None else g * column_scale)
    else:
        from swiftlite.quant.fp8_kernels import quantise_rows

        extra, limits = (back, riders[1]) if riders else (None, None)
        spare = riders[2].shape[1] if riders else 0
        quantised, row_scale = quantise_rows(
            incoming, column_scale=column_scale, extra=extra, extra_scale=limits, spare=spare
        )
    return [*gradients, input_gradient(quantised, row_scale, back, rows, back_scale, turned, copies, riders)]


@_backward.register_fake
def _(incoming, x, read, rows, scale, back_scale, turned, copies, riders, adapted, for_x):  # pyrefly: ignore
    gradients = [torch.empty_like(one, dtype=torch.float32) for one in copies]
    return [*gradients, read.new_empty(read.shape[0], rows.shape[1])] if for_x else gradients


def input_gradient(
    quantised: Tensor,
    row_scale: Tensor,
    back: Tensor,
    rows: Tensor,
    back_scale: Tensor | None,
    turned: Tensor | None,
    copies: Sequence[Tensor],
    riders: Sequence[Tensor],
) -> Tensor:
    """What goes back to x, (tokens, in), in the type of `back`.

    Args:
        quantised, row_scale: the outputs' gradients in fp8, with what comes through the B in the spare columns where
            there are riders. back: the same in half precision, (tokens, ranks).
    """
    back_scale = _ones(rows.shape[1], rows.device) if back_scale is None else back_scale
    if not rows.is_cuda:
        turned = rows.t()
    else:
        from swiftlite.quant.fp8_kernels import transpose

        digits = riders[2] if riders else None
        if turned is None:
            turned = transpose(rows, digits)
        elif digits is not None:
            columns = fp8.whole_rows(turned)
            columns[:, turned.shape[1] :].view(torch.int8).copy_(digits.view(torch.int8))
            turned = columns
    for_x = fp8.product(quantised, row_scale, turned, back_scale, None, back.dtype)
    return for_x.addmm_(back, copies[0]) if copies and not riders else for_x


@functools.cache
def _ones(size: int, device: torch.device) -> Tensor:
    return torch.ones(size, dtype=torch.float32, device=device)
