"""Metrics, each with its convention and source.

Labels are 1 (bona fide) or 0 (spoof). Scores are higher for what is more bona fide, most often
log-odds of bona fide. Both are vectors of one length, one entry per clip.
"""

import numpy as np
from sklearn.metrics import f1_score, roc_auc_score, roc_curve

# The competition's scorer was never published. Its baseline computes F1 of class 1, bona fide.
POSITIVE = 1


def _checked(labels, scores, both_classes: bool = False) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    if labels.shape != scores.shape or labels.ndim != 1 or len(labels) == 0:
        raise ValueError(
            f"labels {labels.shape} and scores {scores.shape} must be two vectors of one length > 0"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 (spoof) or 1 (bona fide)")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} scores are not finite")
    if both_classes and labels.min() == labels.max():
        raise ValueError("clips of both classes are needed, bona fide and spoof")
    return labels.astype(int), scores


def f1(labels, decisions, positive: int = POSITIVE) -> float:
    """F1 of class `positive`: 2·TP / (2·TP + FP + FN).

    Raises ValueError if no clip is of this class: F1 would be 0 or undefined, whatever the model.
    """
    if not np.any(np.asarray(labels) == positive):
        raise ValueError(f"F1 of class {positive} needs clips of this class")
    return float(f1_score(labels, decisions, pos_label=positive, zero_division=0))


def all_bonafide_f1(labels) -> float:
    """The floor: F1 of calling every clip bona fide, 2p/(1+p) where a fraction p is bona fide."""
    p = float(np.mean(np.asarray(labels) == 1))
    return 2 * p / (1 + p)


def eer(labels, scores) -> float:
    """Equal error rate: the fraction of bona fide clips missed where as many spoofs are accepted.

    Points of the ROC curve are joined by lines. Raises ValueError unless both classes are there.
    """
    labels, scores = _checked(labels, scores, both_classes=True)
    false_accept, true_accept, _ = roc_curve(labels, scores, drop_intermediate=False)
    miss = 1 - true_accept
    # first point past the crossing; above 0, since the curve starts at false_accept 0 and miss 1
    i = int(np.flatnonzero(false_accept >= miss)[0])
    gap_before = miss[i - 1] - false_accept[i - 1]
    gap_after = false_accept[i] - miss[i]
    position = gap_before / (gap_before + gap_after)
    return float(miss[i - 1] + position * (miss[i] - miss[i - 1]))


def auc(labels, scores) -> float:
    """Area under the ROC curve: how often a bona fide clip scores above a spoof, ties counted half.

    Raises ValueError unless both classes are there.
    """
    return float(roc_auc_score(*_checked(labels, scores, both_classes=True)))


