"""Results of frozen models, cached by content: computed once for all folds, notebooks and runs.

A key is a hash of the samples of a clip and of what was computed from them (weights, settings,
code). A changed clip or setting has another key, so nothing stale is ever found. The results lie in
one SQLite file in the cache folder, which several processes may use at once. It is kept under a
quarter of `DFS_CACHE_GB` (see `utils/paths.py`): what was used least recently is removed first.
"""

import hashlib
import io
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from utils import paths

LIMIT_MB = 1000 * paths.CACHE_GB / 4
KEYS_PER_STATEMENT = 500  # older builds of SQLite take 999 values at most


def key_of(wave: np.ndarray, what: str) -> str:
    """Key of a result for a wave: 40 hexadecimal digits.

    `what` names the result: what is computed, its settings and the digest of its code.
    """
    digest = hashlib.sha256(what.encode() + b"\0")
    digest.update(np.ascontiguousarray(wave))
    return digest.hexdigest()[:40]


def get(keys: list[str]) -> dict[str, np.ndarray]:
    """Cached results by key, without those that are missing. They count as used now."""

    def read(store: sqlite3.Connection) -> dict[str, np.ndarray]:
        results = {}
        with store:
            for start in range(0, len(keys), KEYS_PER_STATEMENT):
                chunk = keys[start : start + KEYS_PER_STATEMENT]
                where = f"WHERE key IN ({','.join('?' * len(chunk))})"
                for key, value in store.execute(f"SELECT key, value FROM result {where}", chunk):
                    results[key] = np.load(io.BytesIO(value), allow_pickle=False)
                store.execute(
                    f"UPDATE result SET used = (SELECT MAX(used) + 1 FROM result) {where}", chunk
                )
        return results

    return _with_store(read)


def put(results: dict[str, np.ndarray], limit_mb: float = LIMIT_MB) -> None:
    """Store results by key, then remove the least recently used until all fit in `limit_mb`.

    1 MB is 10⁶ bytes.
    """
    rows = []
    for key, value in results.items():
        buffer = io.BytesIO()
        np.save(buffer, value, allow_pickle=False)
        rows.append((key, buffer.getvalue()))

    def write(store: sqlite3.Connection) -> None:
        with store:
            store.executemany(
                "INSERT OR REPLACE INTO result VALUES "
                "(?, ?, (SELECT IFNULL(MAX(used), 0) + 1 FROM result))",
                rows,
            )
        _make_room(store, limit_mb * 1e6)

    _with_store(write)


def cached(
    waves: list[np.ndarray], what: str, compute: Callable[[list[np.ndarray]], list[np.ndarray]]
) -> list[np.ndarray]:
    """`compute(waves)`, one array per wave; only waves without a cached result are computed.

    Equal waves are computed once. `what` names the result: see `key_of`.
    """
    keys = [key_of(wave, what) for wave in waves]
    results = get(keys)
    missing = {key: i for i, key in enumerate(keys) if key not in results}
    if missing:
        computed = dict(zip(missing, compute([waves[i] for i in missing.values()]), strict=True))
        put(computed)
        results |= computed
    return [results[key] for key in keys]


def _with_store(function: Callable):
    """`function(store)` on the opened file. A damaged file is removed and started anew, once.

    What it held can be computed again. A locked file or a full disk (OperationalError) is no
    damage: the error is raised.
    """
    path = paths.CACHE / "results.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _open_and_call(path, function)
    except sqlite3.OperationalError:
        raise
    except (sqlite3.DatabaseError, ValueError, EOFError):  # the last two: a value that is no array
        for damaged in (path, *path.parent.glob(path.name + "-*")):
            damaged.unlink(missing_ok=True)
    return _open_and_call(path, function)


def _open_and_call(path: Path, function: Callable):
    with closing(sqlite3.connect(path, timeout=120)) as store:
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("PRAGMA synchronous = NORMAL")
        store.execute(f"PRAGMA mmap_size = {1 << 32}")
        store.execute(
            "CREATE TABLE IF NOT EXISTS result (key TEXT PRIMARY KEY, value BLOB, used INTEGER)"
        )
        store.execute("CREATE INDEX IF NOT EXISTS by_use ON result (used)")
        return function(store)


def _make_room(store: sqlite3.Connection, limit: float) -> None:
    """Remove the least recently used rows until all take at most `limit` bytes."""
    while (size := _bytes(store)) > limit:
        count = store.execute("SELECT COUNT(*) FROM result").fetchone()[0]
        if count == 0:
            return
        # down to 90 % of the limit, so that not every `put` has to remove some
        surplus = min(count, max(1, int(count * (1 - 0.9 * limit / size))))
        with store:
            store.execute(
                "DELETE FROM result WHERE key IN (SELECT key FROM result ORDER BY used LIMIT ?)",
                (surplus,),
            )


def _bytes(store: sqlite3.Connection) -> float:
    """Bytes that rows take. Pages of removed rows are reused, so the file grows little beyond."""
    pages, free, size = (
        store.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
