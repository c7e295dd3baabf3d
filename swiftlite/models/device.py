"""Which device and which precision, when the user leaves it to us."""

import torch

from swiftlite.config.errors import UserError
from swiftlite.models.config import ModelConfig

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_AMPERE = (8, 0)


def choose_device(config: ModelConfig, local_rank: int = 0) -> torch.device:
    """The device of this process.

    Raises:
        UserError: the device asked for is not there.
    """
    wanted = config.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch sees no CUDA device here; pass --device cpu or leave it to auto")
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: PyTorch sees no Apple GPU here; pass --device cpu or leave it to auto")
    return torch.device(wanted, local_rank) if wanted == "cuda" else torch.device(wanted)


def choose_dtype(config: ModelConfig, device: torch.device) -> str:
    """`bf16`, `fp16` or `fp32`: what was asked for, else the fastest precision that trains well here."""
    if config.dtype != "auto":
        return config.dtype
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.get_device_capability(device) >= _AMPERE else "fp16"


def device_name(device: torch.device) -> str:
    """What a header calls the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type.upper()} ({torch.get_num_threads()} threads)"
