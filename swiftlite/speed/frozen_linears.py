"""Frozen linear layers that read one input, with the adapters on them, as one operator: few passes over memory.

For one layer, y = x W^T + b + s (x A^T) B^T (LoRA, arXiv 2106.09685). Called layer by layer, as modules do it, x is
read by each A, each adapter's output is written and read again to be added, and so is each gradient of x. Here the A of
all layers are multiplied at once, sums are made by the products themselves (beta = 1), and A and B, stored in float32,
are multiplied in the layer's own precision. In fp8 an adapter rides along in spare columns of the rows instead.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from swiftlite.quant import fp8

# Lists of tensors with gaps have no gradients in PyTorch's operators: `adapted` says which layers the a and b are of.
_SCHEMA = (
    "Tensor[] weights, Tensor[] scales, Tensor[] transposed, Tensor[] a, Tensor[] b, bool[] adapted, float[] factors"
)


def frozen_linears(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    a: Sequence[Tensor | None],
    b: Sequence[Tensor | None],
    factors: Sequence[float],
    *,
    scales: Sequence[Tensor] = (),
    transposed: Sequence[Tensor] = (),
    dtype: torch.dtype,
) -> list[Tensor]:
    """The outputs of all layers, (..., out_i) in `dtype`; gradients go to x, a and b.

    Args:
        x: (..., in).
        weights: (out_i, in), in `dtype` or e4m3; biases: (out_i,) or None.
        a, b: (rank_i, in) and (out_i, rank_i), or None for a layer without adapter.
        factors: s of each layer.
        scales: (out_i,) float32, the row scales of e4m3 weights. transposed: their (in, out_i) copies, if kept.
    """
    rows = x.reshape(-1, x.shape[-1]).to(dtype)
    outputs = torch.ops.swiftlite.frozen_linears(
        rows,
        list(weights),
        list(scales),
        list(transposed),
        _present(a),
        _present(b),
        [one is not None for one in a],
        list(factors),
        _present(biases),
        [one is not None for one in biases],
    )
    return [output.view(*x.shape[:-1], output.shape[-1]) for output in outputs[:-1]]


@torch.library.custom_op(
    "swiftlite::frozen_linears",
    mutates_args=(),
    schema=f"(Tensor x, {_SCHEMA}, Tensor[] biases, bool[] biased) -> Tensor[]",
)
def _forward(x, weights, scales, transposed, a, b, adapted, factors, biases, biased):  # pyrefly: ignore
    """The outputs, and behind them x A^T of all adapters, (tokens, ranks)."""
    down = _all_down(a, x.dtype)
    read = x.new_empty(x.shape[0], 0) if down is None else x @ down.t()
    adapters = list(zip(_spread(b, adapted), factors, _parts(read, a, adapted)))
    biases = _spread(biases, biased)
    if scales:
        return [*_fp8_outputs(x, weights, scales, biases, adapters, read), read]
    return [*(_output(x, w, bias, *adapter) for w, bias, adapter in zip(weights, biases, adapters)), read]


@_forward.register_fake
def _(x, weights, scales, transposed, a, b, adapted, factors, biases, biased):  # pyrefly: ignore
    ranks = sum(one.shape[0] for one in a)
    return [*(x.new_empty(x.shape[0], w.shape[0]) for w in weights), x.new_empty(x.shape[0], ranks)]


@torch.library.custom_op(
    "swiftlite::frozen_linears_backward",
    mutates_args=(),
    schema=f"(Tensor[] incoming, Tensor x, Tensor read, {_SCHEMA}, bool for_x) -> Tensor[]",
)
def _backward(incoming, x, read, weights, scales, transposed, a, b, adapted, factors, for_x):  # pyrefly: ignore
    """Gradients of all a below each other, then of each b, then parts whose sum is the gradient of x."""
    incoming = [g.contiguous() for g in incoming]
    back = torch.empty_like(read)
    for_b = []
    for g, up, factor, part, its_read in zip(
        incoming, _spread(b, adapted), factors, _parts(back, a, adapted), _parts(read, a, adapted)
    ):
        if up is not None:
            torch.mm(g, (up * factor).to(g.dtype), out=part)
            for_b.append(_float_product(g.t(), its_read) * factor)
    down = _all_down(a, x.dtype)
    for_a = [_float_product(back.t(), x)] if a else []
    if not for_x:
        return [*for_a, *for_b]
    if scales:
        turned = transposed or [None] * len(weights)
        rest = zip(incoming, weights, scales, turned, _spread(a, adapted), _parts(back, a, adapted))
        return [*for_a, *for_b, *(_fp8_back(*one) for one in rest)]
    total = None if down is None else back @ down
    for g, weight in zip(incoming, weights):
        total = g @ weight if total is None else torch.addmm(total, g, weight, out=total)
    return [*for_a, *for_b, total]


@_backward.register_fake
def _(incoming, x, read, weights, scales, transposed, a, b, adapted, factors, for_x):  # pyrefly: ignore
    for_a = [x.new_empty(read.shape[1], x.shape[1], dtype=torch.float32)] if a else []
    for_b = [torch.empty_like(one, dtype=torch.float32) for one in b]
    parts = len(weights) if scales else 1
    return [*for_a, *for_b, *(torch.empty_like(x) for _ in range(parts if for_x else 0))]


def _setup_context(ctx: Any, inputs: tuple, output: list[Tensor]) -> None:
    x, *lists, adapted, factors, biases, _ = inputs
    ctx.sizes = [len(tensors) for tensors in lists]
    ctx.adapted, ctx.factors, ctx.biases = adapted, factors, len(biases)
    ctx.save_for_backward(x, output[-1], *(tensor for tensors in lists for tensor in tensors))
    ctx.for_x = x.requires_grad


def _differentiate(ctx: Any, incoming: list[Tensor | None]) -> tuple:
    x, read, *rest = ctx.saved_tensors
    lists = []
    for size in ctx.sizes:
        lists.append(list(rest[:size]))
        rest = rest[size:]
    weights, scales, transposed, a, b = lists
    whole = [x.new_zeros(x.shape[0], w.shape[0]) if g is None else g for g, w in zip(incoming, weights)]
    gradients = torch.ops.swiftlite.frozen_linears_backward(
        whole, x, read, weights, scales, transposed, a, b, ctx.adapted, ctx.factors, ctx.for_x
    )
    for_a = gradients[0].split([one.shape[0] for one in a]) if a else ()
    for_b, parts = gradients[1 : len(b) + 1], gradients[len(b) + bool(a) :]
    for_x = sum(parts[1:], parts[0]) if parts else None
    none = [[None] * size for size in ctx.sizes[:3]]
    for_a, for_b = ([g.to(t.dtype) for g, t in zip(*pair)] for pair in ((for_a, a), (for_b, b)))
    return (for_x, *none, for_a, for_b, None, None, [None] * ctx.biases, None)


_forward.register_autograd(_differentiate, setup_context=_setup_context)


def _present(tensors: Sequence[Tensor | None]) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor is not None]


def _spread(tensors: Sequence[Tensor], places: Sequence[bool]) -> list[Tensor | None]:
    """The tensors at the true places, None at the others."""
    following = iter(tensors)
    return [next(following) if place else None for place in places]


def _all_down(a: Sequence[Tensor], dtype: torch.dtype) -> Tensor | None:
    """Every A below the other, (ranks, in)."""
    return torch.cat(list(a)).to(dtype) if a else None


def _parts(columns: Tensor, a: Sequence[Tensor], adapted: Sequence[bool]) -> list[Tensor]:
    """Each layer's columns of (tokens, ranks)."""
    return list(columns.split([0 if one is None else one.shape[0] for one in _spread(a, adapted)], dim=1))


