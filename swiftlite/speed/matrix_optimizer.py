"""What optimizers share that update one matrix after the other by its gradient alone."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class MatrixOptimizer(torch.optim.Optimizer):
    """Base of them: `_step` updates one matrix."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyrefly: ignore
        """Updates every matrix that has a gradient."""
        assert closure is None, "the loss is not computed here"
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    # In the backward pass autocast may be on, and would round what must stay float32.
                    with torch.autocast(weight.device.type, enabled=False):
                        self._step(weight, weight.grad, group)

    def _step(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        raise TypeError(f"{type(self).__name__} must define _step")
