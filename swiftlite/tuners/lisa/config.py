"""Settings of LISA."""

from dataclasses import dataclass
from typing import Any

from swiftlite.config.errors import UserError
from swiftlite.config.options import option


@dataclass
class LisaOptions:
    lisa_activated_layers: int = option(
        0,
        "full: train so many layers at a time, drawn at random, beside embeddings, last norm and head (LISA, arXiv "
        "2403.17919): the memory of an adapter; 2 to 8 are usual, 0 trains all",
    )
    lisa_step_interval: int = option(20, "LISA: optimizer steps until other layers are drawn", rare=True)
    lisa_keep_states: bool = option(
        False,
        "LISA: keep the optimizer's states of layers that are not trained for now; in the end that is the memory of "
        "all layers' states",
        rare=True,
    )

    def check(self) -> None:
        if self.lisa_activated_layers < 0:
            raise UserError(
                f"--lisa_activated_layers: {self.lisa_activated_layers} is not a number of layers; 2 is usual, 0 "
                "trains all"
            )
        if self.lisa_step_interval < 1:
            raise UserError(f"--lisa_step_interval: {self.lisa_step_interval} must be 1 step or more; 20 is usual")


def settle_lisa(config: Any) -> None:
    """Raises a UserError for what cannot be right while layers take turns."""
    if not config.lisa.lisa_activated_layers:
        return
    if config.speed.group_linears:
        raise UserError(
            "--group_linears true computes frozen layers in another way and --lisa_activated_layers will train them; "
            "leave it away"
        )
    if config.galore.use_galore:
        raise UserError(
            "--use_galore true learns directions of gradients over many steps and --lisa_activated_layers puts layers "
            "to sleep between them; use one of the two"
        )
    if config.optim.optim == "schedule_free":
        raise UserError(
            "--optim schedule_free averages weights over all steps and --lisa_activated_layers trains layers in some; "
            "pass --optim adamw"
        )
