"""What the command writes: tables (CSV, JSON, JSON lines), the competition's format, timelines."""

import contextlib
import csv
import importlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from utils import parallel, paths
from utils.audio import dsp
from utils.detector import detector, scoring
from utils.detector.batch import decoder, listing, places

NUMBERS = ("p_bona_fide", "threshold", "p_language", "seconds", "speech_s", "p_lowest", "prior")
NO_SPEECH = "no speech"  # in place of the probability of a piece that does not vote


class NoSubmission(ValueError):
    """The competition's format cannot hold the result. The message says why."""


def _text(name: str | Path) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def table(path: Path | None) -> Iterator[Callable[[dict[str, str]], None]]:
    """Yield a function that writes a row (`scoring.COLUMNS`) to the table `path`.

    It is JSON or JSON lines if the name ends in .json or .jsonl, else CSV, and appears when the
    block ends without error. Without a path the function writes nothing.
    """
    if path is None:
        yield lambda row: None
        return
    form = {".json": _json, ".jsonl": _json_lines}.get(path.suffix.lower(), _csv)
    with (
        paths.whole(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as target,
        form(target) as write,
    ):
        # bytes that are no text are written as \x…, as they are printed
        yield lambda row: write(row | {"file": _text(row["file"])})


@contextlib.contextmanager
def _csv(target: IO[str]) -> Iterator[Callable[[dict], None]]:
    writer = csv.DictWriter(target, scoring.COLUMNS)
    writer.writeheader()
    yield writer.writerow


@contextlib.contextmanager
def _json(target: IO[str]) -> Iterator[Callable[[dict], None]]:
    """A JSON list, row by row: the table of a million files is never in memory."""
    separator = "[\n"

    def write(row: dict) -> None:
        nonlocal separator
        target.write(separator + _as_json(row))
        separator = ",\n"

    yield write
    target.write("[]\n" if separator == "[\n" else "\n]\n")


@contextlib.contextmanager
def _json_lines(target: IO[str]) -> Iterator[Callable[[dict], None]]:
    yield lambda row: target.write(_as_json(row) + "\n")


def _as_json(row: dict[str, str]) -> str:
    """A row of text as JSON: numbers, null where there is none, pieces and channels as lists."""
    result: dict = dict(row)
    for name in NUMBERS:
        result[name] = float(row[name]) if row[name] else None
    result["lowest_at"] = _span(row["lowest_at"]) if row["lowest_at"] else None
    result["pieces"] = []
    for piece in filter(None, row["pieces"].split("; ")):
        span, p = piece.split(" ", 1)
        result["pieces"].append(_span(span) | {"p_bona_fide": None if p == NO_SPEECH else float(p)})
    result["p_channels"] = []
    for channel in filter(None, row["p_channels"].split("; ")):
        number, p = channel.split(" ")
        result["p_channels"].append({"channel": int(number), "p_bona_fide": float(p)})
    return json.dumps(result, ensure_ascii=False, allow_nan=False)


def _span(text: str) -> dict[str, float]:
    start, end = text.split("-")
    return {"start_s": float(start), "end_s": float(end)}


def write_submission(path: Path, decisions: list[tuple[str, int]]) -> None:
    """Write the competition's format: lines `<name>,<1 bona fide | 0 spoof>`, sorted by name.

    Args: `decisions` (name of a file without its folder, 1 or 0) of all files.
    Raises NoSubmission, and writes nothing, if there is none, a name has two, or the format cannot
    hold a name.
    """
    if not decisions:
        raise NoSubmission("no recording was found")
    lines, before = [], ""
    for name, label in sorted(decisions):
        # the format knows neither folders nor quotes
        if name == before:
            raise NoSubmission(
                f"{listing.printable(name)} occurs twice: each name needs exactly one decision"
            )
        if not _fits(name):
            raise NoSubmission(
                f"the format cannot hold the name {listing.printable(name)}: rename it (no comma, "
                "quote, line break, blank at an end, or byte that is no text)"
            )
        lines.append(f"{name},{label}\n")
        before = name
    with paths.whole(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def _fits(name: str) -> bool:
    """Whether a name is read back from a line of text as it is."""
    one_line = name == name.strip().lstrip("\ufeff") and len(name.splitlines()) == 1
    return one_line and name == _text(name) and not set(name) & set(',"')


def write_timelines(
    released: detector.Detector,
    files: list[tuple[Path, str]],
    folder: Path,
    threshold: float,
    prior: float = 0.5,
    label: str = "timelines",
) -> None:
    """Write `<name>.csv`, and `<name>.png` if figures can be drawn, of each file to `folder`.

    Columns: start_s, end_s, p_bona_fide (empty: silence, or nobody speaks), flagged (1: at most
    the threshold). Files of several folders have the same folders there (`places.of_timelines`).

    Args:
        files: (file, the channel that its row names).
        threshold, prior: those of the rows.
        label: name on the progress bar; "": no bar.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draws = not why_no_figures()
    names = places.of_timelines([file for file, _ in files])
    each = {name: file for name, file in zip(names, files, strict=True)}
    with decoder.Decoder() as reader:
        for name, (file, channel) in parallel.progress(each.items(), label, total=len(each)):
            with contextlib.suppress(dsp.AudioError):  # it changed since it was scored
                waves = reader.read(file, scoring.RATE).channels
                wave = scoring.scored_channel(waves, channel)
                p = scoring.probability(released.timeline(wave), prior)
                _write_timeline(folder / f"{name}.csv", len(wave), p, threshold)
                if draws:
                    with paths.whole(folder / f"{name}.png") as temporary:
                        scoring.draw(temporary, wave, p, threshold, listing.printable(file.name))


def why_no_figures() -> str:
    """What is missing to draw figures; "" if nothing is."""
    try:
        importlib.import_module("utils.plots")
    except ImportError as error:
        return str(error)
    return ""


def _write_timeline(path: Path, samples: int, p: np.ndarray, threshold: float) -> None:
    with (
        paths.whole(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as target,
    ):
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(["start_s", "end_s", "p_bona_fide", "flagged"])
        for number, value in enumerate(p.tolist()):
            start = number * detector.STEP_S
            end = min(start + detector.STEP_S, samples / scoring.RATE)
            text = f"{value:.4f}" if np.isfinite(value) else ""
            writer.writerow([start, round(end, 4), text, int(value <= threshold)])
