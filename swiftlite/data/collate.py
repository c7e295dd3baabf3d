"""Rows to the tensors of one forward pass: padded, joined end to end, packed in bins, or cut into full blocks."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swiftlite.data.tokens import Packing, Row

IGNORED = -100
# Rows of so nearly equal lengths are padded, not joined: attention over a rectangle (cuDNN's causal kernel) takes about
# half the time of attention over documents of variable length, and padding costs less than that saves.
RECTANGLE_WASTE = 0.02
# A lone row in a bin: attention over the whole bin at twice the speed is cheaper from 71 % on, a square root of a half.
_MOSTLY = 0.75
# Where no multiple is asked for: lengths are rounded to these many tokens, or to a share of themselves if that is more
# (but no more than the last number), so that compiled graphs meet few shapes at little cost.
_MULTIPLE, _SHARE, LARGEST_MULTIPLE = 8, 32, 128
# From this share on the head is multiplied by all positions. By arithmetic, for an H200 and 4,096 bf16 numbers each,
# collecting one and putting its gradient back takes 10 ns (five passes over it), the products of a frozen head of
# 150,000 entries 3,500 ns: what is skipped pays at once. But the copies take memory, and 5 % of a 7B model's head are
# 0.3 % of a step.
_NEARLY_ALL = 0.95


@dataclass(frozen=True)
class Batch:
    """One micro-batch; `seq` counts padding too.

    Attributes:
        input_ids: (batch, seq) int64.
        position_ids: (batch, seq) int64, from 0 at each document of a row; None when each row is one document.
        attention_mask: (batch, seq) int64, 1 for real tokens; None when all rows have (nearly) one length (what
            is then padded on the right is out of every real token's causal sight), when joined and in blocks.
        labels: (batch, seq) int64, already shifted: labels[:, t] is the target of position t, -100 where
            nothing is trained.
        weights: (batch, seq) float32, the weight of each label in the loss; 0 where labels are -100.
        cu_seqlens: (documents + 1,) int32, the borders of the documents that do not see each other, in the
            (batch * seq) tokens one after the other; padding is a document of its own. Empty documents at the end make
            its length the same in every batch of a run, for compiled graphs. None when each row is one document.
        max_seqlen: the most tokens that a document can have in this run (not in this batch); None where cu_seqlens is.
        trained_positions: (n,) int64, ascending, where labels are not -100 in the (batch * seq) tokens one after the
            other: the host knows them without waiting for a device. None when that is nearly everywhere.
        row_lengths: (batch,) int64, real tokens of each row, at its beginning; None where cu_seqlens is not.
        samples, tokens, trained: rows, real tokens and trained weight; all 0 in a filler.
        padded: elements of input_ids, which is what the computation costs.
    """

    input_ids: Tensor
    position_ids: Tensor | None
    attention_mask: Tensor | None
    labels: Tensor
    weights: Tensor
    cu_seqlens: Tensor | None
    max_seqlen: int | None
    trained_positions: Tensor | None
    row_lengths: Tensor | None
    samples: int
    tokens: int
    padded: int
    trained: float

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """A copy with its tensors on `device`; the counters stay on the host."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """A copy in page-locked memory (the DataLoader calls this)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Any) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **moved)


@dataclass(frozen=True)
class Layout:
    """What the batches of a run have in common.

    Attributes:
        pad_token_id: fills padded places; it may equal the end token, since no mask is read from ids.
        rows: rows, blocks or bins of a full micro-batch.
        length: the longest a row may be, in tokens; of blocks and bins their size.
        padding_free: rows are joined into one, unless their lengths are nearly equal.
        multiple: the length of a batch is rounded up to a multiple of it; None: a small one.
        packing: how blocks were made, for `collate_blocks`.
        most_documents: the most documents that a block or bin holds; None: not known.
    """

    pad_token_id: int
    rows: int
    length: int
    padding_free: bool = False
    multiple: int | None = None
    packing: Packing | None = None
    most_documents: int | None = 1

    @property
    def fixed_length(self) -> int:
        """Tokens that a block or bin takes up, padding included."""
        return _rounded(self.length, self.multiple or _MULTIPLE)


def collate(rows: Sequence[Row], layout: Layout, counts: bool = True) -> Batch:
    """Rows of (ids, weights), padded, or joined so that nothing is predicted across their borders.

    Args:
        counts: False for a filler, which is computed but trains and counts nothing.
    """
    lengths = np.array([len(ids) for ids, _ in rows])
    longest, total = int(lengths.max()), int(lengths.sum())
    nearly_equal = longest * len(rows) < (1 + RECTANGLE_WASTE) * total
    if layout.padding_free and not nearly_equal:
        bound = max(layout.length, layout.multiple or LARGEST_MULTIPLE)
        return _join([rows], 1, _width(total, layout), layout.rows + 1, bound, layout.pad_token_id, counts)
    width = _width(longest, layout)
    blank = _Blank((len(rows), width), layout.pad_token_id, counts)
    for line, row in enumerate(rows):
        blank.write(line, 0, row)
    mask = None
    if not layout.padding_free and (lengths != longest).any():
        mask = torch.from_numpy((np.arange(width) < lengths[:, None]).astype(np.int64))
    return blank.batch(len(rows), total, lengths, attention_mask=mask)


