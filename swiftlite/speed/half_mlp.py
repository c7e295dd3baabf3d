"""The gated MLP with an adapter on each layer in half precision: adapters add up where the elementwise work is done.

Layer by layer, each adapter's output is written before the frozen layer's product is added to it. gate and up are only
read by silu(gate) · up, and the gradient of that product only by theirs: a kernel that holds a piece of them adds the
few ranks itself, and neither is written. The numbers are those of the layers one by one (frozen_linears.py), rounded
less often. fp8_mlp.py does it for weights in fp8, where adapters ride in the products.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from swiftlite.speed.frozen_linears import adapter_copies, adapter_gradients, parts_of, spread_gradients

# More would fill the registers of the kernels.
LARGEST_RANK = 64


class HalfLayers(NamedTuple):
    """Frozen layers without bias that read the same input, and the adapter on each.

    Attributes:
        weights: (out, in) each in `dtype`.
        a, b: (rank_i, in) and (out, rank_i); factors: s of each layer.
        copies: of a and b in `dtype`, up to date (speed/adapter_copies.py), or none: they are made then.
    """

    weights: Sequence[Tensor]
    a: Sequence[Tensor]
    b: Sequence[Tensor]
    factors: Sequence[float]
    copies: Sequence[Tensor]
    dtype: torch.dtype


class _Adapters(NamedTuple):
    ranks: list[int]
    factors: list[float]
    dtypes: list[torch.dtype]


def half_mlp(x: Tensor, first: HalfLayers, last: HalfLayers, gate: int) -> Tensor:
    """down(silu(gate(x)) · up(x)), (..., out), for x (..., in); gradients go to x and the adapters.

    Args:
        first: gate and up; gate: which of the two is gate, 0 or 1.
        last: down.
    """
    rows = x.reshape(-1, x.shape[-1]).to(first.dtype)
    trained = [*first.a, *first.b, *last.a, *last.b]
    kept = [*first.weights, *_copies(first), *last.weights, *_copies(last)]
    output = _HalfMlp.apply((gate, x.requires_grad, _adapters(first), _adapters(last)), rows, *trained, *kept)
    return output.view(*x.shape[:-1], output.shape[-1])


def _copies(layers: HalfLayers) -> Sequence[Tensor]:
    return layers.copies or adapter_copies(layers.a, layers.b, layers.factors, layers.dtype)


def _adapters(layers: HalfLayers) -> _Adapters:
    dtypes = [one.dtype for one in (*layers.a, *layers.b)]
    return _Adapters([one.shape[0] for one in layers.a], list(layers.factors), dtypes)


class _HalfMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, settings, x, *tensors):  # pyrefly: ignore
        gate = settings[0]
        kept = list(tensors[6:])
        y0, y1, read, product, its_read = torch.ops.swiftlite.half_gated(x, gate, kept[:5], kept[6])
        # Two operators, so that a checkpointed layer need not compute the last product again.
        output = torch.ops.swiftlite.half_last_product(product, its_read, kept[5], kept[7])
        ctx.settings = settings
        ctx.save_for_backward(x, y0, y1, read, product, its_read, *kept)
        return output

    @staticmethod
    def backward(ctx, incoming):  # pyrefly: ignore
        gate, for_x, first, last = ctx.settings
        x, y0, y1, read, product, its_read, *kept = ctx.saved_tensors
        *gradients, for_last_a, for_last_b = torch.ops.swiftlite.half_mlp_backward(
            incoming, x, y0, y1, read, product, its_read, gate, kept, for_x
        )
        last_a, last_b, _ = spread_gradients(last, [for_last_a, for_last_b])
        first_a, first_b, for_x = spread_gradients(first, gradients)
        return (None, for_x, *first_a, *first_b, *last_a, *last_b, *[None] * len(kept))


@torch.library.custom_op(
    "swiftlite::half_gated",
    mutates_args=(),
    schema="(Tensor x, int gate, Tensor[] first, Tensor last_a) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _gated(x, gate, first, last_a):  # pyrefly: ignore
    """What both frozen layers give, x A^T of both adapters, silu(gate) · up, and what the last adapter reads of it.

    Args:
        first: both weights, all A below each other, each s · B.
    """
    *weights, down, up0, up1 = first
    read = x @ down.t()
    y = [x @ weight.t() for weight in weights]
    ups = [up0, up1]
    reads = parts_of(read, ups)
    ordered = [each[place] for each in (y, reads, ups) for place in (gate, 1 - gate)]
    if x.is_cuda:
        from swiftlite.speed import half_mlp_kernels

        product = half_mlp_kernels.gated(*ordered)
    else:
        g, u = _with_adapters(*ordered)
        product = (torch.nn.functional.silu(g) * u).to(x.dtype)
    return *y, read, product, product @ last_a.t()


@_gated.register_fake
def _(x, gate, first, last_a):  # pyrefly: ignore
    tokens, columns = x.shape[0], first[0].shape[0]
    y = [x.new_empty(tokens, columns) for _ in range(3)]
    return y[0], y[1], x.new_empty(tokens, first[2].shape[0]), y[2], x.new_empty(tokens, last_a.shape[0])


@torch.library.custom_op(
    "swiftlite::half_last_product",
    mutates_args=(),
    schema="(Tensor product, Tensor read, Tensor weight, Tensor up) -> Tensor",
)
def _last_product(product, read, weight, up):  # pyrefly: ignore
    output = read @ up.t()
    return torch.addmm(output, product, weight.t(), out=output)


@_last_product.register_fake
def _(product, read, weight, up):  # pyrefly: ignore
    return product.new_empty(product.shape[0], weight.shape[0])


@torch.library.custom_op(
    "swiftlite::half_mlp_backward",
    mutates_args=(),
    schema="(Tensor incoming, Tensor x, Tensor y0, Tensor y1, Tensor read, Tensor product, Tensor its_read, int gate,"
    " Tensor[] kept, bool for_x) -> Tensor[]",
)
def _backward(incoming, x, y0, y1, read, product, its_read, gate, kept, for_x):  # pyrefly: ignore
    """Of all a of gate and up below each other, of each b / factor, of x where it is wanted, of down's a and b."""
    weight0, weight1, down, up0, up1, last_weight, last_a, last_up = kept
    (for_last_a, for_last_b), came = adapter_gradients([incoming.contiguous()], product, its_read, [last_up])
    ups = [up0, up1]
    reads = parts_of(read, ups)
    ordered = [each[place] for each in ([y0, y1], reads, ups) for place in (gate, 1 - gate)]
    through = incoming @ last_weight
    if x.is_cuda:
        from swiftlite.speed import half_mlp_kernels

        both = half_mlp_kernels.gated_gradients(through, came, last_a, *ordered)
    else:
        g, u = _with_adapters(*ordered)
        d = through.float() + came.float() @ last_a.float()
        sigmoid = torch.sigmoid(g)
        both = (d * u * sigmoid * (1 + g * (1 - sigmoid))).to(x.dtype), (d * g * sigmoid).to(x.dtype)
    both = both if gate == 0 else both[::-1]
    gradients, back = adapter_gradients(both, x, read, ups)
    if for_x:
        total = back @ down
        for g, weight in zip(both, (weight0, weight1)):
            total = torch.addmm(total, g, weight, out=total)
        gradients.append(total)
    return [*gradients, for_last_a, for_last_b]


@_backward.register_fake
def _(incoming, x, y0, y1, read, product, its_read, gate, kept, for_x):  # pyrefly: ignore
    _, _, *copies, _, last_a, last_up = kept
    gradients = [torch.empty_like(one, dtype=torch.float32) for one in (*copies, last_a, last_up)]
    return [*gradients[:3], *([torch.empty_like(x)] if for_x else []), *gradients[3:]]


def _with_adapters(gate, up, gate_read, up_read, gate_b, up_b):  # pyrefly: ignore
    """gate and up with what their adapters add, in float32."""
    return tuple(
        y.float() + read.float() @ b.float().t() for y, read, b in ((gate, gate_read, gate_b), (up, up_read, up_b))
    )
