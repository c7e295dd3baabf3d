"""Documents joined end to end and cut into full blocks: how pre-training reads text."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swiftlite.data.config import TextDataConfig
from swiftlite.data.loading import Data, Progress, describe, load_data
from swiftlite.data.stream import BEGINNING, Position, RegroupedStream, RowStream, Sample
from swiftlite.data.tokenize import adds_bos
from swiftlite.data.tokens import Packing, Row, TokenizedDataset

# More than any document has: packing cuts nothing off.
WHOLE = 2**31 - 1
# Tokens of a document of which both parts still predict something.
_SMALLEST_SPLIT = 4


def load_blocks(
    config: TextDataConfig, template: Any, *, tokenizer: Any, progress: Progress | None = None, wait: bool = False
) -> Data:
    """As `load_data`, with the documents joined and cut into blocks of `max_length` tokens.

    A single document cannot be split into training and validation documents: its end is held out instead.

    Raises:
        UserError: as `load_data`.
    """
    data = load_data(
        dataclasses.replace(config, max_length=WHOLE), template, tokenizer=tokenizer, progress=progress, wait=wait
    )
    train, val, stream = data.train, data.val, data.stream
    assert isinstance(train, TokenizedDataset) and isinstance(val, TokenizedDataset | None)
    one_document = stream is None and len(train) == 1 and train.lengths[0] >= _SMALLEST_SPLIT
    if val is None and one_document and config.split_dataset_ratio > 0:
        train, val = _split_document(train, config.split_dataset_ratio, tokenizer)
    led = adds_bos(tokenizer)
    separator = tokenizer.bos_token_id if led else tokenizer.eos_token_id
    packing = Packing(config.max_length, separator, led, config.isolate_documents)
    report = data.report | {"max_length": config.max_length, "packing": dataclasses.asdict(packing)}
    blocks, val_blocks, val_bytes = BlockDataset(train, packing), None, None
    train_bytes = train.bytes_of_texts()
    if isinstance(stream, RowStream):
        stream = BlockStream(stream, packing)
    else:
        report["train"] = describe(blocks) | {"documents": len(train)}
    if val is not None:
        val_blocks, val_bytes = BlockDataset(val, packing), val.bytes_of_texts()
        report["val"] = describe(val_blocks) | {"documents": len(val), "bytes": val_bytes}
    return Data(blocks, val_blocks, report, stream, packing, train_bytes, val_bytes)


def _split_document(
    documents: TokenizedDataset, ratio: float, tokenizer: Any
) -> tuple[TokenizedDataset, TokenizedDataset]:
    ids, weights = documents[0]
    cut = min(max(1, round(len(ids) * (1 - ratio))), len(ids) - 2)
    val = TokenizedDataset.from_rows([(ids[cut:], weights[cut:])])
    text = tokenizer.decode(ids[cut:-1].tolist(), clean_up_tokenization_spaces=False)
    val.text_bytes[:] = len(text.encode())
    return TokenizedDataset.from_rows([(ids[:cut], weights[:cut])]), val


class BlockDataset:
    """Blocks over the documents' tokens, in the documents' order; stands where a TokenizedDataset does.

    The tokens form one line: document after document, and before the first the separator, where documents do not
    begin with one themselves. Block b reads tokens [b * length, (b + 1) * length) of it and predicts each one's
    next, so every token but the line's first is predicted exactly once. The last block may be shorter.

    Attributes:
        lengths: (blocks,) int64, tokens read. trained: (blocks,) float64, the sum of the predicted tokens' weights.
        squares: (blocks,) int64, the sum of T*T over what sees itself: the block, or its isolated documents.
        rows: (blocks,) int64, all 1: what is counted is blocks.
        most_documents: the most parts that do not see each other in a block.
    """

    def __init__(self, documents: TokenizedDataset, packing: Packing) -> None:
        self.documents, self.packing = documents, packing
        begins = np.concatenate([[0], np.cumsum(documents.lengths)])
        # Without a BOS everything stands one place further right, behind the first separator.
        lead = 0 if packing.led else 1
        self._begins = begins + lead
        self._runs = documents.runs()
        self._run_begins = np.cumsum([lead, *(end - start for _, start, end in self._runs)])
        tokens = int(self._begins[-1])
        blocks = -(-(tokens - 1) // packing.length)
        borders = np.minimum(np.arange(blocks + 1) * packing.length, tokens - 1)
        self.lengths = np.diff(borders)
        self.trained = self.lengths.astype(np.float64)
        if packing.led:
            # A BOS is given, not predicted.
            given = self._begins[1:-1]
            self.trained -= np.bincount((given - 1) // packing.length, minlength=blocks)
        self.squares = self.lengths**2
        self.rows = np.ones(blocks, np.int64)
        self.most_documents = 1
        if packing.isolated:
            starts = self._begins[:-1] if packing.led else self._begins[:-1] - 1
            cuts = np.union1d(borders, starts)
            parts = np.diff(cuts)
            block = cuts[:-1] // packing.length
            self.squares = np.bincount(block, weights=parts.astype(np.float64) ** 2, minlength=blocks).astype(np.int64)
            self.most_documents = int(np.bincount(block).max())

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Row:
        """(ids, weights) of one block and its next token: `length + 1` of each."""
        start = index * self.packing.length
        end = start + int(self.lengths[index]) + 1
        ids = np.empty(end - start, np.int32)
        weights = np.empty(end - start, np.float16)
        at = start
        if not self.packing.led and start == 0:
            ids[0], weights[0] = self.packing.separator, 0.0
            at = 1
        run = int(np.searchsorted(self._run_begins, at, side="right")) - 1
        while at < end:
            shard, first, last = self._runs[run]
            first += at - int(self._run_begins[run])
            take = min(end - at, last - first)
            ids[at - start : at - start + take] = shard.ids[first : first + take]
            weights[at - start : at - start + take] = shard.weights[first : first + take]
            at, run = at + take, run + 1
        return ids, weights


class _Held(TokenizedDataset):
    """Blocks of a stream, in memory: their last token is not read."""

    most_documents = None

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.lengths = self.lengths - 1
        self.squares = self.lengths**2


@dataclasses.dataclass
class _Line:
    """The tokens read from a stream and not yet in a block, with the place of each document's first one."""

    parts: list[tuple[NDArray[np.int32], NDArray[np.float16], int, int]] = dataclasses.field(default_factory=list)
    tokens: int = 0

    def add(self, ids: NDArray[np.int32], weights: NDArray[np.float16], row: int, offset: int) -> None:
        self.parts.append((ids, weights, row, offset))
        self.tokens += len(ids)

    def take(self, count: int) -> tuple[NDArray[np.int32], NDArray[np.float16], Position]:
        """The first `count` + 1 tokens, of which the last stays; and where that one stands."""
        ids, weights = np.empty(count + 1, np.int32), np.empty(count + 1, np.float16)
        filled, used = 0, 0
        while True:
            part_ids, part_weights, row, offset = self.parts[used]
            take = min(count + 1 - filled, len(part_ids))
            ids[filled : filled + take] = part_ids[:take]
            weights[filled : filled + take] = part_weights[:take]
            filled += take
            if filled > count:
                break
            used += 1
        kept = take - 1
        self.parts[: used + 1] = [(part_ids[kept:], part_weights[kept:], row, offset + kept)]
        self.tokens -= count
        return ids, weights, Position(row, offset + kept)


