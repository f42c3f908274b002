"""More real speech is other recordings of the same voices."""
import numpy as np

from utils import audio, build, extra


def test_more_real_speech_is_other_recordings_of_the_same_voices():
    """The plan of `smoke`: its sources are downloaded by other tests too."""
    plan = build.PLANS["smoke"]["train"]
    chosen = build.choose_real("train", plan, [])
    train = extra.pd.DataFrame([vars(clip) for clip in chosen])
    waves, rows = extra.more_real(train, 0, "smoke", times=2)
    assert len(waves) == len(rows) > len(train) / 2 and set(train["group"].iloc[rows]) <= set(train["group"])
    every, _ = extra.more_real(train.assign(made_from="something else"), 0, "smoke", times=2)
    assert len(every) == len(waves) + len(train) and all(len(audio.check_wave(wave, "more")) > 8000 for wave in waves)
    again, _ = extra.more_real(train, 0, "smoke", times=2)
    assert all(np.array_equal(a, b) for a, b in zip(waves, again, strict=True))
