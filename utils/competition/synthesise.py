"""TODO competition.synthesise."""

import hashlib
import subprocess
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool

import numpy as np
from threadpoolctl import threadpool_limits

from utils import parallel, paths
from utils.code_digest import code_digest
from utils.competition.selection import SEED, Clip
from utils.sources.registry import FetchError, fetch
from utils.synthesis import base, systems
from utils.synthesis.hub import GeneratorUnavailable

MISSING = (
    OSError,
    ImportError,
    RuntimeError,
    ValueError,
    MemoryError,
    subprocess.SubprocessError,
)  # what a job may die of


def job_path(system: str, items: list):
    code = code_digest(systems.SYSTEMS[system].load)
    text = repr(
        [(clip.id, item if isinstance(item, base.Line) else clip.made_from) for clip, item in items]
    )
    digest = hashlib.sha256(f"{code}/{SEED}/{system}/{text}".encode()).hexdigest()[:24]
    return paths.CACHE / "synthesised" / f"{system}-{digest}.npz"


def run_job(system: str, items: list, path) -> None:
    """Make the clips of one job in this process and store them (PCM16 and rate) under `path`, whole.

    A line that the system cannot say is stored as its error, to be reported by `synthesise`.
    """
    arrays = {}
    with threadpool_limits(
        1
    ):  # jobs run side by side; and how matrix products are cut into threads shows in the last bit
        make = systems.SYSTEMS[system].load(SEED)
        for clip, item in items:
            try:
                wave, rate = make(item)
            except (
                FetchError,
                GeneratorUnavailable,
                MemoryError,
                TimeoutError,
                subprocess.TimeoutExpired,
            ):
                raise  # not the line's fault: the job is tried again by the next build
            except (ValueError, RuntimeError, LookupError, subprocess.CalledProcessError) as error:
                if getattr(error, "returncode", 0) < 0:
                    raise  # a program that was killed from outside (out of memory)
                arrays[clip.id + "/error"] = np.array(str(error)[:300])
                continue
            peak = max(1.0, float(np.abs(wave).max(initial=0)))
            arrays[clip.id] = (np.nan_to_num(wave) / peak * 32767).astype(np.int16)
            arrays[clip.id + "/rate"] = np.array(rate)
    with paths.whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def synthesise(
    jobs: list, processes: int, skipped: list, strict: set[str]
) -> dict[Clip, tuple[np.ndarray, int]]:
    """Run what is missing of `jobs`, each in a fresh process, and return every clip's wave at native rate.

    A job that fails (package, licence or library missing) is left out and appended to `skipped` with its reason, unless its
    system is in `strict` or a process died: then RuntimeError; a fault in the code is raised as it is. Finished jobs are kept.
    """
    failed: dict[int, str] = {}
    paths_of = [job_path(system, items) for system, items in jobs]
    todo = [i for i, path in enumerate(paths_of) if not path.exists()]
    reasons: dict[str, str] = {}
    for system in dict.fromkeys(jobs[i][0] for i in todo):
        try:
            fetch(systems.SYSTEMS[system].packages)
        except FetchError as error:
            reasons[system] = str(error)
    failed |= {i: reasons[jobs[i][0]] for i in todo if jobs[i][0] in reasons}
    slow = {"kokoro": 0, "mellotron": 0, "griffin-lim": 1, "mel-griffin-lim": 1}
    todo = sorted((i for i in todo if i not in failed), key=lambda i: slow.get(jobs[i][0], 2))
    with parallel.executor(processes, max_tasks_per_child=1) as pool:
        running = {pool.submit(run_job, *jobs[i], paths_of[i]): i for i in todo}
        for done in parallel.progress(
            as_completed(running), "synthesise", total=len(todo), unit="job", disable=not todo
        ):
            job, error = running[done], done.exception()
            if isinstance(error, MISSING) and not isinstance(error, BrokenProcessPool):
                failed[job] = f"{type(error).__name__}: {error}"
            if error and (job not in failed or jobs[job][0] in strict):
                pool.shutdown(cancel_futures=True)
                if isinstance(error, BrokenProcessPool):
                    raise RuntimeError(
                        "a synthesis process died (out of memory?). Start again: finished jobs are kept"
                    ) from error
                if job not in failed:
                    raise error
                break
    for i, reason in failed.items():
        if jobs[i][0] in strict:
            raise RuntimeError(f"synthesis by {jobs[i][0]} failed: {reason}")
        skipped += [(jobs[i][0], clip.made_from, reason) for clip, _ in jobs[i][1]]
    waves = {}
    for (system, items), path in zip(jobs, paths_of, strict=True):
        if not path.exists():
            continue
        with np.load(path, allow_pickle=False) as arrays:
            for clip, _ in items:
                if clip.id + "/error" in arrays:
                    skipped.append((system, clip.made_from, str(arrays[clip.id + "/error"])))
                else:
                    waves[clip] = (
                        arrays[clip.id].astype(np.float32) / 32767,
                        int(arrays[clip.id + "/rate"]),
                    )
    return waves
