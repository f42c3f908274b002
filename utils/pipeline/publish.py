"""Publish the executed notebooks of a run as small HTML pages beside its reference tables.

python -m utils.pipeline.publish mini     # outputs/mini/notebooks → outputs/reference/mini/html
python -m utils.pipeline.publish ablation --times    # only `times.csv`, which lies beside html/

Pages hold prose, code, tables and figures, need no other host and run no script. Of sounds they
keep only those that a synthesiser of ours made from text: a player stays if its samples are those
of such a clip, all others become a note. Nobody's recording is published, nor what was made of one.
`times.csv` has the minutes that each notebook took.
"""

import argparse
import base64
import hashlib
import html
import io
import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from utils import paths, reference
from utils.audio import dsp, reading
from utils.pipeline.notebooks import open_notebook
from utils.synthesis.systems import SYSTEMS

LIMIT_MB = 5.0  # of all pages of a run; outputs/reference may have 15 MB
COLOURS = 128  # of a published figure: a third of the bytes, and no difference that one sees
WIDEST = 1200  # pixels
PLAYER = re.compile(r"<audio\b.*?</audio>", re.DOTALL)
SOUND = re.compile(r"data:audio/[\w.+-]+;base64,([A-Za-z0-9+/=\s]+)")
FOREIGN = re.compile(r"data:(?:audio|video)/")  # what must not be left beside `OURS`
OURS = re.compile(r'<audio controls="" preload="none" src="data:audio/flac;base64,[^"]+"></audio>')
UNWANTED = re.compile(r"<(script|style)\b.*?</\1>", re.DOTALL)
NO_PLAYER = "<p><em>A player stood here: this sound is not published.</em></p>"
HREF = re.compile(r'(href|src)="(?![a-z][a-z+.-]*:|//|#)([^"]+)"')
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1.5rem auto; color: #222;
       padding: 0 1rem; overflow-wrap: break-word }
