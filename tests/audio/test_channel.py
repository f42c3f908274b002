"""The simulated telephone channel keeps its word: length, strength, seed."""

import numpy as np
import pytest

from utils.audio import channel, dsp


@pytest.mark.parametrize("codec", channel.CODECS)
def test_codecs_keep_length_and_most_of_the_signal(speechlike, codec):
    sent = channel.transmit(speechlike, codec)
    assert sent.shape == speechlike.shape
    frames = [wave.reshape(-1, 160) for wave in (sent, speechlike)]  # of 20 ms
    spectra = [np.abs(np.fft.rfft(each, axis=1)).ravel() for each in frames]
    assert np.corrcoef(*spectra)[0, 1] > 0.9


def test_strength_goes_from_nothing_to_all_of_the_chain(speechlike):
    def conditioned(strength):
        rng = np.random.default_rng(3)
        return channel.condition(speechlike, 8000, rng, ("gsm",), 0.0, strength)

    untouched, codec = conditioned(0)
    assert codec == "pcm" and np.array_equal(untouched, speechlike)
    full, codec = conditioned(1)
    assert codec == "gsm" and -30.5 < dsp.dbfs(full) < -17.5
    half, _ = conditioned(0.5)
    assert abs(dsp.dbfs(half) - (dsp.dbfs(speechlike) + dsp.dbfs(full)) / 2) < 1.5


def test_lost_packets_are_concealed_by_the_one_before(speechlike):
    lossy = channel.lose_packets(speechlike, 0.3, np.random.default_rng(1))
    packets = len(speechlike) // 160
    changed = (lossy != speechlike)[: packets * 160].reshape(packets, 160).any(axis=1)
    assert len(lossy) == len(speechlike) and 0.1 < changed.mean() < 0.5
    start = int(np.flatnonzero(changed)[0]) * 160
    assert np.array_equal(lossy[start : start + 160], speechlike[start - 160 : start] / 2)
    lossless = channel.lose_packets(speechlike, 0.0, np.random.default_rng(1))
    assert np.array_equal(lossless, speechlike)


def test_conditioning_is_seeded_and_takes_packaging_away(speechlike):
    padded = np.concatenate([np.zeros(8000), speechlike + 0.05, np.zeros(4000)]).astype(np.float32)
    one, same, other = (
        channel.condition(padded, 8000, np.random.default_rng(seed), ("pcm",))[0]
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same) and not np.array_equal(one[:100], other[:100])
    assert len(one) < len(speechlike) - 0.1 * 8000  # silence is gone, and a little of the speech
    assert abs(one.mean()) < 1e-3 and -31 < dsp.dbfs(one) < -17


def test_both_ends_are_cut_within_the_speech(speechlike):
    quiet = np.zeros(4000, np.float32)
    padded = np.concatenate([quiet, speechlike, quiet])
    ends = []
    for seed in range(40):
        heard = channel.heard_part(padded, np.random.default_rng(seed))
        level = dsp.frames_dbfs(padded[heard])
        assert min(level[0], level[-1]) > level.max() - 36
        ends += [heard.start - 4000, len(padded) - 4000 - heard.stop]
    assert min(ends) >= 0.05 * 8000 and max(ends) <= 0.35 * 8000  # a pause may follow the cut
    assert np.std(ends) > 300
    short = speechlike[:4000]
    heard = channel.heard_part(short, np.random.default_rng(1))
    assert heard.stop - heard.start >= 3000
