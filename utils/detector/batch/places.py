"""Where the command writes: what would be lost, or cannot be written, is refused beforehand."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from utils.detector import scoring
from utils.detector.batch import listing
from utils.detector.batch.listing import Listed

TEXT = (".csv", ".json", ".jsonl", ".tsv", ".txt")  # a file that is named so may be replaced
LONGEST_NAME = 200  # bytes of a name of a timeline, before its suffix


class Refused(ValueError):
    """A file would be lost. The message names it, and the remedy."""


def check(outputs: dict[str, Path | None], folder: Path | None, files: list[Listed]) -> None:
    """Refuse outputs that would replace a recording or another file that is none of ours.

    Args:
        outputs: files to be written, by the option that names them; None: nothing.
        folder: of timelines.
        files: what is scored.
    Raises Refused, and OSError, naming the place, where nothing can be written; makes folders.
    """
    given = {option: path for option, path in outputs.items() if path}
    if len({os.path.realpath(path) for path in given.values()}) < len(given):
        raise Refused(f"{' and '.join(given)} are one file: name two")
    for option, path in given.items():
        remedy = f"{option} would replace it: name another file"
        if path.exists():
            if _is_one_of(path, files):
                raise Refused(f"{listing.printable(path)} is one of the recordings; {remedy}")
            if path.suffix.lower() not in TEXT and not _is_table(path):
                raise Refused(f"{listing.printable(path)} exists and is no table; {remedy}")
    for path in given.values():
        _try(path, path.parent)
    if folder:
        _try(folder, folder)


def _is_one_of(path: Path, files: Iterable[Listed]) -> bool:
    """Whether a file that exists is listed; one in a folder that claims no sound may be a table."""
    status = path.stat()
    for file in files:
        try:
            same = os.path.samestat(status, file.path.stat())
        except (OSError, ValueError):  # such a file is named in its row
            continue
        if same and not listing.may_be_passed(file):
            return True
    return False


def _is_table(path: Path) -> bool:
    """Whether a file is empty, or begins as a table of scores (CSV)."""
    with path.open("rb") as file:
        head = file.read(100)
    return not head or head.startswith(",".join(scoring.COLUMNS[:2]).encode())


def _try(place: Path, folder: Path) -> None:
    """Raise OSError, naming `place`, if nothing can be written to `folder`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = f"cannot be written ({error.strerror})"
        raise OSError(f"{listing.printable(place)}: {reason}") from error


def of_timelines(files: list[Path]) -> list[Path]:
    """A name for the timeline of each file, without suffix, relative to their folder.

    Folders are those of the files below the one that all lie in. Names are fit to print; two that
    become the same by that get `-2`, `-3`, … after them. A file that is listed twice has one name.
    """
    if not files:
        return []
    absolute = [os.path.abspath(file) for file in files]
    common = os.path.commonpath([os.path.dirname(path) for path in absolute])
    names: dict[str, Path] = {}
    taken: set[Path] = set()
    for path in dict.fromkeys(absolute):
        plain = Path(*[_printed(part) for part in Path(os.path.relpath(path, common)).parts])
        name, number = plain, 1
        while name in taken:
            number += 1
            name = plain.with_name(f"{plain.name}-{number}")
        taken.add(name)
        names[path] = name
    return [names[path] for path in absolute]


def _printed(name: str) -> str:
    return os.fsencode(listing.printable(name))[:LONGEST_NAME].decode(errors="ignore")
