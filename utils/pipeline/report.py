"""The index page of a run: its result in a sentence, a table and a figure, then the notebooks.

All else folds below: the submission, all tables of results, further figures, the environment.
"""

import hashlib
import html
import json
import os
import subprocess
from pathlib import Path

import pandas as pd

from utils import paths, plots

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1.5rem auto; color: #222;
       padding: 0 1rem; overflow-wrap: break-word }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.2rem; margin: 1.5rem 0 .3rem }
.result { font-size: 1.15rem; margin: .6rem 0 1rem }
.scrolls { overflow: auto; max-height: 32rem }
table { border-collapse: collapse; font-size: 14px }
th, td { padding: 2px 10px; text-align: right }
td { white-space: nowrap }
th:first-child, td:first-child { text-align: left }
tr:nth-child(even) { background: #f3f3f3 }
thead { border-bottom: 2px solid #888 }
tr.chosen { font-weight: bold }
img { max-width: 100%; height: auto }
figure { margin: 1rem 0 }
figcaption { color: #555; font-size: 14px }
ul { padding-left: 1.2rem } details { margin: .6rem 0 }
summary { cursor: pointer; font-size: 1.1rem }
"""
ERRORS = {  # of a detector, by threshold
    "threshold": "threshold",
    "false_alarms_plain": "recordings of people called spoof",
    "false_alarms": "all bona fide called spoof",
    "misses": "spoofs missed",
}
MAIN_FIGURES = ("results", "ablation", "det", "rivals")  # the first that a run has leads


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


def _read(run: Path, name: str) -> pd.DataFrame | None:
    """A table of the run, None if it has not got it."""
    return pd.read_csv(run / f"{name}.csv") if (run / f"{name}.csv").exists() else None


def _table(rows: pd.DataFrame, chosen: str = "") -> str:
    """A table that scrolls inside the page. chosen: value of the first column of a bold row."""
    with pd.option_context("display.max_colwidth", None):  # long cells are not cut
        text = rows.to_html(index=False, border=0, float_format="{:.3f}".format, na_rep="")
    if chosen:
        cell = f"<td>{html.escape(chosen)}</td>"
        lines = text.split("\n")
        found = [number for number, line in enumerate(lines) if line.strip() == cell]
        for number in found:
            lines[number - 1] = lines[number - 1].replace("<tr>", "<tr class='chosen'>")
        text = "\n".join(lines)
    return f"<div class='scrolls'>{text}</div>"


def _folded(title: str, *parts: str) -> list[str]:
    return [f"<details><summary>{title}</summary>", *parts, "</details>"]


# --- the result ---


def _models(run: Path) -> tuple[pd.DataFrame, str, bool] | None:
    """(scores of all models, the submitted one or "", whether by the test key) of a recipe."""
    vote = run / "vote.json"
    chosen = paths.read_json(vote)["vote"] if vote.exists() else ""
    table = _read(run, "results")
    if table is not None and {"f1", "f1_low", "f1_high", "eer"} <= set(table):
        return table, chosen, "oof_eer" in table  # a run without a key has no second measurement
    return None


def _interval(row: pd.Series, name: str) -> str:
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def _sentence(run: Path) -> str:
    """The result of the run in one sentence; "" if there is none yet."""
    found = _models(run)
    if found is None:
        return html.escape(_last_words(run))
    table, chosen, has_key = found
    rows = table[table["model"] == chosen]
    row = rows.iloc[0] if len(rows) else table.loc[table["f1"].idxmax()]
    which = "the submitted model" if len(rows) else "the model with the highest F1"
    where = "On the test" if has_key else "Out of fold (there is no test key)"
    name = html.escape(plots.model(row["model"]))
    text = f"{where}, {which}, <b>{name}</b>, has F1 {_interval(row, 'f1')}"
    floor = f" (calling every clip bona fide: {row['floor']:.3f})" if "floor" in row else ""
    return f"{text}{floor} and EER {row['eer']:.3f}."


def _last_words(run: Path) -> str:
    """First line of what the last notebook of the run says at its end, "" if it says nothing."""
    for page in sorted((run / "notebooks").glob("[!.]*.ipynb"), reverse=True)[:1]:
        cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
        said = [
            "".join(output["data"]["text/markdown"])
            for cell in cells
            for output in cell.get("outputs", [])
            if "text/markdown" in output.get("data", {})
        ]
        if said:
            return said[-1].splitlines()[0].removeprefix("- ").replace("**", "")
    return ""


def _main_table(run: Path) -> list[str]:
    """The numbers that matter in few columns, which fit a page of 1,000 pixels; what they are."""
    found = _models(run)
    if found:
        return _of_models(*found)
    table = _read(run, "ablation")
    if table is not None:
        eer = table[table["metric"] == "eer"]
        wide = eer.pivot_table("value", "condition", "protocol", sort=False)
        return [_table(_flat(wide)), "<p>EER by what was left out of training.</p>"]
    table = _read(run, "thresholds")
    if table is not None:
        named = table[["chosen_for", *ERRORS]].rename(columns={"chosen_for": "chosen for"} | ERRORS)
        return [_table(named, "released"), "<p>Bold: as released.</p>"]
    table = _read(run, "rivals")
    if table is not None:
        scored = table[table["task"] == "score"]
        wide = scored.pivot_table("times_real_time", "rival", "seconds", "median", sort=False)
        wide = wide.map("{:,.1f}".format).add_suffix(" s")
        return [_table(_flat(wide)), "<p>Times real time, by the length of a clip.</p>"]
    return []


def _flat(wide: pd.DataFrame) -> pd.DataFrame:
    """A table whose index is its first column."""
    return wide.rename_axis(columns=None).reset_index()


def _of_models(table: pd.DataFrame, chosen: str, has_key: bool) -> list[str]:
    columns = {"model": table["model"].map(plots.model)}
    columns |= {"F1 [95 % interval]": table.apply(_interval, 1, name="f1")}
    columns |= {"EER": table["eer"]}
    if "auc" in table:
        columns |= {"AUC": table["auc"]}
    if has_key:
        columns |= {"EER, out of fold": table["oof_eer"]}
    where = "the test, by its key" if has_key else "training clips, out of fold"
    bold = "; bold: submitted" if chosen else ""
    return [
        _table(pd.DataFrame(columns), plots.model(chosen)),
        f"<p>F1 of bona fide and EER on {where}{bold}. Lower EER is better.</p>",
    ]


# --- what the run has besides ---


def _submission(run: Path) -> list[str]:
    file = paths.SUBMISSIONS / f"{run.name}.csv"
    if not file.exists():
        return []
    decided = pd.read_csv(file, header=None)[1]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    link = html.escape(os.path.relpath(file, run))
    return _folded(
        f"Submission: {len(decided)} clips, {decided.mean():.1%} called bona fide",
        f"<p><a href='{link}'>{html.escape(file.name)}</a>, sha256 {digest[:16]}…</p>",
    )


def _results(run: Path) -> list[str]:
    table = _read(run, "results")
    return [] if table is None else _folded("All measures", _table(table))


def _title(page: Path) -> str:
    """First heading of an executed notebook without its number; "" without one."""
    notebook = page.with_suffix(".ipynb")
    if not notebook.exists():
        return ""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    lines = "".join(cells[0]["source"]).splitlines() if cells else []
    return lines[0].lstrip("# 0123456789.") if lines and lines[0].startswith("#") else ""


def _notebooks(run: Path) -> list[str]:
    links = []
    for page in sorted((run / "notebooks").glob("[!.]*.html")):
        name, title = html.escape(page.name), html.escape(_title(page))
        size = f"{page.stat().st_size / 1e6:.1f} MB"
        links.append(
            f"<li><a href='notebooks/{name}'>{html.escape(page.stem)}</a>"
            f"{title and f': {title}'} ({size})</li>"
        )
    return ["<h2>Notebooks, as executed</h2><ul>", *links, "</ul>"] if links else []


def _figure(file: Path) -> str:
    name = html.escape(file.stem.replace("_", " "))
    return (
        f"<figure><img src='figures/{html.escape(file.name)}' alt='{name}' loading='lazy'>"
        f"<figcaption>{name}</figcaption></figure>"
    )


def _figures(run: Path) -> tuple[list[str], list[str]]:
    """(the main figure, the others folded); these stand in the order in which they were made."""
    files = sorted((run / "figures").glob("*.png"), key=lambda p: (p.stat().st_mtime, p.name))
    by_name = {file.stem: file for file in files}
    main = [by_name[name] for name in MAIN_FIGURES if name in by_name][:1]
    others = [_figure(file) for file in files if file not in main]
    folded = _folded(f"Further figures ({len(others)})", *others) if others else []
    return [_figure(file) for file in main], folded


def _environment(run: Path) -> list[str]:
    written = f"<p>Written at commit {html.escape(commit())}.</p>"
    if not (run / "env.json").exists():
        return [written]
    facts = paths.read_json(run / "env.json")
    packages = facts.pop("packages", {})
    rows = pd.DataFrame(list((facts | packages).items()), columns=["what", "is"])
    return _folded("Environment", written, _table(rows))


def write(run: Path) -> Path:
    """Write `index.html` into the folder of a run; what the run has not got is left out.

    Links are relative: the folder can be moved, and all but that to the submission still work.
    The commit is that of the checkout now: steps that were finished before may be of another (see
    their stamps).
    """
    sentence = _sentence(run)
    main, others = _figures(run)
    parts = [
        f"<h1>Run {html.escape(run.name)}</h1>",
        *([f"<p class='result'>{sentence}</p>"] if sentence else []),
        *_main_table(run),
        *main,
        *_notebooks(run),
        *_submission(run),
        *_results(run),
        *others,
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
