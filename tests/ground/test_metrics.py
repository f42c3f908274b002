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
    # bona fide: TP 2, FP 1, FN 1; spoof: TP 1, FP 1, FN 1
    assert metrics.f1(labels, decisions) == pytest.approx(4 / 6, abs=1e-12)
    assert metrics.f1(labels, decisions, positive=0) == pytest.approx(2 / 4, abs=1e-12)
    assert metrics.f1([0, 1], [1, 0]) == metrics.f1([0, 1], [0, 0]) == 0.0


def test_the_floor_is_f1_of_calling_all_bona_fide():
    labels = [1] * 7 + [0] * 13
    assert metrics.all_bonafide_f1(labels) == pytest.approx(2 * 0.35 / 1.35, abs=1e-12)
    assert metrics.all_bonafide_f1(labels) == pytest.approx(f1_score(labels, [1] * 20), abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 0, 1, 1], [1, 2, 3, 4], 0.0),  # separated
        ([1, 1, 0, 0], [1, 2, 3, 4], 1.0),  # separated the wrong way round
        # above 2: accepts 3 of {1, 3} = 1/2, misses 2 of {2, 4} = 1/2
        ([0, 0, 1, 1], [1, 3, 2, 4], 0.5),
        # above 3: accepts 5 of {1, 3, 5} = 1/3, misses 2 of {2, 4, 6} = 1/3
        ([0, 1, 0, 1, 0, 1], [1, 2, 3, 4, 5, 6], 1 / 3),
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


@pytest.fixture(params=range(5))
def scored(request):
    """(labels, log-likelihood ratios) of 400 clips, 120 of them bona fide."""
    rng = np.random.default_rng(request.param)
    labels = rng.permutation(np.arange(400) % 10 < 3).astype(int)
    return labels, 1.5 * (labels - 0.5) + rng.standard_normal(400)


def test_eer_is_where_the_interpolated_roc_crosses(scored):
    labels, llr = scored
    false_accept, true_accept, _ = roc_curve(labels, llr, drop_intermediate=False)
    root = brentq(lambda x: 1 - x - np.interp(x, false_accept, true_accept), 0, 1, xtol=1e-13)
    assert metrics.eer(labels, llr) == pytest.approx(root, abs=1e-9)


def test_auc_is_mann_and_whitneys_u(scored):
    labels, llr = scored
    u = mannwhitneyu(llr[labels == 1], llr[labels == 0]).statistic
    assert metrics.auc(labels, llr) == pytest.approx(u / (120 * 280), abs=1e-9)


def test_min_dcf_is_the_least_cost_of_all_thresholds(scored):
    labels, llr = scored
    cuts = [llr.min() - 1, *llr]
    costs = [
        (0.95 * (llr[labels == 1] <= cut).mean() + 0.5 * (llr[labels == 0] > cut).mean()) / 0.5
        for cut in cuts
    ]
    assert [metrics.dcf(labels, llr, cut) for cut in cuts] == pytest.approx(costs, abs=1e-9)
    assert metrics.dcf(labels, llr) == pytest.approx(min(costs), abs=1e-9)


def test_cllr_is_log_loss_with_classes_of_equal_weight(scored):
    labels, llr = scored
    even = np.where(labels == 1, 1 / 120, 1 / 280)
    loss = log_loss(labels, 1 / (1 + np.exp(-llr)), sample_weight=even)
    assert metrics.cllr(labels, llr) == pytest.approx(loss / np.log(2), abs=1e-9)


def test_ece_is_that_of_scikit_learns_calibration_curve(scored):
    labels, llr = scored
    p = 1 / (1 + np.exp(-llr))
    bonafide, stated = calibration_curve(labels, p, n_bins=10)
    counts = np.histogram(p, np.linspace(0, 1, 11))[0]
    expected = np.abs(bonafide - stated) @ counts[counts > 0] / 400
    assert metrics.ece(labels, p) == pytest.approx(expected, abs=1e-9)


