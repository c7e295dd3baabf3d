"""LoReFT as a tuner."""

from typing import Any, ClassVar

from torch import nn
from transformers import PreTrainedModel

from swiftlite.speed.loss import LossModule
from swiftlite.tuners.added import AddedModules
from swiftlite.tuners.loreft.config import read_positions
from swiftlite.tuners.loreft.model import Intervention, add_interventions


class LoreftTuner(AddedModules):
    """Low-rank linear subspace ReFT (Wu et al., arXiv 2404.03592)."""

    name: ClassVar[str] = "loreft"
    keeps_precision: ClassVar[bool] = True

    def settings(self) -> dict[str, Any]:
        o = self.config.loreft
        return {"rank": o.reft_rank, "layers": o.reft_layers, "positions": read_positions(o.reft_positions)}

    @staticmethod
    def attach(model: PreTrainedModel, settings: dict[str, Any]) -> None:
        add_interventions(model, **settings)

    def watch(self, loss: LossModule) -> None:
        positions = next(m.positions for m in loss.model.modules() if isinstance(m, Intervention))
        if positions is not None:
            loss.watchers.append(positions.watch)

    def parameter_groups(self, model: nn.Module, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """No weight decay: smaller W means another edit, not a smaller one."""
        return super().parameter_groups(model, learning_rate, 0.0)
