"""The ladder: what a view leaves out is left out, copies train only where all their parts do, a stack judges what it never saw."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from utils import metrics
from utils.audio import augmentation, dsp
from utils.evaluation import ablation, leave_out
from utils.models import classifiers

FAMILIES = ("hifigan", "world", "kokoro", "pico", "espeak")


@pytest.fixture(scope="module")
def clips():
    """240 training clips of 24 groups in 12 sources and 5 families of fakes, 40 of a test, 30 of a field set."""
    rows = [
        {
            "id": f"{i:03d}",
            "label": i % 2,
            "family": "bonafide" if i % 2 else FAMILIES[i // 2 % 5],
            "source": f"s{i // 20}",
            "group": f"g{i // 10}",
            "set": "train",
        }
        for i in range(240)
    ]
    rows += [
        {
            "id": f"t{i:02d}",
            "label": i % 2,
            "family": "bonafide" if i % 2 else "new",
            "source": "x",
            "group": f"x{i // 7}",
            "set": "test" if i < 40 else "field set",
        }
        for i in range(70)
    ]
    return pd.DataFrame(rows)


def features(clips, apart, seed=0):
    """Noise, and one column that tells the classes `apart` standard deviations apart."""
    x = np.random.default_rng(seed).normal(size=(len(clips), 6)).astype(np.float32)
    x[:, 0] += apart * clips["label"]
    return x


def test_a_view_leaves_out_what_it_says(clips):
    found = leave_out.splits(clips, 1)
    assert [view for view, _, _ in found] == ["out of fold"] * 4 + ["systems left out"] * 16 + [
        "corpora left out"
    ] * 4 + ["test", "field set"]
    every = pd.DataFrame({view: np.zeros(len(clips), int) for view in leave_out.PROTOCOLS})
    for view, known, judged in found:
        a, b = clips[known], clips[judged]
        assert (
            set(a["set"]) == {"train"} and a["label"].nunique() == 2 and b["label"].nunique() == 2
        )
        assert set(a["id"]).isdisjoint(b["id"]) and set(a["group"]).isdisjoint(b["group"])
        if view == "systems left out":
            assert set(a.loc[a["label"] == 0, "family"]).isdisjoint(
                b.loc[b["label"] == 0, "family"]
            )
        if view == "corpora left out":
            assert set(a["source"]).isdisjoint(b["source"])
        every[view] += judged
    train, spoof = (clips["set"] == "train").to_numpy(), (clips["label"] == 0).to_numpy()
    assert (every.loc[train, ["out of fold", "corpora left out"]] == 1).all().all()
    assert (every.loc[train & spoof, "systems left out"] == 1).all() and (
        every.loc[train & ~spoof, "systems left out"] == 4
    ).all()
    assert (every.loc[~train, "test"] + every.loc[~train, "field set"] == 1).all()
    other = leave_out.splits(clips, 2)
    assert any((a[2] != b[2]).any() for a, b in zip(found, other, strict=True)), (
        "a seed is another partition"
    )


def test_what_was_judged_is_not_judged_again(clips, tmp_path, monkeypatch):
    jobs = [(clips, seed, "linear", features(clips, 3.0)) for seed in (0, 1)]
    monkeypatch.setattr(
        leave_out.workers,
        "in_processes",
        lambda function, jobs, label: [function(*job) for job in jobs],
    )
    first = leave_out.score_all(jobs, tmp_path)
    assert first[0].equals(leave_out.score_condition(*jobs[0])) and not first[0].equals(first[1])
    bonafide = leave_out.score_condition
    monkeypatch.setattr(leave_out, "judge", lambda *job: pytest.fail("judged again"))
    assert all(a.equals(b) for a, b in zip(first, leave_out.score_all(jobs, tmp_path), strict=True))
    monkeypatch.setattr(leave_out, "judge", bonafide)
    other = leave_out.score_all([(clips, 0, "linear", features(clips, 3.0, seed=1))], tmp_path)
    assert not other[0].equals(first[0]) and len(list(tmp_path.glob("*.npz"))) == 3


def test_a_job_is_known_by_all_of_its_content():
    """A value in the middle of a long array counts, in a tuple too, and so do shape, kind and nesting."""

    def mark(*job):
        found = hashlib.sha256()
        leave_out._mark(found, job)
        return found.hexdigest()

    x = np.arange(40_000, dtype=np.float32).reshape(200, 200)
    y = x.copy()
    y[100, 100] += 1
    jobs = [
        (x,),
        (y,),
        ((x, 1),),
        ((y, 1),),
        (x.reshape(100, 400),),
        (x.view(np.int32),),
        (x, 1),
        (leave_out.Augmented(x, x, x),),
        (leave_out.Augmented(x, x, x, np.array(["world"])),),
        ({"width": 1},),
        ({"width": 2},),
    ]
    assert len({mark(*job) for job in jobs}) == len(jobs) and mark(x.copy()) == mark(x)


def test_names_tell_families():
    systems = [
        "Larynx GlowTTS+HiFi-GAN",
        "vocoder:HiFiGAN",
        "tacotron2.v1+griffinlim",
        "VITS",
        "bonafide",
        "Merlin",
        "worldwide",
        "eSpeak NG",
    ]
    assert list(ablation.family_of(pd.Series(systems))) == [
        "hifigan",
        "hifigan",
        "griffin-lim",
        "",
        "",
        "world",
        "",
        "espeak",
    ]


def test_scores_of_a_rung(clips):
    label = clips["label"].to_numpy()
    known, nothing = (
        leave_out.score_condition(clips, 3, "linear", features(clips, apart))
        for apart in (12.0, 0.0)
    )
    for view in leave_out.PROTOCOLS:
        rows = known[view].notna().to_numpy()
        assert rows.sum() == {"test": 40, "field set": 30}.get(view, 240)
        assert metrics.eer(label[rows], known.loc[rows, view]) == 0
        assert metrics.eer(label[rows], nothing.loc[rows, view]) > 0.25
    bonafide = known.loc[(label == 1) & known["out of fold"].notna(), "out of fold"]
    assert (
        abs(bonafide.mean()) < 0.5 and 0.5 < bonafide.std() < 2
    )  # one scale: that of real training clips


def test_the_official_baseline_learns(clips):
    rng, label = np.random.default_rng(0), clips["label"].to_numpy()[:60]
    mels = classifiers.baseline_log_mels(
        [dsp.coloured_noise(9000, 6.0 * y, rng) * 0.1 for y in label]
    )
    assert mels[0].shape[1] == 40 and len(mels[0]) >= 100
    scores = classifiers._fit_cnn(mels[:40], label[:40], 0, epochs=4)(mels[40:])
    assert metrics.eer(label[40:], scores) < 0.1
    assert np.array_equal(
        scores, classifiers._fit_cnn(mels[:40], label[:40], 0, epochs=4)(mels[40:])
    )


@pytest.mark.parametrize(
    "kind", ["kernel", "trees", "deep SVDD", "OC-softmax", "lenient", "strict"]
)
def test_every_kind_of_model_learns(clips, kind):
    x = features(clips, 8.0)
    if kind == "deep SVDD":  # it sees real clips only, so fakes must be far off
        x = np.where(clips["label"].to_numpy()[:, None] == 1, x * 0.1, x + 20).astype(np.float32)
    found = leave_out.score_condition(clips, 0, kind, x, rotations=1)
    rows = found["test"].notna().to_numpy()
    assert metrics.eer(clips["label"][rows], found.loc[rows, "test"]) < 0.15


def test_a_copy_trains_only_where_all_its_parts_do(clips):
    """Copies that carry the wrong label would spoil each model that takes them; made of all folds, none of them may out of fold."""
    x, label = features(clips, 6.0), clips["label"].to_numpy()
    fold = leave_out.data.make_folds(clips[:240], leave_out.PARTS, 0).to_numpy()
    wrong = np.repeat(x[:240], 5, axis=0)
    owner = np.repeat(np.arange(240), 5)
    one_a_fold = np.array([np.flatnonzero(fold == k)[0] for k in range(leave_out.PARTS)])
    across = np.tile(one_a_fold, (len(owner), 1))
    clean = leave_out.score_condition(clips, 0, "linear", x)
    spoilt = leave_out.score_condition(
        clips, 0, "linear", x, leave_out.Augmented(wrong, 1 - label[owner], across)
    )
    assert np.array_equal(clean["out of fold"][:240], spoilt["out of fold"][:240])
    rows = spoilt["test"].notna()  # here all training clips are known
    assert metrics.eer(label[rows], spoilt.loc[rows, "test"]) > 0.5
    given, nobody = (
        leave_out.Augmented(x[:240], label[:240], np.full((240, 4), -1)),
        np.zeros(len(clips), bool),
    )
    always = leave_out.score_condition(clips, 0, "linear", x, given, nobody)
    assert (
        metrics.eer(label[:240], always["out of fold"][:240]) < 0.05
    )  # the clips themselves train nothing


def test_a_copy_of_a_family_trains_only_where_the_family_does(clips):
    """Other fakes of a family that a view leaves out would tell the view what it must not know; others stay."""
    x, everywhere = features(clips, 1.0), np.full((4, 4), -1)
    others = leave_out.Augmented(
        np.zeros((4, 6), np.float32),
        np.zeros(4, int),
        everywhere,
        np.array(["world", "hifigan", "", "vocos"]),
    )
    counts = {}
    for view, known, judged in leave_out.splits(clips, 0, rotations=1):
        added = len(leave_out.training_rows(clips, x, known, others)[1]) - known.sum()
        gone = {"world", "hifigan"} & set(clips.loc[judged & (clips["label"] == 0), "family"])
        assert added == 4 - len(gone) * (view == "systems left out")
        counts.setdefault(view, []).append(added)
    assert min(counts["systems left out"]) < 4 and set(counts["out of fold"]) == {4}


def test_copies_tell_what_they_are_made_of(clips):
    rng = np.random.default_rng(0)
    waves = [dsp.coloured_noise(9000, 3, rng) * 0.1 for _ in range(len(clips))]
    splice = dict.fromkeys(augmentation.PROBABILITIES, 0.0) | {"splice": 1.0}
    made, y, parts = leave_out.augmented_clips(clips, waves, 5, splice)
    assert len(made) == 240 and sorted(parts[:, 0]) == list(range(240))
    fold, label = (
        leave_out.data.make_folds(clips[:240], leave_out.PARTS, 5).to_numpy(),
        clips["label"].to_numpy(),
    )
    assert (fold[parts] == fold[parts[:, :1]]).all()
    for wave, truth, row in zip(made, y, parts, strict=True):
        pieces = wave.reshape(-1, 9000)
        assert truth == label[row].min()  # one fake part makes it fake
        for piece, part in zip(pieces, row, strict=False):
            assert any(np.corrcoef(piece, waves[i])[0, 1] > 0.99 for i in row), part
    other, y, parts = leave_out.augmented_clips(
        clips, waves, 5, dict.fromkeys(splice, 0.0), [waves[-1]]
    )  # music: a clip of the test
    assert (
        all(np.isfinite(w).all() and len(w) == 9000 for w in other)
        and (fold[parts] == fold[parts[:, :1]]).all()
    )
    babble = [row[1:4] for row in parts if len(set(row)) > 1]
    assert 80 < len(babble) < 160
    for wave, row in zip(
        other, parts, strict=True
    ):  # what was added is the voices that are named, or the music
        heard = sum(waves[i] for i in row[1:4]) if len(set(row)) > 1 else waves[-1]
        assert np.corrcoef(wave - waves[row[0]], heard)[0, 1] > 0.99
    again, _, _ = leave_out.augmented_clips(
        clips, waves, 5, dict.fromkeys(splice, 0.0), [waves[-1]]
    )
    assert all(np.array_equal(a, b) for a, b in zip(other, again, strict=True))


def test_fine_tuning_on_every_view(clips, tmp_path, monkeypatch):
    """Clips whose class is their spectrum's slope: each view is judged, by models that are kept."""
    monkeypatch.setattr("utils.paths.CACHE", tmp_path / "cache")
    rng, label = np.random.default_rng(0), clips["label"].to_numpy()
    waves = [dsp.coloured_noise(4000 + 40 * i, 2.0 + 3 * y, rng) * 0.1 for i, y in enumerate(label)]
    made = leave_out.augmented_clips(
        clips, waves, 0, dict.fromkeys(augmentation.PROBABILITIES, 0.0) | {"echo": 1.0}
    )
    found = leave_out.fine_tuned(
        clips, waves, 0, leave_out.training.Config("ge2e", body_lr=1e-3), made, tmp_path / "models"
    )
    for view in leave_out.PROTOCOLS:
        rows = found["tuned"][view].notna().to_numpy()
        expected = np.logical_or.reduce(
            [judged for name, _, judged in leave_out.splits(clips, 0, 1) if name == view]
        )
        assert np.array_equal(rows, expected) and np.array_equal(
            rows, found["frozen"][view].notna()
        )
        assert metrics.eer(label[rows], found["tuned"].loc[rows, view]) < 0.1
    assert not found["tuned"].equals(found["frozen"])
    assert len(list((tmp_path / "models").glob("ge2e-1-0-*/done.json"))) == 14


