"""The released detector: a weight for each pooled statistic of two frozen encoders.

Whisper base (convolutions, layer 1) and CAM++ (front end, three dense blocks) → mean, standard
deviation and mean absolute delta of each channel → weighted sum → calibrated log-odds of bona fide.
There are two such heads: one hears what lies below 4 kHz, the other all up to 8 kHz. A recording
whose sound reaches above 4 kHz has the second. A second sum of the same statistics says whether
somebody speaks: music, ringing tones and noise have no vote. `detector/train/` makes the files;
they hold weights only, no training clip can be heard from them.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils import paths
from utils.audio import decoding, dsp
from utils.detector import channels, embedding
from utils.detector.embedding import NARROW, RATE, WIDE

FOLDER = Path(__file__).parent / "released"
FILES = ("encoders.onnx", "heads.npz", "card.json")
SHORTEST_S = 0.25  # of a recording that is scored at all
SILENT_PEAK = 1e-4  # a recording without a larger sample is silent
QUIET_DB = 40.0  # a piece so far below the loudest frame of the recording is not scored
WINDOW_S = 2.0  # length of the windows of a timeline
STEP_S = 0.5  # from one window to the next, and between two values of a timeline


def windows(samples: int) -> list[slice]:
    """Windows of `WINDOW_S`, one every `STEP_S`, over a wave of `samples` samples.

    The last one ends with the wave. A shorter wave has one window: all of it.
    """
    size, step = int(WINDOW_S * RATE), int(STEP_S * RATE)
    starts = [*range(0, max(1, samples - size), step), max(0, samples - size)]
    return [slice(start, min(samples, start + size)) for start in dict.fromkeys(starts)]


def step_middles(samples: int) -> np.ndarray:
    """Middle of each step of `STEP_S` of a wave, in samples; also if the last one is cut."""
    count = max(1, int(np.ceil(samples / STEP_S / RATE)))
    return (np.arange(count) + 0.5) * STEP_S * RATE


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
    speaks: bool  # whether somebody speaks in it


class Head(NamedTuple):
    """Log-odds of bona fide (calibrated) and of speech = weight · statistics + bias."""

    weight: np.ndarray  # float32 (D,)
    bias: float
    speech_weight: np.ndarray  # float32 (D,)
    speech_bias: float
    window_slope: float  # of the log-odds of windows, around the log-odds of their recording

    def log_odds(self, statistics: np.ndarray) -> np.ndarray:
        """(N, D) → (N,). Row by row: a product with the whole matrix rounds differently."""
        return np.array([float(row @ self.weight) + self.bias for row in statistics])

    def speaks(self, statistics: np.ndarray) -> np.ndarray:
        """(N, D) → whether somebody speaks, (N,)."""
        values = [float(row @ self.speech_weight) + self.speech_bias for row in statistics]
        return np.array(values, float) > 0


def save_heads(path: Path, heads: dict[str, Head]) -> None:
    """Write the heads by the band that they hear."""
    arrays = {}
    for band, head in heads.items():
        numbers = [head.bias, head.speech_bias, head.window_slope]
        arrays |= {f"{band} weight": np.asarray(head.weight, np.float32)}
        arrays |= {f"{band} speech": np.asarray(head.speech_weight, np.float32)}
        arrays |= {f"{band} numbers": np.array(numbers, np.float64)}
    with paths.whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def load_heads(path: Path) -> dict[str, Head]:
    """What `save_heads` wrote. Raises ValueError for a damaged file."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            heads = {}
            for band in (NARROW, WIDE):
                bias, speech_bias, slope = arrays[f"{band} numbers"].tolist()
                weight, speech = arrays[f"{band} weight"], arrays[f"{band} speech"]
                heads[band] = Head(weight, bias, speech, speech_bias, slope)
    except Exception as error:  # those of numpy, zipfile and zlib have no other base class
        raise ValueError(f"{path.name}: {error!r}") from error
    weights = [w for head in heads.values() for w in (head.weight, head.speech_weight)]
    shapes = {weight.shape for weight in weights}
    numbers = np.concatenate([np.ravel(part) for head in heads.values() for part in head])
    if len(shapes) != 1 or len(min(shapes)) != 1 or not np.isfinite(numbers).all():
        raise ValueError(f"{path.name}: weights of different shapes, or not finite")
    return heads


