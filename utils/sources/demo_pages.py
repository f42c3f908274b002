"""Fetch samples of the newest synthesisers, beside real ones, from their public demo pages.

Authors of a synthesiser publish samples on a demo page long before anyone packages the system.
`inputs/demo_pages.tsv` lists the pages: repository, glob, label (bonafide, spoof, or codec: real
speech that passed through a neural codec, which is transmission or attack as one defines it),
system, language, branch, files to leave out, and the licence as far as known.

`python -m utils.sources.demo_pages` writes `inputs/external/demo_pages/`: `clips/` (8 kHz WAV of 1
to 6 s), `meta.csv` and `rejected.csv`. All clips of one owner are one group, so that originals and
their spoofs stay together. The clips come from the page's git repository, or from a folder that
holds them already (`key.csv` and `clips/`). We redistribute none: most pages name no licence.
"""

import argparse
import fnmatch
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from utils import contracts, parallel, paths
from utils.audio import dsp, reading

TABLE = paths.ROOT / "inputs" / "demo_pages.tsv"
TARGET = paths.INPUTS / "external" / "demo_pages"
LONGEST_S, SHORTEST_S, PEAK = 6.0, 1.0, 0.7
MAX_FILE = 30_000_000  # bytes of one file, git's own packs included
MAX_PAGE_S = 900  # s for one page
SAFE_GIT = ["-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=false"]
SAFE_GIT += ["-c", "protocol.ext.allow=never"]
KEY_COLUMNS = {"name", "label", "system", "language", "group", "repo", "path"}


class PageError(RuntimeError):
    """A demo page cannot be fetched, or a given folder is of another form. The message says why."""


def _git(*arguments: str, folder: Path | None = None, deadline: float = np.inf) -> bytes:
    """Run git without prompts, hooks or filters until `deadline` (monotonic s); return its output.

    No file may grow over MAX_FILE. Raises PageError.
    """
    seconds = min(MAX_PAGE_S, max(1.0, deadline - time.monotonic()))
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


def choose(rows: pd.DataFrame, files: dict[str, str], per_row: int) -> list[tuple]:
    """(path, blob, table row) of at most `per_row` files for each row of one repository.

    files: path → git blob id. No content is chosen for two rows. The hashes of the contents
    decide which files are chosen, so it is the same everywhere.
    """
    chosen, seen = [], set()
    for row in rows.itertuples():
        excluded = str(row.exclude).split()
        candidates = [
            (hashlib.md5(blob.encode()).hexdigest(), path, blob)
            for path, blob in files.items()
            if blob not in seen
            and fnmatch.fnmatch(path, row.path_glob)
            and not any(fnmatch.fnmatch(path, pattern) for pattern in excluded)
        ]
        for _, path, blob in sorted(candidates)[:per_row]:
            seen.add(blob)
            chosen.append((path, blob, row))
    return chosen


def fetch_page(repo: str, rows: pd.DataFrame, per_row: int, base: str) -> tuple[list, list]:
    """(clips, rejected) of one repository; the clips' waves are kept in the cache.

    rows: the repository's rows of the table. base: URL of the git host. Where git could not deliver
    a file (too large, or the network failed), the next build asks the page again. Raises PageError.
    """
    settings = rows.to_csv(index=False), per_row, base, LONGEST_S, PEAK
    digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
    finished = paths.CACHE / "demo_pages" / f"{repo.replace('/', '__')}-{digest}.json"
    with paths.locked(finished):  # clones of the project share the cache
        if finished.exists():
            return paths.read_json(finished)
        work = finished.with_suffix(".git")
        clips, rejected, complete = _clone_page(repo, rows, per_row, base, work)
        if complete:
            paths.write_json(finished, [clips, rejected])
    return clips, rejected


