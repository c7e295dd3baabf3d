"""Puts a saved adapter (PEFT layout) on its base: the one place where that can go wrong."""

from pathlib import Path

from peft import PeftModel
from safetensors import SafetensorError
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError


def load_adapter(base: PreTrainedModel, folder: Path, *, trainable: bool) -> PeftModel:
    """The base with the adapter of `folder` on it.

    Raises:
        UserError: the adapter cannot be read, or belongs on another base.
    """
    try:
        return PeftModel.from_pretrained(base, str(folder), is_trainable=trainable)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the adapter {folder} does not fit on this {type(base).__name__}: {reason}") from error
