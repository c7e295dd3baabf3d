"""Checkpoints: written aside and renamed, so that one that can be seen is whole; kept and deleted by rule."""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from swiftlite.config.errors import UserError
from swiftlite.parallel.strategy import SingleDevice
from swiftlite.train.state import TrainState

_NAME = re.compile(r"checkpoint-(\d+)$")
STATE_FILE = "trainer_state.json"
OPTIMIZER_FILE = "optimizer.pt"


def checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    found = [(int(m[1]), p) for p in run.iterdir() if (m := _NAME.match(p.name))] if run.is_dir() else []
    return [p for _, p in sorted(found)]


def is_complete(folder: Path) -> bool:
    """Whether a run can go on from this folder: all is there, and no file is cut short."""
    if not (folder / STATE_FILE).is_file() or not zipfile.is_zipfile(folder / OPTIMIZER_FILE):
        return False
    try:
        json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        for file in folder.glob("*.safetensors"):
            with safe_open(file, "pt"):
                pass
    except (ValueError, SafetensorError):
        return False
    return True


def supersede_later(run: Path, checkpoint: Path) -> list[Path]:
    """Moves aside what a run wrote after `checkpoint`, so that two histories do not mix; returns the new names."""
    step = int(checkpoint.name.split("-")[1])
    later = [p for p in checkpoints(run) if int(p.name.split("-")[1]) > step]
    later += [run / "final"] if (run / "final").is_dir() else []
    moved = []
    for folder in later:
        target = folder.with_name(f"{folder.name}.superseded")
        if target.exists():
            shutil.rmtree(target)
        moved.append(folder.rename(target))
    return moved


def newest_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint that a run can go on from."""
    return next((p for p in reversed(checkpoints(run)) if is_complete(p)), None)


def write_folder(
    target: Path,
    strategy: SingleDevice,
    write: Callable[[Path], None],
    write_each: Callable[[Path], None] | None = None,
) -> None:
    """Fills a hidden folder beside `target` and renames it: a reader sees a whole folder or none.

    `write` runs on the main process, `write_each` on every one.

    Raises:
        UserError: the disk is full or not writable; nothing that was there before is touched.
    """
    partial = target.with_name(f".{target.name}.partial")
    try:
        if strategy.world.is_main:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write(partial)
        strategy.barrier()
        if write_each is not None:
            write_each(partial)
        strategy.barrier()
        if strategy.world.is_main:
            _flush(partial)
            if target.exists():
                shutil.rmtree(target)
            partial.rename(target)
            _flush_entry(target.parent)
        strategy.barrier()
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(_save_failed(target, error)) from error


def save_training_state(
    folder: Path,
    state: TrainState,
    optimizers: list[torch.optim.Optimizer],
    schedulers: list[torch.optim.lr_scheduler.LRScheduler],
    strategy: SingleDevice,
    tuner: dict[str, Any],
) -> None:
    """Writes what resuming needs beside the weights (main process); `tuner` is the tuner's own state."""
    (folder / STATE_FILE).write_text(json.dumps(state.to_dict(), indent=2) + "\n", encoding="utf-8")
    content = {
        "optimizers": [o.state_dict() for o in optimizers],
        "schedulers": [s.state_dict() for s in schedulers],
        "strategy": strategy.state_dict(),
        "tuner": tuner,
    }
    torch.save(content, folder / OPTIMIZER_FILE)


def load_training_state(
    folder: Path,
    optimizers: list[torch.optim.Optimizer],
    schedulers: list[torch.optim.lr_scheduler.LRScheduler],
    strategy: SingleDevice,
) -> tuple[TrainState, dict[str, Any]]:
    """Restores `save_training_state` and this process's random state; returns the tuner's own state too.

    Raises:
        UserError: the checkpoint was written by a run of another shape.
    """
    content = torch.load(folder / OPTIMIZER_FILE, map_location=strategy.device, weights_only=True)
    try:
        for optimizer, saved in zip(optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
            _keep_precision(optimizer, saved)
        for scheduler, saved in zip(schedulers, content["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
    except (ValueError, KeyError) as error:
        raise UserError(f"--resume {folder}: its optimizer state does not fit this run: {error}") from error
    state = TrainState(**json.loads((folder / STATE_FILE).read_text(encoding="utf-8")))
    if state.world_size != strategy.world.size:
        raise UserError(
            f"--resume {folder}: the run had {state.world_size} process(es), now there are {strategy.world.size}; "
            f"start as many, or begin a new run from --model {folder}"
        )
    strategy.load_state_dict(content["strategy"])
    load_random_state(folder, strategy)
    return state, content["tuner"]


def _keep_precision(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Adafactor's states are fp32 even for bf16 weights, whose precision torch gives to all states it loads."""
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    for number, states in saved["state"].items():
        loaded = optimizer.state[weights[number]]
        for name, value in states.items():
            if isinstance(value, torch.Tensor) and value.dtype != loaded[name].dtype:
                loaded[name] = value.to(loaded[name].device)


def save_random_state(folder: Path, strategy: SingleDevice) -> None:
    """Writes this process's random state (dropout draws from it)."""
    content: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if strategy.device.type == "cuda":
        content["cuda"] = torch.cuda.get_rng_state(strategy.device)
    torch.save(content, folder / f"random-{strategy.world.rank}.pt")


def load_random_state(folder: Path, strategy: SingleDevice) -> None:
    """Restores `save_random_state`.

    Raises:
        UserError: the run had another number of processes.
    """
    file = folder / f"random-{strategy.world.rank}.pt"
    if not file.is_file():
        raise UserError(f"--resume {folder}: the run had fewer processes than the {strategy.world.size} of now")
    content = torch.load(file, map_location="cpu", weights_only=True)
    torch.set_rng_state(content["cpu"])
    if strategy.device.type == "cuda" and "cuda" in content:
        torch.cuda.set_rng_state(content["cuda"], strategy.device)


def delete_old(run: Path, keep: int | None, best_step: int | None) -> None:
    """Deletes all but the newest `keep` checkpoints and the best one."""
    if keep is None:
        return
    for folder in checkpoints(run)[:-keep]:
        if folder.name != f"checkpoint-{best_step}":
            shutil.rmtree(folder)


def _save_failed(target: Path, error: BaseException) -> str:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
    kept = newest_checkpoint(target.parent)
    rest = (
        f"{kept.name} is untouched: free some space and go on with --resume {target.parent}"
        if kept
        else "no earlier checkpoint exists"
    )
    return f"could not save {target}: {reason}; {rest}"


def _flush(folder: Path) -> None:
    """Makes the kernel write the folder's files out, so that a power cut after the rename loses nothing."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())


def _flush_entry(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
