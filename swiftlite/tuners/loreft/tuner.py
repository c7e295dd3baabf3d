"""LoReFT as a tuner."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import PreTrainedModel

from swiftlite.speed.loss import LossModule
from swiftlite.tuners.adapter import check_peft_type
from swiftlite.tuners.loreft.config import read_positions
from swiftlite.tuners.loreft.model import PEFT_TYPE, Positions, add_interventions, load_loreft, save_loreft
from swiftlite.tuners.tuner import Tuner


class LoreftTuner(Tuner):
    """Low-rank linear subspace ReFT (Wu et al., arXiv 2404.03592)."""

    saves_adapter: ClassVar[bool] = True

    def __init__(self, config: Any):
        super().__init__(config)
        o = config.loreft
        self._settings = {"rank": o.reft_rank, "layers": o.reft_layers, "positions": read_positions(o.reft_positions)}
        self._where: Positions | None = None

    def apply(self, model: PreTrainedModel, new_tokens: Sequence[int] = ()) -> nn.Module:
        self._where = add_interventions(model, **self._settings)
        return model

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        check_peft_type(folder, PEFT_TYPE, "loreft")
        loaded, self._where = load_loreft(model, folder, trainable=True)
        saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        self._settings = {name: saved[name] for name in self._settings}
        return loaded

    def watch(self, loss: LossModule) -> None:
        if self._where is not None:
            loss.watchers.append(self._where.watch)

    def parameter_groups(self, model: nn.Module, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """No weight decay: smaller W means another edit, not a smaller one."""
        return super().parameter_groups(model, learning_rate, 0.0)

    def save(self, model: nn.Module, folder: Path, dtype: torch.dtype | None = None) -> None:
        save_loreft(model, folder, self._settings)
