"""Which files are scored: content decides, nothing is lost without a word."""

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from utils import paths
from utils.detector.batch import listing
from utils.detector.batch.listing import Listed, list_files


@pytest.fixture
def folder(tmp_path):
    """A folder as people have them."""
    names = """
    b.WAV a.oga c.aif d.mov e.mkv f.3gpp g.m4b h.weba voice notes.txt
    ._b.WAV .hidden.wav sub/deep/x.mp3 .git/config
    """
    for name in names.split():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")
    return tmp_path


def names_of(entries, folder):
    return [entry.path.relative_to(folder).as_posix() for entry in entries]


def test_a_folder_is_listed_whatever_the_suffix_and_hidden_files_are_passed_over(folder):
    listed, passed = list_files([str(folder)])
    expected = "a.oga b.WAV c.aif d.mov e.mkv f.3gpp g.m4b h.weba notes.txt sub/deep/x.mp3 voice"
    assert names_of(listed, folder) == expected.split()
    assert not any(entry.named for entry in listed)
    assert names_of(passed, folder) == ["._b.WAV", ".git", ".hidden.wav"]
    assert {entry.reason for entry in passed} == {"hidden"}


def test_only_a_file_that_was_found_and_claims_nothing_may_be_passed_over(folder):
    listed, _ = list_files([str(folder)])
    may = [entry for entry in listed if listing.may_be_passed(entry)]
    assert names_of(may, folder) == ["notes.txt", "voice"]
    listed, _ = list_files([str(folder / "notes.txt")])
    assert listed == [Listed(folder / "notes.txt", named=True)]
    assert not listing.may_be_passed(listed[0])


def test_links_to_folders_are_followed_once_and_in_no_circle(folder):
    other = folder / "z other"
    other.mkdir()
    (other / "y.wav").write_bytes(b"content")
    (folder / "linked").symlink_to(other)
    (other / "circle").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    (folder / "nowhere.wav").symlink_to(folder / "missing")
    (folder / "nothing").symlink_to(folder / "missing")
    listed, passed = list_files([str(folder)])
    names = names_of(listed, folder)
    assert "linked/y.wav" in names and "nowhere.wav" in names
    assert not any(name.startswith(("z other/", "nothing", "self")) for name in names)
    reasons = dict(zip(names_of(passed, folder), [entry.reason for entry in passed], strict=True))
    assert "listed before" in reasons["linked/circle"] and "listed before" in reasons["z other"]
    assert reasons["nothing"].startswith("a link to nothing")
    assert reasons["self"].startswith("a link to nothing")
    again, _ = list_files([str(folder / "linked"), str(folder / "linked")])
    assert names_of(again, folder).count("linked/y.wav") == 2  # asked for twice


def test_devices_pipes_and_sockets_are_named(folder):
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / "pipe.wav")
    (folder / "zero").symlink_to("/dev/zero")
    listed, passed = list_files([str(folder)])
    assert "pipe.wav" in names_of(listed, folder)  # it claims to be sound: an error says what it is
    reasons = {entry.path.name: entry.reason for entry in passed}
    assert reasons["pipe"] == reasons["zero"] == "a device or pipe"


CLOSED = """
import os, sys
from utils.detector.batch.listing import list_files
os.setuid(65534)
listed, passed = list_files(sys.argv[1:])
print(len(listed), [p for p in passed if p.reason != "hidden"])
"""


def test_a_closed_folder_is_named_and_the_others_are_listed(folder):
    if os.getuid():
        pytest.skip("only root can become somebody else")
    (folder / "closed").mkdir(mode=0o700)
    (folder / "closed" / "lost.wav").write_bytes(b"content")
    for path in (folder, *folder.parents):
        if Path(tempfile.gettempdir()) in path.parents:  # the folders of pytest are closed
            path.chmod(0o755)
    command = [sys.executable, "-c", CLOSED, str(folder)]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)
    if "Permission denied" in done.stderr:
        pytest.skip("this place itself is closed")
    assert done.stdout.startswith("11 "), done.stderr
    assert "closed'" in done.stdout and "cannot be opened (Permission denied)" in done.stdout


