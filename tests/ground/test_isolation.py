"""The tests write to folders of their own, and so do the processes that they start."""

import os
import tempfile
from pathlib import Path

from tests import helpers
from utils import paths


def test_home_and_cache_are_temporary():
    temporary = Path(tempfile.gettempdir()).resolve()
    for folder, variable in ((paths.HOME, "DFS_HOME"), (paths.CACHE, "DFS_CACHE")):
        assert temporary in folder.resolve().parents
        assert Path(os.environ[variable]).resolve() == folder.resolve()


def test_the_user_s_cache_is_seen_through_its_downloads_only():
    """Tests wrote their results into the user's cache before."""
    links = {path.name for path in paths.CACHE.iterdir() if path.is_symlink()}
    assert links == set(helpers.DOWNLOADS)


def test_a_cache_of_a_test_s_own_begins_without_results(tmp_path):
    cache = helpers.empty_cache(tmp_path / "cache")
    assert {path.name for path in cache.iterdir()} == set(helpers.DOWNLOADS)
    assert (cache / "packages").resolve() == (paths.CACHE / "packages").resolve()
