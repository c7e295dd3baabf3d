"""Settings of how a step runs, and of `swiftlite doctor`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from swiftlite.config.command import CommandConfig
from swiftlite.config.errors import UserError
from swiftlite.config.general import GeneralConfig
from swiftlite.config.options import option
from swiftlite.measure.memory import read_size


@dataclass
class SpeedOptions:
    """What makes a step fast without changing what it computes."""

    speed: Literal["auto", "off", "max"] = option(
        "auto",
        "auto: all that is fast without changing numbers beyond rounding; max: also --quant_method fp8 under adapters "
        "where the device has fp8; off: the plain path. Each piece has a flag of its own, which wins",
    )
    torch_compile: bool | None = option(
        None,
        "compile the decoder layers (one or two minutes at the start); none: on a GPU for pt and for models above 300 "
        "million parameters",
    )
    group_linears: bool | None = option(
        None,
        "compute frozen linear layers that read the same input, with their LoRA adapters, as one; none: on",
        rare=True,
    )
    loss_impl: Literal["auto", "fused", "plain"] = option(
        "auto",
        "fused: head and cross-entropy in one, of trained tokens only, in chunks, never all logits in memory; "
        "plain: one after the other; auto: fused on a GPU",
    )
    offload_activations: bool = option(
        False,
        "what checkpointed layers keep waits in host memory for the backward pass, copied while others compute; needs "
        "--gradient_checkpointing full or selective",
        rare=True,
    )
    max_memory: str | None = option(
        None,
        "the most GPU memory PyTorch may take, such as 22GiB: rehearses a smaller card on a larger one (CUDA's own few "
        "hundred MiB come on top)",
    )

    def check(self) -> None:
        if self.max_memory is not None:
            try:
                read_size(self.max_memory)
            except ValueError:
                raise UserError(
                    f"--max_memory: '{self.max_memory}' is not a size; write 22GiB, 22GB, or 22 for GiB"
                ) from None


class DoctorConfig(CommandConfig):
    """`swiftlite doctor` looks at the machine; there is nothing to set."""

    command: ClassVar[str] = "doctor"
    parts: ClassVar[dict[str, type]] = {"general": GeneralConfig}

    general: GeneralConfig
