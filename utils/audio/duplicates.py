"""Find recordings that occur twice, also if their files differ in format, rate or level.

Two files hold the same recording if their loudness contours do. A vocoded clip has the contour of
its original, so only clips of one kind should be compared with each other.
"""

import numpy as np

from utils.audio import dsp

FRAME_S = 0.05
FLOOR_DB = 40.0  # below the loudest frame: what lies lower is noise, which formats change
LAGS = (-1, 0, 1)  # frames by which ends that were trimmed anew may differ
LENGTHS = 2  # frames by which the lengths may differ
CORRELATION, DIFFERENCE_DB = 0.98, 1.5  # contours that agree so well are of one recording


def contour(wave: np.ndarray, rate: int) -> np.ndarray:
    """Level in dB below the loudest frame of each `FRAME_S`, float32 (frames,), -FLOOR_DB … 0."""
    level = dsp.frames_dbfs(wave, rate, FRAME_S)
    return np.maximum(level - level.max(), -FLOOR_DB).astype(np.float32)


def repeats(contours: list[np.ndarray]) -> np.ndarray:
    """For each contour (frames,), the number of an earlier one that it repeats, or -1: (N,)."""
    first = np.full(len(contours), -1)
    lengths = np.array([len(c) for c in contours])
    size = 0 if not len(contours) else lengths.max() + LENGTHS + max(LAGS)
    padded = np.full((len(contours), size), -FLOOR_DB, np.float32)
    for row, each in zip(padded, contours, strict=True):
        row[: len(each)] = each
    by_length = np.argsort(lengths, kind="stable")
    ends = np.searchsorted(lengths[by_length], lengths[by_length] + LENGTHS, side="right")
    for place, (row, end) in enumerate(zip(by_length, ends, strict=True)):
        others = by_length[place + 1 : end]
        if len(others):
            for other in others[_same(padded[row], padded[others], lengths[row])]:
                later, earlier = max(row, other), min(row, other)
                first[later] = earlier if first[later] < 0 else min(first[later], earlier)
    return first


def _same(one: np.ndarray, others: np.ndarray, frames: int) -> np.ndarray:
    """Whether each row of `others` (N, size) is the contour `one` (size,) at some lag: (N,)."""
    result = np.zeros(len(others), bool)
    width = frames - 2 * max(LAGS)
    a = one[max(LAGS) : max(LAGS) + width]
    for lag in LAGS:
        b = others[:, max(LAGS) + lag : max(LAGS) + lag + width]
        near = np.abs(b - a).mean(axis=1) < DIFFERENCE_DB
        x, y = a - a.mean(), b - b.mean(axis=1, keepdims=True)
        scale = np.sqrt((x**2).sum() * (y**2).sum(axis=1)) + 1e-9
        result |= near & (y @ x / scale > CORRELATION)
    return result
