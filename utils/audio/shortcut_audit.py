"""The shortcut audit: how well a file's packaging alone tells bona fide from spoof, without speech.

Packaging features are properties that say nothing about how the speech was made: silence at the
ends, level, DC, bandwidth, noise floor, duration, digital zeros, traces of a codec. A classifier
that learns them scores well on the data it knows and fails where the files come from elsewhere
(Müller et al. 2021, "Speech is silver, silence is golden").
"""

import lightgbm as lgb
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from utils import metrics, parallel
from utils.audio import augmentation, channel, dsp, reading

ALL_FEATURES = "all features"  # name of the row in which all groups are used at once
FRAME_S = 0.02  # frames of `dsp.frames_dbfs`
SILENCE_DB = 35  # a frame so far below the loudest one is silence, as in `dsp.loud_part`
CODED_FROM = 0.02  # samples below this amplitude lie too close to the µ-law grid to tell
FILES_PER_JOB = 100
COLUMNS = ("language", "codec", "noise")  # of a table of clips, beside the length
LENGTH_EDGES_S = (2, 3, 4, 5, 6, 8, 10, 12, 15)


def _mu_law_values() -> np.ndarray:
    """All values that a G.711 µ-law decoder can give, ascending, full scale ±1: (256,)."""
    segment, step = np.arange(8)[:, None], np.arange(16)
    positive = (2.0**segment * (step + 16.5) * 8 - 132).ravel()
    return np.sort(np.concatenate([positive, -positive])) / 32768


MU_LAW_VALUES = _mu_law_values()


def packaging(wave: np.ndarray) -> dict[str, float]:
    """Packaging features of an 8 kHz wave (samples,), full scale ±1.

    Returns value by name; a name reads "group: what (unit)", and features of a group are audited
    together.
    """
    level = dsp.frames_dbfs(wave)
    loud = np.flatnonzero(level > level.max() - SILENCE_DB)
    power = np.abs(np.fft.rfft(wave)) ** 2 + 1e-12
    hertz = np.fft.rfftfreq(len(wave), 1 / dsp.RATE)
    cumulative = np.cumsum(power) / power.sum()
    return {
        "silence: lead (s)": loud[0] * FRAME_S,
        "silence: tail (s)": (len(level) - 1 - loud[-1]) * FRAME_S,
        "level: mean (dBFS)": dsp.dbfs(wave),
        "level: peak": np.abs(wave).max(),
        "DC / below 50 Hz: mean": wave.mean(),
        "DC / below 50 Hz: power (dB)": _decibels(power[hertz < 50].sum() / power.sum()),
        "bandwidth: 1 % (Hz)": hertz[np.searchsorted(cumulative, 0.01)],
        "bandwidth: 99 % (Hz)": hertz[np.searchsorted(cumulative, 0.99)],
        "bandwidth: over 3.4 kHz (dB)": _decibels(power[hertz > 3400].sum() / power.sum()),
        "noise floor: 5 % under 95 % (dB)": np.percentile(level, 5) - np.percentile(level, 95),
        "duration: all (s)": len(wave) / dsp.RATE,
        "digital zeros: fraction": np.mean(wave == 0),
        "digital zeros: longest run (s)": _longest_run(wave == 0) / dsp.RATE,
        "codec: distinct values": len(np.unique(wave)) / len(wave),
        "codec: distance to the µ-law grid": _mu_law_distance(wave),
    }


def top_of_the_band(wave: np.ndarray) -> dict[str, float]:
    """Mean level in dB of the bands of 100 Hz from 2.8 to 4 kHz, against 1.5 to 2.5 kHz.

    By name as in `packaging`, of an 8 kHz wave: what a change of pitch or speed may give away.
    """
    hertz, power = augmentation.mean_power(wave)

    def mean(start, end):
        return power[(hertz >= start) & (hertz < end)].mean()

    middle = mean(1500, 2500)
    return {
        f"top: {start} Hz (dB)": _decibels(mean(start, start + 100) / middle)
        for start in range(2800, 4000, 100)
    }


def _decibels(ratio: float) -> float:
    return 10 * np.log10(ratio)


