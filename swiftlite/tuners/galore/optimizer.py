"""AdamW whose moments live in few dimensions of each gradient: GaLore, and its smaller form Q-GaLore."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from swiftlite.quant.blockwise import from_dynamic, from_uniform, to_dynamic, to_uniform
from swiftlite.speed.compiled_function import CompiledOrEager
from swiftlite.speed.matrix_optimizer import MatrixOptimizer
from swiftlite.speed.stochastic_adamw import stochastically_rounded
from swiftlite.tuners.galore.basis import leading_directions, with_signs_of
from swiftlite.tuners.galore.config import GaloreOptions
from swiftlite.tuners.galore.projection import projected_sides


class GaloreAdamW(MatrixOptimizer):
    """AdamW in the leading singular directions of each gradient (Zhao et al., arXiv 2403.03507, algorithm 2).

    Every `galore_update_proj_gap` steps the directions are found anew from the gradient of the moment, by random
    projections drawn from `seed`; moments stay as they are, with the signs of directions kept along the old ones.
    Gradients are projected, and updates brought back, in the precision of the weights; moments are float32.
    Weight decay is AdamW's, on the weight itself.

    Args:
        params: matrices, and groups of them, with `lr` and `weight_decay`.
        options: rank, gap, scale, sides, and whether Q-GaLore (Zhang et al., arXiv 2407.08296) is wanted.
        small_states: moments in 8 bits; Q-GaLore's always are.
        stochastic: bf16 weights are rounded up or down at random (see `stochastically_rounded`).
    """

    def __init__(
        self,
        params: Any,
        options: GaloreOptions,
        *,
        seed: int = 0,
        lr: float = 1e-5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        small_states: bool = False,
        stochastic: bool = False,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._options = options
        self._seed = seed
        self._small_states = small_states or options.galore_quantization
        self._apply = _stochastic_change if stochastic else _nearest_change

    def _step(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state |= {"step": 0, "refreshes": 0, "due": 0, "gap": self._options.galore_update_proj_gap, "cosines": []}
        # A gradient of 0 (of a step that was not finite) has no directions: the next one will.
        if state["step"] >= state["due"] and gradient.any():
            self._refresh(state, gradient)
        if not state["refreshes"]:
            return
        state["step"] += 1
        left, right = (self._basis(state, side, gradient) for side in ("left", "right"))
        low = gradient if left is None else left.T @ gradient
        low = low if right is None else low @ right
        update = self._adam(state, low.float(), group).to(gradient.dtype)
        update = update if left is None else left @ update
        update = update if right is None else update @ right.T
        factors = [1 - group["lr"] * group["weight_decay"], -group["lr"] * self._options.galore_scale]
        numbers = torch.tensor(factors).to(weight.device, non_blocking=True)
        apply = self._apply if weight.is_cuda else self._apply.function
        apply(weight.view(-1), update.reshape(-1), numbers)

    def _adam(self, state: dict[str, Any], low: Tensor, group: dict[str, Any]) -> Tensor:
        """Adam's direction for a projected gradient (float32, its shape)."""
        beta1, beta2 = group["betas"]
        mean, root = self._moments(state, low)
        mean.lerp_(low, 1 - beta1)
        square = root.square_().mul_(beta2).addcmul_(low, low, value=1 - beta2)
        root = square.sqrt()
        self._keep_moments(state, mean, root)
        step = state["step"]
        return (mean / (1 - beta1**step)) / (root / (1 - beta2**step) ** 0.5 + group["eps"])

    def _moments(self, state: dict[str, Any], low: Tensor) -> tuple[Tensor, Tensor]:
        """The first moment and the root of the second, which 8 bits can hold over twice as many powers of ten."""
        if "mean" not in state:
            return torch.zeros_like(low), torch.zeros_like(low)
        if not self._small_states:
            return state["mean"], state["root"]
        return (
            from_dynamic(state["mean"], state["mean_scales"], low.shape, signed=True),
            from_dynamic(state["root"], state["root_scales"], low.shape, signed=False),
        )

    def _keep_moments(self, state: dict[str, Any], mean: Tensor, root: Tensor) -> None:
        if self._small_states:
            state["mean"], state["mean_scales"] = to_dynamic(mean, signed=True)
            state["root"], state["root_scales"] = to_dynamic(root, signed=False)
        else:
            state["mean"], state["root"] = mean, root

    def _refresh(self, state: dict[str, Any], gradient: Tensor) -> None:
        """Finds the directions anew; where they hardly change, Q-GaLore's next time is further off."""
        o, cosine = self._options, None
        for side in projected_sides(gradient.shape, o.galore_proj_type):
            matrix = gradient if side == "left" else gradient.T
            directions = leading_directions(matrix, o.galore_rank, self._seed + state["refreshes"])
            if dist.is_initialized():
                # Processes must agree on them to the last bit, or their weights would drift apart.
                dist.broadcast(directions, src=0)
            before = self._basis(state, side, gradient)
            if before is not None:
                directions = with_signs_of(directions, before.float())
                cosine = F.cosine_similarity(directions[:, 0], before[:, 0].float(), dim=0).item()
            if self._packs():
                state[side], state[f"{side}_scales"] = to_uniform(directions, o.galore_proj_bits)
            else:
                state[side] = directions.to(gradient.dtype)
        if cosine is not None and o.galore_quantization:
            state["cosines"] = [*state["cosines"], cosine][-o.galore_queue_size :]
            alike = sum(state["cosines"]) / o.galore_queue_size >= o.galore_cos_threshold
            if len(state["cosines"]) == o.galore_queue_size and alike:
                state["gap"] = int(state["gap"] * o.galore_gamma_proj)
        state["refreshes"] += 1
        state["due"] = state["step"] + state["gap"]

    def _basis(self, state: dict[str, Any], side: str, gradient: Tensor) -> Tensor | None:
        """The directions of a side (its length, rank) in the gradient's precision; None where it is not projected."""
        if side not in state:
            return None
        if not self._packs():
            return state[side].to(gradient.dtype)
        length = gradient.shape[0 if side == "left" else 1]
        shape = torch.Size((length, min(self._options.galore_rank, *gradient.shape)))
        return from_uniform(state[side], state[f"{side}_scales"], shape, self._options.galore_proj_bits).to(
            gradient.dtype
        )

    def _packs(self) -> bool:
        return self._options.galore_quantization and self._options.galore_proj_quant


def _change(weight: Tensor, update: Tensor, numbers: Tensor) -> Tensor:
    """What a flat weight becomes, in float32: `numbers` are factors of the weight and of the update."""
    return weight.float() * numbers[0] + update.float() * numbers[1]


def _to_nearest(weight: Tensor, update: Tensor, numbers: Tensor) -> Tensor:
    return weight.copy_(_change(weight, update, numbers))


def _at_random(weight: Tensor, update: Tensor, numbers: Tensor) -> Tensor:
    return weight.copy_(stochastically_rounded(_change(weight, update, numbers)))


_nearest_change, _stochastic_change = CompiledOrEager(_to_nearest), CompiledOrEager(_at_random)
