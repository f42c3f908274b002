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


def clear_caches():
    for cached in (
        code_digest._path,
        code_digest._open,
        code_digest._definition,
        code_digest._texts,
    ):
        cached.cache_clear()


@pytest.fixture
def digest(tmp_path, monkeypatch):
    """Digest of `level`, written as two modules of these names with these sources."""

    def of(first=FIRST, second=SECOND, names=("one", "two"), function="level"):
        for name, source in zip(names, (first, second), strict=True):
            (of.folder / f"{name}.py").write_text(source.format(other=names[1]))
        monkeypatch.setattr(code_digest, "ROOT", tmp_path)
        clear_caches()
        module = type(sys)("module")
        module.level = lambda: None
        module.level.__module__, module.level.__qualname__ = f"utils.{names[0]}", function
        return code_digest.code_digest(module.level)

    of.folder = tmp_path / "utils"
    of.folder.mkdir()
    yield of
    monkeypatch.undo()
    clear_caches()


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


def test_which_of_two_names_is_mentioned_twice_changes_it(digest):
    """Only the order of first mention counted."""
    values = "from utils.{other} import OTHER\n\n" + FIRST
    one, other = (
        values.replace("wave * LIMIT", f"wave * LIMIT + OTHER * {name}")
        for name in ("LIMIT", "OTHER")
    )
    second = SECOND + "OTHER = 3.0\n"
    assert digest(one, second) != digest(other, second)


def test_another_function_of_the_same_library_changes_it(digest):
    """Functions that were imported by their names all looked alike."""
    one, other = (
        f"from numpy import {name}\n" + FIRST.replace("np.abs", name) for name in ("abs", "square")
    )
    assert digest(one) != digest(other)


def test_a_definition_is_followed_through_a_module_that_imports_it(digest):
    """It was lost where the second module itself had it from a third."""
    third = digest.folder / "third.py"
    second = "from utils.third import LIMIT\n"
    third.write_text("LIMIT = 2.0\n")
    before = digest(second=second)
    third.write_text("LIMIT = 2.1\n")
    assert digest(second=second) != before


@pytest.mark.parametrize(
    "change", ["LIMIT += {}\n", "if True:\n    LIMIT = {}\n", "LIMIT[0] = {}\n"]
)
def test_all_statements_that_bind_or_change_a_name_count(digest, change):
    one, other = (digest(second=SECOND + change.replace("{}", number)) for number in "12")
    assert one != other != digest()


def test_a_piece_of_code_counts_as_a_whole():
    """Its functions had lost their names, though it calls them by their names."""
    one = "def a():\n    return 1\n\ndef b():\n    return 2\n\nprint(a())\n"
    other = one.replace("def a", "def c").replace("def b", "def a").replace("def c", "def b")
    assert code_digest.source_digest(one) != code_digest.source_digest(other)


def test_a_table_that_the_reached_code_names_counts_for_a_piece_of_code(digest):
    """A changed pin of an encoder left every step of a run finished."""
    digest(FIRST, SECOND + 'TABLE = "inputs" + "table.tsv"\n\ndef read():\n    return TABLE\n')
    table = digest.folder.parent / "inputs" / "table.tsv"
    table.parent.mkdir()
    reads, does_not = "from utils.two import read\nread()\n", "from utils.two import LIMIT\nLIMIT\n"
    table.write_text("one")
    before = [code_digest.source_digest(source) for source in (reads, does_not)]
    table.write_text("two")
    after = [code_digest.source_digest(source) for source in (reads, does_not)]
    assert before[0] != after[0] and before[1] == after[1]


def test_settings_and_versions_of_libraries_count(digest, monkeypatch):
    build = code_digest.code_digest
    assert build(code_digest.reached, settings=1) != build(code_digest.reached, settings=2)
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
        ("detector.scoring.Scorer", ["detector.channels.choose", "detector.embedding.Encoders"]),
        ("detector.batch.batch_scoring.score_files", ["audio.decoding.decode"]),
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
