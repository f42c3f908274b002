"""Score recordings with the released detector: `python -m utils.predict PATH…`, or `load_detector().probability(path)`.

The probability is that of a bona fide clip where half of all clips are; the decision is bona fide above the card's threshold.
A recording longer than 10 s is scored piece by piece: the mean decides, the note tells the lowest.
What the detector (`utils/detector.py`) was trained on and how wrong it is stands in its card: read it first.
"""

import argparse
import contextlib
import csv
import glob
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from utils import contracts, parallel, paths
from utils.audio import dsp, reading
from utils.detector import batch_scoring, detector
from utils.models import language_id

COLUMNS = (
    "file",
    "p_bona_fide",
    "decision",
    "threshold",
    "threshold_from",
    "language",
    "p_language",
    "seconds",
    "note",
    "pieces",
)
UNDECIDED = "no decision"
THRESHOLD_FROM = "where half of all clips are bona fide; calibrated on pages left out"
SHORT_S = 1.0  # of sound; below this a score means little: nothing so short was trained on
SURE = 0.5  # a language less probable than this is 'unknown', as in notebook 01
NO_SPEECH = 0.6  # openai-whisper's own threshold
CLIPPED, CLIPPED_SHARE = (
    0.7,
    0.03,
)  # more than this share of the samples above this part of the peak: rare in mini's raw clips


def load_detector(folder: Path | str = detector.FOLDER) -> detector.Detector:
    """Open the released detector, or one that notebook 09 wrote. Raises FileNotFoundError with the remedy."""
    return detector.Detector(Path(folder))


def show(path: Path | str, folder: Path | str = detector.FOLDER):
    """In a notebook: print what the detector says of a recording, draw where it looks fake, give a player to hear it.

    Raises AudioError, naming the file, for what cannot be scored.
    """
    from IPython.display import Audio, Image, display

    wave, judge, picture = reading.read(Path(path)), Scorer(str(folder)), io.BytesIO()
    (row,), released = judge.rows([wave]), judge.released
    if not row["p_bona_fide"]:
        raise dsp.AudioError(f"{Path(path).name}: {row['note']}")
    print(
        f"p(bona fide) {float(row['p_bona_fide']):.3f}: {row['decision']}"
        + f"; {row['note']}" * bool(row["note"])
    )
    draw(picture, wave, released, Path(path).name)
    display(Image(picture.getvalue()))
    return Audio(wave, rate=dsp.RATE)


def draw(
    path,
    wave: np.ndarray,
    released: detector.Detector,
    title: str,
    size: tuple[float, float] = (9, 5.5),
) -> np.ndarray:
    """Draw where an 8 kHz wave looks fake to `path` (a file or a buffer, PNG); returns the probability of each half second."""
    from utils import plots

    plots.style()
    p, threshold = 1 / (1 + np.exp(-released.timeline(wave))), released.card["threshold"]
    plots.timeline(
        path,
        wave,
        dsp.RATE,
        p,
        detector.STEP_S,
        threshold,
        detector.spans(p <= threshold),
        title,
        size,
    )
    return p


class Scorer:
    """What `engines.score_files` asks: the columns of each clip."""

    def __init__(self, folder: str, version: str = "", heard: bool = True, abstain: bool = False):
        self.released, self.heard, self.abstain = load_detector(folder), heard, abstain
        if version and self.released.version != version:
            raise ValueError(f"{folder} changed while it was used: start again")

    def rows(self, waves: list) -> list[dict[str, str]]:
        """Columns of 8 kHz waves (`COLUMNS` without the file); probability and decision are empty where one cannot be scored."""
        heard = (
            language_id.detect_in_this_process(waves)
            if self.heard
            else [("", 0.0, 0.0)] * len(waves)
        )
        return [self._row(wave, *found) for wave, found in zip(waves, heard, strict=True)]

    def _row(self, wave, spoken: str, sure: float, silent: float) -> dict[str, str]:
        seconds, threshold = len(wave) / dsp.RATE, self.released.card["threshold"]
        row = dict.fromkeys(COLUMNS[1:], "") | {
            "seconds": f"{seconds:.2f}",
            "threshold": threshold,
            "threshold_from": THRESHOLD_FROM,
        }
        try:
            pieces = self.released.pieces(wave)
        except dsp.AudioError as error:
            return row | {"note": str(error)}
        p, likeness = (
            1 / (1 + np.exp(-np.mean([piece[2] for piece in pieces]))),
            np.mean([piece[3] for piece in pieces]),
        )
        notes = warnings(wave, silent) + ["unlike what it was trained on"] * bool(
            likeness < self.released.card.get("familiar", 0)
        )
        row |= {"p_bona_fide": f"{p:.6f}", "decision": "bona fide" if p > threshold else "spoof"}
        if self.abstain and notes:
            row["decision"] = UNDECIDED
        if spoken:
            row |= {"language": spoken if sure >= SURE else "unknown", "p_language": f"{sure:.2f}"}
        if len(pieces) > 1:
            shown = [(start, end, 1 / (1 + np.exp(-logit))) for start, end, logit, _ in pieces]
            start, end, low = min(shown, key=lambda piece: piece[2])
            notes.append(f"lowest {low:.3f} at {start:.0f}–{end:.0f} s of {seconds:.0f} s")
            row["pieces"] = "; ".join(f"{start:.2f}-{end:.2f} {p:.3f}" for start, end, p in shown)
        return row | {"note": "; ".join(notes)}


