"""Settings of the tuners that learn tokens in front of each document, and what they refuse."""

from dataclasses import dataclass
from typing import Any

from swiftlite.config.errors import UserError
from swiftlite.config.options import option


@dataclass
class PromptOptions:
    num_virtual_tokens: int = option(
        20, "prompt_tuning, prefix_tuning, p_tuning: learned tokens in front of each document", rare=True
    )
    encoder_hidden_size: int | None = option(
        None, "p_tuning: width of the network that makes the tokens; none: the model's", rare=True
    )

    def check(self) -> None:
        for name in ("num_virtual_tokens", "encoder_hidden_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name}: {value} must be 1 or more")


def settle_prompt(config: Any) -> None:
    """Keeps documents in rows of their own.

    Raises:
        UserError: joined rows were asked for, or tokens to add.
    """
    tuner, data = config.tuner.sft_type, config.data
    if data.padding_free:
        raise UserError(
            f"--padding_free true: --sft_type {tuner} puts its tokens in front of each row, where joined documents "
            f"would share them; leave it away"
        )
    config.set("padding_free", False)
    if config.model.add_tokens:
        raise UserError(f"--add_tokens: --sft_type {tuner} leaves the embedding as it is; use --sft_type lora")
    if tuner == "prefix_tuning":
        # Its keys and values come in a cache; asked for by name, either is refused (`full` and compiling: registry.py).
        if config.optim.gradient_checkpointing == "selective":
            raise UserError(
                "--gradient_checkpointing selective computes layers twice, and the learned keys and values would fill "
                "their cache twice; leave it away"
            )
        if config.optim.gradient_checkpointing == "auto":
            config.set("gradient_checkpointing", "off")
        if config.speed.torch_compile is None:
            config.set("torch_compile", False)
