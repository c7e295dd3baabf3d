"""swiftlite: fine-tuning recipes for language models."""

from typing import Any

__version__ = "0.1.0"

# Name -> module; imported on first use so that `import swiftlite` stays instant.
_PUBLIC = {
    "SftConfig": "swiftlite.train.config",
    "run_sft": "swiftlite.train.sft",
    "PtConfig": "swiftlite.train.config",
    "run_pt": "swiftlite.train.pt",
    "CheckConfig": "swiftlite.train.config",
    "run_check": "swiftlite.train.check",
    "InferConfig": "swiftlite.infer.config",
    "run_infer": "swiftlite.infer.run",
    "EvalConfig": "swiftlite.evaluate.config",
    "run_eval": "swiftlite.evaluate.run",
    "ExportConfig": "swiftlite.export.config",
    "run_export": "swiftlite.export.run",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'swiftlite' has no attribute {name!r}")
