"""Run synthesis jobs in parallel, each in a process of its own, and keep what they make.

A job is (system, [(clip to be, item for the system's maker)]), see `selection.spoof_jobs`.
"""

import hashlib
import subprocess
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from utils import parallel, paths
from utils.code_digest import code_digest
from utils.competition.selection import SEED, Clip
from utils.sources import registry
from utils.sources.registry import FetchError
from utils.synthesis import base, systems
from utils.synthesis.base import GeneratorUnavailable

# Errors of a job that can be no fault of our code: something is missing, or a library gives up.
OUTSIDE_ERRORS = (
    OSError,
    ImportError,
    RuntimeError,
    ValueError,
    MemoryError,
    subprocess.SubprocessError,
)
# Errors that no line is to blame for: the job is tried again by the next build.
JOB_ERRORS = (
    FetchError,
    GeneratorUnavailable,
    MemoryError,
    TimeoutError,
    subprocess.TimeoutExpired,
)
LINE_ERRORS = (ValueError, RuntimeError, LookupError, subprocess.CalledProcessError)
SLOWEST = (("kokoro", "mellotron"), ("griffin-lim", "mel-griffin-lim"))  # they start first

Job = tuple[str, list[tuple[Clip, object]]]


def job_path(system: str, items: list) -> Path:
    """Where the clips of a job are kept: the name follows from all that decides them.

    That is the code of the system's loader, the pins of its packages, the seed, the clips and what
    they are made from: a line, or the samples of a bona fide clip.
    """
    entry = systems.SYSTEMS[system]
    pins = registry.pins([*entry.packages, *entry.on_demand])
    code = code_digest(entry.load, make_clips, settings=pins)
    content = [
        (clip.id, item if isinstance(item, base.Line) else _digest_of_wave(*item))
        for clip, item in items
    ]
    text = f"{code}/{SEED}/{system}/{content!r}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:24]
    return paths.CACHE / "synthesised" / f"{system}-{digest}.npz"


def _digest_of_wave(wave: np.ndarray, rate: int) -> str:
    return hashlib.sha256(f"{rate} ".encode() + wave.tobytes()).hexdigest()


def run_job(system: str, items: list, path: Path) -> None:
    """Make the clips of one job in this process and store them under `path`, whole or not at all.

    A line that the system cannot say is stored as its error, which `synthesise` reports.
    """
    # One thread: jobs run side by side, and threads show in the last bit of matrix products.
    with threadpool_limits(1):
        arrays = make_clips(systems.SYSTEMS[system].load(SEED), items)
    with paths.whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def make_clips(make, items: list) -> dict[str, np.ndarray]:
    """What `run_job` stores: `<id>` int16 (samples,) and `<id>/rate`, or `<id>/error`."""
    arrays = {}
    for clip, item in items:
        try:
            wave, rate = make(item)
        except JOB_ERRORS:
            raise
        except LINE_ERRORS as error:
            if getattr(error, "returncode", 0) < 0:
                raise  # a program that was killed from outside (out of memory)
            arrays[clip.id + "/error"] = np.array(str(error)[:300])
            continue
        peak = max(1.0, float(np.abs(wave).max(initial=0)))
        arrays[clip.id] = (np.nan_to_num(wave) / peak * 32767).astype(np.int16)
        arrays[clip.id + "/rate"] = np.array(rate)
    return arrays


def synthesise(
    jobs: list[Job], processes: int, skipped: list, strict: set[str]
) -> dict[Clip, tuple[np.ndarray, int]]:
    """Run those of `jobs` that are not finished; return {clip: (wave float32 (samples,), Hz)}.

    A job that fails (a package, a licence or a library is missing) is left out and appended to
    `skipped` as (system, item, reason), unless its system is in `strict` or a process died: then
    RuntimeError is raised. An error in our code is raised as it is. Finished jobs are kept.
    """
    files = [job_path(system, items) for system, items in jobs]
    todo = [number for number, file in enumerate(files) if not file.exists()]
    failed = _without_packages(jobs, todo)
    todo = sorted((n for n in todo if n not in failed), key=lambda n: _rank(jobs[n][0]))
    failed |= _run(jobs, todo, files, processes, strict)
    for number, reason in failed.items():
        system, items = jobs[number]
        if system in strict:
            raise RuntimeError(f"synthesis by {system} failed: {reason}")
        skipped += [(system, clip.made_from, reason) for clip, _ in items]
    return _finished(jobs, files, skipped)


def _rank(system: str) -> int:
    for rank, names in enumerate(SLOWEST):
        if system in names:
            return rank
    return len(SLOWEST)


def _without_packages(jobs: list[Job], todo: list[int]) -> dict[int, str]:
    """Numbers of the jobs whose system has a package that cannot be fetched, with the reason."""
    reasons = {}
    for system in dict.fromkeys(jobs[number][0] for number in todo):
        try:
            registry.fetch(systems.SYSTEMS[system].packages)
        except FetchError as error:
            reasons[system] = str(error)
    return {number: reasons[jobs[number][0]] for number in todo if jobs[number][0] in reasons}


def _run(
    jobs: list[Job], todo: list[int], files: list[Path], processes: int, strict: set[str]
) -> dict[int, str]:
    """Run the jobs `todo`, each in a fresh process; return the failed ones with the reason.

    Stops at the first failure of a strict system, and raises what is no failure of a job.
    """
    failed = {}
    with parallel.executor(processes, max_tasks_per_child=1) as pool:
        running = {pool.submit(run_job, *jobs[number], files[number]): number for number in todo}
        for done in parallel.progress(
            as_completed(running), "synthesise", total=len(todo), unit="job", disable=not todo
        ):
            number, error = running[done], done.exception()
            if error is None:
                continue
            if isinstance(error, BrokenProcessPool):
                pool.shutdown(cancel_futures=True)
                raise RuntimeError(
                    "a synthesis process died (out of memory?). Start again: finished jobs are kept"
                ) from error
            if not isinstance(error, OUTSIDE_ERRORS):
                pool.shutdown(cancel_futures=True)
                raise error
            failed[number] = f"{type(error).__name__}: {error}"
            if jobs[number][0] in strict:
                pool.shutdown(cancel_futures=True)
                break
    return failed


def _finished(
    jobs: list[Job], files: list[Path], skipped: list
) -> dict[Clip, tuple[np.ndarray, int]]:
    """Clips of all finished jobs; lines that a system could not say are appended to `skipped`."""
    waves = {}
    for (system, items), file in zip(jobs, files, strict=True):
        if not file.exists():
            continue
        with np.load(file, allow_pickle=False) as arrays:
            for clip, _ in items:
                if clip.id + "/error" in arrays:
                    skipped.append((system, clip.made_from, str(arrays[clip.id + "/error"])))
                else:
                    wave = arrays[clip.id].astype(np.float32) / 32767
                    waves[clip] = wave, int(arrays[clip.id + "/rate"])
    return waves
