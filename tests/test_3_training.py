"""Views stay in their fold, pooling sees real frames only, a fold repeats, is reused and can be opened again."""
import functools
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from utils import audio, training


def test_pooling_by_hand():
    x = torch.tensor([[[1.0], [3.0], [2.0], [99.0]]])  # the last frame is padding
    mean, spread, change = training.pool([(x, torch.tensor([3]))])[0].tolist()
    assert mean == pytest.approx(2.0)
    assert spread == pytest.approx(np.sqrt(2 / 3), abs=1e-5)
    assert change == pytest.approx((2 + 1) / 2)


def test_spec_augment_masks_about_its_share():
    rng = np.random.default_rng(0)
    features = torch.randn(400, 80)
    masked = training.spec_augment(features, 0.1, rng)
    assert 0.05 < float((masked != features).float().mean()) < 0.35
    assert torch.equal(training.spec_augment(features, 0.0, rng), features)


@pytest.fixture
def clips(speechlike):
    """16 audible clips in 4 groups; "fake" ones are spectrally tilted, so there is something to learn."""
    rng, waves, rows = np.random.default_rng(0), {}, []
    for i in range(16):
        label = i % 2
        wave = speechlike[: 9000 + 300 * i] * rng.uniform(0.5, 1) + 0.002 * rng.standard_normal(9000 + 300 * i)
        waves[f"{i}.wav"] = np.float32(wave if label else np.diff(wave, prepend=0))
        rows.append({"id": f"{i}.wav", "label": label, "fold": i // 8, "group": f"g{i // 4}"})
    return waves, pd.DataFrame(rows)


def test_spliced_copies_hold_parts_of_their_own_fold_only(clips, monkeypatch):
    _, train = clips
    plain = functools.partial(training.augment.augment, codec=0)  # codecs would blur the mark below
    monkeypatch.setattr(training.augment, "augment", plain)
    marks = {0: 0.1, 1: -0.1}
    marked = {i: np.full(9000, marks[f], np.float32) for i, f in zip(train["id"], train["fold"], strict=True)}
    only_splice = dict.fromkeys(training.Config("ge2e").probabilities, 0.0) | {"splice": 1.0}
    made, rows = training.make_views(train, marked, training.Config("ge2e", views=2, probabilities=only_splice))
    spliced = rows["done"] == "splice"
    assert spliced.sum() == 32 and min(len(w) for w, s in zip(made, spliced, strict=True) if s) >= 18000
    for wave, fold in zip(made, rows["fold"], strict=True):
        assert (np.sign(wave) == np.sign(marks[fold])).all()


def test_a_fold_repeats_is_reused_and_opens_again(clips, tmp_path):
    waves, train = clips
    config = training.Config("ge2e", views=1)
    made, rows = training.make_views(train, waves, config)
    keys = (rows["id"] + "/" + rows["view"].astype(str)).tolist()
    masked = (rows["view"] > 0).tolist()
    training.stems(config, made, keys, masked, tmp_path / "features")
    before = (tmp_path / "features" / "hidden.npy").stat().st_mtime_ns
    training.stems(config, made, keys, masked, tmp_path / "features")
    assert (tmp_path / "features" / "hidden.npy").stat().st_mtime_ns == before  # computed once

    one = training.run_fold(config, 0, rows, tmp_path / "features", tmp_path / "fold0")
    again = training.run_fold(config, 0, rows, tmp_path / "features", tmp_path / "other")
    assert one["tuned"] == again["tuned"] and one["losses"] == again["losses"]
    assert set(one["tuned"]) == set(train.loc[train["fold"] == 0, "id"])  # scored: its own fold, clean copies only
    stamp = (tmp_path / "fold0" / "weights.safetensors").stat().st_mtime_ns
    assert training.run_fold(config, 0, rows, tmp_path / "features", tmp_path / "fold0") == one
    assert (tmp_path / "fold0" / "weights.safetensors").stat().st_mtime_ns == stamp  # not trained again

    other = training.Config("ge2e", views=1, body_lr=3e-4)
    assert training.run_fold(other, 0, rows, tmp_path / "features", tmp_path / "fold0")["tuned"] != one["tuned"]

    model = training.load_fold(tmp_path / "other")
    for name, score in one["tuned"].items():  # stems are kept in half precision: a small difference is expected
        assert training.score(model, waves[name]) == pytest.approx(score, abs=0.05)
    labels = train.set_index("id")["label"]
    real, fake = ([s for i, s in one["tuned"].items() if labels[i] == y] for y in (1, 0))
    assert min(real) > max(fake)  # the tilt is easy to learn


def test_long_clips_are_cut(clips, tmp_path):
    waves, _ = clips
    long = np.tile(waves["1.wav"], 20)
    backbone = training.backbones.load("ge2e")
    assert len(backbone.prepare(long[: 15 * audio.RATE])) == pytest.approx(1500, abs=2)


def test_workers_leave_when_their_parent_is_killed(tmp_path):
    """A killed run must not leave processes behind that hold a model and the run's pipes."""
    program = tmp_path / "parent.py"
    program.write_text("import os, time\nfrom utils import workers\nif __name__ == '__main__':\n"
                       "    with workers.pool(1) as pool:\n        print(pool.submit(os.getpid).result(), flush=True)\n"
                       "        time.sleep(60)\n")
    parent = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True, cwd=training.paths.ROOT,
                              env=os.environ | {"PYTHONPATH": str(training.paths.ROOT)})
    worker = int(parent.stdout.readline())
    os.kill(worker, 0)  # it lives
    parent.kill()
    assert parent.communicate(timeout=20)[0] == ""  # the pipe closes only when the worker is gone too
