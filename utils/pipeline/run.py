"""Run the numbered notebooks of a profile in order by papermill; redo only what is missing or changed.

A profile is a list of notebooks with parameter values and nothing else. A step is finished when its stamp matches the
notebook, its parameters, the `utils` modules it imports, its inputs and the steps it needs, and its files are all there.
"""

import argparse
import ast
import contextlib
import datetime
import fcntl
import hashlib
import json
import logging
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

from utils import paths
from utils.code_digest import source_digest
from utils.pipeline.profiles import PROFILES, Step

ENGINES = ("local", "ray", "accelerate")


class RunError(RuntimeError):
    """A step failed. The message names the notebook and the cell."""


def open_notebook(path: Path):
    """Read a notebook (nbformat is imported here, so that --help works before anything is installed)."""
    import nbformat

    return nbformat.read(path, 4)


def declared(notebook: Path) -> set[str]:
    """Names that the notebook's `parameters` cell declares. Raises RunError unless there is exactly one such cell."""
    cells = [c for c in open_notebook(notebook).cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise RunError(
            f"{notebook.name}: {len(cells)} cells are tagged 'parameters', need exactly one"
        )
    tree = ast.parse(cells[0].source)
    return {t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets}


def check_parameters(step: Step) -> None:
    """Raise RunError for a parameter that the notebook does not declare: papermill itself only warns."""
    unknown = set(step.parameters) - declared(paths.NOTEBOOKS / f"{step.notebook}.ipynb")
    if unknown:
        raise RunError(
            f"{step.name}: no such parameter {sorted(unknown)}; it has "
            f"{sorted(declared(paths.NOTEBOOKS / f'{step.notebook}.ipynb'))}"
        )


def notebook_digest(notebook: Path) -> str:
    """Hash of the code of a notebook and of all that it reaches in `utils`; prose plays no part."""
    cells = open_notebook(notebook).cells
    return source_digest("\n".join(c.source for c in cells if c.cell_type == "code"))


def inputs_digest(competition: str, external: list[str]) -> str:
    """Hash of names, sizes and dates of all input files, so that an exchanged clip is noticed."""
    digest = hashlib.sha256()
    for folder in (
        paths.INPUTS / competition,
        *(paths.INPUTS / "external" / name for name in external),
    ):
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            digest.update(
                f"{path.relative_to(folder).as_posix()} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode()
            )
    return digest.hexdigest()


def digest_of(step: Step, done: dict[str, str], inputs: str) -> str:
    """What a step's result depends on, as one hash."""
    text = json.dumps(
        [
            notebook_digest(paths.NOTEBOOKS / f"{step.notebook}.ipynb"),
            step.parameters,
            inputs,
            [done[name] for name in step.needs],
        ],
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _files(run: Path) -> dict[str, tuple[int, int]]:
    roots = [run, paths.SUBMISSIONS]
    return {
        os.path.relpath(p, paths.HOME): (p.stat().st_size, p.stat().st_mtime_ns)
        for root in roots
        for p in root.rglob("*")
        if p.is_file() and ".stamps" not in p.parts and not p.name.startswith(".")
    }


def is_finished(step: Step, run: Path, digest: str) -> bool:
    """Whether the step's stamp carries `digest` and every file it wrote is still there, at its size."""
    stamp = run / ".stamps" / f"{step.name}.json"
    if not stamp.exists():
        return False
    record = paths.read_json(stamp)
    there = all(
        (paths.HOME / name).exists() and (paths.HOME / name).stat().st_size == size
        for name, size in record["files"].items()
    )
    return record["digest"] == digest and there


def execute(step: Step, run: Path, digest: str) -> None:
    """Execute one notebook into `run/notebooks`, with an HTML copy and a stamp. Raises RunError naming the cell."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    logging.getLogger("papermill").setLevel(
        logging.ERROR
    )  # an unknown parameter is refused above, not warned about
    before = _files(run)
    out = run / "notebooks" / f"{step.name}.ipynb"
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}")
    os.environ["MPLBACKEND"] = (
        "module://matplotlib_inline.backend_inline"  # any other setting leaves the figures out of the page
    )
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(paths.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    for attempt in (1, 2):
        try:
            notebook = papermill.execute_notebook(
                str(paths.NOTEBOOKS / f"{step.notebook}.ipynb"),
                str(part),
                step.parameters,
                cwd=str(paths.ROOT),
                kernel_name="python3",
                progress_bar=sys.stderr.isatty(),
                start_timeout=180,
                autosave_cell_every=5,
            )
            break
        except papermill.PapermillExecutionError as error:
            raise RunError(
                f"notebook {step.name}, cell {error.cell_index}: {error.ename}: {error.evalue}\n"
                f"the executed copy is {part}"
            ) from error
        except (DeadKernelError, RuntimeError) as error:
            cell = running_cell(part)
            if (
                cell is None and attempt == 1
            ):  # it never ran a cell: a failed kernel start is worth one more try
                continue
            raise RunError(
                f"notebook {step.name}, cell {cell}: the kernel died ({error}). Out of memory? "
                "Finished folds are kept: start again to go on"
            ) from error
    unfinished = [
        i
        for i, c in enumerate(notebook.cells)
        if c.cell_type == "code" and c.source.strip() and c.execution_count is None
    ]
    if unfinished:
        raise RunError(
            f"notebook {step.name}, cell {unfinished[0]}: did not run to its end, the kernel died"
        )
    _write_html(notebook, out.with_suffix(".html"))
    os.replace(part, out)
    after = _files(run)
    written = {name: value[0] for name, value in after.items() if before.get(name) != value}
    paths.write_json(run / ".stamps" / f"{step.name}.json", {"digest": digest, "files": written})


def running_cell(notebook: Path) -> int | None:
    """Index of the cell at which an execution stopped, None if none was begun."""
    if not notebook.exists():
        return None
    code = [(i, c) for i, c in enumerate(open_notebook(notebook).cells) if c.cell_type == "code"]
    begun = [i for i, c in code if c.metadata.get("papermill", {}).get("start_time")]
    return begun[-1] if begun else None


def _write_html(notebook, path: Path) -> None:
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(exclude_input_prompt=True, exclude_output_prompt=True)
    with paths.whole(path) as part:
        part.write_text(exporter.from_notebook_node(notebook)[0], encoding="utf-8")


def environment() -> dict:
    """Versions and machine, for env.json."""
    names = (
        "torch",
        "transformers",
        "numpy",
        "scikit-learn",
        "lightgbm",
        "pandas",
        "librosa",
        "soundfile",
        "papermill",
    )
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": {name: metadata.version(name) for name in names},
    }


@contextlib.contextmanager
def locked(run: Path):
    """Hold the run's lock. Raises RunError if another process is at it."""
    with (run / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(
                f"{run} is in use by another run; wait for it, or give this one another name with "
                "--set RUN=…"
            ) from error
        yield


def select(chosen: list[Step], only: list[str], start: str) -> tuple[list[Step], set[str]]:
    """(steps to look at, names of those that are redone even if finished) for `--only` and `--from`."""
    for wanted in [*only, *filter(None, [start])]:
        if not any(s.name.startswith(wanted) for s in chosen):
            raise RunError(f"no notebook {wanted!r}; there are {[s.name for s in chosen]}")
    if only:
        chosen = [s for s in chosen if any(s.name.startswith(o) for o in only)]
        return chosen, {s.name for s in chosen}
    names = [s.name for s in chosen]
    first = next((i for i, n in enumerate(names) if start and n.startswith(start)), len(names))
    return chosen, set(names[first:])


def override(chosen: list[Step], settings: list[str]) -> list[Step]:
    """Apply `NAME=VALUE` to every notebook that declares NAME. Raises RunError for a name that none declares."""
    for setting in settings:
        name, equals, value = setting.partition("=")
        takers = {
            s.notebook for s in chosen if name in declared(paths.NOTEBOOKS / f"{s.notebook}.ipynb")
        }
        if not equals or not takers:
            raise RunError(f"--set {setting}: no notebook of this profile has a parameter {name!r}")
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value)
        chosen = [
            Step(
                s.notebook,
                s.parameters | ({name: value} if s.notebook in takers else {}),
                s.variant,
                s.needs,
            )
            for s in chosen
        ]
    return chosen


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    listing = "\n".join(f"  {name:10s} {text}" for name, (text, _) in PROFILES.items())
    parser = argparse.ArgumentParser(
        prog="./run_all.sh",
        description="Run every notebook in order and write submissions/<run>.csv.\n"
        "Instead: `./run_all.sh predict PATH…` scores your own recordings, `./run_all.sh page` serves a page that does,\n"
        "`./run_all.sh test` runs the tests.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"profiles:\n{listing}\n\nA second run does only what is missing or changed. Downloads live in "
        f"{paths.CACHE} (DFS_CACHE moves it).",
    )
    parser.add_argument(
        "--profile", choices=PROFILES, default="mini", help="what to run (default: mini)"
    )
    parser.add_argument(
        "--from", dest="start", default="", metavar="NN", help="redo from this notebook on, e.g. 04"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NN",
        help="redo this notebook only, e.g. 04_finetune_campplus; may be given again",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a notebook parameter, e.g. --set EPOCHS=1; refused if no notebook has it",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default=os.environ.get("DFS_ENGINE", "local"),
        help="local: independent jobs run in processes of this machine (default); ray: on a Ray cluster, that of "
        "RAY_ADDRESS or one started here, whose machines share this folder and the cache; accelerate: one "
        "model is trained by all GPUs of this machine at once (where there is none, by all cores)",
    )
    options = parser.parse_args(argv)
    from utils import parallel  # here: --help works before anything is installed
    from utils.pipeline import report

    if options.engine not in ENGINES:  # argparse lets a default pass
        parser.error(f"DFS_ENGINE={options.engine}: it is {', '.join(ENGINES)}")
    os.environ["DFS_ENGINE"] = options.engine  # the notebooks' kernels get it too
    try:
        if options.engine == "ray":
            parallel.cluster()
        chosen = override(PROFILES[options.profile][1], options.set)
        for step in chosen:
            check_parameters(step)
        todo, redo = select(chosen, options.only, options.start)
        competition, run = (
            chosen[0].parameters["COMPETITION"],
            paths.run_dir(chosen[0].parameters["RUN"]),
        )
        with locked(run):
            external = sorted(
                {name for step in chosen for name in step.parameters.get("EXTERNAL", [])}
            )
            get_inputs(competition, external)
            paths.SUBMISSIONS.mkdir(parents=True, exist_ok=True)
            paths.write_json(
                run / "config.json",
                {"profile": options.profile, "steps": {s.name: s.parameters for s in chosen}},
            )
            paths.write_json(
                run / "env.json",
                environment()
                | {
                    "code": {
                        s.name: notebook_digest(paths.NOTEBOOKS / f"{s.notebook}.ipynb")[:16]
                        for s in chosen
                    }
                },
            )
            work(chosen, todo, redo, run, inputs_digest(competition, external))
            front = report.write(run)
    except (RunError, OSError, ValueError, RuntimeError, ImportError) as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
        return 1
    submission = paths.SUBMISSIONS / f"{run.name}.csv"
    print(
        f"done: {os.path.relpath(front)}"
        + (f", {os.path.relpath(submission)}" if submission.exists() else "")
    )
    return 0


def get_inputs(competition: str, external: list[str]) -> None:
    """Build the inputs that the project can build; else say where to put them. Raises RunError."""
    from utils.competition import build, plans
    from utils.sources import demo_pages

    if "demo_pages" in external:
        try:
            demo_pages.build()
        except demo_pages.PageError as error:
            raise RunError(f"{error}\nOr leave them out: --set EXTERNAL=[]") from error
    for name in set(external) - {"demo_pages"}:
        if not (paths.INPUTS / "external" / name).is_dir():
            raise RunError(
                f"{paths.INPUTS / 'external' / name} is missing: put the corpus there (python -m utils.sources.public_corpora --help)"
            )

    if competition in plans.PLANS:
        build.build(competition)
    elif not (paths.INPUTS / competition / "train_label.txt").exists():
        raise RunError(
            f"{paths.INPUTS / competition}/train_label.txt is missing. Unpack the archive there, so that "
            f"inputs/{competition}/ holds train/, test/ and train_label.txt (see README, 'The real archive')"
        )


def work(chosen: list[Step], todo: list[Step], redo: set[str], run: Path, inputs: str) -> None:
    """Go through the steps in order; execute what is not finished."""
    done: dict[str, str] = {}
    for number, step in enumerate(chosen, start=1):
        done[step.name] = digest_of(step, done, inputs)
        if step not in todo:
            continue
        label = f"[{number}/{len(chosen)}] {step.name}"
        if step.name not in redo and is_finished(step, run, done[step.name]):
            print(f"{label}: finished before")
            continue
        print(f"{label}: started {datetime.datetime.now():%H:%M:%S}", flush=True)
        began = time.monotonic()
        execute(step, run, done[step.name])
        print(f"{label}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
