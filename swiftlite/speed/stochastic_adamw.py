"""AdamW for bf16 weights and states whose updates are rounded up or down at random, so that none is lost on average."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from swiftlite.speed.compiled_function import CompiledOrEager

# A bf16 is the upper half of a float32: what is cut off lies in 16 bits.
_LOWER_BITS = 16


class StochasticAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) computed in float32 and kept in the precision of each weight.

    bf16 has 8 significant bits: rounded to nearest, a change under 1/512 of a weight is always lost, and so is one of
    the second moment. Rounded stochastically (Zamirai et al., "Revisiting BFloat16 Training", arXiv 2010.06192) a
    value between two bf16 numbers becomes the upper one with a probability of its distance from the lower one, so its
    mean is the value itself. Weights of other precisions are updated as by torch's AdamW.

    The noise comes from the device's default generator, which checkpoints save. On CUDA the update of a weight is
    one compiled kernel, which leaves everything as it was when `found_inf` (0-d float32 tensor) is not 0.
    """

    skips_on_device = True

    def __init__(
        self,
        params: Any,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyrefly: ignore
        """Updates every weight that has a gradient."""
        assert closure is None, "the loss is not computed here"
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            device = weights[0].device
            settings = [group["lr"], *group["betas"], group["eps"], group["weight_decay"]]
            numbers = torch.tensor(settings, dtype=torch.float32).to(device, non_blocking=True)
            keep = torch.zeros((), device=device) if self.found_inf is None else self.found_inf
            for weight in weights:
                state = self.state[weight]
                if not state:
                    state["step"] = torch.zeros(1, device=device)
                    state["exp_avg"] = torch.zeros_like(weight, memory_format=torch.contiguous_format)
                    state["exp_avg_sq"] = torch.zeros_like(weight, memory_format=torch.contiguous_format)
                state["step"] += 1 - keep
                update = _compiled_update if weight.is_cuda else _update
                mean, square = state["exp_avg"].view(-1), state["exp_avg_sq"].view(-1)
                gradient = weight.grad.reshape(-1)
                update(gradient, weight.view(-1), mean, square, state["step"], numbers, keep.view(1))


def stochastically_rounded(values: Tensor) -> Tensor:
    """Float32 `values` as bf16: one of the two nearest, at random, so that the mean is the value; inf and NaN stay."""
    noise = torch.randint(0, 1 << _LOWER_BITS, values.shape, dtype=torch.int32, device=values.device)
    # Bits count magnitudes: a carry out of the lower half makes the upper half the next number away from zero.
    bits = (values.view(torch.int32) + noise) & -(1 << _LOWER_BITS)
    return torch.where(values.isfinite(), bits.view(torch.float32), values).to(torch.bfloat16)


def _update(
    gradient: Tensor, weight: Tensor, mean: Tensor, square: Tensor, step: Tensor, numbers: Tensor, keep: Tensor
) -> Tensor:
    """One AdamW step in place, on flat tensors; returns the step's number (the compiled form must return something)."""
    lr, beta1, beta2, eps, decay = numbers.unbind()
    slope = gradient.float()
    new_mean = mean.float().lerp(slope, 1 - beta1)
    new_square = square.float() * beta2 + slope * slope * (1 - beta2)
    scale = new_square.sqrt() / (1 - beta2**step).sqrt() + eps
    new_weight = weight.float() * (1 - lr * decay) - lr / (1 - beta1**step) * new_mean / scale
    for target, value in ((weight, new_weight), (mean, new_mean), (square, new_square)):
        rounded = stochastically_rounded(value) if target.dtype == torch.bfloat16 else value.to(target.dtype)
        target.copy_(torch.where(keep != 0, target, rounded))
    return step


_compiled_update = CompiledOrEager(_update)
