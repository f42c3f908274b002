"""Linear heads on the encoders' statistics, and folds that leave whole owners out of training."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from utils import parallel

FOLDS = 8
NUISANCES = 100  # directions of statistics that no head reads
C = 0.01  # of the logistic regression, on standardised statistics
STEPS, TOLERANCE = 1000, 1e-5  # of its training: log-odds are then within some 0.02


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
    """Standardised statistics of N clips, of which any part can train a line.

    Centre, scale and directions left out are those of all clips, which is all that clips of a fold
    know of each other; they hold no label.
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
        self.z = (x - self.centre.astype(np.float32)) / self.scale.astype(np.float32)
        if self.directions is not None:
            self.z -= (self.z @ self.directions.T) @ self.directions

    def line(self, rows: np.ndarray, label: np.ndarray, weight: np.ndarray) -> Line:
        """Logistic regression on the clips `rows` (M,), with their labels and weights (M,)."""
        model = logistic(self.z[rows], label, weight, C)
        weights = model.coef_[0].astype(np.float64) / self.scale
        bias = float(model.intercept_[0]) - float(weights @ self.centre)
        return Line(weights.astype(np.float32), bias)


def logistic(z: np.ndarray, label: np.ndarray, weight: np.ndarray, c: float) -> LogisticRegression:
    """Logistic regression on (M, D), float32, with a penalty of 1/(2c) · weights²."""
    model = LogisticRegression(C=c, tol=TOLERANCE, max_iter=STEPS)
    return model.fit(z, label, sample_weight=weight)


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
