"""Read recordings strictly, as training data, and write the competition's format.

What is damaged is refused here; `decoding` hears what is left of it. Waves are float32 arrays of
shape (samples,), full scale ±1, at `RATE` unless a docstring says otherwise.
"""

from pathlib import Path

import numpy as np

from utils.audio import decoding
from utils.audio.decoding import LONGEST_S, Recording
from utils.audio.dsp import RATE, AudioError, check_wave, resample


def read(
    path: Path,
    rate: int = RATE,
    expect_rate: int | None = None,
    longest_s: float = LONGEST_S,
) -> np.ndarray:
    """Read a recording in any format, whatever its name: mono float32 (samples,).

    Channels are averaged. What could not be read is never replaced by silence.

    Args:
        rate: of the result in Hz.
        expect_rate: the rate in Hz that the file must have; None: any, which is then resampled.
        longest_s: longest recording that is read, in seconds.
    Raises AudioError, naming the file, if it is missing, unreadable, too large, too long,
    damaged, truncated, empty, silent, not finite or of a rate that is not expected.
    """
    path = Path(path)
    return _read(path, path.name, rate, expect_rate, longest_s)


def decode(
    data: bytes,
    name: str,
    rate: int = RATE,
    expect_rate: int | None = None,
    longest_s: float = LONGEST_S,
) -> np.ndarray:
    """What `read` does, for the bytes of a file called `name`."""
    return _read(data, name, rate, expect_rate, longest_s)


def decode_native(data: bytes, name: str, longest_s: float = LONGEST_S) -> tuple[np.ndarray, int]:
    """(mono float32 wave, its rate in Hz) of the bytes of a file, at the rate that the file has.

    Raises AudioError, as `read` does.
    """
    recording = decoding.decode(data, name, None, longest_s, rescale=False)
    return mono(recording, name), recording.rate


def _read(
    source: Path | bytes, name: str, rate: int, expect_rate: int | None, longest_s: float
) -> np.ndarray:
    native = rate if expect_rate is None else None
    recording = decoding.decode(source, name, native, longest_s, rescale=False)
    if expect_rate and recording.rate != expect_rate:
        raise AudioError(f"{name}: {recording.rate} Hz where {expect_rate} Hz is expected")
    return resample(mono(recording, name), recording.rate, rate)


def mono(recording: Recording, name: str) -> np.ndarray:
    """The mean of the channels of a recording, float32 (samples,).

    Raises AudioError, naming `name`, if it is damaged, empty or silent.
    """
    if recording.damaged:
        raise AudioError(f"{name}: truncated or damaged ({'; '.join(recording.notes)})")
    return check_wave(recording.channels.mean(axis=0), name, recording.rate)


def write(path: Path, wave: np.ndarray, rate: int = RATE) -> None:
    """Write a wave as the competition's format: WAV, mono, 16 bits, clipped at ±1; 8 kHz."""
    import soundfile as sf  # here: what only scores does not wait for it

    sf.write(path, np.clip(wave, -1, 1), rate, subtype="PCM_16", format="WAV")
