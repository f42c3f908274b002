"""Read audio files of strangers safely, and write the competition's format.

Waves are float32 arrays of shape (samples,), full scale ±1, at `RATE` unless a docstring says
otherwise.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from utils.audio.dsp import RATE, AudioError, check_wave, resample

BY_LIBSNDFILE = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".au")
BY_FFMPEG = (".m4a", ".mp4", ".aac", ".webm", ".amr", ".3gp")
SUFFIXES = BY_LIBSNDFILE + BY_FFMPEG
LONGEST_S = 6 * 3600  # of one recording
LARGEST_BYTES = 2 * 10**9  # of its file
RATES = (1000, 768_000)  # Hz; a rate of 1 Hz would turn kilobytes into gigabytes
BLOCK_SAMPLES = 2**18  # read at a time
STREAMED_SAMPLES = 2**24  # longer recordings are resampled block by block, to save memory
RIFF_UNKNOWN_SIZE = 0xFFFFFFF0  # sizes from here on mean "streamed, length unknown"


def _check_riff(data: bytes, name: str) -> None:
    """Raise AudioError if the header of a RIFF/WAVE file promises more audio than there is."""
    if data[:4] != b"RIFF":
        return
    position = 12
    while position + 8 <= len(data):
        tag, size = struct.unpack("<4sI", data[position : position + 8])
        if tag == b"data":
            held = len(data) - position - 8
            if held < size < RIFF_UNKNOWN_SIZE:
                raise AudioError(f"{name}: truncated, {held} of {size} bytes of audio are there")
            return
        position += 8 + size + size % 2
    raise AudioError(f"{name}: truncated, no audio in the file")


def read(
    path: Path,
    rate: int = RATE,
    expect_rate: int | None = None,
    longest_s: float = LONGEST_S,
) -> np.ndarray:
    """Read a recording in any format of `SUFFIXES`, whatever its name: mono float32 (samples,).

    Channels are averaged. What could not be read is never replaced by silence.

    Args:
        rate: of the result in Hz.
        expect_rate: the rate in Hz that the file must have; None: any, which is then resampled.
        longest_s: longest recording that is read, in seconds.
    Raises AudioError, naming the file, if it is missing, unreadable, too large, too long,
    truncated, empty, silent, not finite or of a rate that is not expected.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            reason = "a folder" if path.is_dir() else "not a file but a device or pipe"
            raise AudioError(f"{path.name}: cannot be read ({reason})")
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise AudioError(
                f"{path.name}: {size / 1e9:.1f} GB are too large: cut it into parts, or compress "
                "it (FLAC, Opus)"
            )
        data = path.read_bytes()
    except AudioError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path.name}: cannot be read ({reason})") from error
    return decode(data, path.name, rate, expect_rate, longest_s)


def decode(
    data: bytes,
    name: str,
    rate: int = RATE,
    expect_rate: int | None = None,
    longest_s: float = LONGEST_S,
) -> np.ndarray:
    """What `read` does, for the bytes of a file called `name`."""
    blocks, native, stream, samples = [], 0, None, 0
    for native, block in _blocks(data, name, expect_rate, longest_s):
        samples += len(block)
        if stream is None and samples > STREAMED_SAMPLES and native != rate:
            # a long recording is never in memory as a whole at its own rate
            stream = soxr.ResampleStream(native, rate, 1, dtype="float32")
            blocks = [stream.resample_chunk(earlier) for earlier in blocks]
        blocks.append(block if stream is None else stream.resample_chunk(block))
    if stream is not None:
        wave = np.concatenate([*blocks, stream.resample_chunk(np.zeros(0, np.float32), last=True)])
    else:
        wave = resample(check_wave(np.concatenate(blocks), name, native), native, rate)
    # again: of a few samples, or of sound above half the rate, nothing may be left
    return check_wave(wave, name, rate)


def decode_native(data: bytes, name: str, longest_s: float = LONGEST_S) -> tuple[np.ndarray, int]:
    """(mono float32 wave, its rate in Hz) of the bytes of a file, at the rate that the file has.

    The whole recording is in memory at that rate. Raises AudioError, as `read` does.
    """
    blocks = list(_blocks(data, name, None, longest_s))
    rate = blocks[0][0]
    return check_wave(np.concatenate([block for _, block in blocks]), name, rate), rate


def _blocks(
    data: bytes, name: str, expect_rate: int | None, longest_s: float
) -> Iterator[tuple[int, np.ndarray]]:
    """(rate, mono block) of a recording; at least one block. Raises AudioError."""
    if not data:
        raise AudioError(f"{name}: empty file")
    _check_riff(data, name)
    container = _container(data)
    samples = 0
    try:
        decoder = (
            _ffmpeg_blocks(data, container, name) if container else _sndfile_blocks(data, name)
        )
        for native, block in decoder:
            _check_rate(native, expect_rate, name)
            samples += len(block)
            if samples > longest_s * native:  # the rest is not decoded
                raise AudioError(f"{name}: longer than {_as_text(longest_s)}: cut it into parts")
            yield native, block
    except (sf.LibsndfileError, RuntimeError) as error:
        # of libsndfile's errors only the reason: the whole message names an object in memory
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        raise AudioError(f"{name}: not audio that can be read ({reason})") from error


