"""Sounds in which nobody speaks, and the line that tells them from speech.

Music comes from two packages of the registry, the rest is made here: ringing and dialling tones,
beeps, game music, hum, noise, clicks. Waves are float32 (samples,) at 16 kHz.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import signal

from utils import parallel
from utils.audio import dsp, reading
from utils.detector import embedding
from utils.detector.embedding import RATE, WIDE
from utils.detector.train import heads
from utils.sources import registry

MUSIC = ("asterisk-moh-opsound-wav", "fillets-ng-data")  # packages of Debian
OF_EACH = 60  # pieces of each package and of each kind of sound
LENGTHS_S = (2.0, embedding.PIECE_S)
RINGS = ((425,), (440, 480), (400, 450), (350, 440), (480, 620), (950, 1400), (1000,))  # Hz
ROWS, COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477, 1633)  # Hz, of telephone keys
SPEECH_CLIPS = 2000  # that the line learns from


def _tones(hertz, seconds: float) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return sum(np.sin(2 * np.pi * each * time) for each in hertz)


def _cadence(samples: int, on_s: float, off_s: float) -> np.ndarray:
    time = np.arange(samples) / RATE
    return (time % (on_s + off_s) < on_s).astype(float)


def ringing(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A tone of a telephone exchange with its cadence."""
    wave = _tones(RINGS[rng.integers(len(RINGS))], seconds)
    on, off = ((1, 4), (2, 4), (0.4, 0.2), (0.5, 0.5), (10, 0))[rng.integers(5)]
    return np.roll(wave * _cadence(len(wave), on, off), int(rng.integers(len(wave))))


