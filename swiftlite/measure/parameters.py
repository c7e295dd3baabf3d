"""How many parameters a model has and how many are trained, counted and worded as ms-swift does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class ParameterCount:
    """Stored elements: `total` includes the adapter and everything frozen, `trainable` is part of `total`."""

    total: int
    trainable: int
    buffers: int

    @property
    def trainable_percent(self) -> float:
        """100 * trainable / total; 0 for a model without parameters."""
        return 100 * self.trainable / self.total if self.total else 0.0


def count_parameters(model: nn.Module) -> ParameterCount:
    """Counts the model's elements; tied weights count once.

    Packed weights count as stored: a 4-bit matrix of n weights held in n/2 bytes adds n/2, as ms-swift's
    tables do. Works on the meta device.
    """
    total = trainable = 0
    for parameter in model.parameters():
        elements = _elements(parameter)
        total += elements
        trainable += elements if parameter.requires_grad else 0
    return ParameterCount(total, trainable, sum(buffer.numel() for buffer in model.buffers()))


def parameter_line(model: nn.Module) -> str:
    """`{Class}: {total}M Params ({trainable}M Trainable [{percent}%]), {buffers}M Buffers.`, M = 10^6.

    The wording of ms-swift's `get_model_info`, so that logs and tables can be laid side by side.
    """
    count = count_parameters(model)
    return (
        f"{type(model).__name__}: {count.total / 1e6:.4f}M Params "
        f"({count.trainable / 1e6:.4f}M Trainable [{count.trainable_percent:.4f}%]), "
        f"{count.buffers / 1e6:.4f}M Buffers."
    )


def _elements(parameter: torch.Tensor) -> int:
    # DeepSpeed ZeRO-3 leaves an empty tensor behind and keeps the true size here.
    return getattr(parameter, "ds_numel", parameter.numel())
