"""What the server imports that children fork from: all that training needs, and nothing that touches a GPU.

A process that once looked at a GPU leaves its forks unable to use one. Asked through NVML, PyTorch says whether there
is a GPU without looking at it.
"""

import importlib
import os
import sys
from typing import Any

os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"

# These ask GPUs what they can do while they are imported; a child that wants one imports it itself.
_LATER = ("bitsandbytes", "torchao")
_NOW = (
    "swiftlite.cli",
    "swiftlite.train.sft",
    "swiftlite.train.pt",
    "swiftlite.tuners.lora.tuner",
    "swiftlite.tuners.full.tuner",
)

modules: dict[str, Any] = sys.modules
# `None` there makes an import fail as that of a missing package does.
modules.update(dict.fromkeys(_LATER))
for name in _NOW:
    importlib.import_module(name)
for name in _LATER:
    del modules[name]
