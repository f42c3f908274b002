"""Linear heads on the encoders' statistics, and folds that leave whole owners out of training."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import linalg
from scipy.special import expit
from sklearn.decomposition import TruncatedSVD
from sklearn.model_selection import StratifiedGroupKFold

from utils import parallel

FOLDS = 8
NUISANCES = 100  # directions of statistics that no head reads
C = 0.003  # of the logistic regression, on standardised statistics
STEPS, TOLERANCE = 20, 0.1  # of its training: at most so many, until log-odds move by less;
# an error falls as its square, so the next step would move them by some 0.01


@dataclass(frozen=True)
class Line:
    """Log-odds of bona fide, not calibrated = weight · statistics + bias; `weight` (D,)."""

    weight: np.ndarray
    bias: float

    def scores(self, statistics: np.ndarray) -> np.ndarray:
        """(N, D) → (N,)."""
        return statistics @ self.weight + self.bias


def clip_weights(owner: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Weights of clips (N,), mean 1: 1/√(clips of the owner and label), both classes the same."""
    counts = pd.Series(1, index=range(len(owner))).groupby([owner, label]).transform("size")
    weight = 1 / np.sqrt(counts.to_numpy(float))
    return weight * class_weights(label, weight)


def class_weights(label: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Factors (N,) that make both classes weigh the same, and the mean weight 1."""
    totals = np.array([weight[label == each].sum() for each in (0, 1)])
    return len(label) / (2 * totals[label])


class Clips:
    """Standardised statistics of N clips as their products with each other.

    A line that is learned with a quadratic penalty is a sum of training clips, so the products say
    all that training needs, and any part of the clips can train in seconds. Centre, scale and
    directions left out are those of all clips, which is all that clips of a fold know of each
    other; they hold no label.
    """

    def __init__(self, x: np.ndarray, nuisance: np.ndarray | None = None):
        """x: statistics (N, D), float32.

        nuisance: (M, D), by how much something that says nothing of the class moves statistics. Its
        `NUISANCES` main directions are taken out of all statistics (nuisance attribute projection,
        Solomonoff et al. 2005).
        """
        self.centre = x.mean(axis=0, dtype=np.float64)
        self.scale = x.std(axis=0, dtype=np.float64) + 1e-6
        self.x, self.directions = x, None
        if nuisance is not None and len(nuisance) > 1:
            count = min(NUISANCES, len(nuisance) - 1, x.shape[1] - 1)
            found = TruncatedSVD(count, random_state=0).fit(nuisance / self.scale)
            there = found.singular_values_ > 1e-5 * found.singular_values_[0]
            self.directions = found.components_[there].astype(np.float32)
        z = self.standardised(x)
        self.products = z @ z.T

    def standardised(self, x: np.ndarray) -> np.ndarray:
        """(M, D) → float32 (M, D)."""
        z = (x - self.centre.astype(np.float32)) / self.scale.astype(np.float32)
        if self.directions is not None:
            z -= (z @ self.directions.T) @ self.directions
        return z

    def line(self, rows: np.ndarray, label: np.ndarray, weight: np.ndarray) -> Line:
        """Logistic regression on the clips `rows` (M,), with their labels and weights (M,)."""
        share, bias = logistic(self.products[np.ix_(rows, rows)], label, weight)
        weights = (share @ self.standardised(self.x[rows])) / self.scale
        bias -= float(weights @ self.centre)
        return Line(weights.astype(np.float32), bias)


def logistic(
    products: np.ndarray, label: np.ndarray, weight: np.ndarray, c: float = C
) -> tuple[np.ndarray, float]:
    """(share of each clip in the weights (M,), bias) of a logistic regression.

    By Newton's method on the products of the clips (M, M), float32: iteratively reweighted least
    squares, as for kernel logistic regression (Zhu & Hastie 2005). Penalty: 1/(2c) · weights².
    """
    log_odds, share, bias = np.zeros(len(label)), np.zeros(len(label)), 0.0
    for _ in range(STEPS):
        p = expit(log_odds)
        curvature = np.maximum(weight * p * (1 - p), 1e-6 * weight)
        target = log_odds + weight * (label - p) / curvature
        system = products.copy()
        system[np.diag_indices(len(label))] += (1 / (c * curvature)).astype(np.float32)
        factor = linalg.cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
        sides = np.stack([target, np.ones(len(label))], axis=1).astype(np.float32)
        solved, ones = linalg.cho_solve(factor, sides, check_finite=False).T.astype(float)
        bias = solved.sum() / ones.sum()
        share, before = solved - bias * ones, log_odds
        log_odds = products @ share + bias
        if np.abs(log_odds - before).max() < TOLERANCE:
            break
    return share, float(bias)


def owner_folds(label: np.ndarray, owner: np.ndarray, seed: int, folds: int = FOLDS) -> np.ndarray:
    """Fold of each clip (N,): all clips of an owner are in one, both classes in each."""
    fold = np.full(len(label), -1)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for number, (_, rows) in enumerate(splitter.split(label, label, owner)):
        fold[rows] = number
    assert pd.Series(fold).groupby(np.asarray(owner)).nunique().eq(1).all(), "an owner in two folds"
    return fold


def lines_of_folds(
    clips: Clips, label: np.ndarray, weight: np.ndarray, fold: np.ndarray, folds: int = 0
) -> list[Line]:
    """One line for each fold 0, 1, …, learned from the clips (N) of all others.

    A clip whose fold is negative trains for none. folds: how many; 0: as many as `fold` names.
    """
    lines = []
    for number in parallel.progress(range(folds or fold.max() + 1), "folds"):
        rows = np.flatnonzero((fold != number) & (fold >= 0))
        lines.append(clips.line(rows, label[rows], weight[rows]))
    return lines


def scores_of_folds(lines: list[Line], x: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Score of each clip (N,) by the line that learned from no clip of its fold; else NaN."""
    scores = np.full(len(x), np.nan)
    for number, line in enumerate(lines):
        scores[fold == number] = line.scores(x[fold == number])
    return scores
