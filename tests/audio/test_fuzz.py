"""Broken files of every kind that strangers may hand in, some seconds a parser; `python -m tests.fuzz` runs for longer."""

import tempfile
from pathlib import Path

import pytest

from tests import fuzz
from utils import paths

with tempfile.TemporaryDirectory() as _home:
    NAMES = list(fuzz.targets(Path(_home)))


@pytest.mark.parametrize("name", NAMES)
def test_broken_files_are_refused_and_nothing_else_happens(name):
    paths.OUTPUTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.OUTPUTS) as home:  # a corpus must lie in the project
        (Path(home) / "in").mkdir()
        tried, found = fuzz.fuzz(name, Path(home) / "in", seconds=2, seed=7)
    assert tried and not found, found
