"""Puts a saved adapter (PEFT's layout, or one of ours) on its base: the one place where that can go wrong."""

import json
from pathlib import Path

from peft import PeftModel
from safetensors import SafetensorError
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.tuners.loreft.model import PEFT_TYPE as LOREFT
from swiftlite.tuners.loreft.model import load_loreft


def load_adapter(base: PreTrainedModel, folder: Path, *, trainable: bool) -> PreTrainedModel | PeftModel:
    """The base with the adapter of `folder` on it.

    Raises:
        UserError: the adapter cannot be read, or belongs on another base.
    """
    if peft_type(folder) == LOREFT:
        if trainable:
            raise UserError(f"the adapter {folder} is LoReFT's; go on with it with --sft_type loreft")
        return load_loreft(base, folder, trainable=False)[0]
    try:
        return PeftModel.from_pretrained(base, str(folder), is_trainable=trainable)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the adapter {folder} does not fit on this {type(base).__name__}: {reason}") from error


def check_peft_type(folder: Path, wanted: str, sft_type: str) -> None:
    """Raises a UserError when the adapter to go on with is of another kind than the tuner's."""
    found = peft_type(folder)
    if found != wanted:
        raise UserError(f"--sft_type {sft_type} cannot go on with {folder}: it holds a {found} adapter, not {wanted}")


def peft_type(folder: Path) -> str | None:
    """What kind of adapter a folder says it holds; None where it does not say."""
    try:
        return json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("peft_type")
    except (OSError, ValueError, AttributeError):
        return None
