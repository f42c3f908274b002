"""Fetch speech of the newest synthesisers, and recordings of people, from public repositories.

Authors of a synthesiser publish samples on a demo page long before anyone packages the system, and
many people commit recordings of their own voices. `inputs/demo_pages.tsv` lists both: repository,
glob, label (bonafide, spoof, or codec: real speech that passed through a neural codec, which is
transmission or attack as one defines it), system, language, branch, files to leave out, licence as
far as known, and kind (`page`, or `plain`: people who have nothing to do with synthesis).

`python -m utils.sources.demo_pages` writes `inputs/external/demo_pages/`: `clips/` (WAV at the rate
of the original, 16 kHz at most; the middle 6 s between quiet ends), `meta.csv` and `rejected.csv`.
All clips of one owner are one group, so that originals and their spoofs stay together; what several
pages show is taken once. Repositories come from a git host, from a folder of copies (`--mirror`),
or as a folder that holds clips already (`--given`: `key.csv` and `clips/`). We redistribute none:
most pages name no licence.
"""

import argparse
import hashlib
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from utils import contracts, parallel, paths
from utils.audio import dsp, duplicates, reading
from utils.sources.page_repos import PageError, Pages, conditioned, fetch_page

TABLE = paths.ROOT / "inputs" / "demo_pages.tsv"
TARGET = paths.INPUTS / "external" / "demo_pages"
KEY_COLUMNS = {"name", "label", "system", "language", "group", "repo", "path"}


def read_table() -> pd.DataFrame:
    """`inputs/demo_pages.tsv`, all columns as text."""
    return pd.read_csv(TABLE, sep="\t", keep_default_na=False, dtype=str)


def read_given(folder: Path) -> pd.DataFrame:
    """Clips of a folder that holds them already.

    Its `key.csv` has the columns `KEY_COLUMNS` (name: a file in `clips/`; label: 1 or bonafide, 0
    or spoof, codec), and may have `kind`. Raises PageError for a key of another form.
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
    key["label"] = key["label"].replace({"1": "bonafide", "0": "spoof"})
    key["licence"] = key["repo"].map(read_table().groupby("repo")["licence"].first())
    key["file"] = [str(folder / "clips" / name) for name in key["name"]]
    key["name"] = key["name"].str.replace(r"\.\w+$", "", regex=True)
    return key.fillna({"licence": "unknown"}).assign(kind=key.get("kind", "page"))


def collect(given: str | None, per_row: int, pages: Pages) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(clips, rejected) of all pages: from the mirror what it has, then from `given`.

    Where neither is named, all come from the git host.
    """
    table = read_table()
    repos = sorted(set(table["repo"]))
    frames = []
    if given:
        key = read_given(Path(given))
        frames.append(key[[pages.local(repo) is None for repo in key["repo"]]])
        repos = [repo for repo in repos if pages.local(repo)]

    def fetch(repo: str) -> tuple[list, list]:
        try:
            return fetch_page(repo, table[table["repo"] == repo], per_row, pages)
        except PageError as error:
            return [], [{"id": repo, "reason": f"{repo}: {error}"}]

    with ThreadPoolExecutor(parallel.processes()) as pool:  # git and decoders leave Python alone
        found = pool.map(fetch, repos)
        found = list(parallel.progress(found, "demo pages", total=len(repos), unit="page"))
    frames.append(pd.DataFrame([clip for clips, _ in found for clip in clips]))
    rejected = [row for _, rows in found for row in rows]
    return pd.concat(frames, ignore_index=True), pd.DataFrame(rejected, columns=["id", "reason"])


def build(
    given: str | None = os.environ.get("DFS_DEMO_PAGES"),
    per_row: int = 6,
    base: str = "https://github.com",
    force: bool = False,
    mirror: str | None = os.environ.get("DFS_MIRROR"),
) -> Path:
    """Write `TARGET` and return it; of several processes, one does it and the others wait.

    given: a folder that holds clips already. mirror: a folder of bare git repositories, see
    `page_repos`. With neither, the pages come from the git host `base`. per_row: at most this many
    clips for a row of the table. force: also if `TARGET` is complete.
    Without `force`, what was fetched from a host stays, also if the table grew; what came from a
    folder is written again if folder or table are others now. Raises PageError if there is no clip
    at all.
    """
    table = hashlib.sha256(TABLE.read_bytes()).hexdigest()
    made_from = {"given": given or "", "mirror": mirror or "", "per_row": per_row, "base": base}
    made_from["table"] = table
    done = TARGET / "complete.json"
    local = given or mirror
    with paths.locked(TARGET):
        kept = done.exists() and (not local or paths.read_json(done)["made_from"] == made_from)
        if kept and not force:
            return TARGET
        pages = Pages("" if local else base, Path(mirror) if mirror else None)
        clips, rejected = collect(given, per_row, pages)
        _write(clips, rejected, made_from)
    return TARGET


