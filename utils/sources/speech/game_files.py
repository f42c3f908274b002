"""Readers of the containers in which three computer games keep their speech.

Each function yields (name, read): `read()` returns the bytes of one recording. The formats are
those of the open readers in ScummVM and of the open `dernc` programs.
"""

import re
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

GAME_RATE = 11025  # Hz, of the unsigned 8-bit samples of Beneath a Steel Sky and Drascula
ALS_HEADER, SKY_HEADER = 32, 22  # bytes before the samples


def queen_dialogue(folder: Path) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """Yield (name, role, read) for the dialogue of Flight of the Amazon Queen; the bytes are MP3.

    `queen.1c` holds "QTBL", the rest of a 15-byte header that ends with the number of entries
    (big-endian, 2 bytes), then entries of 21 bytes: name (12), bundle (1), offset (4), size (4).
    `NNxxxxJd.SB` and `JOEd.SB` are Joe, the hero (role "joe"); `NNxxxxPd.SB` is the other party of
    dialogue NN (role "NN"). Raises ValueError for a file of another kind.
    """
    (path,) = folder.rglob("queen.1c")
    with path.open("rb") as file:
        header = file.read(15)
        if header[:4] != b"QTBL":
            raise ValueError(f"{path}: does not start with QTBL")
        (count,) = struct.unpack(">H", header[13:15])
        entries = [struct.unpack(">12sBII", file.read(21)) for _ in range(count)]
    for raw_name, _, offset, size in entries:
        name = raw_name.split(b"\0")[0].decode("latin1")
        match = re.fullmatch(r"(\d\d)....(J|P)\d\.SB", name)
        if match and match[2] == "P":
            role = match[1]
        elif match or re.fullmatch(r"JOE\d+\.SB", name):
            role = "joe"
        else:
            continue
        yield name, role, partial(_read_range, path, offset, size)


def steel_sky_speech(folder: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield (number, read) for the speech of Beneath a Steel Sky: samples at `GAME_RATE`.

    `sky.dnr` holds the number of entries (4 bytes), then entries of 8 bytes, all little-endian:
    number of the file (2), place in `sky.dsk` (3; the highest bit: in units of 16 bytes), size with
    flags in its two highest bits (3). Speech has the numbers 50000 to 59999: a header of 22 bytes,
    then samples, packed (see `unpack_rnc`) or not.
    """
    (index,), (disk,) = folder.rglob("sky.dnr"), folder.rglob("sky.dsk")
    table = index.read_bytes()
    count = int.from_bytes(table[:4], "little")
    for start in range(4, 4 + 8 * count, 8):
        entry = table[start : start + 8]
        number, place, size = (
            int.from_bytes(field, "little") for field in (entry[:2], entry[2:5], entry[5:])
        )
        offset = place & 0x7FFFFF
        if place >> 23:
            offset *= 16
        if 50000 <= number < 60000:
            yield str(number), partial(_read_steel_sky, disk, offset, size & 0x3FFFFF)


def drascula_speech(folder: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield (name, read) for the speech of Drascula, the `.ALS` files: samples at `GAME_RATE`."""
    for path in sorted(folder.rglob("*.ALS")):
        yield path.name, partial(_read_range, path, ALS_HEADER, None)


def _read_range(path: Path, offset: int, size: int | None) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _read_steel_sky(disk: Path, offset: int, size: int) -> bytes:
    data = _read_range(disk, offset, size)[SKY_HEADER:]
    if data[:3] == b"RNC":
        return unpack_rnc(data)
    return data


def unpack_rnc(data: bytes) -> bytes:
    """Unpack a block of Rob Northen's compression, method 1.

    A header of 18 bytes ("RNC", method, unpacked size in bytes 4 to 7, number of chunks in byte
    17), then chunks. A chunk holds three Huffman tables (lengths of literal runs, distances and
    lengths of references to earlier output) and alternates between literals and references.

    Raises ValueError for data of another kind, cut short or not of the promised size.
    """
    if data[:4] != b"RNC\x01" or len(data) < 18:
        raise ValueError("not an RNC block of method 1")
    size, chunks = int.from_bytes(data[4:8], "big"), data[17]
    reader, output = _RncReader(data), bytearray()
    reader.bits(2)  # flags for packers: locked, encrypted
    for _ in range(chunks):
        literals, distances, lengths = reader.table(), reader.table(), reader.table()
        rounds = reader.bits(16)
        for i in range(rounds):
            output += reader.literals(reader.number(literals))
            if i == rounds - 1:  # the last literals of a chunk have no reference behind them
                break
            distance, length = reader.number(distances) + 1, reader.number(lengths) + 2
            if distance > len(output) or len(output) + length > size:
                raise ValueError("RNC: a reference to data outside the block")
            for _ in range(length):  # byte by byte: a reference can include its own output
                output.append(output[-distance])
    if len(output) != size:
        raise ValueError(f"RNC: {len(output)} of {size} bytes")
    return bytes(output)


class _RncReader:
    """Reads bits, codes and literals of an RNC block in turn.

    Bits come from little-endian words of 16 bits, lowest bit first. Literals are whole bytes that
    start where the last such word ended.
    """

    def __init__(self, data: bytes):
        self.data, self.position = data, 18
        self.word, self.bits_left = 0, 0

    def bits(self, count: int) -> int:
        """The next `count` bits as a number. Raises ValueError at the end of the data."""
        value = done = 0
        while done < count:
            if not self.bits_left:
                if self.position >= len(self.data):
                    raise ValueError("RNC: cut short")
                word = self.data[self.position : self.position + 2]
                self.word, self.bits_left = int.from_bytes(word, "little"), 16
                self.position += 2
            step = min(count - done, self.bits_left)
            value |= (self.word & ((1 << step) - 1)) << done
            self.word >>= step
            self.bits_left -= step
            done += step
        return value

    def literals(self, count: int) -> bytes:
        """The next `count` bytes (fewer at the end of the data)."""
        start = self.position
        self.position += count
        return self.data[start : self.position]

    def table(self) -> dict[tuple[int, int], int]:
        """A canonical Huffman table: (length of a code in bits, code) → symbol."""
        lengths = [self.bits(4) for _ in range(self.bits(5))]
        symbols, code = {}, 0
        for length in range(1, 16):
            for symbol, symbol_length in enumerate(lengths):
                if symbol_length == length:
                    symbols[length, code] = symbol
                    code += 1
            code <<= 1
        return symbols

    def number(self, table: dict[tuple[int, int], int]) -> int:
        """A number: a symbol 0 or 1 is the number itself, a larger one its count of bits."""
        code = length = 0
        while (length, code) not in table:
            code, length = code << 1 | self.bits(1), length + 1
            if length > 15:
                raise ValueError("RNC: a code that is in no table")
        symbol = table[length, code]
        if symbol < 2:
            return symbol
        return 1 << (symbol - 1) | self.bits(symbol - 1)
