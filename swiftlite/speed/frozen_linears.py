"""Frozen linear layers that read one input, with the adapters on them, as one operator: few passes over memory.

For one layer, y = x W^T + b + s (x A^T) B^T (LoRA, arXiv 2106.09685). Called layer by layer, as modules do it, x is
read by each A, each adapter's output is written and read again to be added, and so is each gradient of x. Here the A of
all layers are multiplied at once, sums are made by the products themselves (beta = 1), and A and B, stored in float32,
are multiplied in the layer's own precision. In fp8 an adapter rides along in spare columns of the rows instead.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from swiftlite.quant import fp8

# Lists of tensors with gaps have no gradients in PyTorch's operators: `adapted` says which layers the a and b are of.
_SCHEMA = "Tensor[] weights, Tensor[] scales, Tensor[] transposed, Tensor[] copies, Tensor[] digits, bool[] adapted"


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
    copies: Sequence[Tensor] = (),
    digits: Sequence[Tensor] = (),
    dtype: torch.dtype,
) -> list[Tensor]:
    """The outputs of all layers, (..., out_i) in `dtype`; gradients go to x, a and b.

    Args:
        x: (..., in).
        weights: (out_i, in), in `dtype` or e4m3; biases: (out_i,) or None.
        a, b: (rank_i, in) and (out_i, rank_i), or None for a layer without adapter.
        factors: s of each layer.
        scales: (out_i,) float32, the row scales of e4m3 weights. transposed: their (in, out_i) copies, if kept.
        copies, digits: of a and b, up to date (speed/adapter_copies.py); without them they are made here, and in fp8
            each adapter is multiplied apart.
    """
    rows = x.reshape(-1, x.shape[-1]).to(dtype)
    adapted = [one is not None for one in a]
    a, b = _present(a), _present(b)
    if a and not copies:
        ups = [(one * factor).to(dtype) for one, factor, has in zip(_spread(b, adapted), factors, adapted) if has]
        copies = [torch.cat(a).to(dtype), *ups]
    biased = [one is not None for one in biases]
    outputs = torch.ops.swiftlite.frozen_linears(
        rows, weights, scales, transposed, copies, digits, adapted, a, b, factors, _present(biases), biased
    )
    return [output.view(*x.shape[:-1], output.shape[-1]) for output in outputs[:-1]]


@torch.library.custom_op(
    "swiftlite::frozen_linears",
    mutates_args=(),
    schema=f"(Tensor x, {_SCHEMA}, Tensor[] a, Tensor[] b, float[] factors, Tensor[] biases, bool[] biased)"
    " -> Tensor[]",
)
def _forward(x, weights, scales, transposed, copies, digits, adapted, a, b, factors, biases, biased):  # pyrefly: ignore
    """The outputs, and behind them x A^T of all adapters, (tokens, ranks)."""
    read = x @ copies[0].t() if copies else x.new_empty(x.shape[0], 0)
    ups = _spread(copies[1:], adapted)
    parts, biases = _parts(read, ups), _spread(biases, biased)
    if scales:
        return [*_fp8_outputs(x, weights, scales, biases, ups, parts, digits, read), read]
    return [*(_output(x, *layer) for layer in zip(weights, biases, ups, parts)), read]


@_forward.register_fake
def _(x, weights, scales, transposed, copies, digits, adapted, a, b, factors, biases, biased):  # pyrefly: ignore
    ranks = sum(one.shape[0] for one in a)
    return [*(x.new_empty(x.shape[0], w.shape[0]) for w in weights), x.new_empty(x.shape[0], ranks)]


@torch.library.custom_op(
    "swiftlite::frozen_linears_backward",
    mutates_args=(),
    schema=f"(Tensor[] incoming, Tensor x, Tensor read, {_SCHEMA}, bool for_x) -> Tensor[]",
)
def _backward(incoming, x, read, weights, scales, transposed, copies, digits, adapted, for_x):  # pyrefly: ignore
    """Gradients of all a below each other, then of each b / factor, then parts whose sum is the gradient of x."""
    incoming = [g.contiguous() for g in incoming]
    ups = _spread(copies[1:], adapted)
    back = torch.empty_like(read)
    parts = _parts(back, ups)
    gradients = []
    for g, up, part, its_read in zip(incoming, ups, parts, _parts(read, ups)):
        if up is not None:
            torch.mm(g, up, out=part)
            gradients.append(_float_product(g.t(), its_read))
    if copies:
        gradients.insert(0, _float_product(back.t(), x))
    if not for_x:
        return gradients
    if scales:
        ranks = [up.shape[1] for up in ups if up is not None]
        downs = _spread(copies[0].split(ranks), adapted) if copies else ups
        turned = transposed or [None] * len(weights)
        behind = _spread(list(zip(digits[1::2], digits[2::2])), adapted) if digits else [None] * len(weights)
        layers = zip(incoming, weights, scales, turned, behind, downs, parts)
        return [*gradients, *(_fp8_back(*layer) for layer in layers)]
    total = back @ copies[0] if copies else None
    for g, weight in zip(incoming, weights):
        total = g @ weight if total is None else torch.addmm(total, g, weight, out=total)
    return [*gradients, total]


@_backward.register_fake
def _(incoming, x, read, weights, scales, transposed, copies, digits, adapted, for_x):  # pyrefly: ignore
    gradients = [torch.empty_like(one, dtype=torch.float32) for one in copies]
    parts = len(weights) if scales else 1
    return [*gradients, *(torch.empty_like(x) for _ in range(parts if for_x else 0))]


def _setup_context(ctx: Any, inputs: tuple, output: list[Tensor]) -> None:
    x, *lists, adapted, a, b, factors, biases, _ = inputs
    ctx.sizes = [len(tensors) for tensors in lists]
    ctx.adapted, ctx.biases = adapted, len(biases)
    ctx.factors = [factor for factor, has in zip(factors, adapted) if has]
    ctx.ranks, ctx.dtypes = [one.shape[0] for one in a], [one.dtype for one in (*a, *b)]
    ctx.save_for_backward(x, output[-1], *(tensor for tensors in lists for tensor in tensors))
    ctx.for_x = x.requires_grad


def _differentiate(ctx: Any, incoming: list[Tensor | None]) -> tuple:
    x, read, *rest = ctx.saved_tensors
    lists = []
    for size in ctx.sizes:
        lists.append(list(rest[:size]))
        rest = rest[size:]
    whole = [x.new_zeros(x.shape[0], w.shape[0]) if g is None else g for g, w in zip(incoming, lists[0])]
    gradients = torch.ops.swiftlite.frozen_linears_backward(whole, x, read, *lists, ctx.adapted, ctx.for_x)
    count = len(ctx.ranks)
    for_a = list(gradients[0].split(ctx.ranks)) if count else []
    for_b = [g * factor for g, factor in zip(gradients[1 : count + 1], ctx.factors)]
    adapters = [g.to(dtype) for g, dtype in zip([*for_a, *for_b], ctx.dtypes)]
    parts = gradients[count + bool(count) :]
    for_x = sum(parts[1:], parts[0]) if parts else None
    none = [[None] * size for size in ctx.sizes]
    return (for_x, *none, None, adapters[:count], adapters[count:], None, [None] * ctx.biases, None)


_forward.register_autograd(_differentiate, setup_context=_setup_context)


def _present(tensors: Sequence[Tensor | None]) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor is not None]


def _spread(values: Sequence[Any], places: Sequence[bool]) -> list[Any]:
    """The values at the true places, None at the others."""
    following = iter(values)
    return [next(following) if place else None for place in places]


def _parts(columns: Tensor, ups: Sequence[Tensor | None]) -> list[Tensor]:
    """Each layer's columns of (tokens, ranks)."""
    return list(columns.split([0 if up is None else up.shape[1] for up in ups], dim=1))


