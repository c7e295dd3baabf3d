"""The training loss: next-token cross-entropy, weighted by token, over a denominator of the whole step."""

import torch
import torch.nn.functional as F
from torch import nn

from swiftlite.data.collate import Batch


def token_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """The sum of weighted next-token losses of a batch, in nats (0-d float32).

    The caller divides by the sum of the weights of *all* micro-batches of the step on all processes, so the
    result does not depend on how rows are spread over micro-batches and devices.
    `batch.labels` (batch, seq) are shifted already: position t holds the id that follows it, or -100.
    """
    logits = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        # Padded rows count from 0, which is the default; giving them would make transformers look for documents.
        position_ids=None if batch.cu_seqlens is None else batch.position_ids,
        use_cache=False,
    ).logits
    losses = F.cross_entropy(logits.float().flatten(0, 1), batch.labels.flatten(), ignore_index=-100, reduction="none")
    return (losses * batch.weights.flatten()).sum()
