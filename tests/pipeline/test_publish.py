"""Executed notebooks as small pages: which sounds they keep, what they leave out, their size."""

import base64
import io
import os
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
import soundfile
from IPython.display import Audio
from matplotlib import pyplot as plt

from utils import paths, reference
from utils.audio import reading
from utils.pipeline import publish

KINDS = {  # clips of a competition: (table, label, system), and whether its sound is published
    "tts.wav": (("train_meta", 0, "espeak"), True),
    "test.wav": (("test_key", 0, "pico"), True),
    "person.wav": (("train_meta", 1, "bonafide"), False),
    "vocoder.wav": (("train_meta", 0, "world"), False),
    "splice.wav": (("test_key", 0, "splice+espeak"), False),
    "clone.wav": (("train_meta", 0, "xtts-v2"), False),
    "unknown.wav": (("train_meta", 0, "a demo page's"), False),
}


def output(**data):
    return nbformat.v4.new_output("display_data", data)


def player(wave):
    return output(**{"text/html": Audio(wave, rate=8000)._repr_html_(), "text/plain": "<Audio>"})


def code(*outputs, source="x"):
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), execution_count=1)


def figure():
    """A PNG in base64, as a notebook has it."""
    fig, axis = plt.subplots(figsize=(14, 4))
    axis.imshow(np.random.default_rng(0).random((300, 1000)), aspect="auto", cmap="magma")
    target = io.BytesIO()
    fig.savefig(target, dpi=100)
    plt.close(fig)
    return base64.b64encode(target.getvalue()).decode()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose notebook plays a clip of each of `KINDS`, in their order."""
    for name in ("OUTPUTS", "INPUTS", "HOME"):
        folder = tmp_path / ("" if name == "HOME" else name.lower())
        monkeypatch.setattr(paths, name, folder)
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "reference")
    competition, run = tmp_path / "inputs" / "tiny", tmp_path / "outputs" / "tiny"
    rng, waves, rows = np.random.default_rng(0), [], {"train_meta": [], "test_key": []}
    for name, ((table, label, system), _) in KINDS.items():
        file = competition / ("train" if table == "train_meta" else "test") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        reading.write(file, rng.normal(size=8000).astype(np.float32) * 0.1)
        waves.append(reading.read(file, 8000))
        rows[table].append({"id": name, "label": label, "system": system})
    for table, some in rows.items():
        pd.DataFrame(some).to_csv(competition / f"{table}.csv", index=False)
    title = nbformat.v4.new_markdown_cell("# 01. Title\n\n[next](02_b.ipynb), [x](https://x.org)")
    noise = nbformat.v4.new_output("stream", name="stderr", text="10%|#")
    said = nbformat.v4.new_output("stream", name="stdout", text=f"{tmp_path}/outputs/a.csv")
    script = output(**{"text/html": "<script>alert(1)</script><b>kept</b>", "application/x": "{}"})
    cells = [title, *(code(player(wave)) for wave in waves), code(noise, said, script)]
    cells.append(code(output(**{"image/png": figure()})))
    (run / "notebooks").mkdir(parents=True)
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"papermill": {"duration": 93.0}})
    nbformat.write(notebook, run / "notebooks" / "01_a.ipynb")
    paths.write_json(run / "config.json", {"steps": {"01_a": {"COMPETITION": "tiny"}}})
    return run


@pytest.fixture
def page(run, tmp_path):
    """The text of the published page."""
    assert publish.main(["tiny"]) == 0
    return (tmp_path / "reference" / "tiny" / "html" / "01_a.html").read_text()


def test_only_what_a_synthesiser_made_from_text_can_be_heard(page):
    players = re.findall(r"(<audio)|A player stood here", page)
    assert [bool(found) for found in players] == [kept for _, kept in KINDS.values()]


def test_a_sound_is_kept_as_it_was_but_smaller(page, tmp_path):
    sound = base64.b64decode(re.search(r"data:audio/flac;base64,([^\"]+)", page)[1])
    wave, rate = soundfile.read(io.BytesIO(sound))
    original = reading.read(tmp_path / "inputs" / "tiny" / "train" / "tts.wav", 8000)
    assert rate == 8000 and np.corrcoef(wave, original)[0, 1] > 0.9999


def test_a_page_asks_nobody_and_tells_nothing_of_the_machine(page, tmp_path):
    assert "<script" not in page and "<b>kept</b>" in page
    assert "10%|#" not in page and str(tmp_path) not in page and "outputs/a.csv" in page
    assert not re.search(r"(src|<link[^>]*href)=.(https?:)?//", page)
    links = re.findall(r"href=\"([^\"#]+)\"", page)
    up = os.path.relpath(paths.NOTEBOOKS, tmp_path / "reference" / "tiny" / "html")
    assert f"{up}/02_b.ipynb" in links
    assert "https://x.org" in links


def test_figures_get_smaller_and_keep_what_they_show(page):
    from PIL import Image

    small = base64.b64decode(re.search(r"data:image/png;base64,([^\"]+)", page)[1])
    large = base64.b64decode(figure())
    assert len(small) < len(large) / 2
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in (small, large)]
    assert images[0].width == 1200
    values = [np.asarray(image.resize((300, 85)), float) for image in images]
    assert np.abs(values[0] - values[1]).mean() < 8


def test_more_than_the_limit_is_not_written_and_old_pages_stay(page, tmp_path, capsys):
    old = tmp_path / "reference" / "tiny" / "html" / "01_a.html"
    assert publish.main(["tiny", "--limit-mb", "0.001"]) == 1
    assert "more than 0.001 MB: 01_a.html" in capsys.readouterr().err
    assert old.read_text() == page


def test_pages_of_notebooks_that_are_gone_go_too_and_nothing_else(page, run, tmp_path):
    folder = tmp_path / "reference" / "tiny" / "html"
    (folder / "mine.txt").write_text("stays")
    (run / "notebooks" / "01_a.ipynb").rename(run / "notebooks" / "02_a.ipynb")
    assert publish.main(["tiny"]) == 0
    assert sorted(file.name for file in folder.iterdir()) == ["02_a.html", "mine.txt"]


def test_what_did_not_run_to_its_end_is_refused(run, tmp_path, capsys):
    notebook = nbformat.read(run / "notebooks" / "01_a.ipynb", 4)
    notebook.cells[-1].execution_count = None
    nbformat.write(notebook, run / "notebooks" / "01_a.ipynb")
    assert publish.main(["tiny"]) == 1
    assert "was not executed to its end" in capsys.readouterr().err
    assert publish.main(["none"]) == 1
    assert not (tmp_path / "reference").exists()


@pytest.mark.parametrize("options", [[], ["--times"]])
def test_the_minutes_of_each_notebook_are_told(run, tmp_path, options):
    folder = tmp_path / "reference" / "tiny"
    assert publish.main(["tiny", *options]) == 0
    assert (folder / "times.csv").read_text() == "step,minutes\n01_a,1.6\n"
    assert (folder / "html").exists() == (not options)


def test_a_notebook_that_does_not_tell_its_time_is_refused(run, tmp_path, capsys):
    notebook = nbformat.read(run / "notebooks" / "01_a.ipynb", 4)
    del notebook.metadata["papermill"]
    nbformat.write(notebook, run / "notebooks" / "01_a.ipynb")
    assert publish.main(["tiny"]) == 1
    assert "does not tell how long it took" in capsys.readouterr().err
    assert not (tmp_path / "reference").exists()


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_sound_that_is_no_player_is_refused(run, capsys, kind):
    notebook = nbformat.read(run / "notebooks" / "01_a.ipynb", 4)
    link = f"<a href='data:audio/{kind};base64,AA'>a</a>"
    notebook.cells.append(code(output(**{"text/html": link})))
    nbformat.write(notebook, run / "notebooks" / "01_a.ipynb")
    assert publish.main(["tiny"]) == 1
    assert "holds a sound" in capsys.readouterr().err
