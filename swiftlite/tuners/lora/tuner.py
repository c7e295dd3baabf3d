"""LoRA through PEFT: its modules and its file format."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import LoraConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict
from torch import nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.models.device import DTYPES
from swiftlite.tuners.adapter import load_adapter
from swiftlite.tuners.lora.targets import modules_to_save, target_modules, token_rows
from swiftlite.tuners.tuner import Tuner

_EMBEDDING_LR = 1e-6


class LoraTuner(Tuner):
    """Low-rank adapters (Hu et al., arXiv 2106.09685)."""

    saves_adapter: ClassVar[bool] = True

    def apply(self, model: PreTrainedModel, new_tokens: Sequence[int] = ()) -> nn.Module:
        o = self.config.lora
        init = o.init_lora_weights.lower()
        try:
            peft_config = LoraConfig(
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
            wrapped = get_peft_model(model, peft_config)
        except ValueError as error:
            raise UserError(f"--lora_target_modules {' '.join(o.lora_target_modules)}: {error}") from error
        return self._cast(wrapped)

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        wrapped = self._cast(load_adapter(model, folder, trainable=True))
        # Once more, now that the weights have their training precision: PEFT read them in the base's.
        set_peft_model_state_dict(wrapped, load_peft_weights(str(folder), device="cpu"))
        return wrapped

    def save(self, model: nn.Module, folder: Path, dtype: torch.dtype | None = None) -> None:
        # "auto" would look the base up on the hub to see whether its embedding was resized.
        model.save_pretrained(folder, save_embedding_layers=False)  # pyrefly: ignore

    def _cast(self, model: nn.Module) -> nn.Module:
        dtype = self.config.lora.lora_dtype
        if self.config.model.dtype == "fp16":
            # A GradScaler needs gradients in fp32 to see their overflow.
            if dtype not in ("auto", "fp32"):
                raise UserError(f"--lora_dtype {dtype}: under --dtype fp16 what is trained must be fp32; leave it away")
            dtype = "fp32"
        for parameter in model.parameters():
            if parameter.requires_grad and dtype != "auto":
                parameter.data = parameter.data.to(DTYPES[dtype])
        return model

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
