"""The house: which package may import which, how long things may be, and words that are retired."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from utils import paths

ORDER = ("audio", "sources", "synthesis", "competition", "models", "evaluation", "detector")
ORDER += ("pipeline",)  # each may import from itself, from those before it and from the ground
DOOR = "utils.predict"  # for users; imports the detector and is imported by nothing here

RETIRED = """
rung rungs ladder ladders stem stems probe probes extra together cue cues handmade handed deck copy
copies view views judge judges judged kernel kernels cheat cheats real fake reals fakes
"""
PHRASES = (("hand", "in"),)
LIBRARIES = """
real_speech real_time realtime realpath rbf_kernel kernel_size kernel_name kernelspec
DeadKernelError KernelDied copy copy2 copyfile copyfileobj copytree deepcopy view view_as
sliding_window_view StorageView conv_kernel sdpa_kernel stem
"""  # names of libraries, and of things that are called so everywhere

MODULES = sorted((paths.ROOT / "utils").rglob("*.py"))
TESTS = sorted((paths.ROOT / "tests").rglob("*.py"))
NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))


def nothing(found):
    assert not found, "\n" + "\n".join(sorted(set(found)))


def name_of(path):
    parts = path.relative_to(paths.ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def place(path):
    return path.relative_to(paths.ROOT).as_posix()


KNOWN = {name_of(path) for path in MODULES}


def imports_of(path):
    """(line, module of utils) of every import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in KNOWN else node.module for name in inside]
        for name in names:
            if name.split(".")[0] == "utils":
                yield node.lineno, name


def rank(module):
    """Place of a module in the order: 0 for the ground, the door last."""
    if module == DOOR:
        return len(ORDER) + 1
    package = module.split(".")[1] if "." in module else ""
    return ORDER.index(package) + 1 if package in ORDER else 0


def test_imports_run_one_way():
    upward = [
        f"{place(path)}:{line}: imports {target}"
        for path in MODULES
        for line, target in imports_of(path)
        if rank(target) > rank(name_of(path))
    ]
    nothing(upward)


def test_modules_import_each_other_in_no_circle():
    arrows = {name_of(path): {target for _, target in imports_of(path)} for path in MODULES}
    done = set()
    while ready := {m for m in arrows if m not in done and arrows[m] - {m} <= done}:
        done |= ready
    nothing(set(arrows) - done)


def test_nothing_imports_the_door():
    users = [place(path) for path in MODULES for _, name in imports_of(path) if name == DOOR]
    nothing(users)


def test_packages_and_modules_are_small():
    folders = [p for p in (paths.ROOT / "utils").rglob("*") if (p / "__init__.py").exists()]
    top = [folder for folder in folders if folder.parent.name == "utils"]
    assert sorted(folder.name for folder in top) == sorted(ORDER)
    for folder in folders:
        modules = [p for p in folder.glob("*.py") if p.name != "__init__.py"]
        modules += [p for p in folder.iterdir() if p in folders]
        assert len(modules) <= 8, f"{place(folder)} has {len(modules)} modules"
    lengths = {place(path): len(path.read_text().splitlines()) for path in MODULES}
    nothing([f"{path}: {lines} lines" for path, lines in lengths.items() if lines > 300])


def test_functions_are_short():
    long = [
        f"{place(path)}:{node.lineno}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > 50
    ]
    nothing(long)


def test_ruff_finds_nothing_to_format_or_to_mend():
    ruff = Path(sys.executable).with_name("ruff")
    for words in (["check", "--output-format=concise"], ["format", "--check"]):
        command = [ruff, *words, "."]
        done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def retired_in(text):
    """Retired words among the parts of an identifier, a column or a line of help."""
    if text.strip("_") in LIBRARIES.split():
        return []
    for word in LIBRARIES.split():
        if "_" in word or not word.islower():
            text = text.replace(word, "")
    parts = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower())
    found = [part for part in parts if part in RETIRED.split()]
    pairs = list(zip(parts, parts[1:], strict=False))
    return found + [" ".join(phrase) for phrase in PHRASES if phrase in pairs]


def identifiers(source):
    """(line, name) of every name that code gives or uses; `.stem`, `.copy()` and the like pass."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Name):
            names = [node.id]
        elif isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.arg | ast.keyword):
            names = [node.arg or ""]
        elif isinstance(node, ast.alias):
            names = [node.name.split(".")[-1], node.asname or ""]
        line = getattr(node, "lineno", 0)
        yield from ((line, name) for name in names if name)


def given_names(source):
    """(line, name) of what code binds to a name of its own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name


@pytest.mark.parametrize("path", [*MODULES, *TESTS, *NOTEBOOKS], ids=place)
def test_no_identifier_holds_a_retired_word(path):
    if path == Path(__file__):
        return
    sources = [path.read_text(encoding="utf-8")] if path.suffix == ".py" else []
    if not sources:
        cells = nbformat.read(path, 4).cells
        sources = [cell.source for cell in cells if cell.cell_type == "code"]
    found = []
    for number, source in enumerate(sources):
        cell = f" cell {number}" if path.suffix == ".ipynb" else ""
        found += [
            f"{place(path)}{cell}:{line}: {name}: {', '.join(words)}"
            for line, name in identifiers(source)
            if (words := retired_in(name))
        ]
        found += [
            f"{place(path)}{cell}:{line}: {name}"
            for line, name in given_names(source)
            if name in ("copy", "view", "stem")
        ]
    nothing(found)


def commands():
    """Modules that are started by `python -m` and have a command line of their own."""
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        if '__name__ == "__main__"' in text and "argparse" in text:
            yield name_of(path)


@pytest.mark.parametrize("module", [*commands(), "utils.predict"])
def test_no_help_text_holds_a_retired_word(module):
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [
        f"{module} --help:{number}: {', '.join(words)}: {line.strip()}"
        for number, line in enumerate(done.stdout.splitlines(), start=1)
        if (words := [w for w in retired_in(line) if w not in ("real", "fake")])
    ]  # plain text may say real and fake
    nothing(found)


def test_no_column_of_a_reference_table_holds_a_retired_word():
    found = [
        f"{place(file)}:1: {column}: {', '.join(words)}"
        for file in sorted((paths.ROOT / "outputs" / "reference").rglob("*.csv"))
        for column in pd.read_csv(file, nrows=1).columns
        if (words := retired_in(column))
    ]
    nothing(found)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ladder_of", ["ladder"]),
        ("JudgeAll", ["judge"]),
        ("hand_in", ["hand in"]),
        ("n_real", ["real"]),
        ("real_speech", []),
        ("real_time_factor", []),
        ("DeadKernelError", []),
        ("kernel_size", []),
        ("kernel_scores", ["kernel"]),
        ("deepcopy", []),
        ("preview", []),
        ("stem", []),
        ("stems", ["stems"]),
    ],
)
def test_words_are_found_as_parts_of_names_only(name, words):
    assert retired_in(name) == words
