"""Models from random weights: the shape from the sizes a user gives, the weights as transformers draws them."""

import copy
import dataclasses
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from swiftlite.config.errors import UserError
from swiftlite.config.options import closest
from swiftlite.models.config import ScratchOptions, check_heads
from swiftlite.models.dummy import build_dummy
from swiftlite.models.native import register_native

_ARCHITECTURE = "llama"
_CONTEXT = 1024
_VOCAB_MULTIPLE = 64
_REQUIRED = ("hidden_size", "num_layers", "num_heads")
# What transformers' configs call our sizes; their `attribute_map` leads from the usual names to those of GPT-2 etc.
_NAMES = {
    "hidden_size": ("hidden_size",),
    "num_layers": ("num_hidden_layers",),
    "num_heads": ("num_attention_heads",),
    "num_kv_heads": ("num_key_value_heads",),
    "ffn_size": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "head_dim": ("head_dim",),
    "context_length": ("max_position_embeddings",),
    "vocab_size": ("vocab_size",),
    "tie_embeddings": ("tie_word_embeddings",),
}
# What a config tells of files and weights, not of a shape.
_NOT_SHAPE = {
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "model_type",
    "quantization_config",
    "transformers_version",
}
# What config and model classes raise for sizes they cannot work with.
_REFUSALS = (StrictDataclassError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def scratch_config(
    options: ScratchOptions, base: PretrainedConfig | None, tokenizer: PreTrainedTokenizerBase, notes: list[str]
) -> PretrainedConfig:
    """The config of a new model: the given sizes over those of `base`, or over the defaults of `ScratchOptions`.

    Dropout is 0 everywhere, as pre-training has it today; the special ids are the tokenizer's.

    Args:
        base: the config of the model whose shape to take; None: `options` bring the sizes.
        tokenizer: each of its ids gets a row of the embedding.
        notes: gets a sentence for each decision that the user may not expect.

    Raises:
        UserError: sizes are missing, do not go together, or are none of this architecture's.
    """
    kind = _config_class(options, base)
    names = _field_names(kind)
    given = {flag: value for flag in _NAMES if (value := getattr(options, flag)) is not None}
    for flag in [*given, "vocab_size"]:
        if names[flag] is None:
            raise UserError(
                f"--{flag}: {kind.model_type} has no such size; leave it away, or use another architecture such as "
                "llama, qwen3 or gpt2"
            )
    missing = [f"--{flag}" for flag in _REQUIRED if base is None and flag not in given]
    if missing:
        raise UserError(
            f"--from_scratch needs {', '.join(missing)}; or a shape to take: --model_type NAME or --model FOLDER"
        )
    values = {} if base is None else _base_values(base, given, names, notes)
    values |= {names[flag]: value for flag, value in given.items()}
    values[names["vocab_size"]] = _vocab_size(options, base, tokenizer, notes)
    values |= _token_ids(tokenizer)
    if hasattr(kind, "is_decoder"):
        # BERT and its kin look ahead, and so see what they should predict, unless they are told this.
        values["is_decoder"] = True
    _add_derived(values, names, kind)
    config = _build_config(kind, values)
    _settle_windows(config)
    _remove_dropout(config, notes)
    _meta_model(config)
    return config


def build_scratch(
    config: PretrainedConfig, dtype: torch.dtype, device: torch.device, attn_impl: str, seed: int
) -> PreTrainedModel:
    """A causal LM with the weights that transformers initialises this architecture with, drawn on `device`.

    The draw depends on `seed` and on the device's generator alone; the global random state stays as it was.
    """
    forked = [] if device.type in ("cpu", "meta") else [device]
    with torch.random.fork_rng(forked, device_type=device.type if forked else "cuda"), torch.device(device):
        # Not torch.manual_seed: it seeds every device, and this puts back the state of one.
        torch.default_generator.manual_seed(seed)
        for each in forked:
            state = torch.Generator(each).manual_seed(seed).get_state()
            torch.get_device_module(each).set_rng_state(state, each)
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attn_impl)


