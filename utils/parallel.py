"""Independent jobs in parallel processes, with their own random numbers and a progress bar.

Jobs run in processes of this machine or, where `DFS_ENGINE` is "ray", on a Ray cluster: that of
`RAY_ADDRESS`, or one that is started on this machine. All machines of a cluster share the folders
of `DFS_HOME` and `DFS_CACHE`. Results are the same either way.
"""

import contextlib
import functools
import hashlib
import math
import os
import pickle
import signal
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from utils import console

CGROUP = Path("/sys/fs/cgroup")
CLUSTER_TRIES = 3  # Ray waits 30 s for its first node, too short on a busy machine


def process_pool(workers: int, **options) -> ProcessPoolExecutor:
    """A pool of spawned processes. `options` go to ProcessPoolExecutor.

    A worker whose parent is killed would wait for work for ever, with its model in memory; these
    workers exit at once. Files are written by `paths.whole`, so none is left incomplete. Ctrl-C in
    a `with` block of the pool ends them too.
    """
    return _Pool(workers, get_context("spawn"), _exit_with_parent, **options)


class _Pool(ProcessPoolExecutor):
    def submit(self, *job, **options):
        # Ctrl-C waits until workers are started: one that is cut off before prints a traceback
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(*job, **options)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __exit__(self, kind, *error):
        if kind in (KeyboardInterrupt, GeneratorExit):  # nobody waits for what is still to do
            for process in list((self._processes or {}).values()):
                process.kill()
        return super().__exit__(kind, *error)


def _exit_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent

    def wait():
        parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def seeded_rng(*words) -> np.random.Generator:
    """A generator that follows from `words` alone: a seed, what it is for, which clip.

    Random numbers are therefore the same in any order of jobs and in any process.
    """
    text = "/".join(map(str, words))
    return np.random.default_rng(int.from_bytes(hashlib.md5(text.encode()).digest()[:8]))


def progress(items=None, label: str = "", **options) -> tqdm:
    """`items` with a progress bar, or without one if `label` is empty; `options` go to tqdm.

    Where the bar goes to a log instead of a terminal, it prints a line every 15 s.
    """
    hidden = options.pop("disable", False) or not label
    file = console.stream()
    interval = 0.2 if file.isatty() else 15
    return tqdm(items, desc=label, disable=hidden, file=file, mininterval=interval, **options)


def cpu_count() -> int:
    """CPUs that this process may use, at least 1.

    Unlike `os.cpu_count`, it respects the CPU affinity (taskset, Slurm) and the quota of a
    container (cgroup), rounded up to a whole number.
    """
    allowed = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux
        allowed = len(os.sched_getaffinity(0))
    return max(1, math.ceil(min(allowed, _cpu_quota())))


