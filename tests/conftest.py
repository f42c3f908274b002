"""Shared by the tests: none of them may touch the user's inputs, outputs, submissions or cache."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

TEMPORARY = Path(tempfile.mkdtemp(prefix="dfs-test-"))
os.environ["DFS_HOME"] = str(TEMPORARY)  # before `utils` is imported: redirects every write
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from tests import helpers  # noqa: E402
from utils import paths  # noqa: E402
from utils.audio import dsp  # noqa: E402

# Downloads are kept in the user's cache, where they are checked by their hashes; results are not.
paths.CACHE = helpers.link_downloads(paths.CACHE, TEMPORARY / "cache")
os.environ["DFS_CACHE"] = str(paths.CACHE)  # for the processes that tests start

# The background job of a script ignores Ctrl-C, and so would all programs that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)  # two threads that wait for each other stand still on a busy machine


def pytest_unconfigure():
    shutil.rmtree(TEMPORARY, ignore_errors=True)


def pytest_collection_modifyitems(items):
    """Sort files of tests: that of the smoke run, those with slow tests, others.

    So no process is left with a long file at the end.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    longest = {item.path for item in items if "smoke_run" in item.fixturenames}
    items.sort(key=lambda item: (item.path not in longest, item.path not in slow))


@pytest.fixture
def speechlike():
    """A voiced, amplitude-modulated tone of 2 s at 8 kHz, for code that needs something audible."""
    time = np.arange(2 * dsp.RATE) / dsp.RATE
    tone = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 12))
    noise = np.random.default_rng(0).standard_normal(len(time)) * 0.01
    return ((tone * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time)) + noise) * 0.1).astype(np.float32)


@pytest.fixture(scope="session")
def smoke_inputs(tmp_path_factory):
    """A home whose inputs/smoke is built, for runs that `helpers.run_command` starts there."""
    home = tmp_path_factory.mktemp("smoke-inputs")
    done = helpers.run_command(home, "smoke", module="utils.competition.build")
    assert done.returncode == 0, done.stdout
    return home


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """A finished smoke run (`helpers.SmokeRun`), made once, for tests that read its results."""
    return helpers.undisturbed_smoke_run(tmp_path_factory.mktemp("smoke-run"))
