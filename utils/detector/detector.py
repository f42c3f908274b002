"""The released detector: a kernel machine on pooled statistics of two frozen encoders.

Whisper base (convolutions, layers 1–3) and CAM++ (front end, two dense blocks) → mean, deviation and change of each channel →
standardised → principal components → support vector machine with a Gaussian kernel → calibrated log-odds of bona fide. Notebook
09 trains and judges it. The file holds numbers alone (safetensors): no clip can be heard from it.
"""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.pipeline import Pipeline

from utils import paths
from utils.audio import dsp, reading
from utils.models import pooled_features

FOLDER = paths.ROOT / "outputs" / "reference" / "detector"
PIECE_S = 10.0  # longer recordings are scored in equal pieces of at most this; clips of the pages are up to 6 s
WINDOW_S, STEP_S = (
    2.0,
    0.5,
)  # of a timeline: windows overlap, and a step has the mean of those over it
DEPTHS = {"whisper-base": (0, 1, 2, 3), "campplus": (0, 1, 2, 3)}


def windows(samples: int) -> list[slice]:
    """Windows of `WINDOW_S`, one a step, over an 8 kHz wave of so many samples; the last one ends with it."""
    size, step = int(WINDOW_S * dsp.RATE), int(STEP_S * dsp.RATE)
    starts = [*range(0, max(1, samples - size), step), max(0, samples - size)]
    return [slice(start, min(samples, start + size)) for start in dict.fromkeys(starts)]


def by_step(samples: int, logits: np.ndarray) -> np.ndarray:
    """Log-odds of each step of `STEP_S` from those of `windows(samples)`: the mean of all windows over its middle.

    A window without a score (NaN: silence) is left out; a step without any is NaN.
    """
    edges = np.array([(w.start, w.stop) for w in windows(samples)])
    middles = np.minimum(
        (np.arange(max(1, int(np.ceil(samples / STEP_S / dsp.RATE)))) + 0.5) * STEP_S * dsp.RATE,
        samples - 1,
    )
    over = (edges[:, :1] <= middles) & (middles < edges[:, 1:]) & np.isfinite(logits)[:, None]
    total = np.where(np.isfinite(logits), logits, 0.0) @ over
    return np.divide(
        total, over.sum(axis=0), out=np.full(len(middles), np.nan), where=over.any(axis=0)
    )


def spans(spoof: np.ndarray) -> list[tuple[float, float]]:
    """(start s, end s) of the runs of true steps."""
    change = np.flatnonzero(np.diff(np.concatenate([[False], spoof, [False]]).astype(int)))
    return [
        (float(a * STEP_S), float(b * STEP_S))
        for a, b in zip(change[::2], change[1::2], strict=True)
    ]


def _long_enough(wave: np.ndarray) -> None:
    if len(wave) < dsp.RATE // 4:
        raise dsp.AudioError(f"{len(wave) / dsp.RATE:.2f} s is too short to score")