def warnings(wave: np.ndarray, silent: float = 0.0) -> list[str]:
    """Why the score of an 8 kHz wave may mean little; `silent` is Whisper's probability that nobody speaks."""
    level = dsp.frames_dbfs(wave)
    sound = 0.02 * (level > max(dsp.SILENT_DBFS, level.max() - 40)).sum()
    clipped = np.mean(np.abs(wave) > CLIPPED * np.abs(wave).max())
    return (
        [f"only {sound:.1f} s of sound: shorter than anything it was trained on"]
        * bool(sound < SHORT_S)
        + ["nobody seems to speak (music? noise?)"] * (silent > NO_SPEECH)
        + [f"clipped or overdriven ({clipped:.0%} of the samples near the peak)"]
        * bool(clipped > CLIPPED_SHARE)
    )


def listed(given: list[str]) -> list[Path]:
    """Files that arguments name: a file, a folder's audio files, a pattern such as `calls/**/*.wav`, or `-`: names on standard
    input, one a line. What is not there is kept, so that it is reported by name."""
    files = []
    for text in given:
        path = Path(text)  # os.path: a name that is no name (too long, a null byte) is no folder
        if text == "-":
            files += listed(
                [line.rstrip("\n") for line in sys.stdin if line.strip() not in ("", "-")]
            )
        elif os.path.isdir(text):
            files += sorted(x for x in path.rglob("*") if x.suffix.lower() in reading.SUFFIXES)
        elif not os.path.exists(text) and glob.has_magic(text):
            files += [
                Path(found)
                for found in sorted(glob.glob(text, recursive=True))
                if not os.path.isdir(found)
            ] or [path]
        else:
            files.append(path)
    return files


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 if every file was scored, 1 if not."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.predict",
        description=__doc__.split("\n")[0],
        epilog="example: python -m utils.predict voicemail.mp3 recordings/ --out scores.csv",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="audio files, folders, patterns in quotes ('calls/**/*.wav'), or - for names on standard input",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the table there too, as JSON if it ends so, else as CSV; started again after a kill, it goes on",
    )
    parser.add_argument(
        "--submission",
        type=Path,
        metavar="FILE",
        help="write the competition's format (<name>,<1 real | 0 fake>), if every file has a decision",
    )
    parser.add_argument(
        "--timeline",
        type=Path,
        metavar="FOLDER",
        help="for each recording, draw where it looks fake: a PNG and a CSV of its probability each half second",
    )
    parser.add_argument(
        "--abstain",
        action="store_true",
        help="decide nothing where there is a warning (too short, clipped, nobody "
        "speaks, unlike the training clips if the detector's card says how like is enough)",
    )
    parser.add_argument(
        "--no-language",
        action="store_true",
        help="do not name the language or listen for speech: faster",
    )
    parser.add_argument(
        "--detector",
        type=Path,
        default=detector.FOLDER,
        metavar="FOLDER",
        help="another detector (default: the released one)",
    )
    options = parser.parse_args(argv)
    try:
        return score(options)
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # no detector, no room, no folder to write to, a process that was killed
        print(f"FAILED: {error}", file=sys.stderr)
        return 1


