"""Clips of public git repositories, read as data: from a git host, or from a folder of copies.

`Pages(base, mirror)` opens `owner/name`. The folder `mirror` holds bare repositories at
`<owner>+<name>/repo` (or `repo/.git`), as an archive of repositories delivers them; what it lacks
is cloned from `base`, without the contents of files, which are then asked for one by one. Nothing
is checked out, no hook and no filter runs, and links are left out.
"""

import fnmatch
import hashlib
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from utils import paths
from utils.audio import dsp, reading
from utils.code_digest import code_digest

LONGEST_S, SHORTEST_S, PEAK = 6.0, 1.0, 0.7
WIDE_RATE = 16_000  # Hz, the highest rate of a clip
MOST_PER_LABEL = 40  # clips of one repository and label
TRIES = 3  # files that are tried for each clip that a row may give
MAX_FILE = 30_000_000  # bytes of one file, git's own packs included
MAX_PAGE_S = 900  # s for one repository
SAFE_GIT = ["-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=false"]
SAFE_GIT += ["-c", "protocol.ext.allow=never", "-c", "safe.directory=*"]


class PageError(RuntimeError):
    """A demo page cannot be fetched, or a given folder is of another form. The message says why."""


@dataclass(frozen=True)
class Pages:
    """Where repositories come from. base: URL of a git host, "" for none; mirror: a folder."""

    base: str = "https://github.com"
    mirror: Path | None = None

    def local(self, repo: str) -> Path | None:
        """The git folder of `owner/name` in the mirror, or None."""
        if not self.mirror:
            return None
        folder = Path(self.mirror) / repo.replace("/", "+") / "repo"
        found = [path for path in (folder / ".git", folder) if (path / "HEAD").exists()]
        return found[0] if found else None

    @contextmanager
    def open(self, repo: str, branch: str, work: Path, deadline: float) -> Iterator["Repository"]:
        """One branch ("": the default one) of `owner/name`; a clone lies in `work` meanwhile.

        deadline: monotonic time in s at which git gives up. Raises PageError.
        """
        local = self.local(repo)
        if local:
            yield Repository(local, _revision(local, branch, deadline), deadline)
            return
        if not self.base:
            raise PageError("not in the folder of repositories, and no git host is named")
        shutil.rmtree(work, ignore_errors=True)
        options = ["--quiet", "--bare", "--depth", "1", "--filter=blob:none"]
        if branch:
            options += ["--branch", branch]
        try:
            run_git("clone", *options, "--", f"{self.base}/{repo}.git", str(work), until=deadline)
            yield Repository(work, "HEAD", deadline)
        finally:
            shutil.rmtree(work, ignore_errors=True)


@dataclass(frozen=True)
class Repository:
    """A commit of a repository: `folder` is git's, `revision` what it calls the commit."""

    folder: Path
    revision: str
    deadline: float

    def files(self) -> dict[str, str]:
        """Path → blob id of all files but links. Raises PageError."""
        arguments = ("ls-tree", "-r", "-z", self.revision)
        listing = run_git(*arguments, folder=self.folder, until=self.deadline)
        files = {}
        for entry in listing.decode(errors="replace").split("\0"):
            if "\t" in entry:
                facts, path = entry.split("\t", 1)
                mode, _, blob = facts.split()
                if mode != "120000":  # a symbolic link
                    files[path] = blob
        return files

    def read(self, blob: str) -> bytes:
        """Content of a file. Raises PageError where git cannot deliver it."""
        return run_git("cat-file", "blob", blob, folder=self.folder, until=self.deadline)


def _revision(folder: Path, branch: str, deadline: float) -> str:
    """What a copy calls a branch: some keep those of the original as `origin/…`."""
    for name in (f"refs/heads/{branch}", f"refs/remotes/origin/{branch}") if branch else ("HEAD",):
        try:
            run_git("rev-parse", "--verify", "--quiet", name, folder=folder, until=deadline)
        except PageError:
            continue
        return name
    raise PageError(f"the copy has no branch {branch or 'HEAD'}")


def run_git(*arguments: str, folder: Path | None = None, until: float = float("inf")) -> bytes:
    """Run git without prompts, hooks or filters until a monotonic time in s; return its output.

    No file may grow over MAX_FILE. Raises PageError.
    """
    seconds = min(MAX_PAGE_S, max(1.0, until - time.monotonic()))
    try:
        return subprocess.run(
            ["git", *SAFE_GIT, *arguments],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=seconds,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE, MAX_FILE)),
            env=os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"},
        ).stdout
    except FileNotFoundError as error:
        raise PageError("git was not found: install it, or name a folder with --given") from error
    except subprocess.TimeoutExpired as error:
        raise PageError(f"git {arguments[0]}: gave up after {seconds:.0f} s") from error
    except subprocess.CalledProcessError as error:
        message = error.stderr.decode(errors="replace").strip()[-300:]
        raise PageError(f"git {arguments[0]}: {message}") from error


