"""Every path of the project in one place.

`DFS_HOME` redirects everything that a run reads and writes below the repository (inputs, outputs,
submissions), so that a test can never overwrite real results. `DFS_CACHE` moves the cache, which
all clones of a user share. It holds downloads, which stay, and results of frozen models, which may
take `DFS_CACHE_GB` gigabytes (10⁹ bytes, default 16): a quarter is for results by clip
(`utils/feature_cache.py`), the rest for features frame by frame
(`utils/models/frozen_features.py`). In both, what was used least recently is removed first.
"""

import fcntl
import json
import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from utils import console

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
CACHE_GB = float(os.environ.get("DFS_CACHE_GB", "16"))


def run_dir(run: str) -> Path:
    """Folder of one run, made if missing.

    Raises ValueError for a name that would leave `outputs/`.
    """
    if not run or Path(run).name != run or run.startswith("."):
        raise ValueError(f"run name {run!r} must be a plain folder name")
    (OUTPUTS / run).mkdir(parents=True, exist_ok=True)
    return OUTPUTS / run


@contextmanager
def whole(path: Path):
    """Yield a temporary sibling of `path`; it gets the final name if the block ends without error.

    A file under its final name is therefore always complete, also after a kill (`os.replace` is
    atomic). Each thread has a temporary name of its own: of two that write one file, the last wins.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f".{path.name}.{writer}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path):
    """Hold the lock of `path` for the length of the block, so that one process at a time builds it.

    The lock is a `flock` on the hidden file `.<name>.lock` beside `path`; it ends with the process,
    also after a kill. Where another process holds it, a message says so after one second, and we
    wait.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as file:
        if not _try_lock(file):
            time.sleep(1)
            if not _try_lock(file):
                message = f"{path}: another process is at work on it; waiting"
                print(message, file=console.stream())
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _try_lock(file) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def relative_to_home(path: Path) -> Path:
    """`path` relative to HOME as it is written: links below HOME are not followed.

    So a corpus on another disk, of which only a link lies in the project, has a path here too.
    Raises ValueError for a path outside HOME.
    """
    path = Path(os.path.abspath(path))
    for folder in (path, *path.parents):
        if folder == HOME or folder.resolve() == HOME:
            return path.relative_to(folder)
    # written through a link that leads into HOME: only the last name stays as it is
    path = path.parent.resolve() / path.name
    if not path.is_relative_to(HOME):
        raise ValueError(f"{path}: not below {HOME}")
    return path.relative_to(HOME)


def write_json(path: Path, value) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path):
    """Read JSON. Raises FileNotFoundError with the path if it is missing."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