def test_the_estimated_prior_is_the_most_likely_one(scored):
    p = 1 / (1 + np.exp(-scored[1]))
    ratio = p / (1 - p)  # p holds for equal priors
    likeliest = brentq(
        lambda t: ((ratio - 1) / (t * ratio + 1 - t)).mean(), 1e-6, 1 - 1e-6, xtol=1e-13
    )
    assert metrics.estimate_prior(p, 0.5, 10**5, 1e-13) == pytest.approx(likeliest, abs=1e-9)


def test_auc_counts_pairs():
    # pairs: .9>.8, .9>.4, .4<.8, .4=.4 → (1+1+0+½)/4
    labels, scores = [1, 0, 1, 0], [0.9, 0.8, 0.4, 0.4]
    assert metrics.auc(labels, scores) == pytest.approx(2.5 / 4, abs=1e-12)


@pytest.mark.parametrize(
    "bad", [([0, 1], [0.1]), ([0, 2], [0.1, 0.2]), ([0, 1], [0.1, np.nan]), ([], [])]
)
def test_bad_input_is_refused(bad):
    with pytest.raises(ValueError):
        metrics.auc(*bad)


@pytest.mark.parametrize("metric", [metrics.eer, metrics.auc, metrics.dcf, metrics.cllr])
@pytest.mark.parametrize("label", [0, 1])
def test_metrics_of_two_classes_refuse_one(metric, label):
    """AUC gave NaN, which made whole intervals NaN."""
    with pytest.raises(ValueError, match="both classes"):
        metric([label, label], [0.1, 0.2])


def test_f1_refuses_clips_without_its_class():
    """It gave 0, which counted in intervals."""
    with pytest.raises(ValueError, match="F1 of class 1 needs clips"):
        metrics.f1([0, 0], [0, 1])
    with pytest.raises(ValueError, match="F1 of class 0 needs clips"):
        metrics.f1([1, 1], [0, 1], positive=0)