def candidates(row, files: dict[str, str]) -> list[tuple[str, str]]:
    """(path, blob) of the files of a row of the table, in the order in which they are tried.

    files: path → git blob id of a repository. The hashes of the contents decide the order, so it is
    the same everywhere.
    """
    excluded = str(row.exclude).split()
    found = [
        (hashlib.md5(blob.encode()).hexdigest(), path, blob)
        for path, blob in files.items()
        if fnmatch.fnmatchcase(path, row.path_glob)
        and not any(fnmatch.fnmatchcase(path, pattern) for pattern in excluded)
    ]
    return [(path, blob) for _, path, blob in sorted(found)]


def conditioned(wave: np.ndarray, rate: int, name: str) -> tuple[np.ndarray, int]:
    """(clip, its rate in Hz) of a mono wave: both classes pass this one chain.

    Quiet ends are cut at 2 % of the peak, the middle 6 s are kept, at `WIDE_RATE` at most, with one
    peak. Raises AudioError, naming `name`, for less than `SHORTEST_S`.
    """
    wave = dsp.middle(wave[dsp.between_quiet_ends(wave, rate)], int(LONGEST_S * rate))
    if len(wave) < SHORTEST_S * rate:
        raise dsp.AudioError(f"{name}: {len(wave) / rate:.2f} s is under {SHORTEST_S:.0f} s")
    target = WIDE_RATE if rate > dsp.RATE else dsp.RATE
    wave = dsp.check_wave(dsp.resample(wave, rate, target), name, target)
    return (PEAK / np.abs(wave).max() * wave).astype(np.float32), target


def packaging(wave: np.ndarray, rate: int) -> dict[str, float]:
    """What a file is like before it is conditioned, for an audit of shortcuts."""
    loud = dsp.between_quiet_ends(wave, rate, margin_s=0)
    facts = {
        "native_hz": rate,
        "native_s": len(wave) / rate,
        "native_peak": float(np.abs(wave).max()),
        "native_dbfs": dsp.dbfs(wave),
        "native_lead_s": loud.start / rate,
        "native_tail_s": (len(wave) - loud.stop) / rate,
    }
    return {name: round(value, 3) for name, value in facts.items()}


def fetch_page(repo: str, rows: pd.DataFrame, per_row: int, pages: Pages) -> tuple[list, list]:
    """(clips, rejected) of one repository; the clips' waves are kept in the cache.

    rows: the repository's rows of the table. Where git could not deliver a file of a host (too
    large, or the network failed), the next build asks the page again. Raises PageError.
    """
    settings = rows.to_csv(index=False), per_row, pages.base, str(pages.local(repo))
    digest = hashlib.sha256(repr((settings, code_digest(_clips_of))).encode()).hexdigest()[:12]
    finished = paths.CACHE / "demo_pages" / f"{repo.replace('/', '__')}-{digest}.json"
    with paths.locked(finished):  # clones of the project share the cache
        if finished.exists():
            return paths.read_json(finished)
        clips, rejected, delivered = _clips_of(repo, rows, per_row, pages, finished)
        if delivered or pages.local(repo):
            paths.write_json(finished, [clips, rejected])
    return clips, rejected


def _clips_of(
    repo: str, rows: pd.DataFrame, per_row: int, pages: Pages, beside: Path
) -> tuple[list, list, bool]:
    """(clips, rejected, whether git delivered every file that was asked for)."""
    clips, rejected, delivered = [], [], True
    deadline = time.monotonic() + MAX_PAGE_S
    for branch, branch_rows in rows.groupby("ref"):
        # one branch can hold what another has, so each is opened anew
        with pages.open(repo, branch, beside.with_suffix(".git"), deadline) as page:
            files, seen = page.files(), set()
            for row in branch_rows.itertuples():
                of_label = sum(clip["label"] == row.label for clip in clips)
                wanted = min(per_row, MOST_PER_LABEL - of_label)
                untried = [(p, b) for p, b in candidates(row, files) if b not in seen]
                found = 0
                for path, blob in untried[: TRIES * per_row]:
                    if found >= wanted:
                        break
                    try:
                        clip = _one_clip(page, path, blob, beside.parent)
                    except (dsp.AudioError, PageError) as error:
                        delivered = delivered and not isinstance(error, PageError)
                        rejected.append({"id": f"{repo}/{path}", "reason": str(error)})
                        continue
                    seen.add(blob)
                    found += 1
                    facts = {name: getattr(row, name) for name in ("label", "system", "language")}
                    facts |= {"licence": row.licence, "kind": row.kind}
                    clips.append(clip | facts | {"repo": repo, "path": path})
    return clips, rejected, delivered


def _one_clip(page: Repository, path: str, blob: str, folder: Path) -> dict:
    """Read, condition and keep one file in `folder`. Raises AudioError and PageError."""
    if time.monotonic() > page.deadline:
        raise PageError(f"gave up after {MAX_PAGE_S} s, at {path}")
    data = page.read(blob)
    if len(data) > MAX_FILE:
        raise dsp.AudioError(f"{path}: larger than {MAX_FILE / 1e6:.0f} MB")
    original, native = reading.decode_native(data, path)
    wave, rate = conditioned(original, native, path)
    name = hashlib.md5(blob.encode()).hexdigest()
    file = folder / f"{name}-{code_digest(conditioned)[:8]}.wav"
    with paths.whole(file) as temporary:
        reading.write(temporary, wave, rate)
    return {"name": name, "file": str(file)} | packaging(original, native)
