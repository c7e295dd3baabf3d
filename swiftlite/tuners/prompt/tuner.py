"""Prompt, prefix and p-tuning through PEFT: its modules and its file format."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import (
    PeftConfig,
    PeftModel,
    PromptEncoderConfig,
    PromptLearningConfig,
    PromptTuningConfig,
    get_peft_model,
    initialize_kv_prefix_from_past_key_values,
    load_peft_weights,
    set_peft_model_state_dict,
)
from peft.tuners.prefix_tuning import PrefixTuningConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.models.modes import in_mode
from swiftlite.tuners.adapter import check_adapter_kind
from swiftlite.tuners.tuner import Tuner

# The network of p-tuning, which PEFT does not save: it keeps only the tokens that it makes.
_ENCODER = "prompt_encoder.safetensors"


class PromptTuner(Tuner):
    """Learned embeddings in front of each document (prompt tuning: Lester et al., arXiv 2104.08691).

    They start as those of tokens drawn from the vocabulary.
    """

    saves_adapter: ClassVar[bool] = True

    def peft_config(self) -> PromptLearningConfig:
        """PEFT's settings for this kind."""
        return PromptTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=self.config.prompt.num_virtual_tokens,
            prompt_tuning_init="SAMPLE_VOCAB",  # pyrefly: ignore
        )

    def apply(self, model: PreTrainedModel, new_tokens: Sequence[int] = ()) -> nn.Module:
        return self._wrap(model, self.peft_config())

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        check_adapter_kind(folder, self.peft_config().peft_type.value, self.config.tuner.sft_type)  # pyrefly: ignore
        # PEFT itself opens such adapters for inference only.
        settings = PeftConfig.from_pretrained(str(folder))
        settings.inference_mode = False
        try:
            wrapped = self._wrap(model, settings)  # pyrefly: ignore
            self._read(wrapped, folder)
        except (OSError, RuntimeError, KeyError, ValueError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"the adapter {folder} does not fit on this {type(model).__name__}: {reason}") from error
        return wrapped

    def save(self, model: nn.Module, folder: Path, dtype: torch.dtype | None = None) -> None:
        model.save_pretrained(folder, save_embedding_layers=False)  # pyrefly: ignore

    def _read(self, wrapped: PeftModel, folder: Path) -> None:
        set_peft_model_state_dict(wrapped, load_peft_weights(str(folder), device="cpu"))

    def _wrap(self, model: PreTrainedModel, settings: PromptLearningConfig) -> PeftModel:
        name = self.config.tuner.sft_type
        try:
            wrapped: Any = get_peft_model(model, settings)
        except (ValueError, AttributeError, TypeError) as error:
            raise UserError(f"--sft_type {name}: PEFT cannot put it on {type(model).__name__}: {error}") from error
        if wrapped.word_embeddings is not model.get_input_embeddings():
            raise UserError(f"--sft_type {name}: PEFT does not find the embedding of {type(model).__name__}; use lora")
        return wrapped


class PrefixTuner(PromptTuner):
    """Learned keys and values in front of each document, in every layer (Li and Liang, arXiv 2101.00190).

    They start as those of tokens drawn from the vocabulary (their section 7.4: real words, not random numbers).
    """

    def peft_config(self) -> PromptLearningConfig:
        return PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=self.config.prompt.num_virtual_tokens)

    def apply(self, model: PreTrainedModel, new_tokens: Sequence[int] = ()) -> nn.Module:
        count = self.config.prompt.num_virtual_tokens
        ids = torch.randint(model.get_input_embeddings().num_embeddings, (1, count))  # pyrefly: ignore
        with in_mode(model, training=False), torch.no_grad():
            cache = model(ids.to(model.device), use_cache=True).past_key_values
        settings = self.peft_config()
        # PEFT reads these from the model's config, which names them in its own way in some families.
        heads, width = cache.layers[0].keys.shape[1], cache.layers[0].keys.shape[3]
        settings.num_attention_heads, settings.token_dim = heads, heads * width
        wrapped = self._wrap(model, settings)
        try:
            initialize_kv_prefix_from_past_key_values(wrapped, past_key_values=cache)
        except (ValueError, AttributeError, TypeError) as error:
            name = type(model).__name__
            raise UserError(f"--sft_type prefix_tuning: keys and values of {name} do not fit: {error}") from error
        return wrapped


class PTuner(PromptTuner):
    """Learned embeddings in front of each document, made by a small network (Liu et al., arXiv 2103.10385)."""

    def peft_config(self) -> PromptLearningConfig:
        o = self.config.prompt
        return PromptEncoderConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=o.num_virtual_tokens,
            encoder_hidden_size=o.encoder_hidden_size,  # pyrefly: ignore
        )

    def _read(self, wrapped: PeftModel, folder: Path) -> None:
        if not (folder / _ENCODER).is_file():
            raise UserError(
                f"the adapter {folder} cannot be trained further: the network that made its tokens is not there "
                f"({_ENCODER}); start anew, or use it with infer"
            )
        encoder: Any = wrapped.prompt_encoder
        encoder.load_state_dict(load_file(folder / _ENCODER))

    def save(self, model: nn.Module, folder: Path, dtype: torch.dtype | None = None) -> None:
        super().save(model, folder, dtype)
        encoder: Any = model.prompt_encoder
        save_file({n: t.detach().cpu().contiguous() for n, t in encoder.state_dict().items()}, folder / _ENCODER)