def test_names_that_are_not_utf_8_are_listed_and_escaped(folder):
    path = os.path.join(os.fsencode(folder), b"caf\xe9.wav")
    with open(path, "wb") as file:
        file.write(b"content")
    listed, _ = list_files([str(folder)])
    (found,) = (entry.path for entry in listed if "caf" in entry.path.name)
    assert os.fsencode(found) == path
    assert listing.printable(found.name) == "caf\\xe9.wav"
    assert listing.printable("two\nlines \t“ü”\x1b[31m.wav") == "two\\nlines \\t“ü”\\x1b[31m.wav"


LISTS = [
    b"a.wav\nsub/b.wav\n",
    b"a.wav\r\nsub/b.wav\r\n",
    b"\xef\xbb\xbfa.wav\r\nsub/b.wav",
    b"\n  \na.wav\n\n-\nsub/b.wav\n",
    b"a.wav\0sub/b.wav\0",
    "\ufeffa.wav\r\nsub/b.wav\r\n".encode("utf-16-le"),
    "\ufeffa.wav\nsub/b.wav\n".encode("utf-16-be"),
]


@pytest.mark.parametrize("data", LISTS)
def test_lists_of_names_come_from_any_system(data):
    listed, _ = list_files(["-"], io.BytesIO(data))
    assert [(str(entry.path), entry.named) for entry in listed] == [
        ("a.wav", True),
        ("sub/b.wav", True),
    ]


def test_a_list_may_hold_names_of_any_bytes_and_blanks_at_an_end(tmp_path):
    data = b" caf\xe9.wav \nb, \xc3\xbc.wav\n"
    listed, _ = list_files(["-"], io.BytesIO(data))
    assert [os.fsencode(entry.path) for entry in listed] == data.splitlines()


def test_a_list_may_name_folders(folder):
    listed, _ = list_files(["-"], io.BytesIO(os.fsencode(folder / "sub") + b"\r\n"))
    assert names_of(listed, folder) == ["sub/deep/x.mp3"]


def test_patterns_and_what_is_missing(folder, monkeypatch):
    monkeypatch.chdir(folder)
    listed, _ = list_files(["*.[Ww]??", "**/*.mp3", "no*thing", "missing.wav", "a" * 300, "a\0b"])
    expected = ["b.WAV", "sub/deep/x.mp3", "no*thing", "missing.wav", "a" * 300, "a\0b"]
    assert [str(entry.path) for entry in listed] == expected
    assert [entry.named for entry in listed] == [False, False, True, True, True, True]
    listed, _ = list_files(["*"])
    assert "sub" not in [entry.path.name for entry in listed]


def test_a_file_with_the_name_of_a_pattern_is_that_file(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "a[1].wav").write_bytes(b"content")
    listed, _ = list_files(["a[1].wav"])
    assert [str(entry.path) for entry in listed] == ["a[1].wav"]


LOOSE = [b'"sub/a b.wav"\r\nc.wav\t\r\n', b" sub/a b.wav\rc.wav\r", b"'sub/a b.wav' \n\tc.wav"]


@pytest.mark.parametrize("data", LOOSE)
def test_quotes_and_blanks_around_a_name_are_left_out_if_it_exists_without(
    tmp_path, monkeypatch, data
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("sub/a b.wav", "c.wav", '"d.wav"', "d.wav"):
        (tmp_path / name).write_bytes(b"content")
    listed, _ = list_files(["-"], io.BytesIO(data))
    assert [str(entry.path) for entry in listed] == ["sub/a b.wav", "c.wav"]
    listed, _ = list_files(["-"], io.BytesIO(b'"d.wav"\n"e.wav"\n'))
    assert [str(entry.path) for entry in listed] == ['"d.wav"', '"e.wav"']
