"""The finalist's single-clip augmentations and their splicing mixup, with the deck's probabilities.

Two of them change the label: a pitch-shifted or sped-up recording counts as manipulated, so real becomes fake.
Waves: 8 kHz float32 (samples,). Every draw comes from the generator given, so a seed repeats a clip exactly.
"""

import numpy as np

from utils.audio.dsp import RATE, add_noise, coloured_noise, resample

PROBABILITIES = {
    "clip": 0.1,
    "echo": 0.1,
    "noise": 0.2,
    "rate": 0.2,
    "pitch": 0.05,
    "speed": 0.05,
    "splice": 0.3,
}
CHANGES_LABEL = ("pitch", "speed")
MAX_S, SPLICE_UNDER_S = 15.0, 5.0


def crop(wave, rng):
    """Keep a random 60–100 % of the clip, at least one second."""
    size = min(len(wave), max(RATE, int(len(wave) * rng.uniform(0.6, 1.0))))
    start = rng.integers(len(wave) - size + 1)
    return wave[start : start + size]


def echo(wave, rng):
    """Add one reflection, 30–200 ms late and 6–18 dB weaker."""
    delay, gain = int(rng.uniform(0.03, 0.2) * RATE), 10 ** (-rng.uniform(6, 18) / 20)
    late = np.zeros_like(wave)
    late[delay:] = wave[: max(0, len(wave) - delay)]
    return (wave + gain * late).astype(np.float32)


def noise(wave, rng):
    """Add white to brown noise, 8–30 dB under the speech."""
    return add_noise(wave, coloured_noise(len(wave), rng.uniform(0, 6), rng), rng.uniform(8, 30))


def rate(wave, rng):
    """Change the sampling rate: down to 4–7 kHz and back (a loss of bandwidth; pitch and speed stay)."""
    low = int(rng.integers(4000, 7000))
    return np.resize(resample(resample(wave, RATE, low), low, RATE), len(wave)).astype(np.float32)


def pitch(wave, rng):
    """Shift the pitch by 2–4 semitones either way (phase vocoder). Turns the label to fake."""
    import librosa

    steps = float(rng.uniform(2, 4) * rng.choice([-1, 1]))
    return librosa.effects.pitch_shift(wave, sr=RATE, n_steps=steps, n_fft=512).astype(np.float32)


def speed(wave, rng):
    """Play 1.1–1.3 times faster (tempo and pitch together). Turns the label to fake."""
    return resample(wave, RATE, int(RATE / rng.uniform(1.1, 1.3)))


EFFECTS = {"clip": crop, "echo": echo, "noise": noise, "rate": rate, "pitch": pitch, "speed": speed}


def splice(parts: list[np.ndarray]) -> np.ndarray:
    """Join clips end to end, levels equalised to the first, cut at 15 s."""
    reference = np.sqrt(np.mean(parts[0] ** 2)) + 1e-9
    levelled = [part * (reference / (np.sqrt(np.mean(part**2)) + 1e-9)) for part in parts]
    return np.concatenate(levelled)[: int(MAX_S * RATE)].astype(np.float32)


def augment(
    wave, label: int, rng, bonafide: list, spoof: list, probabilities: dict = PROBABILITIES
):
    """Draw the deck's recipe for one clip.

    Args:
        wave, label: the clip, 1 real or 0 fake.
        real, fake: waves that splicing may append (training clips of the same fold only: the caller's duty).
        probabilities: chance of each effect by name.
    Returns (wave of at most 15 s, label, names of what was done).
    """
    done = []
    for name, effect in EFFECTS.items():
        if rng.random() < probabilities[name]:
            wave, done = effect(wave, rng), [*done, name]
            label = 0 if name in CHANGES_LABEL else label
    shifted = any(name in CHANGES_LABEL for name in done)
    if (
        len(wave) <= SPLICE_UNDER_S * RATE
        and not shifted
        and rng.random() < probabilities["splice"]
    ):
        parts = [wave]
        for _ in range(rng.integers(1, 4)):
            if rng.random() < 0.8 or not spoof:
                parts.append(bonafide[rng.integers(len(bonafide))])
            else:
                parts.append(spoof[rng.integers(len(spoof))])
                label = 0
        wave, done = splice(parts), [*done, "splice"]
    while len(wave) >= MAX_S * RATE:
        wave = crop(wave[: int(MAX_S * RATE)], rng)
    return wave, label, done
