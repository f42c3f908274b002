"""What the header of uncompressed sound says of its length, which FFmpeg does not compare.

WAV (also RF64 and BW64), W64 and CAF consist of chunks: a name, a size, the content.
"""

import math
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from utils.audio.decoding.parts import FRAMES, HEAD_BYTES, SCAN_BYTES, Part

UNFINISHED = -1.0
MISSING_S = 0.02  # less is not told
BEHIND_S = 0.25
HUGE = 2**61  # bytes
UNKNOWN = 0x7FFF0000  # bytes; from here on, a size of 32 bits is a placeholder
# Numbers of frames and of bytes in the first frame of MP3; VBRI has them the other way round
XING = re.compile(rb"(?:Xing|Info)\0\0\0[\3\7\x0b\x0f](.{4})(.{4})", re.DOTALL)
VBRI = re.compile(rb"VBRI\x00\x01.{4}(.{4})(.{4})", re.DOTALL)
AUDIO_OF_AVI = re.compile(rb"strh.{4}auds.{16}(.{16})", re.DOTALL)  # scale, rate, start, length
FRAGMENTS = re.compile(rb"\0\0\0.mvex\0\0\0.(?:mehd|trex)", re.DOTALL)  # in the head of an MP4
PAGE_BYTES = 65_307  # at most, of Ogg
BOXES = (b"moov", b"moof", b"mdat", b"mfra", b"free", b"skip", b"udta", b"uuid", b"wide")
FIRST_FRAME_BYTES = 1500
# Bytes of the frames of AMR by their type: those of speech, then the level of the noise
NOISE_BYTES, NOTHING = 6, 15  # the latter is the type of a frame of one byte: nothing was sent
FRAME_BYTES = {
    "amrnb": (13, 14, 16, 18, 20, 21, 27, 32, NOISE_BYTES),
    "amrwb": (18, 24, 33, 37, 41, 47, 51, 59, 61, NOISE_BYTES),
}
AMR = {b"#!AMR\n": "amrnb", b"#!AMR-WB\n": "amrwb"}
NIST = (  # bytes of its head, then what makes those of its samples
    rb"\ANIST_1A\n *(\d{1,9})\n",
    rb"\nsample_count -i (\d{1,15})",
    rb"\nchannel_count -i (\d{1,9})",
    rb"\nsample_n_bytes -i (\d)",
)


class _Form(NamedTuple):
    first: int  # where the first chunk lies
    layout: str  # of name and size
    multiple: int  # of bytes that a chunk takes
    unknown: int  # from here on, a size is a placeholder


FORMS = {
    "wav": _Form(12, "<4sI", 2, UNKNOWN),
    "w64": _Form(40, "<16sQ", 8, HUGE),
    "caf": _Form(8, ">4sQ", 1, HUGE),
}


def not_heard(part: Part, form: str, seconds: float) -> tuple[float, int]:
    """What is missing of a file of one of `FORMS`, of which `seconds` were decoded.

    Returns seconds that the header promises beyond them, or UNFINISHED where it says that there is
    nothing; and the number of bytes behind the samples that are no other chunk.
    """
    large = 0
    for name, size, start in _chunks(part, form, FORMS[form].first):  # noqa: B007
        if name == b"ds64":  # sizes beyond 4 GB: of the file, then of the samples
            part.seek(start + 8)
            large = int.from_bytes(part.read(8), "little")
        if name == b"data":
            break
    else:
        return 0.0, 0
    if size <= 0:
        return UNFINISHED, 0
    unknown = HUGE if large else FORMS[form].unknown
    size, held = large or size, max(1, part.size - start)
    if size >= unknown:
        return 0.0, 0
    lost = seconds * (size - held) / held
    if lost > MISSING_S:
        return lost, 0
    behind = part.size - _end(part, form, start + size)
    part.seek(part.size - behind)
    told = behind * seconds > BEHIND_S * size and part.read(SCAN_BYTES).strip(b"\0")
    return 0.0, behind if told else 0


