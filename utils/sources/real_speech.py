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

from utils.sources.registry import fetch


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
        entries = [
            struct.unpack(">12sBII", file.read(21))
            for _ in range(struct.unpack(">H", header[13:15])[0])
        ]
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


def unpack_rnc(data: bytes) -> bytes:
    """Unpack a block of Rob Northen's compression, method 1: literals and copies under three Huffman codes a chunk.

    Raises ValueError for data of another kind, cut short or not of the promised size (format: the open `dernc` readers).
    """
    if data[:4] != b"RNC\x01" or len(data) < 18:
        raise ValueError("not an RNC block of method 1")
    at, bits, count, out = 18, 0, 0, bytearray()

    def take(wanted: int) -> int:
        nonlocal at, bits, count
        value = got = 0
        while got < wanted:
            if not count:  # the next 16 bits; literals go on where the last such word ended
                if at >= len(data):
                    raise ValueError("RNC: cut short")
                bits, count, at = int.from_bytes(data[at : at + 2], "little"), 16, at + 2
            step = min(wanted - got, count)
            value |= (bits & ((1 << step) - 1)) << got
            bits, count, got = bits >> step, count - step, got + step
        return value

    def table() -> dict[tuple[int, int], int]:
        lengths, codes, code = [take(4) for _ in range(take(5))], {}, 0
        for length in range(1, 16):
            for symbol in (i for i, used in enumerate(lengths) if used == length):
                codes[length, code], code = symbol, code + 1
            code <<= 1
        return codes

    def number(codes: dict) -> int:
        code = length = 0
        while (length, code) not in codes:
            code, length = code << 1 | take(1), length + 1
            if length > 15:
                raise ValueError("RNC: a code that is in no table")
        symbol = codes[length, code]
        return symbol if symbol < 2 else 1 << (symbol - 1) | take(symbol - 1)

    size = int.from_bytes(data[4:8], "big")
    take(2)
    for _ in range(data[17]):
        literal, distance, length = table(), table(), table()
        for left in range(take(16) - 1, -1, -1):
            run = number(literal)
            out += data[at : at + run]
            at += run
            if left:
                back, run = number(distance) + 1, number(length) + 2
                if back > len(out) or len(out) + run > size:
                    raise ValueError("RNC: a copy from outside the block")
                for _ in range(run):
                    out.append(out[-back])
    if len(out) != size:
        raise ValueError(f"RNC: {len(out)} of {size} bytes")
    return bytes(out)


def _steel_sky(folder: Path) -> Iterator[Recording]:
    """Beneath a Steel Sky: `sky.dnr` lists number (2 bytes), place (3) and size with flags (3) of the files in `sky.dsk`.

    Speech is 50000…59999: 22 bytes of header, then 11,025 Hz unsigned 8-bit samples, packed (RNC) or not.
    """
    (index,), (disk,) = folder.rglob("sky.dnr"), folder.rglob("sky.dsk")
    table = index.read_bytes()
    for entry in (
        table[i : i + 8] for i in range(4, 4 + 8 * int.from_bytes(table[:4], "little"), 8)
    ):
        number, place, size = (
            int.from_bytes(part, "little") for part in (entry[:2], entry[2:5], entry[5:])
        )

        def load(place=(place & 0x7FFFFF) << (4 if place >> 23 else 0), size=size & 0x3FFFFF):
            with disk.open("rb") as file:
                file.seek(place)
                data = file.read(size)[22:]
            samples = np.frombuffer(unpack_rnc(data) if data[:3] == b"RNC" else data, np.uint8)
            return (samples.astype(np.float32) - 128) / 128, 11025

        if 50000 <= number < 60000:
            yield Recording(
                "steel-sky", f"{number}", "en", "steel-sky-cast", "steel-sky-cast", load
            )


def _drascula(source, language):
    """Drascula: `.ALS` is 32 bytes of header, then 11,025 Hz unsigned 8-bit samples."""

    def read(folder: Path) -> Iterator[Recording]:
        for path in sorted(folder.rglob("*.ALS")):
            load = (
                lambda path=path: (  # noqa: E731
                    (np.frombuffer(path.read_bytes()[32:], np.uint8).astype(np.float32) - 128)
                    / 128,
                    11025,
                )
            )
            yield Recording(source, path.name, language, source, source, load)

    return read


def _ktuberling(language):
    """KTuberling: one speaker a language; `ru` is the woman of Tux Paint's `be`. Names of things, 1–3 s."""

    def read(folder: Path) -> Iterator[Recording]:
        for key, load in _files(folder, f"sounds/{language}/*.*"):
            if Path(key).suffix in (".ogg", ".wav"):
                yield Recording(
                    f"ktuberling-{language}",
                    key,
                    language,
                    f"ktuberling-{language}",
                    "tuxpaint",
                    load,
                )

    return read


def _tuxpaint(language):
    return _one_voice(
        f"tuxpaint-{language}", f"*_desc_{language}.ogg", language, f"tuxpaint-{language}"
    )


@dataclass(frozen=True)
class Source:
    """A source of real speech: Debian package, licence, language, and the reader of its layout."""

    package: str
    licence: str
    language: str
    read: Callable[[Path], Iterator[Recording]] = field(repr=False)


