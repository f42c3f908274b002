"""Public corpora that a user put under `inputs/external/<name>/`, each from its published layout to one manifest.

`manifest(NAME, folder)` gives the manifest's columns; the audio stays where it is. No corpus is on the machine
this was written on: every layout comes from published descriptions and other people's loaders (FinVCup 9 was also tried on
30 real clips), so expect the first real copy of a corpus to surprise. `check` says what a layout lacks; a file that does not
fit is listed with a reason, never dropped. A new corpus is an entry of `CORPORA`: `_tree` where paths tell all, `_keyed`
where a file of labels does.

`group` is `<who recorded it>-<speaker>`, so that corpora which share recordings share groups: VCTK-p225, AISHELL-3-SSB0005,
LibriVox-1272 (LibriSpeech, LibriTTS and MLS number readers as LibriVox does), ASVspoof-LA_0001 (anonymised: cannot be tied
to VCTK). A clip of which nothing is known is its own group, as in `data.build_manifest`.
"""

import argparse
import csv
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import soundfile as sf

from utils import contracts, parallel, paths
from utils.audio import channel, dsp, reading

AUDIO = {".wav", ".flac", ".mp3", ".ogg", ".opus"}
LABELS = {"bonafide": 1, "bona-fide": 1, "genuine": 1, "real": 1, "spoof": 0, "fake": 0}
LANGUAGES = {
    "cmn": "zh",
    "dutch": "nl",
    "english": "en",
    "french": "fr",
    "german": "de",
    "italian": "it",
    "polish": "pl",
    "portuguese": "pt",
    "spanish": "es",
}  # FLEURS and MLS; the others use ISO codes
SPEAKERS = {  # who recorded it: speaker in the name of a clip, language; corpora that re-use the recordings keep the names
    "VCTK": (r"(?:^|[_+])(p\d{3}|s5)_\d{3}", "en"),
    "AISHELL-1": (r"BAC009(S\d{4})W\d{4}", "zh"),
    "AISHELL-3": (r"(SSB\d{4})\d{4}", "zh"),
}
MAILABS = r"(?P<group>(?P<language>[a-z]{2})_[A-Z]{2}/by_book/\w+/(?P<speaker>[^/]+))/"  # below by_book/mix: a book, no reader
LJ, JSUT = (
    {"language": "en", "speaker": "LJ", "group": "LJSpeech-LJ"},
    {"language": "ja", "speaker": "JSUT", "group": "JSUT-JSUT"},
)
BONAFIDE, SPOOF = {"label": "real"}, {"label": "fake"}


@dataclass(frozen=True)
class Clip:
    """One audio file. label: the corpus's word for it (see `LABELS`), "" where it should have one, None where it should not
    (noise, test clips). spans: (start s, end s) of the fake parts of a partly fake clip. group "": a group of its own."""

    path: Path
    label: str | None = ""
    system: str = "unknown"
    language: str = "unknown"
    speaker: str = "unknown"
    group: str = ""
    spans: tuple = ()


def _audio(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO)


def _speaker(name: str) -> dict:
    """speaker, group and language of a clip whose name follows a corpus in `SPEAKERS`; {} for any other."""
    for owner, (pattern, language) in SPEAKERS.items():
        if match := re.search(pattern, name):
            return {"speaker": match[1], "group": f"{owner}-{match[1]}", "language": language}
    return {}


def _spans(segments: list[list[str]], spoof: str) -> tuple:
    """Parts labelled `fake` of (start s, end s, label) segments; () for a clip that is fake, or real, from end to end."""
    parts = tuple((float(start), float(end)) for start, end, label in segments if label == spoof)
    return parts if len(parts) < len(segments) else ()


def _tree(*rules: tuple[str, dict], owner: str = "") -> Callable:
    """Reader of a corpus whose paths, the folder's own name included, tell everything.

    The first rule (pattern, facts) that matches counts; its named groups are facts too. `owner` goes before the group, or
    the speaker; a speaker that the pattern does not name comes from the clip's name.
    """

    def clip(path, tail):
        for pattern, known in rules:
            if match := re.search(pattern, tail):
                facts = known | match.groupdict()
                if owner and (tie := facts.get("group", facts.get("speaker"))):
                    facts["group"] = f"{owner}-{tie}"
                facts |= {} if "speaker" in facts else _speaker(path.name)
                language = facts.get("language", "unknown")
                return Clip(path, **facts | {"language": LANGUAGES.get(language, language)})
        return Clip(path)

    return lambda folder, _: (
        clip(path, path.relative_to(folder.parent).as_posix()) for path in _audio(folder)
    )


