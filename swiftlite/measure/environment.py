"""Where a number was made: versions, machine, commit and command line, for a run's env.json."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from swiftlite import __version__

PACKAGES = (
    *("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "datasets", "numpy"),
    *("trl", "deepspeed", "bitsandbytes", "gptqmodel", "torchao", "flash-attn", "liger-kernel", "lm-eval"),
)
SECRET_FLAGS = ("hub_token", "access_token", "auth_token", "api_key", "secret", "password")
HIDDEN = "***"


def environment_stamp() -> dict[str, Any]:
    """What another person needs to see beside a number; plain JSON types, GiB for memory.

    Imports no library: versions come from the installed metadata, and GPUs are described only when torch is
    already loaded (which initialises CUDA in this process). Values of secret flags are left out of `argv`.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "argv": hide_secrets(sys.argv),
        "swiftlite": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "os": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_cores": _usable_cores(),
        "ram_gib": _ram_gib(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        **_gpus(),
    }


def hide_secrets(argv: list[str]) -> list[str]:
    """The command line with `***` for the values of flags such as --hub_token."""
    shown = []
    hide_next = False
    for word in argv:
        flag, equals, _ = word.partition("=")
        secret = flag.startswith("-") and flag.replace("-", "_").endswith(SECRET_FLAGS)
        if hide_next and not word.startswith("--"):
            shown.append(HIDDEN)
        else:
            shown.append(f"{flag}={HIDDEN}" if secret and equals else word)
        hide_next = secret and not equals
    return shown


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout this file is tracked in, with `+changes` if files differ from it."""
    here = Path(__file__)
    # A package installed below somebody else's repository is not part of it.
    if _output("git", "-C", str(here.parent), "ls-files", "--error-unmatch", here.name) is None:
        return None
    commit = _output("git", "-C", str(here.parent), "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _output("git", "-C", str(here.parent), "status", "--porcelain", "--untracked-files=no")
    return commit + ("+changes" if changed else "")


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if match:
            return match[1]
    return platform.processor() or platform.machine()


def _usable_cores() -> int | None:
    """Cores this process may run on, which in a container or job is fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _ram_gib() -> float:
    if hasattr(os, "sysconf"):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        import psutil

        total = psutil.virtual_memory().total
    return round(total / 1024**3, 2)


def _gpus() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {"cuda": None, "gpus": []}
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "cuda": torch.version.cuda,
        "gpu_driver": _driver(),
        "gpus": [{"name": gpu.name, "memory_gib": round(gpu.total_memory / 1024**3, 2)} for gpu in found],
    }


def _driver() -> str | None:
    proc = Path("/proc/driver/nvidia/version")
    if proc.exists():
        match = re.search(r"\b\d+\.\d+(\.\d+)?\b", proc.read_text())
        return match[0] if match else None
    listed = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return listed.splitlines()[0] if listed else None


def _output(*command: str) -> str | None:
    """What the command prints, or None if it is missing, fails or takes over 5 seconds."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
