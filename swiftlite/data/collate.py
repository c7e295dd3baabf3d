"""Rows to the tensors of one forward pass: padded, joined end to end without padding, or cut into full blocks."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from swiftlite.data.tokens import Packing, Row

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """One micro-batch; `seq` counts padding too.

    Attributes:
        input_ids: (batch, seq) int64.
        position_ids: (batch, seq) int64, from 0 at each document of a row; None when each row is one document.
        attention_mask: (batch, seq) int64, 1 for real tokens; None when all rows have one length (what is
            then padded on the right is out of every real token's causal sight), when padding-free and in blocks.
        labels: (batch, seq) int64, already shifted: labels[:, t] is the target of position t, -100 where
            nothing is trained.
        weights: (batch, seq) float32, the weight of each label in the loss; 0 where labels are -100.
        cu_seqlens: (documents + 1,) int32 borders of the documents, padding-free only.
        max_seqlen: longest document in tokens, padding-free only.
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


def collate(
    rows: Sequence[Row],
    *,
    pad_token_id: int,
    padding_free: bool = False,
    pad_to_multiple_of: int = 1,
    counts: bool = True,
    packing: Packing | None = None,
) -> Batch:
    """Batch `rows` of (ids, weights).

    Args:
        pad_token_id: fills padded places; it may equal the end token, since no mask is read from ids.
        padding_free: one row of all documents, nothing padded, nothing predicted across their borders.
        pad_to_multiple_of: rounds the length of padded rows up.
        counts: False for a filler, which is computed but trains and counts nothing.
        packing: the rows are blocks, whose last token is only predicted.
    """
    if packing is not None:
        return _collate_blocks(rows, packing, pad_token_id, pad_to_multiple_of, counts)
    lengths = np.array([len(ids) for ids, _ in rows])
    longest = int(lengths.max())
    width = int(lengths.sum()) if padding_free else -(-longest // pad_to_multiple_of) * pad_to_multiple_of
    shape = (1 if padding_free else len(rows), width)
    input_ids = np.full(shape, pad_token_id, np.int64)
    labels = np.full(shape, IGNORED, np.int64)
    weights = np.zeros(shape, np.float32)
    position_ids = np.arange(width)[None]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    for number, (ids, weight) in enumerate(rows):
        line, start = (0, starts[number]) if padding_free else (number, 0)
        end = start + len(ids)
        input_ids[line, start:end] = ids
        if padding_free:
            position_ids[0, start:end] = np.arange(len(ids))
        if counts:
            labels[line, start : end - 1] = np.where(weight[1:] != 0, ids[1:], IGNORED)
            weights[line, start : end - 1] = weight[1:]
    mask = None
    if not padding_free and (lengths != lengths[0]).any():
        mask = torch.from_numpy((np.arange(width) < lengths[:, None]).astype(np.int64))
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(position_ids) if padding_free else None,
        attention_mask=mask,
        labels=torch.from_numpy(labels),
        weights=torch.from_numpy(weights),
        cu_seqlens=torch.from_numpy(starts.astype(np.int32)) if padding_free else None,
        max_seqlen=longest if padding_free else None,
        samples=len(rows) if counts else 0,
        tokens=int(lengths.sum()) if counts else 0,
        padded=input_ids.size,
        trained=float(weights.sum(dtype=np.float64)),
    )


def _collate_blocks(rows: Sequence[Row], packing: Packing, pad_token_id: int, multiple: int, counts: bool) -> Batch:
    """Blocks of `length + 1` tokens (the last of a data set may be shorter) as inputs and their next tokens."""
    read = np.array([len(ids) - 1 for ids, _ in rows])
    width = -(-int(read.max()) // multiple) * multiple
    input_ids = np.full((len(rows), width), pad_token_id, np.int64)
    labels = np.full((len(rows), width), IGNORED, np.int64)
    weights = np.zeros((len(rows), width), np.float32)
    for line, (ids, weight) in enumerate(rows):
        input_ids[line, : len(ids) - 1] = ids[:-1]
        if counts:
            labels[line, : len(ids) - 1] = np.where(weight[1:] != 0, ids[1:], IGNORED)
            weights[line, : len(ids) - 1] = weight[1:]
    position_ids = None
    if packing.isolated:
        places = np.arange(width)
        begun = np.maximum.accumulate(np.where(input_ids == packing.separator, places, 0), axis=1)
        position_ids = torch.from_numpy(places - begun)
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        position_ids=position_ids,
        attention_mask=None,
        labels=torch.from_numpy(labels),
        weights=torch.from_numpy(weights),
        cu_seqlens=None,
        max_seqlen=None,
        samples=len(rows) if counts else 0,
        tokens=int(read.sum()) if counts else 0,
        padded=input_ids.size,
        trained=float(weights.sum(dtype=np.float64)),
    )
