"""LoRA through PEFT: its modules and its file format."""

from collections.abc import Sequence
from typing import Any

from peft import LoraConfig
from torch import nn
from transformers import PreTrainedModel

from swiftlite.tuners.lora.targets import modules_to_save, target_modules, token_rows
from swiftlite.tuners.peft_tuner import PeftTuner

_EMBEDDING_LR = 1e-6


class LoraTuner(PeftTuner):
    """Low-rank adapters (Hu et al., arXiv 2106.09685)."""

    def peft_config(self, model: PreTrainedModel, new_tokens: Sequence[int]) -> LoraConfig:
        o = self.config.lora
        init = o.init_lora_weights.lower()
        return LoraConfig(
            task_type="CAUSAL_LM",
            r=o.lora_rank,
            lora_alpha=o.lora_alpha,
            lora_dropout=o.lora_dropout,
            target_modules=target_modules(model, o.lora_target_modules, o.target_regex),
            modules_to_save=modules_to_save(model, o.lora_modules_to_save),
            # A tied head must go on being the embedding that is trained.
            ensure_weight_tying=bool(o.lora_modules_to_save) and bool(model.config.tie_word_embeddings),
            trainable_token_indices=token_rows(model, new_tokens),
            bias=o.lora_bias,
            use_rslora=o.use_rslora,
            use_dora=o.use_dora,
            init_lora_weights={"true": True, "false": False}.get(init, init),  # pyrefly: ignore
        )

    def parameter_groups(self, model: nn.Module, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """With `--lora_lr_ratio`, LoRA+'s groups: B and biases faster, embeddings at 1e-6 (arXiv 2402.12354)."""
        ratio = self.config.lora.lora_lr_ratio
        if ratio is None:
            return super().parameter_groups(model, learning_rate, weight_decay)
        groups: dict[str, list[nn.Parameter]] = {"A": [], "B": [], "B_plain": [], "embedding": []}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if "lora_embedding" in name or ("modules_to_save" in name and "embed" in name):
                groups["embedding"].append(parameter)
            elif "lora_B" in name or parameter.dim() == 1:
                groups["B_plain" if parameter.dim() == 1 else "B"].append(parameter)
            else:
                groups["A"].append(parameter)
        settings = {
            "A": (learning_rate, weight_decay),
            "B": (learning_rate * ratio, weight_decay),
            "B_plain": (learning_rate * ratio, 0.0),
            "embedding": (_EMBEDDING_LR, weight_decay),
        }
        return [
            {"params": params, "lr": settings[key][0], "weight_decay": settings[key][1]}
            for key, params in groups.items()
            if params
        ]
