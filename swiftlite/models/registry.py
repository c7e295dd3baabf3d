"""The names of `--model_type`: each row says shape, template, LoRA targets and where the weights are."""

import dataclasses
import importlib
from typing import Any

from swiftlite.config.errors import UserError
from swiftlite.config.options import closest


@dataclasses.dataclass(frozen=True)
class Family:
    """What all models of one transformers architecture share."""

    architecture: str
    default_targets: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """One registered model.

    Attributes:
        architecture: transformers' `model_type`, whose config class takes `shape`.
        shape: keyword arguments of that config class; the true shape of the released model.
        template: the registered chat template it was trained with; None: the tokenizer's own.
        hf, ms: hub ids on Hugging Face and ModelScope.
        folder: a folder inside this package for an embedded model.
    """

    name: str
    architecture: str
    shape: dict[str, Any]
    template: str | None = None
    hf: str | None = None
    ms: str | None = None
    folder: str | None = None


_FAMILIES: dict[str, Family] = {}
_MODELS: dict[str, ModelEntry] = {}
_BUILTIN = ("qwen", "llama", "mistral", "nano")


def register_family(family: Family) -> None:
    """Adds or replaces what is known of an architecture."""
    _FAMILIES[family.architecture] = family


def register_model(entry: ModelEntry) -> None:
    """Adds a row; a second row of the same name is a mistake.

    Raises:
        UserError: the name is taken.
    """
    if entry.name in _MODELS and _MODELS[entry.name] != entry:
        raise UserError(f"the model name '{entry.name}' is registered already; choose another")
    _MODELS[entry.name] = entry


def model_names() -> list[str]:
    """Every registered name, in order of registration."""
    _load_builtin()
    return list(_MODELS)


def is_registered(name: str) -> bool:
    """Whether `name` is a row of the registry."""
    _load_builtin()
    return name in _MODELS


def find_model(name: str) -> ModelEntry:
    """The row of that name.

    Raises:
        UserError: no such row; names the closest one.
    """
    _load_builtin()
    if name not in _MODELS:
        near = closest(name, list(_MODELS))
        raise UserError(
            f"--model_type: '{name}' is not registered{near} Registered: {', '.join(_MODELS)}. "
            "Any other model: --model FOLDER_OR_HUB_ID"
        )
    return _MODELS[name]


def find_family(architecture: str) -> Family | None:
    """What is known of a transformers architecture, or None."""
    _load_builtin()
    return _FAMILIES.get(architecture)


def _load_builtin() -> None:
    for family in _BUILTIN:
        importlib.import_module(f"swiftlite.models.families.{family}")