def collate_bins(bins: Sequence[Sequence[Row]], layout: Layout, counts: bool = True) -> Batch:
    """Bins of rows as one row, each padded at its end; missing bins are padding, so that all batches have one shape.

    Where each bin is one row that fills most of it, they stay side by side, without borders (see RECTANGLE_WASTE).
    """
    assert layout.most_documents is not None
    width, room = layout.fixed_length, layout.rows * (layout.most_documents + 1)
    if len(bins) == layout.rows and all(len(rows) == 1 and len(rows[0][0]) > _MOSTLY * width for rows in bins):
        blank = _Blank((len(bins), width), layout.pad_token_id, counts)
        for line, rows in enumerate(bins):
            blank.write(line, 0, rows[0])
        lengths = np.array([len(rows[0][0]) for rows in bins])
        return blank.batch(len(bins), int(lengths.sum()), lengths)
    return _join(bins, layout.rows, width, room, width, layout.pad_token_id, counts)


def collate_blocks(rows: Sequence[Row], layout: Layout, counts: bool = True) -> Batch:
    """Blocks of `length + 1` tokens (the last of a data set may be shorter) as inputs and their next tokens."""
    packing = layout.packing
    assert packing is not None
    read = np.array([len(ids) - 1 for ids, _ in rows])
    width = _rounded(int(read.max()), layout.multiple or _MULTIPLE)
    blank = _Blank((len(rows), width), layout.pad_token_id, counts)
    for line, (ids, weight) in enumerate(rows):
        blank.input_ids[line, : len(ids) - 1] = ids[:-1]
        blank.train(line, 0, ids, weight)
    if packing.isolated:
        places = np.arange(width)
        begins = (blank.input_ids == packing.separator) & (places < read[:, None])
        begins |= (places == 0) | (places == read[:, None])
        room = None if layout.most_documents is None else layout.rows * (layout.most_documents + 1)
        blank.isolate(np.flatnonzero(begins), room, layout.fixed_length)
    return blank.batch(len(rows), int(read.sum()), None if packing.isolated else read)


def _join(
    bins: Sequence[Sequence[Row]], slots: int, width: int, room: int, max_seqlen: int, pad_token_id: int, counts: bool
) -> Batch:
    """One row of `slots` stretches of `width` tokens, each begun by the rows of a bin and then padded."""
    blank = _Blank((1, slots * width), pad_token_id, counts)
    begins, tokens = [], 0
    for slot in range(slots):
        at = slot * width
        for row in bins[slot] if slot < len(bins) else ():
            blank.write(0, at, row)
            begins.append(at)
            at += len(row[0])
        tokens += at - slot * width
        if at < (slot + 1) * width:
            begins.append(at)
    blank.isolate(np.array(begins), room, max_seqlen)
    return blank.batch(sum(map(len, bins)), tokens, None)


class _Blank:
    """A batch of nothing but padding, to be written on; in one that does not count nothing is trained."""

    def __init__(self, shape: tuple[int, int], pad_token_id: int, counts: bool) -> None:
        self.counts = counts
        self.input_ids = np.full(shape, pad_token_id, np.int64)
        self.labels = np.full(shape, IGNORED, np.int64)
        self.weights = np.zeros(shape, np.float32)
        self._isolation: dict[str, Any] = {"position_ids": None, "cu_seqlens": None, "max_seqlen": None}

    def write(self, line: int, at: int, row: Row) -> None:
        """A row at place `at` of a line; each of its tokens is trained to predict the next."""
        ids, weight = row
        self.input_ids[line, at : at + len(ids)] = ids
        self.train(line, at, ids, weight)

    def train(self, line: int, at: int, ids: Any, weight: Any) -> None:
        """Labels and weights of a row at place `at`, shifted."""
        if self.counts:
            end = at + len(ids) - 1
            self.labels[line, at:end] = np.where(weight[1:] != 0, ids[1:], IGNORED)
            self.weights[line, at:end] = weight[1:]

    def isolate(self, begins: NDArray[Any], room: int | None, max_seqlen: int) -> None:
        """Documents begin at these places; their borders get `room` for as many (None: the next power of two)."""
        total = self.input_ids.size
        if room is None:
            room = 1 << (len(begins) - 1).bit_length()
        borders = np.full(max(room, len(begins)) + 1, total, np.int32)
        borders[: len(begins)] = begins
        positions = np.arange(total) - np.repeat(begins, np.diff(begins, append=total))
        self._isolation = {
            "position_ids": torch.from_numpy(positions.reshape(self.input_ids.shape)),
            "cu_seqlens": torch.from_numpy(borders),
            "max_seqlen": max_seqlen,
        }

    def batch(
        self, samples: int, tokens: int, row_lengths: NDArray[Any] | None, attention_mask: Tensor | None = None
    ) -> Batch:
        """What was written, as tensors: so many samples and real tokens."""
        places = np.flatnonzero(self.labels != IGNORED)
        return Batch(
            input_ids=torch.from_numpy(self.input_ids),
            attention_mask=attention_mask,
            labels=torch.from_numpy(self.labels),
            weights=torch.from_numpy(self.weights),
            trained_positions=torch.from_numpy(places) if len(places) < _NEARLY_ALL * self.labels.size else None,
            row_lengths=None if row_lengths is None else torch.from_numpy(row_lengths.astype(np.int64)),
            samples=samples if self.counts else 0,
            tokens=tokens if self.counts else 0,
            padded=self.input_ids.size,
            trained=float(self.weights.sum(dtype=np.float64)),
            **self._isolation,
        )


def _rounded(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _width(length: int, layout: Layout) -> int:
    """`length` rounded up as the layout says."""
    if layout.multiple is not None or not layout.padding_free:
        return _rounded(length, layout.multiple or _MULTIPLE)
    share = 2 ** (length.bit_length() - 1) // _SHARE
    return _rounded(length, min(max(_MULTIPLE, share), LARGEST_MULTIPLE))
