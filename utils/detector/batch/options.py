"""The options of `./run_all.sh predict`, `python -m utils.predict` and `deepfake-speech`."""

import argparse
import os
import sys
from pathlib import Path

from utils.detector import channels, detector, scoring

INSTALLED = "deepfake-speech"  # the command that `pip install .` makes
IN_A_CLONE = "./run_all.sh predict"
DESCRIPTION = """\
Score recordings with the released detector: the probability that each is bona fide
(a recording of a person) and not spoof (synthetic or manipulated).
In a clone of the repository: `./run_all.sh predict`, which installs what is missing.
"""
EPILOG = """\
exit status:
  0    every file was scored (and the submission, if asked for, was written)
  1    some file was not scored; or nothing could be: no file was found, no detector, no room
  2    the command line is wrong
  130  stopped by Ctrl-C
  141  whoever read the output went away, as `| head` does

example:
  %(prog)s voicemail.mp3 recordings/ --out scores.csv

Column `detector` of a table names the version of the detector: the first 12 digits of a sha256
over its files.
"""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Options from a command line; None: that of this process. Ends the process if it is wrong."""
    started = Path(sys.argv[0]).name
    parser = argparse.ArgumentParser(
        prog=INSTALLED if started == INSTALLED else IN_A_CLONE,
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="recordings, folders, patterns in quotes ('calls/**/*.wav'), or - for names on "
        "standard input, one per line",
    )
    _add_outputs(parser)
    _add_scoring(parser)
    return parser.parse_args(argv)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is written")
    group.add_argument(
        "--out",
        type=file,
        metavar="FILE",
        help="also write the table to FILE: as JSON if its name ends in .json, as JSON lines if in "
        ".jsonl, else as CSV; after an interruption the same command goes on where it stopped. No "
        "recording is replaced, and no file whose name is not that of a table",
    )
    group.add_argument(
        "--submission",
        type=file,
        metavar="FILE",
        help="write the competition's format (<name>,<1 bona fide | 0 spoof>) if every file has a "
        "decision",
    )
    group.add_argument(
        "--timeline",
        type=Path,
        metavar="FOLDER",
        help="for each recording, write a table (CSV) of where it looks fake, the probability of "
        "each half second, and a figure (PNG) if matplotlib is installed; recordings of several "
        "folders have the same folders there",
    )
    group.add_argument("--quiet", action="store_true", help="print only what went wrong")


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it is scored")
    group.add_argument(
        "--threshold",
        type=share,
        metavar="P",
        help="bona fide above this probability (default: that of the detector's card)",
    )
    group.add_argument(
        "--prior",
        type=share,
        default=0.5,
        metavar="SHARE",
        help="the share of spoofs that you expect (default: 0.5). It shifts every probability: "
        "log((1 - SHARE) / SHARE) is added to its log-odds, and the threshold is compared with the "
        "shifted one: a small SHARE makes the command call less spoof and miss more",
    )
    group.add_argument(
        "--channels",
        choices=channels.HOW,
        default=scoring.Options().channels,
        help="of a recording with several channels: score those that differ apart and tell the "
        "lowest (each, the default), their mean (mix), or the loudest one (loudest)",
    )
    group.add_argument(
        "--language",
        action="store_true",
        help="name the language that is spoken; slow, and needs PyTorch and the weights of "
        "Whisper, which `./run_all.sh predict --language` installs (4 GB)",
    )
    group.add_argument(
        "--abstain",
        action="store_true",
        help="give no decision where the note names a doubt: too short, clipped, nobody speaks, or "
        "something is damaged, missing or not heard",
    )
    group.add_argument(
        "--detector",
        type=Path,
        default=detector.FOLDER,
        metavar="FOLDER",
        help="another detector, as notebook 09 writes it (default: the released one)",
    )
    group.add_argument(
        "--processes",
        type=count,
        default=0,
        metavar="N",
        help="processes that score at once (default: one for each CPU, 8 at most)",
    )


def share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} does not lie between 0 and 1")
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def file(text: str) -> Path:
    path = Path(text)
    if os.path.exists(path) and not os.path.isfile(path):  # a device would be replaced by a file
        raise argparse.ArgumentTypeError(f"{text} exists and is no file")
    return path