def _keyed(parse: Callable, separator: str = "") -> Callable:
    """Reader of a corpus with key files: `parse(key, row, find)` makes a Clip of each row.

    A row is a line's words or, with a separator, a dict by the header. `find` looks a clip up by stem or by `folder/name`.
    Audio that no key names comes last, unlabelled. Raises ContractError, naming the row, for a row of another form.
    """

    def read(folder, keys):
        files = _audio(folder)
        index = {path.stem: path for path in files} | {
            f"{path.parent.name}/{path.name}": path for path in files
        }
        named = set()
        for key in sorted(folder.glob(keys)):
            with key.open(encoding="utf-8-sig", errors="replace", newline="") as file:
                quoting = (
                    csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
                )  # transcripts hold lone quotes
                table = (
                    csv.DictReader(file, delimiter=separator, quoting=quoting)
                    if separator
                    else map(str.split, file)
                )
                for number, row in enumerate(filter(None, table), start=1):
                    try:
                        clip = parse(key, row, lambda name: index.get(name, folder / name))
                    except (LookupError, TypeError, ValueError) as error:
                        raise contracts.ContractError(
                            f"{key}, row {number}: not of the published form ({error!r})"
                        ) from error
                    named.add(clip.path)
                    yield clip
        yield from (Clip(path) for path in files if path not in named)

    return read


def _finvcup9(folder, _):
    """Both rounds. Test clips never had a published label: they come without one and get the split "test"."""
    for home in sorted(folder.rglob("train")):
        if not (key := home.parent / "train_label.txt").exists():
            raise contracts.ContractError(
                f"{key} is missing: it came in the archive, beside train/"
            )
        labels = contracts.read_labels(key).map({0: "fake", 1: "real"})
        yield from (
            Clip(home / name, labels.get(name, ""))
            for name in sorted({*labels.index, *(p.name for p in _audio(home))})
        )
    yield from (Clip(path, None) for path in sorted(folder.rglob("test/*.wav")))


def _demo_pages(key, row, find):
    """What `python -m utils.sources.demo_pages` wrote; neural-codec copies of real speech have no label."""
    return Clip(
        key.parent / row["file"],
        {"1": "real", "0": "fake"}.get(row["label"]),
        row["system"],
        row["language"],
        row["speaker"],
        row["group"],
    )


def _asvspoof(system: int, label: int, owner: str = "ASVspoof") -> Callable:
    """Lines `speaker clip … system … bonafide|spoof …` with the latter two at these places. `owner` names the speakers'
    groups; in 2021 DF speakers that are not LA_… belong to the corpus in the fourth place (vcc2018, vcc2020)."""

    def parse(key, row, find):
        foreign = owner == "ASVspoof" and not row[0].startswith("LA_")
        language = (
            "unknown" if foreign and row[3] == "vcc2020" else "en"
        )  # VCC 2020: also Finnish, German and Mandarin
        return Clip(
            find(row[1]),
            row[label],
            row[system],
            language,
            row[0],
            f"{row[3].upper() if foreign else owner}-{row[0]}",
        )

    return parse


def _partialspoof(key, row, find):
    """ASVspoof 2019 LA lines. Spans come from `vad/<split>/<clip>.vad` (start end label, 0 = spoof) and not from the frame
    labels, which are pickles."""
    database, split = key.parents[2], key.name.split(".")[3]
    stamps = database / "vad" / split / f"{Path(row[1]).name}.vad"
    segments = [line.split() for line in stamps.read_text().splitlines()] if stamps.exists() else []
    return Clip(
        database / split / "con_wav" / f"{row[1]}.wav",
        row[4],
        row[3],
        "en",
        row[0],
        f"ASVspoof-{row[0]}",
        _spans(segments, "0"),
    )


def _llama(key, row, find):
    """`dev01-<system>_<reader>_… seconds spoof 0.00-0.38-bonafide 0.38-1.81-spoof …`; the bona fide: `dev-clean_<reader>_…`."""
    what, reader = row[0].split("_")[:2]
    return Clip(
        key.parent / key.stem.removeprefix("label_") / f"{row[0]}.wav",
        row[2],
        re.sub(r"^(dev|test)\d*-", "", what),
        "en",
        reader,
        f"LibriVox-{reader}",
        _spans([part.split("-") for part in row[3:]], "spoof"),
    )


