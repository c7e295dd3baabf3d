"""Settings of how a step runs, and of `swiftlite doctor`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from swiftlite.config.command import CommandConfig
from swiftlite.config.general import GeneralConfig
from swiftlite.config.options import option


@dataclass
class SpeedOptions:
    """What makes a step fast without changing what it computes."""

    speed: Literal["auto", "off", "max"] = option(
        "auto",
        "auto: all that is fast without changing numbers beyond rounding; max: also --quant_method fp8 under adapters "
        "where the device has fp8; off: the plain path. Each piece has a flag of its own, which wins",
    )
    torch_compile: bool | None = option(
        None, "compile the decoder layers (half a minute at the start); none: on for a GPU"
    )
    group_linears: bool | None = option(
        None,
        "compute frozen linear layers that read the same input, with their LoRA adapters, as one; none: on",
        rare=True,
    )
    loss_impl: Literal["auto", "fused", "plain"] = option(
        "auto",
        "fused: head and cross-entropy in one, in chunks, without the logits of all tokens in memory; plain: one after "
        "the other; auto: fused on a GPU",
    )

    def check(self) -> None:
        """Nothing to check alone."""


class DoctorConfig(CommandConfig):
    """`swiftlite doctor` looks at the machine; there is nothing to set."""

    command: ClassVar[str] = "doctor"
    parts: ClassVar[dict[str, type]] = {"general": GeneralConfig}

    general: GeneralConfig
