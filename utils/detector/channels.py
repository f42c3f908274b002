"""Which channels of a recording are scored: those that differ, each apart.

The two parties of a call often have a channel each, and the mean of two channels may cancel what
both hold. Waves are float32 (channels, samples), full scale ±1.
"""

from typing import NamedTuple

import numpy as np

from utils.audio import dsp

HOW = ("each", "mix", "loudest")
ALIKE_R2 = 0.99  # squared correlation from which two channels count as the same sound
QUIET_DB = 50.0  # a channel so far below the loudest one is left out
DIGITAL_DBFS = -90.0  # a frame below it holds nothing but the rounding and dither of 16 bits
MOST = 8  # channels that are scored; of more that differ, the loudest
SAMPLES_AT_ONCE = 2**22  # hours in double precision would not fit into memory


class Channel(NamedTuple):
    """What is scored of a recording."""

    name: str  # "2 of 2", "mix of 2", "" for the only one
    wave: np.ndarray  # (samples,)


def checked(waves: np.ndarray) -> np.ndarray:
    """`waves` (channels, samples). Raises AudioError for any other shape."""
    if waves.ndim != 2:
        raise dsp.AudioError(f"wave: shape {waves.shape} is not (channels, samples)")
    if len(waves) > max(1, waves.shape[1]):
        hint = "transpose it: (channels, samples), as wave.T"
        raise dsp.AudioError(f"wave: shape {waves.shape} looks like (samples, channels); {hint}")
    return waves


def products(waves: np.ndarray) -> np.ndarray:
    """Inner products of the channels, float64 (channels, channels), of their mean power."""
    total = np.zeros((len(waves), len(waves)))
    for start in range(0, waves.shape[1], SAMPLES_AT_ONCE):
        some = waves[:, start : start + SAMPLES_AT_ONCE].astype(np.float64)
        total += some @ some.T
    return total / max(1, waves.shape[1])


def choose(waves: np.ndarray, how: str = "each") -> list[Channel]:
    """The channels (at least one) that are scored.

    Args:
        waves: (channels, samples).
        how: "each": all that differ and are not quiet beside the loudest one. The sign does not
            matter: opposite channels are the same sound. "mix": their mean, or the loudest channel
            where it would cancel. "loudest": that one alone.
    Raises ValueError for another word.
    """
    if how not in HOW:
        raise ValueError(f"channels: {how!r} is none of {', '.join(HOW)}")
    count = len(waves)
    if count == 1:
        return [Channel("", waves[0])]
    product = products(waves)
    power = np.diag(product)
    loudest = int(np.argmax(power))
    if how == "mix":
        mixed = waves.mean(axis=0)
        if dsp.dbfs(mixed) > 10 * np.log10(max(power[loudest], 1e-20)) - QUIET_DB / 2:
            return [Channel(f"mix of {count}", mixed)]
    chosen = [loudest]
    if how == "each":
        chosen = _different(product, power)
        if len(chosen) == 1:
            return [Channel("", waves[chosen[0]])]
    return [Channel(f"{number + 1} of {count}", waves[number]) for number in chosen]


def too_quiet(waves: np.ndarray) -> list[str]:
    """A note on channels that `choose` leaves out since they are far quieter; empty without any.

    Not on silent ones, nor on those that hold the same sound as the loudest. waves: (channels,
    samples).
    """
    if len(waves) == 1:
        return []
    product = products(waves)
    power = np.diag(product)
    loudest, found = int(np.argmax(power)), {}
    for number in np.flatnonzero(power < power[loudest] * 10 ** (-QUIET_DB / 10)).tolist():
        sounds = dsp.frames_dbfs(waves[number]).max() > DIGITAL_DBFS
        same = product[number, loudest] ** 2 >= ALIKE_R2 * power[number] * power[loudest]
        if sounds and not same:
            found[number + 1] = 10 * np.log10(power[loudest] / power[number])
    if not found:
        return []
    if len(found) == 1:
        return [f"channel {min(found)} is {min(found.values()):.0f} dB quieter and is not scored"]
    least = f"{min(found.values()):.0f} dB or more"
    return [f"channels {', '.join(map(str, found))} are {least} quieter and are not scored"]


def _different(product: np.ndarray, power: np.ndarray) -> list[int]:
    """Numbers of the channels that differ from those before them, in their order."""
    heard = np.flatnonzero(power >= power.max() * 10 ** (-QUIET_DB / 10))
    chosen = []
    for number in heard.tolist():
        alike = [product[number, other] ** 2 / power[number] / power[other] for other in chosen]
        if not alike or max(alike) < ALIKE_R2:
            chosen.append(number)
    return sorted(sorted(chosen, key=lambda number: -power[number])[:MOST])
