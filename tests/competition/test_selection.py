"""Which clips are synthesised: of which language, how many lines, by how many voices."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from utils.competition import plans, selection


@pytest.fixture
def lines(monkeypatch):
    """The sentences of every language: 40 of 40 letters."""
    found = [f"line {number:02d} ".ljust(39, "x") + "." for number in range(40)]
    monkeypatch.setattr(selection.real_speech, "sentences", lambda language: found)
    return found


def bonafide_of(*languages):
    return {
        selection.Clip("train", 1, "bonafide", "bonafide", code, "s", "g", "src", "l", f"{n}"): (
            np.zeros(8),
            8000,
        )
        for n, code in enumerate(languages)
    }


def plan_of(vocoded=(), tts=()):
    return plans.Plan((), vocoded, tts, (0, 0), 0, ("pcm",))


def clips_of(jobs):
    return [clip for _, items in jobs for clip, _ in items]


def test_clips_are_vocoded_in_one_language_or_in_each():
    bonafide = bonafide_of("en", "en", "en", "es", "es")
    one = selection.spoof_jobs("train", plan_of(vocoded=(("world", "en", 2),)), bonafide)
    each = selection.spoof_jobs("train", plan_of(vocoded=(("world", "*", 2),)), bonafide)
    assert Counter(clip.language for clip in clips_of(one)) == {"en": 2}
    assert Counter(clip.language for clip in clips_of(each)) == {"en": 2, "es": 2}


def test_every_group_is_vocoded_before_one_is_vocoded_twice():
    clips = [
        replace(clip, group="few" if number % 4 == 0 else "many", made_from=f"r{number}")
        for number, clip in enumerate(bonafide_of(*["en"] * 12))
    ]
    bonafide = dict.fromkeys(clips, (np.zeros(8), 8000))
    jobs = selection.spoof_jobs("train", plan_of(vocoded=(("world", "en", 6),)), bonafide)
    assert Counter(clip.group for clip in clips_of(jobs)) == {"few": 3, "many": 3}


def test_a_clip_of_text_to_speech_has_whole_lines_and_none_is_said_twice(lines):
    plan = plan_of(tts=(("espeak", "en", "en", 8), ("espeak", "fr", "fr", 5)))
    jobs = selection.spoof_jobs("train", plan, {})
    assert [(system, len(items)) for system, items in jobs] == [("espeak", 12), ("espeak", 1)]
    for voice in ("espeak-en", "espeak-fr"):
        texts = [clip.made_from for clip in clips_of(jobs) if clip.speaker == voice]
        said = [line for text in texts for line in text.replace(". ", ".|").split("|")]
        assert len(said) == len(set(said)) and set(said) <= set(lines[:20])
        longest = selection.SPOKEN_S[1] * selection.LETTERS["en"] + 41
        assert len({len(text) for text in texts}) > 1
        assert all(len(text) <= longest for text in texts)


def test_numbered_voices_change_when_all_lines_are_said(lines):
    plan = plan_of(tts=(("mellotron", "ru", "*", 30),))
    speakers = {clip.speaker for clip in clips_of(selection.spoof_jobs("train", plan, {}))}
    assert {"mellotron-1", "mellotron-6"} <= speakers