def _add(key, row, find):
    """`<clip>.wav genuine|fake`, or in ADD 2023 track 2 `<clip> 0.00-1.62-T/1.62-2.48-F 0|1` (1 genuine, F fake). The clips
    lie beside the key or in its `wav/`; those of `label/train_label.txt` in `train/`. Other labels (track 3) are refused."""
    home = (
        key.parents[1] / key.stem.removesuffix("_label")
        if key.parent.name == "label"
        else key.parent
    )
    path = (
        home / "wav" if (home / "wav").is_dir() else home
    ) / f"{row[0].removesuffix('.wav')}.wav"
    if len(row) == 3 and "-" in row[1]:
        segments = [part.split("-") for part in row[1].split("/")]
        return Clip(
            path,
            {"0": "fake", "1": "real"}.get(row[2], row[2]),
            language="zh",
            spans=_spans(segments, "F"),
        )
    return Clip(path, row[1], language="zh")


def _codecfake(key, row, find):
    """`<clip>.wav real|fake <codec>`: speech that went through a neural codec is fake, as the corpus has it. Codec 1 … 7 =
    C1 … C7; L1 … L3 = A1 … A3 (audio language models; A3 holds sounds besides speech)."""
    system = f"A{row[2][1:]}" if row[2].startswith("L") else f"C{row[2]}"
    return Clip(find(f"{key.stem}/{row[0]}"), row[1], system, **_speaker(row[0]))


def _mlaad(key, row, find):
    """The group is that of the M-AILABS reader whose sentence (and clip) the fake repeats; the voice is the model's."""
    original = re.search(MAILABS, row["original_file"])
    return Clip(
        key.parent / Path(row["path"]).name,
        "fake",
        row["model_name"],
        key.parents[1].name.split("-")[0],
        group=f"M-AILABS-{original['group']}" if original else "",
    )


@dataclass(frozen=True)
class Corpus:
    """licence and place of publication; needs: globs that must match and what they are, a corpus's keys first; read: (folder,
    first glob) → clips; contains: corpora whose recordings or fakes are in it, or were re-synthesised for it."""

    licence: str
    home: str
    needs: dict[str, str]
    read: Callable[[Path, str], Iterator[Clip]] = field(repr=False)
    contains: tuple[str, ...] = ()
    kind: str = "speech"  # or "noise"