def _check_rate(native: int, expect_rate: int | None, name: str) -> None:
    if not RATES[0] <= native <= RATES[1]:
        raise AudioError(
            f"{name}: {native} Hz is no rate of speech ({RATES[0]} to {RATES[1]} are read)"
        )
    if expect_rate and native != expect_rate:
        raise AudioError(f"{name}: {native} Hz where {expect_rate} Hz is expected")


def _as_text(seconds: float) -> str:
    return f"{seconds / 3600:.0f} hours" if seconds >= 7200 else f"{seconds:.0f} s"


class _Bytes(io.BytesIO):
    """In broken files libsndfile seeks before the beginning, which would print a traceback."""

    def seek(self, offset: int, whence: int = 0) -> int:
        return super().seek(offset if whence else max(0, offset), whence)


def _sndfile_blocks(data: bytes, name: str) -> Iterator[tuple[int, np.ndarray]]:
    """(rate, mono block) of what libsndfile opens; at least one block.

    Raises libsndfile's errors, and AudioError if samples are missing.
    """
    with sf.SoundFile(_Bytes(data)) as file:
        samples, more = 0, True
        while more:
            block = file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)
            samples += len(block)
            more = len(block) == BLOCK_SAMPLES
            yield file.samplerate, _mono(block, 1)
        # of other formats the number of samples is only a guess
        if file.format == "FLAC" and samples < file.frames < 2**62:
            raise AudioError(f"{name}: truncated, {samples} of {file.frames} samples are there")


def _mono(block: np.ndarray, axis: int) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):  # `check_wave` refuses what is not finite
        return block.mean(axis=axis)


def _container(data: bytes) -> str | None:
    """FFmpeg's name of a container that libsndfile does not know, by the first bytes, or None.

    FFmpeg gets this name so that it does not guess: a playlist would make it open other files.
    """
    if data[4:8] == b"ftyp":
        return "mp4"
    if data[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if data[:5] == b"#!AMR":
        return "amr"
    if data[:2] in (b"\xff\xf1", b"\xff\xf9"):
        return "aac"
    return None


def _ffmpeg_blocks(data: bytes, container: str, name: str) -> Iterator[tuple[int, np.ndarray]]:
    """(rate, mono block) of what FFmpeg's libraries open; at least one block.

    Raises RuntimeError with FFmpeg's reason, and AudioError if the container promises more sound
    than there is.
    """
    import av

    try:
        with av.open(io.BytesIO(data), format=container) as file:
            if not file.streams.audio:
                raise RuntimeError("it holds no sound")
            stream, samples = file.streams.audio[0], 0
            rate, promised = stream.rate or 0, _promised(file, stream, container)
            yield rate, np.zeros(0, np.float32)  # the caller checks the rate before it is used
            to_float = av.AudioResampler("fltp", rate=rate)
            for frame in file.decode(audio=0):
                if frame.layout.nb_channels > 8:  # PyAV reads such frames from the wrong memory
                    raise RuntimeError(f"{frame.layout.nb_channels} channels")
                for converted in to_float.resample(frame):
                    samples += converted.samples
                    yield rate, _mono(converted.to_ndarray(), 0)
    except AudioError:
        raise
    # AttributeError: a stream of an unknown codec has no rate
    except (av.FFmpegError, ValueError, OverflowError, AttributeError) as error:
        raise RuntimeError(getattr(error, "strerror", None) or str(error)) from error
    seconds = samples / rate
    if seconds < promised - max(0.25, 0.05 * promised):
        raise AudioError(f"{name}: truncated, {seconds:.1f} of {promised:.1f} s are there")


def _promised(file, stream, container: str) -> float:
    """Seconds of sound that a container says it holds; 0 where it does not say.

    AAC and AMR have no header for it, and FFmpeg guesses. The length of a whole film is not that of
    its sound.
    """
    if container in ("aac", "amr"):
        return 0.0
    if stream.duration:
        return float(stream.duration * stream.time_base)
    only_sound = len(file.streams) == 1
    return (file.duration or 0) / 1e6 if only_sound else 0.0


def write(path: Path, wave: np.ndarray, rate: int = RATE) -> None:
    """Write a wave as the competition's format: WAV, mono, 16 bits, clipped at ±1; 8 kHz."""
    sf.write(path, np.clip(wave, -1, 1), rate, subtype="PCM_16", format="WAV")
