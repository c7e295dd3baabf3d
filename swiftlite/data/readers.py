"""Files to rows: json, jsonl, csv, tsv, parquet and txt, each row with the line it came from."""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from swiftlite.config.errors import UserError
from swiftlite.config.options import closest

SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".txt")
PACKED = ".gz"  # any of these but parquet
LONGEST_CELL = 2**31 - 1  # what a C long holds on every system
LONGEST_TEXT = 64 * 2**20  # bytes of a .txt file that is held in memory whole
TEXT_PART = 2**20  # bytes of the parts of a longer one


@dataclass(frozen=True)
class Origin:
    """Where a row was read: `line` counts from 1, or is the row's number where a format has no lines."""

    file: str
    line: int
    unit: Literal["line", "row"] = "line"

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.line}"


@dataclass(frozen=True)
class Unreadable:
    """Stands in for a row whose text cannot be parsed, so that the reader can go on after it."""

    reason: str


@dataclass(frozen=True)
class Omitted(Unreadable):
    """Stands in for a row that its data set's own rule leaves out; it stops nothing."""


Record = tuple[dict[str, Any] | Unreadable, Origin]


def find_files(path: str | Path) -> list[Path]:
    """The data files at `path`: itself, or every readable file under a folder, sorted by relative name.

    Raises:
        UserError: nothing there (naming the closest file name in that folder), or no file of a known kind.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        files = [
            p
            for p in path.rglob("*")
            if _kind(p) in SUFFIXES
            and p.is_file()
            and not any(part.startswith(".") for part in p.relative_to(path).parts)
        ]
        if not files:
            raise UserError(f"folder {path} has no data file; expected one of {', '.join(SUFFIXES)}")
        return sorted(files, key=lambda p: p.relative_to(path).as_posix())
    if not path.exists():
        if not path.parent.is_dir():
            raise UserError(f"file {path} does not exist: there is no folder {path.parent}")
        hint = closest(path.name, [p.name for p in path.parent.iterdir()])
        raise UserError(f"file {path} does not exist in folder {path.parent.resolve()}{hint}")
    if _kind(path) not in SUFFIXES:
        raise UserError(f"file {path} has the suffix '{path.suffix}'; expected one of {', '.join(SUFFIXES)}")
    return [path]


def _kind(path: Path) -> str:
    """The suffix that says how to read `path`: `.jsonl` of `a.jsonl` and of `a.jsonl.gz`."""
    suffix = path.suffix.lower()
    inner = Path(path.stem).suffix.lower()
    return inner if suffix == PACKED and inner != ".parquet" else suffix


def read_file(path: Path) -> Iterator[Record]:
    """The rows of one file in order; a row that cannot be parsed comes as `Unreadable`.

    Raises:
        UserError: the file as a whole cannot be read (empty, not UTF-8, not what its suffix says).
    """
    readers = {
        ".json": _read_json,
        ".jsonl": _read_jsonl,
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".parquet": _read_parquet,
        ".txt": _read_text,
    }
    try:
        size = path.stat().st_size
        if size == 0:
            raise UserError(f"file {path} is empty; expected at least one row")
        found = False
        for record in readers[_kind(path)](path):
            found = True
            yield record
    except (EOFError, zlib.error) as error:
        raise UserError(f"file {path} is not a whole {PACKED} file ({error})") from None
    except OSError as error:
        raise UserError(f"file {path} cannot be read: {error.strerror or error}") from None
    if not found:
        raise UserError(f"file {path} has no rows; expected at least one")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with gzip.open(path) if path.suffix.lower() == PACKED else path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise UserError(f"file {path} is UTF-16; save it as UTF-8")
                line = line.removeprefix(b"\xef\xbb\xbf")
            yield number, line


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"byte {error.object[error.start]:#04x} at column {error.start + 1} is not UTF-8"


def _parse(text: str) -> dict[str, Any] | Unreadable:
    try:
        row = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        return Unreadable(f"not JSON ({error.msg}, column {error.colno})")
    except (ValueError, RecursionError) as error:  # a number with too many digits; nested too deep
        return Unreadable(f"not JSON that can be read ({error})")
    return _as_row(row)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Unreadable:
    """A JSON object; one that names a key twice would silently lose the first value."""
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        return Unreadable("JSON with the key " + next(key for key in keys if keys.count(key) > 1) + " twice")
    return row


def _as_row(row: Any) -> dict[str, Any] | Unreadable:
    if isinstance(row, (dict, Unreadable)):
        return row
    return Unreadable(f"a {type(row).__name__}, not a JSON object with named fields")


def _read_jsonl(path: Path) -> Iterator[Record]:
    for number, line in _lines(path):
        origin = Origin(str(path), number)
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            yield Unreadable(_not_utf8(error)), origin
            continue
        if text:
            yield _parse(text), origin


def _whole_text(path: Path) -> str:
    data = b"".join(line for _, line in _lines(path))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{Origin(str(path), line)}: byte {data[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        ) from None


def _read_json(path: Path) -> Iterator[Record]:
    text = _whole_text(path)
    try:
        content = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        # Many .json files in the wild are JSON lines: the first line is whole and more follows it.
        if error.msg == "Extra data":
            yield from _read_jsonl(path)
            return
        where = Origin(str(path), error.lineno)
        raise UserError(
            f"{where}: not JSON ({error.msg}, column {error.colno}); expected a list of objects, "
            "or one object a line; fix the file"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"file {path}: not JSON that can be read ({error})") from None
    if not isinstance(content, (dict, list, Unreadable)):
        raise UserError(f"file {path} holds a {type(content).__name__}; expected a list of JSON objects")
    for number, row in enumerate(content if isinstance(content, list) else [content], 1):
        yield _as_row(row), Origin(str(path), number, "row")


def _read_csv(path: Path) -> Iterator[Record]:
    csv.field_size_limit(LONGEST_CELL)  # the default refuses cells over 128 KiB
    kind = _kind(path)
    delimiter = "\t" if kind == ".tsv" else ","
    reader = csv.reader(_csv_lines(path), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        start = reader.line_num + 1
        origin = Origin(str(path), start)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                # One row as far as the reader knows; who drops bad rows would lose the rest of the file with it.
                raise UserError(f"{origin}: a quote is opened and never closed; close it, or double it") from None
            lines = f", lines {start} to {reader.line_num}" if reader.line_num > start else ""
            yield Unreadable(f"not {kind[1:].upper()} ({error}{lines})"), origin
            continue
        if not cells:
            continue
        if header is None:
            header = [name.strip() for name in cells]
            if len(set(header)) < len(header):
                raise UserError(f"{origin}: the header names a column twice: {', '.join(header)}")
        elif len(cells) != len(header):
            yield Unreadable(f"{len(cells)} cells under a header of {len(header)} columns"), origin
        else:
            yield dict(zip(header, cells)), origin


def _csv_lines(path: Path) -> Iterator[str]:
    for number, line in _lines(path):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            reason = _not_utf8(error)
            raise UserError(f"{Origin(str(path), number)}: {reason}; save the file as UTF-8") from None


def _read_parquet(path: Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    row = {key: without_nulls(value) for key, value in row.items()}
                    yield row, Origin(str(path), number, "row")
    except (pa.ArrowException, UnicodeDecodeError) as error:
        message = str(error).split("\n")[0]
        raise UserError(f"file {path} is not Parquet that can be read: {message}") from None


def without_nulls(value: Any) -> Any:
    """`value` without the null fields of nested objects.

    Arrow gives every object of a column the fields of all of them: {"name": "f", "limit": null} in a tool schema
    is another row's field, and would be written into this row's prompt.
    """
    if isinstance(value, dict):
        return {key: without_nulls(entry) for key, entry in value.items() if entry is not None}
    return [without_nulls(entry) for entry in value] if isinstance(value, list) else value


def _read_text(path: Path) -> Iterator[Record]:
    """A .txt file is one text, a book or a corpus; one over LONGEST_TEXT comes in parts, each a text of its own.

    Parts end with a line, before one that does not begin with a space: no tokenizer joins anything across that.
    """
    lines: list[str] = []
    first, size, number = 1, 0, 0
    try:
        split = path.stat().st_size > LONGEST_TEXT
        for number, line in _lines(path):
            if split and size > TEXT_PART and lines[-1].endswith("\n") and not line[:1].isspace():
                yield from _one_text(lines, path, first)
                lines, first, size = [], number, 0
            lines.append(line.decode("utf-8"))
            size += len(line)
    except UnicodeDecodeError as error:
        raise UserError(f"{Origin(str(path), number)}: {_not_utf8(error)}; save the file as UTF-8") from None
    yield from _one_text(lines, path, first)


def _one_text(lines: list[str], path: Path, first: int) -> Iterator[Record]:
    text = "".join(lines)
    if text.strip():
        yield {"text": text}, Origin(str(path), first)
