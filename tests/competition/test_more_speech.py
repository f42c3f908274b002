"""More real speech is other recordings of the same voices."""

import numpy as np

from utils.audio import dsp
from utils.competition import build, more_speech, selection


def test_more_real_speech_is_other_recordings_of_the_same_voices():
    """The plan of `smoke`: its sources are downloaded by other tests too."""
    plan = build.PLANS["smoke"]["train"]
    chosen = selection.choose_bonafide("train", plan, [])
    train = more_speech.pd.DataFrame([vars(clip) for clip in chosen])
    waves, rows = more_speech.more_bonafide(train, 0, "smoke", times=2)
    assert len(waves) == len(rows) > len(train) / 2 and set(train["group"].iloc[rows]) <= set(
        train["group"]
    )
    every, _ = more_speech.more_bonafide(
        train.assign(made_from="something else"), 0, "smoke", times=2
    )
    assert len(every) == len(waves) + len(train) and all(
        len(dsp.check_wave(wave, "more")) > 8000 for wave in waves
    )
    again, _ = more_speech.more_bonafide(train, 0, "smoke", times=2)
    assert all(np.array_equal(a, b) for a, b in zip(waves, again, strict=True))
