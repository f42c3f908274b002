"""Heads past the deck: they learn, their losses and weights are those of the papers, and no view leaks."""
import numpy as np
import pytest
import torch

from tests.test_3_ladder import clips, features  # noqa: F401  (a fixture)
from utils import attention, audio, build, extra, heads, ladder, metrics

SMALL = {"width": 32, "epochs": 40}
OPTIONS = {"plain": SMALL, "contrast": SMALL | {"contrast": 0.1}, "mixup": SMALL | {"mixup": 0.3}, "sharpness": SMALL | {"sam": 0.05},
           "averaged": SMALL | {"average": 4}, "linear": None}


def test_contrast_by_hand():
    """Two clips of one class alike, one of the other at a right angle: log(1 + exp(-1/t)) each for the two, nothing for the third."""
    z = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    found = heads.supervised_contrast(z, torch.tensor([1.0, 1.0, 0.0]), temperature=0.5)
    assert float(found) == pytest.approx(2 / 3 * np.log(1 + np.exp(-2)), abs=1e-6)


def test_sharpness_and_averages_by_hand():
    """On w⁴ from 1 the gradient is taken uphill at 1 + 0.5; the mean of the last two epochs' weights is what is left."""
    seen, module = [], torch.nn.Linear(1, 1, bias=False)

    def loss(_):
        seen.append(float(module.weight.detach()))
        return module.weight.pow(4).sum()

    torch.nn.init.ones_(module.weight)
    heads.descend([module], loss, lambda: [0], 3, 0.1, sam=0.5, average=2)
    assert seen[0] == 1 and seen[1] == pytest.approx(1.5)
    torch.nn.init.ones_(module.weight)
    seen.clear()
    heads.descend([module], loss, lambda: [0], 3, 0.1)
    last, seen = float(module.weight.detach()), seen.copy()
    torch.nn.init.ones_(module.weight)
    heads.descend([module], loss, lambda: [0], 3, 0.1, average=2)
    assert float(module.weight.detach()) == pytest.approx((seen[2] + last) / 2)


def test_heads_judge_every_view(clips):  # noqa: F811
    x, label = features(clips, 12.0), clips["label"].to_numpy()
    windows = np.repeat(x, 4, axis=0) + np.float32(0.1) * np.random.default_rng(0).normal(size=(1240, 6)).astype(np.float32)
    found = heads.judge(clips, 0, OPTIONS, x, None, (windows, np.repeat(np.arange(310), 4)))
    assert set(found) == {"kernel", *OPTIONS, "windows, mean", "windows, lowest quarter"}
    alone = ladder.judge(clips, 0, "kernel", x, rotations=1)
    assert np.allclose(found["kernel"], alone, equal_nan=True, atol=1e-6)
    for name, table in found.items():
        for view in ladder.VIEWS:
            rows = table[view].notna().to_numpy()
            assert np.array_equal(rows, alone[view].notna()) and metrics.eer(label[rows], table.loc[rows, view]) < 0.25, name
    rows = found["kernel"]["test"].notna()
    assert (found["windows, lowest quarter"]["test"] <= found["windows, mean"]["test"] + 1e-9)[rows].all()
    again = heads.judge(clips, 0, {"plain": OPTIONS["plain"]}, x)
    assert again["plain"].equals(found["plain"])


