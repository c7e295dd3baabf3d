"""The bar that shows how many rows are answered."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextlib.contextmanager
def progress_bar(label: str, rows: int) -> Iterator[Callable[[int, str], None]]:
    """A bar on a terminal, nothing in a file or a pipe; gives what moves it: (rows done, a word on them)."""
    progress = Progress(
        TextColumn("{task.description} {task.completed:.0f}/{task.total:.0f}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with progress:
        task = progress.add_task(label, total=rows, note="")
        yield lambda done, note: progress.update(task, completed=done, note=note)
