"""Run the notebooks of a profile in order; redo only what is missing or changed (see `steps`)."""

import argparse
import contextlib
import datetime
import fcntl
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

from utils import console, paths
from utils.pipeline import notebooks, steps
from utils.pipeline.notebooks import RunError
from utils.pipeline.profiles import PROFILES, Profile
from utils.pipeline.steps import LOG, Step

ENGINES = ("local", "ray", "accelerate")
PACKAGES = ("torch", "transformers", "numpy", "scikit-learn", "lightgbm", "pandas")
PACKAGES += ("librosa", "soundfile", "papermill")

ABOUT = """Run the notebooks of a profile in order and write submissions/<run>.csv.
Other commands:
  ./run_all.sh predict PATH…   score your own recordings
  ./run_all.sh page            the same as a page in a browser
  ./run_all.sh test [--all]    tests; --all runs the slow ones too, more arguments go to pytest"""

NOTES = f"""
A second run does only what is missing or changed; after a kill, the same command goes on.
To train on demo pages too, with results beside those of mini:
  ./run_all.sh --set RUN=pages --set "EXTERNAL=['demo_pages']"

environment:
  DFS_CACHE        where downloads and features are kept (now {paths.CACHE})
  DFS_CACHE_GB     how large the features there may grow (default: 16)
  DFS_HOME         where inputs/, outputs/ and submissions/ lie (now {paths.HOME})
  DFS_DEMO_PAGES   a folder that holds the clips of demo pages already: key.csv and clips/
  DFS_MIRROR       a folder of bare git repositories, OWNER+NAME/repo, to take demo pages from
  DFS_MODELS       a folder of models from a hub, one folder each (default: the cache)
  DFS_VENV         the virtual environment (default: .venv)"""


