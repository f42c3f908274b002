"""Figures are what their docstrings say."""

import io

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from utils import paths, plots, reference


@pytest.fixture
def axis():
    yield plt.figure().subplots()
    plt.close("all")


def test_colours_of_a_spectrogram_are_the_same_power_density_in_every_panel(axis):
    """The docstring said: 80 dB below the loudest point of each."""
    time = np.arange(8000) / 8000
    for gain in (1.0, 0.01):
        plots.spectrogram(axis, gain * np.sin(2 * np.pi * 1000 * time), 8000, "tone")
    loud, weak = axis.images
    assert loud.get_clim() == weak.get_clim() == (-130, -40)
    assert loud.get_array().max() - weak.get_array().max() == pytest.approx(40, abs=0.1)
    # at 0 Hz … 4 kHz from below; mean power 1/2 of the tone within the window's 1.5 bins of 31 Hz
    assert loud.get_array().max() == pytest.approx(10 * np.log10(0.5 / (1.5 * 31.25)), abs=1)


def test_digital_silence_has_a_spectrogram(axis):
    plots.spectrogram(axis, np.zeros(8000), 8000, "silence")
    assert np.isfinite(axis.images[0].get_array()).all()


def test_intervals_list_the_first_row_on_top(axis):
    table = pd.DataFrame(
        {"value": [0.9, 0.5], "low": [0.8, 0.4], "high": [1.0, 0.6]}, index=["a", "b"]
    )
    plots.intervals(axis, table, floor=0.4)
    height = {
        text.get_text(): y
        for y, text in zip(axis.get_yticks(), axis.get_yticklabels(), strict=True)
    }
    assert height["a"] > height["b"]
    assert axis.get_legend().get_texts()[0].get_text() == "all called bona fide: 0.400"


def test_a_waterfall_colours_what_lies_beyond_its_interval(axis):
    steps = {"start": [0.4, 0.3, 0.3], "end": [0.3, 0.3, 0.4], "low": [-0.2, -0.1, 0.05]}
    steps = pd.DataFrame(steps, index=["encoder", "noise", "crop"])
    plots.waterfall(axis, steps.assign(high=[-0.05, 0.1, 0.2]))
    bars = {round(bar.get_y() + 0.35): bar for bar in axis.patches}
    colours = [matplotlib.colors.to_hex(bars[height].get_facecolor()) for height in (2, 1, 0)]
    assert colours == [plots.BETTER.lower(), "#bbbbbb", plots.WORSE.lower()]
    assert bars[2].get_x() + bars[2].get_width() == pytest.approx(0.3)
    assert [text.get_text() for text in axis.get_yticklabels()] == ["encoder", "noise", "crop"]


def test_a_timeline_is_a_png_and_names_what_is_flagged_once():
    buffer = io.BytesIO()
    wave = np.random.default_rng(0).standard_normal(16000) * 0.1
    p = np.array([0.9, 0.1, np.nan, 0.8])
    plots.timeline(buffer, wave, 8000, p, 0.5, 0.5, [(0.5, 1.0), (1.5, 2.5)], "costs $5 and $6.wav")
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_names_of_points_cover_no_name_and_no_point(axis):
    x, y = [1.0, 1.01, 1.02, 1.02, 3.0], [1.0, 1.01, 1.0, 1.02, 2.0]
    axis.plot(x, y, "o")
    axis.set(xlim=(0.5, 3.5), ylim=(0.5, 2.5))
    plots.name_points(axis, x, y, ["first", "second", "third", "a fourth one", "far away"])
    axis.figure.draw_without_rendering()
    assert [text.get_text() for text in axis.texts][0] == "far away"  # from the right
    points = axis.transData.transform(np.transpose([x, y]))
    boxes = [matplotlib.text.Text.get_window_extent(text) for text in axis.texts]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert axis.bbox.x0 <= box.x0 and box.x1 <= axis.bbox.x1
        assert not any(box.contains(*point) for point in points)
    assert not axis.texts[0].arrow_patch and any(text.arrow_patch for text in axis.texts)


def test_each_model_of_the_reference_run_has_one_name_and_no_two_share_it():
    """Figures once showed the names of files, `campplus-svm`, and pages readable ones."""
    vote = paths.read_json(reference.FOLDER / "mini" / "vote.json")
    models = {*vote["candidates"], *vote["strictnesses"]}
    names = {plots.model(name) for name in models}
    assert len(names) == len(models)
    assert names & models <= {"soft vote"}  # this one reads well as it is
    assert plots.model("ge2e-svm-strict") == "GE2E with an SVM, strict"
    assert plots.model("a model of yours") == "a model of yours"
