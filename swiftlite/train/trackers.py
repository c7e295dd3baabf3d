"""TensorBoard, Weights & Biases and SwanLab: they never ask for a login and never stop a run."""

import netrc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from swiftlite.config.errors import UserError
from swiftlite.train.state import TrainState


class Reporter:
    """Receives what happens in a run; methods that a reporter does not need do nothing."""

    def step(self, state: TrainState, total_steps: int) -> None:
        """After each optimizer step."""

    def log(self, record: dict[str, Any]) -> None:
        """A log line (`loss` in it) or an evaluation (`eval_loss` in it)."""

    def message(self, text: str) -> None:
        """A sentence for the user."""

    def close(self) -> None:
        """The run is over, well or not."""


class Tracker(Protocol):
    """What a tracker's package is used for."""

    def log(self, numbers: dict[str, float], step: int) -> None: ...

    def close(self) -> None: ...


class GuardedTracker(Reporter):
    """A tracker whose failure is reported once and then left alone: training goes on without it."""

    def __init__(self, name: str, run: Path, from_step: int, say: Callable[[str], None]):
        """Raises a UserError when the package is not installed; any later failure is only said."""
        self.name = name
        self._say = say
        self._tracker: Tracker | None = None
        self._guarded(lambda: setattr(self, "_tracker", _TRACKERS[name](run, from_step)))

    def log(self, record: dict[str, Any]) -> None:
        group = "eval" if "eval_loss" in record else "train"
        numbers = {f"{group}/{name}": float(value) for name, value in record.items() if name != "step"}
        if self._tracker is not None:
            tracker = self._tracker
            self._guarded(lambda: tracker.log(numbers, record["step"]))

    def close(self) -> None:
        if self._tracker is not None:
            self._guarded(self._tracker.close)

    def _guarded(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except ImportError:
            raise UserError(
                f"--report_to {self.name}: the package is not installed; `pip install {self.name}`, or leave it away"
            ) from None
        except Exception as error:
            self._tracker = None
            self._say(f"warning: {self.name} failed and is left out from here on: {error}")


class _TensorBoard:
    def __init__(self, run: Path, from_step: int):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=from_step + 1)

    def log(self, numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, run: Path, from_step: int):
        import wandb  # pyrefly: ignore

        # Asked to go online without a key, wandb prompts on the terminal.
        mode = "online" if "WANDB_API_KEY" in os.environ or _has_login("api.wandb.ai") else "offline"
        self._run = wandb.init(project="swiftlite", name=run.name, dir=str(run), mode=mode, id=run.name, resume="allow")

    def log(self, numbers: dict[str, float], step: int) -> None:
        self._run.log(numbers, step=step)

    def close(self) -> None:
        self._run.finish()


class _SwanLab:
    def __init__(self, run: Path, from_step: int):
        import swanlab  # pyrefly: ignore

        mode = "cloud" if "SWANLAB_API_KEY" in os.environ else "local"
        self._run = swanlab.init(project="swiftlite", experiment_name=run.name, logdir=str(run / "swanlab"), mode=mode)

    def log(self, numbers: dict[str, float], step: int) -> None:
        self._run.log(numbers, step=step)

    def close(self) -> None:
        self._run.finish()


def _has_login(host: str) -> bool:
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


_TRACKERS: dict[str, Callable[[Path, int], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "swanlab": _SwanLab,
}
