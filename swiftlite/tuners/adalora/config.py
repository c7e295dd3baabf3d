"""Settings of AdaLoRA; alpha, dropout, targets and precision are LoRA's."""

from dataclasses import dataclass

from swiftlite.config.errors import UserError
from swiftlite.config.options import option


@dataclass
class AdaloraOptions:
    adalora_init_r: int = option(12, "adalora: rank of each layer at the start", rare=True)
    adalora_target_r: int = option(8, "adalora: average rank of the layers at the end", rare=True)
    adalora_tinit: int = option(0, "adalora: steps before ranks begin to fall", rare=True)
    adalora_tfinal: int = option(0, "adalora: steps at the end in which ranks stay", rare=True)
    adalora_delta_t: int = option(1, "adalora: steps between two allocations of rank", rare=True)
    adalora_beta1: float = option(0.85, "adalora: smoothing of the importance of weights", rare=True)
    adalora_beta2: float = option(0.85, "adalora: smoothing of how uncertain that is", rare=True)
    adalora_orth_reg_weight: float = option(
        0.5, "adalora: weight of the penalty that keeps both factors orthogonal (not in the logged loss)", rare=True
    )

    def check(self) -> None:
        if not 1 <= self.adalora_target_r < self.adalora_init_r:
            raise UserError(
                f"--adalora_target_r {self.adalora_target_r} --adalora_init_r {self.adalora_init_r}: ranks fall from "
                f"init_r to target_r, so expected 1 <= target_r < init_r; for a rank that stays use --sft_type lora"
            )
        for name in ("adalora_beta1", "adalora_beta2"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"--{name}: {getattr(self, name)} is not between 0 and 1")
        for name in ("adalora_tinit", "adalora_tfinal", "adalora_orth_reg_weight"):
            if getattr(self, name) < 0:
                raise UserError(f"--{name}: {getattr(self, name)} must not be negative")
        if self.adalora_delta_t < 1:
            raise UserError(f"--adalora_delta_t: {self.adalora_delta_t} must be 1 or more")
