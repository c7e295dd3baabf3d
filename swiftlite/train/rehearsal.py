"""Before the first step: sees that there is room for the checkpoints and that one can be written."""

import shutil
from collections.abc import Callable
from pathlib import Path

from torch import nn

from swiftlite.config.errors import UserError
from swiftlite.measure.memory import GIB


def checkpoint_bytes(model: nn.Module, *, adapter: bool, optimizer_bytes: int) -> int:
    """Bytes of one checkpoint: the weights it holds and the optimizer's states; small files are not counted."""
    parameters = list(model.parameters())
    trained = sum(p.numel() * p.element_size() for p in parameters if p.requires_grad)
    weights = trained if adapter else sum(p.numel() * p.element_size() for p in parameters)
    return weights + optimizer_bytes


def check_disk(folder: Path, size: int, keep: int | None) -> None:
    """Raises a UserError when the disk of `folder` cannot hold `keep` checkpoints of `size` bytes and a new one.

    With no limit to the number (`keep` None) it must hold two.
    """
    needed = size * ((keep if keep is not None else 1) + 1)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"--output_dir: the disk of {folder} has {free / GIB:.1f} GiB free, the checkpoints need about "
            f"{needed / GIB:.1f} GiB ({size / GIB:.2f} GiB each, --save_total_limit {keep} and one while it is "
            f"written); free some space, keep fewer, or pass --save_only_model true"
        )


def rehearse_save(run: Path, write: Callable[[Path], None]) -> None:
    """Writes one checkpoint's weights aside and deletes them.

    Raises:
        UserError: it cannot be written; nothing has been trained yet.
    """
    trial = run / ".rehearsal"
    try:
        trial.mkdir()
        write(trial)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"a first save into {run} failed, before any training: {error}") from error
    finally:
        shutil.rmtree(trial, ignore_errors=True)
