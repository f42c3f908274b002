"""Stackers and the correlation of errors."""

import numpy as np
import pandas as pd
import pytest

from utils import metrics
from utils.evaluation import stacking


@pytest.fixture(scope="module")
def three_models():
    """Scores of three models with the same signal, a shared error and errors of their own."""
    rng = np.random.default_rng(0)
    label = np.arange(4_000) % 2
    shared = rng.standard_normal(len(label))
    own = rng.standard_normal((len(label), 3))
    scores = 2 * label[:, None] + 0.6**0.5 * shared[:, None] + 0.4**0.5 * own
    return pd.DataFrame(scores, columns=["a", "b", "c"]), label, np.arange(len(label)) % 5


def test_errors_correlate_by_what_models_share_and_not_by_what_they_know(three_models):
    scores, label, _ = three_models
    rho = stacking.error_correlation(scores, label)
    off_diagonal = rho.to_numpy()[np.triu_indices(3, 1)]
    assert off_diagonal == pytest.approx(np.full(3, 0.6), abs=0.03)
    assert scores.corr().loc["a", "b"] > 0.75  # with the classes' distance it is far higher


def test_the_correlation_of_errors_by_hand():
    scores = pd.DataFrame({"a": [0.0, 2.0, 5.0, 7.0], "b": [1.0, 2.0, 9.0, 8.0]})
    # errors: a −1, 1, −1, 1; b −0.5, 0.5, 0.5, −0.5: products sum to 0
    rho = stacking.error_correlation(scores, [0, 0, 1, 1])
    assert rho.loc["a", "b"] == pytest.approx(0.0)
    with pytest.raises(ValueError, match="3 labels"):
        stacking.error_correlation(scores, [0, 1, 1])


def test_the_variance_of_a_mean_is_what_simulated_errors_have(three_models):
    scores, label, _ = three_models
    errors = scores - scores.groupby(label).transform("mean")
    assert stacking.variance_of_mean(3, 1.0, 0.6) == pytest.approx(0.6 + 0.4 / 3)
    assert errors.mean(axis=1).var() == pytest.approx(0.6 + 0.4 / 3, rel=0.06)
    assert stacking.variance_of_mean(1, 2.0, 0.3) == pytest.approx(2.0)


def test_no_fold_is_stacked_by_its_own_labels(three_models):
    scores, label, fold = three_models
    stacked, gain = stacking.cross_fit(scores, label, fold)
    changed = label.copy()
    changed[fold == 2] = 1 - changed[fold == 2]
    again, _ = stacking.cross_fit(scores, changed, fold)
    assert again[fold == 2].equals(stacked[fold == 2])
    assert not again[fold == 1].equals(stacked[fold == 1])
    assert gain.sum().to_numpy() == pytest.approx(np.ones(5))
    assert list(gain.index) == ["a", "b", "c"]


@pytest.mark.parametrize("name", stacking.STACKERS)
def test_every_stacker_ranks_better_than_one_member(three_models, name):
    from sklearn.metrics import roc_auc_score

    scores, label, fold = three_models
    stacker = stacking.fit(name, scores[fold > 0], label[fold > 0], seed=1)
    stacked = roc_auc_score(label[fold == 0], stacker(scores[fold == 0]))
    assert stacked > roc_auc_score(label[fold == 0], scores["a"][fold == 0])


def test_an_unknown_stacker_is_refused(three_models):
    scores, label, _ = three_models
    with pytest.raises(ValueError, match="not a stacker"):
        stacking.fit("median", scores, label)


def test_the_variance_foretold_for_a_test_is_that_of_simulated_errors(three_models):
    scores, label, fold = three_models
    here, there = fold < 3, fold >= 3
    row = stacking.predicted_variance(scores[here], label[here], scores[there], label[there])
    assert row["m"] == 3 and row["rho, out of fold"] == pytest.approx(0.6, abs=0.04)
    errors = scores[there] - scores[there].groupby(label[there]).transform("mean")
    measured = (errors / errors.std()).mean(axis=1).var()
    assert row["on the test"] == pytest.approx(measured)
    assert row["predicted"] == pytest.approx(measured, rel=0.06)
    assert row["predicted"] != row["on the test"]
    assert stacking.mean_correlation(scores[["a"]], label) == 0.0


def test_the_soft_vote_is_the_mean_of_the_voters_probabilities(three_models):
    scores, label, fold = three_models
    inside, outside = scores[fold > 0], scores[fold == 0]
    _, voted = stacking.vote_candidates(inside, label[fold > 0], outside, ["a", "b"])
    assert list(voted) == ["a", "b", "c", "soft vote"]
    assert np.allclose(voted["soft vote"], (voted["a"] + voted["b"]) / 2)


