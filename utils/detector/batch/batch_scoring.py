"""Score many files by several processes, in memory that does not grow, and go on after a kill.

Files are scored in shards (`shard_size`). The rows of a finished shard lie on disk as a CSV; its
name is a hash of the files, of the scorer's arguments and of the code that decides a score. Each
process that scores has another one that decodes, which a file may bring down.
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
from utils.audio.decoding import NotAudio, Recording
from utils.code_digest import code_digest
from utils.detector.batch import listing
from utils.detector.batch.decoder import Decoder
from utils.detector.batch.listing import Listed

SHARD_FILES = 128  # files of one job at most: their scores appear together
SHARDS = 32  # jobs, so many at least if there are files enough: all processes end at the same time
FEW_FILES = 32  # up to so many are one job: they are not worth the start of another process
LEAST_FILES = 8  # of a job, if there are more
GROUP_FILES = 32  # files that are read, then scored, at once, if the scorer names no number
GROUP_S = 600  # seconds of audio, of all channels, that close a group of fewer files
ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}  # names may be any bytes


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


def _read_group(
    files: Iterator[Listed], read: Callable, most: int
) -> list[tuple[dict[str, str], object]]:
    """Read the next files: (columns `file`, `passed` and `error`, what `read` gives or None).

    At most so many, fewer if they are long; an empty list when all files are read.
    """
    group, seconds = [], 0.0
    for file in files:
        row, sound = {"file": str(file.path), "passed": "", "error": ""}, None
        try:
            sound, long_s = read(file.path)
            seconds += long_s
        except dsp.AudioError as error:
            if isinstance(error, NotAudio) and listing.may_be_passed(file):
                row["passed"] = listing.NOT_SOUND
            else:
                row["error"] = str(error)
        group.append((row, sound))
        if len(group) == most or seconds > GROUP_S:
            break
    return group


def _reader(decoder: Decoder, scorer) -> Callable[[Path], tuple[Recording | np.ndarray, float]]:
    """A function that reads a file for a scorer: (recording or wave, seconds of all channels)."""
    rate = getattr(scorer, "rate", dsp.RATE)

    def read(path: Path):
        recording = decoder.read(path, rate)
        seconds = recording.channels.size / rate
        if getattr(scorer, "recordings", False):
            return recording, seconds
        return reading.mono(recording, path.name), seconds

    return read


@functools.lru_cache(maxsize=1)
def _open_scorer(opener: Callable, arguments: tuple):
    """The scorer of this process: its model is loaded once, not for each shard."""
    return opener(*arguments)


@functools.lru_cache(maxsize=1)
def _open_decoder() -> Decoder:
    """The decoder of this process, which ends with it, or with `_decoder_of_this_process`."""
    return Decoder()


@contextlib.contextmanager
def _decoder_of_this_process() -> Iterator[None]:
    """End the decoder with the block, if there is one."""
    try:
        yield
    finally:
        if _open_decoder.cache_info().currsize:
            with _open_decoder():
                _open_decoder.cache_clear()


def _score_shard(opener: Callable, arguments: tuple, files: list[Listed], target: Path) -> None:
    """Score some files in this process and write their rows to `target`, whole or not at all."""
    rows, remaining = [], iter(files)
    decoder = _open_decoder()  # starts while the scorer is opened
    scorer = _open_scorer(opener, arguments)
    read, most = _reader(decoder, scorer), getattr(scorer, "group_files", GROUP_FILES)

    def read_and_prepare(_):
        group = _read_group(remaining, read, most)
        sounds = [sound for _, sound in group if sound is not None]
        return group, scorer.prepare(sounds) if hasattr(scorer, "prepare") else sounds

    with contextlib.closing(read_ahead(range(len(files)), read_and_prepare)) as groups:
        for group, prepared in groups:
            if not group:
                break
            scored = iter(scorer.rows(prepared))
            rows += [row if sound is None else next(scored) | row for row, sound in group]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with paths.whole(target) as temporary, temporary.open("w", newline="", **ENCODING) as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def shard_size(count: int) -> int:
    """Files of a shard, of `count` files altogether.

    A power of two where there are more than `FEW_FILES`: a few files more, and what was scored
    before them still counts.
    """
    if count <= FEW_FILES:
        return min(count, SHARD_FILES)
    return min(SHARD_FILES, max(LEAST_FILES, 1 << (count // SHARDS).bit_length() >> 1))


def _shards(files: list[Listed]) -> list[list[Listed]]:
    size = max(1, shard_size(len(files)))
    return [files[start : start + size] for start in range(0, len(files), size)]


def _ahead(processes: int, count: int) -> int:
    """Shards that are started: others go on while a process hears a recording of hours."""
    return 2 * processes * max(1, SHARD_FILES // max(1, shard_size(count))) if processes > 1 else 1


def _shard_name(key: str, files: list[Listed]) -> str:
    """File name of a shard: a hash of `key` and of the names, sizes and dates of its files."""
    digest = hashlib.sha256(key.encode())
    for path, named in files:
        state = None
        with contextlib.suppress(OSError, ValueError):  # such a file is named in its row
            status = path.stat()
            state = status.st_size, status.st_mtime_ns
        digest.update(f"{path}\0{named}\0{state}\0".encode(errors="surrogateescape"))
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
    if pool is None:
        parallel.run_single_threaded(_score_shard, job)
        return None
    return pool.submit(parallel.run_single_threaded, _score_shard, job)


def score_files(
    files: list[Path | Listed],
    opener: Callable,
    arguments: tuple = (),
    keep: Path | None = None,
    processes: int = 0,
    label: str = "",
) -> Iterator[dict[str, str]]:
    """Yield a row for each file, in order: what the scorer gives, `file`, `passed`, `error`.

    Args:
        files: a file that `listing` found in a folder may be none of sound: `passed` says so then.
        opener: a function or class of a module of this project; each process calls
            `opener(*arguments)` once for its scorer. `scorer.rows(waves)` returns a dict for each
            wave at `scorer.rate` Hz (8 kHz without that), of `scorer.group_files` (`GROUP_FILES`)
            at once. If `scorer.recordings` is true, it gets recordings, as far as they can be
            decoded, instead of waves, which are read strictly. If it has `prepare(waves)`, that
            runs ahead in a second thread, and `rows` gets what it returns.
        arguments: they are pickled, and their `repr` is part of the names of shards.
        keep: folder in which finished shards stay, so that a second start after a kill goes on;
            `clear` removes it. Without it nothing is kept.
        processes: how many; 0: `parallel.processes()`.
        label: name on the progress bar; "": no bar.
    A file that cannot be read gets a row with its `error` and no column of the scorer. Memory does
    not grow with the number of files. Names that are not UTF-8 have surrogates, as `os.fsdecode`
    makes them. Raises what the opener and the scorer raise.
    """
    files = [file if isinstance(file, Listed) else Listed(file, named=True) for file in files]
    remaining, started = deque(_shards(files)), deque()
    processes = min(processes or parallel.processes(), len(remaining))
    key = code_digest(opener, _score_shard, settings=arguments) if keep else ""  # never asked for
    with (
        _shard_folder(keep) as folder,
        _decoder_of_this_process(),
        parallel.executor(max(1, processes)) as pool,
        parallel.progress(label=label, total=len(files), unit="clip", smoothing=0) as bar,
    ):
        while remaining or started:
            while remaining and len(started) < _ahead(processes, len(files)):
                shard = remaining.popleft()
                target = folder / _shard_name(key, shard)
                job = (opener, arguments, shard, target)
                started.append((target, _start(pool if processes > 1 else None, job)))
            target, running = started.popleft()
            if running:
                running.result()
            with target.open(newline="", **ENCODING) as table:
                for row in csv.DictReader(table):
                    bar.update()
                    yield row


def clear(keep: Path) -> None:
    """Remove the shards that `score_files` kept in `keep`."""
    shutil.rmtree(keep, ignore_errors=True)
