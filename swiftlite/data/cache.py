"""Tokenised rows kept on disk under a digest of everything that decides them, so they are made once."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swiftlite.config.errors import UserError
from swiftlite.data.tokens import Shard

DEFAULT_FOLDER = "~/.cache/swiftlite/tokens"
POLL_SECONDS = 0.2
# An entry opened within this time is never removed: whoever opens one maps its files at once.
IN_USE_SECONDS = 3600
ABANDONED_SECONDS = 24 * 3600
PACKAGE = Path(__file__).parents[1]
DECIDING_FILES = (
    "chat/*.py",
    "data/catalogue.py",
    "data/formats.py",
    "data/readers.py",
    "data/selection.py",
    "data/tokenize.py",
    "data/tokens.py",
    "data/turns.py",
    "data/values.py",
)


def code_version() -> str:
    """Digest of the files that decide what a row becomes: a changed rule never meets old tokens."""
    state = hashlib.sha256()
    for path in sorted(path for pattern in DECIDING_FILES for path in PACKAGE.glob(pattern)):
        state.update(path.name.encode())
        state.update(path.read_bytes())
    return state.hexdigest()[:16]


def cache_key(parts: dict[str, Any]) -> str:
    """sha256 (hex) of `parts`, which must be JSON values, and of this code."""
    text = json.dumps({**parts, "code": code_version()}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class TokenCache:
    """A folder of entries named by their key; safe with several processes (one writer wins a race).

    An entry appears by one rename when it is complete and carries meta.json, and goes by one rename. Nothing
    is locked, which no two operating systems and network disks do alike: an entry used within the last hour
    stays, and on POSIX files that are mapped outlive their names (Windows refuses to rename them).
    """

    def __init__(self, folder: str | Path | None, size_gb: float) -> None:
        self.folder = Path(folder or DEFAULT_FOLDER).expanduser()
        self.size_bytes = size_gb * 1e9

    def open(self, key: str) -> tuple[Shard, dict[str, Any]] | None:
        """The entry under `key` and its meta.json, or None; a damaged entry is removed.

        Raises:
            UserError: the entry is there and this user may not read it.
        """
        entry = self.folder / key
        meta = entry / "meta.json"
        if not meta.is_file():
            return None
        try:
            with contextlib.suppress(PermissionError):  # another user's cache, read only
                os.utime(meta)
            return Shard.open(entry), json.loads(meta.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, EOFError):  # removed a moment ago, or damaged
            self._remove(entry)
            return None
        except OSError as error:
            raise UserError(f"--cache_dir: {entry} cannot be read ({error.strerror or error})") from None

    def wait_for(self, key: str) -> tuple[Shard, dict[str, Any]]:
        """The entry that another process is making; a launcher ends this one if that one fails."""
        while (opened := self.open(key)) is None:
            time.sleep(POLL_SECONDS)
        return opened

    def build(self, key: str, fill: Callable[[Path], None]) -> tuple[Shard, dict[str, Any]]:
        """Make the entry `key`: `fill` writes it, meta.json included, into the new folder it is given.

        Raises:
            UserError: the cache folder cannot be written, or the disk is full.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))
            try:
                fill(temporary)
                self._publish(temporary, self.folder / key)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        except OSError as error:
            raise UserError(
                f"--cache_dir {self.folder} cannot be written ({error.strerror or error}); "
                "free some space there or name another folder"
            ) from None
        opened = self.open(key)
        if opened is None:
            raise UserError(f"--cache_dir {self.folder}: the new entry is gone or damaged; start again")
        # Another process may be pruning the same entries, or own some of them.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            self.prune()
        return opened

    def _publish(self, temporary: Path, entry: Path) -> None:
        if entry.exists() and not (entry / "meta.json").is_file():
            self._remove(entry)
        try:
            temporary.rename(entry)
        except OSError:
            # Another process finished first: its entry is the same, this one is discarded.
            if not (entry / "meta.json").is_file():
                raise

    def prune(self) -> list[str]:
        """Remove least recently used entries until the rest fits; returns the keys removed."""
        entries = sorted((_used(e), e) for e in self.folder.iterdir() if (e / "meta.json").is_file())
        sizes = {entry: sum(f.stat().st_size for f in entry.iterdir()) for _, entry in entries}
        excess = sum(sizes.values()) - self.size_bytes
        removed = []
        now = time.time()
        for used, entry in entries:
            if excess <= 0 or now - used < IN_USE_SECONDS:
                break
            if self._remove(entry):
                removed.append(entry.name)
                excess -= sizes[entry]
        for leftover in (*self.folder.glob(".new-*"), *self.folder.glob(".old-*")):
            if now - _used(leftover) > ABANDONED_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
        return removed

    def _remove(self, entry: Path) -> bool:
        """Takes the entry's name away, then its files; False where the system holds it (open on Windows)."""
        try:
            aside = Path(tempfile.mkdtemp(prefix=".old-", dir=self.folder))
        except OSError:  # another user's cache, read only
            return False
        try:
            entry.rename(aside / "entry")
        except OSError:
            return False
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return True


def _used(path: Path) -> float:
    meta = path / "meta.json"
    return (meta if meta.is_file() else path).stat().st_mtime
