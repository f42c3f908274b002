"""Metrics against cases worked by hand, and against scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import mannwhitneyu
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score, log_loss, roc_curve

from utils import metrics


def test_f1_by_hand_for_both_classes():
    labels, decisions = [1, 1, 1, 0, 0], [1, 0, 1, 1, 0]
    assert metrics.f1(labels, decisions) == pytest.approx(
        2 * 2 / (2 * 2 + 1 + 1), abs=1e-12
    )  # TP 2, FP 1, FN 1
    assert metrics.f1(labels, decisions, positive=0) == pytest.approx(
        2 * 1 / (2 * 1 + 1 + 1), abs=1e-12
    )
    assert metrics.f1([0, 0], [0, 0]) == 0.0


def test_all_real_floor_is_what_all_real_scores():
    labels = [1] * 7 + [0] * 13
    assert metrics.all_bonafide_f1(labels) == pytest.approx(2 * 0.35 / 1.35, abs=1e-12)
    assert metrics.all_bonafide_f1(labels) == pytest.approx(f1_score(labels, [1] * 20), abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 0, 1, 1], [1, 2, 3, 4], 0.0),  # separated
        ([1, 1, 0, 0], [1, 2, 3, 4], 1.0),  # separated the wrong way round
        (
            [0, 0, 1, 1],
            [1, 3, 2, 4],
            0.5,
        ),  # above 2: accepts 3 of {1, 3} = 1/2, misses 2 of {2, 4} = 1/2
        (
            [0, 1, 0, 1, 0, 1],
            [1, 2, 3, 4, 5, 6],
            1 / 3,
        ),  # above 4: 5 accepted of three, 2 and 4 missed; above 3: 1/3 each
        ([0, 1], [5, 5], 0.5),  # one tie: the line from (0, 1) to (1, 0) crosses in the middle
    ],
)
def test_eer_by_hand(labels, scores, expected):
    assert metrics.eer(labels, scores) == pytest.approx(expected, abs=1e-9)


def test_eer_does_not_depend_on_scale_and_mirrors():
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 200), rng.standard_normal(200)
    assert metrics.eer(labels, scores) == pytest.approx(
        metrics.eer(labels, np.exp(scores)), abs=1e-12
    )
    assert metrics.eer(labels, scores) == pytest.approx(metrics.eer(1 - labels, -scores), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_as_others_compute_it(seed):
    """To 1e-9: EER as the root of the interpolated ROC, AUC as Mann and Whitney's U, minDCF as the least of all thresholds' costs,
    Cllr as scikit-learn's log loss of equal classes, ECE from its calibration curve, the prior as the likelihood's greatest."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(400) % 10 < 3).astype(int)
    llr = 1.5 * (labels - 0.5) + rng.standard_normal(400)
    false_accept, true_accept, _ = roc_curve(labels, llr, drop_intermediate=False)
    root = brentq(lambda x: 1 - x - np.interp(x, false_accept, true_accept), 0, 1, xtol=1e-13)
    assert metrics.eer(labels, llr) == pytest.approx(root, abs=1e-9)
    pairs = mannwhitneyu(llr[labels == 1], llr[labels == 0]).statistic / (120 * 280)
    assert metrics.auc(labels, llr) == pytest.approx(pairs, abs=1e-9)
    cuts = [llr.min() - 1, *llr]
    costs = [
        (0.95 * (llr[labels == 1] <= cut).mean() + 0.5 * (llr[labels == 0] > cut).mean()) / 0.5
        for cut in cuts
    ]
    assert [metrics.dcf(labels, llr, cut) for cut in cuts] == pytest.approx(costs, abs=1e-9)
    assert metrics.dcf(labels, llr) == pytest.approx(min(costs), abs=1e-9)
    p = 1 / (1 + np.exp(-llr))
    even = np.where(labels == 1, 1 / 120, 1 / 280)
    assert metrics.cllr(labels, llr) == pytest.approx(
        log_loss(labels, p, sample_weight=even) / np.log(2), abs=1e-9
    )
    bonafide, stated = calibration_curve(labels, p, n_bins=10)
    counts = np.histogram(p, np.linspace(0, 1, 11))[0]
    assert metrics.ece(labels, p) == pytest.approx(
        np.abs(bonafide - stated) @ counts[counts > 0] / 400, abs=1e-9
    )
    ratio = p / (1 - p)  # p is a posterior at equal priors
    likeliest = brentq(
        lambda t: ((ratio - 1) / (t * ratio + 1 - t)).mean(), 1e-6, 1 - 1e-6, xtol=1e-13
    )
    assert metrics.estimate_prior(p, 0.5, 10**5, 1e-13) == pytest.approx(likeliest, abs=1e-9)


def test_auc_counts_pairs():
    labels, scores = (
        [1, 0, 1, 0],
        [0.9, 0.8, 0.4, 0.4],
    )  # pairs: .9>.8, .9>.4, .4<.8, .4=.4 → (1+1+0+½)/4
    assert metrics.auc(labels, scores) == pytest.approx(2.5 / 4, abs=1e-12)


@pytest.mark.parametrize(
    "bad", [([0, 1], [0.1]), ([0, 2], [0.1, 0.2]), ([0, 1], [0.1, np.nan]), ([], [])]
)
def test_bad_input_is_refused(bad):
    with pytest.raises(ValueError):
        metrics.auc(*bad)


def test_eer_needs_both_classes():
    with pytest.raises(ValueError, match="both classes"):
        metrics.eer([1, 1], [0.1, 0.2])


