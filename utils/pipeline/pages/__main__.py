"""Write the pages and cells of notebooks that quote results, from their templates and tables.

python -m utils.pipeline.pages            # write all pages
python -m utils.pipeline.pages --check    # exit status 1 if one of them would change
python -m utils.pipeline.pages --figure   # draw README's first figure anew, too
"""

import argparse
import sys

from utils import paths
from utils.pipeline.pages import figure, filling, notebooks


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.pipeline.pages",
        description="Write the pages and cells of notebooks that quote results from their tables.",
    )
    parser.add_argument("--check", action="store_true", help="only tell what would change")
    parser.add_argument("--figure", action="store_true", help="draw README's first figure, too")
    options = parser.parse_args(argv)
    if options.figure:
        figure.draw()
    changed = []
    pages = [(name, maker) for maker in (notebooks, filling) for name in maker.names()]
    for name, maker in pages:
        file, new = paths.ROOT / name, maker.text(name)
        if not file.exists() or file.read_text(encoding="utf-8") != new:
            changed.append(name)
            if not options.check:
                with paths.whole(file) as temporary:
                    temporary.write_text(new, encoding="utf-8")
    print("\n".join(changed) or "all pages are up to date")
    return int(options.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
