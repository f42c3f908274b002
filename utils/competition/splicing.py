"""Spliced clips and background noise: speech of several clips in one."""

import json
from collections import Counter

import numpy as np

from utils import parallel
from utils.audio import dsp
from utils.competition.plans import Plan
from utils.competition.selection import MAX_S, SEED, Clip

Span = tuple[float, float]  # (start, end) in s
FADE_S = 0.01
LEVEL_DBFS = -24
SHORTEST_PART_S = 0.5  # of the last part that the cut at MAX_S leaves
THIRD_PART = 0.3  # probability


def splice(parts: list[np.ndarray], seconds: float = MAX_S) -> tuple[np.ndarray, list[Span]]:
    """Join clips at 8 kHz, all brought to one level, with cross-fades of 10 ms.

    The seams are alike for bona fide and spoofed parts. Returns the wave, float32, cut to
    `seconds`, and the span of each part in it; parts beyond the cut have none.
    """
    fade = int(FADE_S * dsp.RATE)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    joined, spans = np.zeros(0, np.float32), []
    for part in parts:
        part = part * 10 ** ((LEVEL_DBFS - dsp.dbfs(part)) / 20)
        start = max(0, len(joined) - fade)
        if len(joined):
            joined[-fade:] = joined[-fade:] * (1 - ramp) + part[:fade] * ramp
            part = part[fade:]
        joined = np.concatenate([joined, part])
        spans.append((start / dsp.RATE, len(joined) / dsp.RATE))
    kept = [(start, min(end, seconds)) for start, end in spans if start < seconds]
    return joined[: int(seconds * dsp.RATE)], kept


def make_splices(
    split: str, plan: Plan, bonafide: dict, spoof: dict, skipped: list
) -> tuple[dict[Clip, tuple[np.ndarray, int]], dict[str, list[Span]]]:
    """Clips of two or three parts; the label is 0 if any part is spoofed.

    All parts are of one language. In training they are of one group, so that groups stay whole in
    folds; in the test any clips are joined. Returns ({clip: (wave, rate)}, {clip id: spans of its
    spoofed parts}); missing clips are appended to `skipped`.
    """
    rng = parallel.seeded_rng(SEED, split, "splices")
    chooser = _Chooser(split, bonafide, spoof, rng)
    clips_of = Counter(clip.group for clip in (*bonafide, *spoof))
    result: dict[Clip, tuple[np.ndarray, int]] = {}
    spans: dict[str, list[Span]] = {}
    for with_spoof, wanted in zip((False, True), plan.splices, strict=True):
        missing = wanted
        for _ in range(100 * wanted):  # not every random choice fits
            if not missing:
                break
            first, parts = chooser.choose(with_spoof)
            if not parts or (plan.most and clips_of[first.group] >= plan.most):
                continue
            clip = _spliced_clip(split, first, parts)
            waves = [bonafide[part] if part in bonafide else spoof[part] for part in parts]
            wave, places = splice([dsp.trim(dsp.resample(*w, dsp.RATE)) for w in waves])
            # Known already, or the cut took a part or most of it: the label might be untrue.
            shortened = len(places) < len(parts) or places[-1][1] - places[-1][0] < SHORTEST_PART_S
            if clip in result or shortened:
                continue
            result[clip] = wave, dsp.RATE
            spans[clip.id] = [
                place for part, place in zip(parts, places, strict=True) if part.label == 0
            ]
            clips_of[first.group] += 1
            missing -= 1
        if missing:
            what = "with a spoofed part" if with_spoof else "bona fide parts only"
            skipped.append(("splice", f"{split}, {what}", f"{missing} clips too few"))
    return result, spans


class _Chooser:
    """Random choice of the parts of a splice."""

    def __init__(self, split: str, bonafide: dict, spoof: dict, rng: np.random.Generator):
        self.rng = rng
        self.across_groups = split == "test"
        self.bonafide = sorted(bonafide, key=lambda clip: clip.id)
        originals = {clip.id for clip in self.bonafide}
        # In training a spoofed part is a vocoded clip: TTS has no group of bona fide clips.
        spoofs = [clip for clip in spoof if self.across_groups or clip.made_from in originals]
        self.mates = self._by_group(self.bonafide)
        self.spoofs = self._by_group(sorted(spoofs, key=lambda clip: clip.id))

    def _by_group(self, clips: list[Clip]) -> dict[tuple[str, str], list[Clip]]:
        groups: dict[tuple[str, str], list[Clip]] = {}
        for clip in clips:
            groups.setdefault(self._group(clip), []).append(clip)
        return groups

    def _group(self, clip: Clip) -> tuple[str, str]:
        """What all parts share: the language (so that it tells nothing), in training the group."""
        return "" if self.across_groups else clip.group, clip.language

    def choose(self, with_spoof: bool) -> tuple[Clip, list[Clip]]:
        """A bona fide clip whose group the splice gets, and two or three parts in random order.

        One of the parts is spoofed if `with_spoof`. There are none if the group has too few clips.
        """
        first = self._one_of(self.bonafide)
        group = self._group(first)
        mates = [clip for clip in self.mates[group] if clip != first]
        spoofs = [clip for clip in self.spoofs.get(group, []) if clip.made_from != first.id]
        if len(mates) < 2 or not spoofs:
            return first, []
        parts = [first, self._one_of(mates)]
        if self.rng.random() < THIRD_PART:
            parts.append(self._one_of(mates))
        if with_spoof:
            spoofed = self._one_of(spoofs)
            parts[self.rng.integers(len(parts))] = spoofed
        return first, [parts[number] for number in self.rng.permutation(len(parts))]

    def _one_of(self, clips: list[Clip]) -> Clip:
        return clips[self.rng.integers(len(clips))]


def _spliced_clip(split: str, first: Clip, parts: list[Clip]) -> Clip:
    """The clip that these parts make; `first` is the one that was chosen first."""
    systems = sorted({part.system for part in parts if part.label == 0})
    return Clip(
        split=split,
        label=0 if systems else 1,
        system="+".join(["splice", *systems]) if systems else "bonafide",
        family="splice" if systems else "bonafide",
        language="+".join(sorted({part.language for part in parts})),
        speaker=first.speaker,
        group=first.group,
        source="splice",
        licence="; ".join(sorted({part.licence for part in parts})),
        made_from=" ".join(part.id for part in parts),
    )


def spans_after(spans: list[Span], lead: float, seconds: float) -> str:
    """Spans of the raw clip as JSON [[start, end], …] in the cut one, or "" if there are none.

    `lead`: what was cut from the start. `seconds`: duration of the cut clip. All in s.
    """
    inside = [
        [round(max(0.0, start - lead), 3), round(min(seconds, end - lead), 3)]
        for start, end in spans
    ]
    return json.dumps(inside) if inside else ""


def add_background(
    wave: np.ndarray, babble: list[np.ndarray], music: list[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    """(wave with background, "babble" or "music"), alike for both classes; everything at 8 kHz.

    Babble is three waves of other speakers at once; music is used half of the time if there is any.
    The signal-to-noise ratio over the whole clip is 6 to 15 dB.
    """
    if music and rng.random() < 0.5:
        track = music[rng.integers(len(music))]
        start = rng.integers(max(1, len(track) - len(wave)))
        return dsp.add_noise(wave, track[start : start + len(wave)], rng.uniform(6, 15)), "music"
    voices = [np.resize(babble[i], len(wave)) for i in rng.choice(len(babble), 3, replace=False)]
    return dsp.add_noise(wave, np.sum(voices, axis=0), rng.uniform(6, 15)), "babble"