def best_threshold(labels, scores, positive: int = POSITIVE) -> tuple[float, float]:
    """The decision `score > threshold` with the highest F1 of class `positive`.

    Candidates lie half-way between two neighbouring scores, and 1 below and above all scores. Among
    equally good ones the middle one is taken, so that the choice does not depend on a single clip.
    Returns (threshold, F1).
    """
    labels, scores = _checked(labels, scores)
    values = np.unique(scores)
    cuts = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])
    order = np.argsort(scores)
    # clips that score at most each cut, in all and of the class
    below = np.searchsorted(scores[order], cuts, side="right")
    positive_below = np.concatenate([[0], np.cumsum(labels[order] == positive)])[below]
    total = positive_below[-1]
    if positive == 1:
        called, hits = len(labels) - below, total - positive_below
    else:
        called, hits = below, positive_below
    found = np.divide(2.0 * hits, total + called, out=np.zeros(len(cuts)), where=total + called > 0)
    best = np.flatnonzero(found == found.max())
    return float(cuts[best[len(best) // 2]]), float(found.max())


def group_bootstrap(
    statistic, groups, *columns, repeats: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of `statistic(*columns)` by sampling whole groups with replacement.

    Clips of one group (a speaker, a recording and what was made from it) are not independent:
    sampling clips would give intervals that are too narrow (Efron & Tibshirani 1993, chapter 8).

    Args:
        statistic: function of columns. Samples for which it raises ValueError, because one class
            is not among them, are left out.
        groups: group of each clip, (N,).
        columns: arrays of N entries.
    Returns (low, high); both NaN if the statistic is undefined for every sample. Raises ValueError
    if there are no clips.
    """
    groups = np.asarray(groups)
    if len(groups) == 0:
        raise ValueError("no clips to sample from")
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    rng, values = np.random.default_rng(seed), []
    columns = [np.asarray(column) for column in columns]
    for _ in range(repeats):
        rows = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        try:
            values.append(statistic(*(column[rows] for column in columns)))
        except ValueError:
            continue
    if not values:
        return np.nan, np.nan
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def ece(labels, probability, bins: int = 10, balanced: bool = False) -> float:
    """Expected calibration error of probabilities of bona fide (Guo et al. 2017).

    In `bins` equal bins of probability, the difference between the fraction that is bona fide and
    the mean probability; the mean over bins, weighted by their clips. 0 is perfect, 1 the worst.
    With `balanced`, clips are weighted so that both classes weigh the same: for probabilities that
    hold for a prior of one half, in a set with another one. Raises ValueError if a class is missing
    then.
    """
    labels, probability = _checked(labels, probability, both_classes=balanced)
    weights = np.ones(len(labels))
    if balanced:
        weights = np.where(labels == 1, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))
    bin_of = np.minimum((probability * bins).astype(int), bins - 1)
    weighted = np.bincount(bin_of, weights * (labels - probability), minlength=bins)
    return float(np.abs(weighted).sum() / weights.sum())


def dcf(
    labels,
    scores,
    threshold: float | None = None,
    spoof_prior: float = 0.05,
    miss: float = 1.0,
    accept: float = 10.0,
) -> float:
    """Normalised detection cost of accepting what scores above `threshold`.

    Without a threshold, the least cost of all thresholds (minDCF). With log-likelihood ratios and
    Bayes' threshold (`bayes_threshold`) it is actDCF. 1 is what the better of accepting all and
    refusing all costs.

    Args:
        spoof_prior, miss, accept: prior of spoofs, cost of refusing a bona fide clip, cost of
            accepting a spoof. The defaults are those of ASVspoof 5 (Wang et al. 2024).
    Raises ValueError unless both classes are there.
    """
    labels, scores = _checked(labels, scores, both_classes=True)
    false_accept, true_accept, _ = roc_curve(labels, scores, drop_intermediate=False)
    if threshold is not None:
        false_accept = np.mean(scores[labels == 0] > threshold)
        true_accept = np.mean(scores[labels == 1] > threshold)
    cost = miss * (1 - spoof_prior) * (1 - true_accept) + accept * spoof_prior * false_accept
    return float(np.min(cost) / min(miss * (1 - spoof_prior), accept * spoof_prior))


def bayes_threshold(spoof_prior: float = 0.05, miss: float = 1.0, accept: float = 10.0) -> float:
    """The threshold that makes `dcf` least on calibrated log-likelihood ratios of bona fide."""
    return float(np.log(accept * spoof_prior / (miss * (1 - spoof_prior))))


def cllr(labels, llr) -> float:
    """Cost of log-likelihood ratios of bona fide in bits (Brümmer & du Preez 2006).

    0 is perfect, 1 is what a ratio of 1 for every clip costs, above 1 the ratios mislead. Raises
    ValueError unless both classes are there.
    """
    labels, llr = _checked(labels, llr, both_classes=True)
    bonafide = np.logaddexp(0, -llr[labels == 1]).mean()
    spoof = np.logaddexp(0, llr[labels == 0]).mean()
    return float((bonafide + spoof) / (2 * np.log(2)))


def shift_prior(probability, source: float, target: float) -> np.ndarray:
    """Probability of bona fide under another prior (Bayes' rule; Saerens et al. 2002, eq. 2.4).

    `source` and `target` are the prior that `probability` holds for and the new one, both within
    0 … 1 and `source` not 0 or 1.
    """
    p = np.asarray(probability, dtype=float)
    bonafide, spoof = p * target / source, (1 - p) * (1 - target) / (1 - source)
    return bonafide / (bonafide + spoof)


def estimate_prior(
    probability, source: float, iterations: int = 1000, tolerance: float = 1e-8
) -> float:
    """Prior of bona fide in an unlabelled set by expectation maximisation (Saerens et al. 2002).

    `probability`: calibrated probabilities of bona fide, learned where the prior is `source`. The
    method assumes that only the prior differs (label shift). If the distribution of each class
    differs too, the estimate is wrong, and nothing in it shows that.
    """
    target = source
    for _ in range(iterations):
        updated = float(np.mean(shift_prior(probability, source, target)))
        if abs(updated - target) < tolerance:
            break
        target = updated
    return updated
