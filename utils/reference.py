"""Tables of the reference runs, and rows of tables in Markdown."""

from collections.abc import Iterable

import pandas as pd

from utils import paths

FOLDER = paths.ROOT / "outputs" / "reference"


def read(name: str, **options) -> pd.DataFrame:
    """A table under outputs/reference/ by its path without `.csv`; `options` of `pd.read_csv`."""
    return pd.read_csv(FOLDER / f"{name}.csv", **options)


def rows(cells: Iterable[Iterable[str]]) -> str:
    """Rows of a table in Markdown, from the cells of each."""
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)
