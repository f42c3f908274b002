"""One model by two processes at once: the loss curve and the scores of one process, within rounding."""

import numpy as np
import pandas as pd
import pytest

from utils.audio import dsp
from utils.models import finetune, frozen_features
from utils.pipeline import distributed

CLIPS = 21  # not a multiple of two: a last batch of one clip leaves a process without a share


@pytest.fixture
def job(tmp_path, monkeypatch):
    def make(backbone):
        rng = np.random.default_rng(3)
        label = np.arange(CLIPS) % 2
        waves = [
            dsp.coloured_noise(int(rng.integers(6000, 9000)), 1 + 4 * y, rng) * 0.1 for y in label
        ]
        rows = pd.DataFrame(
            {
                "id": [f"{i:02d}" for i in range(CLIPS)],
                "view": 0,
                "label": label,
                "fold": np.arange(CLIPS) % 3 // 2,
                "done": "",
            }
        )
        config = finetune.Config(backbone, epochs=3, batch=3, body_lr=1e-3, spoof_weight=1.5)
        return (
            config,
            0,
            rows,
            frozen_features.compute(config, waves, rows["id"].tolist(), [False] * CLIPS).folder,
        )

    monkeypatch.setattr("utils.paths.CACHE", tmp_path / "cache")
    return make


@pytest.mark.parametrize("backbone", ["ge2e", "campplus"])
def test_two_processes_train_the_model_of_one(job, tmp_path, backbone):
    made = job(backbone)
    alone = distributed.run_fold(
        *made, tmp_path / "alone", processes=1
    )  # fresh too: nothing of earlier tests is in it
    both = distributed.run_fold(*made, tmp_path / "both", processes=2)
    assert len(both["losses"]) == 3 and both["losses"][2] < 0.9 * both["losses"][0]  # it learns
    assert both["losses"] == pytest.approx(alone["losses"], rel=1e-3)
    assert list(both["tuned"]) == list(alone["tuned"]) and both["frozen"] == alone["frozen"]
    assert list(both["tuned"].values()) == pytest.approx(list(alone["tuned"].values()), abs=0.02)
    stamp = (tmp_path / "both" / "weights.safetensors").stat().st_mtime_ns
    assert distributed.run_fold(*made, tmp_path / "both", processes=2) == both
    assert (
        tmp_path / "both" / "weights.safetensors"
    ).stat().st_mtime_ns == stamp  # not trained again


def test_what_went_wrong_is_told(job, tmp_path):
    config, fold, rows, _ = job("ge2e")
    with pytest.raises(RuntimeError, match="2 processes at once failed(.|\n)*no-such-folder"):
        distributed.run_fold(
            config, fold, rows, tmp_path / "no-such-folder", tmp_path / "both", processes=2
        )


def test_a_killed_process_is_made_good(job, tmp_path, monkeypatch):
    """The first one that starts kills itself, as a machine's memory guard would."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\nmark = os.path.join(os.path.dirname(__file__), 'killed')\n"
        "if os.environ.get('RANK') == '1' and not os.path.exists(mark):\n"
        "    open(mark, 'w').close()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    made = job("ge2e")
    record = distributed.run_fold(*made, tmp_path / "both", processes=2)
    assert (tmp_path / "killed").exists() and len(record["losses"]) == 3


def test_the_engine_is_what_is_asked_for(monkeypatch):
    called = []
    monkeypatch.setattr(distributed, "run_fold", lambda *job: called.append(job) or {})
    monkeypatch.setattr(
        distributed.workers,
        "in_processes",
        lambda function, jobs, label: [{"local": True} for _ in jobs],
    )
    assert distributed.run_folds([(1,), (2,)]) == [{"local": True}] * 2
    monkeypatch.setenv("DFS_ENGINE", "accelerate")
    assert distributed.run_folds([(1,), (2,)]) == [{}, {}] and called == [(1,), (2,)]
