"""What a protocol leaves out of training is left out."""

import numpy as np
import pandas as pd
import pytest

from utils import metrics
from utils.competition.plans import PLANS
from utils.evaluation import leave_out
from utils.models import classifiers
from utils.synthesis.systems import SYSTEMS


def of(protocol, clips, seed=1, **options):
    return [s for s in leave_out.splits(clips, seed, **options) if s.protocol == protocol]


def test_no_clip_and_no_group_is_on_both_sides(clips):
    group = clips["group"].to_numpy()
    for split in leave_out.splits(clips, 1):
        assert split.trains.any() and split.scored.any()
        assert not (split.trains & split.scored).any()
        assert set(group[split.trains]).isdisjoint(group[split.scored])
        assert set(clips.loc[split.trains, "set"]) == {"train"}


def test_each_training_clip_is_scored_once_out_of_fold(clips):
    scored = np.sum([split.scored for split in of("out of fold", clips)], axis=0)
    assert np.array_equal(scored, (clips["set"] == "train").astype(int))


def test_a_family_is_scored_whole_by_models_that_never_saw_it(clips):
    splits = of("unseen families", clips)
    assert len(splits) == 5 * leave_out.FOLDS and {s.part for s in splits} == set(
        leave_out.families(clips[clips["set"] == "train"])
    )
    for family in leave_out.families(clips[clips["set"] == "train"]):
        spoofs = np.zeros(len(clips), int)
        for split in (s for s in splits if s.part == family):
            assert family not in set(clips.loc[split.trains, "family"])
            assert set(clips.loc[split.scored, "family"]) <= {family, "bonafide"}
            spoofs += split.scored & (clips["label"] == 0)
        assert np.array_equal(spoofs, (clips["family"] == family).astype(int))


def test_fewer_family_folds_score_fewer_clips_of_every_family(clips):
    few = of("unseen families", clips, family_folds=1)
    assert len(few) == 5 and not of("unseen families", clips, family_folds=0)


def test_a_corpus_is_left_out_with_what_was_vocoded_from_it_and_speech_synthesis_stays(clips):
    splits = of("unseen corpora", clips)
    for split in splits:
        assert set(clips.loc[split.scored, "source"]).isdisjoint(clips.loc[split.trains, "source"])
        assert set(clips.loc[split.scored, "label"]) == {0, 1}
        assert "kokoro" not in set(clips.loc[split.scored, "family"])
    synthesised = (clips["family"] == "kokoro").to_numpy()
    assert all(split.trains[synthesised].any() for split in splits)


def test_splices_are_no_corpus(clips):
    """Where they were left out, all their groups were: 14 bona fide clips of `mini` trained."""
    spliced = (clips["set"] == "train") & (clips["family"] != "kokoro") & (clips.index % 10 < 2)
    mixed = clips.assign(source=clips["source"].where(~spliced, "splice"))
    for split in of("unseen corpora", mixed):
        assert not split.scored[spliced].any() and split.trains.sum() > 120
    assert len(of("unseen corpora", mixed)) == leave_out.FOLDS


def test_too_few_corpora_are_refused(clips):
    one = clips.assign(source=np.where(clips["source"].str.startswith("corpus"), "a", "b"))
    assert set(leave_out.corpus_parts(clips, 0)) == {-1, 0, 1, 2, 3}
    with pytest.raises(ValueError, match="do not make parts"):
        leave_out.corpus_parts(one, 0)


def test_families_that_no_training_clip_has_are_named(clips):
    for split in leave_out.splits(clips, 0):
        expected = {
            "unseen families": {split.part},
            "test": {"vits"},
        }.get(split.protocol, set())
        assert leave_out.unseen(clips, split) == expected


def test_names_of_systems_elsewhere_tell_families():
    names = pd.Series(
        ["VITS + HiFi-GAN", "MelGAN", "VITS", "Griffin-Lim", "Vocos", "WORLD vocoder"]
    )
    found = leave_out.family_of_names(names)
    assert found.tolist() == ["hifigan+vits", "ttskit", "vits", "griffin-lim", "", "world"]


def test_every_family_of_mini_is_told_by_names_elsewhere():
    plans = PLANS["mini"].values()
    names = {name for plan in plans for name, *_ in (*plan.vocoded, *plan.tts)}
    assert {SYSTEMS[name].family for name in names} <= set(leave_out.FAMILY_NAMES)


def test_scores_are_standardised_by_bona_fide_training_clips(clips, features):
    x, label = features(2.0), clips["label"].to_numpy()

    def learn(split):
        scorer = classifiers.fit("logistic", x[split.trains], label[split.trains], 0)
        return scorer(x[split.scored]), scorer(x[split.trains & (label == 1)])

    scores = leave_out.score(clips, 0, learn)
    assert list(scores) == ["protocol", "part", "clip", "score"]
    for protocol, part in scores.groupby("protocol"):
        truth = label[part["clip"]]
        assert abs(part.loc[truth == 1, "score"].mean()) < 0.5, protocol
        assert metrics.eer(truth, part["score"]) == pytest.approx(0.16, abs=0.1)


def test_a_quick_model_names_the_family_that_nothing_else_resembles():
    rng = np.random.default_rng(0)
    family = np.array(["bonafide"] * 60 + ["seen"] * 20 + ["alike"] * 20 + ["odd"] * 20)
    x = rng.normal(size=(120, 6)).astype(np.float32) * 0.2
    x[family == "bonafide", 0] -= 1
    x[np.isin(family, ("seen", "alike")), 0] += 1
    x[family == "odd", :2] += (-1, 4)  # differs from bona fide where no other family does
    label, fold = (family == "bonafide").astype(int), np.arange(120) % 4
    found = leave_out.eer_by_family_left_out(x, label, family, fold)
    assert set(found) == {"seen", "alike", "odd"}
    assert max(found["seen"], found["alike"]) < 0.1 < found["odd"]
    assert leave_out.eer_by_family_left_out(x, label, family, fold, least=21) == {}


def test_a_source_is_left_out_with_all_its_groups(monkeypatch):
    rng = np.random.default_rng(0)
    label, source = np.tile([0, 1], 60), np.repeat(["a", "b", "c"], 40)
    group = np.where(source == "c", "shared", [f"g{i // 4}" for i in range(120)])
    group[0] = "shared"
    seen = []
    fit = leave_out.fit_logistic
    monkeypatch.setattr(leave_out, "fit_logistic", lambda x, y: seen.append(len(x)) or fit(x, y))
    x = rng.normal(size=(120, 3)) + label[:, None]
    found = leave_out.eer_by_source_left_out(x, label, source, group)
    assert set(found) == {"a", "b", "c"} and seen == [40, 80, 79]
