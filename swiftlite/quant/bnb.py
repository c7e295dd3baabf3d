"""Frozen linear layers in 4 bits (nf4 with double quantisation) by bitsandbytes, as QLoRA has them."""

from collections.abc import Iterable

import torch
from torch import nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError


def to_nf4(model: PreTrainedModel, layers: Iterable[nn.Module], device: torch.device) -> int:
    """Replaces the linear layers inside `layers` (Dettmers et al., arXiv 2305.14314); returns how many weights.

    One layer at a time, so that both storages of only one are in memory.

    Raises:
        UserError: bitsandbytes is missing.
    """
    try:
        from bitsandbytes.nn import Linear4bit
    except ImportError as error:
        raise UserError(f"--quant_method bnb needs bitsandbytes: pip install bitsandbytes ({error})") from error
    stored = 0
    for layer in layers:
        for name, linear in list(layer.named_modules()):
            if type(linear) is not nn.Linear:
                continue
            weight = linear.weight
            small = Linear4bit(
                linear.in_features,
                linear.out_features,
                bias=linear.bias is not None,
                compute_dtype=weight.dtype,
                compress_statistics=True,
                quant_type="nf4",
                device="meta",
            )
            small.weight = type(small.weight)(weight.data.cpu(), requires_grad=False, quant_type="nf4").to(device)  # pyrefly: ignore
            small.bias = linear.bias
            layer.set_submodule(name, small)
            stored += weight.numel()
    # What PEFT asks before it puts its 4-bit layers on them.
    model.is_loaded_in_4bit = True  # pyrefly: ignore
    return stored
