"""What the released detector says of a recording: probability, decision, language, warnings.

`p_bona_fide` is the probability of bona fide if half of all clips are bona fide, or if `prior` of
them are spoofs. The decision is bona fide above the threshold on the detector's card. A recording
longer than 6 s is scored in equal pieces: the score is the mean of their log-odds, and `p_lowest`
is that of the piece that looks most like a spoof. Pieces in which nobody speaks have no vote.
Channels that differ are scored apart, and the lowest is the score. `head` says what was heard:
sound up to 4 kHz ("8 kHz") or up to 8 kHz ("16 kHz"). Read the card first: what the detector was
trained on, and how often it is wrong. Waves are at 16 kHz.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.audio import decoding, dsp
from utils.audio.decoding import Recording
from utils.detector import channels, detector, embedding
from utils.detector.batch import batch_scoring

COLUMNS = (
    "file",
    "p_bona_fide",
    "decision",
    "threshold",
    "threshold_from",
    "head",
    "channel",
    "p_channels",
    "language",
    "p_language",
    "seconds",
    "speech_s",
    "p_lowest",
    "lowest_at",
    "note",
    "pieces",
    "detector",
    "prior",
)
BONAFIDE, SPOOF, UNDECIDED = "bona fide", "spoof", "no decision"
THRESHOLD_FROM = "calls 5 in 100 recordings of people spoof; learned from owners left out"
NAME = "deepfake-speech"
RATE = embedding.RATE
SHORT_S = 1.0  # of sound; the detector was trained on nothing shorter
LANGUAGE_P = 0.5  # a language with a lower probability is reported as 'unknown', as in notebook 01
LANGUAGE_S = 30  # of speech that Whisper hears
NEAR_PEAK = 0.7  # a sample above this part of the peak counts as near the peak
CLIPPED_FRACTION = 0.03  # of samples near the peak; rare in mini's raw clips, usual after clipping
UNHEARD_S = 5.0  # of sound outside the pieces that are scored, from which it is told
# Ends of notes on what changes no score: only other notes are a reason to decide nothing.
HARMLESS = (": removed", ": rescaled", "joined", "hold no sound")
NOBODY = "nobody seems to speak (music? noise?)"


class Options(NamedTuple):
    """How recordings are scored."""

    threshold: float | None = None  # probability above which it is bona fide; None: of the card
    prior: float = 0.5  # share of spoofs that is expected
    channels: str = "each"  # which are scored: see `channels.choose`
    language: bool = False  # name the language: needs PyTorch and the weights of Whisper
    abstain: bool = False  # give no decision where a note is a reason to doubt it


def load_detector(folder: Path | str = detector.FOLDER) -> detector.Detector:
    """Open the released detector, or one that notebook 09 wrote to `folder`.

    Raises FileNotFoundError with the remedy, and ValueError for a damaged one.
    """
    return detector.Detector(Path(folder))


def probability(log_odds, prior: float = 0.5):
    """Probability of bona fide from log-odds, for a number or an array; NaN stays NaN.

    prior: share of spoofs that is expected. log((1 - prior) / prior) is added to the log-odds.
    """
    return 1 / (1 + np.exp(-(log_odds + np.log((1 - prior) / prior))))


def threshold_from(options: Options) -> str:
    """Where the threshold comes from, and what it promises."""
    if options.threshold is not None:
        return "the command line"
    if options.prior == Options().prior:
        return THRESHOLD_FROM
    return f"the detector's card; no longer 5 in 100 false alarms: --prior {options.prior:g}"


class Scorer:
    """The scorer that `batch_scoring.score_files` opens: the columns of each recording."""

    rate = RATE  # Hz, of the recordings that it takes
    recordings = True  # it takes `Recording`s: all channels, and what the reader noted
    group_files = 4  # at once: they are scored one by one

    def __init__(self, folder: str, version: str = "", options: Options = Options()):  # noqa: B008
        """Open the detector in `folder`.

        version: what `Detector.version` must be; "": any. Raises ValueError for another one, and
        for options outside their ranges.
        """
        self.released = load_detector(folder)
        self.options = options
        self.threshold = self.released.card["threshold"]
        if options.threshold is not None:
            self.threshold = options.threshold
        if version and self.released.version != version:
            raise ValueError(f"{folder} changed while it was used: start again")
        for name in ("threshold", "prior"):
            value = getattr(options, name)
            if value is not None and not 0 < value < 1:
                raise ValueError(f"{name}: {value} does not lie between 0 and 1")
        if options.channels not in channels.HOW:
            raise ValueError(f"channels: {options.channels!r} is none of {channels.HOW}")

    def rows(self, recordings: list[Recording]) -> list[dict[str, str]]:
        """`COLUMNS` without the file, of each recording at 16 kHz.

        Probability and decision are empty where one cannot be scored; the note says why.
        """
        rows = []
        for recording in recordings:
            try:
                rows.append(self.row(recording))
            except dsp.AudioError as error:
                note = "; ".join([*recording.notes, str(error)])
                rows.append(self._empty_row(recording) | {"note": note})
        return rows

    def row(self, recording: Recording) -> dict[str, str]:
        """`COLUMNS` without the file. Raises AudioError for what cannot be scored."""
        chosen = channels.choose(recording.channels, self.options.channels)
        bands = [self.released.band(channel.wave) for channel in chosen]
        recorded = [
            self.released.pieces(channel.wave, band)
            for channel, band in zip(chosen, bands, strict=True)
        ]
        number, log_odds = detector.lowest(recorded)
        channel, pieces = chosen[number], recorded[number]
        p = self._p(log_odds)
        row = self._empty_row(recording)
        row["head"], row["channel"] = bands[number], channel.name
        row["p_bona_fide"] = f"{p:.6f}"
        row["decision"] = BONAFIDE if p > self.threshold else SPOOF
        if len(chosen) > 1:
            each = [self._p(detector.lowest([x])[1]) for x in recorded]
            row["p_channels"] = "; ".join(
                f"{other.name.split(' ')[0]} {value:.3f}"
                for other, value in zip(chosen, each, strict=True)
            )
        self._tell_pieces(row, pieces)
        doubts = warnings(channel.wave, any(piece.speaks for piece in pieces))
        if self.options.language:
            row |= self._language(channel.wave, detector.voting(pieces))
        notes = [*recording.notes, *unheard(channel.wave, pieces)]
        if self.options.channels == "each":
            notes += channels.too_quiet(recording.channels)
        if len(chosen) == channels.MOST < len(recording.channels):
            notes.append(f"the {channels.MOST} loudest channels that differ are scored")
        notes += doubts
        row["note"] = "; ".join(notes)
        if self.options.abstain and any(not note.endswith(HARMLESS) for note in notes):
            row["decision"] = UNDECIDED
        return row

    def _p(self, log_odds: float) -> float:
        return float(probability(log_odds, self.options.prior))

    def _tell_pieces(self, row: dict[str, str], pieces: list[detector.Piece]) -> None:
        """Fill the columns about pieces, in place."""
        votes = detector.voting(pieces)
        speech = sum(piece.end_s - piece.start_s for piece in pieces if piece.speaks)
        row["speech_s"] = f"{speech:.2f}"
        if len(pieces) > 1:
            low = min(votes, key=lambda piece: piece.log_odds)
            row["p_lowest"] = f"{self._p(low.log_odds):.3f}"
            row["lowest_at"] = f"{low.start_s:.2f}-{low.end_s:.2f}"
            row["pieces"] = "; ".join(
                f"{x.start_s:.2f}-{x.end_s:.2f} "
                + (f"{self._p(x.log_odds):.3f}" if x in votes else "no speech")
                for x in pieces
            )

    def _language(self, wave: np.ndarray, votes: list[detector.Piece]) -> dict[str, str]:
        """Language of what is spoken, by Whisper, and its probability."""
        import torch  # here: only this needs it

        from utils.models import language_id

        torch.set_num_threads(1)  # of each process that scores
        spoken = [wave[int(x.start_s * RATE) : int(x.end_s * RATE)] for x in votes]
        spoken = np.concatenate(spoken)[: LANGUAGE_S * RATE]
        narrow = dsp.resample(spoken, RATE, dsp.RATE)
        ((code, p, _),) = language_id.detect_in_this_process([narrow])
        return {"language": code if p >= LANGUAGE_P else "unknown", "p_language": f"{p:.2f}"}

    def _empty_row(self, recording: Recording) -> dict[str, str]:
        return dict.fromkeys(COLUMNS[1:], "") | {
            "seconds": f"{recording.channels.shape[1] / RATE:.2f}",
            "threshold": f"{self.threshold:g}",
            "threshold_from": threshold_from(self.options),
            "detector": f"{NAME} {self.released.version[:12]}",
            "prior": f"{self.options.prior:g}",
        }


def log_odds(files: list[Path], label: str = "") -> np.ndarray:
    """Log-odds of bona fide (N,) of recordings by the released detector, in parallel processes.

    label: name on the progress bar. Raises AudioError, naming the file, for what has no score.
    """
    rows = batch_scoring.score_files(files, Scorer, (str(detector.FOLDER),), label=label)
    p = []
    for file, row in zip(files, rows, strict=True):
        if not row.get("p_bona_fide"):
            raise dsp.AudioError(f"{file}: {row['error'] or row['note']}")
        p.append(float(row["p_bona_fide"]))
    p = np.clip(p, 1e-6, 1 - 1e-6)  # rows have six digits
    return np.log(p / (1 - p))


def warnings(wave: np.ndarray, speaks: bool = True) -> list[str]:
    """Reasons to doubt the score of a wave. speaks: whether somebody speaks in a piece of it."""
    frame_s = 0.02
    level = dsp.frames_dbfs(wave, RATE, frame_s)
    sound_s = frame_s * (level > level.max() - 40).sum()
    edge = NEAR_PEAK * dsp.peak(wave)
    near_peak = (np.count_nonzero(wave > edge) + np.count_nonzero(wave < -edge)) / len(wave)
    result = []
    if sound_s < SHORT_S:
        result.append(f"only {sound_s:.1f} s of sound: shorter than anything it was trained on")
    if not speaks:
        result.append(NOBODY)
    if near_peak > CLIPPED_FRACTION:
        result.append(f"clipped or overdriven ({near_peak:.0%} of the samples near the peak)")
    return result


def unheard(wave: np.ndarray, pieces: list[detector.Piece]) -> list[str]:
    """A note on sound of a wave outside the pieces, which is far quieter; empty if it is little.

    It is told if it is over `UNHEARD_S`, or over half of the wave. Silence does not count.
    """
    frame_s = 0.02
    missing = dsp.frames_dbfs(wave, RATE, frame_s) > channels.DIGITAL_DBFS
    for piece in pieces:
        missing[int(piece.start_s / frame_s) : int(np.ceil(piece.end_s / frame_s))] = False
    missing_s, seconds = frame_s * missing.sum(), len(wave) / RATE
    if missing_s <= min(UNHEARD_S, seconds / 2):
        return []
    what = "far quieter than the loudest moment and are not heard"
    return [f"{missing_s:.1f} of {seconds:.1f} s are {what}"]


def draw(
    path: Path | io.BytesIO, wave: np.ndarray, p: np.ndarray, threshold: float, title: str
) -> None:
    """Draw where a wave looks fake to `path` (a file or a buffer), as PNG.

    p: probability of bona fide of each `detector.STEP_S` (steps,), NaN where nobody speaks.
    """
    from utils import plots  # here: scoring without figures does not wait for matplotlib

    plots.style()
    flagged = detector.spans(p <= threshold)
    plots.timeline(path, wave, RATE, p, detector.STEP_S, threshold, flagged, title)


def show(path: Path | str, folder: Path | str = detector.FOLDER):
    """In a notebook: print the score of a recording, draw where it looks fake, return a player.

    Args: `folder` of the detector. Raises AudioError, naming the file, for what cannot be scored.
    """
    from IPython.display import Audio, Image, display

    recording, scorer = decoding.decode(Path(path), Path(path).name, RATE), Scorer(str(folder))
    (row,) = scorer.rows([recording])
    if not row["p_bona_fide"]:
        raise dsp.AudioError(f"{Path(path).name}: {row['note']}")
    notes = [f"channel {row['channel']}"] if row["channel"] else []
    if row["lowest_at"]:
        notes.append(f"lowest {row['p_lowest']} at {row['lowest_at']} s")
    notes += [row["note"]] if row["note"] else []
    print("; ".join([f"p(bona fide) {float(row['p_bona_fide']):.3f}: {row['decision']}", *notes]))
    wave, picture = scored_channel(recording.channels, row["channel"]), io.BytesIO()
    p = probability(scorer.released.timeline(wave))
    draw(picture, wave, p, scorer.threshold, Path(path).name)
    display(Image(picture.getvalue()))
    return Audio(wave, rate=RATE)


def scored_channel(waves: np.ndarray, name: str) -> np.ndarray:
    """The wave (samples,) of the channel that a row names, of (channels, samples)."""
    if name.startswith("mix"):
        return waves.mean(axis=0)
    return waves[int(name.split(" ")[0]) - 1] if name else channels.choose(waves)[0].wave
