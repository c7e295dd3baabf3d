"""Memory: the most a run has held (CUDA's allocated and reserved, or the process's peak RSS), and a limit on it."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

GIB = 1024**3


@dataclass(frozen=True)
class PeakMemory:
    """Peak in GiB. For kind "rss" both numbers are the process's peak resident memory."""

    allocated_gib: float
    reserved_gib: float
    kind: Literal["cuda", "rss"]

    def as_dict(self) -> dict[str, float]:
        """For logs and tables, under names that say what was measured."""
        if self.kind == "rss":
            return {"peak_rss_gib": self.reserved_gib}
        return {"peak_allocated_gib": self.allocated_gib, "peak_reserved_gib": self.reserved_gib}


_UNITS = {"": GIB, "gib": GIB, "gb": 10**9, "g": GIB, "mib": 1024**2, "mb": 10**6, "m": 1024**2}


def read_size(text: str) -> int:
    """Bytes of `22GiB`, `22GB` (10^9), `22` (GiB) or `500MiB`.

    Raises:
        ValueError: it is no such size, or not above 0.
    """
    match = re.fullmatch(r"([0-9.]+)([a-z]*)", "".join(text.split()).lower())
    size = int(float(match[1]) * _UNITS[match[2]]) if match and match[2] in _UNITS else 0
    if size <= 0:
        raise ValueError(text)
    return size


def limit_memory(size: int, device: torch.device) -> None:
    """Lets PyTorch allocate no more than `size` bytes of a CUDA device in this process.

    Raises:
        ValueError: the device has less.
    """
    import torch

    total = torch.cuda.get_device_properties(device).total_memory
    if size > total:
        raise ValueError(f"the device has {total / GIB:.1f} GiB")
    torch.cuda.set_per_process_memory_fraction(size / total, device)


def grow_segments() -> None:
    """Has PyTorch's CUDA allocator extend the memory it holds instead of adding blocks that later fit nothing.

    A 7B LoRA with checkpointing then holds 13.4 GiB where it held 19.5 (docs/performance.md). Settings of the user's
    own (PYTORCH_CUDA_ALLOC_CONF) stay.
    """
    import torch

    if not any(name in os.environ for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")):
        # The one name that torch 2.11 to 2.13 have for it without a warning.
        torch._C._accelerator_setAllocatorSettings("expandable_segments:True")


def peak_memory(device: torch.device | str) -> PeakMemory:
    """The peak since `reset_peak` or the start of the process.

    Reserved is what nvidia-smi sees and what ms-swift's tables print; allocated is what tensors filled.
    """
    import torch

    device = torch.device(device)
    if device.type == "cuda":
        allocated = torch.cuda.max_memory_allocated(device) / GIB
        return PeakMemory(allocated, torch.cuda.max_memory_reserved(device) / GIB, "cuda")
    rss = _peak_rss() / GIB
    return PeakMemory(rss, rss, "rss")


def reset_peak(device: torch.device | str) -> bool:
    """Starts the peak again from what is held now; False where the system cannot (peak RSS off Linux)."""
    import torch

    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        # proc(5): writing 5 resets the high-water mark of resident memory.
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak_rss() -> int:
    """Bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss on Linux: a child starts with its parent's.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
