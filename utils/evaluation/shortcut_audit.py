"""Packaging cues: what a file tells about its class without its speech, and how much a cheat learns from them."""

import lightgbm as lgb
import numpy as np
import pandas as pd

from utils import metrics, parallel
from utils.audio import channel, dsp, reading

CODEC_GRID = (
    np.sort(
        np.concatenate(
            [
                s * (2.0 ** np.arange(8)[:, None] * (np.arange(16) + 16.5) * 8 - 132).ravel()
                for s in (1, -1)
            ]
        )
    )
    / 32768
)  # µ-law's 256 decision values, full scale ±1


def packaging(wave: np.ndarray) -> dict[str, float]:
    """Cues of an 8 kHz wave that say nothing about its speech, by "kind: what (unit)"."""
    level = dsp.frames_dbfs(wave)
    loud = np.flatnonzero(level > level.max() - 35)
    spectrum = np.abs(np.fft.rfft(wave)) ** 2 + 1e-12
    hertz, power = np.fft.rfftfreq(len(wave), 1 / dsp.RATE), np.cumsum(spectrum) / spectrum.sum()
    change = np.flatnonzero(np.diff(np.concatenate([[1], (wave != 0).astype(int), [1]])))
    runs = change[1::2] - change[::2]
    strong = wave[np.abs(wave) > 0.02]
    above = np.clip(np.searchsorted(CODEC_GRID, strong), 1, len(CODEC_GRID) - 1)
    off_grid = np.minimum(
        np.abs(CODEC_GRID[above] - strong), np.abs(CODEC_GRID[above - 1] - strong)
    )
    return {
        "silence: lead (s)": loud[0] * 0.02,
        "silence: tail (s)": (len(level) - 1 - loud[-1]) * 0.02,
        "level: mean (dBFS)": dsp.dbfs(wave),
        "level: peak": np.abs(wave).max(),
        "DC: mean": wave.mean(),
        "DC: below 50 Hz (dB)": 10 * np.log10(spectrum[hertz < 50].sum() / spectrum.sum()),
        "bandwidth: 1 % (Hz)": hertz[np.searchsorted(power, 0.01)],
        "bandwidth: 99 % (Hz)": hertz[np.searchsorted(power, 0.99)],
        "bandwidth: over 3.4 kHz (dB)": 10
        * np.log10(spectrum[hertz > 3400].sum() / spectrum.sum()),
        "noise floor: 5 % under 95 % (dB)": np.percentile(level, 5) - np.percentile(level, 95),
        "duration: all (s)": len(wave) / dsp.RATE,
        "zeros: share": np.mean(wave == 0),
        "zeros: longest run (s)": runs.max(initial=0) / dsp.RATE,
        "codec: distinct values": len(np.unique(wave)) / len(wave),
        "codec: distance to the µ-law grid": np.median(off_grid) if len(strong) else 0.0,
    }


def _conditioned_here(
    files: list, keys: list[str], seed: int, strength: float
) -> list[tuple[np.ndarray, dict]]:
    waves = [
        channel.condition(
            reading.read(file),
            dsp.RATE,
            parallel.seeded_rng(seed, key),
            channel.TELEPHONE,
            0.1,
            strength,
        )[0]
        for file, key in zip(files, keys, strict=True)
    ]
    return [(wave, packaging(wave)) for wave in waves]


def conditioned(
    files: list, keys: list[str], seed: int, strength: float
) -> tuple[list[np.ndarray], pd.DataFrame]:
    """Files behind the chain at this strength, in processes: (waves at 8 kHz, their packaging cues); `keys` decide the draws."""
    jobs = [
        ([files[i] for i in cut], [keys[i] for i in cut], seed, strength)
        for cut in np.array_split(np.arange(len(files)), max(1, len(files) // 100))
    ]
    waves, facts = zip(
        *(clip for part in parallel.run_in_processes(_conditioned_here, jobs) for clip in part),
        strict=True,
    )
    return list(waves), pd.DataFrame(facts)


def audit(
    cues: pd.DataFrame, label: np.ndarray, fold: np.ndarray, group, seed: int
) -> tuple[pd.DataFrame, pd.Series]:
    """What boosted trees tell from each kind of cue alone and from all, out of fold.

    Args: cues (clips, cues) as `packaging` names them; label 1 real, 0 fake; fold and group per clip.
    Returns (table of AUC with a 95 % interval over groups by kind, out-of-fold guesses of all cues together).
    """
    kinds = {
        kind: [c for c in cues if c.split(":")[0] == kind]
        for kind in dict.fromkeys(c.split(":")[0] for c in cues)
    }
    result = []
    for kind, columns in (kinds | {"all together": list(cues)}).items():
        guess = np.zeros(len(cues))
        for held in np.unique(fold):
            inside = fold != held
            tree = lgb.LGBMClassifier(
                n_estimators=60,
                num_leaves=7,
                min_child_samples=5,
                random_state=seed,
                n_jobs=1,
                deterministic=True,
                verbose=-1,
            )
            tree.fit(cues.loc[inside, columns].to_numpy(), label[inside])
            guess[~inside] = tree.predict_proba(cues.loc[~inside, columns].to_numpy())[:, 1]
        low, high = metrics.group_bootstrap(
            metrics.auc, group, label, guess, repeats=300, seed=seed
        )
        result.append({"cue": kind, "value": metrics.auc(label, guess), "low": low, "high": high})
    return pd.DataFrame(result).set_index("cue"), pd.Series(guess, cues.index)
