"""How rows become optimizer steps: the plan of each epoch, and how many steps that makes."""

import math
from collections.abc import Callable

from swiftlite.data.loading import Data
from swiftlite.data.sampler import EpochPlan
from swiftlite.data.stream import BEGINNING, Position, StreamPlan
from swiftlite.train.batches import Plan
from swiftlite.train.config import TrainConfig
from swiftlite.train.state import TrainState


def count_steps(config: TrainConfig, data: Data, world_size: int) -> tuple[float, int]:
    """(steps an epoch, steps of the whole run); a limit in steps replaces the epochs, as in transformers.Trainer.

    The epochs of a stream have infinitely many steps, as far as anyone knows before one ends.
    """
    steps_per_epoch = epoch_planner(config, data, world_size, TrainState())(0).steps
    if config.optim.max_steps > 0:
        return steps_per_epoch, config.optim.max_steps
    return steps_per_epoch, math.ceil(config.optim.num_train_epochs * steps_per_epoch)


def epoch_planner(config: TrainConfig, data: Data, world_size: int, state: TrainState) -> Callable[[int], Plan]:
    """Epoch number -> the steps of that epoch, the same on every process; a stream goes on where `state` says."""
    accumulation = config.optim.gradient_accumulation_steps
    assert accumulation is not None
    shape = {
        "micro_batch_size": config.optim.batch_size,
        "accumulation": accumulation,
        "world_size": world_size,
    }

    def plan(epoch: int) -> Plan:
        if data.stream is not None:
            start = Position(*state.position) if state.cursor else BEGINNING
            return StreamPlan(
                data.stream, **shape, seed=config.general.seed, epoch=epoch, first=state.cursor, start=start
            )
        return EpochPlan(
            data.train.lengths,
            data.train.trained,
            **shape,
            seed=config.general.seed,
            epoch=epoch,
            shuffle=config.data.dataset_shuffle,
            group_by_length=config.data.group_by_length,
        )

    return plan
