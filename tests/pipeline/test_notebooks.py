"""The form of the notebooks, and what the runner does when one fails."""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from utils import contracts, paths
from utils.pipeline import profiles, run

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))


def test_there_are_thirteen():
    assert [p.stem[:2] for p in NOTEBOOKS] == [f"{i:02d}" for i in range(1, 14)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_form(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert not any(c.outputs or c.execution_count for c in code), "committed with outputs"
    tagged = [c for c in code if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    for node in ast.parse(tagged[0].source).body:
        assert isinstance(node, ast.Assign) and node.targets[0].id.isupper()
        ast.literal_eval(node.value)
    assert all("#" in line for line in tagged[0].source.splitlines()), "a parameter without its why"
    first, last = notebook.cells[0].source, notebook.cells[-1].source
    assert first.startswith(f"# {path.stem[:2]}. ")
    assert all(word in first for word in ("Question", "Reads", "Writes", "Costs", "Expect"))
    assert "What we learned" in last
    for cell in code:
        tree = ast.parse(cell.source)
        assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(tree))
        assert len(cell.source.splitlines()) <= 35
    if path.stem[:2] not in ("08", "11", "12", "13"):
        text = "".join(c.source for c in notebook.cells)
        assert "test_key" not in text and "clips_of" not in text, "the key is for evaluation only"


def test_parameters_of_all_profiles_exist():
    for _, steps in profiles.PROFILES.values():
        for step in steps:
            run.check_parameters(step)


def test_mistyped_options_are_refused(capsys):
    for arguments, message in (
        (["--set", "EPOCH=1"], "no notebook of this profile has a parameter 'EPOCH'"),
        (["--only", "09"], "no notebook '09'"),
        (["--set", "RUN=../x"], "plain folder name"),
    ):
        assert run.main(["--profile", "smoke", *arguments]) == 1
        assert message in capsys.readouterr().err
    with pytest.raises(run.RunError, match="EPOCHZ"):
        run.check_parameters(profiles.Step("04_finetune", {"EPOCHZ": 1}))
    assert run.main(["--profile", "finvcup9"]) == 1  # its archive is not here
    assert "Unpack the archive" in capsys.readouterr().err


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    def make(name, *cells):
        body = [nbformat.v4.new_code_cell(source) for source in ("X = 1  # why", *cells)]
        body[0].metadata["tags"] = ["parameters"]
        notebook = nbformat.v4.new_notebook(
            cells=body,
            metadata={
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
            },
        )
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
        return profiles.Step(name, {"X": 2})

    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    return make


def test_a_failing_cell_is_named(notebooks):
    step = notebooks("77_fails", "y = X", "raise ValueError('on purpose')")
    with pytest.raises(run.RunError, match=r"77_fails, cell \d: ValueError: on purpose"):
        run.execute(step, paths.run_dir("failing"), "digest")
    assert not (paths.OUTPUTS / "failing" / ".stamps").exists()


def test_a_killed_kernel_is_a_failure(notebooks):
    step = notebooks(
        "78_killed", "y = X", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "z = 1"
    )
    with pytest.raises(
        run.RunError, match="78_killed, cell 3: .*(died|did not run)"
    ):  # 0-based; one cell is injected
        run.execute(step, paths.run_dir("killed"), "digest")
    assert not (paths.OUTPUTS / "killed" / ".stamps").exists()


def test_figures_are_in_the_executed_notebook(notebooks, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")  # as on a server, or in these tests
    step, folder = (
        notebooks("76_plots", "import matplotlib.pyplot as plt\nplt.plot([1, X])\nNone"),
        paths.run_dir("plots"),
    )
    run.execute(step, folder, "digest")
    cells = nbformat.read(folder / "notebooks" / "76_plots.ipynb", 4).cells
    assert any(
        "image/png" in output.get("data", {})
        for cell in cells
        for output in cell.get("outputs", [])
    )
    assert "data:image/png" in (folder / "notebooks" / "76_plots.html").read_text()


def test_finished_means_same_digest_and_all_files(notebooks):
    step, folder = (
        notebooks(
            "79_writes",
            "from pathlib import Path",
            f"Path(r'{paths.OUTPUTS}/done/a.txt').write_text('x' * X)",
        ),
        paths.run_dir("done"),
    )
    run.execute(step, folder, "one")
    assert run.is_finished(step, folder, "one") and not run.is_finished(step, folder, "two")
    assert (folder / "a.txt").read_text() == "xx" and (
        folder / "notebooks" / "79_writes.html"
    ).exists()
    (folder / "a.txt").unlink()
    assert not run.is_finished(step, folder, "one")


def test_two_runs_at_once_are_refused():
    folder = paths.run_dir("locked")
    with run.locked(folder), pytest.raises(run.RunError, match="in use"), run.locked(folder):
        pass


def command(home, *arguments, given="", cache=paths.CACHE):
    environment = os.environ | {
        "DFS_HOME": str(home),
        "PYTHONPATH": str(paths.ROOT),
        "DFS_DEMO_PAGES": given,
        "DFS_CACHE": str(cache),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "utils.pipeline.run", "--profile", "smoke", *arguments],
        cwd=paths.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def downloads_only(cache):
    """A cache in which nothing was computed yet."""
    cache.mkdir(parents=True)
    for name in ("apt", "downloads", "packages"):
        if (paths.CACHE / name).exists():
            (cache / name).symlink_to(paths.CACHE / name)
    return cache


STARTED = re.compile(r"\[(\d)/8\] \S+: started")


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """(folder, seconds of the build and of each notebook) of a smoke run that nobody disturbs, from downloads on."""
    home, begun = tmp_path_factory.mktemp("calm"), [time.monotonic()]
    process, output = command(home, cache=downloads_only(home / "cache")), ""
    for line in process.stdout:
        output += line
        begun += [time.monotonic()] * bool(STARTED.match(line))
    assert process.wait() == 0 and len(begun) == 9, output
    return home, np.diff([*begun, time.monotonic()])


def test_twenty_kills(calm, tmp_path):
    """kill -9 at seeded moments of every part of the run, from the build of the inputs to the last notebook; each time it goes on."""
    calm, takes = calm
    rng, cache, home, kills = (
        np.random.default_rng(20),
        downloads_only(tmp_path / "cache"),
        tmp_path / "killed",
        0,
    )
    moments = sorted(
        (part, rng.uniform(0, takes[part])) for part in [*range(9), *rng.integers(0, 9, 11)]
    )
    for part, delay in moments:
        while True:
            process = command(home, cache=cache)
            if part:  # wait until it is there, or beyond where an earlier kill came late
                for line in process.stdout:
                    if (found := STARTED.match(line)) and int(found[1]) >= part:
                        break
            try:
                output, _ = process.communicate(timeout=delay)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                kills += 1
                break
            assert process.returncode == 0, (
                output
            )  # it came to its end before: once more, from the last notebook on, and sooner
            (home / "outputs" / "smoke" / ".stamps" / "08_evaluation.json").unlink()
            delay *= 0.7
    assert kills == 20
    process = command(home, cache=cache)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0 and "07_vote: finished before" in output, output
    same_results(home, calm)


def same_results(home, calm):
    """The submission to the byte, and the probabilities behind it to the last digit."""
    assert (home / "submissions" / "smoke.csv").read_bytes() == (
        calm / "submissions" / "smoke.csv"
    ).read_bytes()
    for name in ("probabilities.csv", "models/ge2e/fold0/weights.safetensors"):
        assert (home / "outputs" / "smoke" / name).read_bytes() == (
            calm / "outputs" / "smoke" / name
        ).read_bytes()


def test_a_run_on_a_cluster_is_that_of_one_machine(calm, tmp_path):
    """Inputs, features, folds and scores made by Ray."""
    process = command(tmp_path / "ray", "--engine", "ray", cache=downloads_only(tmp_path / "cache"))
    output, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, output
    same_results(tmp_path / "ray", calm[0])


def test_smoke_with_a_broken_clip(calm, tmp_path):
    """All notebooks on real clips, and the speed profile after them; finished work is not redone; a broken clip stops the hand-in."""
    broken = tmp_path / "broken"
    for home in (broken, tmp_path / "home"):
        shutil.copytree(calm[0], home, ignore=shutil.ignore_patterns("cache"))
    cache, calm = calm[0] / "cache", home
    submission = (calm / "submissions" / "smoke.csv").read_bytes()
    assert (
        len(submission.splitlines())
        == len(list((calm / "inputs" / "smoke" / "test").glob("*.wav")))
        > 20
    )
    for path in (calm / "outputs" / "smoke" / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, 4).cells:
            if "plots.save(" in cell.source:
                assert any("image/png" in o.get("data", {}) for o in cell.outputs), (
                    f"{path.name} shows no figure: {cell.source[:60]}"
                )
    gains = pd.read_csv(
        calm / "outputs" / "smoke" / "stack" / "importances.csv", index_col="member"
    )
    assert set(gains.index) == {"ge2e", "ge2e-kernel", "deep-svdd"} and np.allclose(
        gains.sum(), 1, atol=1e-3
    )
    began = time.monotonic()
    process = command(calm, cache=cache)
    output, _ = process.communicate(timeout=300)
    assert (
        process.returncode == 0
        and output.count("finished before") == 8
        and time.monotonic() - began < 60
    )

    short = {
        "RUN": "speed",
        "COMPETITION": "smoke",
        "TRAINED": "smoke",
        "SECONDS": [4, 30],
        "ROUNDS": 1,
        "BATCH": 1,
        "LID_CLIPS": 4,
        "PRECISIONS": ["fp32", "int8"],
        "PRECISION_CLIPS": 10,
        "HUB": ["whisper-tiny"],
        "HUB_CLIPS": 1,
        "FEW_CLIPS": 64,
        "GROWTH_CLIPS": 2000,
    }
    set_all = [part for pair in short.items() for part in ("--set", "{}={}".format(*pair))]
    process = command(calm, "--profile", "speed", *set_all, cache=cache)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    costs = pd.read_csv(calm / "outputs" / "speed" / "hardware.csv").set_index("model")
    assert {"ge2e", "whisper-tiny (random weights)"} <= set(costs.index) and (
        costs["× real time"].dropna() > 0
    ).all()
    assert not (calm / "outputs" / "speed" / "growth").exists()

    given = (
        tmp_path / "given" / "clips"
    )  # demonstration pages, stood in for by the smoke competition's own raw clips
    given.mkdir(parents=True)
    meta = pd.read_csv(calm / "inputs" / "smoke" / "train_meta.csv").sample(16, random_state=1)
    for name in meta["id"]:
        shutil.copy(calm / "inputs" / "smoke" / "raw" / name, given / name)
    meta.assign(
        name=meta["id"], group=[f"p{i % 4}" for i in range(16)], repo="p/p", path="x.wav"
    ).to_csv(given.parent / "key.csv", index=False)
    process = command(
        calm,
        "--only",
        "02",
        "--set",
        "EXTERNAL=['demo_pages']",
        given=str(given.parent),
        cache=cache,
    )
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    manifest = contracts.read_manifest(calm / "outputs" / "smoke")
    assert (manifest["split"] == "external").sum() == 16 and (
        manifest["source"] == "demo_pages"
    ).sum() == 16
    assert set(
        contracts.read_folds(calm / "outputs" / "smoke", contracts.training(manifest)).index
    ) == set(contracts.training(manifest)["id"])

    clips = sorted((broken / "inputs" / "smoke" / "test").glob("*.wav"))[:4]
    clips[0].write_text("words, not audio")
    clips[1].write_bytes(b"")
    sf.write(clips[2], np.full(8000, np.nan, np.float32), 8000, subtype="FLOAT")
    clips[3].unlink()
    (broken / "submissions" / "smoke.csv").unlink()
    process = command(broken, cache=cache)
    output, _ = process.communicate(timeout=900)
    assert (
        process.returncode == 1
        and "07_vote" in output
        and "4 test clips have no decision" in output
    )
    assert clips[0].name in output and "MISSING_AS" in output
    reported = (broken / "outputs" / "smoke" / "rejected.csv").read_text()
    for clip, reason in zip(clips, ("not audio", "empty file", "NaN", "no such file"), strict=True):
        assert any(clip.name in line and reason in line for line in reported.splitlines())
    assert not (broken / "submissions" / "smoke.csv").exists()


def test_the_real_archives_layout_yields_a_submission(tmp_path):
    """30 clips of the real archive in its layout, with every notebook: no special case."""
    sample = paths.ROOT.parent / "shared" / "competition_sample"
    if not sample.exists():
        pytest.skip("clips of the real archive are not here")
    shutil.copytree(sample, tmp_path / "inputs" / "sample")
    process = command(tmp_path, "--set", "COMPETITION=sample", "--set", "RUN=sample")
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    lines = (tmp_path / "submissions" / "sample.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == sorted(
        p.name for p in (sample / "test").glob("*.wav")
    )
    assert {line.split(",")[1] for line in lines} <= {"0", "1"}
