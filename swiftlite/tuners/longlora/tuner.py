"""LongLoRA: LoRA with trained embeddings and norms, under shifted sparse attention."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from swiftlite.speed.shifted_attention import use_shifted_attention
from swiftlite.tuners.lora.tuner import LoraTuner


class LongLoraTuner(LoraTuner):
    """LongLoRA (Chen et al., arXiv 2309.12307).

    What is saved is a LoRA adapter: evaluation and inference read whole documents, with any attention.
    """

    def apply(self, model: PreTrainedModel, new_tokens: Sequence[int] = ()) -> nn.Module:
        # Rows of new tokens are part of the embedding, all of which is trained.
        wrapped = super().apply(model)
        use_shifted_attention(model)
        return wrapped

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        wrapped = super().load(model, folder)
        use_shifted_attention(model)
        return wrapped
