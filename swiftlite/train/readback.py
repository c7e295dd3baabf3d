"""Losses and gradient norms on their way from the device to the host, which goes on queueing steps meanwhile."""

import math
from pathlib import Path

import torch
from torch import Tensor

from swiftlite.config.errors import UserError
from swiftlite.parallel.strategy import SingleDevice
from swiftlite.train.checkpoint import newest_checkpoint
from swiftlite.train.state import TrainState


class Arrival:
    """Numbers that were sent for: (steps, 2) float64 on the host, there when `event` has come to pass."""

    def __init__(self, numbers: Tensor, event: torch.cuda.Event | None):
        self._numbers, self._event = numbers, event

    def wait(self) -> list[tuple[float, float]]:
        """(loss, norm) of each step; waits for the device to have finished the last of them, and for no later one."""
        if self._event is not None:
            self._event.synchronize()
        return [(loss, norm) for loss, norm in self._numbers.tolist()]


class Readback:
    """Collects what steps computed, and counts it into the run's state once it is on the host."""

    def __init__(self, state: TrainState, strategy: SingleDevice, run: Path, max_bad_steps: int):
        self.state, self.strategy = state, strategy
        self.last_norm = 0.0
        self._run, self._max_bad_steps = run, max_bad_steps
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []

    def add(self, loss: Tensor, norm: Tensor) -> None:
        """One step: this process's share of its loss, and its norm (0-d, on the device)."""
        self._losses.append(loss)
        self._norms.append(norm)

    def send(self) -> Arrival:
        """Starts the way of all that was added since the last time; every process has to call it at the same steps."""
        if not self._losses:
            return Arrival(torch.empty(0, 2), None)
        losses = self.strategy.sum_on_device(torch.stack(self._losses).double())
        numbers = torch.stack([losses, torch.stack(self._norms).double()], dim=1)
        self._losses, self._norms = [], []
        if numbers.device.type != "cuda":
            return Arrival(numbers.cpu(), None)
        # From pageable memory the copy would make the host wait; so it goes to pinned memory, and an event says when.
        host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
        host.copy_(numbers, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return Arrival(host, event)

    def count(self, arrival: Arrival) -> None:
        """Adds losses to the state's window, and counts the bad steps.

        Raises:
            UserError: too many in a row.
        """
        state = self.state
        for loss, norm in arrival.wait():
            # A GradScaler skips overflowing steps by design; only a loss that is not finite is bad there.
            bad = not math.isfinite(loss) or not (math.isfinite(norm) or self.strategy.scaler.is_enabled())
            state.bad_steps += bad
            state.bad_in_a_row = state.bad_in_a_row + 1 if bad else 0
            if not bad:
                state.window.append(loss)
            self.last_norm = norm
            if state.bad_in_a_row >= self._max_bad_steps:
                raise UserError(self._too_many_bad_steps())

    def _too_many_bad_steps(self) -> str:
        kept = newest_checkpoint(self._run)
        saved = f"{kept} holds the last good state" if kept else "no checkpoint was saved before"
        return (
            f"{self.state.bad_in_a_row} steps in a row (up to step {self.state.step}) had gradients that are not "
            f"finite and were not applied; {saved}. Lower --learning_rate or --max_grad_norm, or use --dtype bf16 "
            f"or fp32"
        )
