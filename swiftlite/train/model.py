"""The model of a run: base weights, the tuner on them, and what a checkpoint restores."""

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from swiftlite.models.device import DTYPES
from swiftlite.models.load import load_model
from swiftlite.models.new_tokens import fit_embedding, untouched_tokens
from swiftlite.train.config import SftConfig
from swiftlite.train.inputs import Inputs
from swiftlite.train.resume import weights_of
from swiftlite.tuners.registry import make_tuner
from swiftlite.tuners.tuner import Tuner


def load_trainable(
    config: SftConfig, inputs: Inputs, checkpoint: Path | None, device: torch.device, notes: list[str]
) -> tuple[nn.Module, Tuner]:
    """The model to train, on its device, and its tuner; `notes` gets what the header should say."""
    tuner = make_tuner(config.tuner.sft_type, config)
    source = inputs.source
    if checkpoint is not None:
        source = weights_of(source, checkpoint, tuner.saves_adapter)
    base = load_model(source, inputs.model_config, DTYPES[config.model.dtype], device, config.model.attn_impl)
    fit_embedding(base, len(inputs.tokenizer))
    if source.adapter is None:
        _note_untouched(base, config, inputs, notes)
        model = tuner.apply(base, inputs.new_tokens)
    else:
        model = tuner.load(base, source.adapter)
        if checkpoint is None:
            notes.append(f"going on with the adapter {source.adapter}; its own rank and targets hold")
    if config.optim.gradient_checkpointing:
        # transformers 5.23 gave it the new name; 5.17 has only the old one.
        name = "activation" if hasattr(base, "activation_checkpointing_enable") else "gradient"
        getattr(base, f"{name}_checkpointing_enable")({"use_reentrant": False})
    if config.model.dtype == "fp16":
        # A GradScaler needs gradients in fp32 to see their overflow.
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    return model, tuner


def _note_untouched(base: PreTrainedModel, config: SftConfig, inputs: Inputs, notes: list[str]) -> None:
    """A frozen embedding cannot learn the template's own tokens."""
    embedding = base.get_input_embeddings()
    trained = config.tuner.sft_type == "full" or "EMBEDDING" in config.lora.lora_modules_to_save
    if trained or inputs.source.dummy_seed is not None:
        return
    ids = [i for i in inputs.template.stop_token_ids if i not in inputs.new_tokens]
    missed = untouched_tokens(embedding, ids)
    if missed:
        names = ", ".join(map(str, inputs.tokenizer.convert_ids_to_tokens(missed)))
        notes.append(
            f"warning: {names} of the template seem untrained in this model, and the embedding is frozen; train it "
            f"with --lora_modules_to_save EMBEDDING lm_head, or choose the model's own --template"
        )
