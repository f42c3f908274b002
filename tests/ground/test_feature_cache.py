"""Results of frozen models are cached by content, and a damaged cache is started anew."""

import numpy as np
import pytest

from utils import feature_cache, paths


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    return tmp_path


def fill(count=200):
    """Put arrays of 4 kB, so that the file has many pages; returns their keys."""
    results = {f"result {i}": np.full(1000, i, np.float32) for i in range(count)}
    feature_cache.put(results)
    return list(results)


@pytest.mark.parametrize("call", ["get", "put"])
def test_damaged_pages_are_as_good_as_an_empty_cache(cache, call):
    """SQLite opens such a file and fails only when it reads the page: that was not caught."""
    keys = fill()
    for beside in cache.glob("results.sqlite-*"):
        beside.unlink()
    file = cache / "results.sqlite"
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)  # all but the first page
    file.write_bytes(content)
    if call == "get":
        assert feature_cache.get(keys) == {}
    feature_cache.put({"new": np.ones(3)})
    assert set(feature_cache.get([*keys, "new"])) == {"new"}


def test_a_damaged_value_is_computed_again():
    """np.load raised ValueError, for ever."""
    wave = np.zeros(10, np.float32)
    key = feature_cache.key_of(wave, "mean")

    def damage(store):
        with store:
            store.execute("UPDATE result SET value = x'00' WHERE key = ?", (key,))

    feature_cache.put({key: np.ones(1)})
    feature_cache._with_store(damage)
    assert feature_cache.cached([wave], "mean", lambda waves: [np.zeros(1)])[0] == [0]
    assert feature_cache.get([key])[key] == [0]


def test_a_locked_cache_is_not_removed(cache, monkeypatch):
    keys = fill(3)
    locked = feature_cache.sqlite3.OperationalError("database is locked")

    def fail(store):
        raise locked

    with pytest.raises(feature_cache.sqlite3.OperationalError):
        feature_cache._with_store(fail)
    assert set(feature_cache.get(keys)) == set(keys)


def test_more_keys_than_a_statement_takes_are_found():
    keys = fill(1203)
    assert len(feature_cache.get(keys)) == 1203


def test_what_was_used_least_recently_is_removed_first():
    keys = fill(500)  # 2 MB
    feature_cache.get(keys[:10])
    feature_cache.put({"new": np.zeros(1)}, limit_mb=1)
    left = feature_cache.get([*keys, "new"])
    assert {*keys[:10], "new"} <= set(left) and keys[10] not in left and len(left) < 300
