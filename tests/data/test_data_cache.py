"""The cache: whole entries only, one winner of a race, least recently used out first, never one in use."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from swiftlite.config.errors import UserError
from swiftlite.data import cache as cache_module
from swiftlite.data.cache import DECIDING_FILES, IN_USE_SECONDS, TokenCache, cache_key, code_version
from swiftlite.data.tokens import TokenWriter

GB = 1e9


def filler(tokens=10, value=1):
    def fill(folder):
        with TokenWriter(folder) as writer:
            writer.add(np.full(tokens, value, np.int32), np.ones(tokens, np.float16), 0)
            writer.finish()
        (folder / "meta.json").write_text(json.dumps({"value": value}))

    return fill


def test_an_entry_is_found_again(tmp_path):
    cache = TokenCache(tmp_path, 1)
    assert cache.open("k") is None
    cache.build("k", filler(value=7))
    shard, meta = cache.open("k")
    assert (shard.ids[0], meta) == (7, {"value": 7})
    assert os.listdir(tmp_path) == ["k"]


def test_a_failed_build_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "ids.npy").write_bytes(b"half")
        raise UserError("bad row")

    with pytest.raises(UserError, match="bad row"):
        TokenCache(tmp_path, 1).build("k", fail)
    assert os.listdir(tmp_path) == []


def test_a_folder_without_meta_is_never_used(tmp_path):
    cache = TokenCache(tmp_path, 1)
    cache.build("k", filler(value=7))
    (tmp_path / "k" / "meta.json").unlink()
    assert cache.open("k") is None
    shard, _ = cache.build("k", filler(value=8))
    assert shard.ids[0] == 8


def test_a_damaged_entry_is_removed(tmp_path):
    cache = TokenCache(tmp_path, 1)
    cache.build("k", filler())
    (tmp_path / "k" / "ids.npy").write_bytes(b"short")
    assert cache.open("k") is None
    assert not (tmp_path / "k").exists()


def test_the_loser_of_a_race_takes_the_winner_s_entry(tmp_path):
    cache = TokenCache(tmp_path, 1)

    def race(folder):
        filler(value=2)(folder)
        TokenCache(tmp_path, 1).build("k", filler(value=1))  # another process is faster

    shard, _ = cache.build("k", race)
    assert shard.ids[0] == 1
    assert os.listdir(tmp_path) == ["k"]


def build_three(tmp_path):
    """Entries a, b, c of 1 MB each, used in that order, some hours ago."""
    cache = TokenCache(tmp_path, 1)
    for age, key in enumerate("abc"):
        cache.build(key, filler(tokens=1_000_000 // 6))
        used = time.time() - 2 * IN_USE_SECONDS + age
        os.utime(tmp_path / key / "meta.json", (used, used))


def test_the_least_recently_used_goes_first(tmp_path):
    build_three(tmp_path)
    assert TokenCache(tmp_path, 2.5e6 / GB).prune() == ["a"]
    assert sorted(os.listdir(tmp_path)) == ["b", "c"]


def test_a_hit_is_a_use(tmp_path):
    build_three(tmp_path)
    cache = TokenCache(tmp_path, 1.5e6 / GB)
    cache.open("a")
    assert cache.prune() == ["b", "c"]


def test_an_entry_used_within_the_hour_stays(tmp_path):
    build_three(tmp_path)
    TokenCache(tmp_path, 1).open("a")
    assert TokenCache(tmp_path, 0.5e6 / GB).prune() == ["b", "c"]
    assert os.listdir(tmp_path) == ["a"]


def test_a_mapped_entry_outlives_its_removal(tmp_path):
    """A run of more than an hour, while another one fills the cache."""
    build_three(tmp_path)
    shard, _ = TokenCache(tmp_path, 1).open("a")
    os.utime(tmp_path / "a" / "meta.json", (1, 1))
    assert "a" in TokenCache(tmp_path, 0.5e6 / GB).prune()
    assert shard.ids.sum() == len(shard.ids) == 1_000_000 // 6


def test_an_entry_that_the_system_holds_stays_whole(tmp_path, monkeypatch):
    """Windows renames no folder with an open file in it."""
    build_three(tmp_path)

    def refuse(self, target):
        raise PermissionError("in use")

    monkeypatch.setattr("pathlib.Path.rename", refuse)
    assert TokenCache(tmp_path, 0.5e6 / GB).prune() == []
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]
    assert TokenCache(tmp_path, 1).open("a") is not None


def test_a_cache_smaller_than_the_data_still_serves_it(tmp_path):
    shard, _ = TokenCache(tmp_path, 1e-9).build("k", filler())
    assert len(shard.ids) == 10


def test_what_a_crash_left_is_removed_after_a_day(tmp_path):
    for name, age in ((".new-old", 100_000), (".old-old", 100_000), (".new-fresh", 60)):
        (tmp_path / name).mkdir()
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    TokenCache(tmp_path, 1).prune()
    assert os.listdir(tmp_path) == [".new-fresh"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"--cache_dir .* cannot be written"):
        TokenCache(tmp_path / "file" / "tokens", 1).build("k", filler())


def test_the_key_does_not_depend_on_the_order_of_its_parts():
    assert cache_key({"a": 1, "b": [2]}) == cache_key({"b": [2], "a": 1})
    assert cache_key({"a": 1, "b": [2]}) != cache_key({"a": 1, "b": [3]})


def test_the_key_depends_on_the_code(monkeypatch):
    before = cache_key({"a": 1})
    monkeypatch.setattr(cache_module, "code_version", lambda: "other")
    assert cache_key({"a": 1}) != before


def test_every_file_that_decides_tokens_is_in_the_code_version(monkeypatch, tmp_path):
    """A changed byte in any of them, the chat room's included, changes the version."""
    package = tmp_path / "swiftlite"
    for name in ("chat", "data"):
        (package / name).mkdir(parents=True)
        for path in (cache_module.PACKAGE / name).glob("*.py"):
            (package / name / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(cache_module, "PACKAGE", package)
    seen = {code_version()}
    files = [path for pattern in DECIDING_FILES for path in package.glob(pattern)]
    assert {"pieces.py", "jinja.py", "turns.py", "tokenize.py", "readers.py"} <= {path.name for path in files}
    for count, path in enumerate(files, 2):
        path.write_bytes(path.read_bytes() + b"#")
        seen.add(code_version())
        assert len(seen) == count, path


def test_nothing_here_needs_posix(tmp_path):
    """Windows has none of these modules; rows are read, cached and found again without them."""
    rows = tmp_path / "a.jsonl"
    rows.write_text('{"query": "a", "response": "b"}\n')
    program = f"""
import sys
for name in ("fcntl", "resource", "termios", "grp", "pwd"): sys.modules[name] = None
sys.path.insert(0, {str(Path(__file__).parent)!r})
from conftest import FakeTemplate
from swiftlite.data.config import DataConfig
from swiftlite.data.loading import load_data
config = DataConfig(dataset=[{str(rows)!r}], cache_dir={str(tmp_path / "cache")!r}, split_dataset_ratio=0)
print([load_data(config, FakeTemplate()).report["sources"][0]["cache"] for _ in range(2)])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['miss', 'hit']"
