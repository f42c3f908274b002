"""What independent jobs need: processes that end with the one that started them, random numbers of their own, a progress bar.

Jobs run in processes of this machine or, where `DFS_ENGINE` is "ray", on a Ray cluster: that of `RAY_ADDRESS`, or one that is started
here. Its machines share the folders of `DFS_HOME` and `DFS_CACHE`; results are the same.
"""

import functools
import hashlib
import os
import pickle
import signal
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process

import numpy as np
from tqdm.auto import tqdm


def process_pool(workers: int, **options) -> ProcessPoolExecutor:
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


def seeded_rng(*words) -> np.random.Generator:
    """Random numbers that follow from `words` alone (seed, what for, which clip): the same in any order and any process."""
    return np.random.default_rng(
        int.from_bytes(hashlib.md5("/".join(map(str, words)).encode()).digest()[:8])
    )


def progress(items=None, label: str = "", **options) -> tqdm:
    """`items` with a bar, hidden where `label` is empty; in a log one line every 15 s. `options` go to tqdm."""
    hidden = options.pop("disable", False) or not label
    return tqdm(
        items, desc=label, disable=hidden, mininterval=0.2 if sys.stderr.isatty() else 15, **options
    )


def processes() -> int:
    """Processes for independent jobs: one a core, on one machine eight at most (each holds a model)."""
    if os.environ.get("DFS_ENGINE") == "ray":
        return int(cluster().cluster_resources()["CPU"])
    return min(8, os.cpu_count() or 1)


def cluster():
    """The `ray` module, connected. Raises ConnectionError (from Ray) if there is no cluster at `RAY_ADDRESS`."""
    import ray

    if not ray.is_initialized():
        from utils import paths

        known = {name: value for name, value in os.environ.items() if name.startswith("DFS_")}
        known["PYTHONPATH"] = os.pathsep.join([str(paths.ROOT), *sys.path])
        ray.init(
            os.environ.get("RAY_ADDRESS"),
            include_dashboard=False if "RAY_ADDRESS" not in os.environ else None,
            logging_level="warning",
            log_to_driver=False,
            runtime_env={"env_vars": known},
        )
        os.environ["RAY_ADDRESS"] = (
            ray.get_runtime_context().gcs_address
        )  # for the notebooks' kernels
    return ray


class Cluster(Executor):
    """A Ray cluster as an executor. A job whose process or machine is lost is tried again, three times."""

    def __init__(self, max_tasks_per_child: int | None = None):
        self.run = cluster().remote(num_cpus=1, max_retries=3, max_calls=max_tasks_per_child or 0)(
            _unpacked
        )
        self.jobs: set[_Job] = set()

    def submit(self, function, /, *arguments) -> Future:
        job = _Job()
        job.reference = self.run.remote(
            pickle.dumps((function, arguments, os.getcwd()))
        )  # pickled: Ray makes arrays read-only
        self.jobs.add(job)
        job.add_done_callback(self.jobs.discard)
        job.reference.future().add_done_callback(job.settle)
        return job

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for job in list(self.jobs):
            if cancel_futures:
                job.cancel()
            elif wait:
                job.exception()


class _Job(Future):
    """What `Cluster.submit` returns: cancelled, it does not run there either."""

    reference = None

    def cancel(self) -> bool:
        if not self.done():
            cluster().cancel(self.reference)
        return super().cancel()

    def settle(self, there: Future) -> None:
        """Take over what came back; a job that was lost for good is what a killed process is here: BrokenProcessPool."""
        from ray.exceptions import RayError, RayTaskError

        if self.cancelled():
            return
        error = there.exception()
        if isinstance(error, RayError) and not isinstance(error, RayTaskError):
            error = BrokenProcessPool(f"a job was lost: {error}")
        if error:
            self.set_exception(error)
        else:
            self.set_result(there.result())


def _unpacked(job: bytes):
    function, arguments, folder = pickle.loads(job)
    os.chdir(folder)  # relative paths mean the same there
    return function(*arguments)


def executor(workers: int, **options) -> Executor:
    """Where independent jobs run: so many fresh processes, or the cluster. `options`: max_tasks_per_child."""
    return (
        Cluster(**options)
        if os.environ.get("DFS_ENGINE") == "ray"
        else process_pool(workers, **options)
    )


@functools.cache
def _staying() -> Executor:
    """The processes of `in_processes`: they stay, since to start one and to import torch takes seconds."""
    return executor(processes())


def run_in_processes(function, jobs: list, label: str = "") -> list:
    """`[function(*job) for job in jobs]` in single-threaded processes, in order, with a progress bar.

    Raises what a job raises; those that did not start are given up then.
    """
    waiting = []
    try:
        waiting += [_staying().submit(run_single_threaded, function, job) for job in jobs]
        return [job.result() for job in progress(waiting, label)]
    except BrokenProcessPool:
        _staying.cache_clear()  # a process was killed: the next call starts new ones
        raise
    finally:
        for job in waiting:
            job.cancel()


def run_single_threaded(function, job):
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    with threadpool_limits(1):  # of BLAS too: how its sums are cut into threads shows in the result
        return function(*job)
