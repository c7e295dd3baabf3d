"""Settings of LISA."""

from dataclasses import dataclass

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
