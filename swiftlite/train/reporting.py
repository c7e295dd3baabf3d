"""Where a run's numbers go: log.jsonl (exact), the terminal, and trackers."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from swiftlite.train.state import TrainState
from swiftlite.train.trackers import GuardedTracker, Reporter


class JsonlLog(Reporter):
    """log.jsonl: one JSON object a line, numbers in full precision."""

    def __init__(self, file: Path, from_step: int):
        """Goes on after `from_step`: lines of later steps, written before an interruption, are taken out."""
        kept = []
        if file.is_file():
            kept = [r for r in read_log(file) if r["step"] <= from_step]
        file.write_text("".join(json.dumps(r) + "\n" for r in kept), encoding="utf-8")
        self._file: TextIO = file.open("a", encoding="utf-8")

    def log(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_log(file: Path) -> list[dict[str, Any]]:
    """The records of a log.jsonl; a last line that a power cut left half-written is not one."""
    records = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


class TerminalLog(Reporter):
    """A progress bar on a terminal; in a file or a pipe, one line per log record."""

    def __init__(self, first_step: int, total_steps: int):
        self.console = Console(highlight=False, markup=False, soft_wrap=True)
        self.total_steps = total_steps
        self.progress: Progress | None = None
        if sys.stdout.isatty():
            self.progress = Progress(
                TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(bar_width=12),
                TimeRemainingColumn(compact=True),
                TextColumn("left  {task.fields[numbers]}", markup=False),
                console=self.console,
            )
            self._task = self.progress.add_task("train", total=total_steps, completed=first_step, numbers="")
            self.progress.start()

    def step(self, state: TrainState, total_steps: int) -> None:
        if self.progress:
            self.progress.update(self._task, completed=state.step)

    def log(self, record: dict[str, Any]) -> None:
        text = _words(record)
        if self.progress and "loss" in record:
            self.progress.update(self._task, numbers=text)
        else:
            self.console.print(f"step {record['step']}/{self.total_steps}  {text}")

    def message(self, text: str) -> None:
        self.console.print(text)

    def close(self) -> None:
        if self.progress:
            self.progress.stop()


def open_reporters(run: Path, trackers: Sequence[str], from_step: int, total_steps: int) -> list[Reporter]:
    """log.jsonl and the terminal, and the trackers asked for."""
    terminal = TerminalLog(from_step, total_steps)
    reporters: list[Reporter] = [JsonlLog(run / "log.jsonl", from_step), terminal]
    return reporters + [GuardedTracker(name, run, from_step, terminal.message) for name in trackers]


def _words(record: dict[str, Any]) -> str:
    if "eval_loss" in record:
        text = f"eval_loss {record['eval_loss']:.4f}  perplexity {record['eval_perplexity']:.5g}"
        if "eval_bits_per_byte" in record:
            text += f"  bits/byte {record['eval_bits_per_byte']:.4f}"
        return text
    parts = [
        f"loss {record['loss']:.4f}",
        f"lr {record['learning_rate']:.2e}",
        f"norm {record['grad_norm']:.2f}",
    ]
    if "tokens_per_s" in record:
        parts.append(f"{record['tokens_per_s']:,.0f} tokens/s")
    if "mfu" in record:
        parts.append(f"MFU {record['mfu']:.1%}")
    memory = record.get("peak_reserved_gib", record.get("peak_rss_gib"))
    if memory is not None:
        parts.append(f"{memory:.2f} GiB")
    if record["bad_steps"]:
        parts.append(f"{record['bad_steps']} bad steps")
    return "  ".join(parts)