def _cpu_quota() -> float:
    """CPUs that the container may use (cgroup, version 2 or 1); infinite without a limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        # OSError: no such file; ValueError: "max"
        with contextlib.suppress(OSError, ValueError):
            text = " ".join((CGROUP / name).read_text() for name in names)
            quota, period = map(float, text.split())
            if quota > 0:
                return quota / period
    return math.inf


def processes() -> int:
    """Number of processes for independent jobs: all CPUs of a cluster, or of this machine up to 8.

    The limit is for memory: each process holds a model.
    """
    if os.environ.get("DFS_ENGINE") == "ray":
        return int(cluster().cluster_resources()["CPU"])
    return min(8, cpu_count())


def cluster():
    """The `ray` module, connected.

    Raises ConnectionError (from Ray) if there is no cluster at `RAY_ADDRESS`.
    """
    import ray

    if not ray.is_initialized():
        from utils import paths

        variables = {name: value for name, value in os.environ.items() if name.startswith("DFS_")}
        variables["PYTHONPATH"] = os.pathsep.join([str(paths.ROOT), *sys.path])
        options = {
            "include_dashboard": False if "RAY_ADDRESS" not in os.environ else None,
            "logging_level": "warning",
            "log_to_driver": False,
            "runtime_env": {"env_vars": variables},
        }
        for tries_left in reversed(range(CLUSTER_TRIES)):
            try:
                ray.init(os.environ.get("RAY_ADDRESS"), **options)
                break
            except Exception as error:  # Ray has no class for it
                if not tries_left or "timed out during startup" not in str(error):
                    raise
                ray.shutdown()
        # the notebooks' kernels, which are started later, connect to the same cluster
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    return ray


class Cluster(Executor):
    """A Ray cluster as an executor.

    A job whose process or machine is lost is tried again, three times.
    """

    def __init__(self, max_tasks_per_child: int | None = None):
        self.run = cluster().remote(num_cpus=1, max_retries=3, max_calls=max_tasks_per_child or 0)(
            _unpacked
        )
        self.jobs: set[_Job] = set()

    def submit(self, function, /, *arguments) -> Future:
        job = _Job()
        # pickled here, since arrays that Ray passes on itself are read-only
        job.reference = self.run.remote(pickle.dumps((function, arguments, os.getcwd())))
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
    """What `Cluster.submit` returns. To cancel it cancels the job on the cluster too."""

    reference = None

    def cancel(self) -> bool:
        if not self.done():
            cluster().cancel(self.reference)
        return super().cancel()

    def settle(self, remote: Future) -> None:
        """Take over result or error of the cluster's future.

        A job that was lost for good becomes BrokenProcessPool, as for a killed local process.
        """
        from ray.exceptions import RayError, RayTaskError

        if self.cancelled():
            return
        error = remote.exception()
        if isinstance(error, RayError) and not isinstance(error, RayTaskError):
            error = BrokenProcessPool(f"a job was lost: {error}")
        if error:
            self.set_exception(error)
        else:
            self.set_result(remote.result())


def _unpacked(job: bytes):
    function, arguments, folder = pickle.loads(job)
    os.chdir(folder)  # so that relative paths mean the same on the cluster
    return function(*arguments)


def executor(workers: int, **options) -> Executor:
    """Where independent jobs run: `workers` new processes, or the cluster.

    `options`: max_tasks_per_child.
    """
    if os.environ.get("DFS_ENGINE") == "ray":
        return Cluster(**options)
    return process_pool(workers, **options)


@functools.cache
def _staying() -> Executor:
    """The processes of `run_in_processes`: kept, since to start one takes seconds."""
    return executor(processes())


def run_in_processes(function, jobs: list, label: str = "") -> list:
    """`[function(*job) for job in jobs]` in single-threaded processes, in order.

    Args: `label` of the progress bar; no bar without one. Raises what a job raises, and cancels the
    jobs that have not started then.
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


def map_chunks(function, items: list, chunk_size: int, *args, label: str = "") -> list:
    """Results of `function(chunk, *args)`, one per item, computed in parallel chunks.

    Items are cut, in their order, into chunks of almost equal size: at least `chunk_size` and less
    than twice as many. `function` returns one result per item of its chunk. `label`: as in
    `run_in_processes`. Without items nothing runs and the result is empty.
    """
    if not len(items):
        return []
    chunks = np.array_split(np.arange(len(items)), max(1, len(items) // chunk_size))
    jobs = [([items[i] for i in chunk], *args) for chunk in chunks]
    return [result for results in run_in_processes(function, jobs, label) for result in results]


def run_single_threaded(function, job):
    """`function(*job)` with one thread for BLAS and, if it is loaded, torch.

    How BLAS cuts its sums into threads shows in the last digits: with one, they are the same on any
    machine.
    """
    if "torch" in sys.modules:  # never loaded for this alone: scoring does without it
        sys.modules["torch"].set_num_threads(1)
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:  # the environment that only scores
        return function(*job)
    with threadpool_limits(1):
        return function(*job)
