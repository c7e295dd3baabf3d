"""From the data flags to the tokenised training and validation sets, with a report of every row."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swiftlite.config.errors import UsageError
from swiftlite.data.cache import TokenCache, cache_key
from swiftlite.data.config import DataConfig
from swiftlite.data.readers import Record
from swiftlite.data.registry import Source, resolve
from swiftlite.data.selection import expand, hold_out, take
from swiftlite.data.tokenize import Encoder, Report, Rules, require_rows, tokenize_rows
from swiftlite.data.tokens import Shard, TokenizedDataset, TokenStatistics, TokenWriter, concatenate

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Data:
    """Tokenised rows to train and validate on; `report` holds JSON values only (data.json)."""

    train: TokenizedDataset
    val: TokenizedDataset | None
    report: dict[str, Any]


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
    cache = TokenCache(config.cache_dir, config.cache_size_gb)
    sources = [resolve(spec) for spec in config.dataset]
    val_sources = [resolve(spec, "val_dataset") for spec in config.val_dataset]
    encoder = Encoder(template, tokenizer)
    loaded = [_load_source(source, config, encoder, cache, progress, wait) for source in sources]
    val_loaded = [_load_source(source, config, encoder, cache, progress, wait) for source in val_sources]
    _check_columns(config, loaded + val_loaded)
    if val_loaded:
        train = concatenate([part.samples(part.drawn) for part in loaded])
        val = concatenate([part.samples(part.drawn) for part in val_loaded])
    else:
        train, val = _split(loaded, config)
    train = _sample(train, config.train_dataset_sample, config.data_seed)
    val = _sample(val, config.val_dataset_sample, config.data_seed)
    report = {
        "template": getattr(template, "name", None),
        "template_fingerprint": template.fingerprint,
        "max_length": config.max_length,
        "truncation_strategy": config.truncation_strategy,
        "on_bad_row": config.on_bad_row,
        "data_seed": config.data_seed,
        "sources": [part.report for part in loaded],
        "val_sources": [part.report for part in val_loaded],
        "train": _describe(train),
        "val": _describe(val) if len(val) else None,
        "in_train_and_val": int(np.isin(val.hashes, train.hashes).sum()),
    }
    return Data(train, val if len(val) else None, report)


def _load_source(
    source: Source, config: DataConfig, encoder: Encoder, cache: TokenCache, progress: Progress | None, wait: bool
) -> _Loaded:
    columns = {**source.columns, **config.columns}
    identity = source.identity()
    key = cache_key(
        {
            "source": identity,
            "count": source.count,
            "seed": config.data_seed if source.count is not None else None,
            "columns": columns,
            "encoder": encoder.identity(),
            "max_length": config.max_length,
            "truncation_strategy": config.truncation_strategy,
            "on_bad_row": config.on_bad_row,
        }
    )
    opened = cache.wait_for(key) if wait else cache.open(key)
    hit = opened is not None
    if opened is None:
        rules = Rules(config.max_length, config.truncation_strategy, config.on_bad_row, columns)

        def fill(folder: Path) -> None:
            _write_entry(folder, source, config.data_seed, encoder, rules, progress)

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
    drawn = take(meta["rows_in_source"], source.count, config.data_seed)
    return _Loaded(shard, drawn, tokenized, report)


def _write_entry(
    folder: Path, source: Source, seed: int, encoder: Encoder, rules: Rules, progress: Progress | None
) -> None:
    wanted, rows_in_source = None, 0
    if source.count is not None:
        rows_in_source = source.count_rows()
        wanted = np.unique(take(rows_in_source, source.count, seed))

    def step(done: int) -> None:
        if progress is not None:
            progress(source.spec, done)

    with TokenWriter(folder) as writer:
        report = tokenize_rows(_pick(source.rows(), wanted), encoder, writer, rules, step)
        require_rows(report, rules, source.spec)
        writer.finish()
    meta = {
        "files": source.files,
        "rows_in_source": rows_in_source or report.rows,
        "report": report.to_json(),
    }
    (folder / "meta.json").write_text(json.dumps(meta, ensure_ascii=False, indent=1), encoding="utf-8")


def _pick(rows: Iterator[Record], wanted: NDArray[np.int64] | None) -> Iterator[tuple[int, Record]]:
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


def _check_columns(config: DataConfig, loaded: list[_Loaded]) -> None:
    seen: Counter[str] = Counter()
    for part in loaded:
        seen.update(part.tokenized.renamed_fields)
    for name in config.columns:
        if not seen[name]:
            raise UsageError(f"--columns names '{name}', but no row has such a column; correct or remove it")


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


def _describe(dataset: TokenizedDataset) -> dict[str, Any]:
    return {
        "samples": len(dataset),
        "tokens": int(dataset.lengths.sum()),
        "trained_tokens": float(dataset.trained.sum()),
        "line": TokenStatistics.of(dataset.lengths).line(),
    }
