"""From the data flags to the tokenised training and validation sets, with a report of every row."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swiftlite.config.errors import UsageError
from swiftlite.data.cache import TokenCache, cache_key
from swiftlite.data.config import DataConfig
from swiftlite.data.readers import Record
from swiftlite.data.registry import resolve
from swiftlite.data.selection import expand, hold_out, take
from swiftlite.data.sources import Source
from swiftlite.data.stream import PREVIEW_ROWS, RowStream, Stream
from swiftlite.data.tokenize import Encoder, Report, Rules, require_rows, tokenize_rows
from swiftlite.data.tokens import Packing, Samples, Shard, TokenizedDataset, TokenStatistics, TokenWriter, concatenate

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Data:
    """Tokenised rows to train and validate on; `report` holds JSON values only (data.json).

    With `stream`, the training rows come from it while training goes on, and `train` holds the first of them.
    With `packing`, samples are blocks of joined documents. `train_bytes` and `val_bytes` are the UTF-8 bytes of the
    texts, None where samples are not whole texts.
    """

    train: Samples
    val: Samples | None
    report: dict[str, Any]
    stream: Stream | None = None
    packing: Packing | None = None
    train_bytes: int | None = None
    val_bytes: int | None = None

    def report_at_end(self) -> dict[str, Any]:
        """`report`; of a stream with the counts of the rows read so far, which for the first rows only it had."""
        if self.stream is None:
            return self.report
        sources = zip(self.report["sources"], self.stream.reports())
        counts = [entry | {"cache": "streamed", "line": now.line(), **now.to_json()} for entry, now in sources]
        return self.report | {"sources": counts}


@dataclass(frozen=True)
class _Loaded:
    """One source: its tokens, the rows drawn from it (with repeats), and what is said about it."""

    shard: Shard
    drawn: NDArray[np.int64]
    tokenized: Report
    report: dict[str, Any]

    def samples(self, rows: NDArray[np.int64]) -> TokenizedDataset:
        return TokenizedDataset.of_shard(self.shard).subset(expand(self.shard.rows, rows))


def load_data(
    config: DataConfig, template: Any, *, tokenizer: Any = None, progress: Progress | None = None, wait: bool = False
) -> Data:
    """Read, check, tokenise (or find in the cache), sample and split the data of `config`.

    Args:
        template: the chat Template that writes conversations.
        tokenizer: writes rows of plain text; without it they are refused.
        progress: called with a source's spelling and the rows tokenised so far; never on a cache hit.
        wait: leave the tokenising to another process of this machine, and wait for what it writes.

    Raises:
        UserError: a source that cannot be read, a bad row under on_bad_row="stop", nothing left to train on.
    """
    config.check()
    if not config.dataset:
        raise UsageError("--dataset is missing: name a data set, a file or a folder (`--dataset demo` to try)")
    sources = [resolve(spec) for spec in config.dataset]
    reader = _Reader(config, Encoder(template, tokenizer), progress, wait)
    val_loaded = [reader.load(resolve(spec, "val_dataset")) for spec in config.val_dataset]
    if config.streaming:
        return _stream(sources, val_loaded, reader, template)
    loaded = [reader.load(source) for source in sources]
    if val_loaded:
        train = concatenate([part.samples(part.drawn) for part in loaded])
        val = concatenate([part.samples(part.drawn) for part in val_loaded])
    else:
        train, val = _split(loaded, config)
    train = _sample(train, config.train_dataset_sample, config.data_seed)
    val = _sample(val, config.val_dataset_sample, config.data_seed)
    train, mix_loaded, mix_report = _mix(train, reader)
    _check_columns(config, [part.tokenized for part in loaded + val_loaded + mix_loaded])
    report = {
        **_settings(config, template),
        "sources": [part.report for part in loaded],
        "val_sources": [part.report for part in val_loaded],
        "mix_sources": [part.report for part in mix_loaded],
        "mix": mix_report,
        "train": describe(train),
        "val": describe(val) if len(val) else None,
        "in_train_and_val": int(np.isin(val.hashes, train.hashes).sum()),
        "duplicates_in_train": train.duplicates(),
    }
    return Data(train, val if len(val) else None, report, None, None, train.bytes_of_texts(), val.bytes_of_texts())


def _settings(config: DataConfig, template: Any) -> dict[str, Any]:
    return {
        "template": getattr(template, "name", None),
        "template_fingerprint": template.fingerprint,
        "max_length": config.max_length,
        "truncation_strategy": config.truncation_strategy,
        "on_bad_row": config.on_bad_row,
        "data_seed": config.data_seed,
    }


def _stream(sources: list[Source], val_loaded: list[_Loaded], reader: "_Reader", template: Any) -> Data:
    """The training rows are read while training goes on; only the first of each source are looked at here."""
    config = reader.config
    rules = [reader.rules(source) for source in sources]
    buffer = config.shuffle_buffer if config.dataset_shuffle else 0
    stream = RowStream(sources, rules, reader.encoder, buffer)
    train, seen = stream.preview()
    val = concatenate([part.samples(part.drawn) for part in val_loaded])
    val = _sample(val, config.val_dataset_sample, config.data_seed)
    _check_columns(config, [*seen, *(part.tokenized for part in val_loaded)])
    report = {
        **_settings(config, template),
        "streaming": {"shuffle_buffer": buffer, "preview_rows": PREVIEW_ROWS},
        "sources": [
            {
                "dataset": source.spec,
                "files": [{"file": file} for file in source.files],
                "cache": f"none: streamed, the first {PREVIEW_ROWS} rows",
                "line": counts.line(),
                **counts.to_json(),
            }
            for source, counts in zip(sources, seen)
        ],
        "val_sources": [part.report for part in val_loaded],
        "mix_sources": [],
        "mix": None,
        # Of a stream nobody knows these before it ends.
        "train": None,
        "val": describe(val) if len(val) else None,
        "in_train_and_val": None,
        "duplicates_in_train": None,
    }
    return Data(train, val if len(val) else None, report, stream, val_bytes=val.bytes_of_texts())


def _mix(train: TokenizedDataset, reader: "_Reader") -> tuple[TokenizedDataset, list[_Loaded], dict[str, Any] | None]:
    """ms-swift's mixing: int(ratio * rows) of other data joins the training rows; too few there are all taken."""
    config = reader.config
    wanted = int(config.train_dataset_mix_ratio * len(train))
    if not wanted:
        return train, [], None
    loaded = [reader.load(resolve(spec, "train_dataset_mix_ds")) for spec in config.train_dataset_mix_ds]
    pool = concatenate([part.samples(part.drawn) for part in loaded])
    mixed = pool.subset(take(len(pool), wanted, config.data_seed)) if wanted < len(pool) else pool
    report = {"ratio": config.train_dataset_mix_ratio, "wanted": wanted, "taken": len(mixed)}
    return concatenate([train, mixed]), loaded, report


