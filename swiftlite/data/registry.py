"""Which names stand for which data, and the way from `--dataset name#N` to rows."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from swiftlite.config.errors import UserError
from swiftlite.config.options import closest
from swiftlite.data.catalogue import CATALOGUE, DatasetInfo
from swiftlite.data.readers import find_files
from swiftlite.data.sources import FileSource, HubSource, Source

PACKAGE = Path(__file__).parent

_registry: dict[str, DatasetInfo] = {info.name: info for info in CATALOGUE}


def register_dataset(
    name: str,
    *,
    file: str | None = None,
    hf: str | None = None,
    ms: str | None = None,
    subset: str | None = None,
    split: str = "train",
    columns: dict[str, str] | None = None,
    adapt: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> None:
    """Make `--dataset name` mean a file or a hub dataset.

    Args:
        file: path of a data file, absolute or relative to swiftlite/data.
        hf: dataset id on huggingface.co, with its `subset` and `split`.
        ms: the same dataset's id on modelscope.cn; where it is fetched when there is no `hf`.
        columns: renames needed to recognise its rows, like --columns.
        adapt: rewrites a row before it is read (see swiftlite.data.catalogue.DatasetInfo).

    Raises:
        ValueError: the name is taken or cannot be written on a command line, or not exactly one of a file and
            a hub is given.
    """
    if name in _registry:
        raise ValueError(f"dataset {name} is registered twice")
    if not re.fullmatch(r"[\w.+-]+", name):
        raise ValueError(f"dataset name {name!r}: expected letters, digits, '.', '+', '-' and '_'")
    if (file is None) == (hf is None and ms is None):
        raise ValueError(f"dataset {name} needs either a file or a hub id")
    _registry[name] = DatasetInfo(name, file, hf, ms, subset, split, dict(columns or {}), adapt)


def dataset_names() -> list[str]:
    """Every registered name, in the order registered."""
    return list(_registry)


def resolve(spec: str, flag: str = "dataset") -> Source:
    """The rows that `name_or_path[#N]` stands for.

    `hf::owner/name[:subset]` and `ms::owner/name[:subset]` are any data set of Hugging Face and ModelScope,
    `name:subset` another part of a registered one (`a/b` is both), and `name=PATH` files at hand, read as those of
    the registered name. A path that exists goes before a registered name. Nothing is read or fetched yet.

    Raises:
        UserError: no such name or path (naming the closest), or an N that is no count.
    """
    name, count = spec.strip(), None
    if not _exists(name) and "#" in name:
        name, _, tail = name.rpartition("#")
        if not re.fullmatch(r"[0-9]{1,12}", tail) or int(tail) < 1:
            raise UserError(f"--{flag} {spec}: '{tail}' after # is not a number of rows; expected e.g. {name}#500")
        count = int(tail)
    if _exists(name):
        return _files(spec, name, count)
    if name.startswith(("hf::", "ms::")):
        hub_id, _, subset = name[4:].partition(":")
        hf, ms = (hub_id, None) if name.startswith("hf") else (None, hub_id)
        return HubSource(spec, DatasetInfo(name, hf=hf, ms=ms, subset=subset or None), count)
    read_as, separator, path = name.partition("=")
    if separator and read_as in _registry:
        return _files(spec, path, count, _registry[read_as])
    registered, _, subset = name.partition(":")
    info = _registry.get(registered)
    if info is None:
        _refuse_unknown(spec, name, flag)
        return _files(spec, name, count)
    if info.file is not None:
        return _files(spec, str(PACKAGE / info.file), count, info)
    return HubSource(spec, replace(info, subset=subset) if subset else info, count or info.count)


def _exists(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long or with NUL; ~nobody
        return False


def _files(spec: str, name: str, count: int | None, info: DatasetInfo | None = None) -> FileSource:
    try:
        path = Path(name).expanduser()
        find_files(path)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"file {name[:100]} cannot be read: {reason}") from None
    return FileSource(spec, path, count, info)


def _refuse_unknown(spec: str, name: str, flag: str) -> None:
    """Raise UserError where `name` looks like one; what looks like a path is left to the reader's error."""
    if "/" in name or Path(name).suffix:
        return
    raise UserError(
        f"--{flag} {spec}: no dataset is registered under this name and no such path exists"
        f"{closest(name, dataset_names())}; expected one of {', '.join(dataset_names())}, "
        "or a file or folder that exists"
    )
