"""Broken files in each format that strangers may send; `python -m tests.fuzz` runs for longer."""

import tempfile
from pathlib import Path

import pytest

from tests import fuzz
from utils import paths


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_broken_files_are_refused_and_nothing_else_happens(name):
    paths.OUTPUTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.OUTPUTS) as home:  # a corpus must lie in the project
        (Path(home) / "in").mkdir()
        tried, findings = fuzz.fuzz(name, Path(home) / "in", seconds=2, seed=7)
    assert tried and not findings, findings
