"""The cache: whole entries only, one winner of a race, least recently used out first, never one in use."""

import json
import os

import numpy as np
import pytest

from swiftlite.config.errors import UserError
from swiftlite.data import cache as cache_module
from swiftlite.data.cache import TokenCache, cache_key
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


def build_three(tmp_path, held=()):
    """Entries a, b, c of 1 MB each, used in that order; returns the shards of those held."""
    cache = TokenCache(tmp_path, 1)
    kept = []
    for age, key in enumerate("abc"):
        shard, _ = cache.build(key, filler(tokens=1_000_000 // 6))
        os.utime(tmp_path / key / "meta.json", (age, age))
        if key in held:
            kept.append(shard)
        del shard
    return kept


def test_the_least_recently_used_goes_first(tmp_path):
    build_three(tmp_path)
    assert TokenCache(tmp_path, 2.5e6 / GB).prune() == ["a"]
    assert sorted(os.listdir(tmp_path)) == ["b", "c"]


def test_a_hit_is_a_use(tmp_path):
    build_three(tmp_path)
    cache = TokenCache(tmp_path, 1.5e6 / GB)
    cache.open("a")
    assert cache.prune() == ["b", "c"]


def test_an_entry_in_use_stays(tmp_path):
    held = build_three(tmp_path, held="a")
    assert TokenCache(tmp_path, 0.5e6 / GB).prune() == ["b", "c"]
    assert held[0].ids[-1] == 1


def test_a_cache_smaller_than_the_data_still_serves_it(tmp_path):
    shard, _ = TokenCache(tmp_path, 1e-9).build("k", filler())
    assert len(shard.ids) == 10


def test_what_a_crash_left_is_removed_after_a_day(tmp_path):
    for name, age in ((".new-old", 100_000), (".new-fresh", 60)):
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
