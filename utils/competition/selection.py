"""Which clips a plan takes: bona fide recordings, and the jobs that synthesise the spoofed ones."""

import fnmatch
import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from utils import parallel
from utils.audio import dsp
from utils.competition.plans import Plan
from utils.sources import real_speech
from utils.synthesis import base, systems

SEED = 2024
MIN_S, MAX_S = 1.0, 15.0  # the competition's clips last 1.2 to 9.3 s; the finalist cuts at 15 s
SPOKEN_S = (0.5, 4.5)  # a clip of text-to-speech has as many lines as it takes to last so long
LETTERS = {"en": 14, "zh": 4.5}  # a second, roughly; those of English stand for all others
# Clips per synthesis job: a kill costs seconds only, and opening a model still pays.
JOB_CLIPS = 12

# Lines of our own where no package of a plan holds text: Marathi, Telugu, and Mandarin for the test
# (any voice may say these).
OWN_LINES = {
    "zh": (
        "今天天气很好，我们去公园散步。",
        "请在听到提示音以后留言。",
        "这本书是我昨天在书店买的。",
        "他每天早上六点起床跑步。",
        "火车将在十分钟以后到站。",
        "你能帮我打开窗户吗？",
        "我们下个星期要去北京出差。",
        "这道菜的味道非常特别。",
        "孩子们在院子里高兴地唱歌。",
        "您拨打的电话暂时无法接通。",
        "医生让他多喝水，早点休息。",
        "这座桥是一百年前修建的。",
        "晚上八点我们在门口见面。",
        "她的声音听起来很熟悉。",
        "请把这份文件交给经理。",
    ),
    "mr": (
        "आज हवामान खूप छान आहे, आपण बागेत फिरायला जाऊ.",
        "कृपया आवाज ऐकल्यानंतर निरोप ठेवा.",
        "हे पुस्तक मी काल दुकानातून विकत घेतले.",
        "तो रोज सकाळी सहा वाजता उठून धावायला जातो.",
        "गाडी दहा मिनिटांत स्थानकावर पोहोचेल.",
        "तुम्ही माझ्यासाठी खिडकी उघडाल का?",
        "पुढच्या आठवड्यात आम्हाला पुण्याला जायचे आहे.",
        "या भाजीची चव फारच वेगळी आहे.",
        "मुले अंगणात आनंदाने गाणी म्हणत आहेत.",
        "डॉक्टरांनी त्याला भरपूर पाणी प्यायला सांगितले.",
        "हा पूल शंभर वर्षांपूर्वी बांधला होता.",
        "रात्री आठ वाजता आपण दारात भेटू.",
    ),
    "te": (
        "ఈ రోజు వాతావరణం చాలా బాగుంది, మనం తోటకు వెళ్దాం.",
        "దయచేసి శబ్దం విన్న తర్వాత సందేశం ఇవ్వండి.",
        "ఈ పుస్తకం నేను నిన్న దుకాణంలో కొన్నాను.",
        "అతను రోజూ ఉదయం ఆరు గంటలకు లేచి పరిగెడతాడు.",
        "రైలు పది నిమిషాల్లో స్టేషన్‌కు చేరుతుంది.",
        "నా కోసం కిటికీ తెరుస్తారా?",
        "వచ్చే వారం మేము హైదరాబాదుకు వెళ్ళాలి.",
        "ఈ కూర రుచి చాలా ప్రత్యేకంగా ఉంది.",
        "పిల్లలు ఆవరణలో ఆనందంగా పాడుతున్నారు.",
        "డాక్టర్ అతన్ని ఎక్కువ నీళ్ళు తాగమన్నారు.",
        "ఈ వంతెన వంద సంవత్సరాల క్రితం కట్టారు.",
        "రాత్రి ఎనిమిది గంటలకు తలుపు దగ్గర కలుద్దాం.",
    ),
}


@dataclass(frozen=True)
class Clip:
    """What is known of one clip; the hash of it all is its name.

    label: 1 bona fide, 0 spoof. system: its synthesiser, or "bonafide"; family: of that system.
    group: clips that must stay on one side of a split. source: of the real speech, or the
    synthesiser. made_from: key of a recording, id of the original of a vocoded clip, text of a TTS
    clip, or the ids of a splice's parts.
    """

    split: str
    label: int
    system: str
    family: str
    language: str
    speaker: str
    group: str
    source: str
    licence: str
    made_from: str

    @cached_property
    def id(self) -> str:
        """File name: 32 hexadecimal digits and `.wav`."""
        return hashlib.md5(f"{SEED}/{asdict(self)}".encode()).hexdigest() + ".wav"


def choose_bonafide(split: str, plan: Plan, skipped: list) -> dict[Clip, tuple[np.ndarray, int]]:
    """The plan's bona fide clips: {clip: (wave float32 (samples,) as recorded, rate in Hz)}.

    After trimming they would be `plan.seconds` long; none occurs twice. What is skipped is appended
    to `skipped` as (source, key, reason). Raises ValueError if a source has too few clips.
    """
    chosen: dict[Clip, tuple[np.ndarray, int]] = {}
    seen: set[bytes] = set()
    read_source, recordings = "", []
    for source, group, wanted in parallel.progress(
        plan.bonafide, f"read {split}", unit="source", disable=len(plan.bonafide) < 25
    ):
        count = 0
        if source != read_source:
            read_source, recordings = source, real_speech.recordings(source, SEED)
        for recording in recordings:
            if count == wanted:
                break
            if group and recording.group != group:
                continue
            try:
                wave, rate = _usable(recording, plan.seconds, seen)
            except (ValueError, RuntimeError) as error:  # AudioError is a ValueError
                skipped.append((source, recording.key, str(error)))
                continue
            clip = Clip(
                split=split,
                label=1,
                system="bonafide",
                family="bonafide",
                language=recording.language,
                speaker=recording.speaker,
                group=tied(recording.group, plan),
                source=source,
                licence=real_speech.SOURCES[source].licence,
                made_from=recording.key,
            )
            chosen[clip] = wave, rate
            count += 1
        if wanted and count < wanted:
            raise ValueError(f"{source} {group or ''}: only {count} of {wanted} usable clips")
    return chosen


