"""Files, and the recordings of which a joined file consists."""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from utils.audio.dsp import AudioError

LARGEST_BYTES = 2 * 10**9
SHORTEST_BYTES = 512  # of a part; the streams of one Ogg file begin closer to each other
SCAN_BYTES = 2**20
FEWEST_ZEROS = 16  # an MP4 begins with three of its own
# How files of a kind begin. What is missing here (MP3, AAC, AC-3, MPEG-TS, AVI), FFmpeg itself
# reads to the end where it was joined.
BEGINNINGS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rb"OggS\0\x02.{12}\0{4}",  # the first page of a stream
        rb"RIFF.{4}WAVE",
        rb"fLaC[\0\x80]\0\0\x22",
        rb"\0\0\0[\x0c-\x60]ftyp[ -~]{4}",
        rb"\x1aE\xdf\xa3.{1,40}(?:webm|matroska)",
        rb"#!AMR(?:-WB)?\n",
        rb"FORM.{4}AIF[FC]",
        rb"\.snd\0.{7}\0\0\0[\x01-\x1b]",
        rb"caff\0\x01\0\0desc",
        rb"riff\x2e\x91\xcf\x11",
        rb"FLV\x01[\x01\x04\x05]\0\0\0\x09",
        rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c",  # WMA
    )
)


class Part:
    """A part of a binary file, which is read like a file of its own."""

    def __init__(self, file: BinaryIO, start: int, end: int, has_beginning: bool = False):
        """Args: has_beginning: it starts as a file of sound does."""
        self.file, self.start, self.size, self.position = file, start, end - start, 0
        self.has_beginning = has_beginning

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes from the position on; -1: all."""
        remaining = max(0, self.size - self.position)
        self.file.seek(self.start + self.position)
        data = self.file.read(remaining if size < 0 else min(size, remaining))
        self.position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the position, at most to an end: decoders of broken files seek anywhere."""
        position = (0, self.position, self.size)[whence] + offset
        self.position = min(max(0, position), self.size)
        return self.position

    def tell(self) -> int:
        """The position."""
        return self.position


@contextlib.contextmanager
def opened(source: Path | bytes, name: str) -> Iterator[BinaryIO]:
    """A source as a binary file. Raises AudioError if it cannot be read or is too large."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        if source.exists() and not source.is_file():
            reason = "a folder" if source.is_dir() else "not a file but a device or pipe"
            raise AudioError(f"{name}: cannot be read ({reason})")
        size = source.stat().st_size
        if size > LARGEST_BYTES:
            raise AudioError(
                f"{name}: {size / 1e9:.1f} GB are too large: cut it into parts, or compress it "
                "(FLAC, Opus)"
            )
        file = source.open("rb")
    except AudioError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{name}: cannot be read ({reason})") from error
    with file:
        yield file


def split(file: BinaryIO) -> list[Part]:
    """The recordings of which a file consists: one, or several of one kind; of no bytes, none.

    Zeros before the first one are left out.
    """
    size = file.seek(0, io.SEEK_END)
    if not size:
        return []
    start = _zeros(file)
    file.seek(start)
    head = file.read(64)
    beginning = next((pattern for pattern in BEGINNINGS if pattern.match(head)), None)
    begins, last = [start], start
    for position in range(start, size if beginning else start, SCAN_BYTES):
        file.seek(position)
        block = file.read(SCAN_BYTES + 64)  # a beginning may lie across the end
        for match in beginning.finditer(block):
            at = position + match.start()
            if at - last >= SHORTEST_BYTES and size - at >= SHORTEST_BYTES:
                begins.append(at)
            last = max(last, at)
    ends = [*begins[1:], size]
    return [Part(file, *both, bool(beginning)) for both in zip(begins, ends, strict=True)]


def _zeros(file: BinaryIO) -> int:
    """Number of bytes before the first that is not zero; 0 for less than `FEWEST_ZEROS`, or all."""
    file.seek(0)
    count = 0
    while block := file.read(SCAN_BYTES):
        rest = block.lstrip(b"\0")
        count += len(block) - len(rest)
        if rest:
            return count if count >= FEWEST_ZEROS else 0
    return 0