class BlockStream(RegroupedStream):
    """A RowStream's documents as blocks; a position is the row and the token in it that the next block begins with."""

    def __init__(self, rows: RowStream, packing: Packing) -> None:
        super().__init__(rows)
        self.packing = packing

    def dataset(self, samples: Sequence[Sample]) -> TokenizedDataset:
        held = _Held.from_rows([(sample.ids, sample.weights) for sample in samples])
        if self.packing.isolated:
            held.squares = np.array([_squares(sample.ids[:-1], self.packing.separator) for sample in samples])
        return held

    def samples(self, seed: int, epoch: int, start: Position = BEGINNING) -> Iterator[Sample]:
        """The blocks of a pass from `start` on; the last one may be shorter."""
        line, length = _Line(), self.packing.length
        skip = start.pieces
        for document in self.rows.samples(seed, epoch, Position(start.rows)):
            row = document.end.rows - 1
            if start == BEGINNING and not line.tokens and not self.packing.led:
                line.add(np.array([self.packing.separator], np.int32), np.zeros(1, np.float16), row, -1)
            line.add(document.ids[skip:], document.weights[skip:], row, skip)
            skip = 0
            while line.tokens > length:
                yield Sample(*line.take(length))
        if line.tokens > 1:
            ids, weights, end = line.take(line.tokens - 1)
            yield Sample(ids, weights, end)


def _squares(ids: NDArray[np.int32], separator: int) -> int:
    cuts = np.unique(np.concatenate([[0], np.flatnonzero(ids == separator), [len(ids)]]))
    return int((np.diff(cuts) ** 2).sum())
