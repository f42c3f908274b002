"""The index page of a run; reference runs are of today's code, or a warning says what changed."""

import re
import shutil
import warnings

import nbformat
import numpy as np
import pandas as pd
import pytest

from utils import paths, reference
from utils.pipeline import notebooks, profiles, report, steps

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
RUNS = sorted(p.name for p in reference.FOLDER.iterdir() if (p / "env.json").exists())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a run whose name has to be escaped."""
    monkeypatch.setattr(paths, "SUBMISSIONS", tmp_path / "submissions")
    for path in (tmp_path / "a & b" / "figures", tmp_path / "a & b" / "notebooks"):
        path.mkdir(parents=True)
    paths.SUBMISSIONS.mkdir()
    return tmp_path / "a & b"


def test_the_index_page_of_an_empty_run_promises_nothing(folder):
    text = report.write(folder).read_text()
    assert "<h2>" not in text and "<details>" not in text and "class='result'" not in text


def of_two_models(key=True):
    """results.csv, with the columns that notebook 08 writes if there is a key."""
    table = {"model": ["<vote>", "svm"], "f1": [0.6, 0.7], "f1_low": 0.5, "f1_high": 0.8}
    table |= {"eer": [0.12345, 0.3], "auc": 0.9, "cllr": 0.55555, "floor": 0.46154}
    return pd.DataFrame(table | ({"oof_eer": 0.2} if key else {}))


@pytest.fixture
def finished(folder):
    """A run with everything."""
    of_two_models().to_csv(folder / "results.csv", index=False)
    paths.write_json(folder / "vote.json", {"vote": "<vote>"})
    for name in ("two", "results"):
        (folder / "figures" / f"{name}.png").write_bytes(b"x")
    (folder / "notebooks" / "01_eda.html").write_text("x")
    (folder / "notebooks" / ".02_part.html").write_text("x")
    title = nbformat.v4.new_markdown_cell("# 01. Files & clips\n\ntext")
    notebook = nbformat.v4.new_notebook(cells=[title])
    nbformat.write(notebook, folder / "notebooks" / "01_eda.ipynb")
    (paths.SUBMISSIONS / "a & b.csv").write_text("a.wav,1\nb.wav,0\n")
    paths.write_json(folder / "env.json", {"python": "3.11", "packages": {"torch": "2.0"}})
    return folder


def test_the_index_page_opens_with_the_result_and_folds_the_rest(finished):
    text = report.write(finished).read_text()
    order = ["On the test, the submitted model", "<table", "results.png", "Notebooks, as executed"]
    order += ["<details>", "Submission: 2 clips, 50.0% called bona fide", "All measures", "0.556"]
    order += ["Further figures (1)", "two.png", "Environment", "Written at commit", "torch"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "<b>&lt;vote&gt;</b>, has F1 0.600 [0.500, 0.800]" in text
    assert "(calling every clip bona fide: 0.462) and EER 0.123." in text
    assert "<tr class='chosen'>\n      <td>&lt;vote&gt;</td>" in text
    assert "01_eda</a>: Files &amp; clips (" in text


def test_every_link_of_the_index_page_leads_to_a_file(finished):
    text = report.write(finished).read_text()
    links = re.findall(r"(?:href|src)='([^']+)'", text)
    assert len(links) == 4
    assert all((finished / link.replace("&amp;", "&")).exists() for link in links)


def test_without_a_key_the_index_page_says_that_scores_are_out_of_fold(finished):
    of_two_models(key=False).to_csv(finished / "results.csv", index=False)
    text = report.write(finished).read_text()
    assert "Out of fold (there is no test key), the submitted model" in text
    assert "On the test" not in text


@pytest.mark.parametrize(
    ("name", "table", "shown"),
    [
        ("detector", "thresholds", "recordings of people called spoof"),
        ("ablation", "ablation", "unseen families"),
        ("speed", "rivals", "Times real time"),
    ],
)
def test_the_index_page_of_a_study_opens_with_its_last_words_and_its_table(
    folder, name, table, shown
):
    shutil.copy(reference.FOLDER / name / f"{table}.csv", folder)
    said = {"output_type": "display_data", "metadata": {}}
    said |= {"data": {"text/markdown": "- **EER** 0.1 < 0.2.\n- more"}}
    cell = nbformat.v4.new_code_cell("x", outputs=[nbformat.from_dict(said)])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbformat.write(notebook, folder / "notebooks" / "09_last.ipynb")
    text = report.write(folder).read_text()
    assert "<p class='result'>EER 0.1 &lt; 0.2.</p>" in text
    assert shown in text and "<table" in text


@pytest.mark.parametrize("width", [400, 1000])
def test_the_index_page_fits_a_window(finished, width):
    if not CHROMIUM:
        pytest.skip("no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    shutil.copy(reference.FOLDER / "mini" / "results.csv", finished)
    shutil.copy(reference.FOLDER / "mini" / "results.png", finished / "figures")
    page = report.write(finished)
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.goto(page.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        box = tab.locator(".scrolls").first
        assert width < 1000 or box.evaluate("x => x.scrollWidth <= x.clientWidth")
        browser.close()


@pytest.mark.parametrize("name", RUNS)
def test_a_reference_run_is_small(name):
    assert sum(file.stat().st_size for file in (reference.FOLDER / name).rglob("*.*")) < 15e6


@pytest.mark.parametrize("name", [name for name in RUNS if name in profiles.PROFILES])
def test_a_reference_run_has_the_steps_of_its_profile_and_says_when_it_is_stale(name):
    ran = paths.read_json(reference.FOLDER / name / "env.json").get("code", {})
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
    for file in reference.FOLDER.rglob("*.csv"):
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
