"""APOLLO: Adam's step sizes a channel, learnt in few random dimensions; states far smaller than the weights."""

from typing import Any

import torch
from torch import Tensor

from swiftlite.speed.matrix_optimizer import MatrixOptimizer

# A gradient's scaled norm grows by this factor a step at most (Chen et al., Fira, arXiv 2410.01623, section 4.2).
_GROWTH = 1.01
_TINY = 1e-8


class Apollo(MatrixOptimizer):
    """The gradient itself, each channel scaled as Adam would scale it (Zhu et al., arXiv 2412.05270, algorithm 1).

    How much Adam would change a channel's length is seen in a random projection of the shorter side to `rank`
    dimensions, drawn anew every `gap` steps and never stored: `seed` and the step give it again.

    Args:
        params: matrices, and groups of them.
        scale: factor of the updates; 1 for channels, about the root of (shorter side / rank) for a tensor (the paper).
        by_tensor: one step size for the whole matrix, as APOLLO-Mini with rank 1.
    """

    def __init__(
        self,
        params: Any,
        *,
        rank: int,
        gap: int,
        scale: float = 1.0,
        by_tensor: bool = False,
        seed: int = 0,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._rank, self._gap, self._scale, self._by_tensor, self._seed = rank, gap, scale, by_tensor, seed

    def _step(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        flat = gradient.shape[0] < gradient.shape[1]
        low = self._projection(gradient, state.get("step", 0) // self._gap)
        low = (low @ gradient if flat else gradient @ low.T).float()
        if not state:
            state |= {"step": 0, "exp_avg": torch.zeros_like(low), "exp_avg_sq": torch.zeros_like(low)}
            state["norm"] = torch.full((), torch.inf, device=low.device)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        mean = state["exp_avg"].lerp_(low, 1 - beta1) / (1 - beta1 ** state["step"])
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(low, low, value=1 - beta2) / (1 - beta2 ** state["step"])
        adam = mean / (square.sqrt() + group["eps"])
        channels = None if self._by_tensor else 0 if flat else 1
        keep = channels is not None
        norms = [torch.linalg.vector_norm(t, dim=channels, keepdim=keep) for t in (adam, low)]
        update = gradient.float() * (norms[0] / (norms[1] + _TINY))
        norm = torch.linalg.vector_norm(update)
        # A step of zeros, whose gradient was not finite, sets no limit for the next.
        limit = torch.where(state["norm"] > 0, _GROWTH * state["norm"], torch.inf)
        update *= torch.clamp(limit / (norm + _TINY), max=1.0)
        state["norm"] = torch.minimum(norm, limit)
        weight.copy_(weight * (1 - group["lr"] * group["weight_decay"]) - group["lr"] * self._scale * update)

    def _projection(self, gradient: Tensor, number: int) -> Tensor:
        """(rank, shorter side): drawn from N(0, 1/rank), which keeps lengths on average."""
        generator = torch.Generator(gradient.device).manual_seed(self._seed + number)
        drawn = torch.randn(self._rank, min(gradient.shape), generator=generator, device=gradient.device)
        return (drawn / self._rank**0.5).to(gradient.dtype)
