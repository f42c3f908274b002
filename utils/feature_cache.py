"""Results of frozen models by content: computed once, shared by folds, models, notebooks and runs.

A key is a hash of the samples of a clip and of what was done to them (weights, settings, code), so that a changed clip or
setting is another key and nothing stale is ever found. The results lie in one SQLite file in the cache folder, which reads it
through a memory map, lets several processes in, and is kept under `DFS_RESULTS_MB` (default 4000): what was used least
recently goes first.
"""

import hashlib
import io
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing

import numpy as np

from utils import paths

LIMIT_MB = int(os.environ.get("DFS_RESULTS_MB", "4000"))
FEW = 500  # rows a statement: SQLite takes 999 values at least


def _open() -> sqlite3.Connection:
    paths.CACHE.mkdir(parents=True, exist_ok=True)
    path = paths.CACHE / "results.sqlite"
    for attempt in (1, 2):
        store = sqlite3.connect(path, timeout=120)
        try:
            store.execute("PRAGMA journal_mode = WAL")
            store.execute("PRAGMA synchronous = NORMAL")
            store.execute(f"PRAGMA mmap_size = {1 << 32}")
            store.execute(
                "CREATE TABLE IF NOT EXISTS result (key TEXT PRIMARY KEY, value BLOB, used INTEGER)"
            )
            store.execute("CREATE INDEX IF NOT EXISTS by_use ON result (used)")
            return store
        except sqlite3.OperationalError:  # locked, or no room: the file itself may be sound
            store.close()
            raise
        except sqlite3.DatabaseError:  # not a database any more: what it held can be computed again
            store.close()
            if attempt == 2:
                raise
            for name in (path, *path.parent.glob(path.name + "-*")):
                name.unlink(missing_ok=True)


def key_of(wave: np.ndarray, what: str) -> str:
    """Key of the result `what` (kind, settings, code) for a wave."""
    digest = hashlib.sha256(what.encode() + b"\0")
    digest.update(np.ascontiguousarray(wave))
    return digest.hexdigest()[:40]


def get(keys: list[str]) -> dict[str, np.ndarray]:
    """Results that are there, by key. They count as used now."""
    found = {}
    with closing(_open()) as store, store:
        for at in range(0, len(keys), FEW):
            part = keys[at : at + FEW]
            marks = ",".join("?" * len(part))
            for key, value in store.execute(
                f"SELECT key, value FROM result WHERE key IN ({marks})", part
            ):
                found[key] = np.load(io.BytesIO(value), allow_pickle=False)
            store.execute(
                f"UPDATE result SET used = (SELECT MAX(used) + 1 FROM result) WHERE key IN ({marks})",
                part,
            )
    return found


def put(results: dict[str, np.ndarray], limit_mb: int = LIMIT_MB) -> None:
    """Keep results by key, then let the least recently used go until all fit in `limit_mb`."""
    rows = []
    for key, value in results.items():
        buffer = io.BytesIO()
        np.save(buffer, value, allow_pickle=False)
        rows.append((key, buffer.getvalue()))
    with closing(_open()) as store:
        with store:
            store.executemany(
                "INSERT OR REPLACE INTO result VALUES (?, ?, (SELECT IFNULL(MAX(used), 0) + 1 FROM result))",
                rows,
            )
        while (size := _bytes(store)) > limit_mb * 1e6 and store.execute(
            "SELECT COUNT(*) FROM result"
        ).fetchone()[0]:
            with store:
                count = store.execute("SELECT COUNT(*) FROM result").fetchone()[0]
                out = min(count, max(1, int(count * (1 - 0.9 * limit_mb * 1e6 / size))))
                store.execute(
                    "DELETE FROM result WHERE key IN (SELECT key FROM result ORDER BY used LIMIT ?)",
                    (out,),
                )


def _bytes(store: sqlite3.Connection) -> float:
    """Bytes that the rows take; pages of rows that went are used again, so the file stays near the limit too."""
    pages, free, size = (
        store.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def cached(
    waves: list[np.ndarray], what: str, compute: Callable[[list[np.ndarray]], list[np.ndarray]]
) -> list[np.ndarray]:
    """`compute(waves)`, one array a wave, where only waves without a kept result are computed (each once)."""
    keys = [key_of(wave, what) for wave in waves]
    found = get(keys)
    missing = {key: i for i, key in enumerate(keys) if key not in found}
    if missing:
        made = dict(zip(missing, compute([waves[i] for i in missing.values()]), strict=True))
        put(made)
        found |= made
    return [found[key] for key in keys]
