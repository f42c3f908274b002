"""Clips of a length like the competition's, from recordings that are shorter or longer.

Long recordings are cut in their pauses. Short sounds of one speaker (letters, names of things) are
joined, each with what the room sounds like before and after it.
"""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from utils import parallel
from utils.audio import dsp
from utils.sources.speech.base import Recording, Source, decode_file, files

SECONDS = (3.0, 9.0)  # the length that a clip is made for is drawn from here
PAUSE_S = 0.2  # quiet for so long is a pause
FRAME_S = 0.02
MARGIN_S = 0.2  # of the room, before and after a sound that is joined
FADE_S = 0.01
JOINED_RATE = 16000  # Hz
MOST_SOUNDS = 100  # of a speaker that are joined: decoding a thousand takes ten seconds

Named = tuple[str, np.ndarray, int]  # (key, wave, rate in Hz)


def cut(key: str, wave: np.ndarray, rate: int, seconds: tuple = SECONDS) -> Iterator[Named]:
    """Parts of a long recording, cut in its pauses; what lies between two parts is left out.

    Each part lasts at most as long as a number drawn from `seconds` (from the key, so that it
    repeats), or is a single phrase. A phrase longer than the upper end is cut where it is quietest.
    """
    rng = parallel.seeded_rng(0, "cut", key)
    start, end, number = None, 0, 0
    wanted = rng.uniform(*seconds)
    for first, last in [*_phrases(wave, rate, seconds[1]), (np.inf, np.inf)]:
        if start is not None and last - start > wanted * rate:
            yield f"{key}#{number}", wave[start:end], rate
            start, number, wanted = None, number + 1, rng.uniform(*seconds)
        if first < np.inf:
            start, end = (first if start is None else start), last


def _phrases(wave: np.ndarray, rate: int, longest: float) -> list[tuple[int, int]]:
    """(first, last) sample of each stretch between pauses, none longer than `longest` seconds."""
    level, size = dsp.frames_dbfs(wave, rate, FRAME_S), int(rate * FRAME_S)
    loudest, quietest = np.percentile(level, [95, 10])
    edge = max(min(max(loudest - 30, quietest + 6), loudest - 10), dsp.SILENT_DBFS)
    loud = np.flatnonzero(level > edge)
    if not len(loud):
        return []
    breaks = np.flatnonzero(np.diff(loud) > PAUSE_S / FRAME_S)
    spans = zip(loud[[0, *(breaks + 1)]], loud[[*breaks, -1]] + 1, strict=True)
    most, margin = int(longest / FRAME_S), int(PAUSE_S / 2 / FRAME_S)
    result = []
    for first, last in spans:
        first, last = max(0, first - margin), min(len(level), last + margin)
        while last - first > most:
            middle = first + most // 2 + int(np.argmin(level[first + most // 2 : first + most]))
            result.append((first * size, middle * size))
            first = middle
        result.append((first * size, last * size))
    return result


def join(sounds: list[Named], seconds: tuple = SECONDS) -> Iterator[Named]:
    """Clips of several sounds in the given order, each used once. Rate: `JOINED_RATE`.

    A clip is full when it lasts as long as a number drawn from `seconds` (from the first key, so
    that it repeats) or the next sound would make it longer than the upper end of them. What is left
    at the end makes one if it lasts as long as the lower end.
    """
    rng = parallel.seeded_rng(0, "join", *(key for key, *_ in sounds[:1]))
    names, parts, length, wanted = [], [], 0.0, rng.uniform(*seconds)
    for key, wave, rate in sounds:
        part = _with_room(dsp.resample(wave, rate, JOINED_RATE), JOINED_RATE)
        more = len(part) / JOINED_RATE
        if parts and (length >= wanted or length + more > seconds[1]):
            yield f"{names[0]}+{len(names) - 1}", np.concatenate(parts), JOINED_RATE
            names, parts, length, wanted = [], [], 0.0, rng.uniform(*seconds)
        names.append(key)
        parts.append(part)
        length += more
    if length >= seconds[0]:
        yield f"{names[0]}+{len(names) - 1}", np.concatenate(parts), JOINED_RATE


def _some(sounds: Iterator[tuple[str, Path]], raw: dict) -> list[Named]:
    """At most `MOST_SOUNDS` of these files in random order (which repeats), decoded.

    Of the same samples under several names there is one, of silent ones none.
    """
    found: dict[bytes, Named] = {}
    for key, path in sorted(sounds, key=lambda sound: hashlib.md5(sound[0].encode()).digest()):
        wave, rate = decode_file(path, raw)
        if dsp.frames_dbfs(wave, rate).max() > dsp.SILENT_DBFS:
            found.setdefault(hashlib.md5(wave.tobytes()).digest(), (key, wave, rate))
        if len(found) == MOST_SOUNDS:
            break
    return list(found.values())


def in_a_row(sounds: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, int]:
    """(wave, rate) of several sounds of one speaker, one after the other, at the first one's rate.

    A single one stays as it is.
    """
    rate = sounds[0][1]
    if len(sounds) == 1:
        return sounds[0]
    parts = [_with_room(dsp.resample(wave, own, rate), rate) for wave, own in sounds]
    return np.concatenate(parts), rate


def _with_room(wave: np.ndarray, rate: int) -> np.ndarray:
    """The loud part of a sound with `MARGIN_S` around it, silent where the file has none."""
    margin, fade = int(MARGIN_S * rate), int(FADE_S * rate)
    padded = np.pad(wave, margin)
    found = dsp.loud_part(wave, rate, margin=0)
    part = padded[found.start : found.stop + 2 * margin].copy()
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    part[:fade] *= ramp
    part[-fade:] *= ramp[::-1]
    return part


def recordings(
    source: Source, speaker: str, clips: Iterator[Named], group: str = ""
) -> Iterator[Recording]:
    """`clips` as recordings of one speaker, who is a group unless one is named."""
    for key, wave, rate in clips:
        load = partial(_given, wave, rate)
        yield Recording(source.name, key, source.language, speaker, group or speaker, load)


def _given(wave: np.ndarray, rate: int) -> tuple[np.ndarray, int]:
    return wave, rate


def cut_voice(*patterns: str, group: str = "", seconds: tuple = SECONDS) -> Callable:
    """Reader of long recordings of one speaker, named like the source."""

    def read(source: Source, folder: Path) -> Iterator[Recording]:
        for key, path in files(folder, *patterns):
            clips = cut(key, *decode_file(path, {}), seconds)
            yield from recordings(source, source.name, clips, group)

    return read


def joined_voice(*patterns: str, group: str = "", raw: dict | None = None) -> Callable:
    """Reader of short sounds of one speaker, named like the source."""

    def read(source: Source, folder: Path) -> Iterator[Recording]:
        clips = join(_some(files(folder, *patterns), raw or {}))
        yield from recordings(source, source.name, clips, group)

    return read
