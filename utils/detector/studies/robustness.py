"""How scores change with level, codecs, noise, rooms, speed, cutting and joining.

Each condition changes clips of both classes alike, and heads that never met the owner score them.
Waves are float32 (samples,) at 16 kHz.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from utils import bootstrap, metrics, parallel
from utils.audio import augmentation, dsp
from utils.detector import embedding
from utils.detector.embedding import NARROW, RATE, WIDE
from utils.detector.studies import results
from utils.detector.train import degradation, material

CLIPS = 600  # at most, of each owner one of each class


def coded(wave: np.ndarray, rng: np.random.Generator, codec: str, kbps: float) -> np.ndarray:
    """`degradation.coded`, which draws nothing."""
    return degradation.coded(wave, codec, kbps)


def faster(wave: np.ndarray, rng: np.random.Generator, speed: float) -> np.ndarray:
    """Speed and pitch changed, by resampling."""
    return dsp.resample(wave, int(RATE * speed), RATE)


def part(wave: np.ndarray, rng: np.random.Generator, seconds: float) -> np.ndarray:
    """A random part."""
    size = min(len(wave), int(seconds * RATE))
    start = rng.integers(len(wave) - size + 1)
    return wave[start : start + size]


def joined(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Three parts of the clip in another order, cross-faded."""
    first, second = sorted(rng.integers(len(wave) // 4, 3 * len(wave) // 4 + 1, size=2))
    parts = [wave[second:], wave[:first], wave[first:second]]
    return augmentation.splice([each for each in parts if len(each) > RATE // 20])


CONDITIONS: dict[str, Callable] = {
    "as it is": lambda wave, rng: wave,
    "40 dB quieter": lambda wave, rng: degradation.quieter(wave, 40),
    "MP3, 64 kbit/s": partial(coded, codec="mp3", kbps=64),
    "MP3, 32 kbit/s": partial(coded, codec="mp3", kbps=32),
    "MP3, 16 kbit/s": partial(coded, codec="mp3", kbps=16),
    "Opus, 64 kbit/s": partial(coded, codec="opus", kbps=64),
    "Opus, 32 kbit/s": partial(coded, codec="opus", kbps=32),
    "Opus, 16 kbit/s": partial(coded, codec="opus", kbps=16),
    "G.711, 8 kHz": lambda wave, rng: degradation.by_telephone(wave, "mulaw"),
    "AMR, 12.2 kbit/s": partial(coded, codec="amr", kbps=12.2),
    "AMR, 4.75 kbit/s": partial(coded, codec="amr", kbps=4.75),
    "noise, 20 dB": partial(degradation.noisy, snr_db=20),
    "noise, 10 dB": partial(degradation.noisy, snr_db=10),
    "noise, 5 dB": partial(degradation.noisy, snr_db=5),
    "small room, 0.3 s": partial(degradation.in_a_room, rt60_s=0.3),
    "large room, 0.8 s": partial(degradation.in_a_room, rt60_s=0.8),
    "0.9 times as fast": partial(faster, speed=0.9),
    "1.1 times as fast": partial(faster, speed=1.1),
    "recorded again": degradation.recorded_again,
    "a part of 2 s": partial(part, seconds=2),
    "cut and joined": joined,
}


def changed(wave: np.ndarray, condition: str, key: str) -> np.ndarray:
    """A wave under a condition of `CONDITIONS`; random numbers follow from `key`."""
    rng = parallel.seeded_rng("robustness", condition, key)
    return np.ascontiguousarray(CONDITIONS[condition](wave, rng), np.float32)


def _statistics(files: list[str], encoders: str, condition: str) -> list[tuple[str, np.ndarray]]:
    session, result = embedding.Encoders(Path(encoders)), []
    for file in files:
        wave = changed(material.read_wave(file), condition, Path(file).name)
        wave = wave[dsp.between_quiet_ends(wave, RATE)]
        wide = embedding.bandwidth_hz(wave) >= embedding.WIDE_FROM_HZ
        heard = embedding.filled(wave if wide else embedding.telephone_band(wave))
        heard = dsp.middle(heard, int(embedding.PIECE_S * RATE))
        result.append((WIDE if wide else NARROW, session.statistics(heard[None])[0]))
    return result


def table(scores: pd.DataFrame, trained: dict, encoders: Path, threshold: float, seed: int):
    """EER and errors of a few clips of every owner under each of `CONDITIONS`.

    Args:
        scores: the clips, with path, owner, label and fold.
        trained: by band, what has `fold_log_odds(statistics, fold)`.
        threshold: probability of bona fide up to which a clip is called spoof.
    Returns a row per condition with eer, its interval over owners, delta to "as it is" (paired) and
    its interval, false_alarms, misses, wide (share heard by the wide head), clips, owners.
    """
    rows = scores.groupby(["owner", "label"]).sample(1, random_state=seed)
    rows = rows.sample(min(CLIPS, len(rows)), random_state=seed)
    label, owner, fold = (rows[name].to_numpy() for name in ("label", "owner", "fold"))
    _, number = np.unique(owner, return_inverse=True)
    weights = bootstrap.group_weights(owner, results.REPEATS, seed)[:, number]
    found, draws = {}, {}
    for name in CONDITIONS:
        jobs = (20, str(encoders), name)
        heard = parallel.map_chunks(_statistics, rows["path"].tolist(), *jobs, label=name)
        wide = np.array([band == WIDE for band, _ in heard])
        score = np.empty(len(rows))
        for band, some in ((WIDE, wide), (NARROW, ~wide)):
            x = np.stack([heard[n][1] for n in np.flatnonzero(some)]) if some.any() else None
            if x is not None:
                score[some] = trained[band].fold_log_odds(x, fold[some])
        draws[name] = bootstrap.eer(label, score, weights)
        called = 1 / (1 + np.exp(-score)) <= threshold
        low, high = bootstrap.interval(draws[name])
        found[name] = {"eer": metrics.eer(label, score), "eer_low": low, "eer_high": high}
        first = next(iter(CONDITIONS))
        low, high = bootstrap.interval(draws[name] - draws[first])
        found[name] |= {"delta": found[name]["eer"] - found[first]["eer"]}
        found[name] |= {"delta_low": low, "delta_high": high}
        found[name] |= {"false_alarms": called[label == 1].mean()}
        found[name] |= {"misses": (~called[label == 0]).mean(), "wide": wide.mean()}
        found[name] |= {"clips": len(rows), "owners": len(set(owner))}
    return pd.DataFrame(found).T.rename_axis("condition")
