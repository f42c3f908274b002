"""The index page of a run; reference runs are of today's code, or a warning says what changed."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest

from utils import paths
from utils.pipeline import notebooks, profiles, report, steps

REFERENCE = paths.ROOT / "outputs" / "reference"
RUNS = sorted(p.name for p in REFERENCE.iterdir() if (p / "env.json").exists())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a run whose name has to be escaped."""
    monkeypatch.setattr(paths, "SUBMISSIONS", tmp_path / "submissions")
    for path in (tmp_path / "a & b" / "figures", tmp_path / "a & b" / "notebooks"):
        path.mkdir(parents=True)
    paths.SUBMISSIONS.mkdir()
    return tmp_path / "a & b"


def test_the_index_page_of_an_empty_run_promises_nothing(folder):
    assert "<h2>" not in report.write(folder).read_text()


def test_the_index_page_links_and_shows_what_is_there(folder):
    pd.DataFrame({"model": ["<vote>"], "eer": [0.12345]}).to_csv(
        folder / "results.csv", index=False
    )
    (folder / "figures" / "two.png").write_bytes(b"x")
    (folder / "notebooks" / "01_eda.html").write_text("x")
    (folder / "notebooks" / ".02_part.html").write_text("x")
    (paths.SUBMISSIONS / "a & b.csv").write_text("a.wav,1\nb.wav,0\n")
    paths.write_json(folder / "env.json", {"python": "3.11", "packages": {"torch": "2.0"}})
    text = report.write(folder).read_text()
    for title in ("Submitted", "Results", "Notebooks", "Figures", "Environment"):
        assert f"<h2>{title}" in text
    for content in ("&lt;vote&gt;", "0.123", "2 clips, 50.0% called bona fide", "torch"):
        assert content in text
    links = re.findall(r"(?:href|src)='([^']+)'", text)
    assert len(links) == 3
    assert all((folder / link.replace("&amp;", "&")).exists() for link in links)


@pytest.mark.parametrize("name", RUNS)
def test_a_reference_run_is_small(name):
    assert sum(f.stat().st_size for f in (REFERENCE / name).iterdir()) < 15e6


@pytest.mark.parametrize("name", [name for name in RUNS if name in profiles.PROFILES])
def test_a_reference_run_has_the_steps_of_its_profile_and_says_when_it_is_stale(name):
    ran = paths.read_json(REFERENCE / name / "env.json").get("code", {})
    chosen = steps.steps_of(name, profiles.PROFILES[name])
    stale = [
        step.name
        for step in chosen
        if steps.notebook_digest(notebooks.source_of(step.notebook))[:16] != ran.get(step.name)
    ]
    if stale:
        warnings.warn(
            f"outputs/reference/{name} is older than the code of {', '.join(stale)}: run "
            f"./run_all.sh --profile {name} and renew its tables and figures",
            stacklevel=1,
        )
    assert {step.name for step in chosen} <= set(ran)


def reference_intervals():
    """(value, low, high) of neighbouring columns in all tables of the reference runs."""
    found = []
    for file in REFERENCE.rglob("*.csv"):
        numbers = pd.read_csv(file).select_dtypes("number").to_numpy(float)
        found += [numbers[:, first : first + 3] for first in range(numbers.shape[1] - 2)]
    return np.concatenate(found)


def test_every_interval_that_the_readme_quotes_stands_in_a_reference_table():
    readme = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    quoted = re.findall(r"(\d\.\d{3})\*{0,2} \[(\d\.\d{3}), (\d\.\d{3})\]", readme)
    assert quoted
    known = reference_intervals()
    missing = [
        f"{value} [{low}, {high}]"
        for value, low, high in quoted
        if not (np.abs(known - [float(value), float(low), float(high)]) < 0.0006).all(1).any()
    ]
    assert missing == []
