"""The form that every notebook has, and what the runner does when a notebook fails."""

import ast
import re

import nbformat
import papermill
import pytest

from utils import code_digest, paths
from utils.pipeline import notebooks, profiles, run, steps
from utils.pipeline.pages import notebooks as pages

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
WITH_THE_KEY = ("08_evaluation", "11_ablation")  # the only ones that may read test_key.csv

FIGURE = re.compile(r"plots\.save\((.+)\)|figures\.(\w+)\(run")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]


def test_the_table_of_notebooks_is_that_of_the_folder():
    assert list(profiles.NEEDS) == [path.stem for path in NOTEBOOKS]


@every_notebook
def test_notebooks_are_committed_without_outputs(path):
    nbformat.validate(nbformat.read(path, 4))
    assert not any(cell.outputs or cell.execution_count for cell in code_cells(path))


@every_notebook
def test_one_cell_sets_parameters_each_with_its_why(path):
    tagged = [c for c in code_cells(path) if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    lines = tagged[0].source.splitlines()
    for node in ast.parse(tagged[0].source).body:
        assert isinstance(node, ast.Assign) and node.targets[0].id.isupper()
        ast.literal_eval(node.value)
        own = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        assert "#" in own, f"{node.targets[0].id} says no why"


@every_notebook
def test_the_first_cell_asks_and_the_last_section_answers(path):
    first, *others = (c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown")
    assert first.startswith(f"# {path.stem[:2]}. ")
    for word in ("Question", "Reads", "Writes", "Costs", "Expect"):
        assert word in first
    titles = re.findall(r"^##? (.+)$", "\n".join(others), flags=re.MULTILINE)
    assert titles[-1].startswith("What we learned")


def sections(path):
    """Markdown after the first cell by the title of its section, of a notebook."""
    cells = [c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown"]
    parts = re.split(r"^## (.+)$", "\n\n".join(cells), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@every_notebook
def test_every_figure_is_read_with_a_number_of_the_reference_run(path):
    """In its own section, before the next figure, by a cell that is filled from the tables."""
    filled, waiting = set(pages.cells(f"notebooks/{path.name}").values()), None
    for cell in nbformat.read(path, 4).cells:
        figure = FIGURE.search(cell.source) if cell.cell_type == "code" else None
        ends = figure or (cell.cell_type == "markdown" and cell.source.startswith("#"))
        assert not (ends and waiting), f"nobody reads {waiting}"
        if figure:
            waiting = figure[1] or figure[2]
        elif cell.source in filled and re.search(r"\d", cell.source.replace("Reference run", "")):
            waiting = None
    assert waiting is None


@every_notebook
def test_a_lesson_tells_the_slides_and_ends_with_exercises_and_numbers(path):
    titles = list(sections(path))
    assert titles[-3:] == ["On the slides", "Try it", "What we learned"]
    exercises = sections(path)["Try it"]
    assert re.findall(r"^(\d)\. \*\*", exercises, flags=re.MULTILINE) == ["1", "2"]
    assert exercises.count("*Expected:*") == 2
    assert re.search(r"\d\.\d\d", sections(path)["What we learned"])


@every_notebook
def test_cells_are_short_and_define_no_classes(path):
    for number, cell in enumerate(code_cells(path)):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        lines = [line for line in lines if not line.strip().startswith("#")]
        assert len(lines) <= 25, f"code cell {number} has {len(lines)} lines of code"
        nodes = ast.walk(ast.parse(cell.source))
        assert not any(isinstance(node, ast.ClassDef) for node in nodes)


def functions_that_read_the_key():
    """`module.function` of everything in utils whose code names the file of the test key."""
    found = set()
    for path in (paths.ROOT / "utils").rglob("*.py"):
        module = ".".join(path.relative_to(paths.ROOT).with_suffix("").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and "test_key" in ast.unparse(node):
                found.add(f"{module}.{node.name}")
    return {name for name in found if not name.startswith("utils.competition.")}  # they write it


@every_notebook
def test_only_evaluation_and_ablation_read_the_test_key(path):
    source = "\n".join(cell.source for cell in code_cells(path))
    readers = functions_that_read_the_key()
    assert readers
    if path.stem not in WITH_THE_KEY:
        assert "test_key" not in source
        assert not readers & code_digest.reached(source)


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A function that writes a notebook of these cells and returns a step that runs it."""

    def make(name, *cells):
        body = [nbformat.v4.new_code_cell(source) for source in ("X = 1  # why", *cells)]
        body[0].metadata["tags"] = ["parameters"]
        language = {"name": "python3", "display_name": "Python 3", "language": "python"}
        made = nbformat.v4.new_notebook(cells=body, metadata={"kernelspec": language})
        nbformat.write(made, tmp_path / f"{name}.ipynb")
        return steps.Step(name, {"X": 2})

    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    return make


def test_the_message_names_the_cell_that_raised(notebook):
    step = notebook("77_fails", "y = X", "raise ValueError('on purpose')")
    with pytest.raises(run.RunError, match=r"77_fails, cell \d: ValueError: on purpose"):
        run.execute(step, paths.run_dir("failing"), "digest")
    assert not (paths.OUTPUTS / "failing" / ".stamps").exists()


def test_a_notebook_whose_process_is_killed_has_failed(notebook):
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    step = notebook("78_killed", "y = X", kill, "z = 1")
    # cells count from 0, and papermill adds one
    with pytest.raises(run.RunError, match="78_killed, cell 3: .*(died|did not run)"):
        run.execute(step, paths.run_dir("killed"), "digest")
    assert not (paths.OUTPUTS / "killed" / ".stamps").exists()


@pytest.mark.parametrize(
    ("message", "attempts", "raised"),
    [
        ("Kernel didn't respond in 180 seconds", 2, "the kernel died .Kernel didn't respond"),
        ("no space is left", 1, "^no space is left$"),
    ],
)
def test_only_what_jupyter_says_of_its_process_counts_as_its_death(
    notebook, monkeypatch, message, attempts, raised
):
    """Every RuntimeError was called "the kernel died" before."""
    step, calls = notebook("75_starts", "y = X"), []

    def fail(*arguments, **options):
        calls.append(1)
        raise RuntimeError(message)

    monkeypatch.setattr(papermill, "execute_notebook", fail)
    with pytest.raises(RuntimeError, match=raised):
        run.execute(step, paths.run_dir("starts"), "digest")
    assert len(calls) == attempts


def test_figures_are_in_the_executed_notebook(notebook, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")  # as on a server, or in these tests
    step = notebook("76_plots", "import matplotlib.pyplot as plt\nplt.plot([1, X])\nNone")
    folder = paths.run_dir("plots")
    run.execute(step, folder, "digest")
    cells = nbformat.read(folder / "notebooks" / "76_plots.ipynb", 4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert "data:image/png" in (folder / "notebooks" / "76_plots.html").read_text()


def test_finished_means_same_digest_and_all_files(notebook):
    folder = paths.run_dir("done")
    write = f"Path(r'{folder}/a.txt').write_text('x' * X)"
    step = notebook("79_writes", "from pathlib import Path", write)
    run.execute(step, folder, "one")
    assert steps.is_finished(step, folder, "one")
    assert not steps.is_finished(step, folder, "two")
    assert (folder / "a.txt").read_text() == "xx"
    assert (folder / "notebooks" / "79_writes.html").exists()
    (folder / "a.txt").unlink()
    assert not steps.is_finished(step, folder, "one")


def test_edited_prose_leaves_a_step_finished_and_edited_code_does_not(notebook):
    notebook("74_prose", "y = X  # a comment")
    path = notebooks.source_of("74_prose")
    before = steps.notebook_digest(path)
    changed = notebooks.open_notebook(path)
    changed.cells.append(nbformat.v4.new_markdown_cell("What we learned"))
    changed.cells[1].source = "y = X  # another comment"
    nbformat.write(changed, path)
    assert steps.notebook_digest(path) == before
    changed.cells[1].source = "y = X + 1"
    nbformat.write(changed, path)
    assert steps.notebook_digest(path) != before


def test_help_needs_no_package(tmp_path):
    import subprocess
    import sys

    command = [sys.executable, "-I", "-S", "-c"]
    code = f"import sys; sys.path.insert(0, {str(paths.ROOT)!r}); "
    code += "from utils.pipeline import run; run.main(['--help'])"
    shown = subprocess.run([*command, code], capture_output=True, text=True, check=True).stdout
    assert re.search(r"RUN=pages --set \"EXTERNAL=\['demo_pages'\]\"", shown)
    for name, profile in profiles.PROFILES.items():
        assert f"{name} " in shown and profile.about in shown
