"""Where a run stands: the few numbers from which it goes on exactly."""

import dataclasses
from typing import Any


@dataclasses.dataclass
class TrainState:
    """Progress of a run; saved in each checkpoint as trainer_state.json.

    Attributes:
        step: optimizer steps done. epoch, cursor: the current epoch and the steps done in it.
        samples, tokens, trained: rows, real tokens and trained tokens seen, over all processes.
        window: losses of the steps since the last log line, so that the next line is exact after a resume.
        best_loss, best_step: the lowest eval loss and the step it was seen at.
        stale_evals: evaluations since then.
        position: where a stream stands in its current pass: rows used up, and pieces of the row after them.
        bad_steps, bad_in_a_row: steps whose gradients were not finite.
        world_size: processes of the run; another number would take other steps.
    """

    step: int = 0
    epoch: int = 0
    cursor: int = 0
    samples: int = 0
    tokens: int = 0
    trained: float = 0.0
    seconds: float = 0.0
    window: list[float] = dataclasses.field(default_factory=list)
    best_loss: float | None = None
    best_step: int | None = None
    stale_evals: int = 0
    bad_steps: int = 0
    bad_in_a_row: int = 0
    world_size: int = 1
    position: tuple[int, int] = (0, 0)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
