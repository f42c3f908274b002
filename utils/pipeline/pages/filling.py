"""Fills templates from the tables of the reference runs.

A template lies under `templates/` at the path of its page; those of notebooks hold some of their
cells (see `notebooks`). What stands in double braces is filled:

    {{mini/results; campplus; f1}}            0.692
    {{mini/results; campplus; f1 interval}}   0.692 [0.532, 0.763]
    {{mini/breakdown; piper; right 0%}}       21 %
    {{mini_rows}}                             what `values.VALUES` makes of that name
    {{card; doubling}}                        the same of `detector.studies.card`
    {{printed; 01_eda; right on (.+?)%}}      what a cell of the executed notebook put out

The first word is a CSV file under outputs/reference/, the last a column with a format; the words
between them name one row, each is one of its cells (`released*`: a cell that begins so;
`condition=no padding`: the cell of that column; `submitted` and the like: see `mini.NAMED`). A
number that has left its table is an error, so none on a page can be stale.
"""

import re
from functools import lru_cache
from pathlib import Path

import pandas as pd

from utils import reference
from utils.pipeline.pages import mini, values

TEMPLATES = Path(__file__).with_name("templates")
FIELD = re.compile(r"\{\{([^{}]+)\}\}")
FORMAT = re.compile(r"(.+?) (interval|in 100|[+,]?(?:\.\d)?[fd]|\.?\d%)$")


@lru_cache
def _table(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    table = reference.read(name)
    return table, table.astype(str)


def row_of(name: str, keys: list[str]) -> pd.Series:
    """The one row of a reference table that holds all keys among its cells."""
    table, words = _table(name)
    fits = pd.Series(True, index=table.index)
    for key in keys:
        column, _, rest = key.partition("=")
        some = words[[column]] if rest and column in words else words
        key = rest if rest and column in words else key
        key = mini.NAMED[key]() if key in mini.NAMED else key
        if key.endswith("*"):
            found = some.apply(lambda cells, start=key[:-1]: cells.str.startswith(start))
        else:
            found = some == key
        fits &= found.any(axis=1)
    if fits.sum() != 1:
        raise KeyError(f"{name}.csv: {fits.sum()} rows hold {keys}, not one")
    return table[fits].iloc[0]


def formatted(row: pd.Series, column: str, how: str) -> str:
    """A cell in words: `.3f`, `+.3f`, `,d`, `0%`, `in 100` (5 in 100) or `interval`."""
    value = row[column]
    if pd.isna(value):
        raise KeyError(f"{column} is empty")
    if how == "interval":
        of = f"{column}_" if f"{column}_low" in row else ""
        low, high = row[f"{of}low"], row[f"{of}high"]
        sign = "+" if "delta" in f"{column} {row.get('quantity', '')}" else ""
        return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]".replace("-", "−")
    if how == "in 100":
        return f"{100 * value:.0f} in 100"
    if how.endswith("%"):
        digits = int(how[:-1].lstrip("."))
        return f"{100 * value:.{digits}f} %"
    if how.endswith("d"):
        value = round(value)
    return f"{value:{how}}".replace("-", "−")


def filled(field: str) -> str:
    """What stands for a field. Raises KeyError if the table, row or column is not there."""
    words = [word.strip() for word in field.split(";")]
    if len(words) == 1 or words[0] == "card":
        made = values.of_card(words[1]) if words[1:] else str(values.VALUES[words[0]]())
        if re.search(r"\bnan\b", made):
            raise KeyError(f"{words[0]} holds a number that is not there")
        return made
    if words[0] == "printed":
        return values.printed(*words[1:])
    found = FORMAT.fullmatch(words[-1])
    column, how = found.groups() if found else (words[-1], ".3f")
    return formatted(row_of(words[0], words[1:-1]), column, how)


def text(page: str) -> str:
    """A page by its path in the repository, filled."""
    template = (TEMPLATES / page).read_text(encoding="utf-8")

    def fill(match):
        try:
            return filled(match[1])
        except (KeyError, FileNotFoundError) as error:
            raise KeyError(f"{page}: {match[0]}: {error}") from error

    return FIELD.sub(fill, template)


def names() -> list[str]:
    """The pages, by their paths in the repository."""
    files = (file for file in TEMPLATES.rglob("*.md") if not file.name.endswith(".ipynb.md"))
    return sorted(file.relative_to(TEMPLATES).as_posix() for file in files)