@dataclass(frozen=True)
class _Reader:
    """What reading one source takes besides the source."""

    config: DataConfig
    encoder: Encoder
    progress: Progress | None
    wait: bool

    def rules(self, source: Source) -> Rules:
        config = self.config
        columns = {**source.columns, **config.columns}
        return Rules(config.max_length, config.truncation_strategy, config.on_bad_row, columns)

    def load(self, source: Source) -> _Loaded:
        """The tokens of a source, from the cache or into it."""
        cache = TokenCache(self.config.cache_dir, self.config.cache_size_gb)
        seed, identity, rules = self.config.data_seed, source.identity(), self.rules(source)
        key = cache_key(
            {
                "source": identity,
                "rule": source.rule,
                "count": source.count,
                "seed": seed if source.count is not None else None,
                "encoder": self.encoder.identity(),
                **asdict(rules),
            }
        )
        opened = cache.wait_for(key) if self.wait else cache.open(key)
        hit = opened is not None
        if opened is None:
            fill = partial(_write_entry, source=source, reader=self)
            opened = cache.build(key, fill)
        shard, meta = opened
        tokenized = Report.from_json(meta["report"])
        _rename_files(tokenized, meta["files"], source.files)
        report = {
            "dataset": source.spec,
            "files": [{"file": file, "fingerprint": digest} for file, (_, digest) in zip(source.files, identity)],
            "rows_in_source": meta["rows_in_source"],
            "cache": "hit" if hit else "miss",
            "key": key,
            "line": tokenized.line(),
            **tokenized.to_json(),
        }
        return _Loaded(shard, take(meta["rows_in_source"], source.count, seed), tokenized, report)