def _longest_run(flags: np.ndarray) -> int:
    """Length of the longest run of True in a boolean vector."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    starts, ends = edges[::2], edges[1::2]
    return (ends - starts).max(initial=0)


def _mu_law_distance(wave: np.ndarray) -> float:
    """Median distance of the louder samples to the nearest µ-law value; 0 without such samples.

    A clip that went through G.711 µ-law lies on the grid, however it was stored afterwards.
    """
    strong = wave[np.abs(wave) > CODED_FROM]
    if not len(strong):
        return 0.0
    above = np.clip(np.searchsorted(MU_LAW_VALUES, strong), 1, len(MU_LAW_VALUES) - 1)
    to_above = np.abs(MU_LAW_VALUES[above] - strong)
    to_below = np.abs(MU_LAW_VALUES[above - 1] - strong)
    return np.median(np.minimum(to_above, to_below))


def _condition_chunk(
    files_and_keys: list[tuple], seed: int, strength: float
) -> list[tuple[np.ndarray, dict[str, float]]]:
    result = []
    for file, key in files_and_keys:
        rng = parallel.seeded_rng(seed, key)
        wave, _ = channel.condition(
            reading.read(file), dsp.RATE, rng, channel.TELEPHONE, loss=0.1, strength=strength
        )
        result.append((wave, packaging(wave)))
    return result


def condition_files(
    files: list, keys: list[str], seed: int, strength: float
) -> tuple[list[np.ndarray], pd.DataFrame]:
    """Send each file through the conditioning chain and measure what packaging is left.

    Args:
        files: paths of 8 kHz audio files.
        keys: a name for each file; with the seed it decides all random choices for that file.
        strength: of `channel.condition`, from 0 (nothing) to 1 (all of it).
    Returns (waves at 8 kHz, packaging features with one row per file), in the order of `files`.
    Raises AudioError for a file that cannot be read. Works in parallel processes.
    """
    files_and_keys = list(zip(files, keys, strict=True))
    clips = parallel.map_chunks(_condition_chunk, files_and_keys, FILES_PER_JOB, seed, strength)
    return [wave for wave, _ in clips], pd.DataFrame([features for _, features in clips])


def audit(
    features: pd.DataFrame, label: np.ndarray, fold: np.ndarray, group, seed: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """How well boosted trees tell the classes apart by packaging features, out of fold.

    Args:
        features: one row per clip (N), columns named as by `packaging`.
        label: (N,) 1 bona fide, 0 spoof; both must occur.
        fold: (N,) each fold is scored by trees that learned from the others.
        group: (N,) clips of one group are resampled together for the intervals.
    Returns (table, scores): the table has `auc` and its 95 % interval `low`, `high` by
    `feature_group` and for all features at once; scores (N,) are the out-of-fold probabilities of
    bona fide from all features. Raises ValueError if a class is missing.
    """
    group_of = {column: column.split(":")[0] for column in features}
    columns_of = {
        name: [column for column in features if group_of[column] == name]
        for name in dict.fromkeys(group_of.values())
    }
    columns_of[ALL_FEATURES] = list(features)
    rows = []
    for name, columns in columns_of.items():
        scores = _out_of_fold(features[columns].to_numpy(), label, fold, seed)
        low, high = metrics.group_bootstrap(
            metrics.auc, group, label, scores, repeats=300, seed=seed
        )
        rows.append(
            {"feature_group": name, "auc": metrics.auc(label, scores), "low": low, "high": high}
        )
    return pd.DataFrame(rows).set_index("feature_group"), scores  # of all features, the last one


def columns(table: pd.DataFrame, seconds: pd.Series, seed: int) -> pd.Series:
    """AUC of a classifier that sees columns of a table only: each of `COLUMNS`, then all at once.

    Args: rows (N) with `label` (1 bona fide, 0 spoof) and some of `COLUMNS`; the duration of each
    clip (N,) in s. Logistic regression on one-hot values, in 5 random folds: a value met in
    training is just what a column could give away. Where every value has both classes alike, the
    AUC falls below 0.5, since the class that is left out is rarer in the rest.
    """
    values = table[[name for name in COLUMNS if name in table]].astype(str)
    values["seconds"] = np.digitize(seconds, LENGTH_EDGES_S).astype(str)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(C=0.3))
    result = {}
    for name, chosen in {**{name: [name] for name in values}, "all columns": [*values]}.items():
        guess = cross_val_predict(
            model, values[chosen], table["label"], cv=folds, method="predict_proba"
        )
        result[name] = metrics.auc(table["label"], guess[:, 1])
    return pd.Series(result, name="auc").rename_axis("column")


def _out_of_fold(x: np.ndarray, label: np.ndarray, fold: np.ndarray, seed: int) -> np.ndarray:
    """Probability of bona fide (N,) from features (N, D) by trees that saw the other folds only."""
    scores = np.zeros(len(x))
    for left_out in np.unique(fold):
        inside = fold != left_out
        trees = lgb.LGBMClassifier(
            n_estimators=60,
            num_leaves=7,
            min_child_samples=5,
            random_state=seed,
            n_jobs=1,
            deterministic=True,
            verbose=-1,
        )
        trees.fit(x[inside], label[inside])
        scores[~inside] = trees.predict_proba(x[~inside])[:, 1]
    return scores
