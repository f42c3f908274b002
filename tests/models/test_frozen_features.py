"""Frozen features: pooling, SpecAugment, batches, and folders that make room for others."""

import os

import numpy as np
import pytest
import torch

from utils import feature_cache
from utils.models import finetune, frozen_features, pooled_features


def test_pooling_by_hand():
    x = torch.tensor([[[1.0], [3.0], [2.0], [99.0]]])  # the last frame is padding
    mean, std, delta = frozen_features.pool([(x, torch.tensor([3]))])[0].tolist()
    assert mean == pytest.approx(2.0)
    assert std == pytest.approx(np.sqrt(2 / 3), abs=1e-5)
    assert delta == pytest.approx((2 + 1) / 2)


def test_pooling_with_and_without_padding_is_the_same():
    x = torch.randn(2, 30, 5)
    alone = frozen_features.pool([(x, torch.tensor([30, 30]))])
    padded = torch.cat([x, torch.full((2, 7, 5), 99.0)], dim=1)
    assert torch.allclose(
        frozen_features.pool([(padded, torch.tensor([30, 30]))]), alone, atol=1e-5
    )


def test_spec_augment_masks_about_its_fraction():
    rng = np.random.default_rng(0)
    features = torch.randn(400, 80)
    masked = frozen_features.spec_augment(features, 0.1, rng)
    assert 0.05 < float((masked != features).float().mean()) < 0.35
    assert torch.equal(frozen_features.spec_augment(features, 0.0, rng), features)


@pytest.mark.parametrize(
    "budget, exact, expected",
    [
        (9, False, [[0, 2, 5], [3], [1], [4]]),  # 20 frames alone exceed the budget
        (16, False, [[0, 2, 5, 3], [1], [4]]),
        (16, True, [[0, 2, 5], [3], [1], [4]]),
    ],
)
def test_batches_are_of_like_length_and_within_their_budget(budget, exact, expected):
    found = frozen_features.batches(np.array([3, 9, 3, 4, 20, 3]), budget, exact)
    assert [rows.tolist() for rows in found] == expected


def test_no_clips_make_no_batches():
    assert frozen_features.batches(np.array([], int), 9) == []


def features_of_lengths(lengths, folder):
    """`FrozenFeatures` whose hidden values count the frames of all clips: 0, 1, 2 …"""
    ends = np.cumsum(lengths)
    nothing = np.zeros((len(lengths), 1), np.float32)
    hidden = np.arange(ends[-1], dtype=np.float16)[:, None]
    return frozen_features.FrozenFeatures(nothing, nothing, hidden, ends, folder, None)


def test_a_long_clip_is_cut_to_a_random_stretch(tmp_path):
    data = features_of_lengths([4, 10], tmp_path)
    rng, starts = np.random.default_rng(0), set()
    for _ in range(60):
        _, batch, frames = data.batch(np.array([0, 1]), 6, rng)
        assert frames.tolist() == [4, 6] and batch[0, :, 0].tolist() == [0, 1, 2, 3, 0, 0]
        start = batch[1, 0, 0].item()
        assert batch[1, :, 0].tolist() == [start + i for i in range(6)]
        starts.add(start)
    assert starts == {4, 5, 6, 7, 8}


def test_without_a_limit_a_clip_is_whole(tmp_path):
    _, batch, frames = features_of_lengths([4, 10], tmp_path).batch(np.array([1]))
    assert frames.tolist() == [10] and batch[0, :, 0].tolist() == list(range(4, 14))


def test_training_batches_hold_each_clip_once_and_are_equally_many_in_each_epoch(tmp_path):
    lengths = np.random.default_rng(0).integers(50, 400, size=40)
    data, rows = features_of_lengths(lengths, tmp_path), np.arange(5, 40)
    counts = set()
    for epoch in range(5):
        batches, median = data.training_batches(rows, 4, np.random.default_rng(epoch))
        assert sorted(np.concatenate(batches)) == list(range(35))
        assert median == int(np.median(lengths[5:]))
        counts.add(len(batches))
    assert len(counts) == 1


def test_folders_make_room_but_not_while_used(tmp_path):
    for i, name in enumerate(("first", "second", "third")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hidden.npy").write_bytes(bytes(1000))
        (tmp_path / f"{name}.lock").touch()
        os.utime(tmp_path / f"{name}.lock", (i, i))

    def left():
        return sorted(path.name for path in tmp_path.iterdir() if path.is_dir())

    used = frozen_features._use(tmp_path / "first")
    frozen_features.make_room(tmp_path, 2000e-9)
    assert left() == ["first", "third"]
    used.close()
    frozen_features.make_room(tmp_path, 1000e-9)
    assert left() == ["third"]


def test_what_was_computed_is_found_again(speechlike, tmp_path, monkeypatch):
    monkeypatch.setattr("utils.paths.CACHE", tmp_path)
    config = finetune.Config("ge2e")
    waves = [speechlike[: 8000 + 500 * i] for i in range(3)]
    first = frozen_features.compute(config, waves, ["a", "b", "c"], [False] * 3)

    def refuse(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr("utils.parallel.run_in_processes", refuse)
    again = frozen_features.compute(config, waves, ["a", "b", "c"], [False] * 3)
    assert again.folder == first.folder and np.array_equal(again.hidden, first.hidden)
    # and the pooled statistics, clip by clip
    pooled = pooled_features.features(waves[1:], {"ge2e": (0, 1, 2)})
    assert np.array_equal(pooled, np.concatenate([first.lower, first.upper], axis=1)[1:])


def test_masked_clips_are_not_taken_for_clean_ones(speechlike, tmp_path, monkeypatch):
    monkeypatch.setattr("utils.paths.CACHE", tmp_path)
    data = frozen_features.compute(
        finetune.Config("ge2e", spec_augment=0.3), [speechlike] * 2, ["a", "b"], [False, True]
    )
    assert not np.allclose(data.lower[0], data.lower[1])
    name = frozen_features.pooled_name({"ge2e": (0, 1, 2)})
    key = feature_cache.key_of(speechlike, name)
    assert np.allclose(feature_cache.get([key])[key][: data.lower.shape[1]], data.lower[0])


def test_a_clip_is_cut_at_its_limit(speechlike, tmp_path, monkeypatch):
    monkeypatch.setattr("utils.paths.CACHE", tmp_path)
    long = np.tile(speechlike, 10)  # 20 s
    config = finetune.Config("ge2e")
    assert config.max_s == 15
    data = frozen_features.compute(config, [long, long[: 15 * 8000]], ["a", "b"], [False] * 2)
    assert data.ends.tolist() == [data.ends[0], 2 * data.ends[0]]
    assert data.ends[0] == pytest.approx(1500, abs=2)
    assert np.array_equal(data.lower[0], data.lower[1])
