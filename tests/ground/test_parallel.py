"""Chunks of items in parallel processes, and how many CPUs there are."""

import os
import subprocess
import sys

import pytest

from utils import parallel, paths


def squares(chunk, offset):
    """A job: squares of a chunk, with its length and its process."""
    return [(item**2 + offset, len(chunk), os.getpid()) for item in chunk]


def test_chunks_keep_the_order_of_items_and_run_in_other_processes():
    results = parallel.map_chunks(squares, list(range(23)), 5, 100)
    assert [value for value, _, _ in results] == [i**2 + 100 for i in range(23)]
    sizes = [size for _, size, _ in results]
    assert set(sizes) == {5, 6}  # almost equal, none under the size
    assert os.getpid() not in {process for _, _, process in results}


def test_fewer_items_than_a_chunk_are_one_chunk_and_none_are_no_job():
    assert [size for _, size, _ in parallel.map_chunks(squares, [1, 2], 5, 0)] == [2, 2]
    assert parallel.map_chunks(squares, [], 5, 0) == []


def test_random_numbers_follow_from_words_alone():
    one, same, other = (
        parallel.seeded_rng(seed, "what", "clip").random(4).tolist() for seed in (1, 1, 2)
    )
    assert one == same != other
    assert one[0] == 0.3337426646103162  # numbers of all runs depend on it


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_only_cpus_that_the_process_may_use_are_counted():
    """os.cpu_count counts those of the whole machine."""
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from utils import parallel; print(parallel.cpu_count(), parallel.processes())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DFS_ENGINE"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=paths.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1", "1"]


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"cpu.max": "150000 100000"}, 2),  # 1.5 CPUs
        ({"cpu.max": "1000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu.max": "max 100000"}, 16),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ({}, 16),
    ],
)
def test_the_quota_of_a_container_limits_the_cpus(files, count, tmp_path, monkeypatch):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(parallel, "CGROUP", tmp_path)
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert parallel.cpu_count() == count
