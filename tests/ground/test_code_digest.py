"""A digest changes with what decides a result and with nothing else."""

import importlib
import sys

import pytest

from utils import code_digest

FIRST = '''
"""Text."""
import numpy as np

from utils.{other} import LIMIT

def level(wave):
    """A docstring."""
    return scaled(np.abs(wave)).max()

def scaled(wave):
    return wave * LIMIT
'''
SECOND = "LIMIT = 2.0\nUNUSED = 3\n"


@pytest.fixture
def digest(tmp_path, monkeypatch):
    """Digest of `level`, written as two modules of these names with these sources."""

    def of(first=FIRST, second=SECOND, names=("one", "two"), function="level"):
        folder = tmp_path / "utils"
        folder.mkdir(exist_ok=True)
        for name, source in zip(names, (first, second), strict=True):
            (folder / f"{name}.py").write_text(source.format(other=names[1]))
        monkeypatch.setattr(code_digest, "ROOT", tmp_path)
        for cached in (code_digest._path, code_digest._open, code_digest._definition):
            cached.cache_clear()
        module = type(sys)("module")
        module.level = lambda: None
        module.level.__module__, module.level.__qualname__ = f"utils.{names[0]}", function
        return code_digest.code_digest(module.level)

    yield of
    monkeypatch.undo()
    for cached in (code_digest._path, code_digest._open, code_digest._definition):
        cached.cache_clear()


def test_comments_layout_docstrings_and_what_is_not_reached_change_nothing(digest):
    changed = FIRST.replace('"""A docstring."""', '"""Another one."""  # why')
    changed = changed.replace(
        "return wave * LIMIT", "return (\n        wave\n        * LIMIT\n    )"
    )
    assert digest() == digest(changed) == digest(second="UNUSED = 4\nLIMIT = 2.0\n")


def test_a_rename_and_a_move_change_nothing(digest):
    renamed = FIRST.replace("scaled", "louder").replace("LIMIT", "FACTOR")
    before = digest()
    assert digest(renamed, SECOND.replace("LIMIT", "FACTOR")) == before
    assert digest(names=("three", "four")) == before
    assert digest(FIRST.replace("level", "peak"), function="peak") == before


def test_what_decides_a_result_changes_it(digest):
    before = digest()
    assert digest(second="LIMIT = 2.1\n") != before
    assert digest(FIRST.replace(".max()", ".min()")) != before
    assert digest(FIRST.replace("wave * LIMIT", "wave + LIMIT")) != before
    assert digest(FIRST.replace("np.abs", "np.square")) != before


def test_settings_and_versions_of_libraries_count(digest, monkeypatch):
    before = digest()
    code_digest._version.cache_clear()
    monkeypatch.setattr(code_digest.importlib.metadata, "version", lambda name: "0.0")
    assert digest() != before
    code_digest._version.cache_clear()


def test_definitions_that_call_each_other(digest):
    loop = FIRST.replace("return wave * LIMIT", "return level(wave) if LIMIT else wave")
    assert digest(loop) != digest()


def test_what_is_no_definition_is_refused():
    with pytest.raises(ValueError, match="no definition of a module"):
        code_digest.code_digest(lambda: 1)


@pytest.mark.parametrize(
    ("function", "reached"),
    [
        ("competition.build.build", ["parallel.seeded_rng", "audio.channel.condition"]),
        ("models.finetune.run_fold", ["audio.augmentation.PROBABILITIES", "models.encoders.load"]),
        ("detector.scoring.Scorer", ["audio.reading.decode", "models.pooled_features"]),
    ],
)
def test_nothing_that_decides_is_missing(function, reached):
    module, name = function.rsplit(".", 1)
    importlib.import_module(f"utils.{module}")
    found = code_digest.reached(f"from utils.{module} import {name}\n{name}")
    assert all(any(part.startswith(f"utils.{name}") for part in found) for name in reached), found


def test_what_a_loader_captured_counts():
    from utils.synthesis import vocoders

    one, other = (code_digest.code_digest(vocoders.load_world(shift)) for shift in (1.0, 1.18))
    assert one != other == code_digest.code_digest(vocoders.load_world(1.18))
