"""Loads what `resolve_model` found: config, tokenizer and weights, never running code from a model folder."""

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from swiftlite.config.errors import UserError
from swiftlite.models.dummy import build_dummy
from swiftlite.models.families.nano import FOLDER as NANO_FOLDER
from swiftlite.models.native import register_native
from swiftlite.models.native.tokenizers import fetch_original_tokenizer, load_original_tokenizer
from swiftlite.models.registry import find_family
from swiftlite.models.scratch import build_scratch
from swiftlite.models.source import ModelSource

_THREE_WAYS = (
    "three ways to get it: a local folder (--model FOLDER), the hub's own tool on a machine with a network "
    "(`hf download {id}`), or random weights to try things out (--weights dummy)"
)


def load_config(source: ModelSource) -> PretrainedConfig:
    """The transformers config of the base model: from its folder or hub id, else from the registered shape.

    Raises:
        UserError: it cannot be found or read.
    """
    register_native()
    if source.entry is not None and source.path is None and source.dummy_seed is not None:
        return AutoConfig.for_model(source.entry.architecture, **source.entry.shape)
    return _loaded(AutoConfig, source, source.location)


def load_tokenizer(source: ModelSource, vocab_size: int, notes: list[str]) -> PreTrainedTokenizerBase:
    """The tokenizer; `notes` gets a sentence when it is not the model's own.

    Raises:
        UserError: none can be found, or it has more entries than the model's embedding.
    """
    location = source.tokenizer or source.location
    if source.tokenizer is None and (source.dummy_seed is not None and not _has_tokenizer(source)):
        location = str(NANO_FOLDER)
        notes.append("the model brings no tokenizer here: nano's is used (--tokenizer FOLDER names another)")
    tokenizer = _original_tokenizer(source, location) or _loaded(AutoTokenizer, source, location)
    for how_it_was_read in ("is_local", "local_files_only"):
        # transformers would save them with the tokenizer, as if they were its own settings.
        tokenizer.init_kwargs.pop(how_it_was_read, None)
    highest = max(len(tokenizer), tokenizer.vocab_size)
    # Tokens that an earlier run added have their rows in its adapter; `fit_embedding` makes room for them.
    if highest > max(vocab_size, source.card.get("embedding_rows", 0)):
        raise UserError(
            f"the tokenizer {location} has {highest} entries, the model's embedding only {vocab_size} rows; "
            f"pass the matching one with --tokenizer FOLDER"
        )
    return tokenizer


def template_of(source: ModelSource, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The registered template of this model: its row's or its checkpoint's, else its family's where the tokenizer
    brings no Jinja template; None: the tokenizer's own."""
    family = find_family(config.model_type)
    if source.template is not None or tokenizer.chat_template or family is None:
        return source.template
    return family.template


def load_model(
    source: ModelSource, config: PretrainedConfig, dtype: torch.dtype, device: torch.device, attn_impl: str
) -> PreTrainedModel:
    """The base model's weights on `device` in `dtype`, or random ones when the source says so.

    Raises:
        UserError: the weights are missing or do not fit the config.
    """
    if source.scratch_seed is not None:
        return build_scratch(config, dtype, device, attn_impl, source.scratch_seed)
    if source.dummy_seed is not None:
        return build_dummy(config, dtype, device, attn_impl, source.dummy_seed)
    placement = {"device_map": {"": device}} if device.type != "cpu" else {}
    model, report = _loaded(
        AutoModelForCausalLM,
        source,
        source.location,
        config=config,
        dtype=dtype,
        attn_implementation=attn_impl,
        output_loading_info=True,
        **placement,
    )
    missing = sorted(report["missing_keys"])
    if missing:
        raise UserError(
            f"{source.location}: {len(missing)} weights of {type(model).__name__} are not in the checkpoint, "
            f"for example {missing[0]}; it is damaged or of another architecture"
        )
    return model


def _has_tokenizer(source: ModelSource) -> bool:
    names = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "qwen.tiktoken")
    return source.path is not None and any((source.path / n).is_file() for n in names)


def _original_tokenizer(source: ModelSource, location: str) -> PreTrainedTokenizerBase | None:
    folder = Path(location)
    if not folder.is_dir():
        folder = fetch_original_tokenizer(location, source.revision)
    return load_original_tokenizer(folder) if folder else None


def _loaded(auto: Any, source: ModelSource, location: str, **more: Any) -> Any:
    register_native()
    local = Path(location).is_dir()
    if not local and source.revision:
        more["revision"] = source.revision
    if not sys.stderr.isatty():
        # Its bar belongs on a terminal, not into a log.
        disable_progress_bar()
    try:
        return auto.from_pretrained(location, trust_remote_code=False, local_files_only=local, **more)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{location}: its weights do not fit the device's memory; try a smaller model, --quant_method bnb"
        ) from error
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        advice = "" if local else "; " + _THREE_WAYS.format(id=location)
        raise UserError(f"could not load {location}: {reason}{advice}") from error
