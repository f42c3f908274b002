"""Calibration, thresholds and priors: by hand, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from utils import metrics
from utils.evaluation import calibration


def two_classes(clips: int, prior: float, seed: int, distance: float = 3.0):
    """Normal scores whose log-odds are known: distance · score, plus log-odds of the prior."""
    rng = np.random.default_rng(seed)
    label = (rng.random(clips) < prior).astype(int)
    return label, rng.standard_normal(clips) + distance * (label - 0.5)


def test_platt_states_the_log_odds_that_two_normal_classes_have():
    label, scores = two_classes(40_000, 0.3, seed=0, distance=2.0)
    platt = calibration.fit_platt(scores, label)
    assert platt.slope == pytest.approx(2.0, abs=0.06)
    assert platt.offset == pytest.approx(np.log(0.3 / 0.7), abs=0.06)
    even = calibration.fit_platt(scores, label, balanced=True)
    assert even.offset == pytest.approx(0.0, abs=0.06)


@pytest.mark.parametrize("balanced", [False, True])
def test_platt_gives_the_probabilities_of_scikit_learn(balanced):
    label, scores = two_classes(300, 0.4, seed=1)
    weights = "balanced" if balanced else None
    theirs = LogisticRegression(C=1e3, class_weight=weights).fit(scores[:, None], label)
    ours = calibration.fit_platt(scores, label, balanced)
    assert ours.probability(scores) == pytest.approx(theirs.predict_proba(scores[:, None])[:, 1])
    assert ours.log_odds(scores) == pytest.approx(theirs.decision_function(scores[:, None]))


def test_platt_agrees_with_scikit_learns_sigmoid_up_to_its_smoothed_targets():
    label, scores = two_classes(5_000, 0.4, seed=2)

    class AsItIs(LogisticRegression):
        def decision_function(self, x):
            return x[:, 0]

    fitted = AsItIs().fit(scores[:, None], label)
    try:
        from sklearn.frozen import FrozenEstimator

        sigmoid = CalibratedClassifierCV(FrozenEstimator(fitted), method="sigmoid")
    except ImportError:
        sigmoid = CalibratedClassifierCV(fitted, method="sigmoid", cv="prefit")
    theirs = sigmoid.fit(scores[:, None], label).predict_proba(scores[:, None])[:, 1]
    ours = calibration.fit_platt(scores, label).probability(scores)
    assert np.abs(ours - theirs).max() < 0.005


def test_f1_at_a_prior_is_f1_of_counted_clips():
    label = np.array([1] * 30 + [0] * 70)
    decisions = np.array([1] * 24 + [0] * 6 + [1] * 14 + [0] * 56)
    assert calibration.f1_at_prior(24 / 30, 14 / 70, 0.3) == pytest.approx(
        f1_score(label, decisions)
    )


def test_the_threshold_by_hand():
    label, probability = [0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.6, 0.8]
    # at half: above 0.25 recall 1, false acceptance 1/3: F1 = 6/7; above 0.5 recall 2/3: F1 = 4/5
    assert calibration.f1_threshold(label, probability, 0.5) == pytest.approx(0.25, abs=0.006)
    # few bona fide clips (0.1): 0.2/(0.2 + 0.3) = 0.4 against (2·0.0667)/(0.1 + 0.0667) = 0.8
    assert calibration.f1_threshold(label, probability, 0.1) == pytest.approx(0.5, abs=0.006)


def test_the_curve_by_hand_starts_on_the_floor_and_ends_at_0():
    label, probability = [0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.6, 0.8]
    curve = calibration.f1_curve(label, probability, 0.1, [0.0, 0.25, 0.5, 1.0])
    assert curve.tolist() == pytest.approx([0.2 / 1.1, 0.4, 0.8, 0.0])


def test_the_threshold_at_the_prior_of_the_clips_has_the_best_f1_of_scikit_learn():
    for seed in range(8):
        label, scores = two_classes(60, 0.45, seed, distance=1.5)
        probability = np.round(1 / (1 + np.exp(-scores)), 2)  # with ties
        threshold = calibration.f1_threshold(label, probability, label.mean())
        cuts = np.concatenate([[-1.0], probability])
        best = max(f1_score(label, probability > cut) for cut in cuts)
        assert f1_score(label, probability > threshold) == pytest.approx(best)


def test_the_threshold_at_another_prior_is_the_best_one_for_clips_repeated_to_that_prior():
    label, scores = two_classes(80, 0.5, seed=3, distance=1.5)
    probability = np.round(1 / (1 + np.exp(-scores)), 2)
    often = np.where(label == 1, np.sum(label == 0), 4 * np.sum(label == 1))  # prior 1/5
    repeated, stated = np.repeat(label, often), np.repeat(probability, often)
    threshold = calibration.f1_threshold(label, probability, 0.2)
    cuts = np.concatenate([[-1.0], probability])
    best = max(f1_score(repeated, stated > cut) for cut in cuts)
    assert f1_score(repeated, stated > threshold) == pytest.approx(best)


def test_a_threshold_is_refused_without_both_classes():
    with pytest.raises(ValueError, match="both classes"):
        calibration.f1_threshold([1, 1], [0.2, 0.4], 0.5)


def test_the_prior_of_a_test_set_is_found_where_only_the_prior_differs():
    label, scores = two_classes(4_000, 0.5, seed=4)
    _, tested = two_classes(2_000, 0.3, seed=5)
    folds = tested[:, None] + np.random.default_rng(6).normal(0, 0.01, (len(tested), 4))
    estimate = calibration.estimate_test_prior(scores, label, folds, repeats=200)
    assert estimate.low < 0.3 < estimate.high
    assert estimate.value == pytest.approx(0.3, abs=0.03)
    assert estimate.width <= calibration.MAX_WIDTH and len(estimate.fold_values) == 4
    assert calibration.choose_prior(estimate, 0.5, True) == estimate.value


def test_each_folds_estimate_is_where_expectation_maximisation_ends():
    label, scores = two_classes(600, 0.5, seed=7)
    _, tested = two_classes(400, 0.35, seed=8)
    platt = calibration.fit_platt(scores, label)
    estimate = calibration.estimate_test_prior(scores, label, tested, repeats=20)
    theirs = metrics.estimate_prior(platt.probability(tested), label.mean())
    assert estimate.fold_values == (pytest.approx(theirs, abs=1e-4),)
    assert estimate.value == pytest.approx(theirs)


def test_a_prior_on_which_fold_models_disagree_is_not_used():
    """Notebook 07 took the point estimate whatever its spread: 0.000 to 0.375 for a true 0.304."""
    label, scores = two_classes(1_000, 0.5, seed=9)
    _, tested = two_classes(600, 0.3, seed=10)
    folds = tested[:, None] + np.array([-1.5, -0.5, 0.5, 1.0])
    estimate = calibration.estimate_test_prior(scores, label, folds, repeats=200)
    assert max(estimate.fold_values) - min(estimate.fold_values) > 0.2
    assert estimate.low <= min(estimate.fold_values) + 0.05
    assert estimate.high >= max(estimate.fold_values) - 0.05
    assert estimate.width > calibration.MAX_WIDTH
    assert calibration.choose_prior(estimate, 0.47, True) == 0.47
    assert calibration.choose_prior(estimate, 0.47, True, max_width=1.0) == estimate.value
    assert calibration.choose_prior(estimate, 0.47, False, max_width=1.0) == 0.47


def test_scores_that_tell_nothing_give_no_usable_prior():
    rng = np.random.default_rng(11)
    label = rng.integers(0, 2, 400)
    estimate = calibration.estimate_test_prior(
        rng.standard_normal(400) + 0.1 * label, label, rng.standard_normal(200), repeats=200
    )
    assert calibration.choose_prior(estimate, 0.47, True) == 0.47


def test_another_mixture_fits_and_other_clips_do_not():
    label, scores = two_classes(600, 0.5, seed=7)
    _, mixture = two_classes(400, 0.4, seed=8)
    assert calibration.misfit(scores, label, mixture) < 0.05
    moved = np.where(mixture > 0, mixture - 1.5, mixture)  # bona fide speech of another kind
    assert calibration.misfit(scores, label, moved) > 0.1
    assert calibration.misfit([0.0, 1.0], [0, 1], [[0.0, 1.0], [1.0, 0.0]]) == 0
