"""A full disk, no folder to write to, a clock that jumps: a message, and nothing is lost."""

import os
import resource
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from utils import feature_cache, paths
from utils.audio import reading
from utils.detector import scoring
from utils.pipeline import steps


def run_module(module, *arguments, largest=None, **environment):
    """Run `python -m <module>`; (exit status, standard error).

    Args: `largest` number of bytes that it can write to one file; None: any.
    """

    def limit():
        if largest:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=limit,
        env=os.environ | {"PYTHONPATH": str(paths.ROOT), "OMP_NUM_THREADS": "1"} | environment,
    )
    return done.returncode, done.stderr


@pytest.fixture
def score(toy, tmp_path):
    """Score 40 clips into scores.csv, which holds the table of yesterday, with the toy detector."""
    clips = tmp_path / "clips"
    clips.mkdir()
    for i in range(40):
        name = f"a clip with a long name that fills the table {i}.wav"
        reading.write(clips / name, toy.waves[i % 8], scoring.RATE)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scores.csv").write_text("the table of yesterday")

    def run_it(largest=None):
        options = ["--detector", toy.folder, "--out", tmp_path / "out/scores.csv"]
        return run_module("utils.predict", clips, *options, largest=largest)

    return run_it


@pytest.mark.slow
def test_without_room_for_the_table_the_old_one_stays(score, tmp_path):
    status, errors = score(largest=3000)
    assert status == 1 and "FAILED: " in errors and "too large" in errors
    assert "Traceback" not in errors
    assert (tmp_path / "out" / "scores.csv").read_text() == "the table of yesterday"


@pytest.mark.slow
def test_a_second_start_after_a_full_disk_leaves_nothing_half_done(score, tmp_path):
    score(largest=3000)
    status, errors = score()
    assert status == 0, errors
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.csv"]
    assert len(pd.read_csv(tmp_path / "out" / "scores.csv")) == 40


def test_a_run_without_a_folder_to_write_to_names_it(tmp_path):
    (tmp_path / "file").write_text("in the way")
    status, errors = run_module(
        "utils.pipeline.run", "--profile", "smoke", DFS_HOME=str(tmp_path / "file" / "home")
    )
    assert status == 1 and "FAILED: " in errors and "Traceback" not in errors
    assert str(tmp_path / "file") in errors


def test_the_cache_drops_what_was_used_longest_ago_though_the_clock_jumps(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    for i, now in enumerate((2e9, 1e9, 3e9, 0.0)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        feature_cache.put({f"result {i}": np.full(50_000, i)})
    feature_cache.get(["result 0"])
    feature_cache.put({"new": np.zeros(1)}, limit_mb=1)
    assert set(feature_cache.get(["result 0", "result 1", "new"])) == {"result 0", "new"}


def test_a_finished_step_stays_finished_whatever_the_dates_of_its_files():
    folder = paths.run_dir("clock")
    (folder / "a.txt").write_text("x")
    paths.write_json(
        folder / ".stamps" / "one.json",
        {"digest": "d", "files": {os.path.relpath(folder / "a.txt", paths.HOME): 1}},
    )
    for date in (0, 4e9):
        os.utime(folder / "a.txt", (date, date))
        assert steps.is_finished(steps.Step("one"), folder, "d")
