"""Notebook 09: from the tables of the release, and trained anew on stand-in pages."""

import shutil

import nbformat
import pandas as pd
import pytest

from tests import helpers
from utils import paths
from utils.detector import detector, scoring
from utils.detector.studies import results

FIGURES = ("det", "candidates", "learning", "audit", "calibration", "errors", "systems")
FIGURES += ("robustness",)
TABLES = ("quality", "thresholds", "errors")
REFERENCE = results.TABLES


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Outputs of the notebook as it stands: the released detector, without a single clip."""
    home = tmp_path_factory.mktemp("notebook-09")
    notebooks = (paths.NOTEBOOKS / "09_detector.ipynb", home / "executed.ipynb")
    done = helpers.run_command(home, *notebooks, module="papermill")
    assert done.returncode == 0, done.stdout
    return home


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_comes_from_the_tables(evaluated, name):
    assert (evaluated / "outputs/detector/figures" / f"{name}.png").stat().st_size > 5000


@pytest.mark.parametrize("name", TABLES)
def test_the_reference_holds_what_the_notebook_writes(evaluated, name):
    found = pd.read_csv(evaluated / "outputs" / "detector" / f"{name}.csv")
    expected = pd.read_csv(REFERENCE / f"{name}.csv")
    pd.testing.assert_frame_equal(found, expected, atol=2e-4)


def test_the_card_says_what_the_scores_say():
    table, said = results.read(REFERENCE / "scores.csv"), detector.Detector().card
    found = results.rates(table, said["threshold"])
    assert found["misses"] == pytest.approx(said["rates"]["misses"], abs=0.005)
    quality = results.quality(table, "score_8khz")
    assert quality["eer"] == pytest.approx(said["owners_left_out"]["8 kHz"]["eer"], abs=0.001)
    assert table["owner"].nunique() == said["trained_on"]["owners"]


@pytest.fixture(scope="module")
def trained(smoke_inputs, tmp_path_factory):
    """Outputs of a run of profile `detector` on six stand-in pages of clips of smoke."""
    home = tmp_path_factory.mktemp("notebook-09-trained")
    shutil.copytree(smoke_inputs / "inputs", home / "inputs")
    pages = helpers.stand_in_pages(home / "given", smoke_inputs, pages=6, clips=90, wide=True)
    external = helpers.stand_in_pages(home / "external", smoke_inputs, pages=2, clips=16)
    values = {"FOLDS": 2, "EXTERNAL_TEST": str(external)}
    done = helpers.run_command(
        home, "--profile", "detector", *helpers.settings(**values), demo_pages=pages
    )
    assert done.returncode == 0, done.stdout
    return home / "outputs" / "detector"


@pytest.mark.slow
def test_a_trained_detector_has_the_files_of_the_release_and_scores(trained):
    opened = scoring.load_detector(trained / "detector")
    assert set(opened.card) == set(detector.Detector().card)
    clips = sorted((trained.parents[1] / "inputs" / "external").rglob("*.wav"))
    assert 0 < opened.probability(clips[0]) < 1
    names = ("scores", "candidates", "learning", "corpora", "segments", "systems", "audit")
    for name in (*names, "speech", "robustness"):
        found = pd.read_csv(trained / "detector" / f"{name}.csv")
        assert list(found) == list(pd.read_csv(REFERENCE / f"{name}.csv")), name


@pytest.mark.slow
def test_every_clip_has_a_score_of_a_fold_that_its_owner_is_not_in(trained):
    table = results.read(trained / "detector" / "scores.csv")
    assert table["score"].notna().all() and table["score_16khz"].notna().any()
    assert table.groupby("owner")["fold"].nunique().eq(1).all()


@pytest.mark.slow
def test_the_executed_notebook_ends_with_the_numbers_of_the_run(trained):
    cells = nbformat.read(trained / "notebooks" / "09_detector.ipynb", 4).cells
    quality = pd.read_csv(trained / "quality.csv", index_col="scored")["eer"]
    (output,) = [cell for cell in cells if cell.cell_type == "code"][-1].outputs
    assert f"EER {quality.iloc[1]:.3f}" in output["data"]["text/markdown"]
    assert pd.read_csv(trained / "external_test.csv")["clips"].tolist() == [16]
