"""TODO audio.dsp."""

import numpy as np
import soxr

RATE = 8000  # Hz, the competition's rate: everything is band-limited to it before a model sees it
LEVEL_FRAMES = (
    2**14
)  # frames whose power is computed at a time: hours in double precision would not fit
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
    for at in range(
        0, len(blocks), LEVEL_FRAMES
    ):  # hours of sound in double precision would not fit into a laptop
        power[at : at + LEVEL_FRAMES] = np.mean(
            blocks[at : at + LEVEL_FRAMES].astype(np.float64) ** 2, axis=1
        )
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
    """Resample from `source` to `target` Hz (soxr, high quality)."""
    return wave if source == target else soxr.resample(wave, source, target).astype(np.float32)


def loud_part(
    wave: np.ndarray, rate: int = RATE, below_peak_db: float = 35.0, margin: float = 0.06
) -> slice:
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
