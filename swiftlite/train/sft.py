"""`swiftlite sft`: training on conversations."""

from swiftlite.train.config import SftConfig
from swiftlite.train.inputs import read_inputs
from swiftlite.train.result import TrainResult
from swiftlite.train.run import run_training


def run_sft(config: SftConfig) -> TrainResult:
    """Fine-tunes a model on conversations; returns the run's folder, its metrics and the exit code.

    Raises:
        UserError: anything a user can mend; checkpoints saved before stay as they are.
    """
    return run_training(config, read_inputs)
