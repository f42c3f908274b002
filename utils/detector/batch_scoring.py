"""TODO detector.batch_scoring."""

import contextlib
import csv
import functools
import hashlib
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from utils import parallel, paths
from utils.audio import dsp, reading
from utils.code_digest import code_digest

SHARD, GROUP, GROUP_S = (
    256,
    32,
    1800,
)  # files a job, whose scores appear together; files, and about how many seconds, read at once


def read_ahead(items: list, function: Callable) -> Iterator:
    """`function(item)` of each, in order; one thread is an item ahead of the reader."""
    with ThreadPoolExecutor(1) as thread:
        waiting = deque()
        for item in items:
            waiting.append(thread.submit(function, item))
            if len(waiting) == 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read(files: Iterator[Path]) -> list[tuple[Path, np.ndarray | None, str]]:
    """The next few (file, wave or None, error): `GROUP` files, fewer if they are long; none when all are read."""
    result, seconds = [], 0.0
    for file in files:
        try:
            wave = reading.read(file)
            result.append((file, wave, ""))
            seconds += len(wave) / dsp.RATE
        except dsp.AudioError as error:
            result.append((file, None, str(error)))
        if len(result) == GROUP or seconds > GROUP_S:
            break
    return result


@functools.lru_cache(maxsize=1)
def _opened(opener: Callable, arguments: tuple):
    return opener(*arguments)


def _shard(opener: Callable, arguments: tuple, files: list[Path], place: Path) -> None:
    """Score some files in this process and write their rows to `place`, whole."""
    judge, rows, left = _opened(opener, arguments), [], iter(files)

    def ready(_):
        group = _read(left)
        waves = [wave for _, wave, _ in group if wave is not None]
        return group, judge.prepare(waves) if hasattr(judge, "prepare") else waves

    for group, prepared in read_ahead(range(len(files)), ready):
        if not group:
            break
        scored = iter(judge.rows(prepared))
        rows += [
            {"file": str(file), **(next(scored) if wave is not None else {}), "error": error}
            for file, wave, error in group
        ]
    with paths.whole(place) as part, part.open("w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def score_files(
    files: list[Path],
    opener: Callable,
    arguments: tuple = (),
    keep: Path | None = None,
    processes: int = 0,
    label: str = "",
) -> Iterator[dict[str, str]]:
    """Rows of files, in order: `file`, what `opener(*arguments).rows(waves)` says of each, `error` of one that cannot be read.

    Args: `opener` a function of a module; if what it gives can `prepare(waves)`, that runs ahead and `rows` gets its result;
    `keep` a folder where finished shards wait for a second start after a kill (the caller removes it when all is done);
    `processes` as many as cores unless given. Memory does not grow with the files: few shards are on their way at once, and
    their rows lie on disk.
    Raises what the judge raises.
    """
    if (
        shared := paths.CACHE if os.environ.get("DFS_ENGINE") == "ray" else None
    ):  # where all machines see it
        shared.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=shared) as spare:
        digest = hashlib.sha256(code_digest(opener, settings=arguments).encode())
        home, shards = (
            keep or Path(spare),
            [files[at : at + SHARD] for at in range(0, len(files), SHARD)],
        )
        home.mkdir(parents=True, exist_ok=True)
        processes = min(processes or parallel.processes(), len(shards))

        def place(shard: list[Path]) -> Path:
            mark = digest.copy()
            for file in shard:
                status = None
                with contextlib.suppress(OSError, ValueError):
                    status = file.stat()
                mark.update(f"{file}\0{status and (status.st_size, status.st_mtime_ns)}\0".encode())
            return home / f"{mark.hexdigest()[:24]}.csv"

        with (
            parallel.executor(max(1, processes)) as pool,
            parallel.progress(label=label, total=len(files), unit="clip") as bar,
        ):
            waiting, todo = deque(), deque(shards)
            while todo or waiting:
                while todo and len(waiting) < 2 * processes:
                    shard = todo.popleft()
                    target = place(shard)
                    job = None if target.exists() else (opener, arguments, shard, target)
                    if job and processes == 1:  # few files: no process of its own
                        parallel.run_single_threaded(_shard, job)
                        job = None
                    waiting.append(
                        (
                            target,
                            pool.submit(parallel.run_single_threaded, _shard, job) if job else None,
                        )
                    )
                target, running = waiting.popleft()
                if running:
                    running.result()
                with target.open(newline="", encoding="utf-8") as file:
                    for row in csv.DictReader(file):
                        bar.update()
                        yield row


def clear(keep: Path) -> None:
    """Remove the shards that `score_files` kept."""
    shutil.rmtree(keep, ignore_errors=True)
