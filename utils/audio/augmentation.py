"""The finalist's augmentations of single clips and their splicing, with the slides' probabilities.

Two of them change the label: a recording whose pitch or speed was changed counts as manipulated, so
bona fide becomes spoof. They keep the clip's mean spectrum above 1.5 kHz: an empty top, or an edge
of the telephone band that has moved, would name the class by itself. The slides call splicing
"mixup". Waves are float32 arrays of shape (samples,) at 8 kHz, full scale ±1. All random numbers
come from the generator that is passed in: a seed repeats a clip exactly.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.signal import resample as resample_by_fft
from scipy.signal import welch

from utils.audio.dsp import RATE, add_noise, coloured_noise, fit_length, resample

PROBABILITIES = {
    "crop": 0.1,
    "echo": 0.1,
    "noise": 0.2,
    "rate": 0.2,
    "pitch": 0.05,
    "speed": 0.05,
    "splice": 0.3,
}
CHANGES_LABEL = ("pitch", "speed")
MAX_S = 15.0  # an augmented clip is shorter
SPLICE_UNDER_S = 5.0  # only clips up to this length are spliced
LEAST_SPOOF_S = 0.5  # of a splice that is labelled spoof, as in the competition's own splices
SPLICE_TRIES = 20
KEPT_FROM_HZ = 1500  # from here a change of pitch or speed keeps the clip's mean spectrum
OWN_TOP_HZ = 2500  # a telephone band that ends at 3.2 kHz ends here after 4 semitones down
FADE_HZ = 100  # from none to all of either
WINDOW = 512  # samples, of the mean spectrum


@dataclass(frozen=True)
class Augmented:
    """A clip that `augment` made.

    Attributes:
        wave: shorter than 15 s.
        label: 1 bona fide, 0 spoof.
        effects: names of what was done, in order; keys of `PROBABILITIES`.
        sources: what splicing appended, in order: name of the pool, "bonafide" or "spoof", and
            index in it. All of it counts, also what a cut removed again.
    """

    wave: np.ndarray
    label: int
    effects: list[str] = field(default_factory=list)
    sources: list[tuple[str, int]] = field(default_factory=list)


def crop(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Keep a random 60–100 % of the clip, at least one second."""
    return wave[_random_stretch(len(wave), rng)]


def _random_stretch(samples: int, rng: np.random.Generator) -> slice:
    size = min(samples, max(RATE, int(samples * rng.uniform(0.6, 1.0))))
    start = int(rng.integers(samples - size + 1))
    return slice(start, start + size)


