"""A run on 30 clips of the real archive."""

import shutil

import pytest

from tests import helpers
from utils import paths


@pytest.mark.slow
def test_the_official_archive_yields_a_submission(tmp_path):
    """30 clips of the real archive in its layout, with every notebook: no special case."""
    sample = paths.ROOT.parent / "shared" / "competition_sample"
    if not sample.exists():
        pytest.skip("clips of the real archive are not here")
    shutil.copytree(sample, tmp_path / "inputs" / "sample")
    done = helpers.run_command(tmp_path, *helpers.settings(COMPETITION="sample", RUN="sample"))
    assert done.returncode == 0, done.stdout
    lines = (tmp_path / "submissions" / "sample.csv").read_text().splitlines()
    names = sorted(path.name for path in (sample / "test").glob("*.wav"))
    assert [line.split(",")[0] for line in lines] == names
    assert {line.split(",")[1] for line in lines} <= {"0", "1"}
