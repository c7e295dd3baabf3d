"""Puts a saved adapter of PEFT's on its base: the one place where that can go wrong."""

import json
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
    own = read_adapter_config(folder).get(OWN_TUNER)
    if own is not None:
        raise UserError(f"the adapter {folder} was made by --sft_type {own}; go on with it with that")
    try:
        return PeftModel.from_pretrained(base, str(folder), is_trainable=trainable)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the adapter {folder} does not fit on this {type(base).__name__}: {reason}") from error


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
