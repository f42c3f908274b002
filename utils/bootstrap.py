"""Bootstrap intervals of EER and F1 for many samples at once, and of paired differences.

A sample of groups with replacement is a row of weights: how often each clip counts. With clips
sorted by score, error rates at every threshold are cumulative sums of weights, so that a thousand
samples cost a few milliseconds. Groups (a speaker, a recording and all that was made from it) are
sampled whole, since clips of one group are not independent (Efron & Tibshirani 1993, chapter 8).
"""

import numpy as np

INTERVAL = (2.5, 97.5)  # percentiles of a 95 % interval


def group_weights(groups: np.ndarray, repeats: int, seed: int) -> np.ndarray:
    """How often each group counts in each sample: int (repeats, number of distinct groups).

    Columns are in the order of `np.unique(groups)`.
    """
    count = len(np.unique(groups))
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), size=repeats)


def eer(label: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Equal error rate of each bootstrap sample.

    Args:
        label: 1 bona fide, 0 spoof, (N,).
        scores: higher is more bona fide, (N,).
        weights: how often each clip counts, (samples, N).
    Returns float (samples,): as `metrics.eer` gives it for clips repeated so often; NaN where a
    sample holds one class only.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # equal scores fall together
    bonafide, spoof = (
        np.add.reduceat(weights[:, order] * (label[order] == kind), starts, axis=1).astype(float)
        for kind in (1, 0)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        miss = _from_zero(np.cumsum(bonafide, axis=1)) / bonafide.sum(axis=1, keepdims=True)
        accept = 1 - _from_zero(np.cumsum(spoof, axis=1)) / spoof.sum(axis=1, keepdims=True)
        after = np.argmax(miss >= accept, axis=1)  # first threshold past the crossing, above 0
        rows = np.arange(len(weights))
        miss_before, miss_after = miss[rows, after - 1], miss[rows, after]
        gap_before = accept[rows, after - 1] - miss_before
        gap_after = miss_after - accept[rows, after]
        step = gap_before / (gap_before + gap_after)
        return miss_before + step * (miss_after - miss_before)


def _from_zero(sums: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((len(sums), 1)), sums], axis=1)


def f1(label: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """F1 of bona fide of each sample, (samples,); NaN where it holds no bona fide clip.

    Args: `label` and `decisions` 0 or 1, (N,); `weights` (samples, N).
    """
    hits = weights @ (label * decisions)
    bonafide, accepted = weights @ label, weights @ decisions
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(bonafide > 0, 2 * hits / (bonafide + accepted), np.nan)


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of a statistic over samples; those where it is undefined (NaN) are left out.

    (nan, nan) if none is left.
    """
    defined = values[np.isfinite(values)]
    if not len(defined):
        return np.nan, np.nan
    low, high = np.percentile(defined, INTERVAL)
    return float(low), float(high)
