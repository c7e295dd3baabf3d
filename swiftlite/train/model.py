"""The model of a run: base weights, the tuner on them, and what a checkpoint restores."""

import dataclasses
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.models.device import DTYPES
from swiftlite.models.layers import find_layers
from swiftlite.models.load import load_config, load_model
from swiftlite.models.new_tokens import fit_embedding, untouched_tokens
from swiftlite.quant.bnb import to_nf4
from swiftlite.speed.attention import keeps_documents_apart, settle_attention
from swiftlite.speed.checkpointing import apply_checkpointing
from swiftlite.speed.offload import offload_activations
from swiftlite.train.config import PtConfig, TrainConfig
from swiftlite.train.decide import APART_BY_MASK
from swiftlite.train.inputs import Inputs
from swiftlite.train.resume import weights_of
from swiftlite.tuners.galore.projection import describe_galore
from swiftlite.tuners.lora.config import LoraOptions
from swiftlite.tuners.registry import make_tuner
from swiftlite.tuners.tuner import Tuner

LORA_FLAGS = {f.name for f in dataclasses.fields(LoraOptions)}


def load_trainable(
    config: TrainConfig, inputs: Inputs, checkpoint: Path | None, device: torch.device, notes: list[str]
) -> tuple[nn.Module, Tuner]:
    """The model to train, on its device, and its tuner; `notes` gets what the header should say."""
    tuner = make_tuner(config.tuner.sft_type, config)
    source = inputs.source
    if checkpoint is not None:
        source = weights_of(source, checkpoint, tuner.saves_adapter)
    # What fp16 training updates must be fp32, and a checkpoint of such weights must not be rounded on its way in.
    whole_in_fp32 = trains_fp32(config) and not tuner.saves_adapter
    dtype = torch.float32 if whole_in_fp32 else DTYPES[config.model.dtype]
    # A tuner may have made the model deeper.
    model_config = inputs.model_config if checkpoint is None or tuner.saves_adapter else load_config(source)
    base = load_model(source, model_config, dtype, device, config.model.attn_impl)
    config.set("attn_impl", settle_attention(base, notes))
    isolate(base, config, notes)
    fit_embedding(base, len(inputs.tokenizer))
    if config.quant.quant_method == "bnb":
        stored = to_nf4(base, find_layers(base) or (), device)
        notes.append(f"nf4: {stored / 1e6:,.1f} million frozen weights of the layers in 4 bits (bitsandbytes)")
    if source.adapter is None:
        _note_untouched(base, config, inputs, notes)
        model = tuner.apply(base, inputs.new_tokens)
    else:
        model = tuner.load(base, source.adapter)
        if checkpoint is None:
            given = [f"--{n}" for n, s in config.sources.items() if n in LORA_FLAGS and not s.startswith("preset")]
            idle = f" ({', '.join(given)}: no effect)" if given else ""
            notes.append(f"going on with the adapter {source.adapter}; its own rank and targets hold{idle}")
    notes += tuner.notes
    if config.galore.use_galore:
        notes.append(describe_galore(model, config.galore))
    if config.optim.gradient_checkpointing != "auto":
        apply_checkpointing(model, config.optim.gradient_checkpointing)
    if config.speed.offload_activations:
        offload_activations(model)
    if whole_in_fp32:
        trained = {id(parameter) for _, parameter in tuner.trained(model)}
        for parameter in model.parameters():
            if id(parameter) not in trained:
                parameter.data = parameter.data.to(DTYPES[config.model.dtype])
    elif config.model.dtype == "bf16" and not tuner.saves_adapter and config.optim.optim_precision == "same":
        notes.append(
            "weights are trained in bf16 without an fp32 copy: changes smaller than about 1/256 of a weight are lost; "
            "--optim_precision fp32 keeps them, stochastic does on average"
        )
    return model, tuner


def trains_fp32(config: TrainConfig) -> bool:
    """Whether a tuner that trains whole weights keeps them in fp32 while the maths runs in half precision."""
    half = config.model.dtype != "fp32"
    return half and (config.optim.optim_precision == "fp32" or config.model.dtype == "fp16")


def isolate(base: PreTrainedModel, config: TrainConfig, notes: list[str]) -> None:
    """Sees to it that joined documents do not see each other; joins none by default where that cannot be, or is slow.

    Raises:
        UserError: they would, and joining was asked for.
    """
    flag = joining_flag(config)
    if flag is None:
        return
    by_default = flag == "padding_free" and flag not in config.sources
    why = None
    if by_default and config.model.attn_impl in APART_BY_MASK:
        why = f"{config.model.attn_impl} attention could keep joined rows apart by a mask only"
    else:
        try:
            check_isolation(base, flag)
        except UserError:
            if not by_default:
                raise
            why = f"{type(base).__name__} would let joined rows see each other"
    if why is not None:
        config.set("padding_free", False)
        notes.append(f"rows are padded: {why}")


def joining_flag(config: TrainConfig) -> str | None:
    """The flag by which one row of a batch holds several documents that must not see each other, if any does."""
    if config.data.packing:
        if not isinstance(config, PtConfig):
            return "packing"
        return "isolate_documents" if config.data.isolate_documents else None
    return "padding_free" if config.data.padding_free else None


def check_isolation(model: PreTrainedModel, flag: str) -> None:
    """Joins two short documents into one row, as in training, and compares them with each alone.

    Raises:
        UserError: the model mixes them, because it does not start anew where documents do.
    """
    if not keeps_documents_apart(model):
        raise UserError(
            f"--{flag}: {type(model).__name__} lets documents of one row see each other; leave the flag away"
        )


def _note_untouched(base: PreTrainedModel, config: TrainConfig, inputs: Inputs, notes: list[str]) -> None:
    """A frozen embedding cannot learn the template's own tokens."""
    embedding = base.get_input_embeddings()
    lora = config.tuner.sft_type == "lora"
    trained = config.tuner.sft_type == "full" or (lora and "EMBEDDING" in config.lora.lora_modules_to_save)
    if trained or inputs.source.dummy_seed is not None:
        return
    ids = [i for i in inputs.template.stop_token_ids if i not in inputs.new_tokens]
    missed = untouched_tokens(embedding, ids)
    if missed:
        names = ", ".join(map(str, inputs.tokenizer.convert_ids_to_tokens(missed)))
        train_it = "train it with --lora_modules_to_save EMBEDDING lm_head, or " if lora else ""
        notes.append(
            f"warning: {names} of the template seem untrained in this model, and the embedding is frozen; {train_it}"
            "choose the model's own --template"
        )