def apart(part: Part) -> list[Part]:
    """A part, or two where frames of MPEG audio, AAC or AC-3 were joined to AU, NIST or AMR.

    FFmpeg would play them as samples, which are noise, or take them for damage.
    """
    part.seek(0)
    head, end = part.read(HEAD_BYTES), 0
    if head.startswith(b".snd"):
        end = int.from_bytes(head[4:8], "big") + int.from_bytes(head[8:12], "big")
    elif head.startswith(b"NIST") and all(told := [re.search(key, head) for key in NIST]):
        start, *lengths = (int(found[1]) for found in told)
        end = start + math.prod(lengths)
    for mark, codec in AMR.items():
        if head.startswith(mark):
            end = _end_of_amr(part, len(mark), FRAME_BYTES[codec])
    part.seek(end)
    frames = 0 < end < part.size and FRAMES.match(part.read(2))
    part.seek(0)
    if not frames:
        return [part]
    return [
        Part(part.file, part.start + begin, part.start + stop, True)
        for begin, stop in ((0, end), (end, part.size))
    ]


def frame_bytes(first: int, sizes: tuple[int, ...]) -> int:
    """Size of a frame of AMR by its first byte; 0 if it is none. Args: sizes: of `FRAME_BYTES`."""
    kind = first >> 3 & 15
    return sizes[kind] if kind < len(sizes) else int(kind == NOTHING)


def _end_of_amr(part: Part, position: int, sizes: tuple[int, ...]) -> int:
    part.seek(0)
    data = part.read()
    while position < len(data) and not data[position] & 0x83:  # bits that are 0 in each frame
        size = frame_bytes(data[position], sizes)
        if not size:
            break
        position += size
    return position


def of_mpeg(part: Part) -> tuple[int, int] | None:
    """(frames, bytes) that the first frame of an MP3 says it has; None without such a frame."""
    part.seek(0)
    first = part.read(FIRST_FRAME_BYTES)
    if found := XING.search(first):
        return int.from_bytes(found[1], "big"), int.from_bytes(found[2], "big")
    if found := VBRI.search(first):
        return int.from_bytes(found[2], "big"), int.from_bytes(found[1], "big")
    return None


def of_avi(part: Part, number: int) -> float:
    """Seconds that an AVI promises of one of its audio streams, which FFmpeg fits to its size.

    0 where it was not finished: then its lengths are placeholders.
    """
    part.seek(0)
    head = part.read(SCAN_BYTES)
    told = [struct.unpack("<II4xI", found) for found in AUDIO_OF_AVI.findall(head)]
    if number >= len(told) or not 0 < int.from_bytes(head[4:8], "little") < UNKNOWN:
        return 0.0
    scale, rate, length = told[number]
    return length * scale / max(1, rate)


def is_torn_ogg(part: Part) -> bool:
    """Whether an Ogg file ends inside of a page."""
    part.seek(max(0, part.size - PAGE_BYTES))
    tail = part.read()
    page = tail[tail.rfind(b"OggS\0") :]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return page.startswith(b"OggS") and len(page) < 27 + len(segments) + sum(segments)


def is_fragmented(part: Part) -> bool:
    """Whether an MP4 consists of fragments, whose number its head does not tell."""
    part.seek(0)
    return bool(FRAGMENTS.search(part.read(SCAN_BYTES)))


def behind_boxes(part: Part, end: int) -> int:
    """Where the boxes of an MP4 end that begin at byte `end`, as those of its index do."""
    while True:
        part.seek(end)
        size, name = struct.unpack(">I4s", part.read(8).ljust(8, b"\0"))
        if name not in BOXES or size < 8:
            return end
        end += size


def _end(part: Part, form: str, position: int) -> int:
    """Where the chunks behind the samples end."""
    for name, size, start in _chunks(part, form, position):
        text = name.isascii() and name.decode().isprintable()
        if not text or name == b"data" or start + size > part.size:
            break
        position = start + size
    return min(position, part.size)


def _chunks(part: Part, form: str, position: int) -> Iterator[tuple[bytes, int, int]]:
    """(first four bytes of the name, size, start of the content) of each chunk."""
    _, layout, multiple, _ = FORMS[form]
    head = struct.calcsize(layout)
    position += -position % multiple
    while position + head < part.size:
        part.seek(position)
        name, size = struct.unpack(layout, part.read(head))
        size -= head if form == "w64" else 0
        yield name[:4], size, position + head
        position += head + max(0, size) + -max(0, size) % multiple
