"""Settings of bottleneck adapters."""

from dataclasses import dataclass
from typing import Literal

from swiftlite.config.errors import UserError
from swiftlite.config.options import option


@dataclass
class AdapterOptions:
    adapter_length: int = option(128, "adapter: width of the bottleneck behind each MLP (arXiv 1902.00751)")
    adapter_act: Literal["gelu", "relu", "silu", "tanh"] = option(
        "gelu", "adapter: the function inside the bottleneck", rare=True
    )
    adapter_init: Literal["identity", "xavier"] = option(
        "identity",
        "adapter: how it starts; identity: the model computes what it did; xavier: as ms-swift, which changes it",
        rare=True,
    )

    def check(self) -> None:
        if self.adapter_length < 1:
            raise UserError(f"--adapter_length: {self.adapter_length} is not a width; expected 1 or more, usually 128")
