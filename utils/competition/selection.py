"""TODO competition.selection."""

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
MIN_S, MAX_S = 1.0, 15.0  # competition.md: 1.2–9.3 s seen; the deck cuts at 15 s
CHUNK = 12  # clips a synthesis job: small enough that a kill costs seconds, large enough to pay for opening a model


# Lines of our own, where no package of a plan holds text: Marathi, Telugu, and for the test's Mandarin (any voice may say them)
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
    """One row of the truth about a clip. `made_from` names the original's id (copies) or the parts (splices)."""

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
        return hashlib.md5(f"{SEED}/{asdict(self)}".encode()).hexdigest() + ".wav"


def choose_bonafide(split: str, plan: Plan, skipped: list) -> dict[Clip, tuple[np.ndarray, int]]:
    """The plan's real clips with their waves at native rate, `plan.seconds` long after trimming, none twice.

    What is passed over is appended to `skipped` as (source, key, reason). Raises ValueError if a source runs dry.
    """
    chosen, seen, (shortest, longest) = {}, set(), plan.seconds
    for source, group, wanted in parallel.progress(
        plan.bonafide, f"read {split}", unit="source", disable=len(plan.bonafide) < 25
    ):
        entry, found = real_speech.SOURCES[source], 0
        for recording in real_speech.recordings(source, SEED):
            if found == wanted:
                break
            if group and recording.group != group:
                continue
            try:
                wave, rate = recording.load()
                dsp.check_wave(wave, recording.key, rate)
                seconds = len(dsp.trim(dsp.resample(wave, rate, dsp.RATE))) / dsp.RATE
                digest = hashlib.md5(wave.tobytes()).digest()
                if digest in seen or not shortest <= seconds <= longest:
                    skipped.append(
                        (
                            source,
                            recording.key,
                            "a copy of another clip"
                            if digest in seen
                            else f"{seconds:.2f} s of speech, wanted {shortest}–{longest} s",
                        )
                    )
                    continue
            except (ValueError, RuntimeError) as error:  # AudioError is a ValueError
                skipped.append((source, recording.key, str(error)))
                continue
            seen.add(digest)
            clip = Clip(
                split,
                1,
                "bonafide",
                "bonafide",
                recording.language,
                recording.speaker,
                tied(recording.group, plan),
                source,
                entry.licence,
                recording.key,
            )
            chosen[clip], found = (wave, rate), found + 1
        if wanted and found < wanted:
            raise ValueError(f"{source} {group or ''}: only {found} of {wanted} usable clips")
    return chosen


def tied(group: str, plan: Plan) -> str:
    """The group that `group` joins by `plan.ties`, or itself."""
    return next((other for pattern, other in plan.ties if fnmatch.fnmatch(group, pattern)), group)


def spoof_jobs(
    split: str, plan: Plan, bonafide: dict
) -> list[tuple[str, list[tuple[Clip, object]]]]:
    """Synthesis jobs: (system, [(clip to be, item for `System.load(...)`)]), in chunks of `CHUNK`."""
    work: dict[tuple, list] = {}
    by_language: dict[str, list[Clip]] = {}
    for clip in sorted(bonafide, key=lambda c: c.id):
        by_language.setdefault(clip.language, []).append(clip)
    for system, count in plan.copy:
        entry = systems.SYSTEMS[system]
        for language, originals in sorted(by_language.items()):
            order = parallel.seeded_rng(SEED, split, system, language).permutation(len(originals))
            for original in (originals[i] for i in order[:count]):
                clip = Clip(
                    split,
                    0,
                    system,
                    entry.family,
                    language,
                    original.speaker,
                    original.group,
                    original.source,
                    f"{original.licence}; {entry.licence}",
                    original.id,
                )
                work.setdefault((system, ""), []).append((clip, bonafide[original]))
    for system, language, voice, count in plan.tts:
        entry = systems.SYSTEMS[system]
        if language in OWN_LINES and not (language == "zh" and split == "train"):
            lines = list(OWN_LINES[language])
        else:
            lines = real_speech.sentences(language)
            half = len(lines) // 2  # training and test never share a sentence
            lines = lines[:half] if split == "train" else lines[half:]
        order = parallel.seeded_rng(SEED, split, system, language, voice).permutation(len(lines))
        for i in range(count):
            said, who = (
                lines[order[i % len(lines)]],
                voice if voice != "*" else str(1 + i // len(lines) * 5),
            )
            speaker = f"{system}-{who}"
            clip = Clip(
                split,
                0,
                system,
                entry.family,
                language,
                speaker,
                tied(speaker, plan),
                system,
                entry.licence,
                said,
            )
            work.setdefault((system, voice), []).append((clip, base.Line(said, language, who)))
    return [
        (system, items[i : i + CHUNK])
        for (system, _), items in work.items()
        for i in range(0, len(items), CHUNK)
    ]
