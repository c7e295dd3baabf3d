"""Rows read, tokenised and put into steps while training goes on, for data larger than memory; resumes exactly."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from swiftlite.config.errors import UserError
from swiftlite.data.readers import Record
from swiftlite.data.sampler import EpochPlan, Step
from swiftlite.data.sources import Source
from swiftlite.data.tokenize import Encoder, Report, Rules, encode_chunk, place, require_rows
from swiftlite.data.tokens import Samples, TokenizedDataset, trained_weight

CHUNK = 64
PREVIEW_ROWS = 1000

Tokens = tuple[NDArray[np.int32], NDArray[np.float16]]


class Position(NamedTuple):
    """How far a pass has come: rows used up, in the order they are trained on, and pieces of the row after them
    (of blocks: tokens of it; of bins: bins of the rows after them, which were packed together)."""

    rows: int = 0
    pieces: int = 0


BEGINNING = Position()


class Sample(NamedTuple):
    """One training sample, and the position behind it; of a bin also the lengths of its rows."""

    ids: NDArray[np.int32]
    weights: NDArray[np.float16]
    end: Position
    lengths: tuple[int, ...] = ()


@dataclass
class _Pieces:
    """A Sink in memory: the samples of a few rows, by row."""

    rows: dict[int, list[Tokens]] = field(default_factory=dict)

    def add(self, ids: NDArray[np.int32], weights: NDArray[np.float16], row: int, text_bytes: int = 0) -> float:
        self.rows.setdefault(row, []).append((ids, weights))
        return trained_weight(weights)


@dataclass
class _Counted:
    """One source's Report, and the sum of its squared lengths (a list of lengths would outgrow the memory)."""

    report: Report = field(default_factory=Report)
    squares: int = 0

    def add(self, lengths: list[int]) -> None:
        report = self.report
        for length in lengths:
            report.min = min(report.min, length) if report.samples else length
            report.max = max(report.max, length)
            report.samples += 1
            report.tokens += length
            self.squares += length * length

    def finished(self) -> Report:
        """The report, with the mean and the deviation of the lengths so far."""
        report = self.report
        if report.samples:
            report.mean = report.tokens / report.samples
            report.std = math.sqrt(self.squares * report.samples - report.tokens**2) / report.samples
        return report


class RowStream:
    """The rows of several sources, one after the other, shuffled within a buffer.

    The order of a pass is a pure function of (seed, epoch) and of the rows before: to go on at a position, rows
    are read again up to it, but not tokenised.

    Args:
        sources: `#N` takes the first N rows of a source, and begins it again where it has fewer.
        rules: one for each source (they may rename columns differently).
        shuffle_buffer: rows held back; 0 keeps the order of the sources.
    """

    def __init__(self, sources: list[Source], rules: list[Rules], encoder: Encoder, shuffle_buffer: int) -> None:
        self.sources, self.rules, self.encoder = sources, rules, encoder
        self.shuffle_buffer = shuffle_buffer
        self._counted = [_Counted() for _ in sources]

    @property
    def name(self) -> str:
        """The sources as the user wrote them."""
        return " ".join(source.spec for source in self.sources)

    def reports(self) -> list[Report]:
        """What became of the rows of each source since the stream was made, with those read ahead."""
        return [counted.finished() for counted in self._counted]

    def samples(self, seed: int, epoch: int, start: Position = BEGINNING) -> Iterator[Sample]:
        """The samples of a pass from `start` on.

        Raises:
            UserError: a row that cannot be read, under on_bad_row="stop".
        """
        random = np.random.Generator(np.random.PCG64([seed, epoch]))
        rows = enumerate(_shuffled(self._rows(), self.shuffle_buffer, random))
        for row, pieces in self._tokenised(islice(rows, start.rows, None)):
            first = start.pieces if row == start.rows else 0
            for number, (ids, weights) in enumerate(pieces[first:], first + 1):
                end = Position(row + 1) if number == len(pieces) else Position(row, number)
                yield Sample(ids, weights, end)

    def dataset(self, samples: Sequence[Sample]) -> TokenizedDataset:
        """Samples of this stream as a data set."""
        return TokenizedDataset.from_rows([(sample.ids, sample.weights) for sample in samples])

    def preview(self) -> tuple[TokenizedDataset, list[Report]]:
        """The first rows of each source, in their order, and what became of them.

        Raises:
            UserError: a row that cannot be read, or none that can be trained on.
        """
        first = RowStream(self.sources, self.rules, self.encoder, 0)
        tokens: list[Tokens] = []
        for number, source in enumerate(self.sources):
            rows = enumerate((number, record) for record in islice(_repeated(source), PREVIEW_ROWS))
            tokens += [piece for _, pieces in first._tokenised(rows) for piece in pieces]
        if not tokens:
            first.require_rows(f"{self.name} (the first {PREVIEW_ROWS} rows)")
        return TokenizedDataset.from_rows(tokens), first.reports()

    def require_rows(self, name: str) -> None:
        """Raise UserError, with what to do about it, when rows were read and none was kept."""
        total = Report()
        for report in self.reports():
            total.rows += report.rows
            total.kept += report.kept
            total.shortest = min(filter(None, (total.shortest, report.shortest)), default=0)
            total.dropped |= report.dropped
        if total.rows:
            require_rows(total, self.rules[0], name)

    def _rows(self) -> Iterator[tuple[int, Record]]:
        for number, source in enumerate(self.sources):
            for record in _repeated(source):
                yield number, record

    def _tokenised(self, rows: Iterable[tuple[int, tuple[int, Record]]]) -> Iterator[tuple[int, list[Tokens]]]:
        """(row, its pieces) for each of the rows that are kept, in their order."""
        rows = iter(rows)
        while chunk := list(islice(rows, CHUNK)):
            for source, group in groupby(chunk, key=lambda entry: entry[1][0]):
                records = [(row, record) for row, (_, record) in group]
                rules, counted, sink = self.rules[source], self._counted[source], _Pieces()
                counted.report.rows += len(records)
                for number, origin, encoded in encode_chunk(records, self.encoder, rules, counted.report):
                    counted.add(place(number, origin, encoded, rules, sink, counted.report))
                yield from sink.rows.items()


