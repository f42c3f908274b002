"""Ray: the same results as the local engine, also when a worker is killed in the middle."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from utils import parallel
from utils.audio import reading
from utils.detector.batch import batch_scoring
from utils.evaluation import benchmark
from utils.models import classifiers

pytest.importorskip("ray", reason="pip install ray")
pytestmark = pytest.mark.slow


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


def work(number: int, wave: np.ndarray, folder: Path) -> float:
    """A job that changes its array in place; the third one's process is killed the first time."""
    if number == 3 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), 9)
    (folder / f"{number} by {os.getpid()}").touch()
    wave *= number
    return float(wave.sum())


def test_a_killed_worker_is_replaced_and_jobs_come_in_order(cluster, tmp_path):
    waves = [np.arange(100_000, dtype=np.float32) for _ in range(6)]
    sums = parallel.run_in_processes(work, [(i, wave, tmp_path) for i, wave in enumerate(waves)])
    assert sums == [float((np.arange(100_000, dtype=np.float32) * i).sum()) for i in range(6)]
    assert (tmp_path / "killed").exists()
    workers = {path.name.split()[-1] for path in tmp_path.glob("* by *")}
    assert len(workers - {str(os.getpid())}) >= 2


def test_an_error_of_a_job_is_raised_here(cluster):
    with pytest.raises(ZeroDivisionError):
        parallel.run_in_processes(divmod, [(1, 0)])


@pytest.fixture
def use_local_engine(monkeypatch):
    """A function that goes from the cluster to the processes of this machine."""

    def switch():
        monkeypatch.setenv("DFS_ENGINE", "local")
        parallel._staying.cache_clear()

    return switch


def test_svm_scores_are_those_of_the_local_engine(cluster, use_local_engine):
    """To the byte: Ray's workers have one thread of BLAS, ours could have one for each core."""
    rng = np.random.default_rng(0)
    job = rng.normal(size=(60, 1536)), np.arange(60) % 2, rng.normal(size=(20, 1536))
    (on_cluster,) = parallel.run_in_processes(classifiers.svm_scores, [job])
    use_local_engine()
    (local,) = parallel.run_in_processes(classifiers.svm_scores, [job])
    assert np.array_equal(on_cluster, local)


def test_jobs_of_the_local_engine_have_one_thread_of_blas(monkeypatch):
    monkeypatch.setenv("DFS_ENGINE", "local")
    (libraries,) = parallel.run_in_processes(threadpool_info, [()])
    assert libraries and all(library["num_threads"] == 1 for library in libraries)


def test_scores_of_files_are_those_of_the_local_engine(
    cluster, use_local_engine, tmp_path, monkeypatch
):
    rng, files = np.random.default_rng(0), [tmp_path / f"{i}.wav" for i in range(6)]
    for i, file in enumerate(files):
        reading.write(file, rng.standard_normal(8000 + 500 * i) * 0.1)
    monkeypatch.setattr(batch_scoring, "SHARD_FILES", 2)
    engine = benchmark.random_engine, ("ge2e", 1, "fp32")
    on_cluster = list(batch_scoring.score_files(files, *engine))
    use_local_engine()
    local = list(batch_scoring.score_files(files, *engine, processes=2))
    assert on_cluster == local and all(row["score"] for row in local)


def test_a_cluster_that_starts_slowly_gets_another_chance(monkeypatch):
    import ray

    starts, stops = [], []

    def start(*arguments, **options):
        starts.append(arguments)
        if len(starts) < parallel.CLUSTER_TRIES:
            raise Exception("The current node timed out during startup. This could happen …")

    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setattr(ray, "shutdown", lambda: stops.append(len(starts)))
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="here"))
    parallel.cluster()
    assert stops == list(range(1, parallel.CLUSTER_TRIES)) and os.environ["RAY_ADDRESS"] == "here"
    monkeypatch.setattr(ray, "init", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        parallel.cluster()
