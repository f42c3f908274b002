"""Feed broken files to every parser of files from strangers: `python -m tests.fuzz --minutes 10`.

Start it in the repository's folder with `PYTHONPATH=.`. Each parser gets mutated versions of good
files. It may refuse them by an error of its own. Findings are any other exception, a file outside
the parser's folder, more than 10 seconds, and more than 1 GB of memory beyond what was held before;
the file is kept then. `tests/audio/test_fuzz.py` runs it for seconds per parser.
"""

import argparse
import contextlib
import io
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz_targets import TARGETS, Target
from utils import paths
from utils.evaluation import benchmark

LONGEST_S, MOST_MB = 10, 1000
WORDS = [
    b"\xff" * 4,
    b"\0" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\1\0\0\0",
    b"\0\0\0\1",
    b"../",
    b'"',
    b"\n",
    b"\xc3",
]


def mutate(good: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """`good` with bits, bytes or words changed, or pieces repeated, left out or from `others`."""
    data = bytearray(good)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        if len(data) < 8:
            break
        # headers lie at the beginning: two of three changes are made there
        position = rng.randrange(min(len(data), rng.choice([64, 256, len(data)])))
        size = rng.randrange(1, 64)
        change = rng.randrange(7)
        if change == 0:
            data[position] ^= 1 << rng.randrange(8)
        elif change == 1:
            data[position] = rng.randrange(256)
        elif change == 2:
            word = rng.choice(WORDS)
            data[position : position + len(word)] = word
        elif change == 3:
            del data[rng.randrange(len(data)) :]
        elif change == 4:
            start = rng.randrange(len(data))
            data[position:position] = data[start : start + size]
        elif change == 5:
            del data[position : position + size]
        else:
            other = rng.choice(others)
            data[position:] = other[rng.randrange(len(other)) :]
    return bytes(data)


def problem_of(target: Target, content: bytes) -> str:
    """What is wrong with how the parser took `content`; "" if nothing is."""
    began = time.monotonic()
    Path("/proc/self/clear_refs").write_text("5")  # peak memory counts from here
    before = benchmark.peak_mb()
    try:
        target.parse(content)
    except target.refusals:
        pass
    except Exception as error:  # noqa: BLE001 (anything else is what is looked for)
        return type(error).__name__
    if time.monotonic() - began > LONGEST_S:
        return f"over {LONGEST_S} s"
    if benchmark.peak_mb() > before + MOST_MB:
        return "1 GB of memory"
    return ""


def files_outside(home: Path) -> set[Path]:
    """Files beside the parser's folder, and beside the folder that an archive is unpacked to."""
    unpacked_beside = {p for p in (home / "into").glob("*") if not p.name.startswith("folder")}
    return set(home.parent.iterdir()) | unpacked_beside


def fuzz(name: str, home: Path, seconds: float, seed: int) -> tuple[int, list[str]]:
    """Feed the parser `name` for `seconds`; (number of files tried, findings).

    Args: `home` an empty folder in an otherwise empty one. The first file of each finding is kept
    in the folder for temporary files.
    """
    target, rng = TARGETS[name](home), random.Random(seed)
    outside = files_outside(home)
    for content in target.good:
        target.parse(content)  # what is whole is read
    inside = set(home.iterdir())
    tried, findings = 0, {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        content = mutate(rng.choice(target.good), target.good, rng)
        problem = problem_of(target, content)
        if files_outside(home) != outside or set(home.iterdir()) - inside:
            problem = "a file outside its folder"
            outside, inside = files_outside(home), set(home.iterdir())
        if problem:
            findings.setdefault(f"{name}: {problem}", content)
        tried += 1
    for number, content in enumerate(findings.values()):
        kept = f"fuzz-{name.replace(' ', '_')}-{seed}-{number}"
        Path(tempfile.gettempdir(), kept).write_bytes(content)
    return tried, list(findings)


def main() -> int:
    """Command line; 1 if there was a finding."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--minutes", type=float, default=10, help="for all parsers together (default: 10)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (default: 1)")
    parser.add_argument("--only", choices=TARGETS, metavar="NAME", help="a parser, e.g. audio")
    options = parser.parse_args()
    names = [options.only] if options.only else list(TARGETS)
    paths.OUTPUTS.mkdir(exist_ok=True)
    all_findings = []
    # in the project: a corpus must lie there
    with tempfile.TemporaryDirectory(dir=paths.OUTPUTS, prefix=".fuzz-") as folder:
        for number, name in enumerate(names):
            home = Path(folder) / str(number) / "in"
            home.mkdir(parents=True)
            seconds = 60 * options.minutes / len(names)
            with contextlib.redirect_stderr(io.StringIO()):
                tried, findings = fuzz(name, home, seconds, options.seed)
            print(f"{name}: {tried} files, {len(findings)} findings", *findings, sep="\n  ")
            all_findings += findings
    return int(bool(all_findings))


if __name__ == "__main__":
    sys.exit(main())
