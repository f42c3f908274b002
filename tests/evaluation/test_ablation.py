"""Conditions train on what they say, and augmented clips only where all that they hold trains."""

import numpy as np
import pandas as pd
import pytest

from utils import contracts, metrics, parallel
from utils.audio import augmentation, dsp
from utils.evaluation import ablation, leave_out
from utils.evaluation.ablation import Added, Condition, Recipe
from utils.models import classifiers, finetune

NOTHING = np.zeros(0, int)


def eer(clips, scores, protocol):
    part = scores[scores["protocol"] == protocol]
    return metrics.eer(clips["label"].to_numpy()[part["clip"]], part["score"])


def test_an_augmented_clip_trains_only_where_all_its_sources_do(clips, features):
    """Wrongly labelled clips made across folds must not train out of fold; on the test they do."""
    x, label = features(3.0), clips["label"].to_numpy()
    fold = contracts.make_folds(clips[:240], leave_out.FOLDS, 0).to_numpy()
    first = np.repeat(np.arange(240), 5)
    other = np.array([np.flatnonzero(fold != fold[i])[0] for i in first])
    third = np.array(
        [
            np.flatnonzero((fold != fold[i]) & (fold != fold[j]))[0]
            for i, j in zip(first, other, strict=True)
        ]
    )
    fourth = np.array(
        [
            np.flatnonzero(~np.isin(fold, fold[[i, j, k]]))[0]
            for i, j, k in zip(first, other, third, strict=True)
        ]
    )
    sources = list(np.stack([first, other, third, fourth], axis=1))
    wrong = Added(x[first], 1 - label[first], sources, np.full(len(first), ""))
    clean = ablation.score_condition(clips, 0, "logistic", x, None)
    spoilt = ablation.score_condition(clips, 0, "logistic", x, wrong)
    for scores in (clean, spoilt):
        assert eer(clips, scores, "out of fold") < 0.15
    assert eer(clips, clean, "test") < 0.15 and eer(clips, spoilt, "test") > 0.5


def test_spoofs_from_elsewhere_do_not_train_where_their_family_is_left_out(clips):
    families = np.array(["world", "hifigan", "vits", "", "vocos+vits"])
    added = Added(np.zeros((5, 6)), np.zeros(5, int), [NOTHING] * 5, families)
    for split in leave_out.splits(clips, 0):
        trains = dict(zip(families, added.may_train(clips, split), strict=True))
        left_out = {"unseen families": split.part, "test": "vits"}
        expected = left_out.get(split.protocol)
        assert [name for name in families if not trains[name]] == [
            name for name in families if expected in name.split("+")
        ]


@pytest.fixture
def material(clips):
    rng = np.random.default_rng(0)
    waves = [dsp.coloured_noise(9000, 3, rng) * 0.1 for _ in range(len(clips))]
    return ablation.Material(clips, waves, [], {})


def test_augmented_clips_name_all_that_they_were_made_from(material):
    clips, label = material.clips, material.clips["label"].to_numpy()
    fold = contracts.make_folds(clips[:240], leave_out.FOLDS, 5).to_numpy()
    splice = Recipe(dict.fromkeys(augmentation.PROBABILITIES, 0.0) | {"splice": 1.0})
    waves, made, sources = material.augmented_waves(splice, 5)
    assert len(waves) == 240 and sorted(rows[0] for rows in sources) == list(range(240))
    for wave, truth, rows in zip(waves, made, sources, strict=True):
        assert len(set(fold[rows])) == 1 and len(wave) == 9000 * len(rows)
        assert truth == label[rows].min()  # one spoofed part makes it a spoof
        for piece, row in zip(wave.reshape(-1, 9000), rows, strict=True):
            assert np.corrcoef(piece, material.waves[row])[0, 1] > 0.99


def test_a_background_is_the_voices_that_are_named_or_music(material):
    material.music.append(material.waves[-1])
    recipe = Recipe.of(background=True)
    waves, _, sources = material.augmented_waves(recipe, 5)
    babble = 0
    for wave, rows in zip(waves, sources, strict=True):
        voices = rows[1:] if len(rows) > 1 else [len(material.waves) - 1]
        babble += len(rows) > 1
        expected = sum(material.waves[i] for i in voices)
        assert np.corrcoef(wave - material.waves[rows[0]], expected)[0, 1] > 0.99
    assert 80 < babble < 160
    again, _, _ = material.augmented_waves(recipe, 5)
    assert all(np.array_equal(a, b) for a, b in zip(waves, again, strict=True))