def test_attention_sees_real_frames_only_and_learns(tmp_path):
    """Classes that differ in their spectrum; frames of padding change nothing; a finished folder is found again."""
    rng = np.random.default_rng(0)
    waves = [audio.coloured_noise(8000 + 400 * (i % 5), 1.0 + 4 * (i % 2), rng) * 0.1 for i in range(60)]
    folder = attention.frames(waves, tmp_path, slice(0, 40))
    clips_, label = attention.Frames(folder), np.arange(60) % 2
    assert clips_[3].shape == ((8000 + 400 * 3) // 160, attention.LAYERS, attention.PARTS)
    assert (clips_.share > 0.5).all() and (clips_.share <= 1).all()
    before = (folder / "frames.npy").stat().st_mtime_ns
    assert attention.frames(waves, tmp_path, slice(0, 40)) == folder and (folder / "frames.npy").stat().st_mtime_ns == before
    scores = attention.train(clips_, np.arange(40), label[:40], 0, epochs=12, crop=(20, 40))
    assert metrics.eer(label[40:], scores(np.arange(40, 60))) < 0.2
    _, weight = scores.network.attention(torch.from_numpy(clips_[3].astype(np.float32))[None], torch.tensor([len(clips_[3])]))
    assert weight.shape == (1, len(clips_[3]), 4) and torch.allclose(weight.sum(1), torch.ones(4), atol=1e-5)
    network = attention.Attentive(4, 8, width=8, heads=2).eval()
    x = torch.randn(1, 9, 4, 8)
    padded = torch.cat([x, torch.full((1, 5, 4, 8), 7.0)], dim=1)
    with torch.inference_mode():
        assert torch.allclose(network(x, torch.tensor([9])), network(padded, torch.tensor([9])), atol=1e-5)


def test_components_of_frames_by_hand():
    """A layer that lives on fewer directions than are kept loses nothing: distances stay, up to one factor."""
    rng = np.random.default_rng(1)
    some = rng.normal(size=(900, 2, 100)).astype(np.float32) @ rng.normal(size=(100, 512)).astype(np.float32)
    found = attention._learn(some)
    reduced = np.einsum("tld,ldk->tlk", some, found["matrix"]) - found["offset"]
    assert found["share"] == pytest.approx([1, 1], abs=1e-4) and np.abs(reduced.mean(0)).max() < 1e-3
    for layer in (0, 1):
        standard = (some[:, layer] - some[:, layer].mean(0)) / some[:, layer].std(0)
        apart, after = (np.linalg.norm(x[:50] - x[50:100], axis=1) for x in (standard, reduced[:, layer]))
        ratio = apart / after
        assert ratio.std() / ratio.mean() < 1e-3


def test_twins_are_fakes_of_their_originals(speechlike):
    """A vocoder changes the wave and keeps length, level and pitch; what it cannot say is left out, not made up."""
    made = extra._twins_here("world", [speechlike, np.zeros(100, np.float32)], 0)
    assert len(made[1]) == 0 and abs(len(made[0]) - len(speechlike)) < 200
    assert np.abs(made[0]).max() == pytest.approx(np.abs(speechlike).max(), rel=0.01)
    size = min(len(made[0]), len(speechlike))
    assert np.corrcoef(made[0][:size], speechlike[:size])[0, 1] < 0.99
    spectra = [np.abs(np.fft.rfft(w[:size] * np.hanning(size)))[: size // 8] for w in (made[0], speechlike)]
    assert np.corrcoef(*spectra)[0, 1] > 0.8


def test_twins_are_kept(speechlike, tmp_path, monkeypatch):
    """The second call makes none; what cannot be said stays left out."""
    monkeypatch.setattr("utils.paths.CACHE", tmp_path)
    monkeypatch.setattr(extra, "VOCODERS", ("world",))
    waves = [speechlike, np.zeros(100, np.float32), speechlike[: len(speechlike) // 2]]
    made, rows, family = extra.twins(waves, 0)
    assert rows.tolist() == [0, 2] and family.tolist() == ["world", "world"]
    monkeypatch.setattr(extra.workers, "in_processes", None)
    again, rows, _ = extra.twins(waves, 0)
    assert rows.tolist() == [0, 2] and all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))


def test_a_twin_trains_only_where_its_family_does(clips):  # noqa: F811
    """Twins of a family that a view leaves out would tell the view what it must not know; others stay."""
    x, everywhere = features(clips, 1.0), np.full((4, 4), -1)
    twins = ladder.Copies(np.zeros((4, 6), np.float32), np.zeros(4, int), everywhere, np.array(["world", "hifigan", "", "vocos"]))
    counts = {}
    for view, known, judged in ladder.splits(clips, 0, rotations=1):
        added = len(ladder.training_rows(clips, x, known, twins)[1]) - known.sum()
        gone = {"world", "hifigan"} & set(clips.loc[judged & (clips["label"] == 0), "family"])
        assert added == 4 - len(gone) * (view == "systems left out")
        counts.setdefault(view, []).append(added)
    assert min(counts["systems left out"]) < 4 and set(counts["out of fold"]) == {4}


def test_more_real_speech_is_other_recordings_of_the_same_voices():
    """The plan of `smoke`: its sources are downloaded by other tests too."""
    plan = build.PLANS["smoke"]["train"]
    chosen = build.choose_real("train", plan, [])
    train = extra.pd.DataFrame([vars(clip) for clip in chosen])
    waves, rows = extra.more_real(train, 0, "smoke", times=2)
    assert len(waves) == len(rows) > len(train) / 2 and set(train["group"].iloc[rows]) <= set(train["group"])
    every, _ = extra.more_real(train.assign(made_from="something else"), 0, "smoke", times=2)
    assert len(every) == len(waves) + len(train) and all(len(audio.check_wave(wave, "more")) > 8000 for wave in waves)
    again, _ = extra.more_real(train, 0, "smoke", times=2)
    assert all(np.array_equal(a, b) for a, b in zip(waves, again, strict=True))
