"""Going on with a run: its own settings hold, and only what cannot change the result may be given anew."""

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from swiftlite.config.command import read_recipe
from swiftlite.config.errors import UserError
from swiftlite.models.source import ModelSource
from swiftlite.train.config import TrainConfig
from swiftlite.train.inputs import source_of
from swiftlite.train.run_folder import RunFolder

C = TypeVar("C", bound=TrainConfig)

# Settings that say how a run is watched and stored, not what it computes.
FREE = {
    "resume",
    "run_name",
    "output_dir",
    "logging_steps",
    "save_steps",
    "save_total_limit",
    "save_dtype",
    "save_only_model",
    "report_to",
    "profile",
    "plugin",
    "cache_dir",
    "cache_size_gb",
    "max_bad_steps",
    "max_memory",
    "offload_activations",
}


def resume_run(config: C) -> tuple[C, RunFolder, Path]:
    """The settings to go on with, the run folder and the checkpoint.

    Raises:
        UserError: no such run, or a flag that would change what the run computes.
    """
    assert config.run.resume is not None
    name = source_of(config).name
    folder, checkpoint = RunFolder.find(config.run.resume, config.run.output_dir, name)
    recipe = read_recipe(folder.path / "run.yaml")
    earlier: C = type(config).from_layers([recipe])  # pyrefly: ignore
    now, before = config.to_dict(), earlier.to_dict()
    for option, source in config.sources.items():
        if option in FREE:
            earlier.set(option, now[option])
        elif _differs(now[option], before[option], source) and not _same_model(option, config, earlier):
            raise UserError(
                f"--{option} {now[option]}: the run {folder.path} was started with {before[option]}; a resumed run "
                f"keeps its settings. Leave the flag away, or start a new run from --model {checkpoint}"
            )
    return earlier, folder, checkpoint


def _differs(now: Any, before: Any, source: str) -> bool:
    """Whether the user asks for something else; a preset and what is left to us ask for nothing."""
    return now != before and now not in ("auto", None) and not source.startswith("preset")


def _same_model(option: str, now: TrainConfig, before: TrainConfig) -> bool:
    """`--model nano` and `--model_type nano` name the same thing."""
    if option not in ("model", "model_type"):
        return False
    return source_of(now).to_card() == source_of(before).to_card()


def check_same_data(run: Path, report: dict[str, Any]) -> None:
    """Raises a UserError when the rows are not those that the run was started with."""
    before = json.loads((run / "data.json").read_text(encoding="utf-8"))
    for kind in ("sources", "val_sources"):
        for old, new in zip(before[kind], report[kind], strict=True):
            if old.get("key") != new.get("key"):
                raise UserError(
                    f"--resume {run}: the rows of {new['dataset']} are not those the run was started with, so it "
                    f"cannot go on exactly; put them back, or begin a new run from its checkpoint"
                )


def weights_of(source: ModelSource, checkpoint: Path, saves_adapter: bool) -> ModelSource:
    """The run's base, or for a tuner that saves whole models the checkpoint itself."""
    if saves_adapter:
        return dataclasses.replace(source, adapters={checkpoint.name: checkpoint})
    return dataclasses.replace(source, path=checkpoint, hub_id=None, dummy_seed=None, scratch_seed=None)
