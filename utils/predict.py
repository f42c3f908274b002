"""Score recordings with the released detector: `python -m utils.predict PATH…`, or `load_detector().probability(path)`.

The probability is that of a bona fide clip where half of all clips are; the decision is bona fide above the card's threshold.
A recording longer than 10 s is scored piece by piece: the mean decides, the note tells the lowest.
What the detector (`utils/detector.py`) was trained on and how wrong it is stands in its card: read it first.
"""
import argparse
import csv
import math
import sys
from pathlib import Path

from utils import audio, detector, paths

SHORT_S = 1.0  # below this a score means little: nothing so short was trained on


def load_detector(folder: Path | str = detector.FOLDER) -> detector.Detector:
    """Open the released detector, or one that notebook 09 wrote. Raises FileNotFoundError with the remedy."""
    return detector.Detector(Path(folder))


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 if every file was scored, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m utils.predict", description=__doc__.split("\n")[0],
                                     epilog="example: python -m utils.predict voicemail.mp3 recordings/ --out scores.csv")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="audio files, or folders whose audio files are scored")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there as CSV too")
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
    rows, failed = [], 0
    print(f"{'p(bona fide)':>12}  {'decision':9}  file     (bona fide above {released.card['threshold']:.2f})")
    for file in files:
        try:
            wave = audio.read(file)
            p = released.probability(wave)
            decision = "bona fide" if p > released.card["threshold"] else "spoof"
            note = "shorter than anything it was trained on" if len(wave) < SHORT_S * audio.RATE else ""
            if len(wave) > detector.PIECE_S * audio.RATE:
                start, end, logit = min(released.pieces(wave), key=lambda piece: piece[2])
                note = f"lowest {1 / (1 + math.exp(-logit)):.3f} at {start:.0f}–{end:.0f} s of {len(wave) / audio.RATE:.0f} s"
            print(f"{p:12.3f}  {decision:9}  {file}{'  (' + note + ')' if note else ''}")
        except audio.AudioError as error:
            p, decision, note, failed = "", "", str(error), failed + 1
            print(f"{'':12}  not scored {file}: {error}", file=sys.stderr)
        rows.append({"file": str(file), "p_bona_fide": p if p == "" else f"{p:.6f}", "decision": decision, "note": note})
    if options.out:
        with paths.whole(options.out) as part, part.open("w", newline="") as target:
            writer = csv.DictWriter(target, ["file", "p_bona_fide", "decision", "note"])
            writer.writeheader()
            writer.writerows(rows)
    return 1 if failed or not files else 0


if __name__ == "__main__":
    sys.exit(main())
