"""Execute one notebook by papermill, with an HTML page of it. Libraries are imported where they are
used, so that `./run_all.sh --help` works before anything is installed."""

import ast
import logging
import os
from pathlib import Path

from utils import console, paths


class RunError(RuntimeError):
    """A step failed. The message names the notebook and the cell."""


def open_notebook(path: Path):
    """Read a notebook of format 4."""
    import nbformat

    return nbformat.read(path, 4)


def source_of(notebook: str) -> Path:
    """The file of a notebook, e.g. of "01_eda"."""
    return paths.NOTEBOOKS / f"{notebook}.ipynb"


def declared(notebook: str) -> set[str]:
    """Names that the `parameters` cell of a notebook sets. Raises RunError unless it has one."""
    path = source_of(notebook)
    cells = [c for c in open_notebook(path).cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise RunError(f"{path.name}: {len(cells)} cells are tagged 'parameters', need exactly one")
    tree = ast.parse(cells[0].source)
    return {t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets}


def execute(name: str, notebook: str, parameters: dict, out: Path) -> None:
    """Execute a notebook into `out`, and write the same as HTML beside it.

    Args:
        name: of the step, for messages.
        notebook: e.g. "04_finetune".
        parameters: replace those of its `parameters` cell.
        out: appears when the notebook has run to its end; before, it is called `.<name>`.
    Raises RunError that names the cell if a cell raises, or if the kernel dies.
    """
    import papermill

    # a parameter that the notebook does not have is refused before, not warned about
    logging.getLogger("papermill").setLevel(logging.ERROR)
    # any other setting leaves the figures out of the page
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    known = [str(paths.ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, known))
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}")
    try:
        executed = _execute(source_of(notebook), part, parameters)
    except papermill.PapermillExecutionError as error:
        raise RunError(
            f"notebook {name}, cell {error.cell_index}: {error.ename}: {error.evalue}\n"
            f"executed so far: {part}"
        ) from error
    except KernelDied as error:
        raise RunError(
            f"notebook {name}, cell {running_cell(part)}: the kernel died ({error}). Out of "
            "memory? Finished folds are kept: start again to go on"
        ) from error
    for index, cell in enumerate(executed.cells):
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
            raise RunError(
                f"notebook {name}, cell {index}: did not run to its end, the kernel died"
            )
    _write_html(executed, out.with_suffix(".html"))
    os.replace(part, out)


class KernelDied(Exception):
    """The notebook's process ended, or did not start."""


def _execute(source: Path, part: Path, parameters: dict):
    """The executed notebook; a kernel that fails before any cell has run is started once more."""
    try:
        return _execute_once(source, part, parameters)
    except KernelDied:
        if running_cell(part) is not None:
            raise
        return _execute_once(source, part, parameters)


def _execute_once(source: Path, part: Path, parameters: dict):
    import papermill
    from nbclient.exceptions import DeadKernelError

    terminal = console.stream()
    part.unlink(missing_ok=True)
    try:
        return papermill.execute_notebook(
            str(source),
            str(part),
            parameters,
            cwd=str(paths.ROOT),
            kernel_name="python3",
            progress_bar={"file": terminal, "leave": False} if terminal.isatty() else False,
            start_timeout=180,
            autosave_cell_every=5,
        )
    except DeadKernelError as error:
        raise KernelDied(str(error)) from error
    except RuntimeError as error:
        # of a kernel that does not start, jupyter_client tells by a bare RuntimeError
        if type(error) is RuntimeError and str(error).startswith("Kernel d"):
            raise KernelDied(str(error)) from error
        raise


def running_cell(notebook: Path) -> int | None:
    """Index of the cell at which an execution stopped, None if none was begun."""
    if not notebook.exists():
        return None
    begun = [
        index
        for index, cell in enumerate(open_notebook(notebook).cells)
        if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("start_time")
    ]
    return max(begun, default=None)


def _write_html(notebook, path: Path) -> None:
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(exclude_input_prompt=True, exclude_output_prompt=True)
    with paths.whole(path) as part:
        part.write_text(exporter.from_notebook_node(notebook)[0], encoding="utf-8")
