"""Tokenised rows as flat arrays: memory-mapped from disk, selected and joined without copying."""

import hashlib
import math
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import ArrayLike, NDArray

DTYPES = {
    "ids": np.dtype(np.int32),  # every token, row after row
    "weights": np.dtype(np.float16),  # its weight in the loss, 0 where it is not trained
    "offsets": np.dtype(np.int64),  # where each sample starts; one more at the end
    "trained": np.dtype(np.float64),  # sum of the sample's weights[1:]
    "rows": np.dtype(np.int64),  # index of the source row the sample came from, ascending
    "hashes": np.dtype(np.uint64),  # of the sample's ids, to find duplicates
    "text_bytes": np.dtype(np.int64),  # UTF-8 bytes of a plain text kept whole; 0 for anything else
}

Row = tuple[NDArray[np.int32], NDArray[np.float16]]


class Samples(Protocol):
    """What training reads: a TokenizedDataset, or blocks or bins made of one (see there what the fields are)."""

    lengths: NDArray[np.int64]
    trained: NDArray[np.float64]
    squares: NDArray[np.int64]
    rows: NDArray[np.int64]

    @property
    def most_documents(self) -> int | None: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Row: ...


@dataclass(frozen=True)
class Packing:
    """How documents were joined into blocks.

    Attributes:
        length: tokens that a block reads; it holds one more, which is the next block's first and here only predicted.
        separator: the token that stands before each document's text: its BOS, else the end token of the one before.
        led: documents bring the separator themselves, as their BOS.
        isolated: documents of a block do not see each other, and positions count from 0 in each.
    """

    length: int
    separator: int
    led: bool
    isolated: bool


def trained_weight(weights: NDArray[np.float16]) -> float:
    """What a sample adds to the loss denominator: the first token is never predicted, so not counted."""
    return float(weights[1:].sum(dtype=np.float64))


def _hash(ids: NDArray[np.int32]) -> int:
    return int.from_bytes(hashlib.blake2b(ids.tobytes(), digest_size=8).digest(), "little")