def keys(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Dialled digits."""
    parts, on, off = [], rng.uniform(0.08, 0.3), rng.uniform(0.05, 0.4)
    while sum(map(len, parts)) < seconds * RATE:
        parts += [_tones((rng.choice(ROWS), rng.choice(COLUMNS)), on), np.zeros(int(off * RATE))]
    return np.concatenate(parts)


def beeps(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Single beeps, with or without overtones."""
    pitch = rng.uniform(200, 3000)
    wave = _tones([pitch * k for k in range(1, int(rng.integers(2, 5)))], seconds)
    return wave * _cadence(len(wave), rng.uniform(0.05, 2), rng.uniform(0.05, 2))


def melody(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Chords of a simple instrument: decaying overtones, a note every 0.1 to 0.6 s."""
    parts, length, root = [], rng.uniform(0.1, 0.6), rng.uniform(90, 400)
    strength = rng.uniform(0.2, 0.9) ** np.arange(6)
    while sum(map(len, parts)) < seconds * RATE:
        steps = rng.choice([0, 2, 4, 5, 7, 9, 11, 12], size=rng.integers(1, 4))
        time = np.arange(int(length * RATE)) / RATE
        notes = [root * 2 ** (step / 12) for step in steps]
        wave = sum(
            size * np.sin(2 * np.pi * note * (k + 1) * time)
            for note in notes
            for k, size in enumerate(strength)
        )
        parts.append(wave * np.exp(-time * rng.uniform(0.5, 8)))
    return np.concatenate(parts)


def noise(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Coloured noise, steady or swelling, as of air, traffic or water."""
    size = int(seconds * RATE)
    wave = dsp.coloured_noise(size, rng.uniform(-2, 9), rng)
    slow = np.interp(np.arange(size), np.linspace(0, size, 8), rng.uniform(0.2, 1, 8))
    return wave * slow if rng.random() < 0.5 else wave


def hum(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Mains or a motor: overtones of a low pitch in noise."""
    pitch = rng.choice([50, 60, rng.uniform(30, 150)])
    sizes = rng.uniform(0, 1, 30) / np.arange(1, 31)
    wave = sum(size * _tones([pitch * (k + 1)], seconds) for k, size in enumerate(sizes))
    return wave + rng.uniform(0.01, 0.5) * rng.standard_normal(len(wave))


def clicks(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Short decaying knocks in weak noise, as of keyboards and doors."""
    wave = np.zeros(int(seconds * RATE))
    for start in rng.integers(len(wave), size=int(rng.integers(2, 40))):
        length = int(rng.uniform(0.005, 0.08) * RATE)
        knock = rng.standard_normal(length) * np.exp(-np.linspace(0, 6, length))
        wave[start : start + length] += knock[: len(wave) - start]
    return wave + rng.uniform(0.0005, 0.02) * rng.standard_normal(len(wave))


MADE = (ringing, keys, beeps, melody, noise, hum, clicks)


def pieces(seed: int, of_each: int = OF_EACH) -> tuple[list[np.ndarray], list[str]]:
    """(waves, the sort of each) of sounds in which nobody speaks; some pass a telephone's band.

    of_each: how many of each kind and of each package of music, at least.
    """
    waves, sorts = [], []
    for make in MADE:
        for number in range(of_each):
            rng = parallel.seeded_rng(seed, "no speech", make.__name__, number)
            wave = make(rng.uniform(*LENGTHS_S), rng)
            waves.append(_in_a_room(wave, rng))
            sorts.append(make.__name__)
    for package in MUSIC:
        folder = registry.fetch([package])[package]
        files = sorted(file for file in folder.rglob("*.*") if file.suffix in (".wav", ".ogg"))
        # a level of the game is called music too: people speak in what lies deeper in its folder
        files = [file for file in files if file.parent.name in ("music", "moh")]
        for number, file in enumerate(files):
            wave = reading.read(file, RATE)
            rng = parallel.seeded_rng(seed, "music", package, number)
            for _ in range(-(-of_each // len(files))):
                size = min(len(wave), int(rng.uniform(*LENGTHS_S) * RATE))
                start = rng.integers(len(wave) - size + 1)
                waves.append(wave[start : start + size])
                sorts.append(f"{package} {number}")
    heard = [np.abs(wave).max() > 0.001 for wave in waves]
    kept = [n for n in range(len(waves)) if heard[n]]
    return [waves[n] for n in kept], [sorts[n] for n in kept]


def _in_a_room(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weak noise around a made sound, and the band of a telephone for half of them."""
    wave = 0.3 * wave / max(np.abs(wave).max(), 1e-9)
    wave = wave + 10 ** rng.uniform(-4.5, -2) * rng.standard_normal(len(wave))
    if rng.random() < 0.5:
        band = signal.butter(4, (300, 3400), "bandpass", fs=RATE, output="sos")
        wave = signal.sosfilt(band, wave)
    return wave.astype(np.float32)


def _statistics(waves: list[np.ndarray], encoders: str, band: str) -> list[np.ndarray]:
    session = embedding.Encoders(Path(encoders))
    heard = waves if band == WIDE else [embedding.telephone_band(wave) for wave in waves]
    return [session.statistics(embedding.filled(wave)[None])[0] for wave in heard]


def statistics(waves: list[np.ndarray], encoders, band: str) -> np.ndarray:
    """Statistics, float32 (N, D), of waves as a head hears them, in parallel processes."""
    found = parallel.map_chunks(_statistics, waves, 40, str(encoders), band, label="no speech")
    return np.stack(found)


def speech_line(
    speech: np.ndarray, others: np.ndarray, sorts: list[str], seed: int, folds: int = 5
) -> tuple[heads.Line, pd.DataFrame]:
    """The line whose score is positive where somebody speaks, and how well it does.

    Args: statistics of clips with `speech` and of `others`, of these the sort: all pieces of a
    sort are in one fold.
    Returns (line, table: a row for speech and for each sort, `share` that is called speech, out of
    fold, and `clips`).
    """
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(speech))[:SPEECH_CLIPS]
    x = np.concatenate([speech[some], others])
    label = np.repeat([1, 0], [len(some), len(others)])
    kind = np.array([f"speech {n % 20}" for n in range(len(some))] + sorts)
    names = np.unique(kind)
    number = dict(zip(names, rng.permutation(len(names)) % folds, strict=True))
    fold = np.array([number[name] for name in kind])
    clips, weight = heads.Clips(x), heads.class_weights(label, np.ones(len(label)))
    lines = heads.lines_of_folds(clips, label, weight, fold)
    called = heads.scores_of_folds(lines, x, fold) > 0
    group = np.where(label == 1, "speech", [name.split(" ")[0] for name in kind])
    table = pd.DataFrame({"sound": group, "share": called, "clips": 1})
    table = table.groupby("sound").agg({"share": "mean", "clips": "sum"})
    return clips.line(np.arange(len(label)), label, weight), table