def card_and_version(folder: Path) -> tuple[dict, str]:
    """The card of a detector and the sha256 of all its files, without opening the encoders.

    Raises FileNotFoundError with the remedy, and ValueError for a damaged card.
    """
    for name in FILES:
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{folder}/{name} is missing: check the clone, or make it with "
                "./run_all.sh --profile detector"
            )
    try:
        card = paths.read_json(folder / "card.json")
        if not 0 < card["threshold"] < 1:
            raise ValueError("no threshold between 0 and 1")
    except (LookupError, TypeError, ValueError) as error:
        raise _damaged(folder, error) from error
    digests = [hashlib.sha256((folder / name).read_bytes()).digest() for name in FILES]
    return card, hashlib.sha256(b"".join(digests)).hexdigest()


def _damaged(folder: Path, error: Exception) -> ValueError:
    return ValueError(f"{folder}: no detector, or a damaged one ({error}); check the clone")


def check(wave: np.ndarray) -> None:
    """Raise AudioError for a wave that is too short or silent."""
    if len(wave) < SHORTEST_S * RATE:
        raise dsp.AudioError(f"{len(wave) / RATE:.2f} s is too short to score")
    if dsp.peak(wave) < SILENT_PEAK:
        raise dsp.AudioError("silent: no piece of it can be scored")


def audible(wave: np.ndarray, cuts: list[tuple[int, int]]) -> np.ndarray:
    """Whether each part (start, end) of a wave has a frame within `QUIET_DB` of the loudest one."""
    loudest = [dsp.frames_dbfs(wave[start:end], RATE).max() for start, end in cuts]
    return np.array(loudest) > dsp.frames_dbfs(wave, RATE).max() - QUIET_DB


