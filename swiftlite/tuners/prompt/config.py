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
    why = f"--sft_type {tuner} puts its tokens in front of each row, where joined documents would share them"
    if data.padding_free:
        raise UserError(f"--padding_free true: {why}; leave it away")
    blocks = config.command == "pt" and data.packing and not data.isolate_documents
    if data.packing and not blocks:
        raise UserError(f"--packing true: {why}; pass --packing false")
    config.set("padding_free", False)
    if config.model.add_tokens:
        raise UserError(f"--add_tokens: --sft_type {tuner} leaves the embedding as it is; use --sft_type lora")


def settle_prefix(config: Any) -> None:
    """As `settle_prompt`; layers are neither checkpointed nor compiled.

    Raises:
        UserError: that was asked for.
    """
    settle_prompt(config)
    why = "--sft_type prefix_tuning hands its keys and values to the layers in a cache"
    if config.optim.gradient_checkpointing not in ("auto", "off"):
        raise UserError(
            f"--gradient_checkpointing {config.optim.gradient_checkpointing}: {why}, which a layer that is computed "
            f"twice would fill twice; leave it away, or use --sft_type prompt_tuning"
        )
    if config.speed.torch_compile:
        raise UserError(f"--torch_compile true: {why}, which compiled layers cannot take; leave it away")
    config.set("gradient_checkpointing", "off")
    config.set("torch_compile", False)
