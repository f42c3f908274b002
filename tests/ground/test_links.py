"""Every relative link and anchor in Markdown files and notebooks leads somewhere."""

import re
from urllib.parse import unquote

import nbformat
import pytest

from utils import paths

BUILT = ("inputs", "outputs", "submissions", "build")  # what runs write lies in folders of these


def documents():
    """Markdown files and notebooks of the repository, without templates of pages."""
    for file in sorted([*paths.ROOT.rglob("*.md"), *paths.NOTEBOOKS.glob("*.ipynb")]):
        parts = file.relative_to(paths.ROOT).parts
        hidden = any(part.startswith(".") for part in parts)
        written = parts[0] in BUILT and len(parts) > 2 and parts[1] != "reference"
        if not (hidden or written or "templates" in parts):
            yield file


def text_of(file):
    """Markdown without code, of a notebook that of all its cells."""
    if file.suffix == ".ipynb":
        cells = nbformat.read(file, 4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = file.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```|`[^`\n]*`", "code", text, flags=re.DOTALL | re.MULTILINE)


def anchors_of(file):
    """Anchors that a code host makes of the headings."""
    text = file.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    seen = {}
    for heading in re.findall(r"^#+ +(.+?) *#*$", text, flags=re.MULTILINE):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = seen[anchor] = seen.get(anchor, -1) + 1
        yield f"{anchor}-{count}" if count else anchor


def links_of(text):
    """Targets of links and images, also those that are defined apart."""
    inline = re.findall(r"\]\(\s*<?([^)\s>]+)", text)
    return [*inline, *re.findall(r"^ {0,3}\[[^\]]+\]:\s*<?(\S+?)>?\s*$", text, flags=re.MULTILINE)]


def broken(file, target):
    """Why a link leads nowhere; None for a good one and one out of the repository."""
    if re.match(r"[a-z][a-z+.-]*:|//", target):
        return None
    path, _, anchor = target.partition("#")
    aim = (file.parent / unquote(path)).resolve() if path else file
    if not aim.exists():
        return f"{target}: no such file"
    if not aim.is_relative_to(paths.ROOT.resolve()):
        return f"{target}: outside the repository"
    if anchor and (aim.suffix != ".md" or anchor not in anchors_of(aim)):
        return f"{target}: no such heading"
    return None


@pytest.mark.parametrize(
    "file", list(documents()), ids=lambda f: f.relative_to(paths.ROOT).as_posix()
)
def test_every_relative_link_resolves(file):
    found = [why for target in links_of(text_of(file)) if (why := broken(file, target))]
    assert found == []


@pytest.mark.parametrize(
    ("target", "good"),
    [
        ("other.md", True),
        ("other.md#two-words-1", True),
        ("#what-nn-costs", True),
        ("https://example.org/none.md#x", True),
        ("none.md", False),
        ("other.md#none", False),
        ("../../outside.md", False),
    ],
)
def test_good_and_broken_links_are_told_apart(tmp_path, monkeypatch, target, good):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(f"# What `nn` costs?\n\n[a]({target})\n\n```\n# [b](nowhere.md)\n```\n")
    (tmp_path / "other.md").write_text("# Two words\n\n## Two words\n")
    (target,) = links_of(text_of(page))
    assert (broken(page, target) is None) == good
