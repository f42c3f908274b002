"""Make a manifest of a public corpus that lies under inputs/external/NAME in its published layout.

`manifest(NAME, folder)` gives the manifest's columns; the audio stays where it is. `check` says
what a layout lacks. A file that does not fit is listed with a reason, never dropped. A new corpus
is an entry of `inputs/public_corpora.toml`; where its clips are named by files of labels, also a
reader in `corpus_layouts.KEYED`.

`group` is `<who recorded it>-<speaker>`, so that corpora which share recordings share groups:
VCTK-p225, AISHELL-3-SSB0005, LibriVox-1272 (LibriSpeech, LibriTTS and MLS number readers as
LibriVox does), ASVspoof-LA_0001 (anonymised: cannot be tied to VCTK). A clip of which nothing is
known is a group of its own, as in `competition.archive.build_manifest`.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import soundfile as sf

from utils import contracts, parallel, paths
from utils.audio import channel, dsp, reading
from utils.code_digest import code_digest
from utils.sources.corpus_layouts import KEYED, CorpusClip, Reader, tree

TABLE = paths.ROOT / "inputs" / "public_corpora.toml"
LABELS = {"bonafide": 1, "bona-fide": 1, "genuine": 1, "real": 1, "spoof": 0, "fake": 0}
LONGEST_S, SHORTEST_S = 15, 1  # of a conditioned clip
PACKET_LOSS = 0.1  # fraction of the conditioned clips that lose packets
# what the corpora that have no entry in the table contain
ORIGINS = {"LibriTTS": ("LibriSpeech",), "LJSpeech": ("LibriVox",)}


@dataclass(frozen=True)
class Corpus:
    """A public corpus: an entry of `inputs/public_corpora.toml`, which explains the fields."""

    licence: str
    home: str
    needs: dict[str, str]
    reader: Reader = field(repr=False)
    contains: tuple[str, ...] = ()
    kind: str = "speech"

    @property
    def keys(self) -> str:
        """Glob of the key files (where the corpus has some)."""
        return next(iter(self.needs))


def _read_table(table: Path) -> dict[str, Corpus]:
    corpora = {}
    for name, entry in tomllib.loads(table.read_text(encoding="utf-8")).items():
        kind = entry.get("kind", "speech")
        if "rules" in entry:
            reader = tree(
                entry["rules"],
                owner=entry.get("owner", ""),
                languages=entry.get("languages"),
                labelled=kind != "noise",
            )
        elif name in KEYED:
            reader = KEYED[name]
        else:
            raise contracts.ContractError(
                f"{table}: {name} has neither rules nor a reader in utils/sources/corpus_layouts.py"
            )
        contains = tuple(entry.get("contains", ()))
        corpora[name] = Corpus(
            entry["licence"], entry["home"], entry["needs"], reader, contains, kind
        )
    return corpora


CORPORA = _read_table(TABLE)


def check(name: str, folder: Path) -> Path:
    """The absolute folder of the corpus `name`; the folder itself may be a link to another disk.

    Raises ContractError that names what is missing, where, and where the corpus is published.
    """
    if name not in CORPORA:
        raise contracts.ContractError(
            f"{name!r} is no known corpus: add a row to {TABLE} (utils/README.md says how)"
        )
    try:
        folder = paths.HOME / paths.relative_to_home(folder)
    except ValueError as error:
        raise contracts.ContractError(
            f"{folder}: not in the project; put the corpus, or a link to it, under "
            f"{paths.INPUTS / 'external'}"
        ) from error
    for pattern, what in CORPORA[name].needs.items():
        if next(folder.glob(pattern), None) is None:
            raise contracts.ContractError(
                f"{folder}: nothing in it matches {pattern} ({what}). {name} is published at "
                f"{CORPORA[name].home}; unpack it into this folder and keep its own folders"
            )
    return folder


def manifest(name: str, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(manifest, rejected) of the corpus `name` in `folder`; every clip is read once.

    manifest: checked, with the columns `contracts.MANIFEST`. `label` is <NA> for noise and test
        clips; `spans` is JSON [[start_s, end_s], …] of the spoof parts of a partly spoofed clip, ""
        where they are unknown or the clip is of one class.
    rejected: id and reason: missing, unreadable, truncated, silent, unlabelled, listed twice.

    Raises ContractError as `check` does, and for a key file of another form.
    """
    corpus, folder = CORPORA[name], check(name, folder)
    accepted, rejected, root = {}, [], folder.resolve()
    clips = list(corpus.reader(folder, corpus.keys))
    for clip in parallel.progress(clips, name, unit="clip"):
        key = f"{name}/{Path(os.path.relpath(clip.path, folder)).as_posix()}"
        try:
            if key in accepted:
                raise dsp.AudioError(f"{clip.path.name}: listed twice")
            _check_clip(clip, root)
            duration, rate = _measure(clip.path)
        except dsp.AudioError as error:
            rejected.append({"id": key, "reason": str(error)})
            continue
        label = LABELS.get(clip.label)
        accepted[key] = {
            "id": key,
            "path": clip.path.relative_to(paths.HOME).as_posix(),
            "label": label,
            "split": "test" if name == "FinVCup9" and clip.label is None else "external",
            "source": name,
            "system": "bonafide" if label == 1 else clip.system,
            "language": clip.language,
            "speaker": clip.speaker,
            "group": clip.group or key,
            "duration_s": duration,
            "sample_rate": rate,
            "licence": corpus.licence,
            "spans": json.dumps(clip.spans) if clip.spans else "",
        }
    table = pd.DataFrame(list(accepted.values()), columns=contracts.MANIFEST)
    table = contracts.check_manifest(table.astype({"label": "Int64"}), f"manifest of {name}")
    return table, pd.DataFrame(rejected, columns=["id", "reason"])


