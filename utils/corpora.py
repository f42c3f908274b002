"""Real speech that Debian ships, as lists of clips with language, speaker and group.

Nobody listened to every clip: "human" rests on the packages' credits. Where a game's cast is not documented, the whole
cast is one group, since one actor may play several roles.
"""
import fnmatch
import hashlib
import io
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile as sf

from utils.fetch import fetch


@dataclass(frozen=True)
class Recording:
    """One real recording. `load()` gives (wave float32 mono, rate in Hz); `group` ties what shares a speaker."""

    source: str
    key: str
    language: str
    speaker: str
    group: str
    load: Callable[[], tuple[np.ndarray, int]] = field(repr=False, compare=False)


def decode(data: bytes, **raw) -> tuple[np.ndarray, int]:
    """Decode bytes with libsndfile to (mono float32, rate); `raw` describes headerless data."""
    wave, rate = sf.read(io.BytesIO(data), dtype="float32", always_2d=True, **raw)
    return wave.mean(axis=1), rate


GSM = {"format": "RAW", "subtype": "GSM610", "samplerate": 8000, "channels": 1}
SPEECHLESS = ("silence/*", "*beep*", "*tone*", "*/letters/ascii*", "*/phonetic/*", "*/silence/*")


def _files(folder: Path, pattern: str, raw: dict | None = None) -> Iterator[tuple[str, Callable]]:
    """Yield (key, loader) for files below `folder`, sorted, without the files that hold no speech."""
    for path in sorted(folder.rglob(pattern)):
        key = path.relative_to(folder).as_posix()
        if not any(fnmatch.fnmatch(key, out) for out in SPEECHLESS):
            yield key, lambda path=path: decode(path.read_bytes(), **(raw or {}))


def _one_voice(source, pattern, language, speaker, raw=None):
    def read(folder: Path) -> Iterator[Recording]:
        for key, load in _files(folder, pattern, raw):
            yield Recording(source, key, language, speaker, speaker, load)

    return read


def _fillets(source, language):
    """Fish Fillets: the second part of a name is the role, m and v the two main ones, each with its own actor."""

    def read(folder: Path) -> Iterator[Recording]:
        for key, load in _files(folder, "*.ogg"):
            parts = Path(key).stem.split("-")
            role = parts[1] if len(parts) > 1 and re.fullmatch(r"[a-z]{1,3}", parts[1]) else "other"
            group = f"{source}-{role if role in 'mv' else 'small-roles'}"
            if role != "other" and parts[0] != "sp":
                yield Recording(source, key, language, f"{source}-{role}", group, load)

    return read


def _queen(folder: Path) -> Iterator[Recording]:
    """Flight of the Amazon Queen: `queen.1c` is 'QTBL', a 15-byte header, 21-byte entries; `.SB` entries are MP3.

    In a dialogue file `NNxxxxJd` is Joe, the hero, and `NNxxxxPd` the other party of dialogue NN.
    """
    (path,) = folder.rglob("queen.1c")
    with path.open("rb") as file:
        header = file.read(15)
        if header[:4] != b"QTBL":
            raise ValueError(f"{path}: does not start with QTBL")
        entries = [struct.unpack(">12sBII", file.read(21)) for _ in range(struct.unpack(">H", header[13:15])[0])]
    for name, _, offset, size in entries:
        name = name.split(b"\0")[0].decode("latin1")
        match = re.fullmatch(r"(\d\d)....(J|P)\d\.SB", name)
        if not (match or re.fullmatch(r"JOE\d+\.SB", name)):
            continue
        speaker = f"queen-{match[1]}" if match and match[2] == "P" else "queen-joe"

        def load(offset=offset, size=size):
            with path.open("rb") as file:
                file.seek(offset)
                return decode(file.read(size))

        yield Recording("queen", name, "en", speaker, "queen-cast", load)


def _drascula(source, language):
    """Drascula: `.ALS` is 32 bytes of header, then 11,025 Hz unsigned 8-bit samples."""

    def read(folder: Path) -> Iterator[Recording]:
        for path in sorted(folder.rglob("*.ALS")):
            load = lambda path=path: (  # noqa: E731
                (np.frombuffer(path.read_bytes()[32:], np.uint8).astype(np.float32) - 128) / 128, 11025)
            yield Recording(source, path.name, language, source, source, load)

    return read


