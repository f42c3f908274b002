"""Score recordings with the released detector: `python -m utils.predict PATH…`, or `load_detector().probability(path)`.

The probability is that of a bona fide clip where half of all clips are; the decision is bona fide above the card's threshold.
A recording longer than 10 s is scored piece by piece: the mean decides, the note tells the lowest.
What the detector (`utils/detector.py`) was trained on and how wrong it is stands in its card: read it first.
"""
import argparse
import contextlib
import csv
import math
import sys
from pathlib import Path

from utils import audio, detector, engines, paths

SHORT_S = 1.0  # below this a score means little: nothing so short was trained on


def load_detector(folder: Path | str = detector.FOLDER) -> detector.Detector:
    """Open the released detector, or one that notebook 09 wrote. Raises FileNotFoundError with the remedy."""
    return detector.Detector(Path(folder))


class Judge:
    """What `engines.score_files` asks: the columns of each clip."""

    def __init__(self, folder: str, version: str = ""):
        self.released = load_detector(folder)
        if version and self.released.version != version:
            raise ValueError(f"{folder} changed while it was used: start again")

    def rows(self, waves: list) -> list[dict[str, str]]:
        """p_bona_fide, decision and note of 8 kHz waves; all but the note empty where one cannot be scored."""
        return [self._row(wave) for wave in waves]

    def _row(self, wave) -> dict[str, str]:
        try:
            p = self.released.probability(wave)
        except audio.AudioError as error:
            return {"p_bona_fide": "", "decision": "", "note": str(error)}
        note = "shorter than anything it was trained on" if len(wave) < SHORT_S * audio.RATE else ""
        if len(wave) > detector.PIECE_S * audio.RATE:
            start, end, logit = min(self.released.pieces(wave), key=lambda piece: piece[2])
            note = f"lowest {1 / (1 + math.exp(-logit)):.3f} at {start:.0f}–{end:.0f} s of {len(wave) / audio.RATE:.0f} s"
        return {"p_bona_fide": f"{p:.6f}", "decision": "bona fide" if p > self.released.card["threshold"] else "spoof", "note": note}


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 if every file was scored, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m utils.predict", description=__doc__.split("\n")[0],
                                     epilog="example: python -m utils.predict voicemail.mp3 recordings/ --out scores.csv")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="audio files, or folders whose audio files are scored")
    parser.add_argument("--out", type=Path, metavar="FILE",
                        help="write the table there as CSV too; started again after a kill, it goes on")
    parser.add_argument("--detector", type=Path, default=detector.FOLDER, metavar="FOLDER",
                        help="another detector (default: the released one)")
    options = parser.parse_args(argv)
    try:
        released = load_detector(options.detector)
    except (OSError, ValueError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    files = [f for p in map(Path, options.paths) for f in (sorted(x for x in p.rglob("*") if x.suffix.lower() in audio.SUFFIXES)
                                                           if p.is_dir() else [p])]
    keep = options.out and options.out.with_name(f".{options.out.name}.parts")
    rows = engines.score_files(files, Judge, (str(options.detector), released.version), keep,
                               label="score" if len(files) > engines.SHARD else "")
    with paths.whole(options.out) if options.out else contextlib.nullcontext() as part:
        failed = _report(rows, released.card["threshold"], part)
    if keep:
        engines.clear(keep)
    return 1 if failed or not files else 0


def _report(rows, threshold: float, out: Path | None) -> int:
    """Print rows as they come, write them to `out` too; returns how many files were not scored."""
    failed = 0
    print(f"{'p(bona fide)':>12}  {'decision':9}  file     (bona fide above {threshold:.2f})")
    with out.open("w", newline="", encoding="utf-8") if out else contextlib.nullcontext() as target:
        writer = target and csv.DictWriter(target, ["file", "p_bona_fide", "decision", "note"])
        if writer:
            writer.writeheader()
        for row in rows:
            note = row["error"] or row["note"]
            if row.get("p_bona_fide"):
                print(f"{float(row['p_bona_fide']):12.3f}  {row['decision']:9}  {row['file']}{f'  ({note})' if note else ''}")
            else:
                failed += 1
                print(f"{'':12}  not scored {row['file']}: {note}", file=sys.stderr)
            if writer:
                writer.writerow({"file": row["file"], "p_bona_fide": row.get("p_bona_fide", ""),
                                 "decision": row.get("decision", ""), "note": note})
    return failed


if __name__ == "__main__":
    sys.exit(main())
