"""Profile smoke from the downloads to the submission: results, console, variants, kills.

All tests of the one run that was not disturbed are here: pytest-xdist keeps a file in one process.
"""

import os
import re
import signal
import subprocess
import time

import nbformat
import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from tests import helpers
from utils import contracts, paths

LINES = [  # all that a smoke run may print
    r"profile smoke: .+",
    r"notebooks: 8, finished before: \d, time: (about \d+ min on two idle cores|seconds)",
    r"results: \S+, \S+; log: \S+",
    r"inputs/smoke(: .+| is complete, nothing to do)",
    r"\[\d/8\] \w+: (started \d\d:\d\d:\d\d|\d+ s|finished before)",
    r"done: \S+index.html, \S+smoke.csv",
    r"[\w ]+: +\d+%\|.+\|.+\[.+\] *",  # a progress bar
]


def strange_lines(output):
    lines = [line for line in re.split(r"[\r\n]+", output) if line.strip()]
    return [line for line in lines if not any(re.fullmatch(form, line) for form in LINES)]


def test_a_run_prints_its_own_lines_and_bars_and_nothing_else(smoke_run):
    assert strange_lines(smoke_run.output) == []
    for beginning in (
        "profile smoke",
        "notebooks: 8, finished before: 0",
        "results",
        "[1/8]",
        "done",
    ):
        assert f"\n{beginning}" in f"\n{smoke_run.output}"


def test_the_submission_decides_every_test_clip(smoke_run):
    lines = (smoke_run.home / "submissions" / "smoke.csv").read_text().splitlines()
    clips = (smoke_run.home / "inputs" / "smoke" / "test").glob("*.wav")
    assert [line.split(",")[0] for line in lines] == sorted(clip.name for clip in clips)
    assert len(lines) > 20


def test_the_executed_notebooks_show_every_figure_that_they_save(smoke_run):
    executed = sorted((smoke_run.home / "outputs" / "smoke" / "notebooks").glob("*.ipynb"))
    assert len(executed) == 8
    for path in executed:
        for cell in nbformat.read(path, 4).cells:
            if "plots.save(" in cell.source:
                shown = any("image/png" in output.get("data", {}) for output in cell.outputs)
                assert shown, f"{path.name} shows no figure: {cell.source[:60]}"


def test_all_models_of_the_run_are_members_of_its_stack(smoke_run):
    file = smoke_run.home / "outputs" / "smoke" / "stack" / "importances.csv"
    gains = pd.read_csv(file, index_col="member")
    assert set(gains.index) == {"ge2e", "ge2e-svm", "deep-svdd", "detector"}
    assert np.allclose(gains.sum(), 1, atol=1e-3)


def test_strict_and_lenient_models_vote_but_are_no_members_of_the_stack(smoke_run):
    run = smoke_run.home / "outputs" / "smoke"
    vote = paths.read_json(run / "vote.json")
    assert vote["strictnesses"] == ["ge2e-svm-strict", "ge2e-svm", "ge2e-svm-lenient"]
    assert not {"ge2e-svm-strict", "ge2e-svm-lenient"} & {*vote["members"], *vote["candidates"]}
    for name, clips in (("oof_probabilities", "oof"), ("probabilities", "test")):
        voted = pd.read_csv(run / f"{name}.csv", index_col="id")["hard vote"]
        scores = contracts.read_scores(run, clips, vote["strictnesses"]).loc[voted.index]
        assert ((voted > 0.5) == ((scores > 0).sum(axis=1) >= 2)).all()


def test_evaluation_tells_what_another_prior_would_have_given(smoke_run):
    run = smoke_run.home / "outputs" / "smoke"
    vote = paths.read_json(run / "vote.json")
    priors = pd.read_csv(run / "priors.csv", index_col=0)
    submitted = pd.read_csv(run / "results.csv", index_col="model").loc[vote["vote"]]
    row = priors.loc[vote["prior_used"]]
    assert row["threshold"] == pytest.approx(vote["thresholds"][vote["vote"]], abs=1e-4)
    assert row[["f1", "recall"]].tolist() == pytest.approx(submitted[["f1", "recall"]], abs=1e-4)
    assert {"members", "three strictnesses"} == set(pd.read_csv(run / "variance.csv")["models"])


