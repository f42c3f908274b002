"""Metrics, each with its convention. Scores are log-odds of *real*: higher is more real. Labels: 1 real, 0 fake."""

import numpy as np
from sklearn.metrics import f1_score, roc_auc_score, roc_curve

POSITIVE = 1  # the competition's scorer was never published; its baseline's default is F1 of the class 1 = real


def _checked(labels, scores) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    if labels.shape != scores.shape or labels.ndim != 1 or len(labels) == 0:
        raise ValueError(
            f"labels {labels.shape} and scores {scores.shape} must be two vectors of one length > 0"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 (fake) or 1 (real)")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} scores are not finite")
    return labels.astype(int), scores


def f1(labels, decisions, positive: int = POSITIVE) -> float:
    """F1 of class `positive` (2·TP / (2·TP + FP + FN)); 0 if nothing of it is there or called."""
    return float(f1_score(labels, decisions, pos_label=positive, zero_division=0))


def all_bonafide_f1(labels) -> float:
    """The floor: F1 of calling every clip real, 2p/(1+p) for a real share p."""
    p = float(np.mean(np.asarray(labels) == 1))
    return 2 * p / (1 + p)


def eer(labels, scores) -> float:
    """Equal error rate: where misses of real and false acceptances of fake meet (ROC points joined by lines).

    Raises ValueError unless both classes are there.
    """
    labels, scores = _checked(labels, scores)
    if labels.min() == labels.max():
        raise ValueError("EER needs both classes")
    false_accept, true_accept, _ = roc_curve(labels, scores, drop_intermediate=False)
    miss = 1 - true_accept
    i = int(
        np.flatnonzero(false_accept >= miss)[0]
    )  # first point past the crossing; i > 0 since the curve starts (0, 1)
    gap_before, gap_after = miss[i - 1] - false_accept[i - 1], false_accept[i] - miss[i]
    share = gap_before / (gap_before + gap_after)
    return float(miss[i - 1] + share * (miss[i] - miss[i - 1]))


def auc(labels, scores) -> float:
    """Area under the ROC curve: the chance that a real clip scores above a fake one, ties counted half."""
    return float(roc_auc_score(*_checked(labels, scores)))


def best_threshold(labels, scores, positive: int = POSITIVE) -> tuple[float, float]:
    """(threshold, F1): the decision `score > threshold` with the highest F1, half-way between two neighbouring scores.

    Among equals the middle one, so that the choice does not hang on one clip.
    """
    labels, scores = _checked(labels, scores)
    values = np.unique(scores)
    cuts = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])
    found = np.array([f1(labels, (scores > cut).astype(int), positive) for cut in cuts])
    best = np.flatnonzero(found == found.max())
    return float(cuts[best[len(best) // 2]]), float(found.max())


def group_bootstrap(
    statistic, groups, *columns, repeats: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of `statistic(*columns)` by drawing whole groups with replacement.

    Clips of one group (a speaker, an original with its copies) are not independent; drawing clips would give intervals
    that are too narrow. Draws on which the statistic is undefined (ValueError) are left out.
    """
    groups = np.asarray(groups)
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    rng, values = np.random.default_rng(seed), []
    columns = [np.asarray(column) for column in columns]
    for _ in range(repeats):
        rows = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        try:
            values.append(statistic(*(column[rows] for column in columns)))
        except ValueError:
            continue
    return tuple(float(v) for v in np.percentile(values, (2.5, 97.5)))


def ece(labels, probability, bins: int = 10) -> float:
    """Expected calibration error: mean |share real - mean stated probability| over `bins` equal bins, weighted by their clips."""
    labels, probability = _checked(labels, probability)
    cell = np.minimum((probability * bins).astype(int), bins - 1)
    return float(
        sum(
            abs(labels[cell == c].mean() - probability[cell == c].mean()) * np.mean(cell == c)
            for c in np.unique(cell)
        )
    )


def dcf(
    labels,
    scores,
    threshold: float | None = None,
    spoof_prior: float = 0.05,
    miss: float = 1.0,
    accept: float = 10.0,
) -> float:
    """Normalised detection cost of accepting what scores above `threshold`; without one, the least cost of all (minDCF).

    Priors and costs are those of ASVspoof 5 (Wang et al. 2024): 5 % spoofs, a spoof let through ten times as dear as a bona fide
    clip refused. 1 is what the better of accept-all and refuse-all costs. With log-likelihood ratios and Bayes' threshold
    (`bayes_threshold`) it is actDCF.
    """
    labels, scores = _checked(labels, scores)
    false_accept, true_accept, _ = roc_curve(labels, scores, drop_intermediate=False)
    if threshold is not None:
        false_accept, true_accept = (
            np.mean(scores[labels == 0] > threshold),
            np.mean(scores[labels == 1] > threshold),
        )
    cost = miss * (1 - spoof_prior) * (1 - true_accept) + accept * spoof_prior * false_accept
    return float(np.min(cost) / min(miss * (1 - spoof_prior), accept * spoof_prior))


def bayes_threshold(spoof_prior: float = 0.05, miss: float = 1.0, accept: float = 10.0) -> float:
    """The threshold on log-likelihood ratios of bona fide that makes `dcf` least if they are true."""
    return float(np.log(accept * spoof_prior / (miss * (1 - spoof_prior))))


def cllr(labels, llr) -> float:
    """Cost of log-likelihood ratios in bits (Brümmer & du Preez 2006): 0 is perfect, 1 is to say nothing, above 1 misleads."""
    labels, llr = _checked(labels, llr)
    return float(
        (np.logaddexp(0, -llr[labels == 1]).mean() + np.logaddexp(0, llr[labels == 0]).mean())
        / (2 * np.log(2))
    )


def shift_prior(probability, source: float, target: float) -> np.ndarray:
    """Posterior of real under another share of real clips (Bayes' rule; Saerens et al. 2002, eq. 2.4)."""
    p = np.asarray(probability, dtype=float)
    bonafide, spoof = p * target / source, (1 - p) * (1 - target) / (1 - source)
    return bonafide / (bonafide + spoof)


def estimate_prior(
    probability, source: float, iterations: int = 1000, tolerance: float = 1e-8
) -> float:
    """Share of real clips in an unlabelled set by expectation maximisation (Saerens et al. 2002).

    `probability`: calibrated probabilities of real, learned where a share `source` is real. It assumes that only the
    prior differs; where the classes themselves moved, the estimate is wrong and says so by nothing.
    """
    target = source
    for _ in range(iterations):
        updated = float(np.mean(shift_prior(probability, source, target)))
        if abs(updated - target) < tolerance:
            break
        target = updated
    return updated


def f1_threshold(probability) -> float:
    """The probability of real above which F1 of real is expected to be best, F*/2, where F* is that best F1 (Lipton et al. 2014).

    `probability`: calibrated probabilities of real of the clips that are to be decided, unlabelled; F1 is expected by plug-in: twice
    the sum over those called real, by their number and the sum over all.
    """
    p = np.sort(np.asarray(probability, dtype=float))[::-1]
    if not len(p) or not np.isfinite(p).all() or p[-1] < 0 or p[0] > 1 or p.sum() == 0:
        raise ValueError("probabilities between 0 and 1, not all of them 0, are needed")
    return float((2 * np.cumsum(p) / (np.arange(1, len(p) + 1) + p.sum())).max() / 2)
