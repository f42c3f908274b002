"""A run's front page shows what the run has; the reference runs are of today's code, or a warning names what changed since."""

import re
import warnings

import pandas as pd
import pytest

from utils import paths
from utils.pipeline import profiles, report, run

REFERENCE = paths.ROOT / "outputs" / "reference"


def test_the_front_page_links_what_is_there(tmp_path, monkeypatch):
    home = tmp_path / "outputs" / "a & b"
    monkeypatch.setattr(paths, "SUBMISSIONS", tmp_path / "submissions")
    for folder in (home / "figures", home / "notebooks", paths.SUBMISSIONS):
        folder.mkdir(parents=True)
    assert "<h2>" not in report.write(home).read_text()  # nothing is there, nothing is promised
    pd.DataFrame({"rung": ["<vote>"], "EER": [0.12345]}).to_csv(home / "ladder.csv", index=False)
    (home / "figures" / "two.png").write_bytes(b"x")
    (home / "notebooks" / "01_eda.html").write_text("x")
    (home / "notebooks" / ".02_part.html").write_text("x")
    (paths.SUBMISSIONS / "a & b.csv").write_text("a.wav,1\nb.wav,0\n")
    paths.write_json(home / "env.json", {"python": "3.11", "packages": {"torch": "2.0"}})
    text = report.write(home).read_text()
    assert (
        "&lt;vote&gt;" in text
        and "0.123" in text
        and "2 clips, 50.0% called" in text
        and "torch" in text
    )
    links = re.findall(r"(?:href|src)='([^']+)'", text)
    assert len(links) == 3 and all((home / link.replace("&amp;", "&")).exists() for link in links)


@pytest.mark.parametrize("name", ["mini", "speed"])
def test_the_reference_run_is_small_and_says_when_it_is_stale(name):
    folder = REFERENCE / name
    assert sum(f.stat().st_size for f in folder.iterdir()) < 10e6
    ran = paths.read_json(folder / "env.json")["code"]
    steps = {
        step.name: paths.NOTEBOOKS / f"{step.notebook}.ipynb" for step in profiles.PROFILES[name][1]
    }
    assert set(ran) == set(steps)
    if stale := [
        step for step, notebook in steps.items() if run.notebook_digest(notebook)[:16] != ran[step]
    ]:
        warnings.warn(
            f"outputs/reference/{name} is older than the code of {', '.join(stale)}: run ./run_all.sh --profile {name} "
            "and copy its tables and figures",
            stacklevel=1,
        )


def test_the_readme_quotes_the_reference_run():
    readme, ladder = (
        (paths.ROOT / "README.md").read_text(encoding="utf-8"),
        pd.read_csv(REFERENCE / "mini" / "ladder.csv"),
    )
    assert len(ladder) > 5
    for row in ladder.itertuples():
        value, low, high = ladder.loc[row.Index, ["F1 of real", "low", "high"]]
        if row.rung != "all real":
            quoted = re.findall(rf"([\d.]+)\*{{0,2}} \[{low:.3f}, {high:.3f}\]", readme)
            assert any(abs(float(number) - value) < 0.0006 for number in quoted), (
                row.rung
            )  # the file is rounded itself


@pytest.mark.parametrize(
    ("name", "title", "rungs", "quoted"),
    [
        ("ladder", "## What each trick is worth", 50, 13),
        ("past_the_deck", "### Past the deck", 15, 9),
        ("steps", "### Step by step", 20, 15),
    ],
)
def test_the_readme_quotes_the_ladders(name, title, rungs, quoted):
    readme = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    section = re.split(r"\n#+ ", readme.split(f"\n{title}\n")[1])[0].splitlines()
    ladder = pd.read_csv(REFERENCE / name / "ladder.csv", index_col=0)
    eers = ladder[[column for column in ladder if column.startswith("EER")]]
    assert eers.shape[1] == 5 and len(eers) > rungs
    five = re.compile(r"\|[^|]+(\| 0\.\d{3} ){5}\|")
    rows = [
        [float(cell) for cell in line.split("|")[2:7]] for line in section if five.fullmatch(line)
    ]
    assert len(rows) == quoted
    for row in rows:
        assert (eers - row).abs().max(axis=1).min() < 0.0006, row
