"""Which clips are synthesised: of which language, how many lines, by how many voices."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from utils.competition import plans, selection
from utils.sources.real_speech import Recording


@pytest.fixture
def lines(monkeypatch):
    """The sentences of every language: 200 of 40 letters."""
    found = [f"line {number:03d} ".ljust(39, "x") + "." for number in range(200)]
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
        assert len(said) == len(set(said)) and set(said) <= set(lines[:100])
        longest = selection.JOINED_S * selection.LETTERS["en"] + 41
        assert len({len(text) for text in texts}) > 1
        assert all(len(text) <= longest for text in texts)


def test_numbered_voices_change_when_all_lines_are_said(lines):
    plan = plan_of(tts=(("mellotron", "ru", "*", 80),))
    speakers = {clip.speaker for clip in clips_of(selection.spoof_jobs("train", plan, {}))}
    assert {"mellotron-1", "mellotron-6"} <= speakers


def read_of(*speakers):
    """A recording of 4 s by each of these, with its wave at 8 kHz."""
    return [
        (Recording("src", f"{n}", "en", who, who, None), np.full(32000, 0.1, np.float32), 8000)
        for n, who in enumerate(speakers)
    ]


def keys_of(lists):
    return [[recording.key for recording, *_ in parts] for parts in lists]


def test_recordings_of_one_speaker_are_joined_while_enough_are_left():
    rng = np.random.default_rng(0)
    keys = keys_of(selection._joined(read_of(*["a"] * 40), 10, rng))
    used = [key for parts in keys for key in parts]
    assert len(keys) == 10 and len(used) == len(set(used))
    assert {1, 2} < {len(parts) for parts in keys}
    assert max(len(parts) for parts in keys) * 4 <= selection.JOINED_S
    assert all(len(parts) == 1 for parts in keys_of(selection._joined(read_of(*"ababa"), 5, rng)))
    mixed = keys_of(selection._joined(read_of(*"abababab"), 3, rng))
    assert all(len({int(key) % 2 for key in parts}) == 1 for parts in mixed)


def test_some_lengths_that_are_drawn_are_beyond_the_cut_of_the_slides():
    rng = np.random.default_rng(0)
    drawn = np.array([selection.drawn_s(rng) for _ in range(20000)])
    assert 0.01 < (drawn > 15).mean() < 0.06 and drawn.max() <= selection.JOINED_S
