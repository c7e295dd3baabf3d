"""nano: the small model inside this package, for demos and tests without a download."""

import json
from pathlib import Path

from swiftlite.models.registry import ModelEntry, register_model

FOLDER = Path(__file__).parent.parent / "nano"

_CONFIG = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))

register_model(
    ModelEntry(
        "nano",
        "qwen2",
        {k: v for k, v in _CONFIG.items() if k != "model_type"},
        template="chatml",
        folder=str(FOLDER),
    )
)
