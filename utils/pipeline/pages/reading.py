"""Tables of the reference runs, and rows of tables in Markdown."""

import pandas as pd

from utils import paths

REFERENCE = paths.ROOT / "outputs" / "reference"


def read(name: str, **options) -> pd.DataFrame:
    """A table under outputs/reference/."""
    return pd.read_csv(REFERENCE / f"{name}.csv", **options)


def rows(cells: list[tuple]) -> str:
    """Rows of a table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)
