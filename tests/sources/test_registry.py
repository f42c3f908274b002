"""Archives are data: nothing leaves its folder, other content is refused, a missing client is named."""

import shutil
import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from utils import paths
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
        registry.unpack_wheel(wheel, tmp_path / "target")
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
    found = registry.unpack_deb(tmp_path / "x.deb", ("*.wav",), tmp_path / "target", "other")
    assert not (tmp_path / "target").exists()
    assert registry.unpack_deb(tmp_path / "x.deb", ("*.wav",), tmp_path / "target", found) == found
    assert [p.name for p in (tmp_path / "target").rglob("*") if not p.is_dir()] == [
        "a.wav"
    ]  # links stay out


def test_without_apt_the_message_says_which_profile_does_without(cache, monkeypatch):
    monkeypatch.setattr(registry.shutil, "which", lambda name: None)
    with pytest.raises(registry.FetchError, match="finvcup9"):
        registry.fetch(["asterisk-prompt-es-co"], progress=False)


def test_a_wrong_hash_is_refused_after_tries(cache, monkeypatch):
    monkeypatch.setattr(registry._run.retry, "wait", lambda state: 0)
    monkeypatch.setitem(registry.WHEELS, "resemblyzer", ("0.1.4", "0" * 64, 16))
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

    def slowly(name):
        calls.append(name)
        time.sleep(0.3)
        registry._folder(name).mkdir(parents=True)

    monkeypatch.setattr(registry, "_fetch_wheel", slowly)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: registry.fetch(["ttskit"], progress=False), range(2)))
    assert calls == ["ttskit"] and folders[0] == folders[1] == {
        "ttskit": registry._folder("ttskit")
    }
