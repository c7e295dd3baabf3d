"""Bottleneck adapters: a small residual MLP behind the MLP of each frozen layer."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.models.layers import find_layers
from swiftlite.tuners.added import AddedModules

_MLP_NAMES = ("mlp", "feed_forward", "ffn", "block_sparse_moe")
_ACTS = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu, "tanh": torch.tanh}


class Bottleneck(nn.Module):
    """x + up(act(down(x))) (Houlsby et al., arXiv 1902.00751, figure 2), in the precision of x."""

    def __init__(self, width: int, length: int, act: str, init: str):
        super().__init__()
        self.down, self.up, self.act = nn.Linear(width, length), nn.Linear(length, width), _ACTS[act]
        for linear in (self.down, self.up):
            nn.init.xavier_uniform_(linear.weight)
            # Xavier's start is ms-swift's, with its nearly zero biases.
            nn.init.normal_(linear.bias, std=1e-6) if init == "xavier" else nn.init.zeros_(linear.bias)
        if init == "identity":
            nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        down, up = self.down, self.up
        inner = self.act(F.linear(x, down.weight.to(x.dtype), down.bias.to(x.dtype)))
        return x + F.linear(inner, up.weight.to(x.dtype), up.bias.to(x.dtype))


class WithBottleneck(nn.Module):
    """A layer's MLP with an adapter behind it."""

    def __init__(self, base: nn.Module, adapter: Bottleneck):
        super().__init__()
        self.base, self.adapter = base, adapter

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = self.base(*args, **kwargs)
        # Some mixtures of experts return their router's logits too.
        return (self.adapter(out[0]), *out[1:]) if isinstance(out, tuple) else self.adapter(out)


class AdapterTuner(AddedModules):
    """One bottleneck a layer, behind its MLP (where ms-swift has it; the paper has one behind attention too)."""

    name: ClassVar[str] = "adapter"

    def settings(self) -> dict[str, Any]:
        o = self.config.adapter
        return {"adapter_length": o.adapter_length, "adapter_act": o.adapter_act, "adapter_init": o.adapter_init}

    @staticmethod
    def attach(model: PreTrainedModel, settings: dict[str, Any]) -> None:
        """Puts an adapter, in float32, behind each layer's MLP.

        Raises:
            UserError: the layers have no MLP of a known name.
        """
        width = model.config.get_text_config().hidden_size
        layers = find_layers(model) or ()
        for layer in layers:
            place = next((name for name in _MLP_NAMES if isinstance(getattr(layer, name, None), nn.Module)), None)
            if place is None:
                raise UserError(
                    f"--sft_type adapter: {type(layer).__name__} has no MLP called {' or '.join(_MLP_NAMES)} to put an "
                    "adapter behind; choose another --sft_type"
                )
            mlp = getattr(layer, place)
            with torch.device(next(layer.parameters()).device):
                adapter = Bottleneck(width, *(settings[f"adapter_{what}"] for what in ("length", "act", "init")))
            setattr(layer, place, WithBottleneck(mlp, adapter))
