"""Rows to token ids and weights: converted, encoded in chunks, cut to length, and every loss reported."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from swiftlite.chat.encoded import Encoded
from swiftlite.config.errors import UserError
from swiftlite.data.formats import convert_row
from swiftlite.data.readers import Omitted, Origin, Record, Unreadable
from swiftlite.data.tokens import TokenStatistics
from swiftlite.data.values import BadRow

CHUNK = 1000
EXAMPLES = 20
# Rows whose fields are data (a name for each entry) would fill the report with names.
NAMED_FIELDS = 200
TOO_LONG = "longer than max_length"
UNTRAINED = "no trained token"
OMITTED = "left out by its data set's own rule"

Progress = Callable[[int], None]
Piece = tuple[NDArray[np.int32], NDArray[np.float16]]


class Sink(Protocol):
    """Where samples go: a TokenWriter, or the memory of a stream."""

    def add(self, ids: NDArray[np.int32], weights: NDArray[np.float16], row: int, text_bytes: int = 0) -> float:
        """Take one sample of source row `row`; returns its trained weight."""
        ...


@dataclass
class Dropped:
    """Rows dropped for one kind of reason, with the first few of them."""

    count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Report:
    """What became of the rows read: rows == kept + all dropped counts."""

    rows: int = 0
    kept: int = 0
    samples: int = 0  # more than `kept` under split
    truncated: int = 0  # rows that lost tokens or were split
    pieces_dropped: int = 0  # pieces of kept rows without a trained token
    untrained_turns: int = 0  # answers the chat template rewrote (mostly: dropped their thoughts), read but not trained
    special_in_text: int = 0  # control tokens typed into texts, encoded as plain characters
    dropped: dict[str, Dropped] = field(default_factory=dict)
    ignored_fields: dict[str, int] = field(default_factory=dict)  # field: rows that have it
    renamed_fields: dict[str, int] = field(default_factory=dict)
    shortest: int = 0  # tokens of the shortest row before any cut
    tokens: int = 0
    trained: float = 0.0
    mean: float = 0.0
    std: float = 0.0
    min: int = 0
    max: int = 0

    def line(self) -> str:
        """Token statistics of the samples: `3234.4±2547.5, min=91, max=19548`."""
        return TokenStatistics(self.mean, self.std, self.min, self.max).line()

    def drop(self, kind: str, origin: Origin, reason: str) -> None:
        entry = self.dropped.setdefault(kind, Dropped())
        entry.count += 1
        if len(entry.examples) < EXAMPLES:
            entry.examples.append(asdict(origin) | {"reason": reason})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Report":
        report = cls(**values)
        report.dropped = {kind: Dropped(**entry) for kind, entry in values["dropped"].items()}
        return report


@dataclass(frozen=True)
class Rules:
    """What decides a row's fate besides the template."""

    max_length: int
    truncation_strategy: str
    on_bad_row: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Encoder:
    """Conversations through the chat template, plain text through the tokenizer."""

    template: Any
    tokenizer: Any = None

    def identity(self) -> list[Any]:
        """JSON values that decide the ids and weights, for the cache key."""
        if self.tokenizer is None:
            return [self.template.fingerprint]
        # The fingerprint covers the vocabulary; this shows what is put around plain text.
        return [self.template.fingerprint, self.tokenizer("a")["input_ids"], self.tokenizer.eos_token_id]

    @cached_property
    def writes_reasoning(self) -> bool:
        """Whether the template has a place for `reasoning_content` (DeepSeek, Qwen3), by the text of its Jinja."""
        return "reasoning_content" in self.template.jinja()

    def encode(self, contents: list[dict[str, Any]]) -> list[Encoded | BadRow]:
        """Encodings in the order of `contents`; rows that the template refuses come as BadRow."""
        texts = [i for i, content in enumerate(contents) if "text" in content]
        chats = [i for i, content in enumerate(contents) if "text" not in content]
        result: dict[int, Encoded | BadRow] = {}
        for i in chats:
            if any("reasoning_content" in m for m in contents[i]["messages"]) and not self.writes_reasoning:
                result[i] = BadRow(
                    "separate reasoning",
                    f"the template {self.template.name} has no place for reasoning_content",
                    "the reasoning inside content, as <think> text, or a template that writes it",
                )
        chats = [i for i in chats if i not in result]
        if texts:
            result.update(zip(texts, self._encode_texts([contents[i]["text"] for i in texts])))
        if chats:
            rows = [contents[i] for i in chats]
            try:
                result.update(zip(chats, self.template.encode_batch(rows)))
            except UserError:
                # One row spoils a batch: encode one by one to learn which.
                result.update((i, self._encode_one(row)) for i, row in zip(chats, rows))
        return [result[i] for i in range(len(contents))]

    def _encode_one(self, row: dict[str, Any]) -> Encoded | BadRow:
        try:
            return self.template.encode_batch([row])[0]
        except UserError as error:
            return BadRow("refused by the chat template", str(error), "a conversation the template can write")

    def _encode_texts(self, texts: list[str]) -> list[Encoded | BadRow]:
        """The tokenizer's ids (with its BOS where it has one) and the end token; all trained but the BOS."""
        if self.tokenizer is None:
            return [BadRow("plain text", "no question and answer", "a conversation")] * len(texts)
        end = self.tokenizer.eos_token_id
        if end is None:
            raise UserError("rows of plain text need an end token; the tokenizer has no eos_token: set one")
        encoded: list[Encoded | BadRow] = []
        begins = adds_bos(self.tokenizer)
        found = self.tokenizer(texts, return_attention_mask=False, verbose=False)["input_ids"]
        for text, ids in zip(texts, found):
            ids = ids if ids and ids[-1] == end else [*ids, end]
            weights = [1.0] * len(ids)
            if begins:
                weights[0] = 0.0
            encoded.append(Encoded(ids, weights, text_bytes=len(text.encode())))
        return encoded


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts its BOS before a text."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a")["input_ids"][0] == bos


