"""Views stay in their fold, pooling sees real frames only, a fold repeats, is reused and can be opened again."""

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from utils import feature_cache, parallel, paths
from utils.audio import dsp
from utils.evaluation import benchmark
from utils.models import encoders, finetune, frozen_features, pooled_features


def test_pooling_by_hand():
    x = torch.tensor([[[1.0], [3.0], [2.0], [99.0]]])  # the last frame is padding
    mean, spread, change = frozen_features.pool([(x, torch.tensor([3]))])[0].tolist()
    assert mean == pytest.approx(2.0)
    assert spread == pytest.approx(np.sqrt(2 / 3), abs=1e-5)
    assert change == pytest.approx((2 + 1) / 2)


def test_spec_augment_masks_about_its_share():
    rng = np.random.default_rng(0)
    features = torch.randn(400, 80)
    masked = frozen_features.spec_augment(features, 0.1, rng)
    assert 0.05 < float((masked != features).float().mean()) < 0.35
    assert torch.equal(frozen_features.spec_augment(features, 0.0, rng), features)


@pytest.fixture
def clips(speechlike):
    """16 audible clips in 4 groups; "fake" ones are spectrally tilted, so there is something to learn."""
    rng, waves, rows = np.random.default_rng(0), {}, []
    for i in range(16):
        label = i % 2
        wave = speechlike[: 9000 + 300 * i] * rng.uniform(0.5, 1) + 0.002 * rng.standard_normal(
            9000 + 300 * i
        )
        waves[f"{i}.wav"] = np.float32(wave if label else np.diff(wave, prepend=0))
        rows.append({"id": f"{i}.wav", "label": label, "fold": i // 8, "group": f"g{i // 4}"})
    return waves, pd.DataFrame(rows)


def test_spliced_copies_hold_parts_of_their_own_fold_only(clips):
    _, train = clips
    marks = {0: 0.1, 1: -0.1}
    marked = {
        i: np.full(9000, marks[f], np.float32)
        for i, f in zip(train["id"], train["fold"], strict=True)
    }
    only_splice = dict.fromkeys(finetune.Config("ge2e").probabilities, 0.0) | {"splice": 1.0}
    made, rows = finetune.augmented_clips(
        train, marked, finetune.Config("ge2e", views=2, probabilities=only_splice)
    )
    spliced = rows["done"] == "splice"
    assert (
        spliced.sum() == 32
        and min(len(w) for w, s in zip(made, spliced, strict=True) if s) >= 18000
    )
    for wave, fold in zip(made, rows["fold"], strict=True):
        assert (np.sign(wave) == np.sign(marks[fold])).all()


def test_a_fold_repeats_is_reused_and_opens_again(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    waves, train = clips
    config = finetune.Config("ge2e", views=1)
    made, rows = finetune.augmented_clips(train, waves, config)
    keys = (rows["id"] + "/" + rows["view"].astype(str)).tolist()
    masked = (rows["view"] > 0).tolist()
    features = frozen_features.compute(config, made, keys, masked).folder
    before = (features / "hidden.npy").stat().st_mtime_ns
    assert frozen_features.compute(config, made, keys, masked).folder == features
    assert (features / "hidden.npy").stat().st_mtime_ns == before  # computed once
    clean = [waves[i] for i in waves]
    monkeypatch.setattr(
        frozen_features.workers, "in_processes", None
    )  # what was kept is found, clip by clip
    assert pooled_features.features(clean, {"ge2e": (0, 1, 2)}).shape == (len(clean), 3 * 3 * 256)
    monkeypatch.undo()

    one = finetune.run_fold(config, 0, rows, features, tmp_path / "fold0")
    again = finetune.run_fold(config, 0, rows, features, tmp_path / "other")
    assert one["tuned"] == again["tuned"] and one["losses"] == again["losses"]
    assert set(one["tuned"]) == set(
        train.loc[train["fold"] == 0, "id"]
    )  # scored: its own fold, clean copies only
    stamp = (tmp_path / "fold0" / "weights.safetensors").stat().st_mtime_ns
    assert finetune.run_fold(config, 0, rows, features, tmp_path / "fold0") == one
    assert (
        tmp_path / "fold0" / "weights.safetensors"
    ).stat().st_mtime_ns == stamp  # not trained again

    other = finetune.Config("ge2e", views=1, body_lr=3e-4)
    assert finetune.run_fold(other, 0, rows, features, tmp_path / "fold0")["tuned"] != one["tuned"]

    model = finetune.load_fold(tmp_path / "other")
    for name, score in one[
        "tuned"
    ].items():  # stems are kept in half precision: a small difference is expected
        assert finetune.score(model, waves[name]) == pytest.approx(score, abs=0.05)
    labels = train.set_index("id")["label"]
    bonafide, spoof = ([s for i, s in one["tuned"].items() if labels[i] == y] for y in (1, 0))
    assert min(bonafide) > max(spoof)  # the tilt is easy to learn

    (tmp_path / "other" / "weights.safetensors").write_bytes(b"half of them")
    with pytest.raises(ValueError, match="other/weights.safetensors: damaged"):
        finetune.load_fold(tmp_path / "other")


def test_gradients_of_parts_add_up_to_the_batch(monkeypatch):
    """A clip is worth as much in a part of its own as in the whole batch."""
    whisper, waves = (
        benchmark.Ours.__new__(benchmark.Ours),
        [dsp.coloured_noise(4000, 3, np.random.default_rng(i)) for i in range(3)],
    )
    whisper.model = benchmark.detector_of(encoders.load("whisper-base", 1))
    found = []
    for held, expected in (
        (10**9, [slice(0, 10**9 // 12800)]),
        (12800, [slice(0, 1), slice(1, 2), slice(2, 3)]),
    ):
        monkeypatch.setattr(finetune, "HELD", held)
        assert finetune.micro_batches(3, 25 * 512) == expected  # half a second is 25 positions
        whisper.model.zero_grad()
        whisper.backward(waves, torch.tensor([0, 1, 1]))
        found.append(
            torch.cat([p.grad.flatten() for p in whisper.model.parameters() if p.grad is not None])
        )
    assert float((found[0] - found[1]).abs().max()) < 1e-4 * float(found[0].abs().max())


def test_fine_tuning_is_the_same_in_parts(clips, tmp_path, monkeypatch):
    """Classes that weigh differently, batches of several clips: the parts' gradients are still the batch's."""
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    waves, train = clips
    config, found = finetune.Config("ge2e", views=0, spoof_weight=3.0, head_lr=1e-3), []
    made, rows = finetune.augmented_clips(train, waves, config)
    data = frozen_features.compute(config, made, rows["id"].tolist(), [False] * len(rows))
    features, labels = np.concatenate([data.lower, data.upper], axis=1), rows["label"].to_numpy()
    for held in (10**9, 256):
        monkeypatch.setattr(finetune, "HELD", held)
        model = finetune.initial_model(config, features, labels)
        losses = finetune.fine_tune(model, data, np.arange(len(rows)), labels, config)
        found.append([*losses, *model.head.weight.detach()[0, :50].tolist()])
    assert found[0] == pytest.approx(found[1], rel=1e-3, abs=1e-6)


def test_as_many_layers_move_as_are_tuned(clips, tmp_path, monkeypatch):
    """Of two layers one or both move, the convolutions never; frozen scores do not depend on where the cut is."""
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    waves, train = clips
    before, frozen = encoders.load("whisper-base", 2).state_dict(), {}
    for tuned, moved in ((1, {"layers.1"}), (2, {"layers.0", "layers.1"})):
        config = finetune.Config("whisper-base", layers=2, tuned=tuned, views=0)
        made, rows = finetune.augmented_clips(train, waves, config)
        data = frozen_features.compute(config, made, rows["id"].tolist(), [False] * len(rows))
        frozen[tuned] = finetune.run_fold(config, 0, rows, data.folder, tmp_path / f"fold{tuned}")[
            "frozen"
        ]
        state = finetune.load_fold(tmp_path / f"fold{tuned}").backbone.state_dict()
        assert {
            name[:8] for name, tensor in state.items() if not torch.equal(tensor, before[name])
        } == moved
        with (
            monkeypatch.context() as patched
        ):  # what was kept of the clean clips is found at all depths, however it was cut
            patched.setattr(frozen_features.workers, "in_processes", None)
            known = pooled_features.features([waves["3.wav"]], {"whisper-base": (0, 1, 2)})[0]
        assert known == pytest.approx(np.concatenate([data.lower[3], data.upper[3]]), abs=1e-6)
    assert frozen[1] == pytest.approx(frozen[2], abs=0.02)  # the cut is kept in half precision
    with pytest.raises(ValueError, match="3 of 2 layers cannot be tuned, 1 to 2 can"):
        encoders.load("whisper-base", 2, 3)


def test_long_clips_are_cut(clips, tmp_path):
    waves, _ = clips
    long = np.tile(waves["1.wav"], 20)
    backbone = finetune.backbones.load("ge2e")
    assert len(backbone.prepare(long[: 15 * dsp.RATE])) == pytest.approx(1500, abs=2)


def test_workers_leave_when_their_parent_is_killed(tmp_path):
    """A killed run must not leave processes behind that hold a model and the run's pipes."""
    program = tmp_path / "parent.py"
    program.write_text(
        "import os, time\nfrom utils import workers\nif __name__ == '__main__':\n"
        "    with workers.pool(1) as pool:\n        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=finetune.paths.ROOT,
        env=os.environ | {"PYTHONPATH": str(finetune.paths.ROOT)},
    )
    worker = int(parent.stdout.readline())
    os.kill(worker, 0)  # it lives
    parent.kill()
    assert (
        parent.communicate(timeout=20)[0] == ""
    )  # the pipe closes only when the worker is gone too


def test_batches_are_alike_and_within_their_budget():
    lengths = np.array([3, 9, 3, 4, 20, 3])
    assert [rows.tolist() for rows in frozen_features.batches(lengths, 9)] == [
        [0, 2, 5],
        [3],
        [1],
        [4],
    ]  # 20 alone exceeds it
    assert [rows.tolist() for rows in frozen_features.batches(lengths, 16)] == [
        [0, 2, 5, 3],
        [1],
        [4],
    ]
    assert [rows.tolist() for rows in frozen_features.batches(lengths, 16, exact=True)] == [
        [0, 2, 5],
        [3],
        [1],
        [4],
    ]
    assert frozen_features.batches(np.array([], int), 9) == []


def test_results_are_kept_by_content_and_the_oldest_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    rng, asked = np.random.default_rng(0), []
    waves = [rng.standard_normal(100).astype(np.float32) for _ in range(6)]

    def compute(missing):
        asked.append(len(missing))
        return [wave * 2 for wave in missing]

    for _ in range(2):
        assert all(
            np.array_equal(one, 2 * wave)
            for one, wave in zip(feature_cache.cached(waves, "double", compute), waves, strict=True)
        )
    feature_cache.cached([*waves, waves[0] + 1, waves[0] + 1], "double", compute)
    feature_cache.cached(waves[:1], "another setting", compute)
    assert asked == [
        6,
        1,
        1,
    ]  # a clip twice is computed once; a changed clip or setting is another key
    big = {f"big {i}": np.zeros(50_000, np.float32) for i in range(10)}  # 2 MB
    feature_cache.put(big)
    feature_cache.get(["big 0"])  # used last
    feature_cache.put({"new": np.zeros(1)}, limit_mb=1)
    left = feature_cache.get(
        [*big, "new", *[feature_cache.key_of(wave, "double") for wave in waves]]
    )
    assert "big 0" in left and "new" in left and "big 1" not in left and len(left) < 8
    (tmp_path / "results.sqlite").write_bytes(b"no database" * 1000)
    assert feature_cache.get(["new"]) == {}  # what was lost is computed again
    assert len(feature_cache.cached(waves, "double", compute)) == 6


def test_frozen_folders_make_room_but_not_while_used(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    home = tmp_path / "stems"
    for i, name in enumerate(("first", "second", "third")):
        (home / name).mkdir(parents=True)
        (home / name / "hidden.npy").write_bytes(bytes(1000))
        (home / f"{name}.lock").touch()
        os.utime(home / f"{name}.lock", (i, i))
    used = frozen_features._use(home / "first")
    frozen_features.make_room(home, 2000e-9)
    assert sorted(p.name for p in home.iterdir() if p.is_dir()) == ["first", "third"]
    used.close()
    frozen_features.make_room(home, 1000e-9)
    assert sorted(p.name for p in home.iterdir() if p.is_dir()) == ["third"]


def _kill_or_say(n: int) -> int:
    if n < 0:
        os.kill(os.getpid(), 9)
    return 10 // n


def test_processes_stay_and_are_replaced():
    assert parallel.run_in_processes(_kill_or_say, [(1,), (2,), (5,)]) == [10, 5, 2]
    first = parallel.run_in_processes(os.getpid, [()])
    with pytest.raises(ZeroDivisionError):
        parallel.run_in_processes(_kill_or_say, [(0,), (1,)])
    assert first[0] in {p.pid for p in multiprocessing.active_children()}  # the same processes
    with pytest.raises(concurrent.futures.process.BrokenProcessPool):
        parallel.run_in_processes(_kill_or_say, [(-1,)])
    assert parallel.run_in_processes(_kill_or_say, [(1,)]) == [10]


def test_a_long_clip_is_cropped_to_a_drawn_stretch(tmp_path):
    ends, hidden = np.array([4, 14]), np.arange(14, dtype=np.float16)[:, None]
    data = frozen_features.FrozenFeatures(
        np.zeros((2, 1), np.float32), np.zeros((2, 1), np.float32), hidden, ends, tmp_path, None
    )
    rng, starts = np.random.default_rng(0), set()
    for _ in range(60):
        _, batch, frames = data.batch(np.array([0, 1]), 6, rng)
        assert frames.tolist() == [4, 6] and batch[0, :, 0].tolist() == [0, 1, 2, 3, 0, 0]
        start = batch[1, 0, 0].item()
        assert batch[1, :, 0].tolist() == [start + i for i in range(6)]
        starts.add(start)
    assert starts == {4, 5, 6, 7, 8}
    assert data.batch(np.array([1]))[2].tolist() == [10]
