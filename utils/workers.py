"""What independent jobs need: processes that end with the one that started them, random numbers of their own, a progress bar."""
import functools
import hashlib
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process

import numpy as np
from tqdm.auto import tqdm


def pool(workers: int, **options) -> ProcessPoolExecutor:
    """A pool of fresh (spawned) processes. `options` go to ProcessPoolExecutor.

    A worker whose parent is killed would wait for work for ever, holding its model in memory; ours leaves at once. What
    it was writing appears under its final name only when whole, so nothing is left half done.
    """
    return ProcessPoolExecutor(workers, get_context("spawn"), _leave_with_parent, **options)


def _leave_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent

    def wait():
        parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def generator(*words) -> np.random.Generator:
    """Random numbers that follow from `words` alone (seed, what for, which clip): the same in any order and any process."""
    return np.random.default_rng(int.from_bytes(hashlib.md5("/".join(map(str, words)).encode()).digest()[:8]))


def progress(items=None, label: str = "", **options) -> tqdm:
    """`items` with a bar, hidden where `label` is empty; in a log one line every 15 s. `options` go to tqdm."""
    hidden = options.pop("disable", False) or not label
    return tqdm(items, desc=label, disable=hidden, mininterval=0.2 if sys.stderr.isatty() else 15, **options)


def processes() -> int:
    """Processes for independent jobs: one a core, eight at most (each holds a model)."""
    return min(8, os.cpu_count() or 1)


@functools.cache
def _staying() -> ProcessPoolExecutor:
    """The processes of `in_processes`: they stay, since to start one and to import torch takes seconds."""
    return pool(processes())


def in_processes(function, jobs: list, label: str = "") -> list:
    """`[function(*job) for job in jobs]` in single-threaded processes, in order, with a progress bar.

    Raises what a job raises; those that did not start are given up then.
    """
    waiting = []
    try:
        waiting += [_staying().submit(_single, function, job) for job in jobs]
        return [job.result() for job in progress(waiting, label)]
    except BrokenProcessPool:
        _staying.cache_clear()  # a process was killed: the next call starts new ones
        raise
    finally:
        for job in waiting:
            job.cancel()


def _single(function, job):
    import torch

    torch.set_num_threads(1)
    return function(*job)
