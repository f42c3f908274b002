"""gnuspeech (articulatory synthesis), compiled to WebAssembly by the echogarden project: a program that sees no file, no clock and
no network but what is answered below. Its imports are those of emscripten, which minification named a to q.
"""

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

ENOENT, CREATE = -44, 0o100
CONFIG, OUT = "/data/en/trm_control_model.txt", "/out.wav"


def load_gnuspeech(seed: int):
    """gnuspeech. Voices male, female, large_child, small_child, baby. Output 44.1 kHz."""
    import wasmtime

    package = (
        registry.fetch(["@echogarden/gnuspeech-wasm"])["@echogarden/gnuspeech-wasm"] / "package"
    )
    store = wasmtime.Store()
    module = wasmtime.Module.from_file(store.engine, str(package / "wasm" / "gnuspeech.wasm"))

    def start():
        """A fresh instance: (its exports, its files by name)."""
        files, opened = {}, {}  # name → bytes; descriptor → [name, position]

        def read(at: int, length: int) -> bytes:
            return bytes(exports["r"].read(store, at, at + length))

        def write(at: int, data: bytes) -> int:
            exports["r"].write(store, data, at)
            return 0

        def text(at: int) -> str:
            return next(
                read(at, n).split(b"\0")[0].decode()
                for n in range(64, 8192, 64)
                if b"\0" in read(at, n)
            )

        def buffers(vector: int, count: int) -> list[tuple[int, int]]:
            return [struct.unpack("<II", read(vector + 8 * i, 8)) for i in range(count)]

        def embedded(at: int) -> None:
            while (entry := struct.unpack("<Iii", read(at, 12)))[0]:
                files[text(entry[0])] = read(entry[2], entry[1])
                at += 12

        def open_at(_folder, name, flags, _mode) -> int:
            if text(name) not in files and not flags & CREATE:
                return ENOENT
            files.setdefault(text(name), b"")
            opened[3 + len(opened)] = [text(name), 0]
            return 2 + len(opened)

        def read_file(descriptor, vector, count, result) -> int:
            file, total = opened[descriptor], 0
            for at, length in buffers(vector, count):
                data = files[file[0]][file[1] : file[1] + length]
                write(at, data)
                file[1], total = file[1] + len(data), total + len(data)
            return write(result, struct.pack("<I", total))

        def write_file(descriptor, vector, count, result) -> int:
            data = b"".join(read(at, length) for at, length in buffers(vector, count))
            if descriptor in opened:  # else what it prints
                name, at = opened[descriptor]
                files[name] = files[name][:at] + data + files[name][at + len(data) :]
                opened[descriptor][1] = at + len(data)
            return write(result, struct.pack("<I", len(data)))

        def seek(descriptor, low, _high, whence, result) -> int:
            file = opened[descriptor]
            file[1] = (0, file[1], len(files[file[0]]))[whence] + low
            return write(result, struct.pack("<q", file[1]))

        def grow(size: int) -> int:
            exports["r"].grow(store, -(-(size - exports["r"].data_len(store)) // 65536))
            return 1

        def failed(*_):
            raise RuntimeError("gnuspeech: gave up on the line")

        nothing, zero = (lambda *_: None), (lambda *_: 0)
        answers = {
            "a": failed,
            "b": failed,
            "c": zero,
            "d": write_file,
            "e": zero,
            "f": read_file,
            "g": zero,
            "h": open_at,
            "i": lambda to, at, length: nothing(write(to, read(at, length))),
            "j": embedded,
            "k": seek,
            "l": lambda at, length: write(at, bytes(length)),
            "m": nothing,
            "n": zero,
            "o": lambda count, size: write(count, bytes(4)) or write(size, bytes(4)),
            "p": failed,
            "q": grow,
        }
        exports = wasmtime.Instance(
            store, module, [wasmtime.Func(store, i.type, answers[i.name]) for i in module.imports]
        ).exports(store)
        exports["s"](store)  # constructors
        return exports, files

    def make(line: Line):
        exports, files = start()

        def pointer(text: str) -> int:
            at = exports["v"](store, len(text.encode()) + 1)  # malloc
            exports["r"].write(store, text.encode() + b"\0", at)
            return at

        files[CONFIG] = files[CONFIG].replace(
            b"voice_name = male", f"voice_name = {line.voice}".encode()
        )
        exports["w"](
            store,
            pointer(line.text),
            pointer(OUT),
            pointer("/data/en"),
            pointer("/parameters.txt"),
            0,
        )
        return sf.read(io.BytesIO(files[OUT]), dtype="float32")

    return make


def load_hibari(seed: int):
    """hibari: a small English model distilled from Kokoro's voice af_heart. Output 24 kHz."""
    from hibari import Hibari

    speak = Hibari()
    return lambda line: (np.asarray(speak(line.text, seed=seed), np.float32), 24000)


def load_open_jtalk(seed: int):
    """Open JTalk: HMM-based synthesis of Japanese (HTS). Output 48 kHz."""
    import pyopenjtalk

    def make(line: Line):
        wave, rate = pyopenjtalk.tts(line.text)
        return (wave / 32768).astype(np.float32), rate

    return make


def load_flite(seed: int):
    """Flite through its C library: voices kal, kal16 (diphones), awb, rms, slt (clustergen). Output 8 or 16 kHz."""
    import ctypes

    class Wave(ctypes.Structure):
        _fields_ = [
            ("type", ctypes.c_char_p),
            ("rate", ctypes.c_int),
            ("samples", ctypes.c_int),
            ("channels", ctypes.c_int),
            ("data", ctypes.POINTER(ctypes.c_short)),
        ]

    (folder,) = {
        p.parent for p in registry.fetch(["libflite1"])["libflite1"].rglob("libflite.so.*")
    }
    library = {
        part: ctypes.CDLL(str(folder / f"libflite{part}.so.2.2"), mode=ctypes.RTLD_GLOBAL)
        for part in (
            "",
            "_usenglish",
            "_cmulex",
            *(f"_cmu_us_{v}" for v in ("kal", "kal16", "awb", "rms", "slt")),
        )
    }
    library[""].flite_init()
    speak = library[""].flite_text_to_wave
    speak.restype, speak.argtypes = ctypes.POINTER(Wave), [ctypes.c_char_p, ctypes.c_void_p]

    def make(line: Line):
        register = getattr(library[f"_cmu_us_{line.voice}"], f"register_cmu_us_{line.voice}")
        register.restype, register.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
        wave = speak(line.text.encode("ascii", "ignore"), register(None))
        samples = (
            np.ctypeslib.as_array(wave.contents.data, (wave.contents.samples,)).astype(np.float32)
            / 32768
        )
        rate = wave.contents.rate
        library[""].delete_wave(wave)
        return samples, rate

    return make


def load_festival(seed: int):
    """Festival with the voices that Debian packs: diphones, HTS, and units of festvox-ru. Output 11–44 kHz.

    Its European voices read ISO 8859 and spell UTF-8 out, byte by byte; the Czech ones look for their files in /usr/share.
    """
    encodings = {"it": "iso8859-1", "fi": "iso8859-1", "ca": "iso8859-1", "cs": "iso8859-2"}
    root = Path("/") if shutil.which("festival") else registry.program("festival")
    libraries = sorted(
        {str(p.parent) for p in root.glob("usr/lib/*-linux-gnu/**/*.so*")}
        if root != Path("/")
        else []
    )
    environment = os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(libraries)}
    data = str(root / "usr/share/festival")

    def make(line: Line):
        text = line.text.replace("\\", " ").replace('"', " ")
        with tempfile.TemporaryDirectory() as folder:
            script, out = Path(folder) / "say.scm", Path(folder) / "out.wav"
            name = line.voice.removeprefix("czech_")
            script.write_text(
                f'(set! czech-{name}-unisyn-index "{data}/voices/czech/czech_{name}/group/{name}.group")\n'
                f'(voice_{line.voice})\n(utt.save.wave (utt.synth (Utterance Text "{text}")) "{out}" \'riff)\n',
                encodings.get(line.language, "utf-8"),
                "ignore",
            )
            done = subprocess.run(
                [
                    str(root / "usr/bin/festival"),
                    "--datadir",
                    data,
                    "--libdir",
                    data,
                    "-b",
                    str(script),
                ],
                cwd=data,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=120,
            )
            if not out.exists():
                reason = done.stderr.replace(
                    folder, ""
                ).strip()  # the folder has another name each time
                raise ValueError(f"festival, {line.voice}: no sound for {text!r}: {reason[-200:]}")
            return sf.read(out, dtype="float32")

    return make
