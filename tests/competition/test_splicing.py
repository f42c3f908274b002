"""Splices of bona fide and spoofed clips, and where their spoofed parts lie."""

import json
from dataclasses import replace

import numpy as np
import pytest

from utils.audio import dsp
from utils.competition import plans, selection, splicing


def clip_of(label, made_from, system="bonafide"):
    return selection.Clip(
        "train", label, system, system, "en", "speaker", "group", "source", "licence", made_from
    )


def test_splices_bring_their_parts_to_one_level(speechlike):
    joined, _ = splicing.splice([speechlike, speechlike * 0.1, speechlike])
    assert len(joined) == 3 * len(speechlike) - 2 * 80
    thirds = [dsp.dbfs(part) for part in np.array_split(joined, 3)]
    assert max(thirds) - min(thirds) < 1


def test_splices_say_where_each_part_lies(speechlike):
    _, spans = splicing.splice([speechlike, speechlike, speechlike])
    seconds = len(speechlike) / dsp.RATE
    starts = [0, seconds - 0.01, 2 * seconds - 0.02]
    ends = [seconds, 2 * seconds - 0.01, 3 * seconds - 0.02]
    assert np.allclose(spans, list(zip(starts, ends, strict=True)))


def test_splices_end_at_the_longest_length(speechlike):
    joined, spans = splicing.splice([speechlike] * 20)
    assert len(joined) == 20 * dsp.RATE and spans[-1][1] == 20 and spans[-1][0] < 20


def test_spans_follow_the_cut_clip():
    spans = splicing.spans_after([(0.3, 1.5), (2.0, 2.9)], 0.44, 2.12)  # 0.44 to 2.56 s are kept
    assert json.loads(spans) == [[0, 1.06], [1.56, 2.12]]
    assert splicing.spans_after([], 0.44, 2.12) == ""


def long_clips(speechlike):
    """Six bona fide clips of 12 s and a vocoded one: a third part would fall to the cut at 20 s."""
    wave = np.tile(speechlike, 6)
    bonafide = {clip_of(1, f"r{number}"): (wave, 8000) for number in range(6)}
    spoof = {clip_of(0, next(iter(bonafide)).id, "world"): (wave[::-1].copy(), 8000)}
    return bonafide, spoof


def test_splices_keep_their_spoofed_part(speechlike):
    bonafide, spoof = long_clips(speechlike)
    plan, skipped = plans.Plan((), (), (), (3, 3), 0, ("pcm",)), []
    made, spans = splicing.make_splices("train", plan, bonafide, spoof, skipped)
    assert not skipped and [clip.label for clip in made] == [1, 1, 1, 0, 0, 0]
    for clip in made:
        assert len(clip.made_from.split()) == 2  # no part was lost
        assert bool(spans[clip.id]) == (clip.label == 0)
        assert all(end - start > 0.5 for start, end in spans[clip.id])


@pytest.mark.parametrize("split", ["train", "test"])
def test_splices_stay_in_one_language(split, speechlike):
    bonafide, spoof = {}, {}
    for number, language in enumerate(["en", "es"] * 4):
        original = replace(clip_of(1, f"r{number}"), language=language)
        bonafide[original] = speechlike, 8000
        vocoded = replace(clip_of(0, original.id, "world"), language=language)
        spoof[vocoded] = speechlike[::-1].copy(), 8000
    plan = plans.Plan((), (), (), (5, 5), 0, ("pcm",))
    made, _ = splicing.make_splices(split, plan, bonafide, spoof, [])
    assert {clip.language for clip in made} == {"en", "es"} and len(made) == 10


def test_splices_that_cannot_be_made_are_reported(speechlike):
    bonafide, _ = long_clips(speechlike)
    plan, skipped = plans.Plan((), (), (), (3, 3), 0, ("pcm",)), []
    made, _ = splicing.make_splices("train", plan, bonafide, {}, skipped)
    assert not made
    assert skipped == [
        ("splice", "train, bona fide parts only", "3 clips too few"),
        ("splice", "train, with a spoofed part", "3 clips too few"),
    ]


def test_a_group_of_the_most_clips_gets_no_splice(speechlike):
    bonafide, spoof = long_clips(speechlike)
    plan, skipped = plans.Plan((), (), (), (3, 3), 0, ("pcm",), most=9), []
    made, _ = splicing.make_splices("train", plan, bonafide, spoof, skipped)
    assert len(made) == 2 and len(skipped) == 2  # seven clips are there already