def _usable(
    recording: real_speech.Recording, seconds: tuple[float, float], seen: set[bytes]
) -> tuple[np.ndarray, int]:
    """(wave, rate) of a recording, whose samples are added to `seen`.

    Raises ValueError if it cannot be read, is silent, duplicates one in `seen`, or is too short or
    too long.
    """
    wave, rate = recording.load()
    dsp.check_wave(wave, recording.key, rate)
    speech_s = len(dsp.trim(dsp.resample(wave, rate, dsp.RATE))) / dsp.RATE
    digest = hashlib.md5(wave.tobytes()).digest()
    if digest in seen:
        raise ValueError("a duplicate of another clip")
    shortest, longest = seconds
    if not shortest <= speech_s <= longest:
        raise ValueError(f"{speech_s:.2f} s of speech, wanted {shortest}–{longest} s")
    seen.add(digest)
    return wave, rate


def tied(group: str, plan: Plan) -> str:
    """The group that `group` joins by `plan.ties`, or itself."""
    for pattern, joined in plan.ties:
        if fnmatch.fnmatch(group, pattern):
            return joined
    return group


def spoof_jobs(
    split: str, plan: Plan, bonafide: dict
) -> list[tuple[str, list[tuple[Clip, object]]]]:
    """Synthesis jobs of at most `JOB_CLIPS` clips: (system, [(clip to be, item for its maker)])."""
    work: dict[str, list] = {}  # system → clips and items
    for system, language, count in plan.vocoded:
        made = _vocoded(split, system, language, count, bonafide)
        work.setdefault(system, []).extend(made)
    for system, language, voice, count in plan.tts:
        lines = _spoken(split, plan, system, language, voice, count)
        work.setdefault(system, []).extend(lines)
    return [
        (system, items[start : start + JOB_CLIPS])
        for system, items in work.items()
        for start in range(0, len(items), JOB_CLIPS)
    ]


def _vocoded(
    split: str, system: str, wanted: str, count: int, bonafide: dict
) -> list[tuple[Clip, tuple]]:
    """Clips that `system` makes of at most `count` bona fide clips of the language `wanted`.

    "*" stands for each language. The clips are random ones, of all groups alike.
    """
    entry = systems.SYSTEMS[system]
    by_language: dict[str, list[Clip]] = {}
    for clip in sorted(bonafide, key=lambda clip: clip.id):
        if wanted in ("*", clip.language):
            by_language.setdefault(clip.language, []).append(clip)
    work = []
    for language, originals in sorted(by_language.items()):
        order = parallel.seeded_rng(SEED, split, system, language).permutation(len(originals))
        for original in _in_turns([originals[number] for number in order])[:count]:
            clip = Clip(
                split=split,
                label=0,
                system=system,
                family=entry.family,
                language=language,
                speaker=original.speaker,
                group=original.group,
                source=original.source,
                licence=f"{original.licence}; {entry.licence}",
                made_from=original.id,
            )
            work.append((clip, bonafide[original]))
    return work


def _in_turns(clips: list[Clip]) -> list[Clip]:
    """The clips in an order in which every group has its turn before one has its next."""
    turn: dict[str, int] = {}
    ranks = {}
    for clip in clips:
        ranks[clip] = turn[clip.group] = turn.get(clip.group, -1) + 1
    return sorted(clips, key=ranks.__getitem__)


def _spoken(
    split: str, plan: Plan, system: str, language: str, voice: str, count: int
) -> list[tuple[Clip, base.Line]]:
    """`count` clips of one or more lines that `voice` says; "*" stands for numbered voices."""
    entry, lines = systems.SYSTEMS[system], _lines(split, language)
    rng = parallel.seeded_rng(SEED, split, system, language, voice)
    order = [lines[number] for number in rng.permutation(len(lines))]
    work, said = [], 0
    for _ in range(count):
        # once all lines are said, the fifth voice after the last one says them again
        name = str(1 + said // len(lines) * 5) if voice == "*" else voice
        letters, text = rng.uniform(*SPOKEN_S) * LETTERS.get(language, LETTERS["en"]), ""
        while len(text) < letters:
            text, said = f"{text} {order[said % len(lines)]}".strip(), said + 1
        speaker = f"{system}-{name}"
        clip = Clip(
            split=split,
            label=0,
            system=system,
            family=entry.family,
            language=language,
            speaker=speaker,
            group=tied(speaker, plan),
            source=system,
            licence=entry.licence,
            made_from=text,
        )
        work.append((clip, base.Line(text, language, name)))
    return work


def _lines(split: str, language: str) -> list[str]:
    """Sentences for a split. Those of packages are halved: training and test share none."""
    if language in OWN_LINES and not (language == "zh" and split == "train"):
        return list(OWN_LINES[language])
    lines = real_speech.sentences(language)
    half = len(lines) // 2
    return lines[:half] if split == "train" else lines[half:]
