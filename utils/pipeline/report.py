"""The front page of a run: what was handed in, the ladder, every figure, the executed notebooks and the environment, in one file."""

import hashlib
import html
import os
import subprocess
from pathlib import Path

import pandas as pd

from utils import paths

STYLE = """body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-size: 14px; display: block; overflow-x: auto } th, td { padding: 2px 10px; text-align: right }
th:first-child, td:first-child { text-align: left } tr:nth-child(even) { background: #f3f3f3 } thead { border-bottom: 2px solid #888 }
img { max-width: 100%; height: auto } figure { margin: 1rem 0 } figcaption { color: #555; font-size: 14px }"""


def commit() -> str:
    """Short hash of the checkout, with a mark if files of it were changed; "unknown" where it is no checkout."""
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


def _table(rows: pd.DataFrame) -> str:
    return rows.to_html(index=False, border=0, float_format=lambda value: f"{value:.3f}", na_rep="")


def _submission(run: Path) -> str:
    file = paths.SUBMISSIONS / f"{run.name}.csv"
    if not file.exists():
        return ""
    decided = pd.read_csv(file, header=None)[1]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return (
        f"<h2>Handed in</h2><p><a href='{html.escape(os.path.relpath(file, run))}'>{file.name}</a>: {len(decided)} clips, "
        f"{decided.mean():.1%} called bona fide, sha256 {digest[:16]}…</p>"
    )


def write(run: Path) -> Path:
    """Write `index.html` into the folder of a run; what the run has not got is left out.

    Links are relative: the folder can be moved, and all but that to the submission still work. Figures stand in the order of their
    making. The commit is that of the checkout now: steps that were finished before may be of another (see their stamps).
    """
    parts = [
        f"<h1>Run {html.escape(run.name)}</h1>",
        f"<p>Written at commit {html.escape(commit())}.</p>",
        _submission(run),
    ]
    if (run / "ladder.csv").exists():
        parts += [
            "<h2>Ladder</h2><p>Judged with the test key.</p>",
            _table(pd.read_csv(run / "ladder.csv")),
        ]
    pages = sorted((run / "notebooks").glob("[!.]*.html"))
    if pages:
        links = "".join(
            f"<li><a href='notebooks/{html.escape(p.name)}'>{html.escape(p.stem)}</a> "
            f"({p.stat().st_size / 1e6:.1f} MB)</li>"
            for p in pages
        )
        parts.append(f"<h2>Notebooks, as executed</h2><ul>{links}</ul>")
    figures = sorted((run / "figures").glob("*.png"), key=lambda p: (p.stat().st_mtime, p.name))
    if figures:
        parts.append("<h2>Figures</h2>")
        parts += [
            f"<figure><img src='figures/{html.escape(p.name)}' alt='{html.escape(p.stem)}' loading='lazy'>"
            f"<figcaption>{html.escape(p.stem.replace('_', ' '))}</figcaption></figure>"
            for p in figures
        ]
    if (run / "env.json").exists():
        facts = paths.read_json(run / "env.json")
        rows = [(name, value) for name, value in (facts | facts.pop("packages", {})).items()]
        parts += [
            "<h2>Environment</h2>",
            pd.DataFrame(rows, columns=["what", "is"]).to_html(index=False, border=0),
        ]
    with paths.whole(run / "index.html") as part:
        part.write_text(
            "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
            f"content='width=device-width, initial-scale=1'><title>Run {html.escape(run.name)}</title>"
            f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n",
            encoding="utf-8",
        )
    return run / "index.html"
