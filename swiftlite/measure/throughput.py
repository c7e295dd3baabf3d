"""How fast a run goes: samples, tokens and MFU since the last log and over the whole run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from swiftlite.measure.flops import ModelFlops, train_flops


@dataclass
class Counts:
    """What was done so far, over all devices, and the seconds it took."""

    steps: int = 0
    samples: int = 0
    tokens: int = 0
    trained: int = 0
    padded: int = 0
    squared_lengths: int = 0
    seconds: float = 0.0

    def minus(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


class Meter:
    """Counts steps against a monotonic clock.

    The clock runs from construction. Give counts of all devices together and their number as `devices`, and
    read the rates after something that waits for the GPU (such as fetching the loss): a step is only queued
    when `add` is called. After a resume the rates are those of this process.

    Args:
        flops: of the model on all devices together; without it or `peak_flops` no MFU is reported.
        peak_flops: FLOP/s of one device.
        devices: how many devices share the work.
        warmup_steps: first steps left out of `total` (compilation, first allocations).
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        flops: ModelFlops | None = None,
        peak_flops: float | None = None,
        devices: int = 1,
        warmup_steps: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.flops = flops
        self.peak_flops = peak_flops
        self.devices = devices
        self.warmup_steps = warmup_steps
        self._clock = clock
        self._started = clock()
        self._paused_seconds = 0.0
        self._paused_at: float | None = None
        self._counts = Counts()
        self._last_log = Counts()
        self._after_warmup = Counts()

    def add(self, samples: int, tokens: int, trained: int, padded: int, squared_lengths: int) -> None:
        """One optimizer step; while the meter is stopped it counts for nothing.

        Args:
            samples: rows of the dataset.
            tokens: real tokens, without padding.
            trained: tokens that carry loss.
            padded: padding tokens computed beside them.
            squared_lengths: sum of T*T over the step's documents of T tokens.
        """
        if self._paused_at is not None:
            return
        counts = self._counts
        counts.steps += 1
        counts.samples += samples
        counts.tokens += tokens
        counts.trained += trained
        counts.padded += padded
        counts.squared_lengths += squared_lengths
        if counts.steps == self.warmup_steps:
            self._after_warmup = self._now()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time spent inside (evaluation, saving) counts nowhere; may be nested."""
        if self._paused_at is not None:
            yield
            return
        self.stop()
        try:
            yield
        finally:
            self.go_on()

    def stop(self) -> None:
        """Leaves out the steps from here to `go_on`, and their time (they are profiled, say)."""
        self._paused_at = self._clock()

    def go_on(self) -> None:
        """Measures again after `stop`."""
        assert self._paused_at is not None
        self._paused_seconds += self._clock() - self._paused_at
        self._paused_at = None

    @property
    def ends_warmup(self) -> bool:
        """Whether the next step added is the last of the warm-up: the device must have finished it by then."""
        return self._paused_at is None and self._counts.steps + 1 == self.warmup_steps

    def lap(self) -> Counts:
        """The counts at this step, for a `since_last_log` that comes a little later."""
        return self._now()

    def since_last_log(self, lap: Counts | None = None) -> dict[str, float]:
        """Rates since the previous call of this method; empty when no step was added.

        With `lap`, of the steps up to there: the device has just finished them, though later ones were added.
        """
        now = self._now()
        if lap is not None:
            now = replace(lap, seconds=now.seconds)
        window = now.minus(self._last_log)
        self._last_log = now
        return self._rates(window)

    def total(self) -> dict[str, float]:
        """Rates of the whole run without its warm-up; with it if the run ended before any later step."""
        now = self._now()
        steady = now.minus(self._after_warmup)
        return self._rates(steady if steady.steps else now)

    def _now(self) -> Counts:
        """A copy of the counts, with the seconds that were not paused."""
        clock = self._clock() if self._paused_at is None else self._paused_at
        copy = Counts(*(getattr(self._counts, f.name) for f in fields(Counts)))
        copy.seconds = clock - self._started - self._paused_seconds
        return copy

    def _rates(self, counts: Counts) -> dict[str, float]:
        if not counts.steps or counts.seconds <= 0:
            return {}
        rates = {
            "samples_per_s": counts.samples / counts.seconds,
            "tokens_per_s": counts.tokens / counts.seconds,
            "trained_tokens_per_s": counts.trained / counts.seconds,
            "padding_share": counts.padded / max(counts.tokens + counts.padded, 1),
            "seconds_per_step": counts.seconds / counts.steps,
        }
        if self.flops is not None and self.peak_flops is not None:
            needed = train_flops(self.flops, counts.tokens, counts.squared_lengths)
            rates["mfu"] = needed / counts.seconds / (self.peak_flops * self.devices)
        return rates
