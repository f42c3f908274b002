"""Conditions under which the detector is measured."""

import numpy as np
import pytest

from utils.audio import dsp
from utils.detector import embedding
from utils.detector.embedding import RATE
from utils.detector.studies import robustness


@pytest.fixture
def wave(speechlike):
    hiss = 0.01 * np.random.default_rng(0).standard_normal(2 * RATE)
    return dsp.resample(speechlike, dsp.RATE, RATE) + hiss.astype(np.float32)


@pytest.mark.parametrize("condition", robustness.CONDITIONS)
def test_a_condition_repeats_and_keeps_the_sound(wave, condition):
    changed = robustness.changed(wave, condition, "a.wav")
    assert np.array_equal(changed, robustness.changed(wave, condition, "a.wav"))
    assert changed.dtype == np.float32 and np.isfinite(changed).all()
    assert 0.9 * 2 * RATE <= len(changed) <= 1.2 * 2 * RATE
    assert abs(dsp.dbfs(changed) - dsp.dbfs(wave)) < (45 if "quieter" in condition else 12)
    if condition not in ("as it is", "a part of 2 s"):  # the clip is no longer
        assert not np.array_equal(changed[:100], wave[:100])


def test_codecs_of_telephones_leave_nothing_above_4_khz(wave):
    assert embedding.bandwidth_hz(wave) > 7000
    for condition in ("G.711, 8 kHz", "AMR, 12.2 kbit/s", "AMR, 4.75 kbit/s"):
        heard = robustness.changed(wave, condition, "a.wav")
        assert embedding.bandwidth_hz(heard) < embedding.WIDE_FROM_HZ


@pytest.mark.parametrize("snr_db", [5, 20])
def test_noise_has_the_level_that_its_name_says(wave, snr_db):
    noise = robustness.changed(wave, f"noise, {snr_db} dB", "a.wav") - wave
    assert dsp.dbfs(wave) - dsp.dbfs(noise) == pytest.approx(snr_db, abs=0.2)


def test_speed_moves_a_tone():
    time = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    fast = robustness.changed(tone, "1.1 times as fast", "a.wav")
    assert np.argmax(np.abs(np.fft.rfft(fast))) * RATE / len(fast) == pytest.approx(1100, abs=5)
