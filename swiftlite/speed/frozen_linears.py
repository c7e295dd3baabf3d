"""Frozen linear layers that read one input, with the adapters on them, as one operator: few passes over memory.

For one layer, y = x W^T + b + s (x A^T) B^T (LoRA, arXiv 2106.09685). Called layer by layer, as modules do it, x is
read by each A, each adapter's output is written and read again to be added, and so is each gradient of x. Here the A of
all layers are multiplied at once, sums are made by the products themselves (beta = 1), and A and B, stored in float32,
are multiplied in the layer's own precision. fp8_linears.py does the same for weights in fp8.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from swiftlite.speed.float_product import float_product

# Above it a tile of the kernels no longer fits into the shared memory of small GPUs.
_MOST_RANK = 32
_AMPERE = (8, 0)
# Lists of tensors with gaps have no gradients in PyTorch's operators: `adapted` says which layers the a and b are of.
_SCHEMA = "Tensor[] weights, Tensor[] copies, bool[] adapted"


def frozen_linears(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    a: Sequence[Tensor | None],
    b: Sequence[Tensor | None],
    factors: Sequence[float],
    *,
    copies: Sequence[Tensor] = (),
    dtype: torch.dtype,
) -> list[Tensor]:
    """The outputs of all layers, (..., out_i) in `dtype`; gradients go to x, a and b.

    Args:
        x: (..., in).
        weights: (out_i, in) in `dtype`; biases: (out_i,) or None.
        a, b: (rank_i, in) and (out_i, rank_i), or None for a layer without adapter.
        factors: s of each layer.
        copies: of a and b in `dtype`, up to date (speed/adapter_copies.py); without them they are made here.
    """
    rows = x.reshape(-1, x.shape[-1]).to(dtype)
    adapted = [one is not None for one in a]
    a, b, factors = present(a), present(b), [f for f, has in zip(factors, adapted) if has]
    copies = copies or adapter_copies(a, b, factors, dtype)
    biased = [one is not None for one in biases]
    outputs = torch.ops.swiftlite.frozen_linears(rows, weights, copies, adapted, a, b, factors, present(biases), biased)
    return [output.view(*x.shape[:-1], output.shape[-1]) for output in outputs[:-1]]


@torch.library.custom_op(
    "swiftlite::frozen_linears",
    mutates_args=(),
    schema=f"(Tensor x, {_SCHEMA}, Tensor[] a, Tensor[] b, float[] factors, Tensor[] biases, bool[] biased)"
    " -> Tensor[]",
)
def _forward(x, weights, copies, adapted, a, b, factors, biases, biased):  # pyrefly: ignore
    """The outputs, and behind them x A^T of all adapters, (tokens, ranks)."""
    read = x @ copies[0].t() if copies else x.new_empty(x.shape[0], 0)
    ups = spread(copies[1:], adapted)
    layers = zip(weights, spread(biases, biased), ups, parts_of(read, ups))
    return [*(_output(x, *layer) for layer in layers), read]


@_forward.register_fake
def _(x, weights, copies, adapted, a, b, factors, biases, biased):  # pyrefly: ignore
    ranks = sum(one.shape[0] for one in a)
    return [*(x.new_empty(x.shape[0], w.shape[0]) for w in weights), x.new_empty(x.shape[0], ranks)]


@torch.library.custom_op(
    "swiftlite::frozen_linears_backward",
    mutates_args=(),
    schema=f"(Tensor[] incoming, Tensor x, Tensor read, {_SCHEMA}, bool for_x) -> Tensor[]",
)
def _backward(incoming, x, read, weights, copies, adapted, for_x):  # pyrefly: ignore
    """Gradients of all a below each other, then of each b / factor, then of x."""
    incoming = [g.contiguous() for g in incoming]
    gradients, back = adapter_gradients(incoming, x, read, spread(copies[1:], adapted))
    if not for_x:
        return gradients
    total = back @ copies[0] if copies else None
    for g, weight in zip(incoming, weights):
        total = g @ weight if total is None else torch.addmm(total, g, weight, out=total)
    return [*gradients, total]


@_backward.register_fake
def _(incoming, x, read, weights, copies, adapted, for_x):  # pyrefly: ignore
    gradients = [torch.empty_like(one, dtype=torch.float32) for one in copies]
    return [*gradients, torch.empty_like(x)] if for_x else gradients


def _setup_context(ctx: Any, inputs: tuple, output: list[Tensor]) -> None:
    x, weights, copies, adapted, a, b, factors, biases, _ = inputs
    ctx.count, ctx.adapted, ctx.biases = len(weights), adapted, len(biases)
    ctx.factors, ctx.ranks = list(factors), [one.shape[0] for one in a]
    ctx.dtypes = [one.dtype for one in (*a, *b)]
    ctx.save_for_backward(x, output[-1], *weights, *copies)
    ctx.for_x = x.requires_grad


def _differentiate(ctx: Any, incoming: list[Tensor | None]) -> tuple:
    x, read, *rest = ctx.saved_tensors
    weights, copies = list(rest[: ctx.count]), list(rest[ctx.count :])
    whole = [x.new_zeros(x.shape[0], w.shape[0]) if g is None else g for g, w in zip(incoming, weights)]
    gradients = torch.ops.swiftlite.frozen_linears_backward(whole, x, read, weights, copies, ctx.adapted, ctx.for_x)
    for_a, for_b, for_x = spread_gradients(ctx, gradients)
    # An empty list looks like one of tensors.
    factors = None if ctx.factors else []
    return (for_x, [None] * ctx.count, [None] * len(copies), None, for_a, for_b, factors, [None] * ctx.biases, None)


_forward.register_autograd(_differentiate, setup_context=_setup_context)


def _output(x: Tensor, weight: Tensor, bias: Tensor | None, up: Tensor | None, read: Tensor) -> Tensor:
    if up is None:
        return torch.nn.functional.linear(x, weight, bias)
    out = read @ up.t() if bias is None else torch.addmm(bias, read, up.t())
    return torch.addmm(out, x, weight.t(), out=out)


def adapter_copies(
    a: Sequence[Tensor], b: Sequence[Tensor], factors: Sequence[float], dtype: torch.dtype
) -> list[Tensor]:
    """All A below each other, (ranks, in), and each s · B, (out_i, rank_i), in `dtype`; nothing for no adapters."""
    if not a:
        return []
    return [torch.cat(list(a)).to(dtype), *((one * factor).to(dtype) for one, factor in zip(b, factors))]


def adapter_gradients(
    incoming: Sequence[Tensor], x: Tensor | None, read: Tensor, ups: Sequence[Tensor | None]
) -> tuple[list[Tensor], Tensor]:
    """Gradients of all A below each other and of each B / s, in float32, and what goes back to x through the A,
    (tokens, ranks). Without adapters x may be None."""
    back = torch.empty_like(read)
    gradients = []
    for g, up, part, its_read in zip(incoming, ups, parts_of(back, ups), parts_of(read, ups)):
        if up is not None:
            gradients.append(_two_products(g, up, its_read, part))
    if not gradients:
        return [], back
    assert x is not None
    return [float_product(back.t(), x), *gradients], back


def _two_products(g: Tensor, up: Tensor, read: Tensor, back: Tensor) -> Tensor:
    """g @ up into `back`, and g.T @ read in float32."""
    if _made_of_one_read(g, up):
        from swiftlite.speed.adapter_gradient_kernels import adapter_products

        return adapter_products(g, up, read, back)
    torch.mm(g, up, out=back)
    return float_product(g.t(), read)


def _made_of_one_read(g: Tensor, up: Tensor) -> bool:
    """Whether the kernels of adapter_gradient_kernels.py take this adapter's products with the gradient g."""
    fits = up.shape[1] <= _MOST_RANK
    return fits and g.is_cuda and g.dtype.itemsize == 2 and torch.cuda.get_device_capability(g.device) >= _AMPERE