class Shard:
    """The arrays of one cache entry."""

    def __init__(self, arrays: dict[str, NDArray[Any]], folder: Path | None = None) -> None:
        self.ids, self.weights, self.offsets = arrays["ids"], arrays["weights"], arrays["offsets"]
        self.trained, self.rows, self.hashes = arrays["trained"], arrays["rows"], arrays["hashes"]
        self.text_bytes = arrays["text_bytes"]
        self.folder = folder

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the arrays of `folder`.

        Raises:
            OSError, ValueError: a file is missing or damaged.
        """
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in DTYPES}
        shard = cls(arrays, folder)
        samples = len(shard.offsets) - 1
        numbers = (shard.trained, shard.rows, shard.hashes, shard.text_bytes)
        whole = all(len(array) == samples for array in numbers)
        if not whole or not shard.offsets[-1] == len(shard.ids) == len(shard.weights):
            raise ValueError(f"{folder} is damaged")
        return shard

    def __reduce__(self) -> tuple[Any, ...]:
        # A memory map pickles as its content; loader processes open the files again instead.
        if self.folder is not None:
            return (Shard.open, (self.folder,))
        return (Shard, ({name: getattr(self, name) for name in DTYPES},))


class TokenizedDataset:
    """Samples of token ids and loss weights; `ds[i]` is (ids (seq,) int32, weights (seq,) float16).

    Attributes:
        lengths: (samples,) int64, tokens of each sample.
        trained: (samples,) float64, the sum of each sample's weights[1:]: the tokens (by weight) that the
            loss predicts after the shift by one.
        hashes: (samples,) uint64 of the ids.
        text_bytes: (samples,) int64, UTF-8 bytes of a plain text kept whole; 0 for anything else.
        squares: (samples,) int64, the sum of T*T over each sample's documents of T tokens.
        rows: (samples,) int64, rows that each sample counts for: 1, and in bins those it holds.
        most_documents: the most documents, of those that do not see each other, that a sample holds; None: not known.
    """

    most_documents: int | None = 1

    def __init__(self, shards: Sequence[Shard], shard_of: NDArray[Any], item: NDArray[Any]) -> None:
        self._shards = list(shards)
        self._shard_of = shard_of
        self._item = item
        self.lengths = self._gather(lambda shard: np.diff(shard.offsets), np.dtype(np.int64))
        self.trained = self._gather(lambda shard: shard.trained, DTYPES["trained"])
        self.hashes = self._gather(lambda shard: shard.hashes, DTYPES["hashes"])
        self.text_bytes = self._gather(lambda shard: shard.text_bytes, DTYPES["text_bytes"])
        self.squares = self.lengths**2
        self.rows = np.ones(len(self._item), np.int64)

    @classmethod
    def of_shard(cls, shard: Shard) -> Self:
        samples = len(shard.offsets) - 1
        return cls([shard], np.zeros(samples, np.int32), np.arange(samples))

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[ArrayLike, ArrayLike]]) -> Self:
        """A data set in memory from (ids, weights) pairs."""
        ids = [np.asarray(i, DTYPES["ids"]) for i, _ in rows]
        weights = [np.asarray(w, DTYPES["weights"]) for _, w in rows]
        arrays = {
            "ids": np.concatenate([np.empty(0, DTYPES["ids"]), *ids]),
            "weights": np.concatenate([np.empty(0, DTYPES["weights"]), *weights]),
            "offsets": np.cumsum([0, *(len(i) for i in ids)], dtype=DTYPES["offsets"]),
            "trained": np.array([trained_weight(w) for w in weights], DTYPES["trained"]),
            "rows": np.arange(len(ids)),
            "hashes": np.array([_hash(i) for i in ids], DTYPES["hashes"]),
            "text_bytes": np.zeros(len(ids), DTYPES["text_bytes"]),
        }
        return cls.of_shard(Shard(arrays))

    def __len__(self) -> int:
        return len(self._item)

    def __getitem__(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.float16]]:
        shard, item = self._shards[self._shard_of[index]], self._item[index]
        start, end = shard.offsets[item], shard.offsets[item + 1]
        return np.asarray(shard.ids[start:end]), np.asarray(shard.weights[start:end])

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> "TokenizedDataset":
        """The samples at `indices`, in that order; an index may come more than once."""
        indices = np.asarray(indices, dtype=np.int64)
        return TokenizedDataset(self._shards, self._shard_of[indices], self._item[indices])

    def bytes_of_texts(self) -> int | None:
        """UTF-8 bytes of all samples; None where one is not a whole plain text."""
        sizes = self.text_bytes
        return int(sizes.sum()) if len(sizes) and (sizes > 0).all() else None

    def runs(self) -> list[tuple[Shard, int, int]]:
        """The samples' tokens in order, as (shard, first, last + 1) spans; samples that lie side by side are one."""
        spans: list[tuple[Shard, int, int]] = []
        for number, item in zip(self._shard_of.tolist(), self._item.tolist()):
            shard = self._shards[number]
            start, end = int(shard.offsets[item]), int(shard.offsets[item + 1])
            if spans and spans[-1][0] is shard and spans[-1][2] == start:
                spans[-1] = shard, spans[-1][1], end
            else:
                spans.append((shard, start, end))
        return spans

    def duplicates(self) -> int:
        """Samples whose ids an earlier sample has too; a sample drawn several times over is one sample."""
        places = (self._shard_of.astype(np.int64) << 40) | self._item
        _, drawn = np.unique(places, return_index=True)
        return len(drawn) - len(np.unique(self.hashes[drawn]))

    def _gather(self, values: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
        out = np.empty(len(self._item), dtype)
        for number, shard in enumerate(self._shards):
            here = self._shard_of == number
            out[here] = values(shard)[self._item[here]]
        return out


def concatenate(parts: Sequence[TokenizedDataset]) -> TokenizedDataset:
    """All samples of `parts`, one data set after the other."""
    shards: list[Shard] = []
    shard_of, item = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for part in parts:
        shard_of.append(part._shard_of + np.int32(len(shards)))
        item.append(part._item)
        shards += part._shards
    return TokenizedDataset(shards, np.concatenate(shard_of), np.concatenate(item))


class TokenWriter:
    """Streams samples into the .npy files of a folder; only a few numbers a sample stay in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._streams = {name: (folder / f"{name}.npy").open("w+b") for name in ("ids", "weights")}
        self._numbers = {
            "offsets": array("q", [0]),
            "trained": array("d"),
            "rows": array("q"),
            "hashes": array("Q"),
            "text_bytes": array("q"),
        }
        for name in self._streams:
            self._header(name)

    def add(self, ids: NDArray[np.int32], weights: NDArray[np.float16], row: int, text_bytes: int = 0) -> float:
        """Append one sample of source row `row`; returns its trained weight."""
        trained = trained_weight(weights)
        self._streams["ids"].write(ids.tobytes())
        self._streams["weights"].write(weights.tobytes())
        self._numbers["offsets"].append(self._numbers["offsets"][-1] + len(ids))
        self._numbers["trained"].append(trained)
        self._numbers["rows"].append(row)
        self._numbers["hashes"].append(_hash(ids))
        self._numbers["text_bytes"].append(text_bytes)
        return trained

    def finish(self) -> None:
        """Write what is left and wait until the disk has everything."""
        for name, file in self._streams.items():
            self._header(name)
            file.flush()
            os.fsync(file.fileno())
        for name, numbers in self._numbers.items():
            with (self._folder / f"{name}.npy").open("wb") as file:
                np.save(file, np.frombuffer(numbers, DTYPES[name]))
                file.flush()
                os.fsync(file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._streams.values():
            file.close()

    def _header(self, name: str) -> None:
        # NumPy pads the header so that the first axis can grow in place: it is written again at the end.
        file, tokens = self._streams[name], self._numbers["offsets"][-1]
        file.seek(0)
        npy.write_array_header_1_0(file, {"descr": DTYPES[name].str, "fortran_order": False, "shape": (tokens,)})


@dataclass(frozen=True)
class TokenStatistics:
    """Lengths in tokens: mean, population standard deviation, smallest, largest."""

    mean: float
    std: float
    min: int
    max: int

    @classmethod
    def of(cls, lengths: NDArray[np.int64]) -> Self:
        if len(lengths) == 0:
            return cls(math.nan, math.nan, 0, 0)
        return cls(float(lengths.mean()), float(lengths.std()), int(lengths.min()), int(lengths.max()))

    def line(self) -> str:
        """ms-swift's wording: `3234.4±2547.5, min=91, max=19548`."""
        return f"{self.mean:.1f}±{self.std:.1f}, min={self.min}, max={self.max}"