def test_best_threshold_finds_the_best_of_all_cuts():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 60)
    scores = labels + rng.standard_normal(60)
    cut, best = metrics.best_threshold(labels, scores)
    every = [metrics.f1(labels, (scores > c).astype(int)) for c in np.linspace(-4, 5, 2001)]
    assert best == pytest.approx(max(every), abs=1e-12)
    assert metrics.f1(labels, (scores > cut).astype(int)) == pytest.approx(best, abs=1e-12)


def test_group_bootstrap_draws_groups_not_clips():
    groups = np.repeat(np.arange(4), 100)
    values = np.repeat([0.0, 1.0, 0.0, 1.0], 100)  # all the variance lies between groups
    low, high = metrics.group_bootstrap(np.mean, groups, values, repeats=400, seed=3)
    assert low == 0.0 and high == 1.0
    low, high = metrics.group_bootstrap(np.mean, np.arange(400), values, repeats=400, seed=3)
    assert 0.4 < low < 0.5 < high < 0.6


def test_prior_is_moved_and_found():
    assert metrics.shift_prior(0.5, 0.5, 0.2) == pytest.approx(0.2, abs=1e-12)
    assert metrics.shift_prior(0.8, 0.5, 0.2) == pytest.approx(
        0.5, abs=1e-12
    )  # odds 4, times a quarter
    rng = np.random.default_rng(4)
    labels = rng.random(20000) < 0.3
    score = np.where(labels, 1.0, -1.0) + rng.standard_normal(20000)
    trained_at_half = 1 / (
        1 + np.exp(-2 * score)
    )  # exact posterior for two unit Gaussians at ±1 and equal priors
    assert metrics.estimate_prior(trained_at_half, 0.5) == pytest.approx(0.3, abs=0.02)


def test_threshold_of_best_expected_f1_by_hand():
    # one called real: 2 · 0.9 / (1 + 1.5) = 0.72; two: 2 · 1.4 / 3.5 = 0.8; three: 2 · 1.5 / 4.5 = 0.67: half of 0.8
    assert metrics.f1_threshold([0.5, 0.1, 0.9]) == pytest.approx(0.4, abs=1e-12)
    assert metrics.f1_threshold([1, 0, 1, 0]) == 0.5
    rng = np.random.default_rng(5)
    labels = rng.random(40000) < 0.1
    p = metrics.shift_prior(
        1 / (1 + np.exp(-2 * (np.where(labels, 1.0, -1.0) + rng.standard_normal(40000)))), 0.5, 0.1
    )
    best = metrics.f1(
        labels, p > metrics.f1_threshold(p)
    )  # calibrated, it is as good as the threshold that labels would choose
    assert best == pytest.approx(
        max(metrics.f1(labels, p > cut) for cut in np.linspace(0.01, 0.99, 99)), abs=0.01
    )
    for wrong in ([], [0.0, 0.0], [1.2], [float("nan")]):
        with pytest.raises(ValueError, match="between 0 and 1"):
            metrics.f1_threshold(wrong)


def test_calibration_error_by_hand():
    # bin 0.2–0.3: two clips, one real, mean 0.25 → gap 0.25; bin 0.9–1: two clips, both real, mean 0.95 → gap 0.05
    assert metrics.ece([1, 0, 1, 1], [0.2, 0.29, 0.9, 1.0], 10) == pytest.approx(
        0.5 * abs(0.5 - 0.245) + 0.5 * 0.05, abs=1e-12
    )
    assert metrics.ece([0, 1], [0.0, 1.0]) == 0


def test_detection_cost_by_hand():
    labels, scores = [1, 1, 1, 1, 0, 0], [0.0, 2.0, 3.0, 4.0, -1.0, 1.0]
    # above 1: one of four real missed, no fake accepted: 0.95 · 1/4; above -1 or 0: half of the fakes accepted: 0.5 · 1/2 or more
    assert metrics.dcf(labels, scores, 1.0) == pytest.approx(0.95 * 0.25 / 0.5, abs=1e-12)
    assert metrics.dcf(labels, scores, -1.0) == pytest.approx(0.5 * 0.5 / 0.5, abs=1e-12)
    assert metrics.dcf(labels, scores) == pytest.approx(0.475, abs=1e-12)
    assert (
        metrics.dcf([1, 0], [1.0, 2.0]) == 1.0
    )  # the wrong way round: accept all costs 0.5, which is the unit
    assert metrics.dcf(labels, scores, spoof_prior=0.5, accept=1.0) == pytest.approx(
        0.25, abs=1e-12
    )
    assert metrics.bayes_threshold() == pytest.approx(np.log(0.5 / 0.95), abs=1e-12)
    rng = np.random.default_rng(
        5
    )  # unit Gaussians at ±1 have the ratio 2 x: Bayes' threshold is the best there is
    labels = rng.random(40000) < 0.5
    ratio = 2 * (np.where(labels, 1.0, -1.0) + rng.standard_normal(40000))
    assert metrics.dcf(labels, ratio, metrics.bayes_threshold()) == pytest.approx(
        metrics.dcf(labels, ratio), abs=0.01
    )


def test_cost_of_likelihood_ratios_by_hand():
    assert metrics.cllr([1, 0], [0.0, 0.0]) == pytest.approx(
        1.0, abs=1e-12
    )  # says nothing: one bit
    assert metrics.cllr([1, 0], [np.log(3), -np.log(3)]) == pytest.approx(np.log2(4 / 3), abs=1e-12)
    assert metrics.cllr([1, 1, 0], [np.log(3), -np.log(3), 0.0]) == pytest.approx(
        ((np.log2(4 / 3) + 2) / 2 + 1) / 2, abs=1e-12
    )
    assert metrics.cllr([1, 0], [-5.0, 5.0]) > 1
