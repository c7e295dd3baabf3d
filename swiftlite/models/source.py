"""Decides from `--model`, `--model_type` and `--adapters` what to load, before anything heavy is imported."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, Self

from swiftlite.chat.config import ChatConfig
from swiftlite.config.errors import UserError
from swiftlite.config.options import closest
from swiftlite.models.config import ModelConfig
from swiftlite.models.registry import ModelEntry, find_model, is_registered, model_names

CARD = "swiftlite.json"
# What the model without any of its adapters is called.
BASE = "base"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)$")


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """What to load.

    Attributes:
        name: short name for folders and headers.
        entry: the registry row, when there is one.
        path: local folder of base weights or config; None for a hub id or a bare shape.
        hub_id: id on the hub when nothing local is known.
        adapters: folders of adapters to put on the base, by name; the first is `adapter`.
        dummy_seed: seed of random weights; None: real weights.
        scratch_seed: seed of weights to pre-train, drawn as the architecture's authors draw them.
        card: what an earlier run of ours recorded beside its checkpoint (template, system, tuner, ...).
    """

    name: str
    entry: ModelEntry | None = None
    path: Path | None = None
    hub_id: str | None = None
    adapters: dict[str, Path] = dataclasses.field(default_factory=dict)
    dummy_seed: int | None = None
    scratch_seed: int | None = None
    tokenizer: str | None = None
    revision: str | None = None
    card: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def adapter(self) -> Path | None:
        """The folder of the one adapter, or of the first of several."""
        return next(iter(self.adapters.values()), None)

    def one_adapter(self) -> Self:
        """The same; raises a UserError where several adapters are given."""
        if len(self.adapters) > 1:
            raise UserError(f"--adapters: only infer takes several, got {', '.join(map(str, self.adapters.values()))}")
        return self

    @property
    def location(self) -> str:
        """The folder or id transformers loads config, tokenizer and weights from."""
        return str(self.path) if self.path else (self.hub_id or "")

    @property
    def template(self) -> str | None:
        """The registered template this model was trained with; None: its tokenizer's own."""
        return self.card.get("template") or (self.entry.template if self.entry else None)

    def chat_settings(self, chat: ChatConfig) -> ChatConfig:
        """The system prompt a checkpoint was trained with holds unless another is asked for."""
        if chat.system == "auto" and "system" in self.card:
            return dataclasses.replace(chat, system=self.card["system"])
        return chat

    def to_card(self) -> dict[str, Any]:
        """How a checkpoint names its base, so that later commands need only the checkpoint's path."""
        return {
            "name": self.name,
            "model_type": self.entry.name if self.entry else None,
            "path": str(self.path.resolve()) if self.path else None,
            "hub_id": self.hub_id,
            "dummy_seed": self.dummy_seed,
            "tokenizer": self.tokenizer,
            "revision": self.revision,
        }


def resolve_model(config: ModelConfig, seed: int) -> ModelSource:
    """Finds the model a user means.

    Raises:
        UserError: nothing of that name or path; says what was looked for and the ways to get it.
    """
    source = _from_name(config) if config.model is None else _from_model(config.model, config)
    for given in config.adapters:
        source = _with_adapter(source, given)
    if config.weights == "dummy":
        if source.adapter:
            raise UserError(f"--weights dummy cannot be used with the adapter {source.adapter}; leave one away")
        source = dataclasses.replace(source, dummy_seed=seed)
    changes: dict[str, Any] = {}
    if config.tokenizer:
        changes["tokenizer"] = config.tokenizer
    if config.revision:
        changes["revision"] = config.revision
    return dataclasses.replace(source, **changes)


def _from_name(config: ModelConfig) -> ModelSource:
    assert config.model_type is not None
    return _of_entry(find_model(config.model_type), config.weights)


def _of_entry(entry: ModelEntry, weights: str) -> ModelSource:
    if entry.folder:
        folder = Path(entry.folder)
        return ModelSource(entry.name, entry, path=folder)
    if weights == "dummy":
        return ModelSource(entry.name, entry)
    if entry.hf is None:
        raise UserError(
            f"--model_type {entry.name}: swiftlite knows its shape but no place to download it from; pass "
            f"--model FOLDER with the weights, or --weights dummy for random ones"
        )
    return ModelSource(entry.name, entry, hub_id=entry.hf)