def _repeated(source: Source) -> Iterator[Record]:
    if source.count is None:
        yield from source.rows(streaming=True)
        return
    left = source.count
    while left:
        for record in islice(source.rows(streaming=True), left):
            yield record
            left -= 1


def _shuffled(rows: Iterable[Any], size: int, random: np.random.Generator) -> Iterator[Any]:
    """`rows`, each exchanged for a random one of the `size` held back."""
    held: list[Any] = []
    for row in rows:
        if len(held) < size:
            held.append(row)
        elif size:
            at = int(random.integers(size))
            held[at], row = row, held[at]
            yield row
        else:
            yield row
    for at in random.permutation(len(held)):
        yield held[at]


class RegroupedStream:
    """What a RowStream and its rows in other pieces share: where they come from, and what became of them."""

    def __init__(self, rows: RowStream) -> None:
        self.rows = rows

    @property
    def name(self) -> str:
        """As RowStream."""
        return self.rows.name

    def reports(self) -> list[Report]:
        """As RowStream."""
        return self.rows.reports()

    def require_rows(self, name: str) -> None:
        """As RowStream."""
        self.rows.require_rows(name)


class Stream(Protocol):
    """What a StreamPlan reads: rows as they are, cut into blocks or packed into bins."""

    @property
    def name(self) -> str: ...

    def samples(self, seed: int, epoch: int, start: Position = BEGINNING) -> Iterator[Sample]: ...

    def dataset(self, samples: Sequence[Sample]) -> Samples: ...

    def reports(self) -> list[Report]: ...

    def require_rows(self, name: str) -> None: ...


class StreamPlan:
    """The steps of one pass over a stream; the counterpart of EpochPlan.

    Each step holds the same rows on every process, which reads and tokenises all of them and computes on its share.
    Steps are read in turn, from `first` on.

    Args:
        first: number of the first step that is read.
        start: where in the pass it begins.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        micro_batch_size: int,
        accumulation: int,
        world_size: int,
        seed: int,
        epoch: int,
        first: int = 0,
        start: Position = BEGINNING,
    ) -> None:
        self.stream = stream
        self._shape = {
            "micro_batch_size": micro_batch_size,
            "accumulation": accumulation,
            "world_size": world_size,
        }
        self._samples = stream.samples(seed, epoch, start)
        self._start = start
        self._ahead: Sample | None = None
        self._next = first
        self._steps: int | None = None

    @property
    def steps(self) -> float:
        """Steps of the pass; infinite until its last step has been read."""
        return math.inf if self._steps is None else self._steps

    def read(self, k: int) -> tuple[Samples, Step, Position]:
        """The rows of step `k`, the step (its indices are theirs), and the position behind it.

        Raises:
            UserError: a row that cannot be read, or no row that can be trained on.
            IndexError: steps are not read in turn, or there are no more.
        """
        if k != self._next or k >= self.steps:
            raise IndexError(f"step {k} of a stream that stands at step {self._next}")
        wanted = self._shape["micro_batch_size"] * self._shape["accumulation"] * self._shape["world_size"]
        rows = [self._ahead] if self._ahead else []
        rows += islice(self._samples, wanted - len(rows))
        if not rows:
            self.stream.require_rows(self.stream.name)
            raise UserError(
                f"{self.stream.name}: no rows after row {self._start.rows}, where the run was to go on; the data is "
                "not what the run was started with"
            )
        # One sample ahead, so that the last step is known as such when it is handed out.
        self._ahead = next(self._samples, None)
        self._next += 1
        if self._ahead is None:
            self._steps = self._next
        data = self.stream.dataset(rows)
        plan = EpochPlan(data.lengths, data.trained, **self._shape, seed=0, epoch=0, shuffle=False)
        return data, plan.step(0), rows[-1].end
