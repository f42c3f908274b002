"""Levels, noise and lengths of waves."""

import tracemalloc

import numpy as np
import pytest

from utils.audio import dsp


def test_levels_of_a_long_recording_take_little_memory():
    wave = np.random.default_rng(0).standard_normal(3_000_000).astype(np.float32)
    tracemalloc.start()
    levels = dsp.frames_dbfs(wave)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected = 10 * np.log10(np.mean(wave.reshape(-1, 160).astype(float) ** 2, axis=1))
    assert peak < 60e6 and np.array_equal(levels, expected)


def test_a_full_scale_sine_has_minus_3_dbfs_and_silence_minus_infinity():
    sine = np.sin(2 * np.pi * 400 * np.arange(8000) / 8000).astype(np.float32)
    assert dsp.dbfs(sine) == pytest.approx(-3.01, abs=0.01)
    assert dsp.dbfs(np.zeros(8000, np.float32)) == -np.inf


def test_noise_is_added_at_its_snr(speechlike):
    noise = dsp.coloured_noise(len(speechlike), 3, np.random.default_rng(0))
    added = dsp.add_noise(speechlike, noise, 12) - speechlike
    assert dsp.dbfs(speechlike) - dsp.dbfs(added) == pytest.approx(12, abs=0.1)


def test_noise_as_long_as_the_clip_or_longer_is_not_changed(speechlike):
    noise = dsp.coloured_noise(2 * len(speechlike), 3, np.random.default_rng(0))
    cut = noise[: len(speechlike)]
    gain = 10 ** ((dsp.dbfs(speechlike) - 12 - dsp.dbfs(cut)) / 20)
    expected = (speechlike + gain * cut).astype(np.float32)
    assert np.array_equal(dsp.add_noise(speechlike, noise, 12), expected)
    assert np.array_equal(dsp.add_noise(speechlike, cut, 12), expected)


def test_repeated_noise_has_no_jump_at_its_seams():
    """It had one: the end of a hum that does not end where it began was a click."""
    hum = np.sin(2 * np.pi * 50.3 * np.arange(1000) / 8000).astype(np.float32)
    wave = np.ones(8000, np.float32)
    repeated = dsp.add_noise(wave, hum, 0) - wave
    largest_step = np.abs(np.diff(hum)).max() * np.abs(repeated).max()
    assert len(repeated) == 8000
    assert np.abs(np.diff(repeated)).max() < 2.5 * largest_step


@pytest.mark.parametrize("samples", [1, 2, 79, 160, 161, 999])
def test_noise_of_any_length_fills_the_clip_at_one_level(samples):
    noise = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    wave = np.full(4000, 0.1, np.float32)
    added = dsp.add_noise(wave, noise, 10) - wave
    assert added.shape == (4000,) and dsp.dbfs(added) == pytest.approx(-30, abs=0.01)
    if samples > 100:
        quarters = [dsp.dbfs(quarter) for quarter in np.split(added, 4)]
        assert max(quarters) - min(quarters) < 1.5


def test_a_wave_is_cut_or_padded_with_silence_to_a_length():
    wave = np.ones(5, np.float32)
    assert dsp.fit_length(wave, 3).tolist() == [1, 1, 1]
    assert dsp.fit_length(wave, 7).tolist() == [1, 1, 1, 1, 1, 0, 0]
