"""Optimizer steps inside the backward pass: each weight is updated, and its gradient freed, as soon as it is known."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class StepInBackward:
    """Hooks that step one optimizer per weight (as in LOMO, Lv et al., arXiv 2306.09782, with any optimizer).

    There is never more than one layer's gradient in memory. In return nothing can depend on all gradients: neither
    their norm as a limit nor the sum over several micro-batches. Gradients that are not finite change nothing: where
    the optimizer can skip on the device it does, elsewhere it sees a gradient of 0.
    """

    def __init__(self, optimizers: Mapping[nn.Parameter, torch.optim.Optimizer]):
        self._optimizers = dict(optimizers)
        self._norms: list[Tensor] = []
        self._handles: list[Any] = []
        for weight in self._optimizers:
            needs_gradient = weight.requires_grad
            # Only then it takes a hook, which stays: a tuner may train it later.
            weight.requires_grad = True
            self._handles.append(weight.register_post_accumulate_grad_hook(self._step))
            weight.requires_grad = needs_gradient

    def norm(self) -> Tensor:
        """The norm of all gradients since the last call (0-d float32), which is not finite if one of them was not."""
        norms, self._norms = self._norms, []
        return torch.linalg.vector_norm(torch.stack(norms))

    def close(self) -> None:
        """Takes the hooks off, which would keep weights and optimizers in memory as long as each other."""
        for handle in self._handles:
            handle.remove()

    @torch.no_grad()
    def _step(self, weight: Tensor) -> None:
        assert isinstance(weight, nn.Parameter) and weight.grad is not None
        optimizer = self._optimizers[weight]
        norm = torch.linalg.vector_norm(weight.grad, dtype=torch.float32)
        bad = ~torch.isfinite(norm)
        if skips_on_device(optimizer):
            optimizer.found_inf = bad.float()  # pyrefly: ignore
        else:
            weight.grad.masked_fill_(bad, 0)
        optimizer.step()
        weight.grad = None
        self._norms.append(norm)


def skips_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its step reads `optimizer.found_inf` (0-d float32) and changes nothing where that is not 0."""
    return bool(optimizer.defaults.get("fused") or getattr(optimizer, "skips_on_device", False))
