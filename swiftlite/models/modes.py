"""Training or evaluation mode for the time of a trial, which leaves a model as it found it."""

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """All of `model` in training or in evaluation mode; afterwards each module is back in its own."""
    modes = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