@pytest.mark.parametrize("kind", ["linear", "trees"])
def test_a_stack_gains_from_models_that_err_apart(clips, kind):
    label = clips["label"].to_numpy()
    models = [
        leave_out.score_condition(clips, 0, "linear", features(clips, 1.5, seed))
        for seed in range(4)
    ]
    stacked = leave_out.stack(clips, 0, models, kind)
    for view in ("out of fold", "corpora left out"):
        rows = stacked[view].notna().to_numpy()
        assert rows.sum() == 240
        single = min(metrics.eer(label[rows], m.loc[rows, view]) for m in models)
        assert metrics.eer(label[rows], stacked.loc[rows, view]) < single
    flipped = clips.assign(
        label=np.where(clips["set"] == "test", 1 - label, label)
    )  # it does not read the test's labels
    assert np.array_equal(
        leave_out.stack(flipped, 0, models, kind)["test"], stacked["test"], equal_nan=True
    )


def test_intervals_by_hand(clips):
    label, group = clips["label"].to_numpy(), clips["group"].to_numpy()
    halves = np.tile([1.0, 1.0, 0.0, 0.0], 78)[:310]
    perfect, coin = (
        pd.DataFrame(dict.fromkeys(leave_out.PROTOCOLS, values)) for values in (label * 2.0, halves)
    )
    found = ablation.summary(label, group, [perfect, perfect], [coin], repeats=50)
    assert found["test", "EER"] == (0, 0, 0) and found["test", "F1"] == (1, 1, 1)
    value, low, high = found["test", "EER less"]
    assert value == pytest.approx(-0.5, abs=0.02) and low <= value <= high < -0.3
    same = ablation.summary(label, group, [coin], [coin], repeats=50)
    assert same["out of fold", "F1 less"] == (0, 0, 0)


