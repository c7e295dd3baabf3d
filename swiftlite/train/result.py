"""What a training command returns."""

import dataclasses
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """A run's folder, the numbers of its metrics.json, and the exit code of the command."""

    run: Path
    metrics: dict[str, Any]
    exit_code: int
