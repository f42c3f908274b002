"""What recordings go through: rooms, noise, codecs, quiet files."""

import numpy as np
import pytest

from utils.audio import dsp
from utils.detector.embedding import RATE
from utils.detector.train import degradation


@pytest.fixture
def wave(speechlike):
    hiss = 0.01 * np.random.default_rng(0).standard_normal(2 * RATE)
    return dsp.resample(speechlike, dsp.RATE, RATE) + hiss.astype(np.float32)


def test_a_room_decays_by_60_db_in_its_time():
    click = np.zeros(RATE, np.float32)
    click[100] = 0.5
    room = degradation.in_a_room(click, np.random.default_rng(0), 0.8)
    early, late = room[200:1800], room[200 + 4 * RATE // 10 : 1800 + 4 * RATE // 10]
    assert dsp.dbfs(early) - dsp.dbfs(late) == pytest.approx(30, abs=1.5)  # half of the time
    assert np.abs(room[:100]).max() < 1e-6


@pytest.mark.parametrize(
    ("codec", "kbps"), [("mp3", 16), ("mp3", 64), ("opus", 16), ("opus", 64), ("amr", 12.2)]
)
def test_a_codec_gives_the_sound_back_at_its_place(wave, codec, kbps):
    heard = degradation.coded(wave, codec, kbps)
    assert heard.dtype == np.float32 and len(wave) <= len(heard) + RATE // 20
    both = [dsp.frames_dbfs(x[: len(wave) - RATE // 20], RATE) for x in (wave, heard)]
    assert np.corrcoef(*both)[0, 1] > 0.8  # its envelope


def test_a_degraded_clip_repeats_and_is_still_to_be_heard(wave):
    def draw(seed):
        return degradation.degraded(wave, np.random.default_rng(seed))

    drawn = [draw(seed) for seed in range(40)]
    assert all(np.array_equal(draw(seed), drawn[seed]) for seed in range(5))
    for heard in drawn:
        assert heard.dtype == np.float32 and np.isfinite(heard).all() and dsp.peak(heard) <= 1
        assert 0.9 * len(wave) <= len(heard) <= 1.2 * len(wave) and dsp.peak(heard) > 1e-4
    level = [dsp.peak(heard) for heard in drawn]
    assert min(level) < 0.02 and max(level) > 0.4


def test_quieter_rounds_to_16_bits(wave):
    heard = degradation.quieter(wave, 40)
    steps = heard * 32767
    assert np.abs(steps - np.round(steps)).max() < 1e-3
    assert dsp.dbfs(wave) - dsp.dbfs(heard) == pytest.approx(40, abs=0.2)