def test_the_table_of_rungs(clips, tmp_path, monkeypatch, capsys):
    """Two seeds of a coin, a perfect rung and a worse one: their order, what they are compared with, and what is beyond chance."""
    monkeypatch.setattr(
        ablation.workers,
        "in_processes",
        lambda function, jobs, label: [function(*job) for job in jobs],
    )
    label = clips["label"].to_numpy()
    of = {
        "coin": np.tile([1.0, 1.0, 0.0, 0.0], 78)[:310],
        "perfect": label * 2.0,
        "upside down": -label * 2.0,
    }
    scores = {
        (name, seed): pd.DataFrame(dict.fromkeys(leave_out.PROTOCOLS, of[name]))
        for name in ("perfect", "upside down", "coin")
        for seed in (0, 1)
    }
    rows = ablation.table(clips, scores, [0, 1], "coin", {"upside down": "perfect"}, repeats=20)
    assert (
        list(rows["rung"].drop_duplicates()) == ["coin", "perfect", "upside down"]
        and len(rows) == 3 * 5 * 4
    )
    assert set(rows.loc[rows["rung"] == "upside down", "against"]) == {"", "perfect"}
    wide = ablation.save(tmp_path, rows)
    assert (
        wide.loc["perfect", ("EER", "test")] == 0 and wide.loc["upside down", ("EER", "test")] == 1
    )
    assert pd.read_csv(tmp_path / "ladder.csv", index_col=0).loc["perfect", "EER, field set"] == 0
    ablation.figure(tmp_path, rows, "coin")
    assert (tmp_path / "figures" / "ladder.png").stat().st_size > 10_000
    ablation.beyond_chance(rows)
    said = capsys.readouterr().out
    assert (
        "test: better beyond the interval: perfect -0.5" in said
        and "worse: upside down +1.000" in said
    )


