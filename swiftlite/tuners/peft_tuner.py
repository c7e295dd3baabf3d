"""What all tuners through PEFT share: how an adapter is put on, gets its precision, is saved and gone on with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import PeftConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict
from torch import nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.models.device import DTYPES
from swiftlite.tuners.adapter import load_adapter
from swiftlite.tuners.lora.targets import modules_to_save, target_modules
from swiftlite.tuners.tuner import Tuner


class PeftTuner(Tuner):
    """An adapter of PEFT: its modules and its file format."""

    saves_adapter: ClassVar[bool] = True

    def peft_config(self, model: PreTrainedModel, new_tokens: Sequence[int]) -> PeftConfig:
        """PEFT's settings for this model.

        Raises:
            UserError: targets that are not there, or sizes that do not fit them.
        """
        raise TypeError(f"{type(self).__name__} must define peft_config")

    def apply(self, model: PreTrainedModel, new_tokens: Sequence[int] = ()) -> nn.Module:
        try:
            wrapped = get_peft_model(model, self.peft_config(model, new_tokens))
        except (ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:300]
            targets = " ".join(self.config.lora.lora_target_modules)
            raise UserError(
                f"--sft_type {self.config.tuner.sft_type} --lora_target_modules {targets}: {reason}"
            ) from error
        return self._cast(wrapped)

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        wrapped = self._cast(load_adapter(model, folder, trainable=True))
        # Once more, now that the weights have their training precision: PEFT read them in the base's.
        set_peft_model_state_dict(wrapped, load_peft_weights(str(folder), device="cpu"))
        return wrapped

    def save(self, model: nn.Module, folder: Path, dtype: torch.dtype | None = None) -> None:
        # "auto" would look the base up on the hub to see whether its embedding was resized.
        model.save_pretrained(folder, save_embedding_layers=False)  # pyrefly: ignore

    def common(self, model: PreTrainedModel, new_tokens: Sequence[int]) -> dict[str, Any]:
        """What every PEFT config takes: the task, the targets, and what trains in full beside the adapter.

        Raises:
            UserError: targets that are not there, or tokens that this tuner cannot train.
        """
        o, name = self.config.lora, self.config.tuner.sft_type
        if new_tokens and "EMBEDDING" not in o.lora_modules_to_save:
            raise UserError(
                f"--sft_type {name}: the template brings {len(new_tokens)} tokens whose embeddings must be learnt, and "
                f"only --sft_type lora trains single rows; pass --lora_modules_to_save EMBEDDING lm_head, or use lora"
            )
        if "EMBEDDING" in o.lora_modules_to_save and model.config.tie_word_embeddings:
            raise UserError(
                f"--lora_modules_to_save EMBEDDING: this model's head is its embedding, and --sft_type {name} would "
                f"train them apart; use --sft_type lora"
            )
        return {
            "task_type": "CAUSAL_LM",
            "target_modules": target_modules(model, o.lora_target_modules, o.target_regex),
            "modules_to_save": modules_to_save(model, o.lora_modules_to_save),
        }

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
