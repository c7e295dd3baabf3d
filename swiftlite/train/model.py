"""The model of a run: base weights, the tuner on them, and what a checkpoint restores."""

from pathlib import Path

import torch
from torch import nn
from transformers import PretrainedConfig

from swiftlite.models.device import DTYPES
from swiftlite.models.load import load_model
from swiftlite.models.source import ModelSource
from swiftlite.train.config import SftConfig
from swiftlite.train.resume import weights_of
from swiftlite.tuners.registry import make_tuner
from swiftlite.tuners.tuner import Tuner


def load_trainable(
    config: SftConfig,
    source: ModelSource,
    model_config: PretrainedConfig,
    checkpoint: Path | None,
    device: torch.device,
    notes: list[str],
) -> tuple[nn.Module, Tuner]:
    """The model to train, on its device, and its tuner; `notes` gets what the header should say."""
    tuner = make_tuner(config.tuner.sft_type, config)
    if checkpoint is not None:
        source = weights_of(source, checkpoint, tuner.saves_adapter)
    base = load_model(source, model_config, DTYPES[config.model.dtype], device, config.model.attn_impl)
    if config.optim.gradient_checkpointing:
        # transformers 5.23 gave it the new name; 5.17 has only the old one.
        name = "activation" if hasattr(base, "activation_checkpointing_enable") else "gradient"
        getattr(base, f"{name}_checkpointing_enable")({"use_reentrant": False})
    if source.adapter is None:
        model = tuner.apply(base)
    else:
        model = tuner.load(base, source.adapter)
        if checkpoint is None:
            notes.append(f"going on with the adapter {source.adapter}; its own rank and targets hold")
    if config.model.dtype == "fp16":
        # A GradScaler needs gradients in fp32 to see their overflow.
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    return model, tuner
