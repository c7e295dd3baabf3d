"""Which rows each rank reads in each optimizer step: a pure function of (seed, epoch), nothing else kept."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

MEGA_CHUNK_STEPS = 50


@dataclass(frozen=True)
class MicroBatch:
    """Rows of one forward pass. `counts` is False for a filler, which runs so that ranks stay together
    and must weigh nothing in the loss and in the counters."""

    indices: NDArray[np.int64]
    counts: bool = True


@dataclass(frozen=True)
class Step:
    """One optimizer step: `micro_batches[rank]` in order, the same number on every rank.

    `denominator` is the trained weight of the whole step, over all ranks and micro-batches.
    """

    micro_batches: list[list[MicroBatch]]
    denominator: float


@dataclass(frozen=True)
class EpochPlan:
    """The steps of one epoch; each row is in exactly one of them.

    The rows of step k depend on the global batch (micro_batch_size * accumulation * world_size) and not on
    how it is spread, so runs on 1, 2 or 4 ranks take the same steps (under group_by_length as long as
    micro_batch_size stays the same). The last step holds what is left; ranks without rows get fillers.

    Attributes:
        lengths: (rows,) tokens of each row.
        trained: (rows,) trained weight of each row.
        group_by_length: rows are sorted by length within 50 global batches, cut into micro-batches, and
            those are shuffled; the largest one comes first, so that too little memory shows at once. Ranks
            get micro-batches of similar length at the same time.
    """

    lengths: NDArray[np.int64]
    trained: NDArray[np.float64]
    micro_batch_size: int
    accumulation: int
    world_size: int
    seed: int
    epoch: int
    shuffle: bool = True
    group_by_length: bool = False

    @property
    def global_batch(self) -> int:
        return self.micro_batch_size * self.accumulation * self.world_size

    @property
    def steps(self) -> int:
        return -(-len(self.lengths) // self.global_batch)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """(rows,) every row once, in reading order."""
        rows = len(self.lengths)
        random = np.random.Generator(np.random.PCG64([self.seed, self.epoch]))
        order = random.permutation(rows) if self.shuffle else np.arange(rows)
        return self._grouped(order, random) if self.group_by_length else order

    def step(self, k: int) -> Step:
        """Step `k` of the epoch, 0 <= k < steps; raises IndexError beyond."""
        if not 0 <= k < self.steps:
            raise IndexError(f"step {k} of an epoch of {self.steps} steps")
        rows = self.order[k * self.global_batch : (k + 1) * self.global_batch]
        size = self.micro_batch_size
        pieces = [MicroBatch(rows[at : at + size]) for at in range(0, len(rows), size)]
        if self.group_by_length:
            pieces.sort(key=lambda piece: -self._elements(piece.indices))
        # The cheapest row stands in where a rank has none left.
        filler = MicroBatch(np.array([self._shortest]), counts=False)
        pieces += [filler] * (-len(pieces) % self.world_size)
        shares = [pieces[rank :: self.world_size] for rank in range(self.world_size)]
        return Step(shares, float(self.trained[rows].sum()))

    @cached_property
    def _shortest(self) -> int:
        return int(np.argmin(self.lengths))

    def _elements(self, rows: NDArray[np.int64]) -> int:
        return int(self.lengths[rows].max()) * len(rows)

    def _grouped(self, order: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        size, mega = self.micro_batch_size, MEGA_CHUNK_STEPS * self.global_batch
        pieces = []
        for start in range(0, len(order), mega):
            chunk = order[start : start + mega]
            chunk = chunk[np.argsort(-self.lengths[chunk], kind="stable")]
            pieces += [chunk[at : at + size] for at in range(0, len(chunk), size)]
        # Only the last can be short; it stays last, so that every step but the last is full.
        short = [pieces.pop()] if len(pieces[-1]) < size else []
        if self.shuffle:
            pieces = [pieces[i] for i in random.permutation(len(pieces))]
        if pieces:
            largest = max(range(len(pieces)), key=lambda i: self._elements(pieces[i]))
            pieces[0], pieces[largest] = pieces[largest], pieces[0]
        return np.concatenate(pieces + short)
