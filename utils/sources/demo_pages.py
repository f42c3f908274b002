"""Demonstration pages: samples of the newest synthesisers beside the real ones, long before anyone packages them.

`inputs/demo_pages.tsv` says where they lie: repository, glob, label (real, fake, or codec: neural-codec copies of real
speech, transmission or attack as one defines it), system, language, branch, files to leave out, licence as far as known.
`python -m utils.sources.demo_pages` writes `inputs/external/demo_pages/`: `clips/` (8 kHz WAV of at most 6 s, else as they came),
`meta.csv` and `rejected.csv`. One page (owner) is one group: originals and their fakes stay together.

Clips come from the page's git repository, or from a folder that holds them already (`--given` or DFS_DEMO_PAGES: a
`key.csv` and `clips/`). None is redistributed: most pages name no licence. Finished pages are kept in the cache.
"""

import argparse
import fnmatch
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from utils import parallel, paths
from utils.audio import dsp, reading

TABLE = paths.ROOT / "inputs" / "demo_pages.tsv"
TARGET = paths.INPUTS / "external" / "demo_pages"
SECONDS, PEAK = 6.0, 0.7
MAX_FILE, MAX_PAGE_S = (
    30_000_000,
    900,
)  # bytes of one file (git's own packs included), seconds for one page


class PageError(RuntimeError):
    """A page could not be had. The message names the repository."""