def _tuxpaint(language):
    return _one_voice(f"tuxpaint-{language}", f"*_desc_{language}.ogg", language, f"tuxpaint-{language}")


@dataclass(frozen=True)
class Source:
    """A source of real speech: Debian package, licence, language, and the reader of its layout."""

    package: str
    licence: str
    language: str
    read: Callable[[Path], Iterator[Recording]] = field(repr=False)


SOURCES = {
    "asterisk-en": Source("asterisk-core-sounds-en-wav", "CC-BY-SA-3.0", "en",
                          _one_voice("asterisk-en", "*.wav", "en", "allison")),
    "asterisk-es": Source("asterisk-core-sounds-es-wav", "CC-BY-SA-3.0", "es",  # the same woman as asterisk-en
                          _one_voice("asterisk-es", "*.wav", "es", "allison")),
    "asterisk-fr": Source("asterisk-core-sounds-fr-wav", "CC-BY-SA-3.0", "fr",
                          _one_voice("asterisk-fr", "*.wav", "fr", "june")),
    "asterisk-it": Source("asterisk-core-sounds-it-wav", "CC-BY-SA-3.0", "it",
                          _one_voice("asterisk-it", "*.wav", "it", "carlo")),
    "asterisk-ru": Source("asterisk-core-sounds-ru-wav", "CC-BY-3.0", "ru",
                          _one_voice("asterisk-ru", "*.wav", "ru", "ivrvoice-ru")),
    "menardi": Source("asterisk-prompt-it-menardi-wav", "CC-BY-SA-3.0", "it",
                      _one_voice("menardi", "*.wav", "it", "menardi")),
    "armelle": Source("asterisk-prompt-fr-armelle", "BSD-like", "fr",
                      _one_voice("armelle", "*.gsm", "fr", "armelle", GSM)),
    "es-co": Source("asterisk-prompt-es-co", "GPL-2", "es", _one_voice("es-co", "*.gsm", "es", "es-co", GSM)),
    "fillets-cs": Source("fillets-ng-data-cs", "GPL-2", "cs", _fillets("fillets-cs", "cs")),
    "fillets-nl": Source("fillets-ng-data-nl", "GPL-2", "nl", _fillets("fillets-nl", "nl")),
    "queen": Source("flight-of-the-amazon-queen", "freeware-like (DFSG)", "en", _queen),
    "drascula-en": Source("drascula", "freeware-like (DFSG)", "en", _drascula("drascula-en", "en")),
    "drascula-es": Source("drascula-spanish", "freeware-like (DFSG)", "es", _drascula("drascula-es", "es")),
} | {f"tuxpaint-{code}": Source("tuxpaint-stamps-default", "GPL-2", code, _tuxpaint(code))
     for code in ("bg", "ca", "da", "el", "es", "fr", "ro", "ru")}


def recordings(source: str, seed: int = 0) -> list[Recording]:
    """All recordings of a source in an order that depends on `seed` and their names only. Fetches what is missing."""
    entry = SOURCES[source]
    found = list(entry.read(fetch([entry.package])[entry.package]))
    return sorted(found, key=lambda r: hashlib.md5(f"{seed}/{source}/{r.key}".encode()).digest())


def sentences(language: str) -> list[str]:
    """Sentences for synthesisers: the dialogues of Fish Fillets, whose cs and nl recordings say the same lines.

    Languages: cs de en es fr it nl pl ru and others of the package; order as in the game, duplicates dropped.
    """
    scripts = fetch(["fillets-ng-data"])["fillets-ng-data"] / "usr/share/games/fillets-ng/script"
    pattern = r'dialogId\("[^"]+", "[^"]+", "(.+?)"\)' if language == "en" else r'dialogStr\("(.+?)"\)'
    lines = []
    for path in sorted(scripts.glob(f"*/dialogs_{language if language != 'en' else 'cs'}.lua")):
        lines += re.findall(pattern, path.read_text(encoding="utf-8"))
    lines = [re.sub(r"\\.|\s+", " ", line).strip() for line in lines]
    return [line for line in dict.fromkeys(lines) if 15 <= len(line) <= 90]
