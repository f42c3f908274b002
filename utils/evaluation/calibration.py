"""From scores to probabilities, thresholds, and the prior of an unlabelled test set.

Scores are log-odds of bona fide up to a scale and an offset: higher is more bona fide. Labels: 1
bona fide, 0 spoof. "Prior" is the fraction of bona fide clips in a set.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from utils import metrics

MAX_WIDTH = 0.2  # of the interval of a prior; a wider one says too little to move a threshold
THRESHOLDS = np.linspace(0.005, 0.995, 199)  # on a probability


@dataclass(frozen=True)
class Platt:
    """Calibrated log-odds of bona fide = slope · score + offset (Platt 1999)."""

    slope: float
    offset: float

    def log_odds(self, scores) -> np.ndarray:
        """Calibrated log-odds of bona fide (natural logarithm) of scores of any shape."""
        return self.slope * np.asarray(scores, dtype=float) + self.offset

    def probability(self, scores) -> np.ndarray:
        """Calibrated probability of bona fide (0 to 1) of scores of any shape."""
        return expit(self.log_odds(scores))


def fit_platt(scores, label, balanced: bool = False) -> Platt:
    """Fit slope and offset by logistic regression (Platt 1999, but without his smoothed targets).

    Args: `scores` (clips,) and `label` (clips,) of clips that the scoring model did not train on.
    With `balanced`, both classes weigh the same, so that the probabilities hold for a prior of one
    half; else they hold for the prior of `label`. Raises ValueError if a score is not finite or if
    `label` holds one class only.
    """
    weights = "balanced" if balanced else None
    column = np.asarray(scores, dtype=float)[:, None]
    fitted = LogisticRegression(C=1e3, class_weight=weights).fit(column, np.asarray(label))
    return Platt(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))


def f1_at_prior(recall, false_acceptance, prior: float):
    """F1 of bona fide in a set of which a fraction `prior` is bona fide.

    Args: `recall`, the fraction of bona fide clips that are accepted; `false_acceptance`, the
    fraction of spoofs that are; numbers, or arrays of one shape. Neither depends on the prior.
    """
    accepted = prior * recall + (1 - prior) * false_acceptance
    return 2 * prior * recall / (prior + accepted)


def f1_curve(label, probability, prior: float, thresholds=THRESHOLDS) -> np.ndarray:
    """F1 of bona fide at each threshold (thresholds,), if a fraction `prior` were bona fide.

    Args: `label` and `probability` (clips,). Raises ValueError unless both classes are there.
    """
    label, probability = np.asarray(label), np.asarray(probability, dtype=float)
    if set(np.unique(label)) != {0, 1}:
        raise ValueError("a threshold needs clips of both classes, labelled 0 and 1")
    accepted = probability[None] > np.asarray(thresholds)[:, None]
    recall = accepted[:, label == 1].mean(axis=1)
    false_acceptance = accepted[:, label == 0].mean(axis=1)
    return f1_at_prior(recall, false_acceptance, prior)


def f1_threshold(label, probability, prior: float) -> float:
    """Threshold on a probability with the best F1 if a fraction `prior` were bona fide.

    Clips are weighted by class so that bona fide clips have the weight `prior`. `THRESHOLDS` are
    tried; of equally good ones the middle one is taken. Finer ones follow single clips: in a test
    they gained less than 0.003 of F1 on the clips that they were chosen by.

    Args: `label` and `probability` (clips,). Raises ValueError unless both classes are there.
    """
    f1 = f1_curve(label, probability, prior)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(THRESHOLDS[best[len(best) // 2]])


@dataclass(frozen=True)
class PriorEstimate:
    """Estimated prior of a test set, its 95 % interval, and the estimate of each fold model."""

    value: float
    low: float
    high: float
    fold_values: tuple[float, ...]

    @property
    def width(self) -> float:
        """Width of the interval."""
        return self.high - self.low


def _likeliest_prior(ratio: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Priors of greatest likelihood (repeats,), of ratios (clips,) and weights (repeats, clips).

    The likelihood is concave in the prior, and its maximum is where expectation maximisation ends
    (Saerens et al. 2002); halving the interval 40 times finds it for all repeats at once.
    """
    low, high = np.zeros(len(weight)), np.ones(len(weight))
    for _ in range(40):
        middle = (low + high) / 2
        slope = np.sum(weight * (ratio - 1) / (1 + middle[:, None] * (ratio - 1)), axis=1)
        low, high = np.where(slope > 0, middle, low), np.where(slope > 0, high, middle)
    return (low + high) / 2


