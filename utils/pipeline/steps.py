"""The steps of a profile, and when one is finished: digests of what it depends on, and stamps.

A step is one execution of a notebook. It is finished when its stamp carries today's digest (of the
notebook's code and all that it reaches in `utils`, its parameters, the inputs, the steps it needs,
the other runs it reads) and every file that it wrote is still there.
"""

import ast
import contextlib
import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from utils import paths
from utils.code_digest import source_digest
from utils.pipeline.notebooks import RunError, declared, open_notebook, source_of
from utils.pipeline.profiles import NEEDS, OTHER_RUNS, Profile

LOG = "run.log"  # in the folder of the run; no step's own


@dataclass(frozen=True)
class Step:
    """One execution of a notebook; `model` where it runs for each model."""

    notebook: str
    parameters: dict = field(default_factory=dict)
    model: str = ""
    needs: tuple[str, ...] = ()  # names of steps

    @property
    def name(self) -> str:
        return f"{self.notebook}_{self.model}" if self.model else self.notebook


def steps_of(name: str, profile: Profile) -> list[Step]:
    """The steps of a profile in order. Raises RunError for a parameter that its notebook lacks."""
    common = {"RUN": name, "COMPETITION": profile.competition}
    if profile.external:
        common["EXTERNAL"] = list(profile.external)
    if profile.models:
        common["MODELS"] = profile.members()
    steps: list[Step] = []
    for notebook in profile.notebooks:
        if notebook not in NEEDS:
            raise RunError(f"{notebook} has no row in NEEDS (utils/pipeline/profiles.py)")
        known = declared(notebook)
        shared = {key: value for key, value in common.items() if key in known}
        shared |= profile.settings.get(notebook, {})
        needs = tuple(step.name for step in steps if step.notebook in NEEDS[notebook])
        if notebook == "04_finetune":
            steps += [
                Step(notebook, shared | {"MODEL": model} | values, model, needs)
                for model, values in profile.models.items()
            ]
        else:
            steps.append(Step(notebook, shared, needs=needs))
    for step in steps:
        check_parameters(step)
    return steps


def check_parameters(step: Step) -> None:
    """Raise RunError for a parameter that the notebook lacks: papermill itself only warns."""
    known = declared(step.notebook)
    if unknown := set(step.parameters) - known:
        raise RunError(f"{step.name}: no such parameter {sorted(unknown)}; it has {sorted(known)}")


def override(steps: list[Step], settings: list[str]) -> list[Step]:
    """Apply each `NAME=VALUE` to the notebooks that declare NAME. Raises RunError if none does."""
    for setting in settings:
        name, equals, value = setting.partition("=")
        users = {step.notebook for step in steps if name in declared(step.notebook)}
        if not equals or not users:
            raise RunError(f"--set {setting}: no notebook of this profile has a parameter {name!r}")
        with contextlib.suppress(ValueError, SyntaxError):  # else it is a text without quotes
            value = ast.literal_eval(value)
        steps = [
            dataclasses.replace(step, parameters=step.parameters | {name: value})
            if step.notebook in users
            else step
            for step in steps
        ]
    return steps


def select(steps: list[Step], only: list[str], start: str) -> tuple[list[Step], set[str]]:
    """(steps to look at, names of those to redo in any case) for `--only` and `--from`."""
    names = [step.name for step in steps]
    for wanted in [*only, start]:
        if not any(name.startswith(wanted) for name in names):
            raise RunError(f"no notebook {wanted!r}; there are {names}")
    if only:
        steps = [s for s in steps if s.name.startswith(tuple(only))]
        return steps, {step.name for step in steps}
    if not start:
        return steps, set()
    first = next(index for index, name in enumerate(names) if name.startswith(start))
    return steps, set(names[first:])


def notebook_digest(notebook: Path) -> str:
    """Hash of the code of a notebook and of all that it reaches in `utils`.

    Prose plays no part: if only that was changed, the step counts as finished and the executed
    notebook keeps the old prose (`--only NN` renews it).
    """
    cells = open_notebook(notebook).cells
    return source_digest("\n".join(c.source for c in cells if c.cell_type == "code"))


def inputs_digest(competition: str, external: list[str]) -> str:
    """Hash of names, sizes and dates of all input files, so that an exchanged clip is noticed."""
    digest = hashlib.sha256()
    folders = [paths.INPUTS / competition] if competition else []
    for folder in [*folders, *(paths.INPUTS / "external" / name for name in external)]:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name, facts = path.relative_to(folder).as_posix(), path.stat()
            digest.update(f"{name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def other_runs(parameters: dict) -> list[tuple[str, str]]:
    """(step, digest) of what a step reads of other runs; it is redone when they were done anew."""
    found = []
    for name, notebooks in OTHER_RUNS.items():
        if name in parameters:
            stamps = sorted((paths.OUTPUTS / parameters[name] / ".stamps").glob("*.json"))
            found += [
                (stamp.stem, paths.read_json(stamp)["digest"])
                for stamp in stamps
                if stamp.name.startswith(notebooks)
            ]
    return found


def digests(steps: list[Step], inputs: str) -> dict[str, str]:
    """For each step's name, what its result depends on as one hash. `inputs`: `inputs_digest`."""
    known: dict[str, str] = {}
    for step in steps:
        depends = [
            notebook_digest(source_of(step.notebook)),
            step.parameters,
            inputs,
            [known[name] for name in step.needs],
            other_runs(step.parameters),
        ]
        text = json.dumps(depends, sort_keys=True)
        known[step.name] = hashlib.sha256(text.encode()).hexdigest()
    return known


def files_of(run: Path) -> dict[str, tuple[int, int]]:
    """(size, date) of every file of a run: those in its folder, and its own submission."""
    files = [p for p in run.rglob("*") if p.is_file() and ".stamps" not in p.parts]
    files = [p for p in files if not p.name.startswith(".") and p != run / LOG]
    submission = paths.SUBMISSIONS / f"{run.name}.csv"
    if submission.exists():
        files.append(submission)
    return {os.path.relpath(p, paths.HOME): (p.stat().st_size, p.stat().st_mtime_ns) for p in files}


def write_stamp(step: Step, run: Path, digest: str, before: dict) -> None:
    """Note that a step is finished. `before`: `files_of(run)` as it was when the step began."""
    files = {name: value[0] for name, value in files_of(run).items() if before.get(name) != value}
    paths.write_json(run / ".stamps" / f"{step.name}.json", {"digest": digest, "files": files})


def is_finished(step: Step, run: Path, digest: str) -> bool:
    """Whether the step's stamp carries `digest` and every file it wrote is there, at its size."""
    stamp = run / ".stamps" / f"{step.name}.json"
    if not stamp.exists():
        return False
    record = paths.read_json(stamp)
    if record["digest"] != digest:
        return False
    files = [(paths.HOME / name, size) for name, size in record["files"].items()]
    return all(path.exists() and path.stat().st_size == size for path, size in files)
