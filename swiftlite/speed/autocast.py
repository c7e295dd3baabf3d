"""The precision that products run in: autocast's where it is on, else the tensors' own."""

import torch
from torch import Tensor


def autocast_dtype(kind: str) -> torch.dtype | None:
    """What autocast multiplies in on devices of that type, where it is on."""
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def product_dtype(x: Tensor) -> torch.dtype:
    """What x is multiplied in."""
    return autocast_dtype(x.device.type) or x.dtype
