"""The notebook for Kaggle, executed where there is no network."""

import ast
import os
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import papermill
import pytest

from tests import helpers
from tests.ground import test_links as links
from tests.ground import test_structure as structure
from utils import paths
from utils.audio import reading

NOTEBOOK = paths.NOTEBOOKS / "kaggle" / "submission.ipynb"
PINS = paths.ROOT / "utils" / "detector" / "requirements.txt"
CELLS = nbformat.read(NOTEBOOK, 4).cells
CODE = [cell for cell in CELLS if cell.cell_type == "code"]
ALONE = """
import ast, fcntl, socket, struct, sys
import papermill
with socket.socket() as made:  # the notebook and its process talk by the loopback: SIOCSIFFLAGS
    fcntl.ioctl(made, 0x8914, struct.pack("16sh", b"lo", 1))
for host in ("1.1.1.1", "8.8.8.8"):
    try:
        socket.create_connection((host, 53), timeout=2)
    except OSError:
        continue
    sys.exit("there is a network")
source, target, parameters = sys.argv[1:]
papermill.execute_notebook(
    source, target, ast.literal_eval(parameters), kernel_name="python3", progress_bar=False
)
"""  # what `python -c` does in a namespace without a network
UNSHARE = ["unshare", "--map-root-user", "--net"]


def test_it_has_no_outputs_and_its_cells_are_short():
    nbformat.validate(nbformat.read(NOTEBOOK, 4))
    assert not any(cell.outputs or cell.execution_count for cell in CODE)
    assert max(len(cell.source.splitlines()) for cell in CODE) <= 25
    names = [name for cell in CODE for _, name in structure.identifiers(cell.source)]
    assert not [name for name in names if structure.retired_in(name)]


def test_its_parameters_are_literals_each_with_its_why():
    (cell,) = [cell for cell in CODE if "parameters" in cell.metadata.get("tags", [])]
    lines = cell.source.splitlines()
    for node in ast.parse(cell.source).body:
        ast.literal_eval(node.value)
        assert node.targets[0].id.isupper() and "#" in lines[node.lineno - 1]


def test_its_links_resolve_and_its_command_names_a_file_that_is_there():
    prose = "\n\n".join(cell.source for cell in CELLS if cell.cell_type == "markdown")
    assert f"-r {PINS.relative_to(paths.ROOT)} -d wheels" in prose
    found = links.links_of(prose)
    assert found and not [why for target in found if (why := links.broken(NOTEBOOK, target))]


@pytest.fixture
def attached(tmp_path):
    """Parameters: a toy detector, and a competition of five hisses (bona fide) and three hums."""
    test, detector = tmp_path / "competition" / "test", tmp_path / "detector"
    test.mkdir(parents=True)
    detector.mkdir()
    helpers.write_toy_detector(detector)
    rng, time = np.random.default_rng(0), np.arange(12000) / 8000
    for number in range(5):
        hiss = rng.normal(size=12000).astype(np.float32) * 0.1
        reading.write(test / f"{number:032x}.wav", hiss)
    for number in range(5, 8):
        hum = 0.1 * np.sin(2 * np.pi * 60 * number * time)
        reading.write(test / f"{number:032x}.wav", hum.astype(np.float32))
    (tmp_path / "wheels").mkdir()
    return {
        "CODE": str(paths.ROOT),
        "WHEELS": str(tmp_path / "wheels"),
        "COMPETITION": str(test.parent),
        "OUT": str(tmp_path / "out"),
        "DETECTOR": str(detector),
    }


def test_a_missing_folder_is_named_before_anything_else_happens(attached, tmp_path):
    shutil.rmtree(attached["COMPETITION"])
    with pytest.raises(papermill.PapermillExecutionError) as raised:
        papermill.execute_notebook(
            NOTEBOOK, tmp_path / "executed.ipynb", attached, kernel_name="python3"
        )
    said = raised.value.evalue
    assert f"COMPETITION: no test/*.wav in {attached['COMPETITION']}" in said
    assert f"(in {tmp_path} lie ['detector', 'executed.ipynb', 'wheels'])" in said
    assert "WHEELS: no onnxruntime-*.whl" in said and "CODE:" not in said
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The folder that the notebook's prose says how to make."""
    folder = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "download", "-q", "-r", PINS, "-d", folder]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"wheels could not be fetched: {done.stderr[-300:]}")
    return folder


def execute_alone(parameters, target):
    """Execute the notebook in a namespace without a network; its process and what it printed."""
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode:
        pytest.skip("this machine makes no namespaces without a network for this user")
    command = [*UNSHARE, sys.executable, "-c", ALONE, NOTEBOOK, target, repr(parameters)]
    environment = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=600, env=environment
    )


@pytest.mark.slow
def test_without_a_network_it_installs_scores_and_writes_the_submission(attached, wheels, tmp_path):
    done = execute_alone(attached | {"WHEELS": str(wheels)}, tmp_path / "executed.ipynb")
    assert done.returncode == 0, done.stderr[-3000:]
    text = (tmp_path / "out" / "submission.csv").read_text()
    assert text == "".join(f"{number:032x}.wav,{int(number < 5)}\n" for number in range(8))
    kept = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert kept == ["decisions.png", "scores.csv", "submission.csv"]
    outputs = [
        output
        for cell in nbformat.read(tmp_path / "executed.ipynb", 4).cells
        for output in cell.get("outputs", [])
    ]
    shown = [output["data"] for output in outputs if "data" in output]
    assert any("image/png" in data for data in shown)
    assert "8 clips: 5 called bona fide (62%), 3 spoof" in shown[-1]["text/markdown"]


@pytest.mark.slow
def test_a_clip_that_cannot_be_read_is_named_and_nothing_is_guessed(attached, wheels, tmp_path):
    (tmp_path / "competition" / "test" / f"{8:032x}.wav").write_bytes(b"RIFF, but no sound")
    done = execute_alone(attached | {"WHEELS": str(wheels)}, tmp_path / "executed.ipynb")
    assert done.returncode and "no submission was written" in done.stderr
    assert f"{8:032x}.wav" in done.stderr
    assert not (tmp_path / "out" / "submission.csv").exists()


@pytest.mark.slow
def test_wheels_that_do_not_fit_are_said_to_be_the_reason(attached, wheels, tmp_path):
    shutil.copytree(wheels, tmp_path / "wheels", dirs_exist_ok=True)
    next((tmp_path / "wheels").glob("numpy-*.whl")).unlink()
    done = execute_alone(attached, tmp_path / "executed.ipynb")
    assert done.returncode and "are not those of Python 3." in done.stderr
    assert "numpy" in done.stderr