def _git(*arguments: str, folder: Path | None = None, deadline: float = np.inf) -> bytes:
    """Run git without prompts, hooks or filters, until `deadline` (monotonic s); no file may grow over MAX_FILE. Raises PageError."""
    seconds = min(MAX_PAGE_S, max(1.0, deadline - time.monotonic()))
    safe = [
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "core.symlinks=false",
        "-c",
        "protocol.ext.allow=never",
    ]
    try:
        return subprocess.run(
            ["git", *safe, *arguments],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=seconds,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE, MAX_FILE)),
            env=os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"},
        ).stdout
    except FileNotFoundError as error:
        raise PageError(
            "git is not installed: apt-get install git, or name a folder with --given"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise PageError(f"git {arguments[0]}: gave up after {seconds:.0f} s") from error
    except subprocess.CalledProcessError as error:
        raise PageError(
            f"git {arguments[0]}: {error.stderr.decode(errors='replace').strip()[-300:]}"
        ) from error


def choose(
    rows: pd.DataFrame, files: dict[str, str], per_row: int
) -> list[tuple[str, str, object]]:
    """(path, blob, table row) of at most `per_row` files for each row of one repository, none twice.

    `files` is path → git blob id. Which ones is decided by their content's hash, so it is the same everywhere.
    """
    chosen, seen = [], set()
    for row in rows.itertuples():
        out = str(row.exclude).split()
        found = [
            (hashlib.md5(blob.encode()).hexdigest(), path, blob)
            for path, blob in files.items()
            if fnmatch.fnmatch(path, row.path_glob)
            and not any(fnmatch.fnmatch(path, pattern) for pattern in out)
        ]
        for _, path, blob in [f for f in sorted(found) if f[2] not in seen][:per_row]:
            seen.add(blob)
            chosen.append((path, blob, row))
    return chosen


def fetch_page(
    repo: str, rows: pd.DataFrame, per_row: int, base: str
) -> tuple[list[dict], list[dict]]:
    """(clips, rejected) of one repository; the clips' waves lie in the cache as `<name>.wav`. Raises PageError.

    Where git could not hand over a file (too large, or the network failed), the page is asked again by the next build.
    """
    wanted = hashlib.sha256(f"{rows.to_csv(index=False)}{per_row}{base}".encode()).hexdigest()[:12]
    done, deadline = (
        paths.CACHE / "demo_pages" / f"{repo.replace('/', '__')}-{wanted}.json",
        time.monotonic() + MAX_PAGE_S,
    )
    if done.exists():
        return paths.read_json(done)
    work = done.with_suffix(".git")
    shutil.rmtree(work, ignore_errors=True)
    work.parent.mkdir(parents=True, exist_ok=True)
    clips, rejected, whole = [], [], True
    for ref, part in rows.groupby("ref"):
        branch = ["--branch", ref] if ref else []
        _git(
            "clone",
            "--quiet",
            "--bare",
            "--depth",
            "1",
            "--filter=blob:none",
            *branch,
            "--",
            f"{base}/{repo}.git",
            str(work),
            deadline=deadline,
        )
        tree = (
            _git("ls-tree", "-r", "-z", "HEAD", folder=work, deadline=deadline)
            .decode(errors="replace")
            .split("\0")
        )
        entries = [(entry.split("\t", 1)[1], entry.split()) for entry in tree if "\t" in entry]
        files = {path: fields[2] for path, fields in entries if fields[0] != "120000"}  # no links
        for path, blob, row in choose(part, files, per_row):
            name = hashlib.md5(blob.encode()).hexdigest()
            try:
                data = _git("cat-file", "blob", blob, folder=work, deadline=deadline)
                if len(data) > MAX_FILE:
                    raise dsp.AudioError(f"{path}: larger than {MAX_FILE / 1e6:.0f} MB")
                wave = dsp.check_wave(reading.decode(data, path)[: int(SECONDS * dsp.RATE)], path)
            except (dsp.AudioError, PageError) as error:
                if time.monotonic() > deadline:
                    raise PageError(f"gave up after {MAX_PAGE_S} s, at {path}") from error
                whole = whole and not isinstance(error, PageError)
                rejected.append({"id": f"{repo}/{path}", "reason": str(error)})
                continue
            reading.write(done.parent / f"{name}.wav", PEAK * wave / np.abs(wave).max())
            clips.append(
                {
                    "name": name,
                    "label": row.label,
                    "system": row.system,
                    "language": row.language,
                    "group": repo.split("/")[0],
                    "repo": repo,
                    "path": path,
                    "licence": row.licence,
                }
            )
        shutil.rmtree(work)  # one branch may hold what another has, so each is cloned anew
    if whole:
        paths.write_json(done, [clips, rejected])
    return clips, rejected


def fetch_all(per_row: int, base: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All pages of the table, one after another; a page that cannot be had is listed as rejected and does not stop."""
    table = pd.read_csv(TABLE, sep="\t", keep_default_na=False)
    clips, rejected = [], []
    for repo, rows in parallel.progress(table.groupby("repo"), "demo pages", unit="page"):
        try:
            found, bad = fetch_page(repo, rows, per_row, base)
        except PageError as error:
            found, bad = [], [{"id": repo, "reason": f"{repo}: {error}"}]
        clips, rejected = clips + found, rejected + bad
    return pd.DataFrame(clips), pd.DataFrame(rejected, columns=["id", "reason"])


def read_given(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The clips of a folder that holds them already: `key.csv` (name, label, system, language, group, …) and `clips/`."""
    if not (folder / "key.csv").exists():
        raise PageError(f"{folder}/key.csv is missing: name a folder with key.csv and clips/")
    key = pd.read_csv(folder / "key.csv", dtype=str, keep_default_na=False)
    if missing := {"name", "label", "system", "language", "group", "repo", "path"} - set(key):
        raise PageError(f"{folder}/key.csv lacks the columns {sorted(missing)}")
    if (strange := key["name"].map(lambda name: Path(name).name != name)).any():
        raise PageError(
            f"{folder}/key.csv: {key.loc[strange, 'name'].iloc[0]!r} is not the name of a file in clips/; refused"
        )
    table = pd.read_csv(TABLE, sep="\t", keep_default_na=False)
    key["label"] = key["label"].replace({"1": "real", "0": "fake"})
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
    """Write `TARGET`; nothing is done if it is complete. Returns the folder. Raises PageError if there is no clip at all."""
    made_from = {
        "given": given or "",
        "per_row": per_row,
        "base": base,
        "table": hashlib.sha256(TABLE.read_bytes()).hexdigest(),
    }
    done = TARGET / "complete.json"
    if (
        done.exists()
        and not force
        and (paths.read_json(done)["made_from"] == made_from or not given)
    ):
        return TARGET
    clips, rejected = read_given(Path(given)) if given else fetch_all(per_row, base)
    part = TARGET.with_name(f".{TARGET.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "clips").mkdir(parents=True)
    rows, bad = [], rejected.to_dict("records")
    for row in parallel.progress(list(clips.itertuples()), "write", unit="clip"):
        source = Path(row.file) if given else paths.CACHE / "demo_pages" / f"{row.name}.wav"
        try:
            wave = dsp.check_wave(reading.read(source)[: int(SECONDS * dsp.RATE)], source.name)
            if len(wave) < dsp.RATE:
                raise dsp.AudioError(f"{source.name}: {len(wave) / dsp.RATE:.2f} s is under 1 s")
        except dsp.AudioError as error:
            bad.append({"id": f"demo_pages/{row.repo}/{row.path}", "reason": str(error)})
            continue
        name = f"{row.name}.wav"
        reading.write(part / "clips" / name, wave)
        label = {"real": 1, "fake": 0}.get(row.label)
        rows.append(
            {
                "id": f"demo_pages/{name}",
                "file": f"clips/{name}",
                "label": label,
                "system": "bonafide" if label == 1 else row.system,
                "language": row.language,
                "speaker": row.group,
                "group": f"page-{row.group}",
                "licence": row.licence,
                "repo": row.repo,
                "page_path": row.path,
            }
        )
    if not rows:
        raise PageError(
            "no clip of any demonstration page could be had: no git host is reachable? Name a folder that holds "
            f"them with --given or DFS_DEMO_PAGES. First reason: {bad[0]['reason'] if bad else 'none'}"
        )
    meta = pd.DataFrame(rows).sort_values("id")
    meta["label"] = meta["label"].astype("Int64")
    meta.to_csv(part / "meta.csv", index=False)
    pd.DataFrame(bad, columns=["id", "reason"]).to_csv(part / "rejected.csv", index=False)
    (part / "complete.json").write_text(
        json.dumps({"clips": len(rows), "rejected": len(bad), "made_from": made_from})
    )
    shutil.rmtree(TARGET, ignore_errors=True)
    part.rename(TARGET)
    print(
        f"{TARGET}: {len(rows)} clips of {meta['group'].nunique()} pages, {len(bad)} rejected (rejected.csv)"
    )
    return TARGET


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.sources.demo_pages", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--given",
        default=os.environ.get("DFS_DEMO_PAGES"),
        metavar="FOLDER",
        help="take the clips from this folder instead of the network (default: $DFS_DEMO_PAGES)",
    )
    parser.add_argument(
        "--per-row",
        type=int,
        default=8,
        help="at most this many clips for a row of the table (default: 8)",
    )
    parser.add_argument(
        "--base", default="https://github.com", help="git host (default: %(default)s)"
    )
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
