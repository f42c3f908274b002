"""What `./run_all.sh predict`, `python -m utils.predict` and `deepfake-speech` do."""

import argparse
import importlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm.auto import tqdm

from utils.detector import detector, scoring
from utils.detector.batch import batch_scoring, listing, options, places, tables

NOT_SCORED = "not scored"
NAMED = 3  # files that are passed over and named at the end; the rest is counted


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status, see `options.EPILOG`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a letter is no error
            stream.reconfigure(errors="backslashreplace")
    given = options.parse(argv)
    try:
        status = score(given)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        again = ": the same command goes on from here" if given.out else ""
        print(f"\nstopped{again}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # what is still to be flushed at the end of the process goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except places.Refused as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 2
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        # no detector, no room, no folder to write to, a process that was killed
        print(f"FAILED: {error}", file=sys.stderr)
        return 1


def score(given: argparse.Namespace) -> int:
    """Do what the command line asks for; 0 if every file was scored, 1 if not.

    Raises what opening the detector or writing raises, and `places.Refused`.
    """
    begun = time.monotonic()
    settings = scoring.Options(
        given.threshold, given.prior, given.channels, given.language, given.abstain
    )
    if settings.language:
        _check_language()
    # each process that scores opens the detector: not this one too, while they wait
    card, version = detector.card_and_version(given.detector)
    threshold = settings.threshold or card["threshold"]
    files, passed = listing.list_files(given.paths)
    out = given.out
    places.check({"--out": out, "--submission": given.submission}, given.timeline, files)
    keep = out.with_name(f".{out.name}.parts") if out else None
    resumed = bool(keep and keep.exists())
    arguments = (str(given.detector), version, settings)
    label = "score" if len(files) > batch_scoring.SHARD_FILES and not given.quiet else ""
    rows = batch_scoring.score_files(files, scoring.Scorer, arguments, keep, given.processes, label)
    if not given.quiet:
        print(_heading(threshold, settings))
    with tables.table(out) as write:
        result = report(rows, write, f"{scoring.NAME} {version[:12]}", given.quiet)
    if given.timeline:
        if missing := tables.why_no_figures():
            print(f"timelines are tables without figures ({missing})", file=sys.stderr)
        released = scoring.load_detector(given.detector)
        label, target = "" if given.quiet else "timelines", given.timeline
        tables.write_timelines(released, result.scored, target, threshold, settings.prior, label)
    done = result.counts.total() and not result.counts[NOT_SCORED]
    if given.submission and not _submit(given.submission, result):
        done = False
    if keep:  # last: until here, a command that was stopped goes on
        batch_scoring.clear(keep)
    if not (done and given.quiet):
        passed = [*map(tuple, passed), *result.passed]
        print(summary(result, passed, time.monotonic() - begun, resumed), file=sys.stderr)
    return 0 if done else 1


def _check_language() -> None:
    """Raise RuntimeError, with what is needed, where the language cannot be named."""
    try:
        importlib.import_module("utils.models.language_id")
    except ImportError as error:
        raise RuntimeError(
            f"--language needs PyTorch and Whisper ({error}): in a clone of the repository, "
            "`./run_all.sh predict --language …` installs them"
        ) from error


def _heading(threshold: float, settings: scoring.Options) -> str:
    source = scoring.threshold_from(settings)
    expected = f"; {100 * settings.prior:g}% spoof expected" if settings.prior != 0.5 else ""
    language = f"{'language':8}  " if settings.language else ""
    return (
        f"{'p(bona fide)':>12}  {'decision':11}  {language}file     "
        f"(bona fide above {threshold:.2f}: {source}{expected})"
    )


class Result:
    """What is known of all files when they were scored."""

    def __init__(self):
        self.counts: Counter[str] = Counter()  # by decision, and of `NOT_SCORED`
        self.decisions: list[tuple[str, int]] = []  # (file name, 1 bona fide or 0 spoof)
        self.scored: list[tuple[Path, str]] = []  # (file, its channel)
        self.passed: list[tuple[str, str]] = []  # (file that is no recording, why)
        self.seconds = 0.0  # of sound

    def add(self, row: dict[str, str]) -> None:
        """Count a row of `batch_scoring.score_files`."""
        path, decision = Path(row["file"]), row["decision"] or NOT_SCORED
        self.counts[decision] += 1
        self.seconds += float(row["seconds"] or 0)
        if decision != NOT_SCORED:
            self.scored.append((path, row["channel"]))
        if decision in (scoring.BONAFIDE, scoring.SPOOF):
            self.decisions.append((path.name, int(decision == scoring.BONAFIDE)))


def report(
    rows: Iterator[dict[str, str]],
    write: Callable[[dict[str, str]], None],
    detector_name: str,
    quiet: bool = False,
) -> Result:
    """Print rows of `batch_scoring.score_files` as they come; files not scored go to stderr.

    Args:
        write: gets each row (`scoring.COLUMNS`) too.
        detector_name: stands in the rows of files that could not be read.
        quiet: rows of scored files are not printed.
    """
    both = sys.stdout.isatty() and sys.stderr.isatty()  # rows and progress bar on one terminal
    say, result = tqdm.write if both else print, Result()
    for row in rows:
        if row["passed"]:
            result.passed.append((row["file"], row["passed"]))
            continue
        note = _reason(row)
        row = {name: row.get(name, "") for name in scoring.COLUMNS}
        row |= {"note": note, "detector": detector_name}
        result.add(row)
        write(row)
        if not row["decision"]:
            line = f"{'':12}  not scored {listing.printable(row['file'])}: {note}"
            say(line, file=sys.stderr)
        elif not quiet:
            say(_line(row), file=sys.stdout)
    return result


def _reason(row: dict[str, str]) -> str:
    """The note of a row, or why its file was not scored, without the file's name."""
    if row["error"] and listing.is_pattern(row["file"]):
        return "nothing has this name, or matches it as a pattern"
    reason = (row["error"] or row["note"]).removeprefix(f"{Path(row['file']).name}: ")
    return listing.printable(reason)


def _line(row: dict[str, str]) -> str:
    language = f"{row['language']:8}  " if row["language"] else ""
    notes = [f"channel {row['channel']}"] if row["channel"] else []
    if row["lowest_at"]:
        start, end = row["lowest_at"].split("-")
        notes.append(
            f"lowest {row['p_lowest']} at {float(start):.0f}–{float(end):.0f} s "
            f"of {float(row['seconds']):.0f} s"
        )
    notes += filter(None, [row["note"]])
    return (
        f"{float(row['p_bona_fide']):12.3f}  {row['decision']:11}  {language}"
        f"{listing.printable(row['file'])}" + (f"  ({'; '.join(notes)})" if notes else "")
    )


def _submit(path: Path, result: Result) -> bool:
    """Write the competition's format; if it cannot be, say why and return False."""
    try:
        if missing := result.counts.total() - len(result.decisions):
            raise tables.NoSubmission(f"{missing} files have no decision (named above)")
        tables.write_submission(path, result.decisions)
    except tables.NoSubmission as error:
        print(f"FAILED: no submission: {error}", file=sys.stderr)
        return False
    return True


def summary(
    result: Result, passed: list[tuple[Path | str, str]], took_s: float, resumed: bool = False
) -> str:
    """One line: how many files, how fast, what was decided, what was passed over.

    Args:
        passed: (file that is no recording, why).
        resumed: some were scored before, so there is no speed to tell.
    """
    total, times = result.counts.total(), result.seconds / took_s
    speed = f" ({times:.0f} times real time)" if times >= 10 else f" ({times:.2g} times real time)"
    speed = " (some before)" if resumed else speed if times else ""
    kinds = (
        (scoring.BONAFIDE, "bona fide"),
        (scoring.SPOOF, "spoof"),
        (scoring.UNDECIDED, "undecided"),
        (NOT_SCORED, "not scored"),
    )
    counts = [f"{result.counts[kind]:,} {word}" for kind, word in kinds if result.counts[kind]]
    took = f"{took_s:.0f}" if took_s >= 10 else f"{took_s:.1f}"
    text = f"{total:,} file{'s' * (total != 1)} in {took} s{speed}"
    text += f": {', '.join(counts)}" if counts else ": no recording was found"
    if passed:
        named = [f"{listing.printable(name)} ({why})" for name, why in passed[:NAMED]]
        more = [f"and {len(passed) - NAMED:,} more"] if len(passed) > NAMED else []
        text += (
            f"; {len(passed):,} file{'s' * (len(passed) != 1)} passed over: "
            f"{', '.join(named + more)}"
        )
    return text
