"""Feed broken files to everything that reads files from strangers: `PYTHONPATH=. .venv/bin/python -m tests.fuzz --minutes 10`.

Each parser gets mutated copies of good files. It may refuse them by an error of its own; any other exception, a file outside its
folder, more than 10 seconds or more than 1 GB beyond what it held before is a finding, and the file is kept. The tests run it for
seconds a parser.
"""

import argparse
import contextlib
import io
import random
import shutil
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf
import torch
from safetensors.torch import save_file

from utils import contracts, paths
from utils.audio import dsp, reading
from utils.detector import detector, scoring
from utils.evaluation import benchmark
from utils.sources import public_corpora, registry, whisper_weights

WORDS = [
    b"\xff" * 4,
    b"\0" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\1\0\0\0",
    b"\0\0\0\1",
    b"../",
    b'"',
    b"\n",
    b"\xc3",
]
ARCHIVE = (
    registry.FetchError,
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    OSError,
    zlib.error,
    NotImplementedError,
    RuntimeError,
)


def mutate(good: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A copy with a few bits, bytes or words changed, pieces repeated, left out or taken from another file."""
    found = bytearray(good)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        if len(found) < 8:
            break
        at, size = (
            rng.randrange(min(len(found), rng.choice([64, 256, len(found)]))),
            rng.randrange(1, 64),
        )
        change = rng.randrange(7)
        if change == 0:
            found[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            found[at] = rng.randrange(256)
        elif change == 2:
            word = rng.choice(WORDS)
            found[at : at + len(word)] = word
        elif change == 3:
            del found[rng.randrange(len(found)) :]
        elif change == 4:
            start = rng.randrange(len(found))
            found[at:at] = found[start : start + size]
        elif change == 5:
            del found[at : at + size]
        else:
            other = rng.choice(others)
            found[at:] = other[rng.randrange(len(other)) :]
    return bytes(found)


def sounds() -> list[bytes]:
    """A second of sound in every format that libsndfile writes here, and as PyAV's AAC, Opus and AMR."""
    from tests.detector.test_bad_inputs import ffmpeg

    wave = np.float32(
        0.3 * np.sin(np.arange(8000) * 0.2) * np.random.default_rng(0).uniform(0.2, 1, 8000)
    )
    found = [
        ffmpeg(wave, "mp4", "aac", 44100),
        ffmpeg(wave, "webm", "libopus", 48000),
        ffmpeg(wave, "adts", "aac", 22050),
        ffmpeg(wave, "amr", "libopencore_amrnb", 8000),
    ]
    for form, subtype in (
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("WAV", "ULAW"),
        ("WAV", "GSM610"),
        ("WAV", "IMA_ADPCM"),
        ("AU", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
        ("AIFF", "PCM_16"),
        ("CAF", "ALAC_16"),
        ("W64", "PCM_16"),
        ("RF64", "PCM_16"),
        ("NIST", "PCM_16"),
        ("VOC", "PCM_16"),
    ):
        buffer = io.BytesIO()
        sf.write(buffer, wave, 8000, format=form, subtype=subtype)
        found.append(buffer.getvalue())
    return found


def archives() -> tuple[bytes, bytes]:
    """A wheel and a tar archive of two members."""
    wheel, tar = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("package/a.txt", "package/b/c.txt"):
            file.writestr(name, name * 50)
    with tarfile.open(fileobj=tar, mode="w") as file:
        for name in ("package/a.txt", "package/b/c.txt"):
            member = tarfile.TarInfo(name)
            member.size = 50
            file.addfile(member, io.BytesIO(b"x" * 50))
    return wheel.getvalue(), tar.getvalue()


def targets(home: Path) -> dict:
    """name → (good files, function of bytes, what it may raise)."""

    def written(name, parse):
        def run(content):
            (home / name).write_bytes(content)
            return parse(home / name)

        return run

    def unpacked(unpack):
        def run(content):
            shutil.rmtree(home / "into", ignore_errors=True)
            (home / "into").mkdir()
            (home / "archive").write_bytes(content)
            return unpack(home / "archive", home / "into" / "folder")

        return run

    def untar(path, target):
        with tarfile.open(path) as archive:
            return registry._unpack_members(archive, ("package/*",), target, path.name)

    wheel, tar = archives()
    labels = "".join(f"{i:032x}.wav, {i % 2}\n" for i in range(20)).encode()
    names = [f"{i}.wav" for i in range(9)]
    submission = "".join(f"{name},1\n" for name in names).encode()
    model = (
        np.array([6], "<u4").tobytes()
        + b"\x0b\0WhisperSpec"
        + np.array([3, 1], "<u4").tobytes()
        + b"\x01\0w"
        + b"\x02"
        + np.array([2, 3], "<u4").tobytes()
        + b"\0"
        + np.array([24], "<u4").tobytes()
        + bytes(24)
    )
    made = home / "detector"
    shutil.copytree(detector.FOLDER, made)
    small = {
        "centre": torch.zeros(6),
        "scale": torch.ones(6),
        "offset": torch.zeros(2),
        "weight": torch.ones(3),
        "bias": torch.zeros(1),
        "gamma": torch.ones(1),
        "components": torch.zeros(2, 6).half(),
        "supports": torch.zeros(3, 2).half(),
    }
    save_file(small, made / "detector.safetensors")
    rows = pd.DataFrame({name: ["1"] * 3 for name in ("label", "system", "page", "language")})
    rows.to_csv(made / "supports.csv", index=False)
    opened = {
        name: (made / name).read_bytes()
        for name in ("detector.safetensors", "card.json", "supports.csv")
    }

    def open_with(name):
        def run(content):
            for other, good in opened.items():
                (made / other).write_bytes(content if other == name else good)
            return scoring.load_detector(made)

        return run

    corpus = home / "corpus"
    (corpus / "clips").mkdir(parents=True)
    meta = b"id,file,label,system,language,speaker,group,licence,repo,page_path\nd/a.wav,clips/a.wav,0,T,en,s,page-s,u,o/p,a.wav\n"
    reading.write(corpus / "clips" / "a.wav", np.sin(np.arange(9000) * 0.3) * 0.1)

    def read_key(content):
        (corpus / "meta.csv").write_bytes(content)
        return public_corpora.manifest("demo_pages", corpus)

    result = {
        "audio": (sounds(), lambda content: reading.decode(content, "x"), dsp.AudioError),
        "labels": ([labels], written("labels.txt", contracts.read_labels), contracts.ContractError),
        "submission": (
            [submission],
            written("hand_in.csv", lambda p: contracts.check_submission(p, names)),
            contracts.ContractError,
        ),
        "CTranslate2 weights": (
            [model],
            written("model.bin", whisper_weights.read_ctranslate2),
            ValueError,
        ),
        "wheel": ([wheel], unpacked(registry.unpack_wheel), ARCHIVE),
        "tar": ([tar], unpacked(untar), ARCHIVE),
        "corpus key": ([meta], read_key, (contracts.ContractError, dsp.AudioError)),
    }
    return result | {
        f"detector: {name}": ([good], open_with(name), (ValueError, OSError))
        for name, good in opened.items()
    }


def fuzz(name: str, home: Path, seconds: float, seed: int) -> tuple[int, list[str]]:
    """(files tried, findings) of one parser."""
    goods, parse, refusals = targets(home)[name]
    rng, tried, found, first = random.Random(seed), 0, {}, {}

    def outside():
        """Files where none should appear: beside the parser's folder, and beside the folder that an archive is unpacked to."""
        return set(home.parent.iterdir()) | {
            p for p in (home / "into").glob("*") if not p.name.startswith("folder")
        }

    around, allowed = outside(), set(home.iterdir())
    for good in goods:
        parse(good)  # what is whole is read
    allowed |= set(home.iterdir())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        content, began, problem = mutate(rng.choice(goods), goods, rng), time.monotonic(), ""
        Path("/proc/self/clear_refs").write_text("5")  # peak memory counts from here
        before = benchmark.peak_mb()
        try:
            parse(content)
        except refusals:
            pass
        except Exception as error:  # noqa: BLE001 (anything else is what is looked for)
            problem = type(error).__name__
            first.setdefault(f"{name}: {problem}", str(error)[:100])
        if time.monotonic() - began > 10:
            problem = "over 10 s"
        if benchmark.peak_mb() > before + 1000:
            problem = "1 GB of memory"
        if outside() != around or set(home.iterdir()) - allowed:
            problem, around, allowed = "a file outside its folder", outside(), set(home.iterdir())
        if problem:
            found.setdefault(f"{name}: {problem}", content)
        tried += 1
    for number, content in enumerate(found.values()):
        Path(tempfile.gettempdir(), f"fuzz-{name.replace(' ', '_')}-{seed}-{number}").write_bytes(
            content
        )
    return tried, [f"{problem} {first.get(problem, '')}" for problem in found]


def main() -> int:
    """Command line; 1 if there was a finding."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--minutes", type=float, default=10, help="of all parsers together (default: 10)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a parser, e.g. audio")
    options = parser.parse_args()
    findings = []
    paths.OUTPUTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=paths.OUTPUTS, prefix=".fuzz-"
    ) as folder:  # a corpus must lie in the project
        (Path(folder) / "list").mkdir()
        names = [options.only] if options.only else list(targets(Path(folder) / "list"))
        for name in names:
            home = Path(folder) / name.replace(" ", "_").replace(":", "")
            home.mkdir()
            (home / "in").mkdir()
            with contextlib.redirect_stderr(io.StringIO()):
                tried, found = fuzz(
                    name, home / "in", 60 * options.minutes / len(names), options.seed
                )
            print(f"{name}: {tried} files, {len(found)} findings", *found, sep="\n  ", flush=True)
            findings += found
    return int(bool(findings))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))  # as pytest does
    sys.exit(main())
