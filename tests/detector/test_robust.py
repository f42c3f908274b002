"""No room, no folder, a clock that jumps: a message, and nothing that was there is lost."""

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
from utils.detector import detector
from utils.models import classifiers, pooled_features
from utils.pipeline import profiles, run

PROGRAM = "import sys, torch; torch.set_num_threads(1)\nfrom utils import {0}\nsys.exit({0}.main(sys.argv[1:]))"


def call(module, *arguments, largest=None, **environment):
    """Run a module's command in a process that cannot write files of more than `largest` bytes; (status, standard error)."""

    def limit():
        if largest:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module), *map(str, arguments)],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=limit,
        env=os.environ | {"PYTHONPATH": str(paths.ROOT)} | environment,
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """(folder of a detector of hisses, folder of 40 hisses)."""
    rng, home, clips = (
        np.random.default_rng(0),
        tmp_path_factory.mktemp("detector"),
        tmp_path_factory.mktemp("clips"),
    )
    waves = [rng.normal(size=8000).astype(np.float32) * 0.1 * (1 + i % 2) for i in range(8)]
    model = classifiers.fit_svm(
        pooled_features.features_in_this_process(waves, {"ge2e": (0,)}), np.arange(8) % 2
    )
    rows = pd.DataFrame({"label": [0] * 8, "system": "s", "page": "p", "language": "en"})
    detector.save(home, model, 1.0, 0.0, {"depths": [("ge2e", (0,))], "threshold": 0.5}, rows)
    for i in range(40):
        reading.write(clips / f"a clip with a long name that fills the table {i}.wav", waves[i % 8])
    return home, clips


def test_no_room_for_the_table(folder, tmp_path):
    home, clips = folder
    out = tmp_path / "scores.csv"
    out.write_text("the table of yesterday")
    status, told = call(
        "predict", clips, "--detector", home, "--no-language", "--out", out, largest=3000
    )
    assert status == 1 and "FAILED: " in told and "too large" in told and "Traceback" not in told
    assert out.read_text() == "the table of yesterday"  # it was not half overwritten
    status, told = call("predict", clips, "--detector", home, "--no-language", "--out", out)
    assert status == 0 and len(pd.read_csv(out)) == 40
    assert [p.name for p in tmp_path.iterdir()] == ["scores.csv"]  # nothing half done is left


def test_no_folder_to_write_to(tmp_path):
    (tmp_path / "file").write_text("in the way")
    status, told = call("run", "--profile", "smoke", DFS_HOME=str(tmp_path / "file" / "home"))
    assert (
        status == 1
        and "FAILED: " in told
        and str(tmp_path / "file") in told
        and "Traceback" not in told
    )


def test_a_clock_that_jumps(tmp_path, monkeypatch):
    """What was used last is known by counting, what is finished by content: no date decides."""
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    for i, now in enumerate((2e9, 1e9, 3e9, 0.0)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        feature_cache.put({f"result {i}": np.full(50_000, i)})
    feature_cache.get(["result 0"])
    feature_cache.put({"new": np.zeros(1)}, limit_mb=1)
    assert set(feature_cache.get(["result 0", "result 1", "new"])) == {"result 0", "new"}
    monkeypatch.undo()
    folder = paths.run_dir("clock")
    (folder / "a.txt").write_text("x")
    paths.write_json(
        folder / ".stamps" / "one.json",
        {"digest": "d", "files": {os.path.relpath(folder / "a.txt", paths.HOME): 1}},
    )
    for date in (0, 4e9):
        os.utime(folder / "a.txt", (date, date))
        assert run.is_finished(profiles.Step("one"), folder, "d")
