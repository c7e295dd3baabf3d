"""Puts a saved adapter (PEFT layout) on its base: the one place where that can go wrong."""

from collections.abc import Mapping
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
    return load_adapters(base, {"default": folder}, trainable=trainable)


def load_adapters(base: PreTrainedModel, folders: Mapping[str, Path], *, trainable: bool = False) -> PeftModel:
    """The base with all these adapters on it, of which the first is active; `set_adapter` takes their names.

    Raises:
        UserError: one cannot be read, belongs on another base, or cannot be beside the first.
    """
    model: PeftModel | None = None
    for name, folder in folders.items():
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
