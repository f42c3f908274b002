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
from scipy.signal import butter, sosfilt

RATE = 8000  # Hz, the competition's rate: everything is band-limited to it before a model sees it
FLOOR_SNR_DB = (25.0, 50.0)  # noise floor that conditioning adds, dB under the speech; see notebook 02 for the choice
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".au",  # what libsndfile opens
            ".m4a", ".mp4", ".aac", ".webm", ".amr", ".3gp")  # what FFmpeg's libraries open
LONGEST_S, LARGEST_BYTES = 6 * 3600, 2 * 10**9  # of one recording
RATES = (1000, 768_000)  # Hz; a rate of 1 Hz would turn kilobytes into gigabytes
BLOCK, STREAMED = 2**18, 2**24  # samples read at a time; from so many on they are resampled as they are read
SILENT_DBFS = -70.0  # a clip whose loudest 20 ms lie below this holds no speech


class AudioError(ValueError):
    """A file that must be kept out. The message names the file and the reason."""


def dbfs(wave: np.ndarray) -> float:
    """Root-mean-square level in dB re full scale; -inf for digital silence."""
    power = float(np.mean(np.square(wave, dtype=np.float64))) if len(wave) else 0.0
    return 10 * np.log10(power) if power > 0 else -np.inf


def frames_dbfs(wave: np.ndarray, rate: int = RATE, seconds: float = 0.02) -> np.ndarray:
    """Level of consecutive, non-overlapping frames in dBFS, floored at -120; shape (frames,), at least one frame."""
    size = max(1, int(rate * seconds))
    if len(wave) < size:
        wave = np.pad(wave, (0, size - len(wave)))
    blocks = wave[: len(wave) // size * size].reshape(-1, size)
    power = np.empty(len(blocks))
    for at in range(0, len(blocks), BLOCK // 16):  # hours of sound in double precision would not fit into a laptop
        power[at : at + BLOCK // 16] = np.mean(blocks[at : at + BLOCK // 16].astype(np.float64) ** 2, axis=1)
    return 10 * np.log10(np.maximum(power, 1e-12))


def check_wave(wave: np.ndarray, name: str, rate: int = RATE) -> np.ndarray:
    """Return `wave`, or raise AudioError naming `name` if it is empty, not finite or silent."""
    if len(wave) == 0:
        raise AudioError(f"{name}: empty, no samples")
    if not np.isfinite(wave).all():
        raise AudioError(f"{name}: {int((~np.isfinite(wave)).sum())} samples are NaN or infinite")
    if frames_dbfs(wave, rate).max() < SILENT_DBFS:
        raise AudioError(f"{name}: silent, no frame above {SILENT_DBFS:.0f} dBFS")
    return wave


def _check_riff(data: bytes, name: str) -> None:
    """Raise AudioError if the header of a RIFF/WAVE file promises more audio than the file holds."""
    if data[:4] != b"RIFF":
        return
    position = 12
    while position + 8 <= len(data):
        tag, size = data[position : position + 4], struct.unpack("<I", data[position + 4 : position + 8])[0]
        if tag == b"data":
            if position + 8 + size > len(data) and size < 0xFFFFFFF0:  # the largest sizes mean "streamed, unknown"
                raise AudioError(f"{name}: truncated, {len(data) - position - 8} of {size} bytes of audio are there")
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
            raise AudioError(f"{path.name}: cannot be read ({'a folder' if path.is_dir() else 'not a file but a device or pipe'})")
        if (size := path.stat().st_size) > LARGEST_BYTES:
            raise AudioError(f"{path.name}: {size / 1e9:.1f} GB are too large: cut it into parts, or compress it (FLAC, Opus)")
        data = path.read_bytes()
    except AudioError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise AudioError(f"{path.name}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    return decode(data, path.name, rate, expect_rate)


def decode(data: bytes, name: str, rate: int = RATE, expect_rate: int | None = None) -> np.ndarray:
    """What `read` does, for the bytes of a file called `name`."""
    if not data:
        raise AudioError(f"{name}: empty file")
    _check_riff(data, name)
    container = _container(data)
    parts, samples, native, stream = [], 0, 0, None
    try:
        for native, part in _ffmpeg_blocks(data, container, name) if container else _sndfile_blocks(data, name):
            if not RATES[0] <= native <= RATES[1]:
                raise AudioError(f"{name}: {native} Hz is no rate of speech ({RATES[0]} to {RATES[1]} are read)")
            if expect_rate and native != expect_rate:
                raise AudioError(f"{name}: {native} Hz where {expect_rate} Hz is expected")
            samples += len(part)
            if samples > LONGEST_S * native:
                raise AudioError(f"{name}: longer than {LONGEST_S / 3600:.0f} hours: cut it into parts")
            if stream is None and samples > STREAMED and native != rate:  # a long one never lies here whole at its own rate
                stream = soxr.ResampleStream(native, rate, 1, dtype="float32")
                parts = [stream.resample_chunk(earlier) for earlier in parts]
            parts.append(part if stream is None else stream.resample_chunk(part))
    except (sf.LibsndfileError, RuntimeError) as error:
        reason = getattr(error, "error_string", str(error)).rstrip(".")  # the whole message names an object in memory
        raise AudioError(f"{name}: not audio that can be read ({reason})") from error
    if stream is not None:
        wave = np.concatenate([*parts, stream.resample_chunk(np.zeros(0, np.float32), last=True)])
    else:
        wave = resample(check_wave(np.concatenate(parts), name, native), native, rate)
    return check_wave(wave, name, rate)  # nothing may be left of a few samples, or of sound above half the rate


class _Bytes(io.BytesIO):
    """libsndfile looks before the beginning of broken files: that would print a traceback."""

    def seek(self, offset: int, whence: int = 0) -> int:
        return super().seek(offset if whence else max(0, offset), whence)


def _sndfile_blocks(data: bytes, name: str) -> Iterator[tuple[int, np.ndarray]]:
    """(rate, mono block) of what libsndfile opens; at least one block. Raises its errors, and AudioError if samples are missing."""
    with sf.SoundFile(_Bytes(data)) as file:
        found, more = 0, True
        while more:
            part = file.read(BLOCK, dtype="float32", always_2d=True)
            found, more = found + len(part), len(part) == BLOCK
            yield file.samplerate, _mono(part, 1)
        if file.format == "FLAC" and found < file.frames < 2**62:  # others only guess how many there are
            raise AudioError(f"{name}: truncated, {found} of {file.frames} samples are there")


def _mono(part: np.ndarray, axis: int) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused by name later
        return part.mean(axis=axis)


def _container(data: bytes) -> str | None:
    """FFmpeg's name of a container that libsndfile does not know. It is told FFmpeg so that it does not guess: a playlist would
    make it open other files."""
    marks = {"mp4": data[4:8] == b"ftyp", "matroska": data[:4] == b"\x1aE\xdf\xa3", "amr": data[:5] == b"#!AMR",
             "aac": data[:2] in (b"\xff\xf1", b"\xff\xf9")}
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
    except (av.FFmpegError, ValueError, OverflowError, AttributeError) as error:  # no rate where the codec is not known
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


def resample(wave: np.ndarray, source: int, target: int) -> np.ndarray:
    """Resample from `source` to `target` Hz (soxr, high quality)."""
    return wave if source == target else soxr.resample(wave, source, target).astype(np.float32)


def write(path: Path, wave: np.ndarray) -> None:
    """Write `wave` as 8 kHz mono PCM16 WAV (the competition's format)."""
    sf.write(path, np.clip(wave, -1, 1), RATE, subtype="PCM_16", format="WAV")


def loud_part(wave: np.ndarray, rate: int = RATE, below_peak_db: float = 35.0, margin: float = 0.06) -> slice:
    """Samples between the first and the last frame within `below_peak_db` of the loudest, and `margin` seconds more."""
    level = frames_dbfs(wave, rate)
    loud = np.flatnonzero(level > level.max() - below_peak_db)
    size = max(1, int(rate * 0.02))
    first, last = loud[0] * size - int(margin * rate), (loud[-1] + 1) * size + int(margin * rate)
    return slice(max(0, first), last)


def trim(wave: np.ndarray) -> np.ndarray:
    """Cut leading and trailing silence of an 8 kHz wave, to the margin of `loud_part`."""
    return wave[loud_part(wave)]


def coloured_noise(samples: int, slope_db: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise with a spectrum falling `slope_db` dB an octave (0 white, 3 pink, 6 brown), unit power."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    octave = np.log2(np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 50) / 50)
    noise = np.fft.irfft(spectrum * 10 ** (-slope_db * octave / 20), samples)
    return (noise / max(noise.std(), 1e-9)).astype(np.float32)


def add_noise(wave: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add `noise` (looped or cut to length) at `snr_db` dB under the level of `wave`."""
    noise = np.resize(noise, len(wave))
    gain = 10 ** ((dbfs(wave) - snr_db - max(dbfs(noise), -100)) / 20)
    return (wave + gain * noise).astype(np.float32)


# libsndfile's (container, subtype): real telephone and internet codecs, no ffmpeg needed
CODECS = {
    "pcm": None,
    "mulaw": ("WAV", "ULAW"),  # G.711 µ-law
    "alaw": ("WAV", "ALAW"),  # G.711 A-law
    "adpcm": ("WAV", "IMA_ADPCM"),
    "gsm": ("WAV", "GSM610"),  # GSM full rate
    "opus": ("OGG", "OPUS"),  # Opus, narrowband at 8 kHz
    "amr": ("3gp", "libopencore_amrnb"),  # AMR narrowband, 12.2 kbit/s, through FFmpeg's libraries (PyAV)
}

TELEPHONE = ("pcm", "pcm", "mulaw", "alaw", "gsm", "amr", "opus")  # what conditioning draws from; one in three is untouched


def transmit(wave: np.ndarray, codec: str) -> np.ndarray:
    """Encode and decode `wave` with one of `CODECS`, length kept. A transmitted real clip is still real."""
    if CODECS[codec] is None:
        return wave
    container, subtype = CODECS[codec]
    buffer = io.BytesIO()
    if codec == "amr":
        decoded = _through_ffmpeg(np.clip(wave, -1, 1), container, subtype, buffer)
    else:
        sf.write(buffer, np.clip(wave, -1, 1), RATE, format=container, subtype=subtype)
        buffer.seek(0)
        decoded, rate = sf.read(buffer, dtype="float32")
        decoded = resample(decoded, rate, RATE)
    return np.pad(decoded, (0, max(0, len(wave) - len(decoded))))[: len(wave)]


def _through_ffmpeg(wave: np.ndarray, container: str, encoder: str, buffer: io.BytesIO) -> np.ndarray:
    import av

    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(encoder, rate=RATE, layout="mono", format="s16")
        stream.bit_rate = 12200
        frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    buffer.seek(0)
    with av.open(buffer) as file:
        return np.concatenate([f.to_ndarray().ravel() for f in file.decode(audio=0)]).astype(np.float32)[40:]  # 5 ms look-ahead


def lose_packets(wave: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Lose about `share` of the 20 ms packets, in bursts of two on average (Gilbert's model), and conceal each by the
    one before, 6 dB weaker each time, as simple receivers do."""
    size, lost, result = RATE // 50, False, wave.copy()
    for start in range(size, len(wave) - size + 1, size):
        lost = rng.random() < (0.5 if lost else share / 2 / (1 - share))
        if lost:
            result[start : start + size] = result[start - size : start] / 2
    return result


def condition(wave: np.ndarray, rate: int, rng: np.random.Generator, codecs: tuple[str, ...], loss: float = 0.0,
              strength: float = 1.0) -> tuple[np.ndarray, str]:
    """The one chain that both classes pass, so that what is left to learn is the speech and not the packaging.

    Each step removes a cue that would tell the classes apart in registry data, by drawing it anew from the same
    distribution for everyone: rate → 8 kHz; silence at the ends → trimmed to the same margin; DC and bandwidth →
    band-pass with drawn edges; noise floor → coloured noise, `FLOOR_SNR_DB` under the speech; codec, lost packets and
    level → drawn.

    Args: wave at `rate` Hz; `codecs` names to draw from; `loss` the share of clips that lose 1–5 % of their packets;
    `strength` 0 (8 kHz and a full scale that does not clip, nothing else) to 1 (all of it). A clip's draws are the same
    at every strength: 0.5 moves it half the way, with noise 15 dB weaker and half the codecs.
    Returns (wave at 8 kHz, codec used).
    """
    wave = resample(wave, rate, RATE)
    low, high = rng.uniform(60, 250), rng.uniform(3200, 3800)
    wave = trim(wave) if strength else wave
    slope = rng.uniform(0, 6)
    if strength:
        edges = low * strength + 20 * (1 - strength), high * strength + 3950 * (1 - strength)
        band = butter(4, edges, "bandpass", fs=RATE, output="sos")
        wave = sosfilt(band, wave - wave.mean()).astype(np.float32)
        noise = coloured_noise(len(wave), slope, rng)
        wave = add_noise(wave, noise, rng.uniform(*FLOOR_SNR_DB) + 30 * (1 - strength))
        wave = wave * 10 ** ((rng.uniform(-30, -18) - dbfs(wave)) * strength / 20)
    codec, loses, share = str(rng.choice(codecs)), rng.random() < loss * strength, rng.uniform(0.01, 0.05)
    if rng.random() >= strength:  # never at full strength, always at none
        codec = "pcm"
    wave = transmit(wave / max(1.0, np.abs(wave).max() / 0.98), codec)
    if loses:
        wave = lose_packets(wave, share, rng)
    return wave, codec
