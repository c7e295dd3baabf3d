"""Tuners that add modules of ours to a frozen base: how the modules are saved and put back."""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.tuners.adapter import CONFIG, OWN_TUNER, check_adapter_kind, load_adapters, read_adapter_config
from swiftlite.tuners.registry import find_tuner
from swiftlite.tuners.tuner import Tuner, refuse_new_tokens

# The name is PEFT's, so that such a folder is known as an adapter.
_WEIGHTS = "adapter_model.safetensors"


class AddedModules(Tuner):
    """Base of such tuners.

    Attributes:
        name: the value of `--sft_type`.
        keeps_precision: for inference its weights stay fp32 instead of following the base.
    """

    saves_adapter: ClassVar[bool] = True
    name: ClassVar[str]
    keeps_precision: ClassVar[bool] = False

    def settings(self) -> dict[str, Any]:
        """What `attach` has to know, as JSON."""
        raise TypeError(f"{type(self).__name__} must define settings")

    @staticmethod
    def attach(model: PreTrainedModel, settings: dict[str, Any]) -> None:
        """Adds the modules to the model, in place."""
        raise TypeError("a tuner that adds modules must define attach")

    def apply(self, model: PreTrainedModel, new_tokens: Sequence[int] = ()) -> nn.Module:
        refuse_new_tokens(self.name, new_tokens)
        model.requires_grad_(False)
        self._added = self.settings()
        self.attach(model, self._added)
        return model

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        """The settings the adapter was made with hold.

        Raises:
            UserError: it is another tuner's, cannot be read, or does not fit.
        """
        check_adapter_kind(folder, self.name, self.name)
        config = read_adapter_config(folder)
        model.requires_grad_(False)
        self._added = config["settings"]
        _put_back(type(self), model, folder, self._added)
        return model

    def save(self, model: nn.Module, folder: Path, dtype: torch.dtype | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
        save_file(state, str(folder / _WEIGHTS), metadata={"format": "pt"})
        base = getattr(getattr(model, "config", None), "_name_or_path", None)
        config = {OWN_TUNER: self.name, "settings": self._added, "base_model_name_or_path": base}
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_saved_adapters(base: PreTrainedModel, folders: Mapping[str, Path]) -> Any:
    """The base with these adapters on it by name, for inference: several of PEFT's, or one of ours.

    Raises:
        UserError: one cannot be read, belongs on another base, or cannot be beside the first.
    """
    folder = next(iter(folders.values()))
    config = read_adapter_config(folder)
    kind = config.get(OWN_TUNER)
    if kind is None or len(folders) > 1:
        return load_adapters(base, folders)
    module, cls = find_tuner(kind).target.split(":")
    tuner, dtype = getattr(importlib.import_module(module), cls), base.dtype
    base.requires_grad_(False)
    for added in _put_back(tuner, base, folder, config["settings"]):
        if not tuner.keeps_precision:
            added.data = added.data.to(dtype)
        added.requires_grad = False
    return base


def _put_back(
    tuner: type[AddedModules], model: PreTrainedModel, folder: Path, settings: dict[str, Any]
) -> list[nn.Parameter]:
    """Adds the modules with the weights of `folder`; returns their parameters."""
    there = {id(p) for p in model.parameters()}
    tuner.attach(model, settings)
    added = {name: p for name, p in model.named_parameters() if id(p) not in there}
    try:
        state = load_file(str(folder / _WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise UserError(f"the adapter {folder} cannot be read: {' '.join(str(error).split())[:300]}") from error
    if {n: p.shape for n, p in added.items()} != {n: t.shape for n, t in state.items()}:
        raise UserError(
            f"the adapter {folder} does not fit on this {type(model).__name__}: it has {len(state)} weights of its "
            f"own names and shapes, the model has room for {len(added)} others; give the base it was trained on"
        )
    with torch.no_grad():
        for name, parameter in added.items():
            parameter.copy_(state[name])
    return list(added.values())