def _write_entry(folder: Path, source: Source, reader: _Reader) -> None:
    wanted, rows_in_source, rules = None, 0, reader.rules(source)
    if source.count is not None:
        rows_in_source = source.count_rows()
        wanted = np.unique(take(rows_in_source, source.count, reader.config.data_seed))

    def step(done: int) -> None:
        if reader.progress is not None:
            reader.progress(source.spec, done)

    with TokenWriter(folder) as writer:
        report = tokenize_rows(pick(source.rows(), wanted), reader.encoder, writer, rules, step)
        require_rows(report, rules, source.spec)
        writer.finish()
    meta = {
        "files": source.files,
        "rows_in_source": rows_in_source or report.rows,
        "report": report.to_json(),
    }
    (folder / "meta.json").write_text(json.dumps(meta, ensure_ascii=False, indent=1), encoding="utf-8")


def pick(rows: Iterator[Record], wanted: NDArray[np.int64] | None) -> Iterator[tuple[int, Record]]:
    """Rows with their index; only those of `wanted` (ascending) where it is given."""
    if wanted is None:
        yield from enumerate(rows)
        return
    queue = iter(wanted.tolist())
    following = next(queue)
    for number, record in enumerate(rows):
        if number == following:
            yield number, record
            following = next(queue, None)
            if following is None:
                return


def _rename_files(report: Report, written: list[str], now: list[str]) -> None:
    """The same content may lie elsewhere than when it was tokenised: name the files of this run."""
    names = dict(zip(written, now))
    for entry in report.dropped.values():
        for example in entry.examples:
            example["file"] = names.get(example["file"], example["file"])


def _check_columns(config: DataConfig, reports: list[Report]) -> None:
    seen = {name for report in reports for name in report.renamed_fields}
    rows = f"none of the first {PREVIEW_ROWS} rows" if config.streaming else "no row"
    for name in config.columns:
        if name not in seen:
            raise UsageError(f"--columns names '{name}', but {rows} has such a column; correct or remove it")


def _split(loaded: list[_Loaded], config: DataConfig) -> tuple[TokenizedDataset, TokenizedDataset]:
    """Hold out rows, not samples or repeats: nothing of a validation row is left in the training set."""
    distinct = [np.unique(part.drawn) for part in loaded]
    kept = [np.isin(rows, part.shard.rows) for rows, part in zip(distinct, loaded)]
    held = hold_out(np.concatenate(kept), config.split_dataset_ratio, config.data_seed)
    train, val, start = [], [], 0
    for rows, part in zip(distinct, loaded):
        away = rows[held[start : start + len(rows)]]
        start += len(rows)
        train.append(part.samples(part.drawn[~np.isin(part.drawn, away)]))
        val.append(part.samples(away))
    return concatenate(train), concatenate(val)


def _sample(dataset: TokenizedDataset, count: int, seed: int) -> TokenizedDataset:
    if count < 0 or len(dataset) == 0:
        return dataset
    return dataset.subset(take(len(dataset), count, seed))


def describe(dataset: Samples) -> dict[str, Any]:
    """Counts and lengths for data.json."""
    return {
        "samples": len(dataset),
        "tokens": int(dataset.lengths.sum()),
        "trained_tokens": float(dataset.trained.sum()),
        "line": TokenStatistics.of(dataset.lengths).line(),
    }