def _from_model(model: str, config: ModelConfig) -> ModelSource:
    entry = find_model(config.model_type) if config.model_type else None
    folder = Path(model).expanduser()
    if folder.is_file() and folder.name == "config.json":
        folder = folder.parent
    if folder.is_dir():
        source = _from_folder(folder, config.weights)
        return dataclasses.replace(source, entry=entry or source.entry)
    if is_registered(model):
        return _of_entry(find_model(model), config.weights)
    looks_local = model.startswith((".", "/", "~")) or model.count("/") != 1
    if looks_local:
        names = model_names()
        if "/" in model and folder.parent.is_dir():
            names = [p.name for p in folder.parent.iterdir()]
        near = closest(folder.name if "/" in model else model, names)
        raise UserError(f"--model: '{model}' is no folder, no registered name and no hub id (owner/name){near}")
    return ModelSource(model.split("/")[-1], entry, hub_id=model)


def _from_folder(folder: Path, weights: str) -> ModelSource:
    if (folder / "run.yaml").is_file():
        folder = _newest_weights(folder)
    if (folder / CARD).is_file():
        return _from_card(folder)
    if (folder / "adapter_config.json").is_file():
        adapter = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        base = adapter.get("base_model_name_or_path")
        if not base:
            raise UserError(f"--model {folder}: this adapter names no base; pass --model BASE --adapters {folder}")
        source = _from_model(base, ModelConfig(model=base))
        return dataclasses.replace(source, adapters={adapter_name(folder): folder})
    if (folder / "config.json").is_file():
        return ModelSource(folder.resolve().name, path=folder)
    raise UserError(
        f"--model {folder}: the folder holds neither config.json, adapter_config.json nor a run of swiftlite"
    )


def _newest_weights(run: Path) -> Path:
    if (run / "final").is_dir():
        return run / "final"
    checkpoints = [(int(m[1]), p) for p in run.iterdir() if (m := _CHECKPOINT.match(p.name))]
    if not checkpoints:
        raise UserError(f"--model {run}: this run has saved no checkpoint yet")
    return max(checkpoints)[1]


def _from_card(folder: Path) -> ModelSource:
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    base = card["base"]
    entry = find_model(base["model_type"]) if base["model_type"] and is_registered(base["model_type"]) else None
    if not card["adapter"]:
        return ModelSource(base["name"], entry, path=folder, card=card)
    path = Path(base["path"]) if base["path"] else None
    if entry is not None and entry.folder:
        path = Path(entry.folder)
    if path is not None and not path.is_dir():
        raise UserError(
            f"{folder}: its base model was at {path}, which is not there now; pass --model BASE --adapters {folder}"
        )
    return ModelSource(
        base["name"],
        entry,
        path=path,
        hub_id=base["hub_id"],
        adapters={adapter_name(folder): folder},
        dummy_seed=base["dummy_seed"],
        tokenizer=str(folder),
        revision=base["revision"],
        card=card,
    )


def _with_adapter(source: ModelSource, given: str) -> ModelSource:
    """With one more adapter, `FOLDER` or `NAME=FOLDER`; of several, what was recorded of their training must agree."""
    name, _, rest = given.rpartition("=")
    named = bool(name) and not Path(given).expanduser().exists()
    folder = Path(rest if named else given).expanduser()
    if (folder / "run.yaml").is_file():
        folder = _newest_weights(folder)
    if not (folder / "adapter_config.json").is_file():
        raise UserError(f"--adapters {folder}: no adapter_config.json there; expected a PEFT adapter folder")
    name = name if named else adapter_name(folder)
    if name in source.adapters or name == BASE or "." in name:
        reason = "is taken" if name in source.adapters else f"must be without a point, and not {BASE}"
        raise UserError(f"--adapters {given}: the name '{name}' {reason}; give another: NAME={folder}")
    card_file = folder / CARD
    card = json.loads(card_file.read_text(encoding="utf-8")) if card_file.is_file() else source.card
    for key in ("template", "system", "embedding_rows") if source.adapters else ():
        if card.get(key) != source.card.get(key):
            raise UserError(
                f"--adapters {given}: its {key} is {card.get(key)!r} and that of {source.adapter} is "
                f"{source.card.get(key)!r}; such two cannot answer side by side, use them one at a time"
            )
    return dataclasses.replace(
        source, adapters={**source.adapters, name: folder}, card=source.card if source.adapters else card
    )


def adapter_name(folder: Path) -> str:
    """What an adapter is called: its run, or its folder where it lies in none."""
    folder = folder.resolve()
    run = folder.parent if (folder.parent / "run.yaml").is_file() else folder
    return run.name.replace(".", "_")