def slow_best_threshold(labels, scores, positive):
    """The definition, one scikit-learn call for each threshold."""
    values = np.unique(scores)
    cuts = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])
    f1s = np.array(
        [f1_score(labels, scores > cut, pos_label=positive, zero_division=0) for cut in cuts]
    )
    best = np.flatnonzero(f1s == f1s.max())
    return float(cuts[best[len(best) // 2]]), float(f1s.max())


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("kind", ["continuous", "ties", "neighbours", "two values", "one class"])
def test_the_best_threshold_is_that_of_the_definition(positive, kind):
    rng = np.random.default_rng(2)
    for _ in range(10):
        size = int(rng.integers(1, 40))
        labels = rng.integers(0, 2, size)
        scores = labels + rng.standard_normal(size)
        if kind == "ties":
            scores = np.round(scores)
        elif kind == "neighbours":  # half-way between these is one of the two
            scores = np.where(rng.random(size) < 0.5, 1.0, np.nextafter(1.0, 2.0))
        elif kind == "two values":
            scores = (scores > 0.5).astype(float)
        elif kind == "one class":
            labels = np.full(size, positive)
        expected = slow_best_threshold(labels, scores, positive)
        assert metrics.best_threshold(labels, scores, positive) == expected


def test_group_bootstrap_samples_groups_and_not_clips():
    groups = np.repeat(np.arange(4), 100)
    values = np.repeat([0.0, 1.0, 0.0, 1.0], 100)  # all the variance lies between groups
    low, high = metrics.group_bootstrap(np.mean, groups, values, repeats=400, seed=3)
    assert low == 0.0 and high == 1.0
    low, high = metrics.group_bootstrap(np.mean, np.arange(400), values, repeats=400, seed=3)
    assert 0.4 < low < 0.5 < high < 0.6


def test_samples_of_one_class_do_not_spoil_an_interval():
    """They made it (nan, nan): of three groups one has both classes."""
    groups = np.array(["a", "a", "b", "c"])
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.2, 0.6, 0.4])
    low, high = metrics.group_bootstrap(metrics.auc, groups, labels, scores, repeats=200)
    assert low == high == 1.0


def test_the_interval_of_what_is_never_defined_is_nan():
    """It was an IndexError."""
    one_class = np.ones(4, int)
    found = metrics.group_bootstrap(metrics.auc, np.arange(4), one_class, np.arange(4.0))
    assert np.isnan(found).all()
    with pytest.raises(ValueError, match="no clips"):
        metrics.group_bootstrap(metrics.auc, [], [], [])


def test_a_prior_is_shifted_and_estimated():
    assert metrics.shift_prior(0.5, 0.5, 0.2) == pytest.approx(0.2, abs=1e-12)
    # odds of 4, times a quarter
    assert metrics.shift_prior(0.8, 0.5, 0.2) == pytest.approx(0.5, abs=1e-12)
    rng = np.random.default_rng(4)
    labels = rng.random(20000) < 0.3
    score = np.where(labels, 1.0, -1.0) + rng.standard_normal(20000)
    # exact for two unit Gaussians at ±1 and equal priors
    trained_at_half = 1 / (1 + np.exp(-2 * score))
    assert metrics.estimate_prior(trained_at_half, 0.5) == pytest.approx(0.3, abs=0.02)


def test_calibration_error_by_hand():
    # bin 0.2–0.3: one of two is bona fide, mean 0.245; bin 0.9–1: both are, mean 0.95
    assert metrics.ece([1, 0, 1, 1], [0.2, 0.29, 0.9, 1.0], 10) == pytest.approx(
        0.5 * abs(0.5 - 0.245) + 0.5 * 0.05, abs=1e-12
    )
    assert metrics.ece([0, 1], [0.0, 1.0]) == 0


def test_detection_cost_by_hand():
    labels, scores = [1, 1, 1, 1, 0, 0], [0.0, 2.0, 3.0, 4.0, -1.0, 1.0]
    # above 1: one of four bona fide clips is missed, no spoof accepted: 0.95 · 1/4
    # above -1 or 0: half of the spoofs are accepted: 0.5 · 1/2 or more
    assert metrics.dcf(labels, scores, 1.0) == pytest.approx(0.95 * 0.25 / 0.5, abs=1e-12)
    assert metrics.dcf(labels, scores, -1.0) == pytest.approx(0.5 * 0.5 / 0.5, abs=1e-12)
    assert metrics.dcf(labels, scores) == pytest.approx(0.475, abs=1e-12)
    # the wrong way round: to accept all costs 0.5, which is the unit
    assert metrics.dcf([1, 0], [1.0, 2.0]) == 1.0
    assert metrics.dcf(labels, scores, spoof_prior=0.5, accept=1.0) == pytest.approx(
        0.25, abs=1e-12
    )
    assert metrics.bayes_threshold() == pytest.approx(np.log(0.5 / 0.95), abs=1e-12)
    # unit Gaussians at ±1 have the log-ratio 2 x: Bayes' threshold is the best there is
    rng = np.random.default_rng(5)
    labels = rng.random(40000) < 0.5
    ratio = 2 * (np.where(labels, 1.0, -1.0) + rng.standard_normal(40000))
    assert metrics.dcf(labels, ratio, metrics.bayes_threshold()) == pytest.approx(
        metrics.dcf(labels, ratio), abs=0.01
    )


def test_cost_of_likelihood_ratios_by_hand():
    assert metrics.cllr([1, 0], [0.0, 0.0]) == pytest.approx(1.0, abs=1e-12)  # says nothing
    assert metrics.cllr([1, 0], [np.log(3), -np.log(3)]) == pytest.approx(np.log2(4 / 3), abs=1e-12)
    assert metrics.cllr([1, 1, 0], [np.log(3), -np.log(3), 0.0]) == pytest.approx(
        ((np.log2(4 / 3) + 2) / 2 + 1) / 2, abs=1e-12
    )
    assert metrics.cllr([1, 0], [-5.0, 5.0]) > 1
