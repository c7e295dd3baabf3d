"""The names of `--model_type`: each row says shape, template, LoRA targets and where the weights are."""

import dataclasses
import importlib
import pkgutil
from typing import Any

from swiftlite.config.errors import UserError
from swiftlite.config.options import closest
from swiftlite.models import families


@dataclasses.dataclass(frozen=True)
class Family:
    """What all models of one transformers architecture share."""

    architecture: str
    default_targets: tuple[str, ...]
    # The registered template of its chat models, for folders that bring no Jinja template of their own.
    template: str | None = None


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


def decoder_shape(
    hidden: int, layers: int, heads: int, kv_heads: int, ffn: int, vocab: int, **more: Any
) -> dict[str, Any]:
    """The sizes every decoder has, under transformers' names, and `more` of its config."""
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": ffn,
        "vocab_size": vocab,
        "tie_word_embeddings": False,
        **more,
    }


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
    for module in pkgutil.iter_modules(families.__path__):
        importlib.import_module(f"{families.__name__}.{module.name}")
