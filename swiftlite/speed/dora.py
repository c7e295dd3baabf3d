"""DoRA in grouped linear layers: a factor a column on what LoRA gives, from norms for which B·A is never made.

y = m / ||W + s B A|| · (x W^T + s (x A^T) B^T) + bias, with the norm of each row of the matrix, taken as a constant in
the backward pass (Liu et al., arXiv 2402.09353, equation 5 and section 4.3). With the square expanded,
||W + s B A||² = ||W||² + 2 s (W A^T)·B + s² (B A A^T)·B row by row, all products have a side as short as the rank, and
the norms of W never change.
"""

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor, nn

from swiftlite.quant.fp8 import Fp8Linear
from swiftlite.speed.float_product import float_product

# Of a row of zeros under an adapter of zeros, whose magnitude is zero too: 0 / 0 would be no number.
_SMALLEST_SQUARE = 1e-30


def is_dora(member: Any, adapter: str) -> bool:
    """Whether that adapter of a LoRA layer is DoRA."""
    return isinstance(member, LoraLinear) and isinstance(member.lora_variant.get(adapter), DoraLinearVariant)


def has_dora(model: nn.Module) -> bool:
    """Whether an active adapter on a linear layer is DoRA."""
    layers = [module for module in model.modules() if isinstance(module, LoraLinear)]
    return any(is_dora(layer, name) for layer in layers for name in layer.active_adapters)


class DoraLayer:
    """The DoRA adapter of one frozen linear layer.

    Attributes:
        member: PEFT's layer, which gets a buffer `norms`, (out,) float32: of the rows of W + s B A when DoraNorms last
            took them. (A tensor that is no buffer has a dynamic size to the compiler.)
        adapter: the adapter's name.
        squares: (out,) float32, of the norms of the rows of W.
    """

    def __init__(self, member: LoraLinear, adapter: str) -> None:
        self.member, self.adapter = member, adapter
        self.squares = _row_squares(member.base_layer)
        member.register_buffer("norms", self.squares, persistent=False)
        self._seen: list[tuple[int, int]] = []

    @property
    def a(self) -> Tensor:
        return self.member.lora_A[self.adapter].weight  # pyrefly: ignore

    @property
    def b(self) -> Tensor:
        return self.member.lora_B[self.adapter].weight  # pyrefly: ignore

    def kind(self) -> tuple[Any, ...]:
        """Layers of one kind can be computed together."""
        base: Any = self.member.base_layer
        precisions = (base.weight.dtype, self.a.dtype, self.b.dtype, self.a.device)
        return (self.a.shape, self.b.shape, self.member.scaling[self.adapter], *precisions)

    def is_stale(self) -> bool:
        """Whether the adapter trains, or somebody has written to it since this was asked last."""
        if self.adapter not in self.member.lora_A:
            # Deleted; the layer is PEFT's now.
            return False
        before, self._seen = self._seen, [(part.data_ptr(), part._version) for part in (self.a, self.b)]
        return self.a.requires_grad or self.b.requires_grad or self._seen != before

    def factor(self) -> Tensor:
        """m / ||W + s B A||, (out,) float32; its gradient goes to m."""
        return self.member.lora_magnitude_vector[self.adapter].weight.float() / self.member.norms  # pyrefly: ignore

    def output(self, plain: Tensor) -> Tensor:
        """The layer's output from x W^T + s (x A^T) B^T, (..., out)."""
        rows = plain.reshape(-1, plain.shape[-1])
        return _ScaledColumns.apply(rows, self.factor(), self.member.base_layer.bias).view(plain.shape)  # pyrefly: ignore


class DoraNorms:
    """Keeps the norms of all DoRA layers of a model up to date.

    An adapter changes with each optimizer step, whoever does it and however; so the norms of one that trains are taken
    before every forward pass, at the cost of reading the weights once. A checkpointed layer does not take them again.
    """

    def __init__(self, layers: Sequence[DoraLayer]) -> None:
        kinds = dict.fromkeys(layer.kind() for layer in layers)
        self.kinds = [[layer for layer in layers if layer.kind() == kind] for kind in kinds]
        self.refresh()

    def refresh(self, *_: Any) -> None:
        """Takes the norms that may be wrong; a forward pre-hook, bound so that a copied model refreshes its own."""
        for layers in self.kinds:
            stale = [layer for layer in layers if layer.is_stale()]
            if stale:
                take_norms(stale)


@torch.no_grad()
def take_norms(layers: Sequence[DoraLayer]) -> None:
    """Of layers of one kind, side by side but for W A^T: a few hundred small launches less for a model.

    They are new tensors: a backward pass may still want the old ones.
    """
    s = layers[0].member.scaling[layers[0].adapter]
    # Autocast would round what is summed in float32.
    with torch.autocast(layers[0].a.device.type, enabled=False):
        a = torch.stack([layer.a for layer in layers])
        b = torch.stack([layer.b for layer in layers]).float()
        crossed = torch.stack([_times_weight(layer.member.base_layer, one) for layer, one in zip(layers, a)])
        gram = a.float() @ a.float().mT
        sums = torch.baddbmm(crossed, b, gram, beta=2 * s, alpha=s**2)
        squares = (sums * b).sum(-1) + torch.stack([layer.squares for layer in layers])
        for layer, norms in zip(layers, squares.clamp_min_(_SMALLEST_SQUARE).sqrt_()):
            layer.member.norms = norms


class _ScaledColumns(torch.autograd.Function):
    """plain · factor + bias, (tokens, out), (out,) and (out,) or None; only `plain` itself is kept for the backward.

    All sums are made in float32. Compiled, it becomes a part of what comes before and after.
    """

    @staticmethod
    def forward(ctx, plain, factor, bias):  # pyrefly: ignore
        ctx.save_for_backward(plain, factor)
        scaled = plain.float() * factor
        return (scaled if bias is None else scaled + bias.float()).to(plain.dtype)

    @staticmethod
    def backward(ctx, incoming):  # pyrefly: ignore
        plain, factor = ctx.saved_tensors
        incoming = incoming.float()
        return (incoming * factor).to(plain.dtype), (incoming * plain.float()).sum(0), None


def _weight_and_scale(base: Any) -> tuple[Tensor, Tensor | None]:
    """W = weight · scale by rows; weight in the precision that its products are made in."""
    return (base.weight.to(base.dtype), base.scale) if isinstance(base, Fp8Linear) else (base.weight, None)


def _times_weight(base: Any, a: Tensor) -> Tensor:
    """W A^T, (out, rank) float32."""
    weight, scale = _weight_and_scale(base)
    product = float_product(weight, a.to(weight.dtype).t())
    return product if scale is None else product * scale[:, None]


@torch.no_grad()
def _row_squares(base: Any) -> Tensor:
    """||W||² of each row, (out,) float32."""
    weight, scale = _weight_and_scale(base)
    norms = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32)
    return (norms if scale is None else norms * scale).square()