def short(path: Path) -> str:
    """`path` as a person in this folder would write it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def parser() -> argparse.ArgumentParser:
    """The command line."""
    listing = "\n".join(f"  {name:10s} {profile.about}" for name, profile in PROFILES.items())
    made = argparse.ArgumentParser(
        prog="./run_all.sh",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"profiles (minutes are said at the start of a run):\n{listing}\n{NOTES}",
    )
    add = made.add_argument
    add("--profile", choices=PROFILES, default="mini", help="what to run (default: mini)")
    add("--from", dest="start", default="", metavar="NN", help="redo from this one on, e.g. 04")
    text = "redo this notebook only, e.g. 04_finetune_campplus; may be given again"
    add("--only", action="append", default=[], metavar="NN", help=text)
    text = "a notebook parameter, e.g. --set EPOCHS=1; refused if no notebook has it"
    add("--set", action="append", default=[], metavar="NAME=VALUE", help=text)
    add(
        "--engine",
        choices=ENGINES,
        default=os.environ.get("DFS_ENGINE", "local"),
        help="local: independent jobs run in processes of this machine (default); ray: on a Ray "
        "cluster, that of RAY_ADDRESS or one started here, whose machines share this folder and "
        "the cache; accelerate: one model is trained by all GPUs of this machine at once (where "
        "there is none, by all cores)",
    )
    return made


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = parser().parse_args(argv)
    if options.engine not in ENGINES:  # argparse lets a default pass
        parser().error(f"DFS_ENGINE={options.engine}: it is {', '.join(ENGINES)}")
    os.environ["DFS_ENGINE"] = options.engine  # the notebooks' kernels get it too
    log = None
    try:
        chosen = steps.steps_of(options.profile, PROFILES[options.profile])
        chosen = steps.override(chosen, options.set)
        todo, redo = steps.select(chosen, options.only, options.start)
        run = paths.run_dir(chosen[0].parameters["RUN"])
        with locked(run):
            log = run / LOG
            with console.quiet(log):
                written = run_steps(options.profile, chosen, todo, redo, run)
    except (RunError, OSError, ValueError, RuntimeError, ImportError) as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
        if log:
            print(f"log: {short(log)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"done: {', '.join(short(path) for path in written)}")
    return 0


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


def run_steps(
    name: str, chosen: list[Step], todo: list[Step], redo: set[str], run: Path
) -> list[Path]:
    """Get the inputs and execute what is not finished; returns the index page and the submission.

    Args:
        name: of the profile.
        chosen: all its steps; `todo` those to look at, `redo` names of those to do in any case.
        run: folder of the run.
    """
    from utils import parallel
    from utils.pipeline import report

    announce(name, unfinished(chosen, todo, redo, run), todo, inputs_of(chosen)[0], run)
    if os.environ["DFS_ENGINE"] == "ray":
        parallel.cluster()
    get_inputs(*inputs_of(chosen))
    paths.SUBMISSIONS.mkdir(parents=True, exist_ok=True)
    parameters = {step.name: step.parameters for step in chosen}
    paths.write_json(run / "config.json", {"profile": name, "steps": parameters})
    code = {s.name: steps.notebook_digest(notebooks.source_of(s.notebook))[:16] for s in chosen}
    paths.write_json(run / "env.json", environment() | {"code": code})
    work(chosen, todo, unfinished(chosen, todo, redo, run), run)
    submission = paths.SUBMISSIONS / f"{run.name}.csv"
    return [report.write(run), *([submission] if submission.exists() else [])]


def inputs_of(chosen: list[Step]) -> tuple[str, list[str]]:
    """(folder under inputs/ or "", folders under inputs/external/) that the steps of a run read."""
    external = {folder for step in chosen for folder in step.parameters.get("EXTERNAL", [])}
    return chosen[0].parameters.get("COMPETITION", ""), sorted(external)


def unfinished(chosen: list[Step], todo: list[Step], redo: set[str], run: Path) -> dict[str, str]:
    """Digest by name of the steps of `todo` that are to be executed, as the inputs are now."""
    known = steps.digests(chosen, steps.inputs_digest(*inputs_of(chosen)))
    return {
        step.name: known[step.name]
        for step in todo
        if step.name in redo or not steps.is_finished(step, run, known[step.name])
    }


def announce(
    name: str, waiting: dict[str, str], todo: list[Step], competition: str, run: Path
) -> None:
    """Say what will be done, about how long it takes and where results go."""
    profile = PROFILES[name]
    there = (paths.INPUTS / competition / "train_label.txt").exists()
    takes = time_of(profile, [step for step in todo if step.name in waiting], there)
    files = [run, paths.SUBMISSIONS / f"{run.name}.csv", run / LOG]
    folder, submission, log = [short(path) for path in files]
    print(f"profile {name}: {profile.about}")
    finished = len(todo) - len(waiting)
    print(f"notebooks: {len(todo)}, finished before: {finished}, time: {takes}")
    print(f"results: {folder}, {submission}; log: {log}", flush=True)


def time_of(profile: Profile, waiting: list[Step], inputs_there: bool) -> str:
    """About how long these steps take, in words."""
    if not waiting:
        return "seconds"
    if not profile.minutes:
        return "never measured"
    minutes = sum(profile.minutes[step.notebook] for step in waiting)
    minutes += 0 if inputs_there else profile.minutes["inputs"]
    return f"about {max(1, round(minutes))} min on two idle cores"


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
                f"{paths.INPUTS / 'external' / name} is missing: put the corpus there "
                "(python -m utils.sources.public_corpora --help)"
            )
    if competition in plans.PLANS:
        build.build(competition)
    elif competition and not (paths.INPUTS / competition / "train_label.txt").exists():
        raise RunError(
            f"{paths.INPUTS / competition}/train_label.txt is missing. Unpack the archive there, "
            f"so that inputs/{competition}/ holds train/, test/ and train_label.txt (see README, "
            "'The real archive')"
        )


def work(chosen: list[Step], todo: list[Step], waiting: dict[str, str], run: Path) -> None:
    """Go through the steps in order and execute those in `waiting` (name → digest)."""
    for number, step in enumerate(chosen, start=1):
        label = f"[{number}/{len(chosen)}] {step.name}"
        if step.name in waiting:
            print(f"{label}: started {datetime.datetime.now():%H:%M:%S}", flush=True)
            began = time.monotonic()
            execute(step, run, waiting[step.name])
            print(f"{label}: {time.monotonic() - began:.0f} s", flush=True)
        elif step in todo:
            print(f"{label}: finished before")


def execute(step: Step, run: Path, digest: str) -> None:
    """Execute one step into `run/notebooks` and stamp it. Raises RunError that names the cell."""
    before = steps.files_of(run)
    out = run / "notebooks" / f"{step.name}.ipynb"
    notebooks.execute(step.name, step.notebook, step.parameters, out)
    steps.write_stamp(step, run, digest, before)


def environment() -> dict:
    """Versions and machine, for env.json."""
    from utils import parallel

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": parallel.cpu_count(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    sys.exit(main())
