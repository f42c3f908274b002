"""The released detector: an SVM on pooled statistics of two frozen encoders.

Whisper base (convolutions, layers 1–3) and CAM++ (front end, two dense blocks) → mean, standard
deviation and mean absolute delta of each channel → standardised → principal components → SVM with
an RBF kernel → calibrated log-odds of bona fide. Notebook 09 trains and evaluates it. The file of
weights holds numbers only (safetensors): no training clip can be heard from it.
"""

import csv
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.pipeline import Pipeline

from utils import paths
from utils.audio import dsp, reading
from utils.models import pooled_features

FOLDER = paths.ROOT / "outputs" / "reference" / "detector"
PIECE_S = 10.0  # longer recordings are scored in equal pieces; training clips last up to 6 s
SHORTEST_S = 0.25  # of a recording that is scored at all
WINDOW_S = 2.0  # length of the windows of a timeline
STEP_S = 0.5  # from one window to the next, and between two values of a timeline
DEPTHS = {"whisper-base": (0, 1, 2, 3), "campplus": (0, 1, 2, 3)}


def windows(samples: int) -> list[slice]:
    """Windows of `WINDOW_S`, one every `STEP_S`, over an 8 kHz wave of `samples` samples.

    The last one ends with the wave. A shorter wave has one window: all of it.
    """
    size, step = int(WINDOW_S * dsp.RATE), int(STEP_S * dsp.RATE)
    starts = [*range(0, max(1, samples - size), step), max(0, samples - size)]
    return [slice(start, min(samples, start + size)) for start in dict.fromkeys(starts)]


def step_middles(samples: int) -> np.ndarray:
    """Middle of each step of `STEP_S` of an 8 kHz wave, in samples; also if the last one is cut."""
    count = max(1, int(np.ceil(samples / STEP_S / dsp.RATE)))
    return (np.arange(count) + 0.5) * STEP_S * dsp.RATE


def by_step(samples: int, logits: np.ndarray) -> np.ndarray:
    """Log-odds of each step: the mean of those of all `windows(samples)` that cover its middle.

    Args: `logits` (windows,), NaN for a window without a score (silence), which does not count.
    Returns (steps,); NaN for a step that no scored window covers.
    """
    edges = np.array([(w.start, w.stop) for w in windows(samples)])
    middles = np.minimum(step_middles(samples), samples - 1)
    scored = np.isfinite(logits)
    covers = (edges[:, :1] <= middles) & (middles < edges[:, 1:]) & scored[:, None]
    total = np.where(scored, logits, 0.0) @ covers
    unknown = np.full(len(middles), np.nan)
    return np.divide(total, covers.sum(axis=0), out=unknown, where=covers.any(axis=0))