def _config_class(options: ScratchOptions, base: PretrainedConfig | None) -> type[PretrainedConfig]:
    register_native()
    if base is not None and options.architecture not in (None, base.model_type):
        raise UserError(
            f"--architecture {options.architecture}: --model or --model_type brings the architecture "
            f"{base.model_type}; leave one away"
        )
    name = base.model_type if base is not None else options.architecture or _ARCHITECTURE
    if name not in CONFIG_MAPPING or CONFIG_MAPPING[name] not in MODEL_FOR_CAUSAL_LM_MAPPING:
        near = closest(name, list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
        raise UserError(
            f"--architecture: '{name}' is no causal language model of transformers{near or '.'} Use llama, qwen3, gpt2 "
            "or another model_type"
        )
    if getattr(base or CONFIG_MAPPING[name], "is_encoder_decoder", False):
        raise UserError(f"--architecture: {name} has an encoder; use a decoder alone, such as llama, qwen3 or gpt2")
    return CONFIG_MAPPING[name]


def _field_names(kind: type[PretrainedConfig]) -> dict[str, Any]:
    """Flag -> the field of this config class, or None where it has none."""
    own = {field.name for field in dataclasses.fields(kind)}  # pyrefly: ignore
    names = {}
    for flag, usual in _NAMES.items():
        names[flag] = next((n for u in usual if (n := kind.attribute_map.get(u, u)) in own), None)
    if names["num_kv_heads"] == names["num_heads"]:
        names["num_kv_heads"] = None
    return names


def _base_values(
    base: PretrainedConfig, given: dict[str, Any], names: dict[str, Any], notes: list[str]
) -> dict[str, Any]:
    """The base's settings without what followed from a size that is another now."""
    values = {name: value for name, value in base.to_dict().items() if name not in _NOT_SHAPE}
    hidden, layers, heads, kv_heads, head_dim = (
        values.get(names[flag]) for flag in ("hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim")
    )
    if given.get("num_layers", layers) != layers:
        # Kinds of layers and the like, one a layer: the config class lists them anew by its own rule.
        values = {n: v for n, v in values.items() if not (isinstance(v, list) and len(v) == layers)}
    if heads and kv_heads == heads:
        del values[names["num_kv_heads"]]
    if heads and head_dim and head_dim * heads == hidden:
        del values[names["head_dim"]]
    rope = values.get("rope_parameters") or {}
    if "context_length" in given and rope.get("rope_type", "default") != "default":
        # Scaling stretches what a trained model has learned; a new one learns its own length.
        values["rope_parameters"] = {n: v for n, v in rope.items() if n in ("rope_theta", "partial_rotary_factor")}
        values["rope_parameters"]["rope_type"] = "default"
        notes.append(f"RoPE is not scaled ({rope['rope_type']} in the base): --context_length is learned from scratch")
    return values


def _vocab_size(
    options: ScratchOptions, base: PretrainedConfig | None, tokenizer: PreTrainedTokenizerBase, notes: list[str]
) -> int:
    # Not len(tokenizer): ids may leave gaps.
    entries = max(tokenizer.get_vocab().values()) + 1
    if options.vocab_size is not None:
        if options.vocab_size < entries:
            raise UserError(
                f"--vocab_size {options.vocab_size}: the tokenizer has {entries} entries; give at least that"
            )
        return options.vocab_size
    if base is not None and not options.train_tokenizer and base.vocab_size >= entries:
        if base.vocab_size > 2 * entries:
            notes.append(
                f"the embedding has the shape's {base.vocab_size} rows, the tokenizer only {entries} entries "
                f"(--vocab_size {_rounded(entries)} makes it fit)"
            )
        return base.vocab_size
    rows = _rounded(entries)
    if rows != entries:
        notes.append(
            f"the embedding has {rows} rows: the tokenizer's {entries} entries rounded up to a multiple of "
            f"{_VOCAB_MULTIPLE}, which matrix products are faster with (--vocab_size {entries} keeps it exact)"
        )
    return rows


def _rounded(entries: int) -> int:
    return -(-entries // _VOCAB_MULTIPLE) * _VOCAB_MULTIPLE


def _token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    bos, eos, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    # Many models never train the embedding of config.pad_token_id, so a token that stands in texts cannot be it.
    return {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": None if pad in (bos, eos) else pad}


def _add_derived(values: dict[str, Any], names: dict[str, Any], kind: type[PretrainedConfig]) -> None:
    """Adds to `values` the sizes that follow from others, where the architecture has them and nothing says more."""
    hidden: Any = values.get(names["hidden_size"])
    heads = values.get(names["num_heads"])
    kv_heads, head_dim = values.get(names["num_kv_heads"]), values.get(names["head_dim"])
    check_heads(hidden, heads, kv_heads, head_dim)
    if hidden and heads and (head_dim or hidden // heads) % 2 and hasattr(kind, "rope_parameters"):
        raise UserError(
            f"--hidden_size {hidden} and --num_heads {heads} make heads of {head_dim or hidden // heads}; rotary "
            "positions need an even number"
        )
    defaults = {"num_kv_heads": lambda: heads, "head_dim": lambda: hidden // heads, "context_length": lambda: _CONTEXT}
    for flag, default in defaults.items():
        if names[flag] is not None and names[flag] not in values:
            values[names[flag]] = default()
    if names["ffn_size"] is not None and names["ffn_size"] not in values:
        # Three matrices of 8/3 have the parameters of two of 4 (Shazeer, arXiv 2002.05202); 32 suits the kernels.
        gated = _is_gated(kind, values)
        values[names["ffn_size"]] = -(-8 * hidden // 96) * 32 if gated else 4 * hidden


def _is_gated(kind: type[PretrainedConfig], values: dict[str, Any]) -> bool:
    return any("gate" in name for name, _ in _meta_model(_build_config(kind, values)).named_parameters())


def _meta_model(config: PretrainedConfig) -> PreTrainedModel:
    """The model without memory: some sizes are refused only when it is put together."""
    try:
        return build_dummy(copy.deepcopy(config), torch.float32, torch.device("meta"), "eager", 0)
    except _REFUSALS as error:
        raise _refused(config.model_type, error) from error


def _build_config(kind: type[PretrainedConfig], values: dict[str, Any]) -> PretrainedConfig:
    try:
        return kind(**values)
    except _REFUSALS as error:
        raise _refused(kind.model_type, error) from error


def _refused(architecture: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:300]
    return UserError(f"transformers cannot make a {architecture} model of these sizes: {reason}")


def _settle_windows(config: PretrainedConfig) -> None:
    """Of a base whose upper layers slide, the lower ones alone do not."""
    if getattr(config, "use_sliding_window", False) and "sliding_attention" not in config.layer_types:
        config.use_sliding_window, config.sliding_window = False, None


def _remove_dropout(config: PretrainedConfig, notes: list[str]) -> None:
    active = [n for n, v in config.to_dict().items() if "drop" in n and isinstance(v, float) and v]
    for name in active:
        setattr(config, name, 0.0)
    if active:
        notes.append(f"dropout is 0 ({', '.join(active)}): pre-training sees each text once or a few times")