CORPORA = {
    "demo_pages": Corpus(
        "by page, see inputs/demo_pages.tsv",
        "python -m utils.sources.demo_pages fetches it",
        {"meta.csv": "keys", "clips/*.wav": "clips"},
        _keyed(_demo_pages, ","),
        ("LibriTTS", "VCTK", "LJSpeech", "GigaSpeech"),
    ),
    "FinVCup9": Corpus(
        "not published", "FinVolution's competition of 2024", {"**/test/*.wav": "clips"}, _finvcup9
    ),
    "ASVspoof2019-LA": Corpus(
        "ODC-By-1.0",
        "https://datashare.ed.ac.uk/handle/10283/3336",
        {
            "**/ASVspoof2019_LA_cm_protocols/*.cm.*.txt": "keys",
            "**/ASVspoof2019_LA_*/flac/*.flac": "clips",
        },
        _keyed(_asvspoof(3, 4)),
        ("VCTK",),
    ),
    "ASVspoof2021-DF": Corpus(
        "ODC-By-1.0",
        "https://zenodo.org/records/4835108, keys on https://www.asvspoof.org",
        {
            "**/keys/DF/CM/trial_metadata.txt": "keys",
            "**/ASVspoof2021_DF_eval/flac/*.flac": "clips",
        },
        _keyed(_asvspoof(4, 5)),
        ("ASVspoof2019-LA", "VCC2018", "VCC2020"),
    ),
    "ASVspoof5": Corpus(
        "ODC-By-1.0",
        "https://zenodo.org/records/14498691",
        {"**/ASVspoof5.*[n1].tsv": "keys, train and track_1", "**/flac_*/*.flac": "clips"},
        _keyed(_asvspoof(7, 8, "ASVspoof5")),
        ("MLS",),
    ),
    "In-the-Wild": Corpus(
        "Apache-2.0",
        "https://deepfake-total.com/in_the_wild",
        {"**/meta.csv": "keys, the clips beside them"},
        _keyed(
            lambda key, row, find: Clip(
                key.parent / row["file"],
                row["label"],
                "unknown",
                "en",
                row["speaker"],
                f"In-the-Wild-{row['speaker']}",
            ),
            ",",
        ),
    ),
    "MLAAD": Corpus(
        "CC-BY-NC-4.0",
        "https://deepfake-total.com/mlaad; its real side is the corpus M-AILABS",
        {"**/fake/*/*/meta.csv": "keys, fake/<language>/<model>/, with the clips beside them"},
        _keyed(_mlaad, "|"),
        ("M-AILABS",),
    ),
    "M-AILABS": Corpus(
        "BSD-like",
        "https://github.com/imdatceleste/m-ailabs-dataset",
        {"**/by_book/**/wavs/*.wav": "clips, <locale>/by_book/<gender>/<reader>/<book>/wavs/"},
        _tree((MAILABS, BONAFIDE), owner="M-AILABS"),
        ("LibriVox",),
    ),
    "WaveFake": Corpus(
        "CC-BY-SA-4.0",
        "https://zenodo.org/records/5642694; LJSpeech-1.1/ and jsut_ver1.1/ may lie beside it",
        {"**/generated_audio/*/*.wav": "clips"},
        _tree(
            (r"_audio/(?P<system>jsut_[^/]+)/", JSUT | SPOOF),
            (r"_audio/(?P<system>[^/]*ljspeech[^/]*)/", LJ | SPOOF),
            (r"LJSpeech-1\.1/wavs/", LJ | BONAFIDE),
            (r"jsut_ver1\.1/basic5000/wav/", JSUT | BONAFIDE),
        ),
        ("LJSpeech", "JSUT"),
    ),
    "FoR": Corpus(
        "LGPL-3.0",
        "https://bil.eecs.yorku.ca/datasets/",
        {  # its versions are copies: the number ties most of them
            "**/training/*/*.*": "clips, for-{original,norm,2seconds,rerecorded}/{training,validation,testing}/{real,fake}/"
        },
        _tree(
            (r"/(?P<label>real|fake)/(?P<group>file\d+)[^/]*$", {"language": "en"}),
            (r"/(?P<label>real|fake)/[^/]+$", {"language": "en"}),
            owner="FoR",
        ),
        ("CMU-ARCTIC", "LJSpeech", "VoxForge"),
    ),
    "CFAD": Corpus(
        "CC-BY-4.0",
        "https://zenodo.org/records/8122764",
        {  # an utterance's versions begin alike
            "**/*_version/*/*_*/*/*.wav": "clips, <version>/<split>/{real,fake}_<version>/<source or model>/"
        },
        _tree(
            (
                r"_version/[^/]+/(?P<label>real|fake)_[^/]+/(?P<system>[^/]+)/(?P<group>[^/_.]+)[^/]*$",
                {"language": "zh"},
            ),
            owner="CFAD",
        ),
        ("AISHELL-1", "AISHELL-3", "THCHS-30", "MAGICDATA"),
    ),
    "ADD2022": Corpus(
        "CC-BY-NC-ND-4.0",
        "https://zenodo.org/records/12188127 and others, http://addchallenge.cn",
        {"**/*label.txt": "keys, ADD_train_dev/label/*_label.txt, or label.txt beside the clips"},
        _keyed(_add),
        ("AISHELL-3",),
    ),
    "ADD2023": Corpus(
        "CC-BY-NC-ND-4.0",
        "http://addchallenge.cn",
        {"**/label.txt": "keys, with the clips in wav/ beside them"},
        _keyed(_add),
        ("AISHELL-3",),
    ),
    "Codecfake": Corpus(
        "CC-BY-NC-ND-4.0",
        "https://zenodo.org/records/11171708",
        {
            "**/label/*.txt": "keys, {train,dev,C1,…,A3}.txt, with the clips in folders of those names"
        },
        _keyed(_codecfake),
        ("VCTK", "AISHELL-3", "AudioCaps"),
    ),
    "CodecFake-VCTK": Corpus(
        "CC-BY-4.0",
        "https://huggingface.co/datasets/rogertseng/CodecFake",
        {"**/*+*.wav": "clips, <codec>+<VCTK clip>.wav, all fake"},
        _tree((r"(?P<system>[^/+]+)\+[^/]+$", SPOOF)),
        ("VCTK",),
    ),
    "DFADD": Corpus(
        "MIT",
        "https://github.com/isjwdu/DFADD",
        {"**/DATASET_*/*/*.*": "clips, DATASET_<model>/{train,valid,test}/"},
        _tree(("DATASET_[^/]*BONAFIDE/", BONAFIDE), (r"DATASET_(?P<system>[^/]+)/", SPOOF)),
        ("VCTK",),
    ),
    "PartialSpoof": Corpus(
        "CC-BY-4.0",
        "https://zenodo.org/records/5766198",
        {
            "**/protocols/*/PartialSpoof.LA.cm.*.txt": "keys",
            "**/vad/*/*.vad": "time stamps",
            "**/con_wav/*.wav": "clips",
        },
        _keyed(_partialspoof),
        ("ASVspoof2019-LA",),
    ),
    "LlamaPartialSpoof": Corpus(
        "CC-BY-4.0",
        "https://zenodo.org/records/14214149",
        {"**/label_R01TTS.*.txt": "keys", "**/R01TTS.*/*.wav": "clips"},
        _keyed(_llama),
        ("LibriTTS",),
    ),
    "CommonVoice": Corpus(
        "CC0-1.0",
        "https://commonvoice.mozilla.org/datasets",
        {"**/validated.tsv": "keys, <locale>/", "**/clips/*.mp3": "clips"},
        _keyed(
            lambda key, row, find: Clip(
                key.parent / "clips" / row["path"],
                "real",
                "",
                key.parent.name.split("-")[0],
                row["client_id"][:32],
                f"CommonVoice-{row['client_id'][:32]}",
            ),
            "\t",
        ),
    ),
    "FLEURS": Corpus(
        "CC-BY-4.0",
        "https://huggingface.co/datasets/google/fleurs",
        {  # it does not tell the speakers
            "**/*_*/**/*.wav": "clips, data/<language>_<region>/audio/{train,dev,test}/, unpacked"
        },
        _tree(
            (
                r"(?:^|/)(?P<language>[a-z]{2,3})_[a-z0-9_]+/(?:audio/)?(?:train|dev|test)/[^/]+$",
                BONAFIDE,
            )
        ),
    ),
    "MLS": Corpus(
        "CC-BY-4.0",
        "https://www.openslr.org/94",
        {"**/audio/*/*/*.*": "clips, mls_<language>/<split>/audio/<reader>/<book>/"},
        _tree(
            (r"mls_(?P<language>[a-z]+)[^/]*/[^/]+/audio/(?P<speaker>\d+)/", BONAFIDE),
            owner="LibriVox",
        ),
        ("LibriVox",),
    ),
    "LibriSpeech": Corpus(
        "CC-BY-4.0",
        "https://www.openslr.org/12",
        {"**/*-*-*.flac": "clips, <subset>/<reader>/<chapter>/"},
        _tree(
            (r"(?P<speaker>\d+)-\d+-\d+\.flac$", BONAFIDE | {"language": "en"}), owner="LibriVox"
        ),
        ("LibriVox",),
    ),
    "AISHELL-1": Corpus(
        "Apache-2.0",
        "https://www.openslr.org/33",
        {"**/BAC009S*.wav": "clips, data_aishell/wav/<split>/<speaker>/, each archive unpacked"},
        _tree(("/BAC009S", BONAFIDE)),
    ),
    "AISHELL-3": Corpus(
        "Apache-2.0",
        "https://www.openslr.org/93",
        {"**/SSB*.wav": "clips, {train,test}/wav/<speaker>/"},
        _tree((r"/SSB\d{8}", BONAFIDE)),
    ),
    "MUSAN": Corpus(
        "CC-BY-4.0 and public domain",
        "https://www.openslr.org/17",
        {"**/noise/*/*.wav": "clips, {noise,music,speech}/<source>/"},
        _tree((r"/(?P<system>noise|music|speech)/[^/]+/[^/]+$", {"label": None})),
        ("LibriVox", "Freesound"),
        "noise",
    ),
    "RIRS_NOISES": Corpus(
        "Apache-2.0",
        "https://www.openslr.org/28",
        {"**/pointsource_noises/*.wav": "clips"},
        _tree(
            (
                r"/pointsource_noises/|/real_rirs_isotropic_noises/[^/]*noise[^/]*$",
                {"label": None, "system": "noise"},
            ),
            ("/real_rirs_isotropic_noises/|/simulated_rirs/", {"label": None, "system": "rir"}),
        ),
        ("MUSAN",),
        "noise",
    ),
    "DNS": Corpus(
        "CC-BY-4.0 and CC0-1.0",
        "https://github.com/microsoft/DNS-Challenge",
        {"**/noise*/**/*.wav": "clips, datasets_fullband/noise_fullband/ or datasets/noise/"},
        _tree(
            ("/noise[^/]*/", {"label": None, "system": "noise"}),
            ("/impulse_responses/", {"label": None, "system": "rir"}),
        ),
        ("AudioSet", "Freesound", "DEMAND"),
        "noise",
    ),
}
ORIGINS = {
    "LibriTTS": ("LibriSpeech",),
    "LJSpeech": ("LibriVox",),
}  # what corpora without an adapter are made of