def test_in_the_hard_vote_the_majority_decides_and_the_mean_orders_equal_votes():
    scores = pd.DataFrame(
        {"x": [9.0, 0.1, 0.1, -0.1, -9.0], "y": [-1, 0.1, 0.2, 0.1, -1], "z": [-1, -9, -9, -9, 0.1]}
    )
    vote = stacking.hard_vote(scores)
    assert (vote > stacking.MAJORITY).tolist() == [False, True, True, False, False]
    assert vote[2] > vote[1] and vote[0] > vote[3] > vote[4]
    assert ((vote > 0) & (vote < 1)).all()


def test_the_gain_of_a_vote_by_hand():
    label = np.array([1, 1, 1, 0, 0, 0] * 4)
    strict, plain, lenient = [1, -1, -1, -1, -1, -1], [1, 2, -1, 1, -1, -1], [1, 1, 1, 1, 1, -1]
    voters = {"x-strict": strict * 4, "x": plain * 4, "x-lenient": lenient * 4}
    scores = pd.DataFrame(voters).astype(float)
    group = np.arange(24) // 6
    gain = stacking.vote_gain(scores, label, group, "x", repeats=20)
    assert list(gain.index) == ["x-strict", "x", "x-lenient", "hard vote"]
    assert gain["recall"].tolist() == pytest.approx([1 / 3, 2 / 3, 1, 2 / 3])
    assert gain["false_acceptance"].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1 / 3])
    assert gain.loc["x-lenient", "f1_delta"] == pytest.approx(3 / 4 - 2 / 3)
    ends = gain[["f1_delta_low", "f1_delta_high", "eer_delta_low", "eer_delta_high"]]
    assert (ends.loc["x"] == 0).all()  # a model less itself, and all groups are alike
    assert ends.loc["x-lenient", "f1_delta_low"] == pytest.approx(3 / 4 - 2 / 3)


def test_the_threshold_of_the_hard_vote_is_the_majority_whatever_the_prior(three_models):
    scores, label, _ = three_models
    probability = 1 / (1 + np.exp(-scores["a"]))
    few, many = (stacking.threshold_of("a", label, probability, p) for p in (0.1, 0.9))
    assert few > many
    for prior in (0.1, 0.9):
        assert stacking.threshold_of("hard vote", label, probability, prior) == 0.5


def test_the_labels_of_other_clips_play_no_part_in_their_votes(three_models):
    scores, label, fold = three_models
    half = scores[fold < 2]
    again = [
        stacking.vote_candidates(half, label[fold < 2], other, ["a", "b", "c"])[1].iloc[:10]
        for other in (scores[fold == 2], scores[fold == 2].iloc[:10])
    ]
    assert again[0].equals(again[1])


@pytest.mark.parametrize("stacker", ["logistic", "lightgbm"])
def test_a_stack_gains_from_models_that_err_apart_and_reads_no_label_of_the_test(
    clips, tables, stacker
):
    label = clips["label"].to_numpy()
    scaled = [stacking.scaled(label, table) for table in tables]
    stacked = stacking.stack(clips, 0, scaled, stacker)
    for protocol in ("out of fold", "unseen corpora"):
        rows = stacked[stacked["protocol"] == protocol]
        singles = [t[t["protocol"] == protocol] for t in tables]
        single = min(metrics.eer(label[t["clip"]], t["score"]) for t in singles)
        assert metrics.eer(label[rows["clip"]], rows["score"]) < single
    flipped = clips.assign(label=np.where(clips["set"] == "test", 1 - label, label))
    again = stacking.stack(flipped, 0, scaled, stacker)
    test = stacked["protocol"] == "test"
    assert np.array_equal(stacked.loc[test, "score"], again.loc[test, "score"])


def test_votes_of_tables_by_hand(clips, tables):
    label = clips["label"].to_numpy()
    two = [tables[0].assign(score=1.0), tables[0].assign(score=-3.0)]
    assert (stacking.vote(two)["score"] == -1).all()
    assert np.allclose(stacking.vote(two, hard=True)["score"], (1 + 1 / (1 + np.e)) / 3)
    scaled = stacking.scaled(label, tables[0])
    out_of_fold = scaled[scaled["protocol"] == "out of fold"]
    assert out_of_fold["score"].std() == pytest.approx(1)
    assert stacking.threshold(label, scaled) == pytest.approx(0, abs=1e-6)


def test_the_best_single_member_is_that_of_the_lowest_eer_out_of_fold(clips, tables):
    label = clips["label"].to_numpy()
    outside = tables[0]["protocol"] != "out of fold"
    perfect = tables[0].assign(score=label[tables[0]["clip"]])
    only_there = tables[0].assign(score=perfect["score"].where(~outside, -perfect["score"]))
    only_elsewhere = tables[0].assign(score=perfect["score"].where(outside, -perfect["score"]))
    members = {"a": [tables[1]], "there": [only_there], "elsewhere": [only_elsewhere]}
    assert stacking.best_single(label, members) == "there"
    members = {"a": [tables[1]] * 2, "b": [only_there, only_elsewhere]}
    assert stacking.best_single(label, members) == "a"
