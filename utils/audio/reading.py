"""Read audio safely, condition both classes alike, write the competition's format.

Waves are float32 arrays of shape (samples,), full scale ±1, at `RATE` unless a docstring says otherwise.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from utils.audio.dsp import RATE, AudioError, check_wave, resample

SUFFIXES = (
    ".wav",
    ".flac",
    ".mp3",
    ".ogg",
    ".opus",
    ".aiff",
    ".au",  # what libsndfile opens
    ".m4a",
    ".mp4",
    ".aac",
    ".webm",
    ".amr",
    ".3gp",
)  # what FFmpeg's libraries open
LONGEST_S, LARGEST_BYTES = 6 * 3600, 2 * 10**9  # of one recording
RATES = (1000, 768_000)  # Hz; a rate of 1 Hz would turn kilobytes into gigabytes
BLOCK_SAMPLES, STREAMED = (
    2**18,
    2**24,
)  # samples read at a time; from so many on they are resampled as they are read


def _check_riff(data: bytes, name: str) -> None:
    """Raise AudioError if the header of a RIFF/WAVE file promises more audio than the file holds."""
    if data[:4] != b"RIFF":
        return
    position = 12
    while position + 8 <= len(data):
        tag, size = (
            data[position : position + 4],
            struct.unpack("<I", data[position + 4 : position + 8])[0],
        )
        if tag == b"data":
            if (
                position + 8 + size > len(data) and size < 0xFFFFFFF0
            ):  # the largest sizes mean "streamed, unknown"
                raise AudioError(
                    f"{name}: truncated, {len(data) - position - 8} of {size} bytes of audio are there"
                )
            return
        position += 8 + size + size % 2
    raise AudioError(f"{name}: truncated, no audio in the file")


def read(path: Path, rate: int = RATE, expect_rate: int | None = None) -> np.ndarray:
    """Read any file of `SUFFIXES`, told by its content, as mono float32 at `rate` Hz, shape (samples,).

    Several channels are averaged; another rate is resampled, unless `expect_rate` (Hz) is given and differs.
    Raises AudioError, naming the file, if it is missing, unreadable, too large, truncated, empty, silent, not finite or (with
    `expect_rate`) of the wrong rate. It never returns silence in place of what could not be read.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise AudioError(
                f"{path.name}: cannot be read ({'a folder' if path.is_dir() else 'not a file but a device or pipe'})"
            )
        if (size := path.stat().st_size) > LARGEST_BYTES:
            raise AudioError(
                f"{path.name}: {size / 1e9:.1f} GB are too large: cut it into parts, or compress it (FLAC, Opus)"
            )
        data = path.read_bytes()
    except AudioError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise AudioError(
            f"{path.name}: cannot be read ({getattr(error, 'strerror', None) or error})"
        ) from error
    return decode(data, path.name, rate, expect_rate)


def decode(data: bytes, name: str, rate: int = RATE, expect_rate: int | None = None) -> np.ndarray:
    """What `read` does, for the bytes of a file called `name`."""
    if not data:
        raise AudioError(f"{name}: empty file")
    _check_riff(data, name)
    container = _container(data)
    parts, samples, native, stream = [], 0, 0, None
    try:
        for native, part in (
            _ffmpeg_blocks(data, container, name) if container else _sndfile_blocks(data, name)
        ):
            if not RATES[0] <= native <= RATES[1]:
                raise AudioError(
                    f"{name}: {native} Hz is no rate of speech ({RATES[0]} to {RATES[1]} are read)"
                )
            if expect_rate and native != expect_rate:
                raise AudioError(f"{name}: {native} Hz where {expect_rate} Hz is expected")
            samples += len(part)
            if samples > LONGEST_S * native:
                raise AudioError(
                    f"{name}: longer than {LONGEST_S / 3600:.0f} hours: cut it into parts"
                )
            if (
                stream is None and samples > STREAMED and native != rate
            ):  # a long one never lies here whole at its own rate
                stream = soxr.ResampleStream(native, rate, 1, dtype="float32")
                parts = [stream.resample_chunk(earlier) for earlier in parts]
            parts.append(part if stream is None else stream.resample_chunk(part))
    except (sf.LibsndfileError, RuntimeError) as error:
        reason = getattr(error, "error_string", str(error)).rstrip(
            "."
        )  # the whole message names an object in memory
        raise AudioError(f"{name}: not audio that can be read ({reason})") from error
    if stream is not None:
        wave = np.concatenate([*parts, stream.resample_chunk(np.zeros(0, np.float32), last=True)])
    else:
        wave = resample(check_wave(np.concatenate(parts), name, native), native, rate)
    return check_wave(
        wave, name, rate
    )  # nothing may be left of a few samples, or of sound above half the rate


