"""Recordings that are fake in one place, and how well a timeline finds it."""

import numpy as np
import pandas as pd

from utils import metrics
from utils.audio import augmentation
from utils.detector import detector
from utils.detector.embedding import RATE

PART_S = (2.0, 5.0)  # length of a part of a partly fake recording


def partly_spoofed(
    waves: list[np.ndarray], bonafide: np.ndarray, spoof: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A recording whose middle is fake: a random bona fide clip, a spoof, another bona fide clip.

    Args: `waves` at 16 kHz; `bonafide` and `spoof`, the numbers of those to choose from, two and
    one at least. Each part is a random stretch of `PART_S`, or the whole clip if that is shorter.
    Returns (16 kHz wave, whether the middle of each step of `detector.STEP_S` is fake).
    """
    first, last = rng.choice(bonafide, 2, replace=False)
    parts = []
    for i in (first, rng.choice(spoof), last):
        size = int(min(rng.uniform(*PART_S) * RATE, len(waves[i])))
        start = rng.integers(len(waves[i]) - size + 1)
        parts.append(waves[i][start : start + size])
    recording = augmentation.splice(parts)
    start, end, _ = np.cumsum([len(part) for part in parts])
    middles = detector.step_middles(len(recording))
    return recording, (start <= middles) & (middles < end)


def partly_spoofed_recordings(
    waves: list, label: np.ndarray, owner: np.ndarray, per_owner: int, seed: int
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(owner, wave, whether each step is fake): `per_owner` of each that has clips for them."""
    rng, result = np.random.default_rng(seed), []
    for name in np.unique(owner):
        bonafide = np.flatnonzero((owner == name) & (label == 1))
        spoof = np.flatnonzero((owner == name) & (label == 0))
        if len(bonafide) > 1 and len(spoof):
            result += [
                (name, *partly_spoofed(waves, bonafide, spoof, rng)) for _ in range(per_owner)
            ]
    return result


def segment_row(spoof: np.ndarray, p: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
    """Errors of a timeline: `spoof` (steps,) true where a step is fake, `p` (steps,) of bona fide.

    Returns segment_eer, and of the steps with p at most the threshold the F1 of spoof and the
    intersection over union (IoU) with the fake steps.
    """
    flagged = p <= threshold
    return {
        "segment_eer": metrics.eer(1 - spoof.astype(int), p),
        "f1_spoof": metrics.f1(spoof.astype(int), flagged.astype(int)),
        "iou": float((spoof & flagged).sum() / max(1, (spoof | flagged).sum())),
    }


def segment_table(steps: pd.DataFrame, threshold: float, seed: int) -> pd.DataFrame:
    """`segment_row` of the timeline, of chance and of calling everything fake.

    steps: a row per step with spoof and p.
    """
    spoof = steps["spoof"].to_numpy(bool)
    guesses = {
        "timeline": (steps["p"].to_numpy(), threshold),
        "chance": (np.random.default_rng(seed).random(len(steps)), 0.5),
        "always fake": (np.zeros(len(steps)), 0.5),
    }
    rows = {name: segment_row(spoof, p, limit) for name, (p, limit) in guesses.items()}
    return pd.DataFrame(rows).T.rename_axis("method")
