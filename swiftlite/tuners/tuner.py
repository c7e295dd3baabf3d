"""What a tuner is: it turns a base model into one with something to train, and knows how that is saved."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.speed.loss import LossModule


class Tuner:
    """Base of all tuners; `config` is the command's settings.

    Attributes:
        saves_adapter: a checkpoint holds only the tuner's own weights and needs the base beside it.
        notes: what the header should say of what `apply` did.
    """

    saves_adapter: ClassVar[bool] = False

    def __init__(self, config: Any):
        self.config = config
        self.notes: list[str] = []

    def apply(self, model: PreTrainedModel, new_tokens: Sequence[int] = ()) -> nn.Module:
        """Freezes and adds what this tuner freezes and adds; returns the model to train.

        `new_tokens` are the ids of embedding rows that must be trained whatever stays frozen.
        """
        raise TypeError(f"{type(self).__name__} must define apply")

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        """Puts the tuner's saved weights on the base, ready to train further."""
        raise TypeError(f"{type(self).__name__} must define load")

    def watch(self, loss: LossModule) -> None:
        """Asks the loss to be told of each batch, where the tuner acts by document (`LossModule.watchers`)."""

    def trained(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        """Name and parameter of all that the run updates at one time or another."""
        return [(name, p) for name, p in model.named_parameters() if p.requires_grad]

    def before_step(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], step: int) -> bool:
        """Called before each optimizer step, on every process; `step` steps are done by then, also after a resume.

        What it does may depend on nothing but `step` and what checkpoints hold, or a resumed run would go another way.

        Returns:
            Whether other parameters than before need gradients now.
        """
        return False

    def parameter_groups(self, model: nn.Module, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Optimizer groups of the trained parameters: biases and norms without weight decay."""
        decayed, plain = [], []
        for name, parameter in self.trained(model):
            (plain if parameter.dim() < 2 or "norm" in name.lower() else decayed).append(parameter)
        groups = [
            {"params": decayed, "lr": learning_rate, "weight_decay": weight_decay},
            {"params": plain, "lr": learning_rate, "weight_decay": 0.0},
        ]
        return [g for g in groups if g["params"]]

    def begin(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        total_steps: int,
        steps_taken: Callable[[], int],
    ) -> None:
        """Called once before the first step of a run; `steps_taken` counts on, and with a resumed run from there."""

    def penalty(self, model: nn.Module) -> torch.Tensor | None:
        """What is added to the loss of each step (0-d, with gradients) but not logged with it; None for nothing."""
        return None

    def state_dict(self, model: nn.Module) -> dict[str, Any]:
        """What a resumed run needs of the tuner beside the weights, as tensors and plain values."""
        return {}

    def load_state_dict(self, model: nn.Module, state: dict[str, Any]) -> None:
        """Restores `state_dict`, after `begin`."""

    def save(self, model: nn.Module, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Writes the weights as safetensors in the layout other tools read; with `dtype`, rounded to it."""
        if dtype is None:
            model.save_pretrained(folder)  # pyrefly: ignore
            return
        # Tied weights must stay one tensor, or each would be written.
        rounded: dict[int, torch.Tensor] = {}
        state = {n: rounded.setdefault(t.data_ptr(), _rounded(t, dtype)) for n, t in model.state_dict().items()}
        model.save_pretrained(folder, state_dict=state)  # pyrefly: ignore
        file = folder / "config.json"
        config = json.loads(file.read_text(encoding="utf-8")) | {"dtype": str(dtype).removeprefix("torch.")}
        file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def refuse_new_tokens(sft_type: str, new_tokens: Sequence[int]) -> None:
    """Raises a UserError when tokens are new and this tuner leaves their rows of the embedding frozen."""
    if new_tokens:
        raise UserError(
            f"--add_tokens: the rows of {len(new_tokens)} new tokens must be trained and --sft_type {sft_type} leaves "
            "the embedding frozen; choose --sft_type lora or full"
        )


def _rounded(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
