"""Readers of speech that Python packages ship as their test data, with the speakers' identities."""

import re
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from utils.sources.speech import lengths
from utils.sources.speech.base import Recording, Source, decode, decode_file

AMI_NATIVE = re.compile(r".EE\d+")  # M or F, E for Edinburgh, E for a native speaker of English
LEAST_S = 1.0  # of a stretch in which one person alone speaks
NOT_NATIVE = ("sawant",)


def council(source: Source, folder: Path) -> Iterator[Recording]:
    """Seattle City Council, sorted by people for a test of speaker identification.

    `diarized.zip` holds `<meeting>/<person>/<first>-<last>.wav`. Those whose first language is
    known to be another one are left out.
    """
    (path,) = folder.rglob("diarized.zip")
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            parts = PurePosixPath(name).parts
            if len(parts) != 3 or not name.endswith(".wav") or parts[1] in NOT_NATIVE:
                continue
            clips = lengths.cut(name, *decode(archive.read(name)))
            yield from lengths.recordings(source, f"{source.name}-{parts[1]}", clips)


def ami(source: Source, folder: Path) -> Iterator[Recording]:
    """Meetings of the AMI corpus, half a minute each: where one native speaker alone speaks.

    Who speaks when is in files `*.rttm`: SPEAKER, recording, channel, start (s), duration (s), two
    unused fields, speaker.
    """
    turns: dict[str, list[tuple[float, float, str]]] = {}
    for path in sorted(folder.rglob("*.rttm")):
        for line in path.read_text(encoding="utf-8").splitlines():
            kind, recording, _, start, duration, _, _, speaker, *_ = line.split()
            if kind == "SPEAKER":
                end = float(start) + float(duration)
                turns.setdefault(_plain(recording), []).append((float(start), end, speaker))
    for path in sorted(folder.rglob("*.wav")):
        name = _plain(path.stem)
        wave, rate = decode_file(path, {})
        for start, end, speaker in alone(turns.get(name, [])):
            if not AMI_NATIVE.fullmatch(speaker):
                continue
            part = wave[int(start * rate) : int(end * rate)]
            clips = lengths.cut(f"{name}@{start:.2f}", part, rate)
            yield from lengths.recordings(source, f"{source.name}-{speaker}", clips)


def _plain(name: str) -> str:
    """The name without accents: archives spell one file of the corpus in two ways."""
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()


def alone(turns: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """The stretches of at least `LEAST_S` in which nobody but the speaker of a turn has one."""
    result = []
    for start, end, speaker in sorted(turns):
        others = sorted(turn for turn in turns if turn[2] != speaker)
        free = start
        for first, last, _ in [*others, (end, end, "")]:
            if min(first, end) - free >= LEAST_S:
                result.append((free, min(first, end), speaker))
            free = max(free, last)
    return result
