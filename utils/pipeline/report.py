"""The index page of a run: submission, results, figures, executed notebooks and environment."""

import hashlib
import html
import os
import subprocess
from pathlib import Path

import pandas as pd

from utils import paths

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222 }
table { border-collapse: collapse; font-size: 14px; display: block; overflow-x: auto }
th, td { padding: 2px 10px; text-align: right }
th:first-child, td:first-child { text-align: left }
tr:nth-child(even) { background: #f3f3f3 }
thead { border-bottom: 2px solid #888 }
img { max-width: 100%; height: auto }
figure { margin: 1rem 0 }
figcaption { color: #555; font-size: 14px }
"""


def commit() -> str:
    """Short hash of the checkout, "… and changes" if files differ; "unknown" if it is none."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty= and changes"],
            cwd=paths.ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def _submission(run: Path) -> list[str]:
    file = paths.SUBMISSIONS / f"{run.name}.csv"
    if not file.exists():
        return []
    decided = pd.read_csv(file, header=None)[1]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    link = html.escape(os.path.relpath(file, run))
    return [
        f"<h2>Submitted</h2><p><a href='{link}'>{file.name}</a>: "
        f"{len(decided)} clips, {decided.mean():.1%} called bona fide, sha256 {digest[:16]}…</p>"
    ]


def _results(run: Path) -> list[str]:
    if not (run / "results.csv").exists():
        return []
    rows = pd.read_csv(run / "results.csv")
    table = rows.to_html(index=False, border=0, float_format="{:.3f}".format, na_rep="")
    return ["<h2>Results</h2><p>Scored with the test key.</p>", table]


def _notebooks(run: Path) -> list[str]:
    links = [
        f"<li><a href='notebooks/{html.escape(page.name)}'>{html.escape(page.stem)}</a> "
        f"({page.stat().st_size / 1e6:.1f} MB)</li>"
        for page in sorted((run / "notebooks").glob("[!.]*.html"))
    ]
    if not links:
        return []
    return ["<h2>Notebooks, as executed</h2><ul>", *links, "</ul>"]


def _figures(run: Path) -> list[str]:
    files = sorted((run / "figures").glob("*.png"), key=lambda p: (p.stat().st_mtime, p.name))
    figures = [
        f"<figure><img src='figures/{html.escape(file.name)}' alt='{html.escape(file.stem)}' "
        "loading='lazy'>"
        f"<figcaption>{html.escape(file.stem.replace('_', ' '))}</figcaption></figure>"
        for file in files
    ]
    if not figures:
        return []
    return ["<h2>Figures</h2>", *figures]


def _environment(run: Path) -> list[str]:
    if not (run / "env.json").exists():
        return []
    facts = paths.read_json(run / "env.json")
    packages = facts.pop("packages", {})
    rows = pd.DataFrame(list((facts | packages).items()), columns=["what", "is"])
    return ["<h2>Environment</h2>", rows.to_html(index=False, border=0)]


def write(run: Path) -> Path:
    """Write `index.html` into the folder of a run; what the run has not got is left out.

    Links are relative: the folder can be moved, and all but that to the submission still work.
    Figures stand in the order in which they were made. The commit is that of the checkout now:
    steps that were finished before may be of another (see their stamps).
    """
    parts = [
        f"<h1>Run {html.escape(run.name)}</h1>",
        f"<p>Written at commit {html.escape(commit())}.</p>",
        *_submission(run),
        *_results(run),
        *_notebooks(run),
        *_figures(run),
        *_environment(run),
    ]
    with paths.whole(run / "index.html") as part:
        part.write_text(
            "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
            "content='width=device-width, initial-scale=1'>"
            f"<title>Run {html.escape(run.name)}</title><style>{STYLE}</style></head>"
            f"<body>{''.join(parts)}</body></html>\n",
            encoding="utf-8",
        )
    return run / "index.html"