def test_a_second_run_does_nothing_and_says_so(smoke_run):
    began = time.monotonic()
    done = helpers.run_command(smoke_run.home, cache=smoke_run.cache)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(": finished before") == 8
    assert "notebooks: 8, finished before: 8, time: seconds" in done.stdout
    assert strange_lines(done.stdout) == []
    assert time.monotonic() - began < 120


def test_a_failure_names_the_cell_and_the_log(smoke_run, tmp_path):
    home = smoke_run.copied_to(tmp_path / "home")
    (home / "outputs" / "smoke" / "manifest.csv").write_text("id\nx\n")
    done = helpers.run_command(home, "--only", "06", cache=smoke_run.cache)
    assert done.returncode == 1
    assert re.search(r"\nFAILED: notebook 06_stacking, cell \d+: ", done.stdout)
    log = home / "outputs" / "smoke" / "run.log"
    assert done.stdout.endswith(f"log: {log}\n") and log.exists()


@pytest.mark.slow
def test_a_run_on_a_cluster_is_that_of_one_machine(smoke_run, tmp_path):
    """Inputs, features, folds and scores made by Ray."""
    pytest.importorskip("ray")
    home, cache = tmp_path / "home", helpers.empty_cache(tmp_path / "cache")
    done = helpers.run_command(home, "--engine", "ray", cache=cache)
    assert done.returncode == 0, done.stdout
    helpers.assert_same_results(home, smoke_run.home)


@pytest.mark.slow
def test_speed_is_measured_with_the_models_of_another_run(smoke_run, tmp_path):
    home = smoke_run.copied_to(tmp_path / "home")
    few = helpers.settings(
        COMPETITION="smoke",
        TRAINED="smoke",
        SECONDS=[4, 30],
        ROUNDS=1,
        BATCH=1,
        LID_CLIPS=4,
        PRECISIONS=["fp32", "int8"],
        PRECISION_CLIPS=10,
        HUB=["whisper-tiny"],
        HUB_CLIPS=1,
        DETECTOR_FILES=4,
        FEW_CLIPS=64,
        GROWTH_CLIPS=2000,
    )
    done = helpers.run_command(home, "--profile", "speed", *few, cache=smoke_run.cache)
    assert done.returncode == 0, done.stdout
    costs = pd.read_csv(home / "outputs" / "speed" / "hardware.csv").set_index("model")
    assert {"ge2e", "whisper-tiny (random weights)"} <= set(costs.index)
    (speed,) = [column for column in costs if "real" in column and "time" in column]
    assert (costs[speed].dropna() > 0).all()
    assert not (home / "outputs" / "speed" / "growth").exists()


@pytest.mark.slow
def test_demo_pages_train_too_where_they_are_asked_for(smoke_run, tmp_path):
    home = smoke_run.copied_to(tmp_path / "home")
    pages = helpers.stand_in_pages(tmp_path / "pages", home, clips=16)
    more = ["--only", "02", "--set", "EXTERNAL=['demo_pages']"]
    done = helpers.run_command(home, *more, demo_pages=pages, cache=smoke_run.cache)
    assert done.returncode == 0, done.stdout
    run = home / "outputs" / "smoke"
    manifest = contracts.read_manifest(run)
    assert (manifest["split"] == "external").sum() == 16
    assert (manifest["source"] == "demo_pages").sum() == 16
    train = contracts.training(manifest)
    assert set(contracts.read_folds(run, train).index) == set(train["id"])


