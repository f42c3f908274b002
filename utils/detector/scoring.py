"""What the released detector says of a recording: probability, decision, language, warnings.

`p_bona_fide` is the probability of bona fide if half of all clips are bona fide. The decision is
bona fide above the threshold on the detector's card. A recording longer than 6 s is scored in
equal pieces: the score is the mean of their log-odds, and the note names the piece with the lowest
probability. `head` says what was heard: sound up to 4 kHz ("8 kHz") or up to 8 kHz ("16 kHz"). Read
the card first: what the detector was trained on, and how often it is wrong. Waves are at 16 kHz.
"""

import io
from pathlib import Path

import numpy as np

from utils.audio import dsp, reading
from utils.detector import detector, embedding
from utils.models import language_id

COLUMNS = (
    "file",
    "p_bona_fide",
    "decision",
    "threshold",
    "threshold_from",
    "head",
    "language",
    "p_language",
    "seconds",
    "note",
    "pieces",
)
BONAFIDE, SPOOF, UNDECIDED = "bona fide", "spoof", "no decision"
THRESHOLD_FROM = "calls 5 in 100 recordings of people spoof; learned from owners left out"
RATE = embedding.RATE
SHORT_S = 1.0  # of sound; the detector was trained on nothing shorter
LANGUAGE_P = 0.5  # a language with a lower probability is reported as 'unknown', as in notebook 01
NO_SPEECH_P = 0.6  # openai-whisper's own threshold
NEAR_PEAK = 0.7  # a sample above this part of the peak counts as near the peak
CLIPPED_FRACTION = 0.03  # of samples near the peak; rare in mini's raw clips, usual after clipping


def load_detector(folder: Path | str = detector.FOLDER) -> detector.Detector:
    """Open the released detector, or one that notebook 09 wrote to `folder`.

    Raises FileNotFoundError with the remedy, and ValueError for a damaged one.
    """
    return detector.Detector(Path(folder))


def probability(log_odds):
    """Probability from log-odds, for a number or an array; NaN stays NaN."""
    return 1 / (1 + np.exp(-log_odds))


class Scorer:
    """The scorer that `batch_scoring.score_files` opens: the columns of each recording."""

    rate = RATE  # Hz, of the waves that it takes

    def __init__(
        self, folder: str, version: str = "", with_language: bool = True, abstain: bool = False
    ):
        """Open the detector in `folder`.

        Args:
            version: what `Detector.version` must be; "": any. Raises ValueError for another one.
            with_language: name the language and warn where nobody speaks.
            abstain: give no decision where there is a warning.
        """
        self.released = load_detector(folder)
        self.with_language, self.abstain = with_language, abstain
        if version and self.released.version != version:
            raise ValueError(f"{folder} changed while it was used: start again")

    def rows(self, waves: list[np.ndarray]) -> list[dict[str, str]]:
        """`COLUMNS` without the file, of each wave.

        Probability and decision are empty where a wave cannot be scored; the note says why.
        """
        rows = []
        for wave, language in zip(waves, self.languages(waves), strict=True):
            try:
                rows.append(self.row(wave, language))
            except dsp.AudioError as error:
                rows.append(self._empty_row(wave) | {"note": str(error)})
        return rows

    def languages(self, waves: list[np.ndarray]) -> list[tuple[str, float, float]]:
        """(language code, its probability, probability that nobody speaks) of each wave.

        ("", 0, 0) for each if the scorer was opened without languages.
        """
        if self.with_language:
            narrow = [dsp.resample(wave, RATE, dsp.RATE) for wave in waves]
            return language_id.detect_in_this_process(narrow)
        return [("", 0.0, 0.0)] * len(waves)

    def row(
        self, wave: np.ndarray, language: tuple[str, float, float] = ("", 0.0, 0.0)
    ) -> dict[str, str]:
        """`COLUMNS` without the file, of a wave. Raises AudioError for what cannot be scored."""
        code, language_p, no_speech_p = language
        row, band = self._empty_row(wave), self.released.band(wave)
        pieces = self.released.pieces(wave, band)
        p = probability(np.mean([piece.log_odds for piece in pieces]))
        notes = warnings(wave, no_speech_p)
        row["head"] = band
        row["p_bona_fide"] = f"{p:.6f}"
        row["decision"] = BONAFIDE if p > self.released.card["threshold"] else SPOOF
        if self.abstain and notes:
            row["decision"] = UNDECIDED
        if code:
            row["language"] = code if language_p >= LANGUAGE_P else "unknown"
            row["p_language"] = f"{language_p:.2f}"
        if len(pieces) > 1:
            scored = [(x.start_s, x.end_s, probability(x.log_odds)) for x in pieces]
            start, end, lowest = min(scored, key=lambda piece: piece[2])
            notes.append(
                f"lowest {lowest:.3f} at {start:.0f}–{end:.0f} s of {len(wave) / RATE:.0f} s"
            )
            row["pieces"] = "; ".join(f"{start:.2f}-{end:.2f} {p:.3f}" for start, end, p in scored)
        row["note"] = "; ".join(notes)
        return row

    def _empty_row(self, wave: np.ndarray) -> dict[str, str]:
        return dict.fromkeys(COLUMNS[1:], "") | {
            "seconds": f"{len(wave) / RATE:.2f}",
            "threshold": self.released.card["threshold"],
            "threshold_from": THRESHOLD_FROM,
        }


