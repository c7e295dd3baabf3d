"""Which names stand for which data, and the way from `--dataset name#N` to rows."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from swiftlite.config.errors import UserError
from swiftlite.config.options import closest
from swiftlite.data.readers import Origin, Record, find_files, read_file

PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class DatasetInfo:
    """One registered name: a file in this package, or hub ids."""

    name: str
    file: str | None
    hf: str | None
    ms: str | None
    subset: str | None
    split: str
    columns: dict[str, str]


_registry: dict[str, DatasetInfo] = {}


def register_dataset(
    name: str,
    *,
    file: str | None = None,
    hf: str | None = None,
    ms: str | None = None,
    subset: str | None = None,
    split: str = "train",
    columns: dict[str, str] | None = None,
) -> None:
    """Make `--dataset name` mean a file or a hub dataset.

    Args:
        file: path of a data file, absolute or relative to swiftlite/data.
        hf: dataset id on huggingface.co, with its `subset` and `split`.
        ms: the same dataset's id on modelscope.cn, named to users who cannot reach the first.
        columns: renames needed to recognise its rows, like --columns.

    Raises:
        ValueError: the name is taken, or neither or both of `file` and `hf` are given.
    """
    if name in _registry:
        raise ValueError(f"dataset {name} is registered twice")
    if (file is None) == (hf is None):
        raise ValueError(f"dataset {name} needs either a file or a hub id")
    _registry[name] = DatasetInfo(name, file, hf, ms, subset, split, dict(columns or {}))


def dataset_names() -> list[str]:
    """Every registered name, in the order registered."""
    return list(_registry)


class Source(Protocol):
    """Rows that can be read more than once, and a digest of their content that needs no parsing."""

    @property
    def spec(self) -> str: ...

    @property
    def count(self) -> int | None: ...

    @property
    def columns(self) -> dict[str, str]: ...

    @property
    def files(self) -> list[str]: ...

    def identity(self) -> list[list[str]]: ...

    def rows(self) -> Iterator[Record]: ...

    def count_rows(self) -> int: ...


@dataclass(frozen=True)
class FileSource:
    """Files on disk: one file, or those of a folder in the order of their names."""

    spec: str
    root: Path
    count: int | None = None
    columns: dict[str, str] = field(default_factory=dict)

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

    def rows(self) -> Iterator[Record]:
        for path in self.paths:
            yield from read_file(path)

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
    def files(self) -> list[str]:
        return ["/".join(filter(None, ("hf::" + str(self.info.hf), self.info.subset, self.info.split)))]

    def identity(self) -> list[list[str]]:
        return [[self.files[0], self._dataset()._fingerprint]]

    def rows(self) -> Iterator[Record]:
        for number, row in enumerate(self._dataset(), 1):
            yield row, Origin(self.files[0], number, "row")

    def count_rows(self) -> int:
        return len(self._dataset())

    def _dataset(self) -> Any:
        if not self._loaded:
            self._loaded.append(_fetch(self.info))
        return self._loaded[0]


def _fetch(info: DatasetInfo) -> Any:
    import datasets

    assert info.hf is not None, "register_dataset takes no row without one"
    try:
        return datasets.load_dataset(info.hf, info.subset, split=info.split)
    # OSError: no network, offline mode, no such dataset; the others: scripts, unknown subsets and splits.
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        pages = f"https://huggingface.co/datasets/{info.hf}"
        if info.ms:
            pages += f" or https://modelscope.cn/datasets/{info.ms}"
        raise UserError(
            f"--dataset {info.name}: {info.hf} cannot be fetched ({reason}); run once with a network so that "
            "the Hugging Face cache (HF_HOME) keeps it, or copy that cache from another machine, or download "
            f"the files from {pages} and pass their folder as --dataset PATH"
        ) from None


def resolve(spec: str, flag: str = "dataset") -> Source:
    """The rows that `name_or_path[#N]` stands for; `hf::owner/name[:subset]` is any hub dataset.

    A path that exists goes before a registered name. Nothing is read or fetched yet.

    Raises:
        UserError: no such name or path (naming the closest), or an N that is no count.
    """
    name, count = spec.strip(), None
    if not Path(name).expanduser().exists() and "#" in name:
        name, _, tail = name.rpartition("#")
        if not re.fullmatch(r"[0-9]+", tail) or int(tail) < 1:
            raise UserError(f"--{flag} {spec}: '{tail}' after # is not a number of rows; expected e.g. {name}#500")
        count = int(tail)
    path = Path(name).expanduser()
    if not path.exists() and name.startswith("hf::"):
        hub_id, _, subset = name.removeprefix("hf::").partition(":")
        return HubSource(spec, DatasetInfo(name, None, hub_id, None, subset or None, "train", {}), count)
    info = None if path.exists() else _registry.get(name)
    if info is None:
        if not path.exists() and "/" not in name and not path.suffix:
            raise UserError(
                f"--{flag} {spec}: no dataset is registered under this name and no such path exists"
                f"{closest(name, dataset_names())}; expected one of {', '.join(dataset_names())}, "
                "or a file or folder that exists"
            )
        find_files(path)
        return FileSource(spec, path, count)
    if info.file is not None:
        return FileSource(spec, PACKAGE / info.file, count, info.columns)
    return HubSource(spec, info, count)


register_dataset("demo", file="embedded/demo.jsonl")
register_dataset(
    "gsm8k",
    hf="openai/gsm8k",
    ms="modelscope/gsm8k",
    subset="main",
    columns={"question": "query", "answer": "response"},
)
register_dataset("alpaca-en", hf="tatsu-lab/alpaca")
