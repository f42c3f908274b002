"""Processes for independent jobs, which end with the process that started them."""
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process


def pool(workers: int, **options) -> ProcessPoolExecutor:
    """A pool of fresh (spawned) processes. `options` go to ProcessPoolExecutor.

    A worker whose parent is killed would wait for work for ever, holding its model in memory; ours leaves at once. What
    it was writing appears under its final name only when whole, so nothing is left half done.
    """
    return ProcessPoolExecutor(workers, get_context("spawn"), _leave_with_parent, **options)


def _leave_with_parent() -> None:
    def wait():
        parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
