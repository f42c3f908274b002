"""The parsers of files from strangers, with good files of each format, for `tests/fuzz.py`."""

import contextlib
import io
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile as sf

from tests import helpers
from utils import archives, contracts
from utils.audio import decoding, dsp, reading
from utils.detector import detector, scoring
from utils.detector.batch.decoder import Decoder
from utils.sources import public_corpora, registry, whisper_weights

ARCHIVE_ERRORS = (
    registry.FetchError,
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    OSError,
    zlib.error,
    NotImplementedError,
    RuntimeError,
)
BY_FFMPEG = [
    ("mp4", "aac", 44100),
    ("webm", "libopus", 48000),
    ("adts", "aac", 22050),
    ("amr", "libopencore_amrnb", 8000),
    ("matroska", "libopus", 48000),
    ("mov", "alac", 16000),
    ("mpegts", "mp2", 48000),
    ("avi", "libmp3lame", 16000),
    ("flv", "aac", 44100),
    ("ac3", "ac3", 48000),
]
BY_LIBSNDFILE = [
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
    ("PAF", "PCM_16"),
    ("SVX", "PCM_16"),
    ("MAT5", "PCM_16"),
]


class Target(NamedTuple):
    """A parser, what it reads and how it may refuse."""

    good: list[bytes]
    parse: Callable[[bytes], object]
    refusals: type[Exception] | tuple[type[Exception], ...]


def through_file(path: Path, parse: Callable[[Path], object]) -> Callable[[bytes], object]:
    """`parse` for content instead of a file."""

    def parse_content(content: bytes):
        path.write_bytes(content)
        return parse(path)

    return parse_content


def recordings() -> list[bytes]:
    """A second of sound in every format that libsndfile and FFmpeg write here, and joined files."""
    time_ = np.arange(8000)
    envelope = np.random.default_rng(0).uniform(0.2, 1, 8000)
    wave = np.float32(0.3 * np.sin(time_ * 0.2) * envelope)
    good = [helpers.encoded(wave, *form) for form in BY_FFMPEG]
    for form, subtype in BY_LIBSNDFILE:
        buffer = io.BytesIO()
        sf.write(buffer, wave, 8000, format=form, subtype=subtype)
        good.append(buffer.getvalue())
    return good + [content * 2 for content in good]


def is_whole(recording: decoding.Recording) -> None:
    """Raise ArithmeticError for a wave that nobody can score."""
    if not recording.channels.size or not np.isfinite(recording.channels).all():
        raise ArithmeticError("no wave, or no numbers")


def audio(home: Path) -> Target:
    """Recordings, decoded in this process."""

    def parse(content: bytes):
        is_whole(decoding.decode(content, "x", 16000))

    return Target(recordings(), parse, dsp.AudioError)


def decoder(home: Path) -> Target:
    """Recordings, decoded in a process of their own. That may die, but not of a Python error."""
    process = Decoder()  # ends with this process

    def read(path: Path):
        try:
            is_whole(process.read(path, 16000))
        except dsp.AudioError as error:
            if "exit status" in str(error):
                raise RuntimeError(str(error)) from error
            raise

    return Target(recordings(), through_file(home / "x", read), dsp.AudioError)


def labels(home: Path) -> Target:
    """The competition's label file."""
    good = "".join(f"{i:032x}.wav, {i % 2}\n" for i in range(20)).encode()
    parse = through_file(home / "labels.txt", contracts.read_labels)
    return Target([good], parse, contracts.ContractError)


def submission(home: Path) -> Target:
    """A submission that is read back."""
    names = [f"{i}.wav" for i in range(9)]
    good = "".join(f"{name},1\n" for name in names).encode()

    def check(path: Path):
        return contracts.check_submission(path, names)

    return Target([good], through_file(home / "submission.csv", check), contracts.ContractError)


def ctranslate2_weights(home: Path) -> Target:
    """A model of one tensor in CTranslate2's binary format."""

    def number(*values: int) -> bytes:
        return np.array(values, "<u4").tobytes()

    header = number(6) + b"\x0b\0WhisperSpec" + number(3, 1)
    tensor = b"\x01\0w" + b"\x02" + number(2, 3) + b"\0" + number(24) + bytes(24)
    parse = through_file(home / "model.bin", whisper_weights.read_ctranslate2)
    return Target([header + tensor], parse, ValueError)


def unpacked(home: Path, unpack: Callable[[Path, Path], object]) -> Callable[[bytes], object]:
    """`unpack(archive, folder)` for content, into an empty folder each time."""

    def parse(content: bytes):
        shutil.rmtree(home / "into", ignore_errors=True)
        (home / "into").mkdir()
        (home / "archive").write_bytes(content)
        return unpack(home / "archive", home / "into" / "folder")

    return parse


def wheel(home: Path) -> Target:
    """A Python package."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("package/a.txt", "package/b/c.txt"):
            file.writestr(name, name * 50)
    return Target([buffer.getvalue()], unpacked(home, archives.unpack_wheel), ARCHIVE_ERRORS)


def tar(home: Path) -> Target:
    """An archive as npm's and Debian's packages hold it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name in ("package/a.txt", "package/b/c.txt"):
            member = tarfile.TarInfo(name)
            member.size = 50
            file.addfile(member, io.BytesIO(b"x" * 50))

    def untar(path: Path, target: Path):
        with tarfile.open(path) as archive:
            return archives.unpack_tar(archive, ("package/*",), target, path.name)

    return Target([buffer.getvalue()], unpacked(home, untar), ARCHIVE_ERRORS)


def corpus_key(home: Path) -> Target:
    """The table of a corpus of demo-page clips."""
    corpus = home / "corpus"
    (corpus / "clips").mkdir(parents=True)
    reading.write(corpus / "clips" / "a.wav", np.sin(np.arange(9000) * 0.3) * 0.1)
    good = (
        b"id,file,label,system,language,speaker,group,licence,repo,page_path\n"
        b"d/a.wav,clips/a.wav,0,T,en,s,page-s,u,o/p,a.wav\n"
    )

    def read(path: Path):
        return public_corpora.manifest("demo_pages", corpus)

    parse = through_file(corpus / "meta.csv", read)
    return Target([good], parse, (contracts.ContractError, dsp.AudioError))


def detector_file(name: str) -> Callable[[Path], Target]:
    """Maker of the target for one file of a detector's folder."""

    def make(home: Path) -> Target:
        folder = home / "detector"
        folder.mkdir()
        helpers.write_toy_detector(folder)
        good = (folder / name).read_bytes()

        def load(path: Path):
            with contextlib.redirect_stdout(io.StringIO()):  # ONNX Runtime says that it tries again
                return scoring.load_detector(folder)

        return Target([good], through_file(folder / name, load), (ValueError, OSError))

    return make


TARGETS: dict[str, Callable[[Path], Target]] = {
    "audio": audio,
    "decoder": decoder,
    "labels": labels,
    "submission": submission,
    "CTranslate2 weights": ctranslate2_weights,
    "wheel": wheel,
    "tar": tar,
    "corpus key": corpus_key,
} | {f"detector: {name}": detector_file(name) for name in detector.FILES}
