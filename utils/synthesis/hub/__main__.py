"""`python -m utils.synthesis.hub`: which generators of the hub this machine could run."""

import argparse
from importlib.util import find_spec

from utils.synthesis.base import HubSystem
from utils.synthesis.hub.common import local_folder
from utils.synthesis.systems import SYSTEMS

FORM = "{:16} {:12} {:26} {:16} {:7} {:22} {}"
HEAD = ("system", "family", "languages", "licence", "clones", "packages here", "weights in folders")


def main() -> None:
    """Print a row for each system."""
    argparse.ArgumentParser(description="Show which generators could run here.").parse_args()
    print(FORM.format(*HEAD))
    for name, system in SYSTEMS.items():
        if not isinstance(system, HubSystem):
            continue
        missing = [module for module in system.modules if not find_spec(module)]
        downloaded = sum(local_folder(weights).is_dir() for weights in system.weights)
        print(
            FORM.format(
                name,
                system.family,
                " ".join(system.languages)[:26],
                system.licence,
                "yes" if system.clones else "no",
                f"no: {', '.join(missing)}" if missing else "yes",
                f"{downloaded} of {len(system.weights)}",
            )
        )
    print(
        f"\nFolders: {local_folder('<owner>/<name>')}; the hub is asked for what is missing there."
    )


if __name__ == "__main__":
    main()