def spans(flagged: np.ndarray) -> list[tuple[float, float]]:
    """(start s, end s) of each run of true values among steps of `STEP_S`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flagged, [False]]).astype(int)))
    return [
        (float(start * STEP_S), float(end * STEP_S))
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]


class Piece(NamedTuple):
    """A scored piece of a recording."""

    start_s: float
    end_s: float
    log_odds: float  # of bona fide, calibrated
    likeness: float  # to the most similar support vector, 0 … 1
    similarity: np.ndarray  # to each support vector, 0 … 1, shape (support vectors,)


def _check_length(wave: np.ndarray) -> None:
    if len(wave) < SHORTEST_S * dsp.RATE:
        raise dsp.AudioError(f"{len(wave) / dsp.RATE:.2f} s is too short to score")


def _is_silent(wave: np.ndarray) -> bool:
    return dsp.frames_dbfs(wave).max() < dsp.SILENT_DBFS


class Detector:
    """A trained detector with its card.

    `card` (from `card.json`): depths of the encoders in the order of the weights, threshold,
    results. `supports` (from `supports.csv`): label, system, page and language of the training clip
    of each support vector. `version`: sha256 of weights and card.
    """

    def __init__(self, folder: Path = FOLDER):
        """Raises FileNotFoundError with the remedy, and ValueError for a damaged folder."""
        for name in ("detector.safetensors", "card.json", "supports.csv"):
            if not (folder / name).exists():
                raise FileNotFoundError(
                    f"{folder}/{name} is missing: check the clone, or make it with "
                    "./run_all.sh --profile detector"
                )
        try:
            self._open(folder)
        except (SafetensorError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"{folder}: no detector, or a damaged one ({error!r}); check the clone"
            ) from error

    def _open(self, folder: Path) -> None:
        self.card = paths.read_json(folder / "card.json")
        files = (folder / "detector.safetensors", folder / "card.json")
        self.version = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        with (folder / "supports.csv").open(newline="", encoding="utf-8") as file:
            self.supports = list(csv.DictReader(file))
        if missing := {"label", "system", "page", "language"} - set(self.supports[0]):
            raise ValueError(f"supports.csv lacks {sorted(missing)}")
        self.weights = {
            name: value.astype(np.float32)
            for name, value in load_file(folder / "detector.safetensors").items()
        }
        inputs, components = len(self.weights["centre"]), len(self.weights["offset"])
        expected = {
            "centre": (inputs,),
            "scale": (inputs,),
            "components": (components, inputs),
            "offset": (components,),
            "supports": (len(self.supports), components),
            "weight": (len(self.supports),),
            "bias": (1,),
            "gamma": (1,),
        }
        for name, shape in expected.items():
            if self.weights[name].shape != shape:
                raise ValueError(f"{name} has shape {self.weights[name].shape}, expected {shape}")
        if not 0 < self.card["threshold"] <= 1 or not dict(self.card["depths"]):
            raise ValueError("no encoders, or no threshold between 0 and 1")

    def embed(self, waves: list[np.ndarray]) -> np.ndarray:
        """Principal components of 8 kHz waves, float32 (N, components).

        No other method runs the encoders: the rest is arithmetic on what this one returns.
        """
        w = self.weights
        depths = {name: tuple(numbers) for name, numbers in self.card["depths"]}
        result = np.empty((len(waves), len(w["offset"])), np.float32)
        for i, wave in enumerate(waves):  # one by one: features of hours would fill the memory
            (x,) = pooled_features.features_in_this_process([wave], depths)
            result[i] = w["components"] @ ((x - w["centre"]) / w["scale"]) - w["offset"]
        return result

    def similarity(self, embedded: np.ndarray) -> np.ndarray:
        """RBF kernel, 0 … 1, of rows (N, components) with each support vector: (N, supports)."""
        w = self.weights
        distances = np.empty((len(embedded), len(w["supports"])), np.float32)
        for i, row in enumerate(embedded):
            distances[i] = ((w["supports"] - row) ** 2).sum(axis=1)
        return np.exp(-w["gamma"][0] * distances)

    def log_odds(self, similarity: np.ndarray) -> np.ndarray:
        """Calibrated log-odds of bona fide from similarities (N, supports): (N,)."""
        # row by row: a product with the whole matrix rounds differently for each N
        sums = np.array([self.weights["weight"] @ row for row in similarity], np.float32)
        return sums + self.weights["bias"][0]

    def pieces(self, wave: np.ndarray) -> list[Piece]:
        """Score equal pieces, of at most `PIECE_S`, of an 8 kHz wave (samples,).

        Silent pieces are left out. A likeness below the card's `familiar` is that of one in a
        hundred clips of unseen demo pages: the clip is unlike the training clips.
        Raises AudioError for less than `SHORTEST_S` and for silence.
        """
        _check_length(wave)
        count = int(np.ceil(len(wave) / (PIECE_S * dsp.RATE)))
        cuts = np.linspace(0, len(wave), count + 1).astype(int).tolist()
        edges = [
            (start, end)
            for start, end in zip(cuts[:-1], cuts[1:], strict=True)
            if not _is_silent(wave[start:end])
        ]
        if not edges:
            raise dsp.AudioError("silent: no piece of it can be scored")
        similarity = self.similarity(self.embed([wave[start:end] for start, end in edges]))
        return [
            Piece(start / dsp.RATE, end / dsp.RATE, float(log_odds), float(row.max()), row)
            for (start, end), row, log_odds in zip(
                edges, similarity, self.log_odds(similarity), strict=True
            )
        ]

    def logit(self, wave: np.ndarray) -> float:
        """Calibrated log-odds of bona fide of an 8 kHz wave: the mean over its `pieces`."""
        return float(np.mean([piece.log_odds for piece in self.pieces(wave)]))

    def timeline(self, wave: np.ndarray) -> np.ndarray:
        """Log-odds of bona fide of each `STEP_S` of an 8 kHz wave (steps,), NaN where it is silent.

        They are noisier than `logit`: see the card. Raises AudioError for less than `SHORTEST_S`.
        """
        _check_length(wave)
        cuts = windows(len(wave))
        audible = np.array([not _is_silent(wave[cut]) for cut in cuts])
        heard = [wave[cut] for cut, is_audible in zip(cuts, audible, strict=True) if is_audible]
        logits = np.full(len(cuts), np.nan)
        rows = self.embed(heard)[:, None]  # one by one: similarities of hours would fill the memory
        logits[audible] = [float(self.log_odds(self.similarity(row))[0]) for row in rows]
        return by_step(len(wave), logits)

    def nearest(self, pieces: list[Piece], count: int = 3) -> list[dict[str, str]]:
        """The training clips most similar to any of `pieces`, most similar first.

        Each is a row of `supports.csv` (label, system, page, language) and its `likeness`, 0 … 1.
        Training clips that are no support vectors are not known here.
        """
        similarity = np.max([piece.similarity for piece in pieces], axis=0)
        return [
            self.supports[i] | {"likeness": f"{similarity[i]:.2f}"}
            for i in np.argsort(-similarity)[:count]
        ]

    def probability(self, clip: Path | str | np.ndarray, rate: int = dsp.RATE) -> float:
        """Probability of bona fide, 0 … 1, of a file or of a wave (samples,) at `rate` Hz.

        Raises AudioError for what cannot be scored.
        """
        if isinstance(clip, (str, Path)):
            wave = reading.read(Path(clip))
        else:
            wave = dsp.check_wave(np.asarray(clip, np.float32), "wave", rate)
            wave = dsp.check_wave(dsp.resample(wave, rate, dsp.RATE), "wave")  # above 4 kHz: lost
        return float(1 / (1 + np.exp(-self.logit(wave))))


def save(
    folder: Path, model: Pipeline, slope: float, offset: float, card: dict, clips: pd.DataFrame
) -> None:
    """Write a detector: `detector.safetensors`, `card.json` and `supports.csv`.

    Args:
        model: from `classifiers.fit_svm`: scaler, PCA, SVM.
        slope, offset: of the calibration; log-odds of bona fide = slope · score + offset.
        card: must hold `depths` and `threshold`.
        clips: a row for each training clip, in order: label, system, page, language.
    Matrices are stored in half precision.
    """
    scaler, pca, svm = (step for _, step in model.steps)
    single = {
        "centre": scaler.mean_,
        "scale": scaler.scale_,
        "offset": pca.components_ @ pca.mean_,
        "weight": svm.dual_coef_[0] * slope,
        "bias": svm.intercept_ * slope + offset,
        "gamma": [svm.gamma],
    }
    half = {"components": pca.components_, "supports": svm.support_vectors_}
    weights = {name: np.ascontiguousarray(value, np.float32) for name, value in single.items()}
    weights |= {name: np.ascontiguousarray(value, np.float16) for name, value in half.items()}
    with paths.whole(folder / "detector.safetensors") as temporary:
        save_file(weights, temporary)
    with paths.whole(folder / "supports.csv") as temporary:
        clips.iloc[svm.support_].to_csv(temporary, index=False)
    paths.write_json(folder / "card.json", card)