class _Bytes(io.BytesIO):
    """libsndfile looks before the beginning of broken files: that would print a traceback."""

    def seek(self, offset: int, whence: int = 0) -> int:
        return super().seek(offset if whence else max(0, offset), whence)


def _sndfile_blocks(data: bytes, name: str) -> Iterator[tuple[int, np.ndarray]]:
    """(rate, mono block) of what libsndfile opens; at least one block. Raises its errors, and AudioError if samples are missing."""
    with sf.SoundFile(_Bytes(data)) as file:
        found, more = 0, True
        while more:
            part = file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)
            found, more = found + len(part), len(part) == BLOCK_SAMPLES
            yield file.samplerate, _mono(part, 1)
        if (
            file.format == "FLAC" and found < file.frames < 2**62
        ):  # others only guess how many there are
            raise AudioError(f"{name}: truncated, {found} of {file.frames} samples are there")


def _mono(part: np.ndarray, axis: int) -> np.ndarray:
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # what is not finite is refused by name later
        return part.mean(axis=axis)


def _container(data: bytes) -> str | None:
    """FFmpeg's name of a container that libsndfile does not know. It is told FFmpeg so that it does not guess: a playlist would
    make it open other files."""
    marks = {
        "mp4": data[4:8] == b"ftyp",
        "matroska": data[:4] == b"\x1aE\xdf\xa3",
        "amr": data[:5] == b"#!AMR",
        "aac": data[:2] in (b"\xff\xf1", b"\xff\xf9"),
    }
    return next((name for name, found in marks.items() if found), None)


def _ffmpeg_blocks(data: bytes, container: str, name: str) -> Iterator[tuple[int, np.ndarray]]:
    """(rate, mono block) of what FFmpeg's libraries open; at least one block.

    Raises RuntimeError with FFmpeg's reason, and AudioError if the container promises more than there is.
    """
    import av

    try:
        with av.open(io.BytesIO(data), format=container) as file:
            if not file.streams.audio:
                raise RuntimeError("it holds no sound")
            stream, found = file.streams.audio[0], 0
            rate, promised = stream.rate or 0, _promised(file, stream, container)
            yield rate, np.zeros(0, np.float32)  # the rate is judged before it is used
            same = av.AudioResampler("fltp", rate=rate)
            for frame in file.decode(audio=0):
                if frame.layout.nb_channels > 8:  # PyAV reads such frames from the wrong memory
                    raise RuntimeError(f"{frame.layout.nb_channels} channels")
                for part in same.resample(frame):
                    found += part.samples
                    yield rate, _mono(part.to_ndarray(), 0)
    except AudioError:
        raise
    except (
        av.FFmpegError,
        ValueError,
        OverflowError,
        AttributeError,
    ) as error:  # no rate where the codec is not known
        raise RuntimeError(getattr(error, "strerror", None) or str(error)) from error
    if found / rate < promised - max(0.25, 0.05 * promised):
        raise AudioError(f"{name}: truncated, {found / rate:.1f} of {promised:.1f} s are there")


def _promised(file, stream, container: str) -> float:
    """Seconds of sound that a container says it holds; 0 where it does not say: AAC and AMR have no header for it (FFmpeg then
    guesses), and the length of a whole film is not that of its sound."""
    if container in ("aac", "amr"):
        return 0.0
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return (file.duration or 0) / 1e6 if len(file.streams) == 1 else 0.0


def write(path: Path, wave: np.ndarray) -> None:
    """Write `wave` as 8 kHz mono PCM16 WAV (the competition's format)."""
    sf.write(path, np.clip(wave, -1, 1), RATE, subtype="PCM_16", format="WAV")
