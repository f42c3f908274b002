"""Ray: the same results as the local engine, also when a worker is killed in the middle."""

import os
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from utils import parallel
from utils.audio import reading
from utils.detector import batch_scoring
from utils.evaluation import benchmark
from utils.models import classifiers, inference

pytest.importorskip("ray", reason="pip install ray")


@pytest.fixture
def cluster(monkeypatch):
    """A Ray of two workers on this machine."""
    import ray

    monkeypatch.setenv("DFS_ENGINE", "ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    parallel._staying.cache_clear()
    yield parallel.cluster()
    ray.shutdown()
    os.environ.pop("RAY_ADDRESS", None)
    parallel._staying.cache_clear()


def work(number: int, wave: np.ndarray, marks: Path) -> float:
    """A job that changes its array in place; the third one's process is killed the first time."""
    if number == 3 and not (marks / "killed").exists():
        (marks / "killed").touch()
        os.kill(os.getpid(), 9)
    (marks / f"{number} by {os.getpid()}").touch()
    wave *= number
    return float(wave.sum())


def test_a_killed_worker_is_replaced_and_jobs_come_in_order(cluster, tmp_path):
    waves = [np.arange(100_000, dtype=np.float32) for _ in range(6)]
    found = parallel.run_in_processes(work, [(i, wave, tmp_path) for i, wave in enumerate(waves)])
    assert found == [float((np.arange(100_000, dtype=np.float32) * i).sum()) for i in range(6)]
    assert (tmp_path / "killed").exists() and len(
        {p.name.split()[-1] for p in tmp_path.glob("* by *")} - {str(os.getpid())}
    ) >= 2
    with pytest.raises(ZeroDivisionError):
        parallel.run_in_processes(divmod, [(1, 0)])


def test_a_kernel_is_that_of_the_local_engine(cluster, monkeypatch):
    """To the byte, where workers of Ray have one thread of BLAS and ours would have as many as there are cores."""
    rng = np.random.default_rng(0)
    job = rng.normal(size=(60, 1536)), np.arange(60) % 2, rng.normal(size=(20, 1536))
    (there,) = parallel.run_in_processes(classifiers.svm_scores, [job])
    monkeypatch.setenv("DFS_ENGINE", "local")
    parallel._staying.cache_clear()
    (here,) = parallel.run_in_processes(classifiers.svm_scores, [job])
    assert np.array_equal(there, here)
    (libraries,) = parallel.run_in_processes(threadpool_info, [()])
    assert libraries and all(library["num_threads"] == 1 for library in libraries)


def test_scores_are_those_of_the_local_engine(cluster, tmp_path, monkeypatch):
    rng, files = np.random.default_rng(0), []
    for i in range(6):
        reading.write(tmp_path / f"{i}.wav", rng.standard_normal(8000 + 500 * i) * 0.1)
        files.append(tmp_path / f"{i}.wav")
    monkeypatch.setattr(inference, "SHARD", 2)
    there = list(batch_scoring.score_files(files, benchmark.random_engine, ("ge2e", 1, "fp32")))
    monkeypatch.setenv("DFS_ENGINE", "local")
    here = list(
        batch_scoring.score_files(files, benchmark.random_engine, ("ge2e", 1, "fp32"), processes=2)
    )
    assert there == here and all(row["score"] for row in here)