def _output(x: Tensor, weight: Tensor, bias: Tensor | None, up: Tensor | None, read: Tensor) -> Tensor:
    if up is None:
        return torch.nn.functional.linear(x, weight, bias)
    out = read @ up.t() if bias is None else torch.addmm(bias, read, up.t())
    return torch.addmm(out, x, weight.t(), out=out)


def _float_product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, not rounded to half precision where the device can do that."""
    if a.is_cuda and a.dtype.itemsize == 2:
        return torch.mm(a, b, out_dtype=torch.float32)
    return torch.mm(a, b).float()


def _fp8_outputs(
    x: Tensor,
    weights: list[Tensor],
    scales: list[Tensor],
    biases: list[Tensor | None],
    ups: list[Tensor | None],
    parts: list[Tensor],
    digits: list[Tensor],
    read: Tensor,
) -> list[Tensor]:
    """With `digits`, the adapters stand in the weights' spare columns already, and read joins the rows of x."""
    if x.is_cuda:
        from swiftlite.quant.fp8_kernels import quantise_rows

        if digits:
            weights = [fp8.whole_rows(weight) for weight in weights]
        spare = weights[0].shape[1] - x.shape[1]
        extra = (read, digits[0]) if digits else (None, None)
        rows, row_scale = quantise_rows(x, extra=extra[0], extra_scale=extra[1], spare=spare)
    else:
        rows, row_scale = fp8.quantise_rows(x)
    outputs = []
    for weight, scale, bias, up, part in zip(weights, scales, biases, ups, parts):
        out = fp8.product(rows, row_scale, weight, scale, bias, x.dtype)
        outputs.append(out if up is None or digits else out.addmm_(part, up.t()))
    return outputs


def _fp8_back(
    g: Tensor,
    weight: Tensor,
    scale: Tensor,
    turned: Tensor | None,
    behind: tuple[Tensor, Tensor] | None,
    down: Tensor | None,
    back: Tensor,
) -> Tensor:
    """One layer's part of the gradient of x. The weight's row scales are multiplied into g, since they belong to the
    columns that are summed over."""
    ones = _ones(weight.shape[1], g.device)
    if not g.is_cuda:
        rows, row_scale = fp8.quantise_rows(g * scale)
        part = fp8.product(rows, row_scale, weight.t(), ones, None, g.dtype)
        return part if down is None else part.addmm_(back, down)
    from swiftlite.quant.fp8_kernels import quantise_rows, transpose

    extra, limits, columns = (None, None, None) if behind is None else (back, *behind)
    if turned is None:
        turned = transpose(weight, columns)
    elif columns is not None:
        turned = fp8.whole_rows(turned)
        turned[:, g.shape[1] :].view(torch.int8).copy_(columns.view(torch.int8))
    spare = turned.shape[1] - g.shape[1]
    rows, row_scale = quantise_rows(g, column_scale=scale, extra=extra, extra_scale=limits, spare=spare)
    part = fp8.product(rows, row_scale, turned, ones, None, g.dtype)
    return part if down is None or behind is not None else part.addmm_(back, down)


@functools.cache
def _ones(size: int, device: torch.device) -> Tensor:
    return torch.ones(size, dtype=torch.float32, device=device)