class Detector:
    """A trained detector with its card.

    `card` (from `card.json`): threshold, what it was trained on, results. `version`: sha256 of all
    its files. Waves are at 16 kHz; of a recording at a lower rate they are resampled.
    """

    def __init__(self, folder: Path = FOLDER):
        """Raises FileNotFoundError with the remedy, and ValueError for a damaged folder."""
        self.card, self.version = card_and_version(folder)
        try:
            self.heads = load_heads(folder / "heads.npz")
            self.encoders = embedding.Encoders(folder / "encoders.onnx")
        except ValueError as error:
            raise _damaged(folder, error) from error

    def band(self, wave: np.ndarray) -> str:
        """Which head a recording has: `NARROW` or `WIDE`."""
        return WIDE if embedding.bandwidth_hz(wave) >= embedding.WIDE_FROM_HZ else NARROW

    def statistics(self, waves: list[np.ndarray], band: str, fill: bool = False) -> np.ndarray:
        """Statistics of the encoders, float32 (N, D), of 16 kHz waves as a head hears them.

        fill: short ones are repeated (`embedding.filled`). No other method runs the encoders: the
        rest is arithmetic on what this one returns.
        """
        heard = waves if band == WIDE else [embedding.telephone_band(wave) for wave in waves]
        if fill:
            heard = [embedding.filled(wave) for wave in heard]
        return np.concatenate([self.encoders.statistics(wave[None]) for wave in heard])

    def pieces(self, wave: np.ndarray, band: str = "") -> list[Piece]:
        """Score equal pieces of a wave between its quiet ends; quiet pieces are left out.

        band: which head scores; "": that of the recording. Raises AudioError for less than
        `SHORTEST_S` and for silence.
        """
        check(wave)
        band = band or self.band(wave)
        sounding = dsp.between_quiet_ends(wave, RATE)
        inner, start = wave[sounding], sounding.start
        cuts = embedding.pieces(len(inner))
        cuts = [cut for cut, heard in zip(cuts, audible(inner, cuts), strict=True) if heard]
        result, head = [], self.heads[band]
        for first, last in cuts:  # one by one: those of hours would fill the memory
            statistics = self.statistics([inner[first:last]], band, fill=True)
            (value,), (speaks,) = head.log_odds(statistics), head.speaks(statistics)
            if not np.isfinite(value):
                raise dsp.AudioError("no finite score: the detector or its runtime is damaged")
            ends = (start + first) / RATE, (start + last) / RATE
            result.append(Piece(*ends, float(value), bool(speaks)))
        return result

    def logit(self, waves: np.ndarray) -> float:
        """Calibrated log-odds of bona fide of a wave (samples,) or of (channels, samples).

        The mean over its pieces that vote (`voting`); of channels that differ, the lowest.
        """
        chosen = channels.choose(channels.checked(np.atleast_2d(waves)))
        return lowest([self.pieces(channel.wave) for channel in chosen])[1]

    def timeline(self, wave: np.ndarray, band: str = "", log_odds: float | None = None):
        """Log-odds of bona fide of each `STEP_S` of a wave (steps,), NaN where nobody speaks.

        Their mean over the windows is that of the recording: windows say where, not whether.

        Args:
            band: which head scores; "": that of the recording.
            log_odds: of the recording; None: computed here.
        Raises AudioError for less than `SHORTEST_S` and for silence.
        """
        check(wave)
        band = band or self.band(wave)
        if log_odds is None:
            log_odds = lowest([self.pieces(wave, band)])[1]
        cuts = windows(len(wave))
        heard = audible(wave, [(cut.start, cut.stop) for cut in cuts])
        head, logits = self.heads[band], np.full(len(cuts), np.nan)
        speaks = np.zeros(len(cuts), bool)
        for number in np.flatnonzero(heard):  # one by one: those of hours would fill the memory
            statistics = self.statistics([wave[cuts[number]]], band)
            (logits[number],), (speaks[number],) = (
                head.log_odds(statistics),
                head.speaks(statistics),
            )
        if speaks.any():
            logits[~speaks] = np.nan
        return by_step(len(wave), around(logits, log_odds, head.window_slope))

    def probability(self, clip: Path | str | np.ndarray, rate: int = dsp.RATE) -> float:
        """Probability of bona fide, 0 … 1, of a file, or of a wave at `rate` Hz.

        A wave has the shape (samples,) or (channels, samples): what `soundfile.read` gives has to
        be transposed. Raises AudioError for what cannot be scored.
        """
        if isinstance(clip, (str, Path)):
            waves = decoding.decode(Path(clip), Path(clip).name, RATE).channels
        else:
            waves = channels.checked(np.atleast_2d(np.asarray(clip, np.float32)))
            for wave in waves:
                if not np.isfinite(wave).all():
                    raise dsp.AudioError("wave: samples are NaN or infinite")
            waves = np.stack([dsp.resample(wave, rate, RATE) for wave in waves])
        return float(1 / (1 + np.exp(-self.logit(waves))))


def voting(pieces: list[Piece]) -> list[Piece]:
    """The pieces that decide: those in which somebody speaks, or all if nobody does."""
    return [piece for piece in pieces if piece.speaks] or pieces


def lowest(recorded: list[list[Piece]]) -> tuple[int, float]:
    """(number, log-odds of bona fide) of the channel that looks most like a spoof.

    recorded: the pieces of each channel. A channel in which nobody speaks counts only if nobody
    speaks in any.
    """
    log_odds = [float(np.mean([piece.log_odds for piece in voting(x)])) for x in recorded]
    speak = [any(piece.speaks for piece in pieces) for pieces in recorded]
    counts = [n for n in range(len(recorded)) if speak[n]] or list(range(len(recorded)))
    number = min(counts, key=lambda n: log_odds[n])
    return number, log_odds[number]


def around(logits: np.ndarray, log_odds: float, slope: float) -> np.ndarray:
    """Log-odds of windows (windows,), brought to the mean `log_odds`; NaN stays NaN."""
    if not np.isfinite(logits).any():
        return logits
    return log_odds + slope * (logits - np.nanmean(logits))
