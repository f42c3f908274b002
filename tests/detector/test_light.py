"""Scoring needs a small environment only, and can be installed by itself."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

from utils import paths
from utils.audio import reading
from utils.detector.scoring import RATE

PINS = paths.ROOT / "utils" / "detector" / "requirements.txt"
BROUGHT = """
cffi _cffi_backend _soundfile _soundfile_data google flatbuffers packaging typing_extensions
"""  # what these packages import of others
HOOK = """
import sys
ALLOWED = set({allowed!r})
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in sys.stdlib_module_names and top not in ALLOWED:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
"""


def pinned(path):
    """Package → version of a file of requirements."""
    return dict(re.findall(r"^([\w-]+)==(\S+)", path.read_text(), re.MULTILINE))


@pytest.fixture
def hiss(toy, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    reading.write(folder / "hiss.wav", toy.waves[0], RATE)
    return folder / "hiss.wav"


def run(command, **options):
    """A finished command; its status must be 0."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=600, **options
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return done


def test_the_small_environment_has_the_versions_of_the_full_one():
    small, full = pinned(PINS), pinned(paths.ROOT / "requirements.txt")
    assert len(small) == 6 and small.items() <= full.items()
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    assert {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]} == set(small)


@pytest.mark.parametrize("files", [1, 300])  # 300 are more than a shard: in processes
def test_scoring_imports_what_the_small_environment_has(toy, hiss, files, tmp_path):
    allowed = [*pinned(PINS), *BROUGHT.split(), "utils", "sitecustomize"]
    (tmp_path / "sitecustomize.py").write_text(HOOK.format(allowed=allowed))
    for number in range(files - 1):
        (hiss.parent / f"{number}.wav").symlink_to(hiss)
    command = [sys.executable, "-m", "utils.predict", hiss.parent, "--detector", toy.folder]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{paths.ROOT}"}
    timeline = ["--timeline", tmp_path / "times"] if files == 1 else []
    done = run([*command, *timeline], env=environment, cwd=tmp_path)
    assert done.stdout.count("  bona fide  ") == files
    if timeline:
        assert "matplotlib" in done.stderr and (tmp_path / "times" / "hiss.wav.csv").exists()


@pytest.mark.slow
def test_run_all_sets_up_a_small_environment_and_scores(toy, hiss, tmp_path):
    venv = tmp_path / "venv"
    environment = os.environ | {"DFS_VENV": str(tmp_path / "none"), "DFS_VENV_SCORE": str(venv)}
    command = [paths.ROOT / "run_all.sh", "predict", hiss.name, "--detector", toy.folder]
    done = run(command, env=environment, cwd=hiss.parent)
    assert "setting up" in done.stderr and "  bona fide  " in done.stdout
    size = sum(path.lstat().st_blocks * 512 for path in venv.rglob("*"))
    assert size < 300e6
    assert not list(venv.rglob("torch")) and not (tmp_path / "none").exists()
    assert "setting up" not in run(command, env=environment, cwd=hiss.parent).stderr


@pytest.mark.slow
def test_the_installed_command_scores_from_any_folder(toy, hiss, tmp_path):
    source, target = tmp_path / "source", tmp_path / "installed"
    shutil.copytree(
        paths.ROOT / "utils", source / "utils", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(paths.ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, source])
    (wheel,) = tmp_path.glob("deepfake_speech-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "utils/detector/released/encoders.onnx" in names
    assert not [name for name in names if name.startswith(("utils/models", "utils/detector/train"))]
    run([*pip, "install", "--no-deps", "--target", target, wheel])
    command, environment = target / "bin" / "deepfake-speech", {"PYTHONPATH": str(target)}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | environment
    text = run([command, "--help"], env=environment, cwd=tmp_path).stdout
    assert text.startswith("usage: deepfake-speech")
    done = run([command, "in/hiss.wav"], env=environment, cwd=tmp_path)  # the released detector
    assert "in/hiss.wav" in done.stdout
    door = "import utils.predict as p; print(p.__file__, p.load_detector().probability('hiss.wav'))"
    done = run([sys.executable, "-c", door], env=environment, cwd=hiss.parent)
    assert done.stdout.startswith(str(target))