def echo(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add one reflection, 30–200 ms late and 6–18 dB weaker."""
    delay, gain = int(rng.uniform(0.03, 0.2) * RATE), 10 ** (-rng.uniform(6, 18) / 20)
    reflection = np.zeros_like(wave)
    reflection[delay:] = wave[: max(0, len(wave) - delay)]
    return (wave + gain * reflection).astype(np.float32)


def noise(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add white to brown noise, 8–30 dB under the level of the clip."""
    return add_noise(wave, coloured_noise(len(wave), rng.uniform(0, 6), rng), rng.uniform(8, 30))


def rate(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Resample to 4–7 kHz and back: bandwidth is lost; pitch, speed and length stay."""
    low = int(rng.integers(4000, 7000))
    back = resample(resample(wave, RATE, low), low, RATE)
    return fit_length(back, len(wave)).astype(np.float32)


def pitch(wave: np.ndarray, rng: np.random.Generator, keep_spectrum: bool = True) -> np.ndarray:
    """Shift the pitch by 2–4 semitones up or down (phase vocoder). The label becomes spoof.

    A shift down leaves the top of the band empty, so what lies above `OWN_TOP_HZ` stays the clip's
    own. `keep_spectrum`: False leaves the band as the shift makes it.
    """
    import librosa  # takes seconds to import

    steps = float(rng.uniform(2, 4) * rng.choice([-1, 1]))
    shifted = librosa.effects.pitch_shift(wave, sr=RATE, n_steps=steps, n_fft=512, res_type="fft")
    if keep_spectrum:
        shifted = _with_spectrum_of(wave, _with_top_of(wave, shifted))
    return shifted.astype(np.float32)


def speed(wave: np.ndarray, rng: np.random.Generator, keep_spectrum: bool = True) -> np.ndarray:
    """Play 1.1–1.3 times faster, which raises the pitch too. The label becomes spoof.

    `keep_spectrum`: False leaves the band as the speed makes it.
    """
    faster = resample_by_fft(wave, int(len(wave) / rng.uniform(1.1, 1.3)))
    return (_with_spectrum_of(wave, faster) if keep_spectrum else faster).astype(np.float32)


def _with_top_of(wave: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """`changed`, from `OWN_TOP_HZ` upwards replaced by a wave of the same length."""
    share = _share_above(OWN_TOP_HZ, len(wave))
    spectrum = (1 - share) * np.fft.rfft(changed) + share * np.fft.rfft(wave)
    return np.fft.irfft(spectrum, len(wave))


def _with_spectrum_of(wave: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """`changed`, filtered so that its mean power above `KEPT_FROM_HZ` is that of `wave`.

    Below, the filter would bring the harmonics of a steady voice back to their old places.
    """
    hertz, wanted = mean_power(wave)
    gain = np.sqrt(wanted / mean_power(changed)[1])
    gain = np.interp(np.fft.rfftfreq(len(changed), 1 / RATE), hertz, gain)
    gain = 1 + _share_above(KEPT_FROM_HZ, len(changed)) * (gain - 1)
    return np.fft.irfft(gain * np.fft.rfft(changed), len(changed))


def _share_above(edge: float, samples: int) -> np.ndarray:
    """0 below a frequency, 1 above it, for each of the bins of `rfft` (samples // 2 + 1,)."""
    return np.clip((np.fft.rfftfreq(samples, 1 / RATE) - edge) / FADE_HZ, 0, 1)


def mean_power(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(frequencies in Hz, mean power density by Welch's method) in steps of 16 Hz, both (257,).

    A shorter wave than 64 ms is padded with silence; no power is 0.
    """
    hertz, power = welch(fit_length(wave, max(len(wave), WINDOW)), RATE, nperseg=WINDOW)
    return hertz, power + 1e-14


EFFECTS = {"crop": crop, "echo": echo, "noise": noise, "rate": rate, "pitch": pitch, "speed": speed}


def splice(parts: list[np.ndarray]) -> np.ndarray:
    """Join clips end to end at the level of the first one, cut at 15 s."""
    reference = np.sqrt(np.mean(parts[0] ** 2)) + 1e-9
    levelled = [part * (reference / (np.sqrt(np.mean(part**2)) + 1e-9)) for part in parts]
    return np.concatenate(levelled)[: int(MAX_S * RATE)].astype(np.float32)


def augment(
    wave: np.ndarray,
    label: int,
    rng: np.random.Generator,
    bonafide: list[np.ndarray],
    spoof: list[np.ndarray],
    probabilities: dict[str, float] = PROBABILITIES,
) -> Augmented:
    """Apply each effect with its probability, then splice, then crop what lasts 15 s or more.

    Clips up to 5 s are spliced, unless their pitch or speed was changed. A splice is spoof if any
    part of it is.

    Args:
        label: of the clip, 1 bona fide or 0 spoof.
        bonafide, spoof: pools of waves that splicing may append. To pass only training clips of one
            fold is the caller's duty. `spoof` may be empty.
        probabilities: of each effect, by name.
    """
    effects = []
    for name, effect in EFFECTS.items():
        if rng.random() < probabilities[name]:
            wave = effect(wave, rng)
            effects.append(name)
    if any(name in CHANGES_LABEL for name in effects):
        label = 0
    elif len(wave) <= SPLICE_UNDER_S * RATE and rng.random() < probabilities["splice"]:
        for _ in range(SPLICE_TRIES):
            spliced, spliced_label, sources = _splice_with_pools(wave, label, rng, bonafide, spoof)
            if spliced is not None:
                return Augmented(spliced, spliced_label, [*effects, "splice"], sources)
    return Augmented(wave[_shorter(len(wave), rng)], label, effects)


def _splice_with_pools(
    wave: np.ndarray, label: int, rng: np.random.Generator, bonafide: list, spoof: list
) -> tuple[np.ndarray | None, int, list[tuple[str, int]]]:
    """(splice shorter than 15 s, its label, what was appended) of a clip with one to three others.

    The wave is None if cuts removed so much of the spoof parts that the label would not be true.
    """
    parts, spoof_parts, sources = [wave], [label == 0], []
    for _ in range(rng.integers(1, 4)):
        use_bonafide = rng.random() < 0.8 or not spoof
        pool = bonafide if use_bonafide else spoof
        index = int(rng.integers(len(pool)))
        parts.append(pool[index])
        spoof_parts.append(not use_bonafide)
        sources.append(("bonafide" if use_bonafide else "spoof", index))
    is_spoof = np.repeat(spoof_parts, [len(part) for part in parts])
    joined = splice(parts)
    kept = _shorter(len(joined), rng)
    spoof_left = is_spoof[kept].sum()
    if spoof_left < min(LEAST_SPOOF_S * RATE, is_spoof.sum()):
        return None, 0, []
    return joined[kept], int(not is_spoof.any()), sources


def _shorter(samples: int, rng: np.random.Generator) -> slice:
    """All of a clip shorter than 15 s, else a random stretch of its first 15 s."""
    longest = int(MAX_S * RATE)
    kept = slice(0, samples)
    while kept.stop - kept.start >= longest:
        stretch = _random_stretch(longest, rng)
        kept = slice(kept.start + stretch.start, kept.start + stretch.stop)
    return kept
