"""What a reader of real speech yields, and reading of files."""

import fnmatch
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import soundfile as sf

GSM = {"format": "RAW", "subtype": "GSM610", "samplerate": 8000, "channels": 1}
SUFFIXES = (".au", ".flac", ".gsm", ".mp3", ".ogg", ".opus", ".wav")
MULAW = {"format": "RAW", "subtype": "ULAW", "samplerate": 8000, "channels": 1}
WITHOUT_SPEECH = (
    *("silence/*", "*/silence/*", "*beep*", "*tone*"),
    *("*/letters/ascii*", "*/phonetic/*"),
)


@dataclass(frozen=True)
class Recording:
    """One real recording of a source.

    key: its name within the source. group: shared by all recordings that can have one speaker.
    load(): the wave (float32, mono, full scale ±1, shape (samples,)) and its rate in Hz.
    """

    source: str
    key: str
    language: str
    speaker: str
    group: str
    load: Callable[[], tuple[np.ndarray, int]] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Source:
    """A source of real speech: name, package, licence, language and reader of its layout.

    `reader(source, folder)` yields the recordings of the unpacked package.
    """

    name: str
    package: str
    licence: str
    language: str
    reader: Callable[["Source", Path], Iterator[Recording]] = field(repr=False)


def decode(data: bytes, **raw) -> tuple[np.ndarray, int]:
    """Decode bytes with libsndfile to (mono float32, rate in Hz); `raw` describes raw samples."""
    wave, rate = sf.read(io.BytesIO(data), dtype="float32", always_2d=True, **raw)
    return wave.mean(axis=1), rate


def decode_file(path: Path, raw: dict) -> tuple[np.ndarray, int]:
    """What `decode` gives for the content of a file."""
    return decode(path.read_bytes(), **raw)


def files(folder: Path, *patterns: str) -> Iterator[tuple[str, Path]]:
    """(key, path) of the sound files below `folder`, sorted, without those with no speech."""
    found = {path for pattern in patterns for path in folder.rglob(pattern)}
    for path in sorted(found):
        key = path.relative_to(folder).as_posix()
        silent = any(fnmatch.fnmatch(key, without) for without in WITHOUT_SPEECH)
        if path.suffix in SUFFIXES and not silent:
            yield key, path


def one_voice(pattern: str, speaker: str = "", raw: dict | None = None) -> Callable:
    """Reader of a package with one speaker, by default named like the source."""

    def read(source: Source, folder: Path) -> Iterator[Recording]:
        who = speaker or source.name
        for key, path in files(folder, pattern):
            load = partial(decode_file, path, raw or {})
            yield Recording(source.name, key, source.language, who, who, load)

    return read
