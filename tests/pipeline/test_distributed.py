"""One model by two processes at once: loss and scores are those of one, but for rounding."""

import numpy as np
import pandas as pd
import pytest
import torch

from utils.audio import dsp
from utils.models import finetune, frozen_features
from utils.pipeline import distributed

CLIPS = 21  # not a multiple of two: a last batch of one clip leaves a process without any


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A function from a backbone to the arguments of `run_fold` but for the folder."""
    monkeypatch.setattr("utils.paths.CACHE", tmp_path / "cache")

    def make(backbone):
        rng = np.random.default_rng(3)
        label = np.arange(CLIPS) % 2
        waves = [
            dsp.coloured_noise(int(rng.integers(6000, 9000)), 1 + 4 * y, rng) * 0.1 for y in label
        ]
        rows = pd.DataFrame(
            {
                "id": [f"{i:02d}" for i in range(CLIPS)],
                "augmentation": 0,
                "label": label,
                "fold": np.arange(CLIPS) % 3 // 2,
            }
        )
        config = finetune.Config(backbone, epochs=3, batch=3, encoder_lr=1e-3, spoof_weight=1.5)
        frozen = frozen_features.compute(config, waves, rows["id"].tolist(), [False] * CLIPS)
        return config, 0, rows, frozen.folder

    return make


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["ge2e", "campplus"])
def test_two_processes_train_the_model_of_one(job, tmp_path, backbone):
    arguments = job(backbone)
    # one process is started afresh too: nothing of earlier tests is in it
    alone = distributed.run_fold(*arguments, tmp_path / "alone", processes=1)
    both = distributed.run_fold(*arguments, tmp_path / "both", processes=2)
    assert len(both["losses"]) == 3 and both["losses"][2] < 0.9 * both["losses"][0]  # it learns
    assert both["losses"] == pytest.approx(alone["losses"], rel=1e-3)
    assert list(both["tuned"]) == list(alone["tuned"]) and both["frozen"] == alone["frozen"]
    assert list(both["tuned"].values()) == pytest.approx(list(alone["tuned"].values()), abs=0.02)

    weights = tmp_path / "both" / "weights.safetensors"
    stamp = weights.stat().st_mtime_ns
    assert distributed.run_fold(*arguments, tmp_path / "both", processes=2) == both
    assert weights.stat().st_mtime_ns == stamp  # not trained again
    assert finetune.run_fold(*arguments, tmp_path / "alone") == alone  # as one process's own
    assert weights.stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_an_error_names_its_cause(job, tmp_path):
    config, fold, rows, _ = job("ge2e")
    missing = tmp_path / "no-such-folder"
    with pytest.raises(RuntimeError, match="2 processes at once failed(.|\n)*no-such-folder"):
        distributed.run_fold(config, fold, rows, missing, tmp_path / "both", processes=2)


@pytest.mark.slow
def test_where_a_process_is_killed_all_start_again(job, tmp_path, monkeypatch):
    """The first one that starts kills itself, as a machine's memory guard would."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "killed = os.path.join(os.path.dirname(__file__), 'killed')\n"
        "if os.environ.get('RANK') == '1' and not os.path.exists(killed):\n"
        "    open(killed, 'w').close()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    record = distributed.run_fold(*job("ge2e"), tmp_path / "both", processes=2)
    assert (tmp_path / "killed").exists() and len(record["losses"]) == 3


def test_folds_run_side_by_side_unless_accelerate_is_asked_for(monkeypatch):
    trained = []
    monkeypatch.setattr(distributed, "run_fold", lambda *job: trained.append(job) or {})
    monkeypatch.setattr(
        distributed.parallel,
        "run_in_processes",
        lambda function, jobs, label: [{"local": True} for _ in jobs],
    )
    monkeypatch.delenv("DFS_ENGINE", raising=False)
    assert distributed.run_folds([(1,), (2,)]) == [{"local": True}] * 2
    monkeypatch.setenv("DFS_ENGINE", "accelerate")
    assert distributed.run_folds([(1,), (2,)]) == [{}, {}] and trained == [(1,), (2,)]


def team(rank, size):
    """A `Team` without processes."""
    result = distributed.Team.__new__(distributed.Team)
    result.rank, result.size = rank, size
    return result


def test_each_clip_of_a_batch_has_one_process():
    batch = [torch.arange(5.0), torch.ones(5)]
    parts = [team(rank, 2).own_clips(batch) for rank in (0, 1)]
    assert [part[0].tolist() for part in parts] == [[0, 2, 4], [1, 3]]


def test_a_process_without_a_clip_computes_one_with_weight_0():
    clip, weight = team(1, 2).own_clips([torch.tensor([7.0]), torch.tensor([1.5])])
    assert clip.tolist() == [7] and weight.tolist() == [0]


def test_a_model_has_no_more_processes_than_clips_in_a_batch(monkeypatch):
    monkeypatch.setattr(distributed.torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(distributed.parallel, "cpu_count", lambda: 4)
    sizes = [distributed.size(finetune.Config("ge2e", batch=batch)) for batch in (3, 8)]
    assert sizes == [3, 4]