def estimate_test_prior(
    oof_scores, label, test_scores, repeats: int = 1000, seed: int = 0
) -> PriorEstimate:
    """Prior of an unlabelled test set by EM (Saerens et al. 2002), with a 95 % bootstrap interval.

    Scores are calibrated on the out-of-fold clips; expectation maximisation (EM) then moves the
    prior until it agrees with the mean probability on the test. Each repeat of the bootstrap draws
    test clips with replacement and one of the fold models, so the interval holds both the chance of
    clips and the spread over models. It does not hold the error of the assumption that only the
    prior differs: if bona fide or spoof speech itself is of another kind in the test, the estimate
    is biased.

    Args: `oof_scores` and `label` (clips,), each scored by the one fold model that did not train on
    it; `test_scores` (test clips, fold models), or (test clips,) for one model. Not the mean over
    fold models: a mean varies less than the scores that the calibration is learned on.
    """
    label, test_scores = np.asarray(label), np.asarray(test_scores, dtype=float)
    columns = test_scores.reshape(len(test_scores), -1)
    platt, prior = fit_platt(oof_scores, label), float(np.mean(label))
    value = metrics.estimate_prior(platt.probability(columns).ravel(), prior)
    # likelihood ratio of bona fide to spoof: the odds without the prior, bounded against overflow
    ratios = np.exp(np.clip(platt.log_odds(columns) - logit(prior), -50, 50)).T
    once = np.ones((1, len(columns)))
    fold_values = tuple(float(_likeliest_prior(ratio, once)[0]) for ratio in ratios)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(ratios), size=repeats)
    counts = rng.multinomial(len(columns), np.full(len(columns), 1 / len(columns)), size=repeats)
    estimates = np.concatenate(
        [_likeliest_prior(ratio, counts[chosen == fold]) for fold, ratio in enumerate(ratios)]
    )
    low, high = np.percentile(estimates, (2.5, 97.5))
    return PriorEstimate(value, float(low), float(high), fold_values)


def misfit(oof_scores, label, test_scores) -> float:
    """How far the scores of a test are from any mixture of the scores of the two classes, 0 to 1.

    EM assumes such a mixture. The distance is that of Kolmogorov and Smirnov, between distribution
    functions, for the prior with the least. Args: as in `estimate_test_prior`.
    """
    scores, label = np.asarray(oof_scores, dtype=float), np.asarray(label)
    test_scores = np.ravel(np.asarray(test_scores, dtype=float))
    grid = np.sort(np.concatenate([scores, test_scores]))
    bonafide, spoof, test = (
        np.searchsorted(np.sort(some), grid, side="right") / len(some)
        for some in (scores[label == 1], scores[label == 0], test_scores)
    )
    priors = np.linspace(0, 1, 101)[:, None]
    return float(np.abs(spoof + priors * (bonafide - spoof) - test).max(axis=1).min())


def choose_prior(
    estimate: PriorEstimate, training_prior: float, fits: bool, max_width: float = MAX_WIDTH
) -> float:
    """The estimated prior if it can be trusted, else the training prior.

    It can if the test `fits` the assumption (see `misfit`) and its interval is at most `max_width`
    wide.
    """
    return estimate.value if fits and estimate.width <= max_width else training_prior