def test_handmade_features_say_what_their_names_say(speechlike):
    time = np.arange(16000) / 8000
    glide = sum(np.sin(2 * np.pi * k * (120 * time + 40 * time**2)) / k for k in range(1, 9))
    glide = np.float32(0.1 * glide + 0.001 * np.random.default_rng(0).normal(size=16000))
    steady, moving = handmade.prosody(speechlike), handmade.prosody(glide)
    assert steady["pitch: median (octaves)"] == pytest.approx(np.log2(140), abs=0.03)
    assert 0.9 < moving["pitch: range"] < 1.5 and steady["pitch: range"] < 0.1  # from 120 to 280 Hz
    hiss = np.random.default_rng(1).normal(size=16000).astype(np.float32) * 0.1
    pure = np.float32(0.3 * np.sin(2 * np.pi * 1000 * time))
    assert (
        handmade.spectrum(pure)["band 4: phase"]
        < 0.1
        < 0.3
        < handmade.spectrum(hiss)["band 4: phase"]
    )
    for kind in handmade.KINDS:
        names, values = handmade.features_here(
            [speechlike, hiss, np.zeros(4000, np.float32) + 1e-3], kind
        )
        assert (
            values.shape == (3, len(names))
            and np.isfinite(values).all()
            and len(set(names)) == len(names)
        )


def test_mistakes_by_hand():
    """Above 0.75: all real clips (3, 1, 2, 0) but one, and of the fakes (2.5, -1, -2, -3) one, so both err by a quarter."""
    clips = pd.DataFrame(
        {"label": [1, 1, 1, 1, 0, 0, 0, 0], "source": [*"aabbffff"], "family": [*"rrrrxyyy"]}
    )
    table = pd.DataFrame(np.nan, index=range(8), columns=list(leave_out.PROTOCOLS))
    table["test"] = [3.0, 1.0, 2.0, 0.0, 2.5, -1.0, -2.0, -3.0]
    found = ablation.mistakes(clips, [table, table], least=1).set_index(["class", "what"])
    assert set(found["view"]) == {"test"} and found["clips"].to_dict() == {
        ("fake", "x"): 1,
        ("fake", "y"): 3,
        ("real", "a"): 2,
        ("real", "b"): 2,
    }
    assert found["wrong"].to_dict() == {
        ("fake", "x"): 1.0,
        ("fake", "y"): 0.0,
        ("real", "a"): 0.0,
        ("real", "b"): 0.5,
    }
    assert set(ablation.mistakes(clips, [table], least=2)["what"]) == {"a", "b", "y"}
