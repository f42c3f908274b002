"""More bona fide speech is other recordings of the same voices."""

import numpy as np
import pandas as pd
import pytest

from utils.audio import dsp
from utils.competition import more_speech, plans, selection

PLAN = "smoke"  # its sources are downloaded by other tests too


@pytest.fixture(scope="module")
def train():
    chosen = selection.choose_bonafide("train", plans.PLANS[PLAN]["train"], [])
    return pd.DataFrame([vars(clip) for clip in chosen])


@pytest.fixture(scope="module")
def more(train):
    return more_speech.more_bonafide(train, 0, PLAN, times=1)


def test_further_recordings_are_of_the_same_groups(train, more):
    waves, rows = more
    assert len(waves) == len(rows) > len(train) / 2
    assert set(train["group"].iloc[rows]) <= set(train["group"])
    assert all(len(dsp.check_wave(wave, "more")) > 8000 for wave in waves)


def test_they_belong_to_bona_fide_clips_also_where_a_vocoded_clip_of_the_group_comes_first(
    train, more
):
    """They did not train where the family of that vocoded clip was left out."""
    mixed = pd.concat([train.assign(label=0, system="world"), train], ignore_index=True)
    waves, rows = more_speech.more_bonafide(mixed, 0, PLAN, times=1)
    assert len(waves) == len(more[0]) and (mixed["label"].iloc[rows] == 1).all()


def keys_of(clips):
    return {(clip.source, key) for clip in clips for key in clip.made_from.split(selection.JOIN)}


def test_recordings_of_the_training_clips_are_left_out_alone_and_joined(train):
    plan, known = plans.PLANS[PLAN]["train"], frozenset(keys_of(train.itertuples()))
    assert len(known) > len(train)  # some are joined
    assert keys_of(more_speech._chosen(plan, 1, frozenset())) == known
    assert not keys_of(more_speech._chosen(plan, 1, known)) & known


def test_all_recordings_are_taken_where_there_are_too_few_and_other_errors_are_told(monkeypatch):
    plan = plans.Plan((("sense", None, 8),), (), (), (0, 0), 0, ("pcm",))
    errors = [selection.TooFewError("only 3 of 16 usable clips")]

    def choose(split, wanted, skipped, known):
        if wanted.bonafide[0][2]:
            raise errors[0]
        return {"clip": "wave"}

    monkeypatch.setattr(selection, "choose_bonafide", choose)
    assert more_speech._chosen(plan, 2, frozenset()) == {"clip": "wave"}
    errors[0] = ValueError("no such file")
    with pytest.raises(ValueError, match="no such file"):
        more_speech._chosen(plan, 2, frozenset())


def test_further_recordings_repeat(train, more):
    again, _ = more_speech.more_bonafide(train, 0, PLAN, times=1)
    assert all(np.array_equal(a, b) for a, b in zip(more[0], again, strict=True))
