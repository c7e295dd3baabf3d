"""Where rows come from: files on disk, or a data set on a hub; read whole, or as a stream."""

import hashlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from swiftlite.config.errors import UserError
from swiftlite.data.catalogue import DatasetInfo, LeftOut
from swiftlite.data.readers import Omitted, Origin, Record, Unreadable, find_files, read_file, without_nulls
from swiftlite.data.values import BadRow


class Source(Protocol):
    """Rows that can be read more than once, and a digest of their content that needs no parsing."""

    @property
    def spec(self) -> str: ...

    @property
    def count(self) -> int | None: ...

    @property
    def columns(self) -> dict[str, str]: ...

    @property
    def rule(self) -> str | None:
        """The registered name whose rule rewrites the rows before they are read; None: nothing does."""
        ...

    @property
    def files(self) -> list[str]: ...

    def identity(self) -> list[list[str]]: ...

    def rows(self, *, streaming: bool = False) -> Iterator[Record]:
        """Every row; `streaming` never holds more of a hub's data set than a few rows."""
        ...

    def count_rows(self) -> int: ...


@dataclass(frozen=True)
class FileSource:
    """Files on disk: one file, or those of a folder in the order of their names; `info` says how to read them."""

    spec: str
    root: Path
    count: int | None = None
    info: DatasetInfo | None = None

    @property
    def columns(self) -> dict[str, str]:
        return self.info.columns if self.info else {}

    @property
    def rule(self) -> str | None:
        return self.info.name if self.info and self.info.adapt else None

    @property
    def paths(self) -> list[Path]:
        return find_files(self.root)

    @property
    def files(self) -> list[str]:
        return [str(path) for path in self.paths]

    def identity(self) -> list[list[str]]:
        """[name under the root, sha256 of the bytes] of each file: the same content anywhere is the same."""
        base = self.root if self.root.is_dir() else self.root.parent
        found = []
        for path in self.paths:
            try:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise UserError(f"file {path} cannot be read: {error.strerror or error}") from None
            found.append([path.relative_to(base).as_posix(), digest])
        return found

    def rows(self, *, streaming: bool = False) -> Iterator[Record]:
        adapt = self.info.adapt if self.info else None
        for path in self.paths:
            for row, origin in read_file(path):
                yield adapted(row, adapt), origin

    def count_rows(self) -> int:
        return sum(1 for _ in self.rows())


@dataclass(frozen=True)
class HubSource:
    """A dataset on a hub, fetched (or found in the local hub cache) when its rows are first asked for."""

    spec: str
    info: DatasetInfo
    count: int | None = None
    _loaded: list[Any] = field(default_factory=list, compare=False, repr=False)

    @property
    def columns(self) -> dict[str, str]:
        return self.info.columns

    @property
    def rule(self) -> str | None:
        return self.info.name if self.info.adapt else None

    @property
    def files(self) -> list[str]:
        hub = f"hf::{self.info.hf}" if self.info.hf else f"ms::{self.info.ms}"
        subsets = self.info.subset.split("/") if self.info.subset else [None]
        return ["/".join(filter(None, (hub, subset, self.info.split))) for subset in subsets]

    def identity(self) -> list[list[str]]:
        return [[name, part._fingerprint] for name, part in zip(self.files, self._parts())]

    def rows(self, *, streaming: bool = False) -> Iterator[Record]:
        for name, part in zip(self.files, fetch(self.info, streaming=True) if streaming else self._parts()):
            for number, row in enumerate(part, 1):
                row = {key: without_nulls(value) for key, value in row.items()}
                yield adapted(row, self.info.adapt), Origin(name, number, "row")

    def count_rows(self) -> int:
        return sum(len(part) for part in self._parts())

    def _parts(self) -> list[Any]:
        if not self._loaded:
            self._loaded.extend(fetch(self.info))
        return self._loaded


def adapted(row: dict[str, Any] | Unreadable, adapt: Callable[[dict[str, Any]], dict[str, Any]] | None) -> Any:
    """`row` as its data set's rule rewrites it; what the rule refuses or leaves out says so."""
    if adapt is None or isinstance(row, Unreadable):
        return row
    try:
        return adapt(row)
    except LeftOut as error:
        return Omitted(error.reason)
    except BadRow as error:
        return Unreadable(error.reason)


def fetch(info: DatasetInfo, *, streaming: bool = False) -> list[Any]:
    """The subsets of a hub's data set, as Hugging Face `Dataset`s or, streaming, `IterableDataset`s.

    Raises:
        UserError: it cannot be had, with the three ways to get it.
    """
    try:
        subsets = info.subset.split("/") if info.subset else [None]
        load = _load_hf if info.hf else _load_ms
        return [load(info, subset, streaming) for subset in subsets]
    # OSError: no network, offline mode, no such dataset; the others: scripts, unknown subsets and splits.
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        name = info.hf or info.ms
        raise UserError(f"--dataset {info.name}: {name} cannot be fetched ({reason}); {_ways(info)}") from None


def _ways(info: DatasetInfo) -> str:
    pages = []
    if info.hf:
        pages.append(f"https://huggingface.co/datasets/{info.hf}")
    if info.ms:
        pages.append(f"https://modelscope.cn/datasets/{info.ms}")
    cache = "the Hugging Face cache (HF_HOME)" if info.hf else "ModelScope's cache (MODELSCOPE_CACHE)"
    package = "" if info.hf else " and `pip install modelscope`"
    return (
        f"run once with a network{package} so that {cache} keeps it, or copy that cache from another machine, or "
        f"download the files from {' or '.join(pages)} and pass their folder as --dataset {info.name}=FOLDER"
    )


def _load_hf(info: DatasetInfo, subset: str | None, streaming: bool) -> Any:
    import datasets

    assert info.hf is not None, "fetch asks for what there is"
    if not streaming:
        return datasets.load_dataset(info.hf, subset, split=info.split)
    splits = [datasets.load_dataset(info.hf, subset, split=s, streaming=True) for s in info.split.split("+")]
    return splits[0] if len(splits) == 1 else datasets.concatenate_datasets(splits)


def _load_ms(info: DatasetInfo, subset: str | None, streaming: bool) -> Any:
    """ModelScope's own package fetches its data sets; it gives Hugging Face's classes back."""
    import datasets

    # No dependency of ours: asked for only by those who need it.
    modelscope = importlib.import_module("modelscope.msdatasets").MsDataset
    parts = []
    for split in info.split.split("+"):
        part = modelscope.load(info.ms, subset_name=subset or "default", split=split, use_streaming=streaming)
        parts.append(part.to_hf_dataset() if hasattr(part, "to_hf_dataset") else part)
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)