SOURCES = {
    "asterisk-en": Source(
        "asterisk-core-sounds-en-wav",
        "CC-BY-SA-3.0",
        "en",
        _one_voice("asterisk-en", "*.wav", "en", "allison"),
    ),
    "asterisk-es": Source(
        "asterisk-core-sounds-es-wav",
        "CC-BY-SA-3.0",
        "es",  # the same woman as asterisk-en
        _one_voice("asterisk-es", "*.wav", "es", "allison"),
    ),
    "asterisk-fr": Source(
        "asterisk-core-sounds-fr-wav",
        "CC-BY-SA-3.0",
        "fr",
        _one_voice("asterisk-fr", "*.wav", "fr", "june"),
    ),
    "asterisk-it": Source(
        "asterisk-core-sounds-it-wav",
        "CC-BY-SA-3.0",
        "it",
        _one_voice("asterisk-it", "*.wav", "it", "carlo"),
    ),
    "asterisk-ru": Source(
        "asterisk-core-sounds-ru-wav",
        "CC-BY-3.0",
        "ru",
        _one_voice("asterisk-ru", "*.wav", "ru", "ivrvoice-ru"),
    ),
    "menardi": Source(
        "asterisk-prompt-it-menardi-wav",
        "CC-BY-SA-3.0",
        "it",
        _one_voice("menardi", "*.wav", "it", "menardi"),
    ),
    "armelle": Source(
        "asterisk-prompt-fr-armelle",
        "BSD-like",
        "fr",
        _one_voice("armelle", "*.gsm", "fr", "armelle", GSM),
    ),
    "es-co": Source(
        "asterisk-prompt-es-co", "GPL-2", "es", _one_voice("es-co", "*.gsm", "es", "es-co", GSM)
    ),
    "fillets-cs": Source("fillets-ng-data-cs", "GPL-2", "cs", _fillets("fillets-cs", "cs")),
    "fillets-nl": Source("fillets-ng-data-nl", "GPL-2", "nl", _fillets("fillets-nl", "nl")),
    "festvox-ru": Source(
        "festvox-ru", "BSD-like", "ru", _one_voice("festvox-ru", "*.wav", "ru", "nsh")
    ),
    "queen": Source("flight-of-the-amazon-queen", "freeware-like (DFSG)", "en", _queen),
    "steel-sky": Source("beneath-a-steel-sky", "freeware-like (DFSG)", "en", _steel_sky),
    "drascula-en": Source("drascula", "freeware-like (DFSG)", "en", _drascula("drascula-en", "en")),
    "drascula-es": Source(
        "drascula-spanish", "freeware-like (DFSG)", "es", _drascula("drascula-es", "es")
    ),
} | {
    f"tuxpaint-{code}": Source("tuxpaint-stamps-default", "GPL-2", code, _tuxpaint(code))
    for code in ("be", "bg", "ca", "da", "el", "es", "fr", "ro", "ru")
}
SOURCES |= {
    f"ktuberling-{code}": Source("ktuberling-data", "GPL/LGPL", code, _ktuberling(code))
    for code in ("ca", "da", "de", "el", "en", "fr", "gl", "lt", "ru", "sl", "uk")
}


def recordings(source: str, seed: int = 0) -> list[Recording]:
    """All recordings of a source in an order that depends on `seed` and their names only. Fetches what is missing."""
    entry = SOURCES[source]
    found = list(entry.read(fetch([entry.package])[entry.package]))
    return sorted(found, key=lambda r: hashlib.md5(f"{seed}/{source}/{r.key}".encode()).digest())


def sentences(language: str) -> list[str]:
    """Sentences for synthesisers, duplicates dropped, in the same languages and partly the very texts of the recordings.

    bg cs de en es fr it nl pl ru sl sv: the dialogues of Fish Fillets (cs and nl are recorded). Any other language of the
    75 of Tux Paint: its descriptions of stamps, three to a line (be bg ca da el es fr ro ru are recorded).
    """
    scripts = fetch(["fillets-ng-data"])["fillets-ng-data"] / "usr/share/games/fillets-ng/script"
    pattern = (
        r'dialogId\("[^"]+", "[^"]+", "(.+?)"\)' if language == "en" else r'dialogStr\("(.+?)"\)'
    )
    lines = []
    for path in sorted(scripts.glob(f"*/dialogs_{language if language != 'en' else 'cs'}.lua")):
        lines += re.findall(pattern, path.read_text(encoding="utf-8"))
    lines = [re.sub(r"\\.|\s+", " ", line).strip() for line in lines]
    lines = [line for line in dict.fromkeys(lines) if 15 <= len(line) <= 90]
    return lines or _stamp_texts(language)


def _stamp_texts(language: str) -> list[str]:
    folder = fetch(["tuxpaint-stamps-default"])["tuxpaint-stamps-default"]
    key = {"zh": "zh_CN"}.get(language, language)
    found = [
        re.search(rf"^{key}\.utf8=(.+)$", path.read_text(encoding="utf-8", errors="replace"), re.M)
        for path in sorted(folder.rglob("stamps/**/*.txt"))
    ]
    texts = sorted(
        {m[1].strip().rstrip(".。|") for m in found if m},
        key=lambda t: hashlib.md5(t.encode()).digest(),
    )
    if not texts:
        raise ValueError(f"no sentences in {language!r}: neither Fish Fillets nor Tux Paint has it")
    stop = {"zh": "。", "ja": "。"}.get(language, ". ")
    return [(stop.join(texts[i : i + 3]) + stop).strip() for i in range(0, len(texts) - 2, 3)]