def tokenize_rows(
    rows: Iterable[tuple[int, Record]],
    encoder: Encoder,
    writer: Sink,
    rules: Rules,
    progress: Progress | None = None,
) -> Report:
    """Encode `rows` into `writer`.

    Args:
        rows: (index of the row in its source, (row, origin)) pairs, indices ascending.
        progress: called with the number of rows done so far, after every chunk.

    Raises:
        UserError: a bad row under on_bad_row="stop".
    """
    report = Report()
    lengths: list[int] = []
    source = iter(rows)
    while chunk := list(islice(source, CHUNK)):
        report.rows += len(chunk)
        for number, origin, encoded in encode_chunk(chunk, encoder, rules, report):
            lengths += place(number, origin, encoded, rules, writer, report)
        if progress is not None:
            progress(report.rows)
    stats = TokenStatistics.of(np.array(lengths, np.int64))
    report.mean, report.std, report.min, report.max = stats.mean, stats.std, stats.min, stats.max
    report.samples, report.tokens = len(lengths), sum(lengths)
    return report


def _refuse(error: BadRow, origin: Origin, rules: Rules, report: Report) -> None:
    if rules.on_bad_row == "stop":
        raise stopped_by(error, origin) from None
    report.drop(error.kind, origin, error.reason)


def stopped_by(error: BadRow, origin: Origin) -> UserError:
    """The sentence for a row that ends the run."""
    return UserError(f"{origin}: {error.reason}; expected {error.expected}; fix it or pass --on_bad_row drop")


