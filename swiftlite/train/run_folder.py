"""The folder of one run: what is in it, how it is named, how an earlier one is found."""

import datetime
import json
import re
from pathlib import Path
from typing import Any

from swiftlite.config.errors import UserError
from swiftlite.measure.environment import environment_stamp
from swiftlite.parallel.strategy import SingleDevice
from swiftlite.train.checkpoint import is_complete, newest_checkpoint
from swiftlite.train.config import TrainConfig, run_of

_VERSION = re.compile(r"v(\d+)-")


class RunFolder:
    """`output/MODEL/NAME/`: run.yaml, env.json, data.json, log.jsonl, metrics.json, plots/, checkpoint-N/, final/."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def create(cls, output_dir: str, model: str, name: str | None) -> "RunFolder":
        """A new folder: `name`, or the next free vN with the date.

        Raises:
            UserError: the name is taken by an earlier run, or the folder cannot be made.
        """
        parent = Path(output_dir).expanduser() / model
        try:
            parent.mkdir(parents=True, exist_ok=True)
            if name is None:
                used = [int(m[1]) for p in parent.iterdir() if (m := _VERSION.match(p.name))]
                name = f"v{max(used, default=-1) + 1}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
            path = parent / name
            path.mkdir(exist_ok=False)
        except FileExistsError:
            raise UserError(
                f"--run_name: {parent / str(name)} exists; choose another name, or go on with it by "
                f"--resume {parent / str(name)}"
            ) from None
        except OSError as error:
            raise UserError(f"--output_dir: cannot make a run folder in {parent}: {error.strerror}") from None
        return cls(path)

    @classmethod
    def find(cls, resume: str, output_dir: str, model: str) -> tuple["RunFolder", Path]:
        """The run to go on with, and its checkpoint.

        `resume` is a run folder, one of its checkpoints, or `newest`: the newest run of that model.

        Raises:
            UserError: there is no such run, or it has no complete checkpoint.
        """
        path = Path(resume).expanduser()
        if resume == "newest":
            parent = Path(output_dir).expanduser() / model
            runs = [p for p in parent.iterdir() if newest_checkpoint(p)] if parent.is_dir() else []
            if not runs:
                raise UserError(f"--resume: no run with a checkpoint in {parent}; name one: --resume RUN_FOLDER")
            path = max(runs, key=lambda p: (p / "run.yaml").stat().st_mtime)
        run = run_of(path)
        if run is None:
            raise UserError(f"--resume {resume}: neither a run folder nor one of its checkpoints")
        checkpoint = newest_checkpoint(run) if run == path else path
        if checkpoint is None:
            raise UserError(f"--resume {path}: this run has no complete checkpoint; start it anew")
        if not is_complete(checkpoint):
            raise UserError(f"--resume {path}: not a complete checkpoint that can be resumed")
        return cls(run), checkpoint

    def write_json(self, name: str, content: Any) -> None:
        """Writes `NAME`, all of it or nothing."""
        partial = self.path / f".{name}.partial"
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(self.path / name)


def start_run(config: TrainConfig, model: str, data_report: dict[str, Any], strategy: SingleDevice) -> RunFolder:
    """A new run folder with run.yaml, data.json and env.json; every process gets the same one."""
    path = ""
    if strategy.world.is_main:
        run = RunFolder.create(config.run.output_dir, model, config.run.run_name)
        (run.path / "run.yaml").write_text(config.to_yaml(), encoding="utf-8")
        run.write_json("data.json", data_report)
        run.write_json("env.json", environment_stamp())
        path = str(run.path)
    return RunFolder(Path(strategy.broadcast(path)))
