"""Signal processing on waves: level, resampling, silence, noise.

Waves are float32 arrays of shape (samples,), full scale ±1, at `RATE` unless a docstring says
otherwise. Levels are in dBFS: 0 is the power of a constant at full scale, a full-scale sine has -3.
"""

import numpy as np
import soxr

RATE = 8000  # Hz, the competition's rate: everything is resampled to it before a model sees it
FRAMES_AT_ONCE = 2**14  # for levels: hours of sound in double precision would not fit into memory
BLOCK_SAMPLES = 2**20  # of a long wave that are looked at at once
SILENT_DBFS = -70.0  # a clip whose loudest 20 ms lie below this holds no speech
SEAM_S = 0.01  # cross-fade where noise is repeated


class AudioError(ValueError):
    """A file that cannot be used. The message names the file and the reason."""


def dbfs(wave: np.ndarray) -> float:
    """Root-mean-square level in dBFS; -inf for digital silence."""
    power = float(np.mean(np.square(wave, dtype=np.float64))) if len(wave) else 0.0
    return 10 * np.log10(power) if power > 0 else -np.inf


def frames_dbfs(wave: np.ndarray, rate: int = RATE, seconds: float = 0.02) -> np.ndarray:
    """Level in dBFS of consecutive frames of `seconds` without overlap, -120 at least.

    Returns float64 (frames,): a rest shorter than a frame is left out, but there is one frame at
    least (a shorter wave is padded with silence).
    """
    size = max(1, int(rate * seconds))
    if len(wave) < size:
        wave = np.pad(wave, (0, size - len(wave)))
    blocks = wave[: len(wave) // size * size].reshape(-1, size)
    power = np.empty(len(blocks))
    for start in range(0, len(blocks), FRAMES_AT_ONCE):
        some = slice(start, start + FRAMES_AT_ONCE)
        power[some] = np.mean(blocks[some].astype(np.float64) ** 2, axis=1)
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


def resample(wave: np.ndarray, source: int, target: int) -> np.ndarray:
    """Resample from `source` to `target` Hz (soxr, high quality); float32."""
    return wave if source == target else soxr.resample(wave, source, target).astype(np.float32)


def fit_length(wave: np.ndarray, samples: int) -> np.ndarray:
    """The wave, cut or padded with silence at its end to `samples`."""
    if len(wave) >= samples:
        return wave[:samples]
    return np.pad(wave, (0, samples - len(wave)))


def loud_part(
    wave: np.ndarray, rate: int = RATE, below_peak_db: float = 35.0, margin: float = 0.06
) -> slice:
    """Samples from the first to the last loud frame of 20 ms, and `margin` seconds on either side.

    A frame is loud if its level is within `below_peak_db` of the loudest one. The slice may end
    beyond the wave.
    """
    level = frames_dbfs(wave, rate)
    loud = np.flatnonzero(level > level.max() - below_peak_db)
    size = max(1, int(rate * 0.02))
    margin_samples = int(margin * rate)
    first, last = loud[0] * size - margin_samples, (loud[-1] + 1) * size + margin_samples
    return slice(max(0, first), last)


def trim(wave: np.ndarray) -> np.ndarray:
    """Cut leading and trailing silence of an 8 kHz wave, except for the margin of `loud_part`."""
    return wave[loud_part(wave)]


def between_quiet_ends(
    wave: np.ndarray, rate: int, part: float = 0.02, margin_s: float = 0.1
) -> slice:
    """Samples from the first to the last over `part` of the peak, and `margin_s` around them."""
    edge, margin = part * peak(wave), int(margin_s * rate)
    first, last = _first_beyond(wave, edge), len(wave) - _first_beyond(wave[::-1], edge)
    return slice(max(0, first - margin), min(len(wave), last + margin))


def _first_beyond(wave: np.ndarray, edge: float) -> int:
    """Number of the first sample beyond ±`edge`, looked for block by block."""
    for start in range(0, len(wave), BLOCK_SAMPLES):
        beyond = np.abs(wave[start : start + BLOCK_SAMPLES]) > edge
        if beyond.any():
            return start + int(np.argmax(beyond))
    return 0


def peak(wave: np.ndarray) -> float:
    """The largest size of a sample, without an array of all sizes: a wave may last for hours."""
    return max(float(wave.max()), -float(wave.min()))


def middle(wave: np.ndarray, samples: int) -> np.ndarray:
    """The `samples` in the middle of a wave, or all of a shorter one."""
    start = max(0, (len(wave) - samples) // 2)
    return wave[start : start + samples]


def coloured_noise(samples: int, slope_db: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of unit power, float32 (samples,), at 8 kHz.

    Above 50 Hz its power density falls by `slope_db` dB per octave: 0 white, 3 pink, 6 brown.
    """
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    octave = np.log2(np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 50) / 50)
    noise = np.fft.irfft(spectrum * 10 ** (-slope_db * octave / 20), samples)
    return (noise / max(noise.std(), 1e-9)).astype(np.float32)


def add_noise(wave: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add `noise`, repeated or cut to the length of `wave`, `snr_db` dB under its level; float32.

    The signal-to-noise ratio is that of the whole clip, pauses included: during speech it is
    higher. Where noise is repeated, its end fades into its beginning within `SEAM_S`.
    """
    noise = _repeat(noise, len(wave))
    gain = 10 ** ((dbfs(wave) - snr_db - max(dbfs(noise), -100)) / 20)
    return (wave + gain * noise).astype(np.float32)


def _repeat(noise: np.ndarray, samples: int) -> np.ndarray:
    """`noise` cut to `samples`, or repeated with cross-faded seams of constant power."""
    fade = min(int(SEAM_S * RATE), len(noise) // 2)
    if len(noise) >= samples or fade == 0:
        return np.resize(noise, samples)
    rising = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32))
    seam = noise[-fade:] * rising[::-1] + noise[:fade] * rising
    once = noise[:-fade]
    period = np.concatenate([seam, noise[fade:-fade]])
    return np.concatenate([once, np.resize(period, samples - len(once))])[:samples]
