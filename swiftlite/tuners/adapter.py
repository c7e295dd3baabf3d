"""Puts a saved adapter of PEFT's on its base: the one place where that can go wrong."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError

CONFIG = "adapter_config.json"
# In that file, names the tuner of ours that made the adapter; PEFT's have `peft_type` instead.
OWN_TUNER = "swiftlite_tuner"


def load_adapter(base: PreTrainedModel, folder: Path, *, trainable: bool) -> PeftModel:
    """The base with the adapter of `folder` on it.

    Raises:
        UserError: the adapter cannot be read, or belongs on another base.
    """
    return load_adapters(base, {"default": folder}, trainable=trainable)


def load_adapters(base: PreTrainedModel, folders: Mapping[str, Path], *, trainable: bool = False) -> PeftModel:
    """The base with all these adapters on it, of which the first is active; `set_adapter` takes their names.

    Raises:
        UserError: one cannot be read, belongs on another base, or cannot be beside the first.
    """
    model: PeftModel | None = None
    for name, folder in folders.items():
        own = read_adapter_config(folder).get(OWN_TUNER)
        if own is not None:
            advice = "go on with it with that" if trainable else "it cannot be beside others"
            raise UserError(f"the adapter {folder} was made by --sft_type {own}; {advice}")
        try:
            if model is None:
                model = PeftModel.from_pretrained(base, str(folder), adapter_name=name, is_trainable=trainable)
            else:
                model.load_adapter(str(folder), adapter_name=name, is_trainable=trainable)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:300]
            where = f"on this {type(base).__name__}" if model is None else f"beside {next(iter(folders))}"
            raise UserError(f"the adapter {folder} does not fit {where}: {reason}") from error
    assert model is not None
    return model


def check_adapter_kind(folder: Path, wanted: str, sft_type: str) -> None:
    """Raises a UserError when the adapter to go on with is of another kind than the tuner's."""
    config = read_adapter_config(folder)
    found = config.get(OWN_TUNER) or config.get("peft_type")
    if found != wanted:
        raise UserError(f"--sft_type {sft_type} cannot go on with {folder}: it holds a {found} adapter, not {wanted}")


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """What `adapter_config.json` says.

    Raises:
        UserError: it cannot be read.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"the adapter {folder} cannot be read: {CONFIG}: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"the adapter {folder} cannot be read: {CONFIG} is no JSON object")
    return config
