"""Bootstrap intervals of EER, recall and false acceptance for many samples at once; p-values.

A sample of groups with replacement is a row of weights: how often each clip counts. With clips
sorted by score, error rates at every threshold are cumulative sums of weights, so that a thousand
samples cost a few milliseconds. Groups (a speaker, a recording and all that was made from it) are
sampled whole, since clips of one group are not independent (Efron & Tibshirani 1993, chapter 8).
Where clips share two things, such as a group and a synthesiser, both are sampled, and a clip counts
as often as the product says (the pigeonhole bootstrap, Owen 2007).
"""

import hashlib

import numpy as np
import pandas as pd

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


class Cells:
    """Clips that always count equally often, such as those of one group and one synthesiser.

    Samples of few cells are cheaper than those of all clips, and the crossing of both error rates
    is found by halving, so that each sample looks at a few thresholds only.
    """

    def __init__(self, cell: np.ndarray, weights: np.ndarray):
        """Args: `cell` of each clip, (N,); `weights` (samples, cells), how often each counts."""
        self.used, self.column = np.unique(cell, return_inverse=True)
        self.weights = weights[:, self.used].astype(np.float32)
        with np.errstate(invalid="ignore"):
            self.total = self.weights @ np.bincount(self.column).astype(np.float32)

    def share(self, chosen: np.ndarray) -> np.ndarray:
        """Fraction of the clips of each sample that is `chosen`, boolean (N,); NaN for no clip."""
        counts = np.bincount(self.column[chosen], minlength=len(self.used)).astype(np.float32)
        return self.rates(counts[None])[:, 0]

    def below(self, place: np.ndarray, places: int) -> np.ndarray:
        """Clips of each cell whose `place` (N,) is one of the first k, (places + 1, cells)."""
        counts = np.zeros((places + 1, len(self.used)), np.float32)
        np.add.at(counts, (place + 1, self.column), 1)
        return counts.cumsum(axis=0)

    def rate(self, counts: np.ndarray) -> np.ndarray:
        """Fraction of the clips of each sample that is among so many of each cell.

        Args: `counts` (samples, cells), another one for each sample. Returns (samples,).
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.einsum("ij,ij->i", self.weights, counts).astype(float) / self.total

    def rates(self, counts: np.ndarray) -> np.ndarray:
        """As `rate`, for the same `counts` (M, cells) in all samples: (samples, M)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self.weights @ counts.T).astype(float) / self.total[:, None]


def eer_of_cells(
    scores: np.ndarray, bonafide: np.ndarray, cells: tuple[Cells, Cells], first: int = 64
) -> np.ndarray:
    """What `eer` gives, for the cells of bona fide clips and those of spoofs.

    The crossing is first searched among about `first` thresholds in all samples at once.
    Args: `scores` and `bonafide` (N,) of all clips; `cells`, those of the bona fide clips and those
    of the spoofs, each in the order of `scores`.
    """
    values, place = np.unique(scores, return_inverse=True)
    bonafide = bonafide.astype(bool)
    below = [
        cells[i].below(place[rows], len(values)) for i, rows in enumerate((bonafide, ~bonafide))
    ]
    coarse = np.unique(np.linspace(0, len(values), first + 1).astype(int))
    found = np.stack(
        [side.rates(counts[coarse]) for side, counts in zip(cells, below, strict=True)]
    )
    after = np.maximum(1, np.argmax(found[0] >= 1 - found[1], axis=1))
    low, high = coarse[after - 1], coarse[after]  # thresholds before and after the crossing
    rows = np.arange(len(after))
    at_low, at_high = found[:, rows, after - 1], found[:, rows, after]  # misses, refused spoofs
    while (high - low > 1).any():
        middle = (low + high) // 2
        here = np.stack([s.rate(counts[middle]) for s, counts in zip(cells, below, strict=True)])
        crossed = here[0] >= 1 - here[1]
        low, high = np.where(crossed, low, middle), np.where(crossed, middle, high)
        at_low, at_high = np.where(crossed, at_low, here), np.where(crossed, here, at_high)
    gap_before, gap_after = 1 - at_low.sum(axis=0), at_high.sum(axis=0) - 1
    return at_low[0] + gap_before / (gap_before + gap_after) * (at_high[0] - at_low[0])


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of a statistic over samples; those where it is undefined (NaN) are left out.

    (nan, nan) if none is left.
    """
    defined = values[np.isfinite(values)]
    if not len(defined):
        return np.nan, np.nan
    low, high = np.percentile(defined, INTERVAL)
    return float(low), float(high)


def p_value(differences: np.ndarray) -> float:
    """Two-sided p-value of a difference from its bootstrap samples; undefined ones (NaN) left out.

    Twice the smaller of the shares at or below 0 and at or above 0, between 1 / (samples + 1) and
    1; NaN if no sample is defined.
    """
    defined = differences[np.isfinite(differences)]
    if not len(defined):
        return np.nan
    share = min(np.mean(defined <= 0), np.mean(defined >= 0))
    return float(np.clip(2 * share, 1 / (len(defined) + 1), 1))


def holm(p: np.ndarray) -> np.ndarray:
    """p-values (M,) corrected for M comparisons (Holm 1979): the chance of one false finding or
    more among those below 0.05 is at most 5 %. NaN, no comparison, stays NaN and does not count."""
    result = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN come last
    scaled = np.asarray(p)[order] * np.arange(len(order), 0, -1)
    result[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return result


def some_groups(group: pd.Series, most: int, seed: int = 0) -> pd.Series:
    """Rows (N,) of whole groups, drawn in random order, that are at most `most` together (0: all).

    The order follows from hashes of the names: a group more or less hardly changes what is drawn.
    `group`: the group of each row. Returns a boolean series.
    """
    names = sorted(group.unique(), key=lambda name: hashlib.md5(f"{seed}/{name}".encode()).digest())
    sizes = group.value_counts()[names].cumsum()
    return group.isin(sizes.index[sizes <= (most or len(group))])