class Detector:
    """A trained detector with its card (`card.json`: depths, in the order of the weights; threshold, results)."""

    def __init__(self, folder: Path = FOLDER):
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
        w = self.weights = {
            name: value.astype(np.float32)
            for name, value in load_file(folder / "detector.safetensors").items()
        }
        (inputs,), (parts,), clips = w["centre"].shape, w["offset"].shape, len(self.supports)
        for name, shape in {
            "scale": (inputs,),
            "components": (parts, inputs),
            "supports": (clips, parts),
            "weight": (clips,),
            "bias": (1,),
            "gamma": (1,),
        }.items():
            if w[name].shape != shape:
                raise ValueError(f"{name} has shape {w[name].shape}, expected {shape}")
        if not 0 < self.card["threshold"] <= 1 or not dict(self.card["depths"]):
            raise ValueError("no encoders, or no threshold between 0 and 1")

    def pieces(self, wave: np.ndarray) -> list[tuple[float, float, float, float]]:
        """(start s, end s, log-odds of bona fide, likeness) of equal pieces of an 8 kHz wave (samples,); silent ones are left out.

        Likeness to the most similar training clip is 0 … 1; the card's `familiar` is what all but 1 % of clips of unseen pages have.
        Raises AudioError for less than a quarter of a second and for silence.
        """
        _long_enough(wave)
        cuts = np.linspace(0, len(wave), int(np.ceil(len(wave) / (PIECE_S * dsp.RATE))) + 1).astype(
            int
        )
        found = [
            (a / dsp.RATE, b / dsp.RATE, *self._judge(wave[a:b]))
            for a, b in zip(cuts[:-1], cuts[1:], strict=True)
            if dsp.frames_dbfs(wave[a:b]).max() >= dsp.SILENT_DBFS
        ]
        if not found:
            raise dsp.AudioError("silent: no piece of it can be scored")
        return found

    def logit(self, wave: np.ndarray) -> float:
        """Calibrated log-odds of bona fide of an 8 kHz wave (samples,): the mean over its `pieces`."""
        return float(np.mean([logit for _, _, logit, _ in self.pieces(wave)]))

    def timeline(self, wave: np.ndarray) -> np.ndarray:
        """Log-odds of bona fide of each `STEP_S` of an 8 kHz wave; NaN where it is silent. Noisier than `logit`: see the card.

        Raises AudioError for less than a quarter of a second.
        """
        _long_enough(wave)
        logits = [
            self._judge(wave[w])[0] if dsp.frames_dbfs(wave[w]).max() >= dsp.SILENT_DBFS else np.nan
            for w in windows(len(wave))
        ]
        return by_step(len(wave), np.array(logits))

    def _judge(self, wave: np.ndarray) -> tuple[float, float]:
        kernel = self._kernel(wave)
        return float(self.weights["weight"] @ kernel + self.weights["bias"][0]), float(kernel.max())

    def _kernel(self, wave: np.ndarray) -> np.ndarray:
        w = self.weights
        x = pooled_features.features_in_this_process(
            [wave], {name: tuple(depths) for name, depths in self.card["depths"]}
        )[0]
        x = w["components"] @ ((x - w["centre"]) / w["scale"]) - w["offset"]
        return np.exp(-w["gamma"][0] * ((w["supports"] - x) ** 2).sum(axis=1))

    def nearest(self, wave: np.ndarray, count: int = 3) -> list[dict[str, str]]:
        """The training clips most like an 8 kHz wave: what `supports.csv` tells of each (label, system, page, language) and its
        likeness, 0 … 1, with the piece that is most like it. Only clips that the machine leans on are known."""
        cuts = [wave[int(a * dsp.RATE) : int(b * dsp.RATE)] for a, b, _, _ in self.pieces(wave)]
        kernel = np.max([self._kernel(cut) for cut in cuts], axis=0)
        return [
            {**self.supports[i], "likeness": f"{kernel[i]:.2f}"}
            for i in np.argsort(-kernel)[:count]
        ]

    def probability(self, clip: Path | str | np.ndarray, rate: int = dsp.RATE) -> float:
        """Probability of bona fide, 0 … 1, of a file or of a wave at `rate` Hz. Raises AudioError for what cannot be scored."""
        if isinstance(clip, (str, Path)):
            wave = reading.read(Path(clip))
        else:
            wave = dsp.resample(
                dsp.check_wave(np.asarray(clip, np.float32), "wave", rate), rate, dsp.RATE
            )
            dsp.check_wave(wave, "wave")  # sound above 4 kHz is gone
        return float(1 / (1 + np.exp(-self.logit(wave))))


def save(
    folder: Path, model: Pipeline, slope: float, offset: float, card: dict, clips: pd.DataFrame
) -> None:
    """Write weights, card and `supports.csv`: `model` from `fit`, its scores calibrated as slope · score + offset, `clips` a row of
    what is told of each training clip. Matrices in half precision."""
    scaler, pca, machine = (step for _, step in model.steps)
    weights = {
        "centre": scaler.mean_,
        "scale": scaler.scale_,
        "offset": pca.components_ @ pca.mean_,
        "weight": machine.dual_coef_[0] * slope,
        "bias": machine.intercept_ * slope + offset,
        "gamma": [machine.gamma],
    }
    weights = {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()} | {
        "components": np.ascontiguousarray(pca.components_, np.float16),
        "supports": np.ascontiguousarray(machine.support_vectors_, np.float16),
    }
    with paths.whole(folder / "detector.safetensors") as part:
        save_file(weights, part)
    with paths.whole(folder / "supports.csv") as part:
        clips.iloc[machine.support_].to_csv(part, index=False)
    paths.write_json(folder / "card.json", card)
