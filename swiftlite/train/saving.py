"""What a checkpoint holds besides training state: weights, tokenizer, generation settings, and a card."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils.logging import disable_progress_bar, enable_progress_bar

from swiftlite import __version__
from swiftlite.models.device import DTYPES
from swiftlite.models.source import CARD
from swiftlite.train.config import TrainConfig
from swiftlite.train.inputs import Inputs
from swiftlite.tuners.tuner import Tuner


@dataclasses.dataclass(frozen=True)
class WeightsWriter:
    """Writes everything that later commands, and other tools, need to open a folder by its path alone."""

    config: TrainConfig
    model: nn.Module
    tuner: Tuner
    inputs: Inputs

    def __call__(self, folder: Path, *, final: bool = False) -> None:
        """`final`: whole weights are written in the precision they will be used in, not in that of their training."""
        make_valid(self.model.generation_config)
        # Its bar for writing shards would cut through ours.
        disable_progress_bar()
        self.tuner.save(self.model, folder, self._final_dtype() if final and not self.tuner.saves_adapter else None)
        enable_progress_bar()
        self.inputs.tokenizer.chat_template = self.inputs.template.jinja()
        self.inputs.tokenizer.save_pretrained(folder)
        self._write_generation_config(folder)
        card = {
            "format": 1,
            "swiftlite": __version__,
            "base": self.inputs.source.to_card(),
            "adapter": self.tuner.saves_adapter,
            "sft_type": self.config.tuner.sft_type,
            **self.inputs.chat_card,
            "dtype": self.config.model.dtype,
            "quant_method": self.config.quant.quant_method,
            "embedding_rows": len(self.inputs.tokenizer),
        }
        (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")

    def _final_dtype(self) -> torch.dtype:
        wanted = self.config.run.save_dtype
        return DTYPES[self.config.model.dtype if wanted == "auto" else wanted]

    def _write_generation_config(self, folder: Path) -> None:
        """The trained stop tokens end generation, whatever the base's file said."""
        settings: Any = self.model.generation_config
        before = settings.eos_token_id
        before = before if isinstance(before, list) else [] if before is None else [before]
        settings.eos_token_id = list(dict.fromkeys([*self.inputs.template.stop_token_ids, *before]))
        if settings.pad_token_id is None:
            settings.pad_token_id = self.inputs.tokenizer.pad_token_id
        settings.save_pretrained(folder)


def make_valid(settings: Any) -> None:
    """Some released files give a temperature with greedy decoding, which transformers refuses to write."""
    try:
        settings.validate(strict=True)
    except ValueError:
        settings.do_sample = True
