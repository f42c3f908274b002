"""Files, and the recordings of which a joined file consists."""

import contextlib
import functools
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from utils.audio.dsp import AudioError

LARGEST_BYTES = 2 * 10**9
SHORTEST_BYTES = 512  # of a part; the streams of one Ogg file begin closer to each other
SCAN_BYTES = 2**20
BLOCK_OVERLAP = 512  # bytes; a beginning may lie across the end of what is scanned at once
FEWEST_ZEROS = 16  # before anything that is not in `BEGINNINGS`; MPEG begins with two of its own
MP4_ZEROS = 3  # an MP4 begins with them
HEAD_BYTES = 4096  # of a part, in which `MENDED` is looked for
# How files of a kind begin, wherever they do: joined files may be of several kinds.
BEGINNINGS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rb"OggS\0\x02.{12}\0{4}",  # the first page of a stream
        rb"RIF[FX].{4}WAVE",
        rb"(?:RF|BW)64.{4}WAVE",
        rb"RIFF.{4}AVI LIST",
        rb"fLaC[\0\x80]\0\0\x22(?<!\x7fFLAC.{12})",  # not the head of the FLAC in an Ogg file
        rb"\0\0\0[\x0c-\x60]ftyp[ -~]{4}",
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
        # the first of WavPack's blocks: number 0, and the first of its channels
        rb"wvpk.{3}\0.\x04\0.{5}\0{4}.{5}[\x08-\x0f\x18-\x1f\x28-\x2f\x38-\x3f]",
        rb"MPCKSH",
        rb"MAC .\x0f\0\0\x34\0\0\0",  # Monkey's Audio
        rb"DSD \x1c\0{7}",
        rb"FRM8.{8}DSD ",
    )
)
MATROSKA = re.compile(rb"\x1aE\xdf\xa3.{1,40}(?:webm|matroska)", re.DOTALL)
CLUSTER = re.compile(rb"\x1f\x43\xb6\x75")  # of Matroska: files that are attached lie before it
MPEG_TS = re.compile(rb"\x47[\x40\x60][\0\x11].{185}\x47.{187}\x47", re.DOTALL)  # again and again
KINDS = (*BEGINNINGS, MATROSKA, MPEG_TS)
# Frames of MPEG audio or AAC behind a tag. FFmpeg reads frames without one to the end by itself.
TAG = re.compile(rb"ID3[\2-\4]\0.[\0-\x7f]{4}", re.DOTALL)
# All of these at once. They are tried where two bytes stand that one of them begins with: to look
# for each in the whole file took as long as decoding it. A box of MP4 is known by its name.
ANY = (*KINDS, CLUSTER, TAG)
AT_ONCE = re.compile(b"|".join(b"(%b)" % pattern.pattern for pattern in ANY), re.DOTALL)
MP4_NAME, MP4_NAME_AT = b"ft", 4
TWO_BYTES = b"Og RI RF BW fL #! FO .s ca ri NI Cr TT FL 0& wv MP MA DS FR \x1aE G@ G` \x1fC ID"
IS_LIKELY = np.zeros(2**16, bool)
IS_LIKELY[[int.from_bytes(two, "little") for two in (*TWO_BYTES.split(b" "), MP4_NAME)]] = True
ANSWER = re.compile(rb"(?:HTTP/\d|ICY ).{0,4000}?\r\n\r\n", re.DOTALL)  # of a server
# Streams of frames without any head: MPEG audio, AAC, AC-3
FRAMES = re.compile(rb"\xff[\xe2-\xff]|\x0b\x77", re.DOTALL)
# Samples of 4 bytes, the last (or the first) of which holds nothing but the sign: no floats
INTEGERS = rb"(?=.{0,200}?data.{4}(?:(?:.{3}[\0\xff]){64}|(?:\0.{3}){64}))"
# What FFmpeg gets wrong in headers, and what it is given in its place. A length of 0 or of -1
# stands in files that went through a pipe, or whose recorder was killed.
MENDED = tuple(
    (re.compile(pattern, re.DOTALL), replacement)
    for pattern, replacement in (
        (rb"\A(\.snd.{4})\0{4}", b"\\1\xff\xff\xff\xff"),
        (rb"\A(RIFX.{4}WAVE.{0,200}?data)\0{4}", b"\\1\xff\xff\xff\xff"),
        (rb"\A(?:RF64|BW64)(.{4}WAVEds64.{12}(?:\0{8}|\xff{8}))", b"RIFF\\1"),
        (rb"\A(riff\x2e\x91\xcf\x11.{8})(?:\0{8}|\xff{8})", b"\\1\0\0\0\0\0\0\0\x40"),
        (rb"(data\xf3\xac\xd3\x11.{8})\xff{7}[\x7f\xff]", b"\\1\0\0\0\0\0\0\0\x40"),
        # fewer valid bits than the 32 that a sample takes: it would read them as another format
        (rb"(fmt .{4}\xfe\xff.{12}\x20\0\x16\0)[\x01-\x1f]\0", b"\\1\x20\0"),
        # 24 bits in 4 bytes, at either end of them, as `arecord -f S24_LE` writes them
        (rb"(fmt .{4}\x01\0(?:\x01\0.{8}\x04|\x02\0.{8}\x08)\0)\x18\0" + INTEGERS, b"\\1\x20\0"),
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
    """The recordings of which a file consists: one, or several; of no bytes, none.

    What a server said, zeros and ID3 tags before the first one are left out, and tags at the end.
    """
    size = _end(file, file.seek(0, io.SEEK_END))
    if not size:
        return []
    start = _start(file, size)
    known, frames = _kind(file, start)
    parts, last, begin, attached = [], start, start, known is MATROSKA
    for end, at, kind in _beginnings(file, start, size) if known or frames else ():
        if kind is CLUSTER:
            attached = False
        if at == size:  # a tag at the end
            size = end
            break
        if kind is CLUSTER or attached or kind is known is MPEG_TS:
            continue
        if end - last >= SHORTEST_BYTES and size - at >= SHORTEST_BYTES:
            parts.append(Part(file, begin, end, bool(known)))
            begin, known, attached = at, kind, kind is MATROSKA
        last = max(last, at)
    return [*parts, Part(file, begin, size, bool(known))]


def _kind(file: BinaryIO, at: int) -> tuple[re.Pattern | None, bool]:
    """Which beginning stands at a place of a file, and whether one of `FRAMES` does."""
    file.seek(at)
    head = file.read(BLOCK_OVERLAP)
    known = next((pattern for pattern in KINDS if pattern.match(head)), None)
    return known, bool(FRAMES.match(head))


def _beginnings(file: BinaryIO, start: int, size: int) -> Iterator[tuple[int, int, re.Pattern]]:
    """Where what may be a recording of its own begins, with its tag and without, and its kind."""
    for position in range(start, size, SCAN_BYTES):
        file.seek(position)
        block = file.read(SCAN_BYTES + BLOCK_OVERLAP)
        for match in filter(None, map(functools.partial(AT_ONCE.match, block), _likely(block))):
            at = behind = position + match.start()
            pattern = ANY[match.lastindex - 1]
            if pattern is TAG:
                behind = _behind_tags(file, at, size)
            if pattern is not TAG or behind == size or _kind(file, behind)[1]:
                yield at, behind, pattern


def _likely(block: bytes) -> list[int]:
    """Places of a block, in order, where one of `ANY` may stand."""
    found = []
    for first in (0, 1):
        pairs = np.frombuffer(block, "<u2", max(0, len(block) - first) // 2, first)
        found += (2 * np.flatnonzero(IS_LIKELY[pairs]) + first).tolist()
    return sorted(at - MP4_NAME_AT * block.startswith(MP4_NAME, at) for at in found)


def _start(file: BinaryIO, size: int) -> int:
    """Where the first recording of a file of `size` bytes begins."""
    file.seek(0)
    if answer := ANSWER.match(file.read(HEAD_BYTES)):
        return _behind_tags(file, answer.end(), size)
    start = _zeros(file)
    for at in (start - MP4_ZEROS, start):
        if at >= 0 and _kind(file, at)[0]:
            return at
    return _behind_tags(file, start if start >= FEWEST_ZEROS else 0, size)


def _behind_tags(file: BinaryIO, start: int, size: int) -> int:
    """Where the ID3 tags end that begin at `start` of a file of `size` bytes."""
    while True:
        file.seek(start)
        tag = file.read(10)
        if len(tag) < 10 or not tag.startswith(b"ID3") or max(tag[6:]) > 127:
            return min(start, size)
        length = sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        start += 10  # a tag that is longer than the file lies
        if start + length <= size:
            start += length + (10 if tag[5] & 0x10 else 0)  # it has a footer


def _end(file: BinaryIO, size: int) -> int:
    """Where the tags at the end of a file of `size` bytes begin: ID3 of version 1, APE."""
    for length, mark in ((128, b"TAG"), (32, b"APETAGEX")):
        if size > length:
            file.seek(size - length)
            tag = file.read(length)
            if tag.startswith(mark):
                size -= length
                if mark == b"APETAGEX":
                    items, flags = int.from_bytes(tag[12:16], "little") - 32, tag[23]
                    size -= items + (32 if flags & 0x80 else 0)
    return max(0, size)


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
