"""Score recordings with the released detector: `python -m utils.predict PATH…`, or `load_detector().probability(path)`.

Ours is a linear head (`outputs/reference/detector/`, safetensors and a card) on pooled statistics of the lowest layers of the
registry's Whisper base; notebook 09 trains it. The probability is that of a bona fide clip where half of all clips are; the
decision is bona fide above the card's threshold. What it was trained on and how wrong it is stands in the card: read it first.
"""
import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from utils import audio, paths, probe

FOLDER = paths.ROOT / "outputs" / "reference" / "detector"
SHORT_S = 1.0  # below this a score means little: nothing so short was trained on


class Released:
    """A trained head with its card (`card.json`: depths, threshold, data, results)."""

    def __init__(self, folder: Path = FOLDER):
        if not (folder / "detector.safetensors").exists():
            raise FileNotFoundError(f"{folder}/detector.safetensors is missing: check the clone, or make it with "
                                    "./run_all.sh --profile detector")
        self.card = paths.read_json(folder / "card.json")
        self.weights = load_file(folder / "detector.safetensors")

    def logit(self, wave: np.ndarray) -> float:
        """Calibrated log-odds of bona fide of an 8 kHz wave (samples,); what lies beyond 15 s is not heard."""
        x = probe.features_here([wave], tuple(self.card["depths"]))[0]
        return float((x - self.weights["centre"]) / self.weights["scale"] @ self.weights["weight"] + self.weights["bias"][0])

    def probability(self, clip: Path | str | np.ndarray, rate: int = audio.RATE) -> float:
        """Probability of bona fide, 0 … 1, of a file or of a wave at `rate` Hz. Raises AudioError for what cannot be scored."""
        if isinstance(clip, (str, Path)):
            wave = audio.read(Path(clip))
        else:
            wave = audio.resample(audio.check_wave(np.asarray(clip, np.float32), "wave", rate), rate, audio.RATE)
        if len(wave) < audio.RATE // 4:
            raise audio.AudioError(f"{len(wave) / audio.RATE:.2f} s is too short to score")
        return float(1 / (1 + np.exp(-self.logit(wave))))


def load_detector(folder: Path | str = FOLDER) -> Released:
    """Open the released detector, or one that notebook 09 wrote. Raises FileNotFoundError with the remedy."""
    return Released(Path(folder))


def save_detector(folder: Path, model, slope: float, offset: float, card: dict) -> None:
    """Write head and card: `model` from `probe.fit`, its log-odds calibrated as slope · score + offset."""
    scaler, head = model[0], model[-1]
    weights = {"centre": scaler.mean_, "scale": scaler.scale_, "weight": head.coef_[0] * slope,
               "bias": head.intercept_ * slope + offset}
    with paths.whole(folder / "detector.safetensors") as part:
        save_file({name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}, part)
    paths.write_json(folder / "card.json", card)


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 if every file was scored, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m utils.predict", description=__doc__.split("\n")[0],
                                     epilog="example: python -m utils.predict voicemail.mp3 recordings/ --out scores.csv")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="audio files, or folders whose audio files are scored")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there as CSV too")
    parser.add_argument("--detector", type=Path, default=FOLDER, metavar="FOLDER",
                        help="another detector (default: the released one)")
    options = parser.parse_args(argv)
    try:
        detector = load_detector(options.detector)
    except (OSError, ValueError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    files = [f for p in map(Path, options.paths) for f in (sorted(x for x in p.rglob("*") if x.suffix.lower() in audio.SUFFIXES)
                                                           if p.is_dir() else [p])]
    rows, failed = [], 0
    print(f"{'p(bona fide)':>12}  {'decision':9}  file     (bona fide above {detector.card['threshold']:.2f})")
    for file in files:
        try:
            wave = audio.read(file)
            p = detector.probability(wave)
            decision = "bona fide" if p > detector.card["threshold"] else "spoof"
            note = "shorter than anything it was trained on" if len(wave) < SHORT_S * audio.RATE else ""
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