def _output(x: Tensor, weight: Tensor, bias: Tensor | None, b: Tensor | None, factor: float, read: Tensor) -> Tensor:
    if b is None:
        return torch.nn.functional.linear(x, weight, bias)
    up = (b * factor).to(x.dtype).t()
    out = read @ up if bias is None else torch.addmm(bias, read, up)
    return torch.addmm(out, x, weight.t(), out=out)


def _float_product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, not rounded to half precision where the device can do that."""
    if a.is_cuda and a.dtype.itemsize == 2:
        return torch.mm(a, b, out_dtype=torch.float32)
    return torch.mm(a, b).float()


def _fp8_outputs(
    x: Tensor, weights: list[Tensor], scales: list[Tensor], biases: list[Tensor | None], adapters: list, read: Tensor
) -> list[Tensor]:
    """The adapters ride along where all weights have the columns for them, and are added by products of their own
    where not (large ranks, and devices without the kernels)."""
    ranks = read.shape[1]
    spare = weights[0].stride(0) - weights[0].shape[1]
    riding = bool(x.is_cuda and ranks and spare)
    if riding:
        from swiftlite.quant.fp8_kernels import quantise_rows, write_ranks

        limits = torch.empty(ranks, dtype=torch.float32, device=x.device)
        first = 0
        for (b, factor, part), weight, scale in zip(adapters, weights, scales):
            if b is not None:
                # The spare columns are this operator's scratch space, written anew in each pass: B has changed.
                whole = fp8.whole_rows(weight)
                write_ranks(b, factor, scale, whole, weight.shape[1], first, ranks, limits)
                first += part.shape[1]
        rows, row_scale = quantise_rows(x, extra=read, extra_scale=limits, spare=spare)
        weights = [fp8.whole_rows(weight) for weight in weights]
    elif x.is_cuda:
        from swiftlite.quant.fp8_kernels import quantise_rows

        rows, row_scale = quantise_rows(x)
    else:
        rows, row_scale = fp8.quantise_rows(x)
    outputs = []
    for (b, factor, part), weight, scale, bias in zip(adapters, weights, scales, biases):
        out = fp8.product(rows, row_scale, weight, scale, bias, x.dtype)
        if b is not None and not riding:
            out.addmm_(part, (b * factor).to(x.dtype).t())
        outputs.append(out)
    return outputs


def _fp8_back(
    g: Tensor, weight: Tensor, scale: Tensor, turned: Tensor | None, a: Tensor | None, back: Tensor
) -> Tensor:
    """One layer's part of the gradient of x: the weight's row scales are multiplied into g, since they belong to the
    columns that are summed over."""
    ones = torch.ones(weight.shape[1], dtype=torch.float32, device=g.device)
    if not g.is_cuda:
        rows, row_scale = fp8.quantise_rows(g * scale)
        part = fp8.product(rows, row_scale, weight.t(), ones, None, g.dtype)
        return part if a is None else part.addmm_(back, a.to(g.dtype))
    from swiftlite.quant.fp8_kernels import quantise_rows, transpose, write_ranks

    ranks = 0 if a is None else a.shape[0]
    spare = fp8.spare_columns(ranks)
    turned = transpose(weight, spare) if turned is None else fp8.whole_rows(turned)
    spare = turned.shape[1] - g.shape[1]
    limits = None
    if a is not None and spare:
        limits = torch.empty(ranks, dtype=torch.float32, device=g.device)
        write_ranks(a.t(), 1.0, None, turned, g.shape[1], 0, ranks, limits)
    extra = back if limits is not None else None
    rows, row_scale = quantise_rows(g, column_scale=scale, extra=extra, extra_scale=limits, spare=spare)
    part = fp8.product(rows, row_scale, turned, ones, None, g.dtype)
    return part if a is None or spare else part.addmm_(back, a.to(g.dtype))
