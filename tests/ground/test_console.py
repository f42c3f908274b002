"""Only our own lines and bars reach the terminal; what libraries print lands in the log."""

import subprocess
import sys

import pytest

from utils import paths

CHATTER = """
import ctypes, logging, os, subprocess, sys
from utils import console, parallel
from pathlib import Path

def talk():
    os.write(1, b"C on stdout\\n")
    os.write(2, b"C on stderr\\n")
    print("python on stderr", file=sys.stderr)
    logging.warning("logged")
    subprocess.run(["sh", "-c", "echo a child; echo and its error >&2"])

if __name__ == "__main__":
    with console.quiet(Path(sys.argv[1])):
        talk()
        print("our line")
        list(parallel.progress([1], "our bar"))
        parallel.run_in_processes(os.write, [(2, b"a worker\\n")])
    os.write(2, b"afterwards\\n")
"""


@pytest.fixture
def printed(tmp_path):
    """(standard output, standard error, log) of a program that prints in many ways."""
    (tmp_path / "chatter.py").write_text(CHATTER)
    done = subprocess.run(
        [sys.executable, tmp_path / "chatter.py", tmp_path / "run.log"],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(paths.ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr, (tmp_path / "run.log").read_text()


def test_the_terminal_gets_our_lines_and_bars_and_the_log_everything_else(printed):
    output, error, log = printed
    assert output == "our line\n"
    assert "our bar: 100%" in error and error.endswith("afterwards\n")
    for chatter in ("C on", "python on", "logged", "a child", "and its error", "a worker"):
        assert chatter in log and chatter not in output + error