pre { background: #f6f6f6; padding: .5rem; overflow-x: auto; font-size: 13px; line-height: 1.4 }
.output pre { background: none; padding: 0 }
.k, .kn, .ow { color: #00617f } .s1, .s2, .sd { color: #7a4b00 } .c1 { color: #666 }
table { border-collapse: collapse; font-size: 14px; display: block; overflow-x: auto; border: 0 }
th, td { padding: 2px 8px; text-align: left; border: 0 }
.dataframe th, .dataframe td { text-align: right }
.dataframe tbody th { text-align: left; white-space: nowrap }
thead { border-bottom: 2px solid #888 }
img { max-width: 100%; height: auto }
.anchor-link { display: none }
"""


class NotPublished(RuntimeError):
    """Nothing was written. The message says why."""


def fingerprint(wave: np.ndarray, rate: int = dsp.RATE) -> str:
    """Hash of the sound that a notebook's player has of a wave."""
    from IPython.display import Audio

    return hashlib.sha256(Audio(wave, rate=rate).data).hexdigest()


def synthetic(competition: Path) -> set[str]:
    """Fingerprints of the clips that a synthesiser here made from text alone.

    Not those of vocoders, splices and systems that clone a voice: somebody's recording is in them.
    """
    tables = [competition / name for name in ("train_meta.csv", "test_key.csv")]
    known = set()
    for table in filter(Path.exists, tables):
        for row in pd.read_csv(table, keep_default_na=False).itertuples():
            system = SYSTEMS.get(row.system)
            if row.label != 0 or system is None or system.kind != "tts":
                continue
            if getattr(system, "clones", False):
                continue
            for folder in ("train", "test", "raw"):
                if (competition / folder / row.id).exists():
                    known.add(fingerprint(reading.read(competition / folder / row.id, dsp.RATE)))
    return known


def _player(text: str, allowed: set[str]) -> str:
    """The player as FLAC, half as large, if its sound is allowed; else a note."""
    found = SOUND.search(text)
    sound = base64.b64decode(found[1]) if found else b""
    if hashlib.sha256(sound).hexdigest() not in allowed:
        return NO_PLAYER
    wave, rate = soundfile.read(io.BytesIO(sound), dtype="int16")
    flac = io.BytesIO()
    soundfile.write(flac, wave, rate, format="FLAC")
    data = base64.b64encode(flac.getvalue()).decode()
    return f'<audio controls="" preload="none" src="data:audio/flac;base64,{data}"></audio>'


def _small(png: str) -> str:
    """A figure (PNG in base64) with fewer colours and no wider than a page, if that is smaller."""
    from PIL import Image  # comes with matplotlib

    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    image.thumbnail((WIDEST, 10 * WIDEST))
    target = io.BytesIO()
    image.quantize(COLOURS).save(target, "PNG", optimize=True)
    small = base64.b64encode(target.getvalue()).decode()
    return min(small, png, key=len)


def _clean(output: dict, allowed: set[str]) -> dict:
    """An output without what is not published, and with small figures. Changes `output`."""
    data = output.get("data", {})
    for kind in list(data):
        if kind.startswith(("audio/", "video/", "application/")):
            del data[kind]
    if "image/png" in data:
        data["image/png"] = _small(data["image/png"])
    if "text/html" in data:
        text = PLAYER.sub(lambda found: _player(found[0], allowed), data["text/html"])
        # the page has a style of its own; each table and each piece of code would bring another
        data["text/html"] = UNWANTED.sub("", text)
    return output


def page_of(notebook: Path, allowed: set[str], target: Path) -> str:
    """An executed notebook as an HTML page that will lie at `target`.

    Raises NotPublished for one whose cells did not all run, or that holds other sound than players.
    """
    from nbconvert import HTMLExporter

    opened = open_notebook(notebook)
    for cell in opened.cells:
        if cell.cell_type != "code":
            continue
        if cell.source.strip() and cell.execution_count is None:
            raise NotPublished(f"{notebook} was not executed to its end")
        shown = [out for out in cell.outputs if out.get("name") != "stderr"]  # progress bars
        cell.outputs = [_clean(output, allowed) for output in shown]
    opened.metadata.pop("widgets", None)  # the state of progress bars
    exporter = HTMLExporter(
        template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True
    )
    body = exporter.from_notebook_node(opened)[0]
    if FOREIGN.search(OURS.sub("", body)):
        raise NotPublished(f"{notebook} holds a sound or a film in a form that is not known here")
    for folder in (paths.HOME, paths.ROOT, Path.home()):  # nobody needs to know where it ran
        if folder != Path(folder.anchor):
            body = body.replace(f"{folder}/", "")
    up = os.path.relpath(paths.NOTEBOOKS, target.parent)
    body = HREF.sub(lambda found: f'{found[1]}="{up}/{found[2]}"', body)
    title = html.escape(notebook.stem)
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
        "content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{STYLE}</style></head><body>"
        f"<p>{title}, as executed. <a href='../README.md'>The run and its numbers</a></p>"
        f"{body}</body></html>\n"
    )


def times_of(run: Path) -> pd.DataFrame:
    """How long each executed notebook of a run took (step, minutes), as papermill noted it.

    Raises NotPublished if there is none, or one does not tell, e.g. since Jupyter executed it.
    """
    sources = sorted((run / "notebooks").glob("[!.]*.ipynb"))
    if not sources:
        raise NotPublished(f"no executed notebook in {run / 'notebooks'}: run the profile first")
    rows = []
    for source in sources:
        took = open_notebook(source).metadata.get("papermill", {}).get("duration")
        if took is None:
            raise NotPublished(f"{source} does not tell how long it took: run the profile")
        rows.append((source.stem, round(took / 60, 1)))
    return pd.DataFrame(rows, columns=["step", "minutes"])


def publish(run: Path, target: Path, competition: Path, limit_mb: float = LIMIT_MB) -> list[Path]:
    """Write the pages of all notebooks of a run to `target` in place of those there; their paths.

    Raises NotPublished, and writes nothing, if a notebook did not run to its end, or all pages
    together are larger than the limit.
    """
    sources = sorted((run / "notebooks").glob("[!.]*.ipynb"))
    allowed = synthetic(competition)
    pages = {}
    for source in sources:
        page = target / f"{source.stem}.html"
        pages[page] = page_of(source, allowed, page)
    sizes = {page.name: len(text.encode()) / 1e6 for page, text in pages.items()}
    if sum(sizes.values()) > limit_mb:
        largest = ", ".join(f"{name} {size:.1f}" for name, size in sizes.items())
        raise NotPublished(f"{sum(sizes.values()):.1f} MB are more than {limit_mb} MB: {largest}")
    for old in target.glob("*.html"):
        old.unlink()
    for page, text in pages.items():
        with paths.whole(page) as part:
            part.write_text(text, encoding="utf-8")
    return list(pages)


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.pipeline.publish",
        description="Publish the executed notebooks of a run as small HTML pages. Only sounds that "
        "a synthesiser made from text are kept.",
    )
    parser.add_argument("run", help="folder under outputs/, e.g. mini")
    text = "where the pages go (default: outputs/reference/RUN/html)"
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=text)
    text = "folder under inputs/ that the run read (default: the name in its config.json)"
    parser.add_argument("--competition", metavar="NAME", help=text)
    text = f"refuse to write more than this (default: {LIMIT_MB:g})"
    parser.add_argument("--limit-mb", type=float, default=LIMIT_MB, metavar="MB", help=text)
    parser.add_argument("--times", action="store_true", help="write times.csv only, no page")
    given = parser.parse_args(argv)
    run = paths.OUTPUTS / given.run
    try:
        times, pages = times_of(run), []
        target = given.out or reference.FOLDER / given.run / "html"
        if not given.times:
            name = given.competition or _competition(run)
            pages = publish(run, target, paths.INPUTS / name, given.limit_mb)
        with paths.whole(target.with_name("times.csv")) as part:
            times.to_csv(part, index=False)
    except (NotPublished, OSError, ValueError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    for page in pages:
        print(f"{page.stat().st_size / 1e6:5.2f} MB  {page}")
    print("now `python -m utils.pipeline.pages` links them from the page of the run")
    return 0


def _competition(run: Path) -> str:
    """The folder under inputs/ that a run read."""
    steps = paths.read_json(run / "config.json")["steps"].values()
    named = [step["COMPETITION"] for step in steps if "COMPETITION" in step]
    if not named:
        raise NotPublished(f"{run}/config.json names no competition: say --competition")
    return named[0]


if __name__ == "__main__":
    sys.exit(main())