def _check_clip(clip: CorpusClip, root: Path) -> None:
    """Raise AudioError for a path that is none or leaves `root`, and for an unknown label."""
    name = clip.path.name
    if "\0" in str(clip.path):
        raise dsp.AudioError(f"{name!r}: no file has such a name")
    if ".." in clip.path.parts or not clip.path.resolve().is_relative_to(root):
        raise dsp.AudioError(f"{name}: its key leaves {root}")
    if clip.label == "":
        raise dsp.AudioError(
            f"{name}: unlabelled, no key names it and its path is not of the layout"
        )
    if clip.label is not None and clip.label not in LABELS:
        raise dsp.AudioError(f"{name}: unlabelled, its key says {clip.label!r}")


def _measure(path: Path) -> tuple[float, int]:
    """(duration in s, rate in Hz) of a clip that is read to its end.

    Raises AudioError as `reading.read` does, and for a truncated MP3.
    """
    seconds, header = len(reading.read(path)) / dsp.RATE, sf.info(path)
    if seconds < 0.95 * header.duration:
        raise dsp.AudioError(
            f"{path.name}: truncated, {seconds:.2f} of {header.duration:.2f} s are there"
        )
    return round(header.duration, 4), header.samplerate


def condition(table: pd.DataFrame, folder: Path, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bring external clips through the channel that the competition's clips passed.

    table: a manifest. Returns (manifest of the conditioned clips, rejected: id and reason). They
    are written to `folder/clips` (8 kHz, at most `LONGEST_S`), and as they were before the channel
    to `folder/raw`. All that is random follows from `seed` and the clip's id. Clips that the same
    code made earlier are kept, unless their source is newer.
    """
    rows, rejected = [], []
    _remove_outdated(folder)
    for name in ("clips", "raw"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for row in parallel.progress(table.to_dict("records"), "condition", unit="clip"):
        name = hashlib.md5(f"{seed}/{row['id']}".encode()).hexdigest() + ".wav"
        target = folder / "clips" / name
        try:
            if not _is_newer(target, paths.HOME / row["path"]):
                _condition_clip(row, target, folder / "raw" / name, seed)
        except dsp.AudioError as error:
            rejected.append({"id": row["id"], "reason": str(error)})
            continue
        changed = {
            "path": target.relative_to(paths.HOME).as_posix(),
            "sample_rate": dsp.RATE,
            "duration_s": round(sf.info(target).duration, 4),
        }
        rows.append(row | changed)
    conditioned = pd.DataFrame(rows, columns=table.columns).astype({"label": "Int64"})
    return conditioned, pd.DataFrame(rejected, columns=["id", "reason"])


def _remove_outdated(folder: Path) -> None:
    """Remove the conditioned clips in `folder` if other code than today's made them."""
    made_by, code = folder / "code.txt", code_digest(_condition_clip)
    if made_by.exists() and made_by.read_text() == code:
        return
    for name in ("clips", "raw"):
        shutil.rmtree(folder / name, ignore_errors=True)
    with paths.whole(made_by) as temporary:
        temporary.write_text(code)


def _is_newer(target: Path, source: Path) -> bool:
    """Whether `target` exists and was written after `source`."""
    if not (target.exists() and source.exists()):
        return False
    return target.stat().st_mtime_ns >= source.stat().st_mtime_ns


def _condition_clip(row: dict, target: Path, raw: Path, seed: int) -> None:
    wave = reading.read(paths.HOME / row["path"])[: LONGEST_S * dsp.RATE]
    rng = parallel.seeded_rng(seed, row["id"])
    conditioned, *_ = channel.condition(wave, dsp.RATE, rng, channel.TELEPHONE, PACKET_LOSS)
    conditioned = dsp.check_wave(conditioned, row["id"])
    if len(conditioned) < SHORTEST_S * dsp.RATE:
        raise dsp.AudioError(
            f"{row['id']}: {len(conditioned) / dsp.RATE:.2f} s of speech, under {SHORTEST_S} s"
        )
    for path, samples in ((raw, wave), (target, conditioned)):
        with paths.whole(path) as temporary:
            reading.write(temporary, samples)


def sources(name: str) -> set[str]:
    """The corpora whose recordings `name` holds, directly or through another one, and itself."""
    direct = CORPORA[name].contains if name in CORPORA else ORIGINS.get(name, ())
    return {name}.union(*map(sources, direct))


def contamination() -> pd.DataFrame:
    """Square, symmetric table over all corpora and their sources: 1 where two share a source, or 0.

    To train on one and test on the other is then no cross-corpus test. Containing is transitive
    (PartialSpoof → ASVspoof 2019 LA → VCTK), sharing is not. A common source means that some
    recordings can be the same, not that all are.
    """
    names = sorted(set().union(*map(sources, CORPORA)))
    shared = [[int(not sources(a).isdisjoint(sources(b))) for b in names] for a in names]
    return pd.DataFrame(shared, names, names)


def main(argv: list[str] | None = None) -> int:
    """Command line: write a manifest; returns the exit code."""
    layouts = []
    for name, corpus in CORPORA.items():
        layouts.append(f"{name}  [{corpus.licence}]  {corpus.home}")
        layouts += [f"    {glob}  ({what})" for glob, what in corpus.needs.items()]
    parser = argparse.ArgumentParser(
        prog="python -m utils.sources.public_corpora",
        description=__doc__.split("\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="The corpora: licence, place of publication, what the folder must hold:\n"
        + "\n".join(layouts),
    )
    parser.add_argument("name", metavar="NAME", choices=CORPORA, help="one of the corpora below")
    parser.add_argument(
        "folder", metavar="FOLDER", type=Path, help="where it lies, e.g. inputs/external/NAME"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="manifest to write; rejected.csv goes beside it"
    )
    options = parser.parse_args(argv)
    try:
        table, rejected = manifest(options.name, options.folder)
    except contracts.ContractError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for frame, target in ((table, options.out), (rejected, options.out.with_name("rejected.csv"))):
        with paths.whole(target) as temporary:
            frame.to_csv(temporary, index=False)
    print(
        f"{options.out}: {len(table)} clips of {options.name}, "
        f"{len(rejected)} rejected (rejected.csv)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