@pytest.mark.slow
def test_broken_test_clips_are_listed_and_nothing_is_submitted(smoke_run, tmp_path):
    home = smoke_run.copied_to(tmp_path / "home")
    clips = sorted((home / "inputs" / "smoke" / "test").glob("*.wav"))[:4]
    clips[0].write_text("words, not audio")
    clips[1].write_bytes(b"")
    sf.write(clips[2], np.full(8000, np.nan, np.float32), 8000, subtype="FLOAT")
    clips[3].unlink()
    (home / "submissions" / "smoke.csv").unlink()
    some = [word for number in ("02", "04", "05", "06", "07") for word in ("--only", number)]
    done = helpers.run_command(home, *some, cache=smoke_run.cache)
    assert done.returncode == 1
    for word in ("07_vote", "4 test clips have no decision", clips[0].name, "MISSING_AS"):
        assert word in done.stdout
    rejected = (home / "outputs" / "smoke" / "rejected.csv").read_text().splitlines()
    for clip, why in zip(clips, ("not audio", "empty file", "NaN", "no such file"), strict=True):
        assert any(clip.name in line and why in line for line in rejected)
    assert not (home / "submissions" / "smoke.csv").exists()


@pytest.mark.slow
def test_without_a_test_key_the_training_clips_are_evaluated_out_of_fold(smoke_run, tmp_path):
    """Notebook 08 promised this for the real archive, and left nearly everything out instead."""
    home = smoke_run.copied_to(tmp_path / "home")
    (home / "inputs" / "smoke" / "test_key.csv").unlink()
    run = home / "outputs" / "smoke"
    for name in ("results.csv", "breakdown.csv"):
        (run / name).unlink()
    parameters = {"RUN": "smoke", "COMPETITION": "smoke", "BOOTSTRAPS": 20, "SPEED_CLIPS": 1}
    given = [text for name, value in parameters.items() for text in ("-p", name, value)]
    notebooks = (paths.NOTEBOOKS / "08_evaluation.ipynb", tmp_path / "executed.ipynb")
    done = helpers.run_command(home, *notebooks, *given, module="papermill", cache=smoke_run.cache)
    assert done.returncode == 0, done.stdout
    results = pd.read_csv(run / "results.csv", index_col="model")
    of_votes = pd.read_csv(run / "oof_results.csv", index_col="model")
    assert np.allclose(results["f1"], of_votes.loc[results.index, "f1"], atol=1e-3)
    clips = results["bonafide"] + results["spoofs"]
    assert (clips == len(pd.read_csv(run / "folds.csv"))).all()
    assert np.allclose(results["floor"], 2 / (1 + clips / results["bonafide"]), atol=1e-3)


PARTS = range(0, 9, 2)  # of the inputs and then eight notebooks, those that are killed once


def killed(home, cache, part, delay):
    """Whether the run was killed `delay` seconds after `part` began; else it came to its end."""
    process = helpers.start_command(home, cache=cache)
    if part:  # wait until it is there, or beyond where an earlier kill came late
        for line in process.stdout:
            found = helpers.STARTED.match(line)
            if found and int(found[1]) >= part:
                break
    try:
        output, _ = process.communicate(timeout=delay)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0, output
    return False


@pytest.mark.slow
def test_a_run_killed_in_many_of_its_parts_goes_on_to_the_same_results(smoke_run, tmp_path):
    rng = np.random.default_rng(20)
    moments = [(part, rng.uniform(0, smoke_run.seconds[part])) for part in PARTS]
    home, cache = tmp_path / "home", helpers.empty_cache(tmp_path / "cache")
    for part, delay in moments:
        while not killed(home, cache, part, delay):
            # it was through before: once more, from the last notebook on, and sooner
            (home / "outputs" / "smoke" / ".stamps" / "08_evaluation.json").unlink()
            delay *= 0.7
    done = helpers.run_command(home, cache=cache)
    assert done.returncode == 0 and "07_vote: finished before" in done.stdout, done.stdout
    helpers.assert_same_results(home, smoke_run.home)
