"""Which channels of a recording are scored."""

import numpy as np
import pytest

from utils.detector import channels


@pytest.fixture
def sounds():
    """Two sounds that have nothing to do with each other."""
    return np.random.default_rng(0).normal(size=(2, 16000)).astype(np.float32) * 0.1


def names(waves, how="each"):
    return [channel.name for channel in channels.choose(np.stack(waves), how)]


def test_the_only_channel_has_no_name(sounds):
    assert names(sounds[:1]) == [""] and names(sounds[:1], "mix") == [""]


@pytest.mark.parametrize("factor", [1, -1, 0.1, -0.3])
def test_the_same_sound_is_scored_once_whatever_its_sign_and_level(sounds, factor):
    one, other = sounds
    assert names([one, factor * one + 0.01 * factor * other]) == [""]


def test_channels_that_differ_are_scored_apart(sounds):
    one, other = sounds
    assert names([one, other]) == ["1 of 2", "2 of 2"]
    assert names([one, one + other]) == ["1 of 2", "2 of 2"]
    assert names([one, 0.001 * other]) == [""]  # 60 dB below
    assert names([one, other, -one, 0 * one]) == ["1 of 4", "2 of 4"]


def test_the_loudest_of_very_many_channels_are_scored():
    waves = np.random.default_rng(0).normal(size=(20, 4000)) * np.linspace(0.1, 1, 20)[:, None]
    expected = [f"{number} of 20" for number in range(13, 21)]
    assert names(waves) == expected


def test_a_mix_is_the_mean_unless_it_cancels(sounds):
    one, other = sounds
    (mixed,) = channels.choose(sounds, "mix")
    assert mixed.name == "mix of 2" and np.allclose(mixed.wave, (one + other) / 2)
    (left,) = channels.choose(np.stack([one, -1.001 * one]), "mix")
    assert left.name == "2 of 2" and np.allclose(left.wave, -1.001 * one)


def test_the_loudest_channel_alone(sounds):
    one, other = sounds
    assert names([one, 2 * other], "loudest") == ["2 of 2"]


def test_hours_are_compared_block_by_block(sounds, monkeypatch):
    expected = channels.products(sounds)
    monkeypatch.setattr(channels, "SAMPLES_AT_ONCE", 1000)
    assert channels.products(sounds) == pytest.approx(expected)


def test_another_word_is_refused(sounds):
    with pytest.raises(ValueError, match="left.*each, mix, loudest"):
        channels.choose(sounds, "left")


def test_the_same_sound_very_many_times_hides_no_quieter_voice(sounds):
    one, other = sounds
    assert names([*[one] * 20, 0.1 * other]) == ["1 of 21", "21 of 21"]
