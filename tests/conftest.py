"""Shared by the tests: nothing here or there may touch the real inputs, outputs or submissions."""

import os
import tempfile

os.environ["DFS_HOME"] = tempfile.mkdtemp(
    prefix="dfs-test-"
)  # before `utils` is imported: redirects every write
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from utils.audio import dsp

# noqa: E402

torch.set_num_threads(1)  # two threads that wait for each other stand still on a busy machine


@pytest.fixture
def speechlike():
    """A voiced, amplitude-modulated tone of 2 s at 8 kHz: enough for code that needs something audible."""
    time = np.arange(2 * dsp.RATE) / dsp.RATE
    tone = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 12))
    noise = np.random.default_rng(0).standard_normal(len(time)) * 0.01
    return ((tone * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time)) + noise) * 0.1).astype(np.float32)
