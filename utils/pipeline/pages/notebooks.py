"""Fills the cells of notebooks that quote a reference run.

`templates/notebooks/<notebook>.ipynb.md` holds them, with a line `---` between two. Each is the
whole source of one Markdown cell, with fields as in `filling`. It belongs to the cell that begins
alike: with the same heading, the same words in bold or "Reference run (the same table)".

    **Reference run, durations.** {{mini/…; …}} of the clips are shorter than 10 s.
    ---
    ## What we learned

    The EER is {{mini/results; campplus; eer interval}}.
"""

import re

import nbformat

from utils import paths
from utils.pipeline.pages import filling

ENDING = ".ipynb.md"
BEGINNING = re.compile(r"#+ [^\n{]+|\*\*[^*{]+\*\*|Reference run \([^){]+\)")


def names() -> list[str]:
    """The notebooks that quote a reference run, by their paths in the repository."""
    files = filling.TEMPLATES.rglob(f"*{ENDING}")
    return sorted(f.relative_to(filling.TEMPLATES).as_posix().removesuffix(".md") for f in files)


def cells(name: str) -> dict[str, str]:
    """Filled cells of a notebook by their beginnings. Raises ValueError for one that has none."""
    found = {}
    for cell in re.split(r"^---$", filling.text(f"{name}.md"), flags=re.MULTILINE):
        begins = BEGINNING.match(cell.strip())
        if not begins or begins[0].rstrip() in found:
            what = "begins as another one" if begins else "begins neither as a heading nor in bold"
            raise ValueError(f"{name}.md: {what}: {cell.strip()[:60]!r}")
        found[begins[0].rstrip()] = cell.strip()
    return found


def text(name: str) -> str:
    """A notebook by its path in the repository, filled.

    Raises ValueError for a beginning that no Markdown cell, or more than one, has.
    """
    notebook = nbformat.read(paths.ROOT / name, as_version=4)
    for begins, source in cells(name).items():
        same = re.compile(
            re.escape(begins) + r"(?=\n|$)" if begins[0] == "#" else re.escape(begins)
        )
        fits = [c for c in notebook.cells if c.cell_type == "markdown" and same.match(c.source)]
        if len(fits) != 1:
            raise ValueError(f"{name}: {len(fits)} Markdown cells begin with {begins!r}, not one")
        fits[0].source = source
    return nbformat.writes(notebook) + "\n"
