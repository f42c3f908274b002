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
from utils.sources.speech import lengths
from utils.sources.speech.own_lines import OWN_LINES
from utils.synthesis import base, systems

SEED = 2024
MIN_S, MAX_S = 1.0, 20.0  # the finalist cuts at 15 s, so some clips must be longer
# A clip gets parts until it lasts as long as a number drawn from a log-normal distribution. The
# last part makes it longer, so that the mean is 7 to 8 s, and one in twenty lasts over 15 s.
MEDIAN_S, SPREAD = 5.0, 0.55
JOIN = " + "  # between the keys of recordings that are joined
SPARE = 5  # times the recordings that a plan wants are read, to join some
JOINED_S = 18.0  # recordings of one speaker are joined up to this length
LETTERS = {"en": 14, "zh": 4.5}  # a second, roughly; those of English stand for all others
# Clips per synthesis job: a kill costs seconds only, and opening a model still pays.
JOB_CLIPS = 12


@dataclass(frozen=True)
class Clip:
    """What is known of one clip; the hash of it all is its name.

    label: 1 bona fide, 0 spoof. system: its synthesiser, or "bonafide"; family: of that system.
    group: clips that must stay on one side of a split. source: of the real speech, or the
    synthesiser. made_from: key of a recording or of several that are joined, id of the original of
    a vocoded clip, text of a TTS clip, or the ids of a splice's parts.
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


class TooFewError(ValueError):
    """A source has fewer usable recordings than a plan wants."""


def drawn_s(rng: np.random.Generator) -> float:
    """The length that a clip is made for, in s, alike for both classes."""
    return min(rng.lognormal(np.log(MEDIAN_S), SPREAD), JOINED_S)


def choose_bonafide(
    split: str, plan: Plan, skipped: list, without: frozenset[tuple[str, str]] = frozenset()
) -> dict[Clip, tuple[np.ndarray, int]]:
    """The plan's bona fide clips: {clip: (wave float32 (samples,) as recorded, rate in Hz)}.

    After trimming, each recording would be `plan.seconds` long; none occurs twice. Where a speaker
    has more recordings than wanted, some are joined to longer clips (`_joined`). Those `without`,
    as (source, key), are passed over. What is skipped is appended to `skipped` as (source, key,
    reason). Raises TooFewError if a source has too few.
    """
    chosen: dict[Clip, tuple[np.ndarray, int]] = {}
    seen: set[bytes] = set()
    read_source, recordings = "", []
    for source, group, wanted in parallel.progress(
        plan.bonafide, f"read {split}", unit="source", disable=len(plan.bonafide) < 25
    ):
        if source != read_source:
            read_source, recordings = source, real_speech.recordings(source, SEED)
        own = [
            recording
            for recording in recordings
            if group in (None, recording.group) and (source, recording.key) not in without
        ]
        usable = _usable_of(own, plan.seconds, seen, wanted and SPARE * wanted, skipped)
        if wanted and len(usable) < wanted:
            found = f"only {len(usable)} of {wanted} usable clips"
            raise TooFewError(f"{source} {group or ''}: {found}")
        rng = parallel.seeded_rng(SEED, split, source, group or "")
        for parts in _joined(usable, wanted or len(usable), rng):
            recording = parts[0][0]
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
                made_from=JOIN.join(recording.key for recording, *_ in parts),
            )
            chosen[clip] = lengths.in_a_row([(wave, rate) for _, wave, rate in parts])
    return chosen


Read = tuple[real_speech.Recording, np.ndarray, int]  # with its wave and rate in Hz


def _usable_of(
    recordings: list, seconds: tuple[float, float], seen: set[bytes], most: int | None, skipped
) -> list[Read]:
    """The first `most` usable ones of these recordings (None: all), read."""
    usable: list[Read] = []
    for recording in recordings:
        if len(usable) == most:
            break
        try:
            usable.append((recording, *_usable(recording, seconds, seen)))
        except (ValueError, RuntimeError) as error:  # AudioError is a ValueError
            skipped.append((recording.source, recording.key, str(error)))
    return usable


def _joined(usable: list[Read], wanted: int, rng: np.random.Generator) -> list[list[Read]]:
    """`wanted` lists of recordings, each of one speaker and about as long as a length drawn.

    A list has more than one recording only while enough are left for those that follow.
    """
    left, spare, result = dict(enumerate(usable)), len(usable) - wanted, []
    for _ in range(wanted):
        parts, target = [left.pop(min(left))], drawn_s(rng)
        length = len(parts[0][1]) / parts[0][2]
        for number, (recording, wave, rate) in list(left.items()):
            if not spare or length >= target:
                break
            fits = length + len(wave) / rate <= JOINED_S
            if fits and recording.speaker == parts[0][0].speaker:
                parts.append(left.pop(number))
                length, spare = length + len(wave) / rate, spare - 1
        result.append(parts)
    return result


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
        letters, text = drawn_s(rng) * LETTERS.get(language, LETTERS["en"]), ""
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
