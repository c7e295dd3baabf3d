"""How rows become optimizer steps: the plan of each epoch, and how many steps that makes."""

import math
from collections.abc import Callable

from swiftlite.data.loading import Data
from swiftlite.data.sampler import EpochPlan
from swiftlite.train.config import SftConfig


def count_steps(config: SftConfig, data: Data, world_size: int) -> tuple[int, int]:
    """(steps an epoch, steps of the whole run); a limit in steps replaces the epochs, as in transformers.Trainer."""
    steps_per_epoch = epoch_planner(config, data, world_size)(0).steps
    if config.optim.max_steps > 0:
        return steps_per_epoch, config.optim.max_steps
    return steps_per_epoch, math.ceil(config.optim.num_train_epochs * steps_per_epoch)


def epoch_planner(config: SftConfig, data: Data, world_size: int) -> Callable[[int], EpochPlan]:
    """Epoch number -> the steps of that epoch, the same on every process."""
    accumulation = config.optim.gradient_accumulation_steps
    assert accumulation is not None

    def plan(epoch: int) -> EpochPlan:
        return EpochPlan(
            data.train.lengths,
            data.train.trained,
            micro_batch_size=config.optim.batch_size,
            accumulation=accumulation,
            world_size=world_size,
            seed=config.general.seed,
            epoch=epoch,
            shuffle=config.data.dataset_shuffle,
            group_by_length=config.data.group_by_length,
        )

    return plan
