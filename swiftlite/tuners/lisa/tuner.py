"""LISA: full fine-tuning in which a few layers, drawn anew every so many steps, are trained at a time."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.models.layers import find_layers
from swiftlite.tuners.full.tuner import FullTuner


def full_tuner(config: Any) -> FullTuner:
    """The tuner of `--sft_type full`: LISA where layers are to take turns."""
    return LisaTuner(config) if config.lisa.lisa_activated_layers else FullTuner(config)


class LisaTuner(FullTuner):
    """Layerwise importance sampling (Pan et al., "LISA", arXiv 2403.17919, algorithm 1).

    Embeddings, last norm and head are always trained, and `lisa_activated_layers` of the decoder layers, drawn
    without replacement for each period of `lisa_step_interval` steps. Only they have gradients and, unless
    `lisa_keep_states`, optimizer states: a layer that sleeps forgets its own, one drawn twice in a row keeps them.
    What the freeze options freeze is never trained; layers frozen whole are not drawn.

    A draw depends on `--seed` and the period alone: every process makes the same one, and so does a resumed run.
    Compiled layers come in two graphs, awake and asleep, whichever layers are drawn.
    """

    def apply(self, model: PreTrainedModel, new_tokens: Sequence[int] = ()) -> nn.Module:
        """Freezes as the freeze options say, then all layers but the first draw.

        Raises:
            UserError: as FullTuner; or the model has too few layers.
        """
        super().apply(model, new_tokens)
        layers = find_layers(model) or ()
        trained = [[p for p in layer.parameters() if p.requires_grad] for layer in layers]
        # By number: their weights, and of those the ones that the freeze options leave.
        self._layers = {number: weights for number, weights in enumerate(trained) if weights}
        count, interval = self.config.lisa.lisa_activated_layers, self.config.lisa.lisa_step_interval
        if count > len(self._layers):
            raise UserError(
                f"--lisa_activated_layers: {count} layers of the {len(self._layers)} that can be trained cannot be "
                "drawn; give fewer, or 0 to train all"
            )
        self._period = -1
        self._wake(0)
        self.notes.append(
            f"LISA: {count} of {len(self._layers)} layers at a time, drawn anew every {interval} steps (first "
            f"{', '.join(map(str, self.awake))}); embeddings, last norm and head throughout"
        )
        return model

    def trained(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        """All that is trained at one time or another, asleep or awake."""
        taking_turns = {id(weight) for weights in self._layers.values() for weight in weights}
        return [(name, p) for name, p in model.named_parameters() if p.requires_grad or id(p) in taking_turns]

    def before_step(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], step: int) -> bool:
        """At the start of a period, and after a resume, wakes the layers drawn for it and puts the others to sleep."""
        period = step // self.config.lisa.lisa_step_interval
        if period == self._period:
            return False
        before = self.awake
        self._wake(period)
        if not self.config.lisa.lisa_keep_states:
            asleep = [w for number, weights in self._layers.items() if number not in self.awake for w in weights]
            for optimizer in optimizers:
                for weight in asleep:
                    optimizer.state.pop(weight, None)
        return self.awake != before

    def _wake(self, period: int) -> None:
        self._period = period
        # A text as a seed gives the same numbers everywhere, whatever Python's hashes are.
        draw = random.Random(f"LISA {self.config.general.seed} {period}")
        self.awake = sorted(draw.sample(list(self._layers), self.config.lisa.lisa_activated_layers))
        for number, weights in self._layers.items():
            for weight in weights:
                weight.requires_grad = number in self.awake
                weight.grad = None
