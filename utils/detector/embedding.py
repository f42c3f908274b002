"""What the encoders say of a wave: pooled statistics, by ONNX Runtime and numpy alone.

The file is `released/encoders.onnx` beside this module, which `detector/train/graph.py` writes.
Waves are float32 (samples,) at `RATE` unless a docstring says otherwise.
"""

from pathlib import Path

import numpy as np

from utils.audio import dsp

RATE = 16_000  # Hz, of the waves that the encoders take
PEAK = 0.7  # of a wave before anything looks at it
PIECE_S = 6.0  # longest piece of a recording; training clips are as long
NARROW, WIDE = "8 kHz", "16 kHz"  # what a head hears: sound up to 4 kHz, or up to 8 kHz
WIDE_FROM_HZ = 4400.0  # a recording whose sound reaches so high has the wide head
BANDWIDTH_DB = 50.0  # sound: bands of 100 Hz within so much of the loudest one


class Encoders:
    """The encoders of an ONNX file."""

    def __init__(self, path: Path):
        """Raises FileNotFoundError with the remedy, and ValueError for a damaged file."""
        import onnxruntime

        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: check the clone")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        try:
            self.session = onnxruntime.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors have no other base class
            raise ValueError(f"{path}: no encoders, or damaged ones ({error})") from error

    def statistics(self, waves: np.ndarray) -> np.ndarray:
        """Waves of one length, float32 (B, samples) → statistics, float32 (B, D).

        Gain changes nothing: the peak of each wave is brought to `PEAK` first.
        """
        return self.session.run(None, {"wave": np.ascontiguousarray(waves, np.float32)})[0]


def telephone_band(wave: np.ndarray) -> np.ndarray:
    """A wave without what lies above 4 kHz."""
    return dsp.resample(dsp.resample(wave, RATE, dsp.RATE), dsp.RATE, RATE)[: len(wave)]


def bandwidth_hz(wave: np.ndarray) -> float:
    """Where the sound of a wave ends: the highest band of 100 Hz within `BANDWIDTH_DB`.

    Of the mean power in frames of 20 ms, compared with the loudest band.
    """
    size = RATE // 50
    wave = dsp.fit_length(wave, max(size, len(wave)))
    frames, window = wave[: len(wave) // size * size].reshape(-1, size), np.hanning(size)
    power = np.zeros(size // 2 + 1)
    for start in range(0, len(frames), dsp.FRAMES_AT_ONCE):  # hours would not fit into memory
        some = frames[start : start + dsp.FRAMES_AT_ONCE]
        power += (np.abs(np.fft.rfft(some * window, axis=1)) ** 2).sum(axis=0)
    bands = power[: size // 2].reshape(-1, 2).mean(axis=1)
    heard = np.flatnonzero(bands >= bands.max() * 10 ** (-BANDWIDTH_DB / 10))
    return float((heard[-1] + 1) * 100)


def pieces(samples: int) -> list[tuple[int, int]]:
    """(start, end) in samples of equal pieces of a wave, none longer than `PIECE_S`.

    Their number is a power of two, so a recording that is played twice has the same pieces twice.
    """
    count = 1
    while samples > count * PIECE_S * RATE:
        count *= 2
    edges = np.linspace(0, samples, count + 1).astype(int).tolist()
    return list(zip(edges[:-1], edges[1:], strict=True))


def filled(wave: np.ndarray) -> np.ndarray:
    """A wave of half of `PIECE_S` or less, repeated: as long as others, and no silence.

    It is doubled until it is longer, so a clip and its repetition become the same.
    """
    while 0 < len(wave) <= PIECE_S * RATE / 2:
        wave = np.tile(wave, 2)
    return wave
