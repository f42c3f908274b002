"""Every path of the project in one place.

`DFS_HOME` redirects everything that a run reads and writes below the repository (inputs, outputs, submissions), so that
a test can never overwrite real results. `DFS_CACHE` moves the download cache, which all clones of a user share.
"""

import json
import os
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = Path(os.environ.get("DFS_HOME", ROOT)).resolve()
INPUTS, OUTPUTS, SUBMISSIONS = HOME / "inputs", HOME / "outputs", HOME / "submissions"
NOTEBOOKS = ROOT / "notebooks"
CACHE = Path(
    os.environ.get(
        "DFS_CACHE",
        Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "deepfake-speech",
    )
)


def run_dir(run: str) -> Path:
    """Folder of one run, made if missing. Raises ValueError for a name that would leave `outputs/`."""
    if not run or Path(run).name != run or run.startswith("."):
        raise ValueError(f"run name {run!r} must be a plain folder name")
    (OUTPUTS / run).mkdir(parents=True, exist_ok=True)
    return OUTPUTS / run


@contextmanager
def whole(path: Path):
    """Yield a temporary sibling of `path`; it takes the final name only if the block ends without an error.

    A file under its final name is therefore always complete, also after a kill (`os.replace` is atomic).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with whole(path) as part:
        part.write_text(
            json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8"
        )


def read_json(path: Path):
    """Read JSON. Raises FileNotFoundError with the path if it is missing."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