def _write(clips: pd.DataFrame, rejected: pd.DataFrame, made_from: dict) -> None:
    """Write all files of `TARGET`, whole or not at all."""
    temporary = TARGET.with_name(f".{TARGET.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "clips").mkdir(parents=True)
    rows, contours, refused = [], [], rejected.to_dict("records")
    for row in parallel.progress(list(clips.itertuples()), "write", unit="clip"):
        source = Path(row.file)
        try:
            if contracts.is_reserved(row.repo):
                raise dsp.AudioError(f"{source.name}: its owner is reserved for evaluation")
            wave, rate = conditioned(
                *reading.decode_native(source.read_bytes(), source.name), source.name
            )
        except (dsp.AudioError, OSError) as error:
            refused.append(_refused(row, str(error)))
            continue
        reading.write(temporary / "clips" / f"{row.name}.wav", wave, rate)
        rows.append(row)
        contours.append(duplicates.contour(wave, rate))
    kept, repeated = _without_repeats(rows, contours)
    refused += repeated
    if not kept:
        reason = refused[0]["reason"] if refused else "none"
        raise PageError(
            "no clip of any demo page could be fetched: is no git host reachable? Name a folder "
            f"that holds them with --given or DFS_DEMO_PAGES. First reason: {reason}"
        )
    meta = (
        pd.DataFrame([_meta_row(row) for row in kept]).sort_values("id").astype({"label": "Int64"})
    )
    for unused in set(temporary.glob("clips/*")) - {temporary / name for name in meta["file"]}:
        unused.unlink()
    meta.to_csv(temporary / "meta.csv", index=False)
    pd.DataFrame(refused, columns=["id", "reason"]).to_csv(temporary / "rejected.csv", index=False)
    counts = {"clips": len(kept), "rejected": len(refused)}
    paths.write_json(temporary / "complete.json", counts | {"made_from": made_from})
    shutil.rmtree(TARGET, ignore_errors=True)
    temporary.rename(TARGET)
    print(f"{TARGET}: {len(kept)} clips, {len(refused)} rejected (rejected.csv)")


def _refused(row, reason: str) -> dict[str, str]:
    return {"id": f"demo_pages/{row.repo}/{row.path}", "reason": reason}


def _without_repeats(rows: list, contours: list) -> tuple[list, list[dict]]:
    """(rows that stay, rejected): files and bona fide recordings that occur twice are taken once.

    A file whose copies have different labels is not taken at all.
    """
    labels = pd.DataFrame([(row.name, row.label) for row in rows], columns=["name", "label"])
    two = set(labels.groupby("name")["label"].nunique().loc[lambda count: count > 1].index)
    bonafide = [i for i, row in enumerate(rows) if row.label == "bonafide"]
    earlier = dict(zip(bonafide, duplicates.repeats([contours[i] for i in bonafide]), strict=True))
    kept, refused, names = [], [], set()
    for i, row in enumerate(rows):
        if row.name in two:
            refused.append(_refused(row, "the same file has two labels"))
        elif row.name in names:
            refused.append(_refused(row, "the same file is on another page, or twice on this one"))
        elif earlier.get(i, -1) >= 0:
            first = rows[bonafide[earlier[i]]]
            refused.append(_refused(row, f"the recording of {first.repo}/{first.path}"))
        else:
            names.add(row.name)
            kept.append(row)
    return kept, refused


def _meta_row(row) -> dict:
    """The row of `meta.csv` of one clip; the label is empty for a clip of a neural codec."""
    label = {"bonafide": 1, "spoof": 0}.get(row.label)
    system = "bonafide" if label == 1 else row.system
    owner = row.repo.split("/")[0].lower()
    file = {"id": f"demo_pages/{row.name}.wav", "file": f"clips/{row.name}.wav", "label": label}
    facts = {"system": system, "language": row.language, "speaker": owner, "kind": row.kind}
    origin = {"licence": row.licence, "repo": row.repo, "page_path": row.path}
    native = {name: getattr(row, name) for name in sorted(row._fields) if "native_" in name}
    return file | facts | {"group": f"page-{owner}"} | origin | native


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
    parser.add_argument(
        "--mirror",
        default=os.environ.get("DFS_MIRROR"),
        metavar="FOLDER",
        help="bare git repositories, OWNER+NAME/repo, in place of a git host; or set DFS_MIRROR",
    )
    parser.add_argument("--per-row", type=int, default=6, help="most clips for a row of the table")
    parser.add_argument("--base", default="https://github.com", help="git host")
    parser.add_argument("--force", action="store_true", help="build again even if it is complete")
    options = parser.parse_args(argv)
    try:
        build(options.given, options.per_row, options.base, options.force, options.mirror)
    except (PageError, OSError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