def warnings(wave: np.ndarray, no_speech_p: float = 0.0) -> list[str]:
    """Reasons to doubt the score of a wave.

    Args: `no_speech_p` Whisper's probability that nobody speaks.
    """
    frame_s = 0.02
    level = dsp.frames_dbfs(wave, RATE, frame_s)
    sound_s = frame_s * (level > max(dsp.SILENT_DBFS, level.max() - 40)).sum()
    near_peak = np.mean(np.abs(wave) > NEAR_PEAK * np.abs(wave).max())
    result = []
    if sound_s < SHORT_S:
        result.append(f"only {sound_s:.1f} s of sound: shorter than anything it was trained on")
    if no_speech_p > NO_SPEECH_P:
        result.append("nobody seems to speak (music? noise?)")
    if near_peak > CLIPPED_FRACTION:
        result.append(f"clipped or overdriven ({near_peak:.0%} of the samples near the peak)")
    return result


def draw(
    path: Path | io.BytesIO,
    wave: np.ndarray,
    released: detector.Detector,
    title: str,
    size: tuple[float, float] = (9, 5.5),
) -> np.ndarray:
    """Draw where a wave looks fake to `path` (a file or a buffer), as PNG of `size` inches.

    Returns the probability of bona fide of each `detector.STEP_S` (steps,), NaN where it is silent.
    """
    from utils import plots  # here: scoring without figures does not wait for matplotlib

    plots.style()
    p, threshold = probability(released.timeline(wave)), released.card["threshold"]
    flagged = detector.spans(p <= threshold)
    plots.timeline(path, wave, RATE, p, detector.STEP_S, threshold, flagged, title, size)
    return p


def show(path: Path | str, folder: Path | str = detector.FOLDER):
    """In a notebook: print the score of a recording, draw where it looks fake, return a player.

    Args: `folder` of the detector. Raises AudioError, naming the file, for what cannot be scored.
    """
    from IPython.display import Audio, Image, display

    wave, scorer = reading.read(Path(path), RATE), Scorer(str(folder))
    (row,) = scorer.rows([wave])
    if not row["p_bona_fide"]:
        raise dsp.AudioError(f"{Path(path).name}: {row['note']}")
    text = f"p(bona fide) {float(row['p_bona_fide']):.3f}: {row['decision']}"
    if row["note"]:
        text += f"; {row['note']}"
    print(text)
    picture = io.BytesIO()
    draw(picture, wave, scorer.released, Path(path).name)
    display(Image(picture.getvalue()))
    return Audio(wave, rate=RATE)