def _clone_page(repo: str, rows: pd.DataFrame, per_row: int, base: str, work: Path) -> tuple:
    """(clips, rejected, whether git delivered every file that was asked for); clones to `work`."""
    clips, rejected, complete = [], [], True
    deadline = time.monotonic() + MAX_PAGE_S
    for branch, branch_rows in rows.groupby("ref"):
        # one branch can hold what another has, so each is cloned anew
        shutil.rmtree(work, ignore_errors=True)
        files = _clone(f"{base}/{repo}.git", branch, work, deadline)
        for path, blob, row in choose(branch_rows, files, per_row):
            name = hashlib.md5(blob.encode()).hexdigest()
            try:
                data = _git("cat-file", "blob", blob, folder=work, deadline=deadline)
                _write_clip(data, path, work.with_name(f"{name}.wav"))
            except (dsp.AudioError, PageError) as error:
                if time.monotonic() > deadline:
                    raise PageError(f"gave up after {MAX_PAGE_S} s, at {path}") from error
                complete = complete and not isinstance(error, PageError)
                rejected.append({"id": f"{repo}/{path}", "reason": str(error)})
                continue
            facts = {"label": row.label, "system": row.system, "language": row.language}
            origin = {"group": repo.split("/")[0], "repo": repo, "path": path}
            clips.append({"name": name, **facts, **origin, "licence": row.licence})
    shutil.rmtree(work, ignore_errors=True)
    return clips, rejected, complete


def _clone(url: str, branch: str, folder: Path, deadline: float) -> dict[str, str]:
    """Clone one branch without its files; return path → blob id of the files in it, no links."""
    options = ["--quiet", "--bare", "--depth", "1", "--filter=blob:none"]
    if branch:
        options += ["--branch", branch]
    _git("clone", *options, "--", url, str(folder), deadline=deadline)
    listing = _git("ls-tree", "-r", "-z", "HEAD", folder=folder, deadline=deadline)
    files = {}
    for entry in listing.decode(errors="replace").split("\0"):
        if "\t" in entry:
            facts, path = entry.split("\t", 1)
            mode, _, blob = facts.split()
            if mode != "120000":  # a symbolic link
                files[path] = blob
    return files


def _write_clip(data: bytes, path: str, target: Path) -> None:
    """Decode one file of a page and write its first seconds. Raises AudioError."""
    if len(data) > MAX_FILE:
        raise dsp.AudioError(f"{path}: larger than {MAX_FILE / 1e6:.0f} MB")
    wave = dsp.check_wave(reading.decode(data, path)[: int(LONGEST_S * dsp.RATE)], path)
    reading.write(target, PEAK * wave / np.abs(wave).max())


