"""Which files the arguments of a command name, and what is passed over, with the reason."""

import codecs
import glob
import os
import re
import stat
import sys
from pathlib import Path
from typing import BinaryIO, NamedTuple

from utils.audio.decoding import claims_sound

HIDDEN = "hidden"
NOT_SOUND = "not sound"


class Listed(NamedTuple):
    """A file to read. What was named must be sound; what was found in a folder may be none."""

    path: Path
    named: bool


class Passed(NamedTuple):
    """A file or folder that is passed over."""

    path: Path
    reason: str


def list_files(
    arguments: list[str], names: BinaryIO | None = None
) -> tuple[list[Listed], list[Passed]]:
    """The files that arguments name, in order, and what is passed over in folders.

    An argument is a file, a folder (all files in it, at any depth), a pattern such as
    `calls/**/*.wav`, or `-`: names, one per line, from `names` (default: standard input). A name of
    nothing that exists stays in the list, so that it is reported.
    """
    listed: list[Listed] = []
    passed: list[Passed] = []
    for argument in arguments:
        # os.path, not pathlib: for a name that cannot exist (too long, a null byte) it says False
        if argument == "-":
            lines = map(_as_meant, read_names(names or sys.stdin.buffer))
            inside, beside = list_files([line for line in lines if line != "-"])
            listed += inside
            passed += beside
        elif os.path.isdir(argument):
            _walk(argument, listed, passed, set())
        elif is_pattern(argument):
            matches = sorted(glob.glob(argument, recursive=True))
            found = [Listed(Path(match), False) for match in matches if not os.path.isdir(match)]
            listed += found or [Listed(Path(argument), named=True)]
        else:
            listed.append(Listed(Path(argument), named=True))
    return listed, passed


def read_names(file: BinaryIO) -> list[str]:
    """The lines of a list of names that are not blank.

    Lines end as Unix, Windows, an old Mac or `find -print0` write them; the list is UTF-8, UTF-16
    with a byte-order mark, or whatever bytes the names on the disk have.
    """
    data = file.read()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.decode("utf-16", "replace").encode()
    data = data.removeprefix(codecs.BOM_UTF8)
    lines = re.split(rb"\0" if b"\0" in data else rb"\n" if b"\n" in data else rb"\r", data)
    names = [os.fsdecode(line.rstrip(b"\r\n")) for line in lines]
    return [name for name in names if name.strip()]


def _as_meant(line: str) -> str:
    """A line of a list; if nothing has that name, without blanks and quotes around it."""
    bare = line.strip().strip("\"'")
    return bare if not os.path.lexists(line) and os.path.lexists(bare) else line


def printable(path: Path | str) -> str:
    """A name for people and tables: what is not UTF-8, and control characters, as `\\x…`."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_pattern(name: str) -> bool:
    """Whether a name with `*`, `?` or `[` is that of no file."""
    return glob.has_magic(name) and not os.path.lexists(name)


def may_be_passed(file: Listed) -> bool:
    """Whether it is nobody's loss if a file turns out to hold no sound."""
    return not file.named and not claims_sound(file.path)


def _walk(
    folder: str, listed: list[Listed], passed: list[Passed], visited: set[tuple[int, int]]
) -> None:
    """Append what is in a folder, at any depth, in the order of names."""
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            passed.append(Passed(Path(folder), "a link to a folder that was listed before"))
            return
        visited.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        passed.append(Passed(Path(folder), f"cannot be opened ({error.strerror})"))
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith("."):
            passed.append(Passed(path, HIDDEN))
        elif _is_folder(entry):
            _walk(entry.path, listed, passed, visited)
        elif (reason := _no_file(path)) and not claims_sound(path):
            passed.append(Passed(path, reason))
        else:
            listed.append(Listed(path, named=False))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _no_file(path: Path) -> str:
    """Why there is nothing to read; "" for a file."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"a link to nothing ({error.strerror})"
    return "" if stat.S_ISREG(mode) else "a device or pipe"
