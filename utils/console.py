"""The terminal for our own lines and bars, a log file for everything else.

Libraries print as they please: on Python's streams, by `logging`, or from C on file descriptors 1
and 2, which other processes inherit. Inside `quiet` all of that lands in a file, and only what
`line` and `stream` are used for reaches the terminal.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import TextIO

_terminal: TextIO | None = None  # standard error as it was before `quiet`, in this process only


def stream() -> TextIO:
    """Where progress bars and notices go: the terminal (standard error)."""
    return _terminal or sys.stderr


@contextlib.contextmanager
def quiet(log: Path):
    """Send what this process and those that it starts print to `log`, which begins anew.

    `print` to `sys.stdout` stays: in this process it is ours. Other processes do not get the
    terminal: kernels and workers have their bars in the notebook or in the log.
    """
    global _terminal
    sys.stdout.flush()
    sys.stderr.flush()
    kept, before = [os.dup(1), os.dup(2)], (sys.stdout, sys.stderr)
    terminals = [os.fdopen(number, "w", buffering=1, encoding="utf-8") for number in kept]
    with log.open("w", buffering=1, encoding="utf-8") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        sys.stderr, _terminal = file, terminals[1]
        if _is(before[0], 1):  # not where a test or a notebook has replaced it
            sys.stdout = terminals[0]
        try:
            yield
        finally:
            for number, terminal in zip((1, 2), terminals, strict=True):
                terminal.flush()
                os.dup2(kept[number - 1], number)
            sys.stdout, sys.stderr, _terminal = *before, None
            for terminal in terminals:
                terminal.close()


def _is(file: TextIO, number: int) -> bool:
    try:
        return file.fileno() == number
    except (OSError, ValueError):  # a stream that is no file
        return False
