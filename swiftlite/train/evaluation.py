"""Loss over a validation set: in training, and alone."""

import math

import torch

from swiftlite.data.sampler import EpochPlan
from swiftlite.parallel.strategy import SingleDevice
from swiftlite.speed.loss import LossModule, loss_inputs
from swiftlite.train.batches import Collator, stream


@torch.no_grad()
def eval_loss(
    loss: LossModule, val: Collator, strategy: SingleDevice, batch_size: int, *, only_first: bool = False
) -> float:
    """Nats per trained token over all rows, longest rows first so that too little memory shows at once.

    Args:
        loss: not wrapped: DDP's forward would synchronise buffers and count on backwards.
        only_first: stop after one batch, whose loss then means nothing.
    """
    loss.eval()
    plan = EpochPlan(
        val.dataset.lengths,
        val.dataset.trained,
        micro_batch_size=batch_size,
        accumulation=1,
        world_size=strategy.world.size,
        seed=0,
        epoch=0,
        shuffle=False,
        group_by_length=True,
    )
    total = torch.zeros((), dtype=torch.float64, device=strategy.device)
    for batches in stream(val, plan, 0, strategy.world.rank):
        # Evaluation comes seldom and in other shapes than training: what is not compiled yet runs as it is.
        with strategy.autocast(), torch.compiler.set_stance("eager_on_recompile"):
            for batch in batches.micro_batches:
                total += loss(**loss_inputs(batch))
        if only_first:
            break
    return strategy.sum([total.item()])[0] / float(val.dataset.trained.sum())


def eval_record(loss: float, val: Collator, val_bytes: int | None) -> dict[str, float]:
    """What is reported of an evaluation: the loss, perplexity, and for texts of known size bits per byte.

    Bits per byte: all nats of the texts, their end tokens included, over ln 2 and their UTF-8 bytes.
    """
    record = {"eval_loss": loss, "eval_perplexity": math.exp(min(loss, 700.0))}
    if val_bytes:
        record["eval_bits_per_byte"] = loss * float(val.dataset.trained.sum()) / (math.log(2) * val_bytes)
    return record
