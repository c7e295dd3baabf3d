"""What the device did in some training steps: torch.profiler's trace, and how busy the device was according to it."""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerAction, ProfilerActivity, profile, schedule

TRACE = "trace.json.gz"
SUMMARY = "summary.txt"

_ON_DEVICE = {"kernel", "gpu_memcpy", "gpu_memset"}
_ON_CPU = {"cpu_op"}
_ROWS = 40
# Names of C++ templates go on for lines.
_WIDTH = 150
_STEP = "ProfilerStep#"

Interval = tuple[float, float]


@dataclass(frozen=True)
class Work:
    """What was computed under one name, a step: calls, milliseconds (of a CPU's operator without those it called)."""

    name: str
    calls: float
    milliseconds: float


@dataclass(frozen=True)
class Profile:
    """Profiled steps, read from their trace.

    Attributes:
        device: "cuda" or "cpu"; on a CPU, busy means inside one of PyTorch's operators.
        steps: (wall milliseconds, busy share of them) of each step.
        busy: share of the window from the first step's start to the last step's end in which the device computed or
            copied anything at all.
        longest_gap: milliseconds of the longest time without.
        work: most time first.
    """

    device: str
    steps: list[tuple[float, float]]
    busy: float
    longest_gap: float
    work: list[Work]

    def sentence(self) -> str:
        """The profile in one line."""
        name = "device" if self.device == "cuda" else "CPU"
        count = len(self.steps)
        return (
            f"{name} busy {self.busy:.1%} over {count} step{'s' * (count > 1)} of "
            f"{sum(wall for wall, _ in self.steps) / count:,.1f} ms; longest gap {self.longest_gap:,.2f} ms"
        )

    def table(self) -> str:
        """The profile as text: the sentence, each step, and what took the most time."""
        total = sum(work.milliseconds for work in self.work) or 1.0
        lines = [self.sentence(), "", "step    wall ms   busy"]
        lines += [f"{n:>4} {wall:>10,.2f} {busy:>6.1%}" for n, (wall, busy) in enumerate(self.steps, 1)]
        kind = "kernel or copy" if self.device == "cuda" else "operator (time in itself)"
        lines += ["", f"ms/step  share  calls/step  {kind}"]
        lines += [
            f"{work.milliseconds:>7,.2f} {work.milliseconds / total:>6.1%} {work.calls:>11,.1f}  {work.name[:_WIDTH]}"
            for work in self.work[:_ROWS]
        ]
        left = self.work[_ROWS:]
        if left:
            rest = sum(work.milliseconds for work in left)
            lines.append(f"{rest:>7,.2f} {rest / total:>6.1%}              {len(left)} more")
        return "\n".join(lines) + "\n"


class StepProfiler:
    """Profiles `steps` training steps into `folder`; to be told of the end of every step from `warm_up()` on.

    The trace opens in https://ui.perfetto.dev. The steps are slower than usual: every operator is recorded.
    """

    def __init__(self, folder: Path, device: torch.device, steps: int) -> None:
        self.folder, self.device, self.steps = folder, device, steps
        self._profile: Any = None
        self._done = 0

    def warm_up(self) -> None:
        """Starts the profiler one step ahead: its own start, which takes long, is not to be measured."""
        activities = [ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities, schedule=schedule(wait=0, warmup=1, active=self.steps, repeat=1))
        self._profile.start()

    def step(self) -> Profile | None:
        """After each further step; the profile when it was the last, its files written.

        Waits for the device at both ends of the window, so that all of its work lies inside, and nowhere between.
        """
        last = self._done == self.steps
        if self.device.type == "cuda" and (self._done == 0 or last):
            torch.cuda.synchronize(self.device)
        self._done += 1
        self._profile.step()
        return self._write() if last else None

    def abandon(self) -> None:
        """Ends a profile whose steps did not all come; writes nothing."""
        if self._profile is not None and self._profile.current_action != ProfilerAction.NONE:
            self._profile.stop()

    def _write(self) -> Profile:
        self._profile.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._profile.export_chrome_trace(str(self.folder / TRACE))
        with gzip.open(self.folder / TRACE, "rt", encoding="utf-8") as file:
            found = read_trace(json.load(file)["traceEvents"], self.device.type)
        (self.folder / SUMMARY).write_text(found.table(), encoding="utf-8")
        return found


def read_trace(events: Iterable[dict[str, Any]], device: str) -> Profile:
    """The profile of a Chrome trace of torch.profiler (times in microseconds); `device` is "cuda" or "cpu".

    Raises:
        ValueError: no step is marked in the trace.
    """
    wanted = _ON_DEVICE if device == "cuda" else _ON_CPU
    complete = [event for event in events if event.get("ph") == "X"]
    marks = [e for e in complete if e["name"].startswith(_STEP) and e.get("cat") == "user_annotation"]
    if not marks:
        raise ValueError("the trace has no steps")
    steps = sorted(_interval(mark) for mark in marks)
    window = (steps[0][0], steps[-1][1])
    work = [event for event in complete if event.get("cat") in wanted]
    busy = union(_interval(event) for event in work)
    return Profile(
        device=device,
        steps=[((end - start) / 1e3, _share(busy, (start, end))) for start, end in steps],
        busy=_share(busy, window),
        longest_gap=max(end - start for start, end in gaps(busy, window)) / 1e3,
        work=_by_name(work, len(steps), own_time=device != "cuda"),
    )


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same times as intervals that are sorted and do not touch."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def gaps(busy: list[Interval], window: Interval) -> list[Interval]:
    """The times of `window` outside `busy` (a union), and an empty one, so that there always is one."""
    clipped = _clip(busy, window)
    starts = [window[0], *(end for _, end in clipped)]
    ends = [*(start for start, _ in clipped), window[1]]
    return list(zip(starts, ends))


def _clip(busy: list[Interval], window: Interval) -> list[Interval]:
    begin, finish = window
    return [(max(start, begin), min(end, finish)) for start, end in busy if start < finish and end > begin]


def _share(busy: list[Interval], window: Interval) -> float:
    return sum(end - start for start, end in _clip(busy, window)) / (window[1] - window[0])


def _interval(event: dict[str, Any]) -> Interval:
    return event["ts"], event["ts"] + event["dur"]


def _by_name(events: list[dict[str, Any]], steps: int, *, own_time: bool) -> list[Work]:
    calls: dict[str, int] = defaultdict(int)
    time: dict[str, float] = defaultdict(float)
    callers: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
        calls[event["name"]] += 1
        time[event["name"]] += event["dur"]
        if own_time:
            stack = callers[event.get("tid")]
            while stack and _interval(stack[-1])[1] <= event["ts"]:
                stack.pop()
            if stack:
                time[stack[-1]["name"]] -= event["dur"]
            stack.append(event)
    found = [Work(name, calls[name] / steps, time[name] / steps / 1e3) for name in calls]
    return sorted(found, key=lambda work: -work.milliseconds)
