"""Notebook 09 on stand-in data: the clips of smoke, as demo pages and as package clips."""

import shutil

import nbformat
import pandas as pd
import pytest

from tests import helpers
from utils import paths
from utils.detector import page, scoring

pytestmark = pytest.mark.slow
FILES = ("leave_out", "sources", "pages", "segments", "external_test")
FIGURES = ("leave_out", "sources", "detector_calibration", "timeline", "likeness")


@pytest.fixture(scope="module")
def finished(smoke_inputs, tmp_path_factory):
    """Outputs of a run of profile `detector` on smoke and four stand-in pages."""
    home = tmp_path_factory.mktemp("notebook-09")
    shutil.copytree(smoke_inputs / "inputs", home / "inputs")
    pages = helpers.stand_in_pages(home / "given", smoke_inputs, pages=4, clips=60)
    external = helpers.stand_in_pages(home / "external", smoke_inputs, pages=2, clips=16)
    values = {
        "COMPETITION": "smoke",
        "FOLDS": 2,
        "CALIBRATION_FOLDS": 2,
        "PACKAGE_CLIPS": 3,
        "PARTLY_SPOOFED": 1,
        "MUSIC": "",
        "SOURCES": {"some": "^[0-4]", "none": "no-such-path", "all": "wav"},
        "EXTERNAL_TEST": str(external),
    }
    done = helpers.run_command(
        home, "--profile", "detector", *helpers.settings(**values), demo_pages=pages
    )
    assert done.returncode == 0, done.stdout
    return home / "outputs" / "detector"


@pytest.mark.parametrize("name", FILES)
def test_the_notebook_writes_the_columns_that_the_reference_has(finished, name):
    reference = paths.ROOT / "outputs" / "reference" / "detector" / f"{name}.csv"
    assert list(pd.read_csv(finished / f"{name}.csv")) == list(pd.read_csv(reference))


def test_the_rows_of_training_data_are_those_of_the_reference(finished):
    reference = paths.ROOT / "outputs" / "reference" / "detector" / "leave_out.csv"
    expected = pd.read_csv(reference)["trained_on"].tolist()
    assert pd.read_csv(finished / "leave_out.csv")["trained_on"].tolist() == expected


def test_a_source_of_no_clips_or_of_all_is_skipped(finished):
    sources = pd.read_csv(finished / "sources.csv")["without"].tolist()
    assert "some" in sources and not {"none", "all"} & set(sources)


def test_errors_by_page_are_fractions_of_the_clips_of_a_class(finished):
    table = pd.read_csv(finished / "pages.csv")
    assert len(table) == 4 and table[["error_spoof", "error_bonafide"]].stack().between(0, 1).all()
    errors = table["error_spoof"] * table["clips_spoof"]
    errors += table["error_bonafide"] * table["clips_bonafide"]
    assert errors.round().astype(int).tolist() == table["errors"].tolist()


def test_the_detector_that_it_writes_scores_its_training_clips_and_fits_the_page(finished):
    opened = scoring.load_detector(finished / "detector")
    reference = paths.read_json(paths.ROOT / "outputs" / "reference" / "detector" / "card.json")
    assert set(opened.card) == set(reference)
    assert set(opened.card["unseen_pages"]) == set(reference["unseen_pages"])
    clip = next((finished.parents[1] / "inputs" / "external").rglob("*.wav"))
    scorer = scoring.Scorer(str(finished / "detector"), with_language=False)
    text, picture, similar = page.look(str(clip), scorer)
    assert "p(bona fide)" in text and picture is not None and "demo page" in similar


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_kept(finished, name):
    assert (finished / "figures" / f"{name}.png").stat().st_size > 5000


def test_the_executed_notebook_ends_with_the_numbers_of_the_run(finished):
    cells = nbformat.read(finished / "notebooks" / "09_detector.ipynb", 4).cells
    eer = pd.read_csv(finished / "leave_out.csv").set_index("trained_on")["eer"]
    (output,) = [cell for cell in cells if cell.cell_type == "code"][-1].outputs
    assert f"EER {eer['both encoders, SVM']:.3f}" in output["data"]["text/markdown"]
