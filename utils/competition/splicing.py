"""TODO competition.splicing."""

import json

import numpy as np

from utils import parallel
from utils.audio import dsp
from utils.competition.plans import Plan
from utils.competition.selection import MAX_S, SEED, Clip


def splice(
    parts: list[np.ndarray], seconds: float = MAX_S
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Join clips at 8 kHz with one level and 10 ms cross-fades; the same seams whatever the parts are.

    Returns (wave of at most `seconds`, where each part lies as (start, end) in s; parts beyond the cut are left out).
    """
    fade = int(0.01 * dsp.RATE)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    result, places = np.zeros(0, np.float32), []
    for part in parts:
        part = part * 10 ** ((-24 - dsp.dbfs(part)) / 20)
        start = max(0, len(result) - fade)
        if len(result):
            result[-fade:] = result[-fade:] * (1 - ramp) + part[:fade] * ramp
            part = part[fade:]
        result = np.concatenate([result, part])
        places.append((start / dsp.RATE, len(result) / dsp.RATE))
    return result[: int(seconds * dsp.RATE)], [
        (a, min(b, seconds)) for a, b in places if a < seconds
    ]


def make_splices(
    split: str, plan: Plan, bonafide: dict, spoof: dict, skipped: list
) -> tuple[dict[Clip, tuple[np.ndarray, int]], dict]:
    """Clips of two or three parts; label 0 if any part is fake. In training all parts share a group, so folds hold.

    Returns ({clip: (wave, rate)}, {clip id: [(start, end) of each fake part in s]}); a shortfall is appended to `skipped`.
    """
    rng = parallel.seeded_rng(SEED, split, "splices")
    at_8k = lambda wave_rate: dsp.trim(dsp.resample(*wave_rate, dsp.RATE))  # noqa: E731
    pool = sorted(bonafide, key=lambda c: c.id)
    originals = {c.id for c in pool}
    forged = sorted(
        (c for c in spoof if split == "test" or c.made_from in originals), key=lambda c: c.id
    )
    mates_of: dict[str, list[Clip]] = {}
    spoofs_of: dict[str, list[Clip]] = {}
    for clips, table in ((pool, mates_of), (forged, spoofs_of)):
        for clip in clips:
            table.setdefault("" if split == "test" else clip.group, []).append(clip)
    result, spans = {}, {}
    for with_spoof, count in zip((False, True), plan.splices, strict=True):
        for _ in range(100 * count):  # not every draw fits
            if not count:
                break
            first = pool[rng.integers(len(pool))]
            key = "" if split == "test" else first.group
            mates = [c for c in mates_of[key] if c != first]
            spoofs = [c for c in spoofs_of.get(key, []) if c.made_from != first.id]
            if len(mates) < 2 or not spoofs:
                continue
            parts = [first, mates[rng.integers(len(mates))]]
            parts += [mates[rng.integers(len(mates))]] if rng.random() < 0.3 else []
            if with_spoof:
                parts[rng.integers(len(parts))] = spoofs[rng.integers(len(spoofs))]
            order = [parts[i] for i in rng.permutation(len(parts))]
            languages = "+".join(sorted({c.language for c in order}))
            systems = sorted({c.system for c in order if c.label == 0})
            clip = Clip(
                split,
                int(not systems),
                "+".join(["splice", *systems]) if systems else "bonafide",
                "splice" if systems else "bonafide",
                languages,
                first.speaker,
                first.group,
                "splice",
                "; ".join(sorted({c.licence for c in order})),
                " ".join(c.id for c in order),
            )
            wave, places = splice(
                [at_8k(bonafide[c] if c in bonafide else spoof[c]) for c in order]
            )
            if clip in result or len(places) < len(order) or places[-1][1] - places[-1][0] < 0.5:
                continue  # known, or a part fell to the cut at 15 s: its label would not be true
            result[clip] = wave, dsp.RATE
            spans[clip.id] = [place for c, place in zip(order, places, strict=True) if c.label == 0]
            count -= 1
        if count:
            skipped.append(
                (
                    "splice",
                    f"{split}, {'with a fake part' if with_spoof else 'all real'}",
                    f"{count} too few parts",
                )
            )
    return result, spans


def spans_after(spans: list[tuple[float, float]], raw: np.ndarray, seconds: float) -> str:
    """Spans of the raw clip as JSON [[start, end], …] in the trimmed one, `seconds` long; "" if there are none."""
    lead = dsp.loud_part(raw).start / dsp.RATE
    inside = [
        [round(max(0.0, start - lead), 3), round(min(seconds, end - lead), 3)]
        for start, end in spans
    ]
    return json.dumps(inside) if inside else ""


def add_background(
    wave: np.ndarray, babble: list[np.ndarray], music: list[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    """Mix in babble (three other speakers) or hold music, 6–15 dB under the speech, alike for both classes."""
    if music and rng.random() < 0.5:
        track = music[rng.integers(len(music))]
        start = rng.integers(max(1, len(track) - len(wave)))
        return dsp.add_noise(wave, track[start : start + len(wave)], rng.uniform(6, 15)), "music"
    voices = [np.resize(babble[i], len(wave)) for i in rng.choice(len(babble), 3, replace=False)]
    return dsp.add_noise(wave, np.sum(voices, axis=0), rng.uniform(6, 15)), "babble"
