"""DoRA in grouped linear layers: a factor a column on what LoRA gives, from norms for which B·A is never made.

y = m / ||W + s B A|| · (x W^T + s (x A^T) B^T) + bias, with the norm of each row of the matrix, taken as a constant in
the backward pass (Liu et al., arXiv 2402.09353, equation 5 and section 4.3). With the square expanded,
||W + s B A||² = ||W||² + 2 s (W A^T)·B + s² (B A A^T)·B row by row, all products have a side as short as the rank, and
the norms of W never change.
"""

from collections.abc import Sequence
from typing import Any, cast

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
        member: PEFT's layer, which gets a buffer `norms`, (out,) float32: of the rows of W + s B A when they were last
            refreshed. (A tensor that is no buffer has a dynamic size to the compiler.)
        adapter: the adapter's name.
    """

    def __init__(self, member: LoraLinear, adapter: str) -> None:
        self.member, self.adapter = member, adapter
        self.squares = _row_squares(member.base_layer)
        member.register_buffer("norms", self.squares, persistent=False)
        self._seen: list[tuple[int, int]] = []
        self.refresh()

    def refresh(self) -> None:
        """Takes the norms anew, unless the adapter is frozen and nobody has written to it."""
        if self.adapter not in self.member.lora_A:
            # Deleted; the layer is PEFT's now.
            return
        a, b = (cast(Tensor, part[self.adapter].weight) for part in (self.member.lora_A, self.member.lora_B))
        seen = [(part.data_ptr(), part._version) for part in (a, b)]
        if a.requires_grad or b.requires_grad or seen != self._seen:
            self._seen = seen
            self._refresh(a, b)

    @torch.no_grad()
    def _refresh(self, a: Tensor, b: Tensor) -> None:
        """Nothing that a backward pass still wants is overwritten."""
        factor = self.member.scaling[self.adapter]
        # Autocast would round what is summed in float32.
        with torch.autocast(a.device.type, enabled=False):
            weight, scale = _weight_and_scale(self.member.base_layer)
            down, up = a.to(weight.dtype), b.float()
            crossed = float_product(weight, down.t())
            if scale is not None:
                crossed *= scale[:, None]
            gram = float_product(down, down.t())
            sums = torch.addmm(crossed, up, gram, beta=2 * factor, alpha=factor**2)
            squares = (sums * up).sum(1) + self.squares
            self.member.norms = squares.clamp_min_(_SMALLEST_SQUARE).sqrt_()

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
        self.layers = list(layers)

    def before_forward(self, *_: Any) -> None:
        """A forward pre-hook of the decoder; bound, so that a copy of the model refreshes its own norms."""
        for layer in self.layers:
            layer.refresh()


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


@torch.no_grad()
def _row_squares(base: Any) -> Tensor:
    """||W||² of each row, (out,) float32."""
    weight, scale = _weight_and_scale(base)
    norms = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32)
    return (norms if scale is None else norms * scale).square()
