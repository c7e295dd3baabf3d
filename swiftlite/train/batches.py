"""Streams the micro-batches of an epoch to the device, collated two steps ahead in a background thread."""

import dataclasses
import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from swiftlite.data.bins import BinDataset
from swiftlite.data.collate import Batch, Layout, collate, collate_bins, collate_blocks
from swiftlite.data.config import DataConfig
from swiftlite.data.sampler import EpochPlan, MicroBatch
from swiftlite.data.stream import BEGINNING, Position, StreamPlan
from swiftlite.data.tokens import Packing, Samples

Plan = EpochPlan | StreamPlan

_STEPS_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class StepBatches:
    """One optimizer step of this process.

    Attributes:
        micro_batches: collated, on the device.
        denominator: sum of the trained weights of the whole step, over all processes.
        samples (rows, or blocks), tokens, trained, squared_lengths: counts of the whole step, over all processes.
        padded: padding elements, of this process only.
        position: where a stream stands behind this step.
    """

    micro_batches: list[Batch]
    denominator: float
    samples: int
    tokens: int
    trained: int
    squared_lengths: int
    padded: int
    position: Position = BEGINNING


class Collator:
    """Makes batches for one device, of the rows of one dataset or of those a stream brings.

    Args:
        rows: rows, blocks or bins in a full micro-batch.
        packing: how the samples were made, if they are blocks.
    """

    def __init__(
        self,
        dataset: Samples,
        config: DataConfig,
        pad_token_id: int,
        device: torch.device,
        rows: int,
        packing: Packing | None = None,
    ):
        self.dataset = dataset
        self.device = device
        self.layout = _layout(config, pad_token_id, rows, packing)

    def batch(self, dataset: Samples, rows: MicroBatch) -> Batch:
        """Rows of `dataset` as one batch, in pinned memory when it goes to a GPU."""
        layout = dataclasses.replace(self.layout, most_documents=dataset.most_documents)
        if isinstance(dataset, BinDataset):
            batch = collate_bins([dataset.members(i) for i in rows.indices], layout, rows.counts)
        else:
            make = collate if layout.packing is None else collate_blocks
            batch = make([dataset[i] for i in rows.indices], layout, rows.counts)
        return batch.pin_memory() if self.device.type == "cuda" else batch

    def step(self, plan: Plan, k: int, rank: int) -> StepBatches:
        """Step `k` of the epoch, still on the host."""
        if isinstance(plan, StreamPlan):
            dataset, step, position = plan.read(k)
        else:
            dataset, step, position = self.dataset, plan.step(k), BEGINNING
        counted = [i for ranks in step.micro_batches for m in ranks if m.counts for i in m.indices]
        batches = [self.batch(dataset, m) for m in step.micro_batches[rank]]
        return StepBatches(
            batches,
            step.denominator,
            samples=int(dataset.rows[counted].sum()),
            tokens=int(dataset.lengths[counted].sum()),
            trained=int(dataset.trained[counted].sum()),
            squared_lengths=int(dataset.squares[counted].sum()),
            padded=sum(b.padded - b.tokens for b in batches),
            position=position,
        )


def _layout(config: DataConfig, pad_token_id: int, rows: int, packing: Packing | None) -> Layout:
    return Layout(
        pad_token_id,
        rows,
        config.max_length,
        padding_free=bool(config.padding_free),
        multiple=config.pad_to_multiple_of,
        packing=packing,
    )


def stream(collator: Collator, plan: Plan, start: int, rank: int) -> Iterator[StepBatches]:
    """The steps of an epoch from `start` on, two of them collated (of a stream: read, too) ahead of the one that runs.

    Copies to a GPU are queued on its main stream, from pinned memory, without waiting for them. A stream of their own
    would gain nothing: the ids of a step are some 100 KB, which take about 10 microseconds.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="collate")
    try:
        ahead = deque(pool.submit(_step_or_none, collator, plan, k, rank) for k in range(start, start + _STEPS_AHEAD))
        for following in itertools.count(start + _STEPS_AHEAD):
            ready = ahead.popleft().result()
            if ready is None:
                return
            ahead.append(pool.submit(_step_or_none, collator, plan, following, rank))
            moved = [b.to(collator.device, non_blocking=True) for b in ready.micro_batches]
            yield dataclasses.replace(ready, micro_batches=moved)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _step_or_none(collator: Collator, plan: Plan, k: int, rank: int) -> StepBatches | None:
    """Step `k`, or None behind the last one, which a stream knows only once it has read it."""
    return collator.step(plan, k, rank) if k < plan.steps else None