def test_masked_features_are_those_of_their_depths(material, monkeypatch):
    """Columns were cut into four equal pieces, and the depths of CAM++ are not equally wide."""
    config, waves = finetune.Config, material.waves[:2]

    def run_here(function, jobs, label=""):  # a lambda does not reach another process
        return [function(*job) for job in jobs]

    monkeypatch.setattr(parallel, "run_in_processes", run_here)
    monkeypatch.setattr(finetune, "Config", lambda *a, **b: config(*a, **b, spec_augment=0.0))
    monkeypatch.setitem(ablation.FEATURES, "block 1", ({"campplus": (1,)}, 0.0))
    sources = [np.array([0]), np.array([1])]
    masked = material._masked_features("block 1", waves, sources, 1)  # of no frame
    assert np.allclose(masked, material.features("block 1", waves), atol=1e-5)


def test_a_finished_condition_is_not_scored_again(material, tmp_path, monkeypatch):
    monkeypatch.setattr(
        ablation.Material, "features", lambda self, name, waves=None: np.ones((310, 2), np.float32)
    )
    conditions = [Condition("base"), Condition("svm", model="svm")]
    first = ablation.score_all(conditions, material, [1], tmp_path)
    assert set(first) == {("base", 1), ("svm", 1)} and len(list(tmp_path.glob("*.csv"))) == 2
    changed = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.csv")}
    again = ablation.score_all(conditions, material, [1], tmp_path)
    assert all(first[key].equals(again[key]) for key in first)
    assert changed == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.csv")}


def test_a_seed_draws_folds_augmented_clips_and_initial_weights_anew(material, features):
    clips, label = material.clips, material.clips["label"].to_numpy()
    folds = [[s.scored for s in leave_out.splits(clips, seed, family_folds=0)] for seed in (1, 2)]
    assert not np.array_equal(folds[0][0], folds[1][0])
    recipe = Recipe(dict.fromkeys(augmentation.PROBABILITIES, 0.0) | {"noise": 1.0})
    made = [material.augmented_waves(recipe, seed) for seed in (1, 2)]
    by_row = [
        {rows[0]: wave for wave, rows in zip(waves, sources, strict=True)}
        for waves, _, sources in made
    ]
    assert not any(np.array_equal(by_row[0][row], by_row[1][row]) for row in by_row[0])
    x = features(1.0)
    for kind in ("trees", "deep_svdd", "oc_softmax"):
        scores = [classifiers.fit(kind, x, label, seed)(x) for seed in (1, 1, 2)]
        assert np.array_equal(scores[0], scores[1]), kind
        assert not np.array_equal(scores[0], scores[2]), kind


def test_a_condition_is_compared_with_the_one_that_it_changes():
    base = Condition("base")
    other = base.but("other", model="svm")
    assert (other.against, other.model, other.features) == ("base", "svm", base.features)
    assert sum(Recipe.of("crop", "echo").probabilities.values()) == pytest.approx(
        augmentation.PROBABILITIES["crop"] + augmentation.PROBABILITIES["echo"]
    )


@pytest.mark.slow
def test_fine_tuning_scores_every_protocol_and_keeps_its_models(clips, tmp_path, monkeypatch):
    """Clips whose class is the slope of their spectrum."""
    rng, label = np.random.default_rng(0), clips["label"].to_numpy()
    waves = [dsp.coloured_noise(4000 + 40 * i, 2.0 + 3 * y, rng) * 0.1 for i, y in enumerate(label)]
    material = ablation.Material(clips, waves, [], {})
    config = finetune.Config("ge2e")
    found = ablation.fine_tuned(material, 0, config, tmp_path / "models")
    expected = pd.concat(
        pd.DataFrame({"protocol": s.protocol, "part": s.part, "clip": np.flatnonzero(s.scored)})
        for s in leave_out.splits(clips, 0, family_folds=1)
    )
    for scores in found.values():
        assert np.array_equal(scores["clip"], expected["clip"])
        assert max(eer(clips, scores, protocol) for protocol in leave_out.PROTOCOLS) < 0.15
    assert not found["tuned"].equals(found["frozen"])
    assert len(list((tmp_path / "models").glob("ge2e-1-0-*/done.json"))) == 15
    fewer = ablation.fine_tuned(material, 0, config, tmp_path / "models", ("test",))
    assert set(fewer["tuned"]["protocol"]) == {"test"}
    half, test = (clips["set"] == "train").sum() // 2, ("test",)
    halved = ablation.fine_tuned(material, 0, config, tmp_path / "models", test, most=half)
    nothing = [np.zeros(0, int)] * 8
    material.further["pages"] = waves[:8], label[:8], nothing, np.full(8, "")
    more = ablation.fine_tuned(material, 0, config, tmp_path / "models", test, half, ("pages",))
    tables = [found["tuned"] for found in (fewer, halved, more)]
    assert all(np.array_equal(table["clip"], tables[0]["clip"]) for table in tables)
    assert not any(np.allclose(tables[0]["score"], table["score"]) for table in tables[1:])
    assert not np.allclose(tables[1]["score"], tables[2]["score"])