def score(options: argparse.Namespace) -> int:
    """What the command line asks; 0 if every file was scored, 1 if not. Raises what reading the detector or writing raises."""
    released = load_detector(options.detector)
    files = listed(options.paths)
    keep = options.out and options.out.with_name(f".{options.out.name}.parts")
    judge = (str(options.detector), released.version, not options.no_language, options.abstain)
    rows = batch_scoring.score_files(
        files, Scorer, judge, keep, label="score" if len(files) > batch_scoring.SHARD else ""
    )
    decided: list[tuple[int, str]] = []
    with paths.whole(options.out) if options.out else contextlib.nullcontext() as part:
        failed = _report(rows, released.card["threshold"], part, options.out, decided)
    if keep:
        batch_scoring.clear(keep)
    if options.timeline:
        timelines(released, files, options.timeline)
    if options.submission:
        try:
            if missing := len(files) - len(decided):
                raise contracts.ContractError(f"{missing} files have no decision (named above)")
            if not files:
                raise contracts.ContractError("no audio file was found")
            contracts.write_submission(
                options.submission, pd.Series(*zip(*decided, strict=True)), [f.name for f in files]
            )
        except contracts.ContractError as error:
            print(f"FAILED: no submission: {error}", file=sys.stderr)
            return 1
    return 1 if failed or not files else 0


def timelines(released: detector.Detector, files: list[Path], folder: Path) -> None:
    """Write `<name>.png` and `<name>.csv` (start_s, end_s, p_bona_fide, flagged) of each file that can be read to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = pd.Series(
        [file.name.encode()[:200].decode(errors="ignore") for file in files]
    )  # some room for the suffix
    names = names + names.groupby(names).cumcount().map(
        lambda n: f"-{n + 1}" if n else ""
    )  # of other folders
    for file, name in parallel.progress(list(zip(files, names, strict=True)), "timelines"):
        with contextlib.suppress(dsp.AudioError):  # named in the table
            wave, threshold = reading.read(file), released.card["threshold"]
            with paths.whole(folder / f"{name}.png") as part:
                p = draw(part, wave, released, file.name)
            start = np.arange(len(p)) * detector.STEP_S
            table = pd.DataFrame(
                {
                    "start_s": start,
                    "end_s": np.minimum(start + detector.STEP_S, len(wave) / dsp.RATE),
                    "p_bona_fide": p.round(4),
                    "flagged": (p <= threshold).astype(int),
                }
            )
            with paths.whole(folder / f"{name}.csv") as part:
                table.to_csv(part, index=False)


def _report(rows, threshold: float, part: Path | None, out: Path | None, decided: list) -> int:
    """Print rows as they come, write them to `part`, the file that will be `out`, and add (1 real or 0 fake, file name) of each to
    `decided`; returns how many files were not scored."""
    failed = 0
    print(
        f"{'p(bona fide)':>12}  {'decision':11}  {'language':8}  file     (bona fide above {threshold:.2f}: {THRESHOLD_FROM})"
    )
    with (
        part.open("w", newline="", encoding="utf-8") if part else contextlib.nullcontext() as target
    ):
        write, finish = _writer(target, out)
        for row in rows:
            row |= {"note": row["error"] or row["note"]}
            if row.get("p_bona_fide"):
                note = f"  ({row['note']})" if row["note"] else ""
                print(
                    f"{float(row['p_bona_fide']):12.3f}  {row['decision']:11}  {row['language']:8}  {row['file']}{note}"
                )
                if row["decision"] != UNDECIDED:
                    decided.append((int(row["decision"] == "bona fide"), Path(row["file"]).name))
            else:
                failed += 1
                print(f"{'':12}  not scored {row['file']}: {row['note']}", file=sys.stderr)
            write({name: row.get(name, "") for name in COLUMNS})
        finish()
    return failed


def _writer(target, out: Path | None):
    """(what writes a row, what ends the table): CSV, or a JSON list if the name ends so. Rows go out as they come."""
    if target is None:
        return lambda row: None, lambda: None
    if out.suffix.lower() != ".json":
        table = csv.DictWriter(target, COLUMNS)
        table.writeheader()
        return table.writerow, lambda: None
    written = 0

    def write(row):
        nonlocal written
        numbers = {
            name: float(row[name]) if row[name] else None
            for name in ("p_bona_fide", "threshold", "p_language", "seconds")
        }
        pieces = [piece.replace("-", " ").split() for piece in row["pieces"].split("; ") if piece]
        pieces = [
            {"start_s": float(start), "end_s": float(end), "p_bona_fide": float(p)}
            for start, end, p in pieces
        ]
        target.write(
            (",\n" if written else "[\n")
            + json.dumps(row | numbers | {"pieces": pieces}, ensure_ascii=False)
        )
        written += 1

    return write, lambda: target.write("\n]\n" if written else "[]\n")


if __name__ == "__main__":
    sys.exit(main())
