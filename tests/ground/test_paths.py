"""Paths below HOME keep their links, and a lock lets one process at a time build a folder."""

import multiprocessing
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from utils import paths


def test_a_link_below_home_keeps_its_written_path(tmp_path):
    elsewhere = tmp_path / "disk" / "corpus"
    elsewhere.mkdir(parents=True)
    link = paths.INPUTS / "linked"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(elsewhere)
    assert paths.relative_to_home(link) == Path("inputs/linked")
    assert paths.relative_to_home(link / "a" / ".." / "b.wav") == Path("inputs/linked/b.wav")
    home = tmp_path / "home"
    home.symlink_to(paths.HOME)
    assert paths.relative_to_home(home / "inputs" / "linked") == Path("inputs/linked")
    inputs = tmp_path / "inputs"
    inputs.symlink_to(paths.INPUTS)
    assert paths.relative_to_home(inputs / "linked") == Path("inputs/linked")
    link.unlink()


@pytest.mark.parametrize("place", ["x", "../x", "home/../x"])
def test_a_path_outside_home_is_refused(tmp_path, place):
    with pytest.raises(ValueError, match="not below"):
        paths.relative_to_home(tmp_path / place)


def test_one_at_a_time_holds_a_lock(tmp_path):
    inside = []

    def work(number):
        with paths.locked(tmp_path / "folder"):
            inside.append(("in", number))
            time.sleep(0.1)
            inside.append(("out", number))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert all(inside[i][1] == inside[i + 1][1] for i in (0, 2, 4))


def test_who_waits_for_a_lock_is_told_why(tmp_path, capsys):
    def work(_):
        with paths.locked(tmp_path / "folder"):
            time.sleep(1.5)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert f"{tmp_path / 'folder'}: another process is at work on it" in capsys.readouterr().err


def test_a_killed_process_leaves_no_lock_behind(tmp_path):
    code = (
        "import sys, time; from utils import paths\n"
        "with paths.locked(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "folder")],
        cwd=paths.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    waiter = multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path / "folder",))
    waiter.start()
    waiter.join(0.5)
    assert waiter.is_alive()
    holder.kill()
    holder.wait()
    waiter.join(10)
    assert waiter.exitcode == 0


def _hold(path):
    with paths.locked(path):
        pass


def test_threads_that_write_one_file_do_not_share_a_temporary_name(tmp_path):
    """They did: the second one to finish found its temporary file gone."""
    barrier = threading.Barrier(2)

    def write(text):
        with paths.whole(tmp_path / "file.txt") as temporary:
            temporary.write_text(text)
            barrier.wait()
        return temporary

    with ThreadPoolExecutor(2) as pool:
        names = list(pool.map(write, ["one", "two"]))
    assert names[0] != names[1]
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]
    assert (tmp_path / "file.txt").read_text() in ("one", "two")


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), paths.whole(path) as temporary:
        temporary.write_text("half of the new o")
        1 / 0  # noqa: B018
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