def encode_chunk(
    chunk: Iterable[tuple[int, Record]], encoder: Encoder, rules: Rules, report: Report
) -> Iterator[tuple[int, Origin, Encoded]]:
    """(row number, where it was read, its tokens) for the rows that can be read; `report` gets the others."""
    places: list[tuple[int, Origin]] = []
    contents: list[dict[str, Any]] = []
    for number, (row, origin) in chunk:
        try:
            if isinstance(row, Omitted):
                report.drop(OMITTED, origin, row.reason)
                continue
            if isinstance(row, Unreadable):
                raise BadRow("not readable", row.reason, "one row in the file's format")
            converted = convert_row(row, rules.columns)
        except BadRow as error:
            _refuse(error, origin, rules, report)
            continue
        _count(report.ignored_fields, converted.ignored)
        _count(report.renamed_fields, converted.renamed)
        places.append((number, origin))
        contents.append(converted.content)
    for (number, origin), encoded in zip(places, encoder.encode(contents)):
        if isinstance(encoded, BadRow):
            _refuse(encoded, origin, rules, report)
        else:
            yield number, origin, encoded


def _count(counts: dict[str, int], names: Iterable[str]) -> None:
    for name in names:
        name = name if name in counts or len(counts) < NAMED_FIELDS else "(other fields)"
        counts[name] = counts.get(name, 0) + 1


def cut(ids: NDArray[Any], weights: NDArray[Any], max_length: int, strategy: str) -> list[Piece]:
    """A row of more than `max_length` tokens as the pieces that remain of it; none under `delete`."""
    if len(ids) <= max_length:
        return [(ids, weights)]
    if strategy == "left":
        return [(ids[-max_length:], weights[-max_length:])]
    if strategy == "right":
        return [(ids[:max_length], weights[:max_length])]
    if strategy == "split":
        starts = range(0, len(ids), max_length)
        return [(ids[s : s + max_length], weights[s : s + max_length]) for s in starts]
    return []


def place(number: int, origin: Origin, encoded: Encoded, rules: Rules, writer: Sink, report: Report) -> list[int]:
    """Write what remains of a row; returns the lengths of its samples."""
    ids = np.asarray(encoded.ids, np.int32)
    weights = np.asarray(encoded.weights, np.float16)
    report.shortest = min(report.shortest or len(ids), len(ids))
    report.untrained_turns += encoded.untrained_turns
    report.special_in_text += encoded.special_in_text
    pieces = cut(ids, weights, rules.max_length, rules.truncation_strategy)
    if not pieces:
        report.drop(TOO_LONG, origin, f"{len(ids)} tokens, --max_length {rules.max_length}")
        return []
    trained = [piece for piece in pieces if piece[1][1:].any()]
    if not trained:
        where = f" within --max_length {rules.max_length}" if len(ids) > rules.max_length else ""
        rewritten = f"; the template rewrites {encoded.untrained_turns} answers" if encoded.untrained_turns else ""
        report.drop(UNTRAINED, origin, f"{len(ids)} tokens, none of them trained{where}{rewritten}")
        return []
    report.kept += 1
    report.truncated += len(ids) > rules.max_length
    report.pieces_dropped += len(pieces) - len(trained)
    # A piece of a text does not know which of the bytes are its own.
    text_bytes = encoded.text_bytes if len(ids) <= rules.max_length else 0
    for piece_ids, piece_weights in trained:
        report.trained += writer.add(piece_ids, piece_weights, number, text_bytes)
    return [len(piece_ids) for piece_ids, _ in trained]


def require_rows(report: Report, rules: Rules, name: str) -> None:
    """Raise UserError, with what to do about it, when no row of the data set `name` was kept."""
    if report.kept:
        return
    counts = ", ".join(f"{entry.count} {kind}" for kind, entry in report.dropped.items())
    if rules.truncation_strategy == "delete" and TOO_LONG in report.dropped:
        advice = (
            f"raise --max_length {rules.max_length} (the shortest row has {report.shortest} tokens) or pass "
            "--truncation_strategy left, right or split"
        )
    elif UNTRAINED in report.dropped:
        advice = (
            f"raise --max_length {rules.max_length} (the shortest row has {report.shortest} tokens), or cut "
            "on the other side with --truncation_strategy, so that answers remain"
        )
    else:
        first = next(iter(report.dropped.values())).examples[0]
        where = Origin(first["file"], first["line"], first["unit"])
        advice = f"fix the rows; the first is {where}: {first['reason']}"
    raise UserError(f"{name}: all {report.rows} rows were dropped ({counts}); {advice}")
