"""Score recordings with the released detector and print a table; see also `scoring`.

The command line of `python -m utils.predict` and `./run_all.sh predict`.
"""

import argparse
import contextlib
import csv
import glob
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd

from utils import contracts, parallel, paths
from utils.audio import dsp, reading
from utils.detector import detector, scoring
from utils.detector.batch import batch_scoring

DESCRIPTION = """\
Score recordings with the released detector: the probability that each is bona fide
(a recording of a person) and not spoof (synthetic or manipulated).
`./run_all.sh predict` does the same.
"""
EPILOG = """\
exit status:
  0  every file was scored (and the submission, if asked for, was written)
  1  some file was not scored; or nothing could be: no file was found, no detector, no room to write
  2  the command line is wrong

example:
  python -m utils.predict voicemail.mp3 recordings/ --out scores.csv
"""


def list_files(arguments: list[str]) -> list[Path]:
    """The files that arguments name, in order.

    An argument is a file, a folder (its audio files, at any depth), a pattern such as
    `calls/**/*.wav`, or `-`: names on standard input, one per line. A name of nothing that exists
    stays in the list, so that it is reported.
    """
    files = []
    for argument in arguments:
        # os.path, not pathlib: for a name that cannot exist (too long, a null byte) it says False
        if argument == "-":
            names = [line.rstrip("\n") for line in sys.stdin]
            files += list_files([name for name in names if name.strip() not in ("", "-")])
        elif os.path.isdir(argument):
            inside = Path(argument).rglob("*")
            files += sorted(path for path in inside if path.suffix.lower() in reading.SUFFIXES)
        elif not os.path.exists(argument) and glob.has_magic(argument):
            matches = sorted(glob.glob(argument, recursive=True))
            files += [Path(match) for match in matches if not os.path.isdir(match)] or [
                Path(argument)
            ]
        else:
            files.append(Path(argument))
    return files


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m utils.predict",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EPILOG,
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="audio files, folders, patterns in quotes ('calls/**/*.wav'), or - for names on "
        "standard input",
    )
    _add_outputs(parser)
    parser.add_argument(
        "--abstain",
        action="store_true",
        help="give no decision where there is a warning: too short, clipped, or nobody speaks",
    )
    parser.add_argument(
        "--no-language",
        action="store_true",
        help="faster: do not name the language and do not check that somebody speaks",
    )
    parser.add_argument(
        "--detector",
        type=Path,
        default=detector.FOLDER,
        metavar="FOLDER",
        help="another detector, as notebook 09 writes it (default: the released one)",
    )
    return parser


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="also write the table to FILE: as JSON if its name ends in .json, else as CSV; after "
        "an interruption the same command goes on where it stopped",
    )
    parser.add_argument(
        "--submission",
        type=Path,
        metavar="FILE",
        help="write the competition's format (<name>,<1 bona fide | 0 spoof>) if every file has a "
        "decision",
    )
    parser.add_argument(
        "--timeline",
        type=Path,
        metavar="FOLDER",
        help="for each recording, write a figure (PNG) and a table (CSV) of where it looks fake: "
        "the probability of each half second",
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0 if every file was scored, 1 if not."""
    options = _parser().parse_args(argv)
    try:
        return score(options)
    except (OSError, ValueError, RuntimeError) as error:
        # no detector, no room, no folder to write to, a process that was killed
        print(f"FAILED: {error}", file=sys.stderr)
        return 1


def score(options: argparse.Namespace) -> int:
    """Do what the command line asks for; 0 if every file was scored, 1 if not.

    Raises what opening the detector or writing raises.
    """
    released = scoring.load_detector(options.detector)
    files, out = list_files(options.paths), options.out
    keep = out.with_name(f".{out.name}.parts") if out else None
    arguments = (
        str(options.detector),
        released.version,
        not options.no_language,
        options.abstain,
    )
    label = "score" if len(files) > batch_scoring.SHARD_FILES else ""
    rows = batch_scoring.score_files(files, scoring.Scorer, arguments, keep, label=label)
    threshold = released.card["threshold"]
    if out:
        write_table = _write_json if out.suffix.lower() == ".json" else _write_csv
        with (
            paths.whole(out) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as target,
        ):
            decisions, failed = report(rows, threshold, write_table(target))
        batch_scoring.clear(keep)
    else:
        decisions, failed = report(rows, threshold)
    if options.timeline:
        write_timelines(released, files, options.timeline)
    if options.submission and not write_submission(options.submission, files, decisions):
        return 1
    return 1 if failed or not files else 0


def report(
    rows: Iterator[dict], threshold: float, table: Callable | None = None
) -> tuple[list[tuple[str, int]], int]:
    """Print rows of `batch_scoring.score_files` as they come; files not scored go to stderr.

    Args: `table` a context manager that gives a function, which gets each row (`COLUMNS`) too.
    Returns ((file name, 1 bona fide or 0 spoof) of each decision, number of files not scored).
    """
    print(
        f"{'p(bona fide)':>12}  {'decision':11}  {'language':8}  file     "
        f"(bona fide above {threshold:.2f}: {scoring.THRESHOLD_FROM})"
    )
    decisions, failed = [], 0
    with table or contextlib.nullcontext() as write:
        for row in rows:
            row["note"] = row["error"] or row["note"]
            if row.get("p_bona_fide"):
                note = f"  ({row['note']})" if row["note"] else ""
                print(
                    f"{float(row['p_bona_fide']):12.3f}  {row['decision']:11}  "
                    f"{row['language']:8}  {row['file']}{note}"
                )
                if row["decision"] != scoring.UNDECIDED:
                    label = int(row["decision"] == scoring.BONAFIDE)
                    decisions.append((Path(row["file"]).name, label))
            else:
                failed += 1
                print(f"{'':12}  not scored {row['file']}: {row['note']}", file=sys.stderr)
            if write:
                write({name: row.get(name, "") for name in scoring.COLUMNS})
    return decisions, failed


@contextlib.contextmanager
def _write_csv(target: IO[str]) -> Iterator[Callable[[dict], None]]:
    writer = csv.DictWriter(target, scoring.COLUMNS)
    writer.writeheader()
    yield writer.writerow


@contextlib.contextmanager
def _write_json(target: IO[str]) -> Iterator[Callable[[dict], None]]:
    """A JSON list, row by row: the table of a million files is never in memory."""
    separator = "[\n"

    def write(row: dict) -> None:
        nonlocal separator
        target.write(separator + json.dumps(_with_numbers(row), ensure_ascii=False))
        separator = ",\n"

    yield write
    target.write("[]\n" if separator == "[\n" else "\n]\n")


def _with_numbers(row: dict[str, str]) -> dict:
    """A row of text as JSON has it: numbers, null where there is none, pieces as a list."""
    result = dict(row)
    for name in ("p_bona_fide", "threshold", "p_language", "seconds"):
        result[name] = float(row[name]) if row[name] else None
    result["pieces"] = []
    for piece in filter(None, row["pieces"].split("; ")):
        start, end, p = map(float, piece.replace("-", " ").split())
        result["pieces"].append({"start_s": start, "end_s": end, "p_bona_fide": p})
    return result


def write_submission(path: Path, files: list[Path], decisions: list[tuple[str, int]]) -> bool:
    """Write the competition's format; if a file has no decision or two, say so and return False."""
    try:
        if missing := len(files) - len(decisions):
            raise contracts.ContractError(f"{missing} files have no decision (named above)")
        if not files:
            raise contracts.ContractError("no audio file was found")
        names, labels = [name for name, _ in decisions], [label for _, label in decisions]
        contracts.write_submission(path, pd.Series(labels, names), [file.name for file in files])
    except contracts.ContractError as error:
        print(f"FAILED: no submission: {error}", file=sys.stderr)
        return False
    return True


def write_timelines(released: detector.Detector, files: list[Path], folder: Path) -> None:
    """Write `<name>.png` and `<name>.csv` of each file that can be scored to `folder`.

    Columns: start_s, end_s, p_bona_fide (empty: silence), flagged (1: at most the threshold). Files
    of one name in several folders get `-2`, `-3`, … after it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    threshold, used = released.card["threshold"], {}
    for file in parallel.progress(files, "timelines"):
        name = file.name.encode()[:200].decode(errors="ignore")  # leaves room for the suffix
        used[name] = used.get(name, 0) + 1
        if used[name] > 1:
            name = f"{name}-{used[name]}"
        with contextlib.suppress(dsp.AudioError):  # it is named in the table
            wave = reading.read(file, scoring.RATE)
            with paths.whole(folder / f"{name}.png") as temporary:
                p = scoring.draw(temporary, wave, released, file.name)
            start = np.arange(len(p)) * detector.STEP_S
            table = pd.DataFrame(
                {
                    "start_s": start,
                    "end_s": np.minimum(start + detector.STEP_S, len(wave) / scoring.RATE),
                    "p_bona_fide": p.round(4),
                    "flagged": (p <= threshold).astype(int),
                }
            )
            with paths.whole(folder / f"{name}.csv") as temporary:
                table.to_csv(temporary, index=False)