def spread_gradients(adapters: Any, gradients: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], Tensor | None]:
    """The gradients of each a, of each b and of x, out of what a backward operator returns.

    Args:
        adapters: has the `ranks` and `factors` of the adapters, and the `dtypes` of all a and then all b.
    """
    count = len(adapters.ranks)
    for_a = list(gradients[0].split(adapters.ranks)) if count else []
    for_b = [g * factor for g, factor in zip(gradients[1 : count + 1], adapters.factors)]
    trained = [g.to(dtype) for g, dtype in zip([*for_a, *for_b], adapters.dtypes)]
    rest = gradients[count + bool(count) :]
    return trained[:count], trained[count:], rest[0] if rest else None


def present(tensors: Sequence[Tensor | None]) -> list[Tensor]:
    """Those that are not None."""
    return [tensor for tensor in tensors if tensor is not None]


def spread(values: Sequence[Any], places: Sequence[bool]) -> list[Any]:
    """The values at the true places, None at the others."""
    following = iter(values)
    return [next(following) if place else None for place in places]


def parts_of(columns: Tensor, ups: Sequence[Tensor | None]) -> list[Tensor]:
    """Each layer's columns of (tokens, ranks)."""
    return list(columns.split([0 if up is None else up.shape[1] for up in ups], dim=1))
