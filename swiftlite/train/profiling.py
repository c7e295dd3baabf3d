"""`--profile`: watches a run's steps go by and profiles some of them, early but warm."""

from pathlib import Path

import torch

from swiftlite.config.errors import UserError
from swiftlite.measure.profile import SUMMARY, TRACE, StepProfiler
from swiftlite.measure.throughput import Meter
from swiftlite.train.state import TrainState
from swiftlite.train.trackers import Reporter

# Compilation, first allocations, the optimizer's states and the first log line are over by then.
_WARM_STEPS = 5
_FEWEST_WARM_STEPS = 3


class ProfileReporter(Reporter):
    """Profiles `steps` steps into RUN/profile/, and says in a line how busy the device was.

    The meter stands still meanwhile, since steps that are recorded are slower.
    """

    def __init__(self, run: Path, device: torch.device, steps: int, warm: int, meter: Meter, reporters: list[Reporter]):
        self._profiler = StepProfiler(run / "profile", device, steps)
        self._steps_left_alone = warm - 1
        self._over = False
        self._seen = 0
        self._meter = meter
        self._reporters = reporters

    def step(self, state: TrainState, total_steps: int) -> None:
        self._seen += 1
        if self._over or self._seen < self._steps_left_alone:
            return
        if self._seen == self._steps_left_alone:
            self._meter.stop()
            self._profiler.warm_up()
            return
        profile = self._profiler.step()
        if profile is not None:
            self._over = True
            folder = self._profiler.folder
            self._say(f"profile: {profile.sentence()}; {folder / TRACE} (open it in ui.perfetto.dev) and {SUMMARY}")
            self._meter.go_on()

    def close(self) -> None:
        if not self._over and self._seen >= self._steps_left_alone:
            self._profiler.abandon()
            self._say(f"profile: none, the run was over after {self._seen} steps")

    def _say(self, text: str) -> None:
        for reporter in self._reporters:
            reporter.message(text)


def steps_before_profile(wanted: int, state: TrainState, total_steps: int) -> int | None:
    """Steps to let pass before `wanted` ones are profiled: five, or three in a short run; None when a resumed run
    has too few left.

    Raises:
        UserError: a new run is too short.
    """
    left = total_steps - state.step
    for warm in (_WARM_STEPS, _FEWEST_WARM_STEPS):
        if left >= warm + wanted:
            return warm
    if state.step:
        return None
    raise UserError(
        f"--profile {wanted}: {_FEWEST_WARM_STEPS} steps have to pass before, and the run has {left} in all; profile "
        f"fewer steps or give it {_FEWEST_WARM_STEPS + wanted}"
    )