def fetch_all(per_row: int, base: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(clips, rejected) of all pages of the table; a page that cannot be fetched is rejected."""
    table = pd.read_csv(TABLE, sep="\t", keep_default_na=False)
    clips, rejected = [], []
    for repo, rows in parallel.progress(table.groupby("repo"), "demo pages", unit="page"):
        try:
            page_clips, page_rejected = fetch_page(repo, rows, per_row, base)
        except PageError as error:
            rejected.append({"id": repo, "reason": f"{repo}: {error}"})
            continue
        clips += page_clips
        rejected += page_rejected
    for clip in clips:
        clip["file"] = str(paths.CACHE / "demo_pages" / f"{clip['name']}.wav")
    return pd.DataFrame(clips), pd.DataFrame(rejected, columns=["id", "reason"])


def read_given(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(clips, rejected) of a folder that holds the clips already.

    Its `key.csv` has the columns `KEY_COLUMNS` (name: a file in `clips/`; label: 1 or bonafide, 0
    or spoof, codec). Raises PageError for a key of another form.
    """
    if not (folder / "key.csv").exists():
        raise PageError(f"{folder}/key.csv is missing: name a folder with key.csv and clips/")
    key = pd.read_csv(folder / "key.csv", dtype=str, keep_default_na=False)
    if missing := KEY_COLUMNS - set(key):
        raise PageError(f"{folder}/key.csv lacks the columns {sorted(missing)}")
    is_path = key["name"].map(lambda name: Path(name).name != name)
    if is_path.any():
        first = key.loc[is_path, "name"].iloc[0]
        raise PageError(f"{folder}/key.csv: {first!r} is not the name of a file in clips/; refused")
    table = pd.read_csv(TABLE, sep="\t", keep_default_na=False)
    key["label"] = key["label"].replace({"1": "bonafide", "0": "spoof"})
    key["licence"] = key["repo"].map(table.groupby("repo")["licence"].first()).fillna("unknown")
    key["file"] = [str(folder / "clips" / name) for name in key["name"]]
    key["name"] = key["name"].str.replace(r"\.\w+$", "", regex=True)
    return key, pd.DataFrame(columns=["id", "reason"])


def build(
    given: str | None = os.environ.get("DFS_DEMO_PAGES"),
    per_row: int = 8,
    base: str = "https://github.com",
    force: bool = False,
) -> Path:
    """Write `TARGET` and return it; of several processes, one does it and the others wait.

    given: a folder that holds the clips already; None: fetch the pages from the git host `base`.
    per_row: at most this many clips for a row of the table. force: also if `TARGET` is complete.
    Without `force`, what was fetched stays, also if the table grew; what came from a given folder
    is written again if folder or table are others now. Raises PageError if there is no clip at all.
    """
    table = hashlib.sha256(TABLE.read_bytes()).hexdigest()
    made_from = {"given": given or "", "per_row": per_row, "base": base, "table": table}
    done = TARGET / "complete.json"
    with paths.locked(TARGET):
        kept = done.exists() and (not given or paths.read_json(done)["made_from"] == made_from)
        if kept and not force:
            return TARGET
        clips, rejected = read_given(Path(given)) if given else fetch_all(per_row, base)
        _write(clips, rejected, made_from)
    return TARGET


def _write(clips: pd.DataFrame, rejected: pd.DataFrame, made_from: dict) -> None:
    """Write all files of `TARGET`, whole or not at all."""
    temporary = TARGET.with_name(f".{TARGET.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "clips").mkdir(parents=True)
    rows, refused = [], rejected.to_dict("records")
    for row in parallel.progress(list(clips.itertuples()), "write", unit="clip"):
        source = Path(row.file)
        try:
            if contracts.is_reserved(row.repo):
                raise dsp.AudioError(f"{source.name}: its owner is reserved for evaluation")
            wave = reading.read(source)[: int(LONGEST_S * dsp.RATE)]
            wave = dsp.check_wave(wave, source.name)
            if len(wave) < SHORTEST_S * dsp.RATE:
                seconds = len(wave) / dsp.RATE
                raise dsp.AudioError(f"{source.name}: {seconds:.2f} s is under {SHORTEST_S:.0f} s")
        except dsp.AudioError as error:
            refused.append({"id": f"demo_pages/{row.repo}/{row.path}", "reason": str(error)})
            continue
        reading.write(temporary / "clips" / f"{row.name}.wav", wave)
        rows.append(_meta_row(row))
    if not rows:
        reason = refused[0]["reason"] if refused else "none"
        raise PageError(
            "no clip of any demo page could be fetched: is no git host reachable? Name a folder "
            f"that holds them with --given or DFS_DEMO_PAGES. First reason: {reason}"
        )
    meta = pd.DataFrame(rows).sort_values("id").astype({"label": "Int64"})
    meta.to_csv(temporary / "meta.csv", index=False)
    pd.DataFrame(refused, columns=["id", "reason"]).to_csv(temporary / "rejected.csv", index=False)
    counts = {"clips": len(rows), "rejected": len(refused)}
    paths.write_json(temporary / "complete.json", counts | {"made_from": made_from})
    shutil.rmtree(TARGET, ignore_errors=True)
    temporary.rename(TARGET)
    print(f"{TARGET}: {len(rows)} clips, {len(refused)} rejected (rejected.csv)")


def _meta_row(row) -> dict:
    """The row of `meta.csv` of one clip; the label is empty for a clip of a neural codec."""
    label = {"bonafide": 1, "spoof": 0}.get(row.label)
    system = "bonafide" if label == 1 else row.system
    file = {"id": f"demo_pages/{row.name}.wav", "file": f"clips/{row.name}.wav", "label": label}
    facts = {"system": system, "language": row.language, "speaker": row.group}
    origin = {"licence": row.licence, "repo": row.repo, "page_path": row.path}
    return file | facts | {"group": f"page-{row.group}"} | origin


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.sources.demo_pages",
        description=__doc__.split("\n")[0] + " They go to inputs/external/demo_pages/.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--given",
        default=os.environ.get("DFS_DEMO_PAGES"),
        metavar="FOLDER",
        help="take the clips from this folder, not the network; or set DFS_DEMO_PAGES",
    )
    parser.add_argument("--per-row", type=int, default=8, help="most clips for a row of the table")
    parser.add_argument("--base", default="https://github.com", help="git host")
    parser.add_argument("--force", action="store_true", help="build again even if it is complete")
    options = parser.parse_args(argv)
    try:
        build(options.given, options.per_row, options.base, options.force)
    except (PageError, OSError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