def check(name: str, folder: Path) -> Path:
    """The folder, absolute (it may itself be a link). Raises ContractError naming what is missing, where, and its source."""
    folder = Path(os.path.abspath(folder))
    folder = folder.parent.resolve() / folder.name
    if not folder.is_relative_to(paths.HOME):
        raise contracts.ContractError(
            f"{folder}: not in the project; put the corpus, or a link to it, under {paths.INPUTS / 'external'}"
        )
    for pattern, what in CORPORA[name].needs.items():
        if next(folder.glob(pattern), None) is None:
            raise contracts.ContractError(
                f"{folder}: nothing there matches {pattern} ({what}). {name} is published at "
                f"{CORPORA[name].home}; unpack it there and keep its own folders"
            )
    return folder


def _measure(path: Path) -> tuple[float, int]:
    """(duration in s, rate in Hz) of a clip read to its end. Raises AudioError as `audio.read` does, and for a cut MP3."""
    seconds, header = len(reading.read(path)) / dsp.RATE, sf.info(path)
    if seconds < 0.95 * header.duration:
        raise dsp.AudioError(
            f"{path.name}: truncated, {seconds:.2f} of {header.duration:.2f} s are there"
        )
    return round(header.duration, 4), header.samplerate


def manifest(name: str, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(manifest, rejected) of the corpus `name` in `folder`; every clip is read once.

    manifest: `data.MANIFEST`, and in it spans (JSON [[start_s, end_s], …] of the fake parts; "" = unknown, whole or none), checked;
    label <NA> for noise and test clips. rejected: id and reason: missing, unreadable, truncated, silent, unlabelled, twice.
    """
    corpus, folder = CORPORA[name], check(name, folder)
    good, bad, root = {}, [], folder.resolve()
    clips = list(corpus.read(folder, next(iter(corpus.needs))))
    for clip in parallel.progress(clips, name, unit="clip"):
        key = f"{name}/{Path(os.path.relpath(clip.path, folder)).as_posix()}"
        try:
            if "\0" in key:
                raise dsp.AudioError(f"{clip.path.name!r}: no file has such a name")
            if (
                key in good
                or ".." in clip.path.parts
                or not clip.path.resolve().is_relative_to(root)
            ):
                raise dsp.AudioError(
                    f"{clip.path.name}: {'listed twice' if key in good else f'its key leaves {folder}'}"
                )
            if clip.label is not None and clip.label not in LABELS:
                raise dsp.AudioError(
                    f"{clip.path.name}: unlabelled, "
                    + (
                        f"its key says {clip.label!r}"
                        if clip.label
                        else "no key names it and its path is not of the layout"
                    )
                )
            duration, rate = _measure(clip.path)
        except dsp.AudioError as error:
            bad.append({"id": key, "reason": str(error)})
            continue
        good[key] = {
            "id": key,
            "path": clip.path.relative_to(paths.HOME).as_posix(),
            "label": LABELS.get(clip.label),
            "split": "test" if name == "FinVCup9" and clip.label is None else "external",
            "source": name,
            "system": "bonafide" if LABELS.get(clip.label) else clip.system,
            "language": clip.language,
            "speaker": clip.speaker,
            "group": clip.group or key,
            "duration_s": duration,
            "sample_rate": rate,
            "licence": corpus.licence,
            "spans": json.dumps(clip.spans) if clip.spans else "",
        }
    table = pd.DataFrame(list(good.values()), columns=contracts.MANIFEST).astype({"label": "Int64"})
    return contracts.check_manifest(table, f"manifest of {name}"), pd.DataFrame(
        bad, columns=["id", "reason"]
    )


def condition(table: pd.DataFrame, folder: Path, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bring external clips through the chain that the competition's clips passed; (manifest of the copies, rejected).

    The copies go to `folder/clips`, 8 kHz and at most 15 s, as they were to `folder/raw`; the draws follow from seed and id. What is
    there from an earlier run is kept.
    """
    rows, bad = [], []
    for part in ("clips", "raw"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for row in parallel.progress(table.to_dict("records"), "condition", unit="clip"):
        name = hashlib.md5(f"{seed}/{row['id']}".encode()).hexdigest() + ".wav"
        copy, raw = (folder / part / name for part in ("clips", "raw"))
        try:
            if not copy.exists():
                wave = reading.read(paths.HOME / row["path"])[: 15 * dsp.RATE]
                rng = parallel.seeded_rng(seed, row["id"])
                conditioned = dsp.check_wave(
                    channel.condition(wave, dsp.RATE, rng, channel.TELEPHONE, 0.1)[0], row["id"]
                )
                if len(conditioned) < dsp.RATE:
                    raise dsp.AudioError(
                        f"{row['id']}: {len(conditioned) / dsp.RATE:.2f} s of speech, under 1 s"
                    )
                for target, samples in ((raw, wave), (copy, conditioned)):
                    with paths.whole(target) as part:
                        reading.write(part, samples)
        except dsp.AudioError as error:
            bad.append({"id": row["id"], "reason": str(error)})
            continue
        rows.append(
            row
            | {
                "path": copy.relative_to(paths.HOME).as_posix(),
                "sample_rate": dsp.RATE,
                "duration_s": round(sf.info(copy).duration, 4),
            }
        )
    return pd.DataFrame(rows, columns=table.columns).astype({"label": "Int64"}), pd.DataFrame(
        bad, columns=["id", "reason"]
    )


def noise_files(
    name: str, folder: Path, systems: tuple[str, ...] = ("noise", "music")
) -> list[Path]:
    """Readable files of a noise corpus that hold `systems`: noise, music, speech (MUSAN), rir (room impulse responses)."""
    table, _ = manifest(name, folder)
    return [paths.HOME / path for path in table.loc[table["system"].isin(systems), "path"]]


def sources(name: str) -> set[str]:
    """The corpora whose recordings `name` holds, itself included, followed to the end."""
    direct = CORPORA[name].contains if name in CORPORA else ORIGINS.get(name, ())
    return {name}.union(*map(sources, direct))


def contamination() -> pd.DataFrame:
    """Square, symmetric table over all corpora and their sources: 1 where two hold recordings of a common source, else 0.

    To train on one and test on the other is then no cross-corpus test. Containing is transitive (PartialSpoof → ASVspoof 2019
    LA → VCTK), sharing is not. A common source means that recordings may be the same, not that they all are.
    """
    names = sorted(set().union(*map(sources, CORPORA)))
    return pd.DataFrame(
        [[int(not sources(a).isdisjoint(sources(b))) for b in names] for a in names], names, names
    )


if __name__ == "__main__":
    layouts = [
        f"{name}  [{c.licence}]  {c.home}\n    "
        + "\n    ".join(f"{glob}  ({what})" for glob, what in c.needs.items())
        for name, c in CORPORA.items()
    ]
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="corpora, licences, places, what a folder must hold:\n" + "\n".join(layouts),
    )
    parser.add_argument("name", metavar="NAME", choices=CORPORA, help="one of the corpora below")
    parser.add_argument(
        "folder", metavar="FOLDER", type=Path, help="where it lies, e.g. inputs/external/NAME"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="manifest to write; rejected.csv goes beside it"
    )
    arguments = parser.parse_args()
    try:
        tables = manifest(arguments.name, arguments.folder)
    except contracts.ContractError as problem:
        sys.exit(f"error: {problem}")
    for table, target in zip(
        tables, (arguments.out, arguments.out.with_name("rejected.csv")), strict=True
    ):
        with paths.whole(target) as part:
            table.to_csv(part, index=False)
    print(
        f"{arguments.out}: {len(tables[0])} clips of {arguments.name}, {len(tables[1])} rejected (rejected.csv)"
    )
