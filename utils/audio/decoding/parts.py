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
FEWEST_ZEROS = 16  # before anything that is not in `BEGINNINGS`; MPEG begins with two of its own
MP4_ZEROS = 3  # an MP4 begins with them
HEAD_BYTES = 4096  # of a part, in which `MENDED` is looked for
# How files of a kind begin. What is missing here (MP3, AAC, AC-3, MPEG-TS), FFmpeg itself reads to
# the end where it was joined.
BEGINNINGS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rb"OggS\0\x02.{12}\0{4}",  # the first page of a stream
        rb"(?:RIFF|RIFX|RF64|BW64).{4}WAVE",
        rb"RIFF.{4}AVI LIST",
        rb"fLaC[\0\x80]\0\0\x22",
        rb"\0\0\0[\x0c-\x60]ftyp[ -~]{4}",
        rb"\x1aE\xdf\xa3.{1,40}(?:webm|matroska)",
        rb"#!AMR(?:-WB)?\n",
        rb"FORM.{4}AIF[FC]",
        rb"\.snd\0.{7}\0\0\0[\x01-\x1b]",
        rb"caff\0\x01\0\0desc",
        rb"riff\x2e\x91\xcf\x11",
        rb"NIST_1A\n",
        rb"Creative Voice File\x1a",
        rb"TTA1[\1\3]\0",
        rb"FLV\x01[\x01\x04\x05]\0\0\0\x09",
        rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c",  # WMA
    )
)
# What FFmpeg gets wrong in headers, and what it is given in its place. A length of 0 or of -1
# stands in files that went through a pipe, or whose recorder was killed.
MENDED = tuple(
    (re.compile(pattern, re.DOTALL), replacement)
    for pattern, replacement in (
        (rb"\A(\.snd.{4})\0{4}", b"\\1\xff\xff\xff\xff"),
        (rb"\A(?:RF64|BW64)(.{4}WAVEds64.{12}(?:\0{8}|\xff{8}))", b"RIFF\\1"),
        (rb"\A(riff\x2e\x91\xcf\x11.{8})(?:\0{8}|\xff{8})", b"\\1\0\0\0\0\0\0\0\x40"),
        (rb"(data\xf3\xac\xd3\x11.{8})\xff{7}[\x7f\xff]", b"\\1\0\0\0\0\0\0\0\x40"),
        # fewer valid bits than the 32 that a sample takes: it would read them as another format
        (rb"(fmt .{4}\xfe\xff.{12}\x20\0\x16\0)[\x01-\x1f]\0", b"\\1\x20\0"),
    )
)


class Part:
    """A part of a binary file, which is read like a file of its own."""

    def __init__(self, file: BinaryIO, start: int, end: int, has_beginning: bool = False):
        """Args: has_beginning: it starts as a file of sound does."""
        self.file, self.start, self.size, self.position = file, start, end - start, 0
        self.has_beginning, self.head = has_beginning, b""
        if has_beginning:
            head = self.read(HEAD_BYTES)
            for pattern, replacement in MENDED:
                head = pattern.sub(replacement, head, count=1)
            self.head, self.position = head, 0

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes from the position on; -1: all."""
        remaining = max(0, self.size - self.position)
        self.file.seek(self.start + self.position)
        data = self.file.read(remaining if size < 0 else min(size, remaining))
        head = self.head[self.position : self.position + len(data)]
        self.position += len(data)
        return head + data[len(head) :]

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

    Zeros and ID3 tags before the first one are left out.
    """
    size = file.seek(0, io.SEEK_END)
    if not size:
        return []
    start = _start(file, size)
    beginning = _beginning(file, start)
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


def _beginning(file: BinaryIO, at: int) -> re.Pattern | None:
    """Which of `BEGINNINGS` stands at a place of a file."""
    file.seek(at)
    head = file.read(64)
    return next((pattern for pattern in BEGINNINGS if pattern.match(head)), None)


def _start(file: BinaryIO, size: int) -> int:
    """Where the first recording of a file of `size` bytes begins."""
    start = _zeros(file)
    for at in (start - MP4_ZEROS, start):
        if at >= 0 and _beginning(file, at):
            return at
    if start < FEWEST_ZEROS:
        start = 0
    while True:
        file.seek(start)
        tag = file.read(10)
        if len(tag) < 10 or not tag.startswith(b"ID3") or max(tag[6:]) > 127:
            return start
        length = sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        start += 10  # a tag that is longer than the file lies
        if start + length < size:
            start += length + (10 if tag[5] & 0x10 else 0)  # it has a footer


def _zeros(file: BinaryIO) -> int:
    """Number of bytes before the first that is not zero; 0 if all are."""
    file.seek(0)
    count = 0
    while block := file.read(SCAN_BYTES):
        rest = block.lstrip(b"\0")
        count += len(block) - len(rest)
        if rest:
            return count
    return 0
