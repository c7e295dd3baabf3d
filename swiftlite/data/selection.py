"""Which rows are taken: #N sampling and the validation split, as index arrays from a seed."""

import numpy as np
from numpy.typing import NDArray


def take(rows: int, count: int | None, seed: int) -> NDArray[np.int64]:
    """Indices of `count` of `rows` rows.

    A seeded permutation of all rows is cut to `count`; beyond `rows`, the whole set is repeated and only
    the remainder is drawn, without replacement. None: every row, in order.

    Returns:
        (count,) indices, in the order drawn.
    """
    if count is None:
        return np.arange(rows)
    drawn = np.random.Generator(np.random.PCG64(seed)).permutation(rows)
    whole = np.tile(np.arange(rows), count // rows)
    return np.concatenate([whole, drawn[: count % rows]])


def hold_out(kept: NDArray[np.bool_], ratio: float, seed: int) -> NDArray[np.bool_]:
    """Which rows go to validation: a mask of the same shape, true only where `kept`.

    Every row has a seeded place in a queue, whether kept or not, and the first kept ones are held out: so
    a run with another model or max_length, which drops other rows, holds out almost the same ones.
    At least one row is held out when ratio > 0 and two rows are kept, and at least one is left.
    """
    held = np.zeros(len(kept), dtype=bool)
    total = int(kept.sum())
    if ratio <= 0 or total < 2:
        return held
    count = min(max(1, round(ratio * total)), total - 1)
    queue = np.random.Generator(np.random.PCG64(seed)).permutation(len(kept))
    held[queue[kept[queue]][:count]] = True
    return held


def expand(rows: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions in the ascending array `rows` of every entry equal to each of `wanted`, in that order.

    A wanted row that is not in `rows` (it was dropped) gives nothing; one that was split gives its pieces.
    """
    start = np.searchsorted(rows, wanted, side="left")
    counts = np.searchsorted(rows, wanted, side="right") - start
    before = np.cumsum(counts) - counts
    return np.repeat(start - before, counts) + np.arange(counts.sum())
