"""Score many files by several processes, in memory that does not grow, and go on after a kill.

Files are scored in shards of `SHARD_FILES`. The rows of a finished shard lie on disk as a CSV; its
name is a hash of the files, of the scorer's arguments and of the code that decides a score.
"""

import contextlib
import csv
import functools
import hashlib
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from utils import parallel, paths
from utils.audio import dsp, reading
from utils.code_digest import code_digest

SHARD_FILES = 256  # files of one job: their scores appear together
GROUP_FILES = 32  # files that are read, then scored, at once
GROUP_S = 1800  # seconds of audio after which a group is closed, also with fewer files


def read_ahead(items: list, function: Callable) -> Iterator:
    """Yield `function(item)` of each item, in order, computed one item ahead in a second thread.

    Raises what `function` raises.
    """
    with ThreadPoolExecutor(1) as thread:
        waiting = deque()
        for item in items:
            waiting.append(thread.submit(function, item))
            if len(waiting) == 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read_group(files: Iterator[Path], rate: int) -> list[tuple[Path, np.ndarray | None, str]]:
    """Read the next files: (file, wave at `rate` Hz or None, error) of each.

    At most `GROUP_FILES`, fewer if they are long; an empty list when all files are read.
    """
    group, seconds = [], 0.0
    for file in files:
        try:
            wave = reading.read(file, rate)
            group.append((file, wave, ""))
            seconds += len(wave) / rate
        except dsp.AudioError as error:
            group.append((file, None, str(error)))
        if len(group) == GROUP_FILES or seconds > GROUP_S:
            break
    return group


@functools.lru_cache(maxsize=1)
def _open_scorer(opener: Callable, arguments: tuple):
    """The scorer of this process: its model is loaded once, not for each shard."""
    return opener(*arguments)


def _score_shard(opener: Callable, arguments: tuple, files: list[Path], target: Path) -> None:
    """Score some files in this process and write their rows to `target`, whole or not at all."""
    scorer, remaining = _open_scorer(opener, arguments), iter(files)

    def read_and_prepare(_):
        group = _read_group(remaining, getattr(scorer, "rate", dsp.RATE))
        waves = [wave for _, wave, _ in group if wave is not None]
        return group, scorer.prepare(waves) if hasattr(scorer, "prepare") else waves

    rows = []
    for group, prepared in read_ahead(range(len(files)), read_and_prepare):
        if not group:
            break
        scored = iter(scorer.rows(prepared))
        for file, wave, error in group:
            columns = {} if wave is None else next(scored)
            rows.append({"file": str(file)} | columns | {"error": error})
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (
        paths.whole(target) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _shard_name(key: str, files: list[Path]) -> str:
    """File name of a shard: a hash of `key` and of the names, sizes and dates of its files."""
    digest = hashlib.sha256(key.encode())
    for file in files:
        state = None
        with contextlib.suppress(OSError, ValueError):  # such a file is named in its row
            status = file.stat()
            state = status.st_size, status.st_mtime_ns
        digest.update(f"{file}\0{state}\0".encode())
    return f"{digest.hexdigest()[:24]}.csv"


@contextlib.contextmanager
def _shard_folder(keep: Path | None) -> Iterator[Path]:
    """`keep`, made if missing; or else a temporary folder, which all machines of a cluster see."""
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    parent = None
    if os.environ.get("DFS_ENGINE") == "ray":
        parent = paths.CACHE
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


def _start(pool: Executor | None, job: tuple) -> Future | None:
    """Run `_score_shard(*job)` in `pool`, or here without one; not if its target exists."""
    if job[-1].exists():
        return None
    if pool is None:  # few files are not worth the start of another process
        parallel.run_single_threaded(_score_shard, job)
        return None
    return pool.submit(parallel.run_single_threaded, _score_shard, job)


def score_files(
    files: list[Path],
    opener: Callable,
    arguments: tuple = (),
    keep: Path | None = None,
    processes: int = 0,
    label: str = "",
) -> Iterator[dict[str, str]]:
    """Yield a row for each file, in order: `file`, the columns that the scorer gives, `error`.

    Args:
        opener: a function or class of a module of this project; each process calls
            `opener(*arguments)` once for its scorer. `scorer.rows(waves)` returns a dict for each
            wave at `scorer.rate` Hz (8 kHz without that). If the scorer has `prepare(waves)`, that
            runs ahead in a second thread, and `rows` gets what it returns.
        arguments: they are pickled, and their `repr` is part of the names of shards.
        keep: folder in which finished shards stay, so that a second start after a kill goes on;
            `clear` removes it. Without it nothing is kept.
        processes: how many; 0: `parallel.processes()`.
        label: name on the progress bar; "": no bar.
    A file that cannot be read gets a row with its `error` and no other column. Memory does not grow
    with the number of files. Raises what the opener and the scorer raise.
    """
    shards = [files[start : start + SHARD_FILES] for start in range(0, len(files), SHARD_FILES)]
    processes = min(processes or parallel.processes(), len(shards))
    key = code_digest(opener, _score_shard, settings=arguments)
    with (
        _shard_folder(keep) as folder,
        parallel.executor(max(1, processes)) as pool,
        parallel.progress(label=label, total=len(files), unit="clip") as bar,
    ):
        remaining, started = deque(shards), deque()
        while remaining or started:
            while remaining and len(started) < 2 * processes:
                shard = remaining.popleft()
                target = folder / _shard_name(key, shard)
                job = (opener, arguments, shard, target)
                started.append((target, _start(pool if processes > 1 else None, job)))
            target, running = started.popleft()
            if running:
                running.result()
            with target.open(newline="", encoding="utf-8") as table:
                for row in csv.DictReader(table):
                    bar.update()
                    yield row


def clear(keep: Path) -> None:
    """Remove the shards that `score_files` kept in `keep`."""
    shutil.rmtree(keep, ignore_errors=True)
