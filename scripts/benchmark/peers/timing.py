"""Times whole optimizer steps of one tool in its own process, the same way for every tool, and writes what came out."""

import importlib.metadata
import itertools
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

WARM_UP = 6
PACKAGES = [
    *("torch", "triton", "transformers", "peft", "accelerate", "trl", "ms-swift", "unsloth", "unsloth-zoo"),
    *("llamafactory", "liger-kernel", "flash-attn", "xformers", "bitsandbytes"),
]


class Timer:
    """Marks the end of each step on the device, so that a step's time is all of its work, data and waiting included.

    The host does not wait there: a tool that lets it run ahead is measured so, and one that does not as well.
    """

    def __init__(self, device: str):
        self.device = device
        self._ends: list[Any] = []
        self._real: list[Any] = []
        self._padded: list[int] = []
        self._in_step: list[tuple[Any, int]] = []

    def batch(self, real: Any, padded: int) -> None:
        """A micro-batch of the step: its real tokens (a number or a 0-d tensor), and all it computes on."""
        self._in_step.append((real, padded))

    def end_of_step(self) -> None:
        """After the optimizer."""
        self._ends.append(self._now())
        self._real.append(sum(real for real, _ in self._in_step))
        self._padded.append(sum(padded for _, padded in self._in_step))
        self._in_step = []

    def _now(self) -> Any:
        if self.device != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _seconds(self, start: Any, end: Any) -> float:
        return start.elapsed_time(end) / 1e3 if self.device == "cuda" else end - start

    def result(self) -> dict[str, Any]:
        """Rates over the steps after the warm-up: all tokens over all seconds, and the median of the steps' times.

        Raises:
            SystemExit: no step came after the warm-up.
        """
        if len(self._ends) <= WARM_UP:
            raise SystemExit(f"{len(self._ends)} steps were taken, of which {WARM_UP} are warm-up")
        if self.device == "cuda":
            torch.cuda.synchronize()
        ends = self._ends[WARM_UP - 1 :]
        each = [self._seconds(a, b) for a, b in itertools.pairwise(ends)]
        seconds = sum(each)
        real, padded = sum(int(n) for n in self._real[WARM_UP:]), sum(self._padded[WARM_UP:])
        return {
            "steps": len(each),
            "tokens_per_step": real / len(each),
            "tokens_per_s": real / seconds,
            "computed_tokens_per_s": padded / seconds,
            "median_step_ms": statistics.median(each) * 1e3,
            **_memory(self.device),
        }


class TimerCallback(TrainerCallback):
    """For tools on transformers.Trainer: nothing of theirs is patched.

    A hook in front of the model counts its tokens. Their trainers come by it through transformers' list of default
    callbacks (see `install`) where a tool takes none itself.
    """

    timer: Timer

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        pad = getattr(model.config, "pad_token_id", None)

        def count(module: Any, positional: Any, given: dict[str, Any]) -> None:
            ids, mask = given["input_ids"], given.get("attention_mask")
            whole = mask is None or mask.dim() != 2
            self.timer.batch((ids != pad).sum() if whole else mask.sum(), ids.numel())

        model.register_forward_pre_hook(count, with_kwargs=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.timer.end_of_step()


def install(device: str) -> Timer:
    """A timer on every transformers.Trainer made from now on."""
    from transformers import trainer

    timer = TimerCallback.timer = Timer(device)
    trainer.DEFAULT_CALLBACKS.append(TimerCallback)
    return timer


def read_job() -> dict[str, Any]:
    """What to run: the JSON file that run.py names on the command line."""
    return json.loads(Path(sys.argv[1]).read_text())


def trainer_settings(job: dict[str, Any]) -> dict[str, Any]:
    """What every tool on transformers.Trainer trains with, under the names that they share."""
    return {
        "output_dir": job["work"],
        "per_device_train_batch_size": job["batch_size"],
        "gradient_accumulation_steps": 1,
        "max_steps": job["steps"],
        "learning_rate": 1e-4,
        "logging_steps": 50,
        "save_strategy": "no",
        "report_to": "none",
    }


def write_result(job: dict[str, Any], timer: Timer) -> None:
    """What came out, into the file that the job names."""
    result = timer.result() | {"device": _device(job["device"]), "versions": _versions()}
    Path(job["result"]).write_text(json.dumps(result, indent=2) + "\n")


def _memory(device: str) -> dict[str, float]:
    """Peaks of the process, in GiB."""
    if device == "cuda":
        peaks = torch.cuda.max_memory_reserved(), torch.cuda.max_memory_allocated()
        return {"peak_reserved_gib": peaks[0] / 2**30, "peak_allocated_gib": peaks[1] / 2**30}
    import resource

    return {"peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def _device(kind: str) -> str:
    return torch.cuda.get_device_name() if kind == "cuda" else f"CPU ({platform.machine()})"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
