"""Colours that stand in one figure are told apart, also by colour-blind readers."""

import ast
import itertools
import re
from functools import lru_cache

import matplotlib.colors
import nbformat
import numpy as np
import pytest

from utils import paths, plots

# What they see of linear RGB at full severity: Machado, Oliveira and Fernandes 2009, "A
# Physiologically-based Model for Simulation of Color Vision Deficiency", doi:10.1109/TVCG.2009.113
SEEN = {
    "everybody else": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# CIE76, the distance in CIELAB. 2.3 is just seen between large patches side by side; a line or a
# mark of some pixels, seen apart, needs about ten times as much. CIEDE2000 is made for small ones.
APART = 20
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750]]
XYZ += [[0.0193339, 0.1191920, 0.9503041]]  # of linear sRGB
NAMES = [name for name, value in vars(plots).items() if str(value).startswith("#")]


def seen(colour, kind="everybody else"):
    """CIELAB (3,) of a colour, as this kind of reader sees it."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array(XYZ) @ np.clip(SEEN[kind] @ linear, 0, 1) / np.sum(XYZ, axis=1)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one, other, kind):
    return float(np.linalg.norm(seen(one, kind) - seen(other, kind)))


def sources():
    """(code, how it calls colours) of each function in utils and each cell of a notebook."""
    for path in (paths.ROOT / "utils").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                prefix = "" if path.samefile(plots.__file__) else r"plots\."
                yield ast.get_source_segment(text, node), prefix
    for path in paths.NOTEBOOKS.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                yield cell.source, r"plots\."


@lru_cache
def pairs():
    """Every two colours that one function or one cell names."""
    found = set()
    for code, prefix in sources():
        code = code.replace('"black"', "plots.OURS" if prefix else "OURS")
        code = re.sub(rf"{prefix}COLOURS\b", lambda _: "plots.BONAFIDE plots.SPOOF", code)
        named = [name for name in NAMES if re.search(rf"(?<![\w.]){prefix}{name}\b", code)]
        found |= set(itertools.combinations(named, 2))
    return sorted(found)


@pytest.mark.parametrize("kind", SEEN)
def test_colours_of_one_figure_stay_apart(kind):
    of = {(a, b): distance(getattr(plots, a), getattr(plots, b), kind) for a, b in pairs()}
    assert {pair: value for pair, value in of.items() if value < APART} == {}


def test_the_pairs_are_those_of_figures():
    assert {"BONAFIDE SPOOF", "SPOOF TEST", "GREY OURS", "BETTER WORSE", "WORSE UNTOLD"} <= {
        " ".join(pair) for pair in pairs()
    }


def test_the_simulation_takes_away_what_it_should():
    assert seen("#808080") == pytest.approx([53.6, 0, 0], abs=0.1)
    for kind in SEEN:  # greys stay as they are
        assert seen("#808080", kind) == pytest.approx(seen("#808080"), abs=0.1)
    normal = distance("#ff0000", "#00aa00", "everybody else")
    assert distance("#ff0000", "#00aa00", "deuteranopia") < normal / 2
    blue = distance("#0072B2", "#009E73", "tritanopia")  # blue and green of Okabe and Ito
    assert blue < APART < distance("#0072B2", "#009E73", "deuteranopia")
    assert distance("#009E73", "#777777", "deuteranopia") < APART  # their green and our grey
