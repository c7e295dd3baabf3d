"""Full fine-tuning: every parameter, or those that the freeze options leave."""

import re
from collections.abc import Sequence
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.tuners.tuner import Tuner


class FullTuner(Tuner):
    """Trains the model's own weights."""

    def apply(self, model: PreTrainedModel, new_tokens: Sequence[int] = ()) -> nn.Module:
        """Freezes by share (in the order of the model, counted by elements), prefix and pattern; what is named as
        trainable stays so.

        Raises:
            UserError: a prefix or pattern matches nothing, or nothing is left to train.
        """
        o = self.config.tuner
        names = [n for n, _ in model.named_parameters()]
        frozen_pattern = _pattern("freeze_parameters_regex", o.freeze_parameters_regex, names)
        trainable_pattern = _pattern("trainable_parameters_regex", o.trainable_parameters_regex, names)
        for flag, prefixes in (
            ("freeze_parameters", o.freeze_parameters),
            ("trainable_parameters", o.trainable_parameters),
        ):
            for prefix in prefixes:
                if not any(n.startswith(prefix) for n in names):
                    raise UserError(f"--{flag}: no parameter's name starts with '{prefix}'; one of them is {names[0]}")
        model.requires_grad_(True)
        budget = o.freeze_parameters_ratio * sum(p.numel() for p in model.parameters())
        for name, parameter in model.named_parameters():
            budget -= parameter.numel()
            frozen = (o.freeze_parameters_ratio > 0 and budget >= 0) or name.startswith(tuple(o.freeze_parameters))
            frozen = frozen or _matches(frozen_pattern, name)
            wanted = name.startswith(tuple(o.trainable_parameters)) or _matches(trainable_pattern, name)
            parameter.requires_grad = wanted or not frozen
        if not any(p.requires_grad for p in model.parameters()):
            raise UserError(
                "the freeze options leave no parameter to train; freeze less, or name --trainable_parameters"
            )
        outer = (model.get_input_embeddings(), model.get_output_embeddings())
        if new_tokens and not all(p.requires_grad for m in outer if m is not None for p in m.parameters()):
            raise UserError(
                f"--add_tokens: the rows of {len(new_tokens)} new tokens must be trained and the freeze options freeze "
                "the embedding or the head; name both in --trainable_parameters"
            )
        return model

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        raise UserError(
            f"--sft_type full cannot train on top of the adapter {folder}; continue it with --sft_type lora, "
            f"or merge it first"
        )


def _pattern(flag: str, regex: str | None, names: list[str]) -> re.Pattern[str] | None:
    if regex is None:
        return None
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise UserError(f"--{flag}: '{regex}' is not a regular expression: {error}") from None
    if not any(pattern.search(n) for n in names):
        raise UserError(f"--{flag}: '{regex}' matches no parameter; one of them is {names[0]}")
    return pattern


def _matches(pattern: re.Pattern[str] | None, name: str) -> bool:
    return pattern is not None and pattern.search(name) is not None
