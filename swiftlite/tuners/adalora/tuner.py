"""AdaLoRA through PEFT, with its schedule stepped by the optimizer and its penalty added to the loss."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig, PeftConfig
from torch import Tensor, nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.tuners.peft_tuner import PeftTuner

# PEFT wants the number of steps when the adapter is made; we know it once the data is counted.
_STEPS_UNKNOWN = 2**31 - 1


class AdaloraTuner(PeftTuner):
    """Adapters P Λ Q, whose least important entries of Λ are set to zero step by step (Zhang et al., arXiv 2303.10512).

    All ranks are saved, also those whose entry of Λ is zero: they may come back before the schedule ends, and give
    nothing until then.
    """

    def __init__(self, config: Any):
        super().__init__(config)
        # Which entries stay, by the name of Λ's parameter; settled at the end of the schedule.
        self.kept: dict[str, list[bool]] | None = None

    def peft_config(self, model: PreTrainedModel, new_tokens: Sequence[int]) -> PeftConfig:
        o, lora = self.config.adalora, self.config.lora
        return AdaLoraConfig(
            **self.common(model, new_tokens),
            init_r=o.adalora_init_r,
            target_r=o.adalora_target_r,
            tinit=o.adalora_tinit,
            tfinal=o.adalora_tfinal,
            deltaT=o.adalora_delta_t,
            beta1=o.adalora_beta1,
            beta2=o.adalora_beta2,
            orth_reg_weight=o.adalora_orth_reg_weight,
            total_step=_STEPS_UNKNOWN,
            lora_alpha=lora.lora_alpha,
            lora_dropout=lora.lora_dropout,
        )

    def _cast(self, model: nn.Module) -> nn.Module:
        # On half-precision bases PEFT leaves these constants trainable, and they divide the scaling.
        for name, parameter in model.named_parameters():
            if ".ranknum." in name:
                parameter.requires_grad = False
        return super()._cast(model)

    def begin(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        total_steps: int,
        steps_taken: Callable[[], int],
    ) -> None:
        """Has ranks allocated after each optimizer step, while its gradients are still there."""
        o = self.config.adalora
        if o.adalora_tinit + o.adalora_tfinal >= total_steps:
            raise UserError(
                f"--adalora_tinit {o.adalora_tinit} --adalora_tfinal {o.adalora_tfinal}: nothing of the run's "
                f"{total_steps} steps is left to lower ranks in; give smaller numbers"
            )
        self._config(model).total_step = total_steps
        # Several optimizers step one after the other, and all gradients stay until the last one has.
        optimizers[-1].register_step_post_hook(
            lambda optimizer, *_: self._allocate(model, optimizer, steps_taken() + 1)
        )

    def _allocate(self, model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
        """What PEFT's `update_and_allocate` does, but its pattern is kept here: PEFT would save only what it keeps."""
        skipped = getattr(optimizer, "found_inf", None)
        if skipped is not None and skipped.item():
            return
        allocator, inner, config = model.base_model.rankallocator, model.base_model.model, self._config(model)
        end = (config.total_step or 0) - config.tfinal
        if step > end:
            allocator.mask_using_rank_pattern(inner, self.kept)
            return
        _, kept = allocator.update_and_allocate(inner, step, force_mask=step == end)
        if step == end:
            self.kept = kept

    def penalty(self, model: Any) -> Tensor | None:
        """The weight times the mean over all P and Q of ||PᵀP - I||, or ||QQᵀ - I|| (equation 4)."""
        weight = self.config.adalora.adalora_orth_reg_weight
        if weight == 0:
            return None
        norms = []
        factors = [(n, p) for n, p in model.named_parameters() if "lora_A" in n or "lora_B" in n]
        # Half precision would round the differences away that this is about.
        with torch.autocast(factors[0][1].device.type, enabled=False):
            for name, parameter in factors:
                rows = parameter.float() if "lora_A" in name else parameter.float().T
                norms.append(torch.linalg.matrix_norm(rows @ rows.T - torch.eye(len(rows), device=rows.device)))
            return weight * torch.stack(norms).mean()

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        wrapped = super().load(model, folder)
        self._config(wrapped).total_step = _STEPS_UNKNOWN
        return wrapped

    def state_dict(self, model: Any) -> dict[str, Any]:
        """How important weights are, smoothed over the steps so far, and which ranks the schedule has settled on."""
        allocator = model.base_model.rankallocator
        return {"importance": allocator.exp_avg_ipt, "uncertainty": allocator.exp_avg_unc, "kept": self.kept}

    def load_state_dict(self, model: Any, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        allocator, self.kept = model.base_model.rankallocator, state["kept"]
        allocator.exp_avg_ipt, allocator.exp_avg_unc = state["importance"], state["uncertainty"]
        # PEFT asks here whether a parameter is new; the values are made anew in each step.
        allocator.ipt = dict.fromkeys(allocator.exp_avg_ipt)

    @staticmethod
    def _config(model: Any) -> AdaLoraConfig:
        return model.peft_config["default"]
