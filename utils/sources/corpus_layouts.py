"""Readers of the published layouts of public corpora: folder → clips with label, system, speaker.

Every layout comes from published descriptions and other people's loaders; no corpus was at hand
(only FinVCup 9 was tried, on 30 real clips). Expect the first real corpus to surprise.

A reader is called as `reader(folder, keys)`, `keys` being the glob of the corpus's key files, and
yields a `CorpusClip` for each clip. Where keys name the clips, `KEYED` has the reader; where the
paths say everything, `tree` makes one from the rules in `inputs/public_corpora.toml`.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from utils import contracts

AUDIO = {".wav", ".flac", ".mp3", ".ogg", ".opus"}
# Who recorded it: (speaker in the name of a clip, language). Corpora that re-use the recordings
# keep the names.
SPEAKERS = {
    "VCTK": (r"(?:^|[_+])(p\d{3}|s5)_\d{3}", "en"),
    "AISHELL-1": (r"BAC009(S\d{4})W\d{4}", "zh"),
    "AISHELL-3": (r"(SSB\d{4})\d{4}", "zh"),
}
# <locale>/by_book/<gender>/<reader>/; by_book/mix has a book in place of the reader
MAILABS = r"(?P<group>(?P<language>[a-z]{2})_[A-Z]{2}/by_book/\w+/(?P<speaker>[^/]+))/"


@dataclass(frozen=True)
class CorpusClip:
    """One audio file of a public corpus.

    label: the corpus's word for it (see `public_corpora.LABELS`), "" where it should have one and
        has none, None where it should have none (noise, test clips).
    group: shared by clips that share a speaker or a recording; "": a group of its own.
    spans: (start s, end s) of the spoof parts of a partly spoofed clip.
    """

    path: Path
    label: str | None = ""
    system: str = "unknown"
    language: str = "unknown"
    speaker: str = "unknown"
    group: str = ""
    spans: tuple[tuple[float, float], ...] = ()


Reader = Callable[[Path, str], Iterator[CorpusClip]]


def tree(
    rules: Sequence[dict[str, str]],
    owner: str = "",
    languages: Mapping[str, str] | None = None,
    labelled: bool = True,
) -> Reader:
    """Reader of a corpus whose paths, the folder's own name included, say everything.

    rules: dicts with a regular expression (`pattern`) and facts (fields of `CorpusClip`); the named
        groups of the pattern are facts too. The first rule whose pattern is found in the path
        counts. A clip that no rule fits comes without a label.
    owner: goes before the group, or else before the speaker. A speaker that the pattern does not
        name is taken from the clip's name (`SPEAKERS`).
    languages: the corpus's words for languages → ISO 639 codes, where they differ.
    labelled: False for corpora of noise.
    """

    def clip(path: Path, tail: str) -> CorpusClip:
        for rule in rules:
            if match := re.search(rule["pattern"], tail):
                break
        else:
            return CorpusClip(path)
        facts = {key: value for key, value in rule.items() if key != "pattern"}
        facts |= match.groupdict()
        if not labelled:
            facts["label"] = None
        owned = facts.get("group", facts.get("speaker"))
        if owner and owned:
            facts["group"] = f"{owner}-{owned}"
        if "speaker" not in facts:
            facts |= _speaker(path.name)
        if languages and "language" in facts:
            facts["language"] = languages.get(facts["language"], facts["language"])
        return CorpusClip(path, **facts)

    def read(folder: Path, _keys: str) -> Iterator[CorpusClip]:
        for path in _audio(folder):
            yield clip(path, path.relative_to(folder.parent).as_posix())

    return read


def keyed(parse: Callable[..., CorpusClip], separator: str = "") -> Reader:
    """Reader of a corpus with key files: `parse(key, row, find)` makes a clip of each row.

    key: path of the key file. row: the words of a line or, with a separator, a dict by the header.
    find: looks a clip's path up by its stem, or by `<folder>/<name>`.
    Audio that no key names comes last, unlabelled. Raises ContractError, with key and row, for a
    row of another form.
    """

    def read(folder: Path, keys: str) -> Iterator[CorpusClip]:
        files = _audio(folder)
        index = {path.stem: path for path in files}
        index |= {f"{path.parent.name}/{path.name}": path for path in files}
        named = set()
        for key in sorted(folder.glob(keys)):
            for number, row in enumerate(_rows(key, separator), start=1):
                try:
                    clip = parse(key, row, lambda name: index.get(name, folder / name))
                except (LookupError, TypeError, ValueError) as error:
                    raise contracts.ContractError(
                        f"{key}, row {number}: not of the published form ({error!r})"
                    ) from error
                named.add(clip.path)
                yield clip
        yield from (CorpusClip(path) for path in files if path not in named)

    return read


def _rows(key: Path, separator: str) -> Iterator[list[str] | dict[str, str]]:
    """The rows of a key file that are not empty: see `keyed`."""
    with key.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if not separator:
            yield from filter(None, map(str.split, file))
            return
        # only CSV quotes its fields: the transcripts of other tables hold single quotation marks
        quoting = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
        yield from filter(None, csv.DictReader(file, delimiter=separator, quoting=quoting))


def _audio(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO)


def _speaker(name: str) -> dict[str, str]:
    """speaker, group and language of a clip named after a corpus in `SPEAKERS`, else {}."""
    for owner, (pattern, language) in SPEAKERS.items():
        if match := re.search(pattern, name):
            return {"speaker": match[1], "group": f"{owner}-{match[1]}", "language": language}
    return {}


def _spans(segments: list[list[str]], spoof: str) -> tuple[tuple[float, float], ...]:
    """The spoof parts of (start s, end s, label) segments; () if the clip is of one class."""
    parts = tuple((float(start), float(end)) for start, end, label in segments if label == spoof)
    return parts if len(parts) < len(segments) else ()


def _finvcup9(folder: Path, _keys: str) -> Iterator[CorpusClip]:
    """Both rounds. The labels of the test clips were never published."""
    for train in sorted(folder.rglob("train")):
        key = train.parent / "train_label.txt"
        if not key.exists():
            raise contracts.ContractError(f"{key} is missing: the archive has it beside train/")
        labels = contracts.read_labels(key).map({0: "spoof", 1: "bonafide"})
        for name in sorted({*labels.index, *(path.name for path in _audio(train))}):
            yield CorpusClip(train / name, labels.get(name, ""))
    yield from (CorpusClip(path, None) for path in sorted(folder.rglob("test/*.wav")))


def _demo_pages(key, row, find):
    """What `python -m utils.sources.demo_pages` wrote.

    Real speech that passed through a neural codec has no label.
    """
    label = {"1": "bonafide", "0": "spoof"}.get(row["label"])
    facts = {name: row[name] for name in ("system", "language", "speaker", "group")}
    return CorpusClip(key.parent / row["file"], label, **facts)


def _asvspoof(system: int, label: int, owner: str = "ASVspoof") -> Callable:
    """Lines `speaker clip … system … bonafide|spoof …`, `system` and `label` being their columns.

    `owner` names the groups of the speakers. In 2021 DF, speakers that are not LA_… belong to the
    corpus in the fourth column (vcc2018, vcc2020; VCC 2020 is also Finnish, German and Mandarin).
    """

    def parse(key, row, find):
        speaker, corpus, language = row[0], owner, "en"
        if owner == "ASVspoof" and not speaker.startswith("LA_"):
            corpus = row[3].upper()
            if corpus == "VCC2020":
                language = "unknown"
        group = f"{corpus}-{speaker}"
        return CorpusClip(find(row[1]), row[label], row[system], language, speaker, group)

    return parse


def _in_the_wild(key, row, find):
    path, speaker = key.parent / row["file"], row["speaker"]
    group = f"In-the-Wild-{speaker}"
    return CorpusClip(path, row["label"], language="en", speaker=speaker, group=group)


def _common_voice(key, row, find):
    """`<locale>/validated.tsv`: everything there is real speech."""
    speaker = row["client_id"][:32]
    path, language = key.parent / "clips" / row["path"], key.parent.name.split("-")[0]
    group = f"CommonVoice-{speaker}"
    return CorpusClip(path, "bonafide", "unknown", language, speaker, group)


def _partialspoof(key, row, find):
    """Lines of ASVspoof 2019 LA, with spans from `vad/<split>/<clip>.vad` (start end label).

    There, the label 0 is spoof. The published frame labels are pickles, which we do not open.
    """
    speaker, name, _, system, label = row[:5]
    database, split = key.parents[2], key.name.split(".")[3]
    stamps = database / "vad" / split / f"{Path(name).name}.vad"
    segments = [line.split() for line in stamps.read_text().splitlines()] if stamps.exists() else []
    path, group = database / split / "con_wav" / f"{name}.wav", f"ASVspoof-{speaker}"
    return CorpusClip(path, label, system, "en", speaker, group, _spans(segments, "0"))


def _llama(key, row, find):
    """`dev01-<system>_<reader>_… seconds spoof 0.00-0.38-bonafide 0.38-1.81-spoof …`.

    The bona fide clips are named `dev-clean_<reader>_…`.
    """
    name, _, label, *segments = row
    system, reader = name.split("_")[:2]
    return CorpusClip(
        key.parent / key.stem.removeprefix("label_") / f"{name}.wav",
        label,
        re.sub(r"^(dev|test)\d*-", "", system),
        "en",
        reader,
        f"LibriVox-{reader}",
        _spans([segment.split("-") for segment in segments], "spoof"),
    )


def _add(key, row, find):
    """`<clip>.wav genuine|fake`, or (ADD 2023, track 2) `<clip> 0.00-1.62-T/1.62-2.48-F 0|1`.

    There, 1 is genuine and F fake. The clips are beside the key or in its `wav/`; those of
    `label/train_label.txt` are in `train/`. Other labels (track 3) are refused.
    """
    folder = key.parent
    if folder.name == "label":
        folder = key.parents[1] / key.stem.removesuffix("_label")
    if (folder / "wav").is_dir():
        folder /= "wav"
    path = folder / f"{row[0].removesuffix('.wav')}.wav"
    if len(row) == 3 and "-" in row[1]:
        label = {"0": "spoof", "1": "bonafide"}.get(row[2], row[2])
        segments = [segment.split("-") for segment in row[1].split("/")]
        return CorpusClip(path, label, language="zh", spans=_spans(segments, "F"))
    return CorpusClip(path, row[1], language="zh")


def _codecfake(key, row, find):
    """`<clip>.wav real|fake <codec>`: speech that passed through a neural codec is fake there.

    Codec 1 … 7 = C1 … C7; L1 … L3 = A1 … A3 (audio language models; A3 holds sounds besides
    speech).
    """
    name, label, codec = row[:3]
    system = f"A{codec[1:]}" if codec.startswith("L") else f"C{codec}"
    return CorpusClip(find(f"{key.stem}/{name}"), label, system, **_speaker(name))


def _mlaad(key, row, find):
    """The group is that of the M-AILABS reader whose sentence the spoof repeats."""
    original = re.search(MAILABS, row["original_file"])
    return CorpusClip(
        key.parent / Path(row["path"]).name,
        "spoof",
        row["model_name"],
        key.parents[1].name.split("-")[0],
        group=f"M-AILABS-{original['group']}" if original else "",
    )


KEYED: dict[str, Reader] = {
    "demo_pages": keyed(_demo_pages, ","),
    "FinVCup9": _finvcup9,
    "ASVspoof2019-LA": keyed(_asvspoof(system=3, label=4)),
    "ASVspoof2021-DF": keyed(_asvspoof(system=4, label=5)),
    "ASVspoof5": keyed(_asvspoof(system=7, label=8, owner="ASVspoof5")),
    "In-the-Wild": keyed(_in_the_wild, ","),
    "MLAAD": keyed(_mlaad, "|"),
    "ADD2022": keyed(_add),
    "ADD2023": keyed(_add),
    "Codecfake": keyed(_codecfake),
    "PartialSpoof": keyed(_partialspoof),
    "LlamaPartialSpoof": keyed(_llama),
    "CommonVoice": keyed(_common_voice, "\t"),
}
