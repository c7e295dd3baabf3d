"""Streams the micro-batches of an epoch to the device, collated one step ahead in a background thread."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from swiftlite.data.collate import Batch, collate
from swiftlite.data.config import DataConfig
from swiftlite.data.sampler import EpochPlan, MicroBatch
from swiftlite.data.tokens import TokenizedDataset


@dataclasses.dataclass(frozen=True)
class StepBatches:
    """One optimizer step of this process.

    Attributes:
        micro_batches: collated, on the device.
        denominator: sum of the trained weights of the whole step, over all processes.
        samples, tokens, trained, squared_lengths: counts of the whole step, over all processes.
        padded: padding elements, of this process only.
    """

    micro_batches: list[Batch]
    denominator: float
    samples: int
    tokens: int
    trained: int
    squared_lengths: int
    padded: int


class Collator:
    """Makes batches of rows of one dataset for one device."""

    def __init__(self, dataset: TokenizedDataset, config: DataConfig, pad_token_id: int, device: torch.device):
        self.dataset = dataset
        self.config = config
        self.pad_token_id = pad_token_id
        self.device = device

    def batch(self, rows: MicroBatch) -> Batch:
        """The rows as one batch, in pinned memory when it goes to a GPU."""
        batch = collate(
            [self.dataset[i] for i in rows.indices],
            pad_token_id=self.pad_token_id,
            padding_free=self.config.padding_free,
            pad_to_multiple_of=self.config.pad_to_multiple_of,
            counts=rows.counts,
        )
        return batch.pin_memory() if self.device.type == "cuda" else batch

    def step(self, plan: EpochPlan, k: int, rank: int) -> StepBatches:
        """Step `k` of the epoch, still on the host."""
        step = plan.step(k)
        counted = [i for ranks in step.micro_batches for m in ranks if m.counts for i in m.indices]
        lengths = self.dataset.lengths[counted]
        batches = [self.batch(m) for m in step.micro_batches[rank]]
        return StepBatches(
            batches,
            step.denominator,
            samples=len(counted),
            tokens=int(lengths.sum()),
            trained=int(self.dataset.trained[counted].sum()),
            squared_lengths=int((lengths.astype("int64") ** 2).sum()),
            padded=sum(b.padded - b.tokens for b in batches),
        )


def stream(collator: Collator, plan: EpochPlan, start: int, rank: int) -> Iterator[StepBatches]:
    """The steps of an epoch from `start` on, the next one collated while this one runs."""
    with ThreadPoolExecutor(1, thread_name_prefix="collate") as pool:
        ahead: Future[StepBatches] | None = None
        for k in range(start, plan.steps):
            ready = ahead.result() if ahead else collator.step(plan, k, rank)
            ahead = pool.submit(collator.step, plan, k + 1, rank) if k + 1 < plan.steps else None
            moved = [b.to(collator.device, non_blocking=True) for b in ready.micro_batches]
            yield dataclasses.replace(ready, micro_batches=moved)
