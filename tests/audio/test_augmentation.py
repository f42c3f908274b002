"""Augmentations repeat by their seed and keep their labels true."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
from scipy.signal import butter, sosfilt

from utils import paths
from utils.audio import augmentation, dsp, shortcut_audit

NOTHING = dict.fromkeys(augmentation.PROBABILITIES, 0.0)
SPLICE = NOTHING | {"splice": 1.0}


def augment(wave, label, seed, bonafide, spoof, probabilities):
    rng = np.random.default_rng(seed)
    return augmentation.augment(wave, label, rng, bonafide, spoof, probabilities)


@pytest.mark.parametrize("name", augmentation.EFFECTS)
def test_effects_repeat_by_their_seed_and_stay_finite(speechlike, name):
    one, two = (augmentation.EFFECTS[name](speechlike, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one, two) and np.isfinite(one).all() and one.dtype == np.float32
    assert not np.array_equal(one, speechlike)


def test_a_changed_sampling_rate_does_not_put_the_first_sample_at_the_end():
    """It did where resampling to and fro made the clip shorter: a click."""
    wave = np.zeros(4001, np.float32)
    wave[:10] = 1.0  # loud at the beginning only
    for samples in range(3000, 4001):
        changed = augmentation.rate(wave[:samples], np.random.default_rng(samples))
        assert len(changed) == samples and np.abs(changed[-3:]).max() < 0.01


@pytest.mark.parametrize("name", augmentation.PROBABILITIES)
@pytest.mark.parametrize("label", [0, 1])
def test_only_a_change_of_pitch_or_speed_turns_bona_fide_into_spoof(speechlike, name, label):
    made = augment(speechlike, label, 0, [speechlike], [], NOTHING | {name: 1.0})
    assert made.effects == [name]
    assert made.label == (0 if name in augmentation.CHANGES_LABEL else label)


def test_a_spoof_part_makes_a_splice_spoof_and_bona_fide_parts_do_not(speechlike):
    made = [augment(speechlike, 1, i, [speechlike], [speechlike], SPLICE) for i in range(60)]
    assert 0.3 < np.mean([each.label for each in made]) < 0.95
    for each in made:
        assert each.label == (not any(pool == "spoof" for pool, _ in each.sources))
        assert len(speechlike) < len(each.wave) <= 15 * dsp.RATE


def test_clips_longer_than_5_s_are_not_spliced(speechlike):
    long = np.tile(speechlike, 6)  # 12 s
    made = augment(long, 1, 0, [long], [long], SPLICE)
    assert made.effects == [] and made.sources == [] and np.array_equal(made.wave, long)


def test_sources_name_the_clips_that_were_appended(speechlike):
    """Every clip of the pools has a length of its own."""
    bonafide = [np.full(800 + i, 0.1, np.float32) for i in range(50)]
    spoof = [np.full(1800 + i, 0.1, np.float32) for i in range(50)]
    pools = {"bonafide": bonafide, "spoof": spoof}
    for seed in range(50):
        made = augment(speechlike, 1, seed, bonafide, spoof, SPLICE)
        lengths = [len(pools[name][index]) for name, index in made.sources]
        assert 1 <= len(lengths) <= 3
        assert len(made.wave) == len(speechlike) + sum(lengths)


def labelled_wave(label, rng):
    """A clip of 1 to 15 s whose samples tell its class: positive if bona fide, else negative."""
    seconds = rng.uniform(1, 15)
    return np.full(int(seconds * dsp.RATE), 1.0 if label else -1.0, np.float32)


def test_a_splice_labelled_spoof_holds_spoofed_speech_after_the_cut_at_15_s():
    """11 % of them held none: the cut or the crop after it had removed the spoof part."""
    rng, labels = np.random.default_rng(0), []
    for seed in range(400):
        bonafide = [labelled_wave(1, rng) for _ in range(5)]
        spoof = [labelled_wave(0, rng) for _ in range(5)]
        label = seed % 2
        wave = labelled_wave(label, rng)[: 5 * dsp.RATE]
        made = augment(wave, label, seed, bonafide, spoof, SPLICE)
        assert made.effects == ["splice"] and len(made.wave) < 15 * dsp.RATE
        spoof_left = (made.wave < 0).sum() / dsp.RATE
        if made.label == 0:
            assert spoof_left >= 0.5
        else:
            assert spoof_left == 0
        labels.append(made.label)
    assert 0.1 < np.mean(labels) < 0.9


def test_a_clip_is_not_spliced_where_no_label_would_be_true():
    """A spoof of 0.1 s at the beginning would almost always be cropped away."""
    wave = np.full(800, -1.0, np.float32)
    long = np.full(20 * dsp.RATE, 1.0, np.float32)
    made = augment(wave, 0, 0, [long], [], SPLICE)
    assert made.label == 0 and made.effects == [] and np.array_equal(made.wave, wave)


def example(name):
    """A clip that the page of the detector shows, 8 kHz, its first 4 s."""
    file = paths.ROOT / "utils" / "detector" / "web" / "examples" / f"{name}.flac"
    wave, rate = sf.read(file, dtype="float32")
    return dsp.resample(wave, rate, dsp.RATE)[: 4 * dsp.RATE]


def white():
    return np.random.default_rng(0).standard_normal(3 * dsp.RATE).astype(np.float32) * 0.1


def telephone():
    """White noise in the band of a telephone, over a noise floor 40 dB weaker."""
    band = butter(4, (200, 3400), "bandpass", fs=dsp.RATE, output="sos")
    wave = sosfilt(band, white())
    return dsp.add_noise(wave, np.random.default_rng(1).standard_normal(len(wave)), 40)


def drawn(size, sign=1):
    """A generator that draws this size of an effect, and this direction."""
    return SimpleNamespace(uniform=lambda *_: size, choice=lambda _: sign)


CHANGES = {
    "down": lambda wave: augmentation.pitch(wave, drawn(3, -1)),
    "up": lambda wave: augmentation.pitch(wave, drawn(3)),
    "faster": lambda wave: augmentation.speed(wave, drawn(2 ** (3 / 12))),
}
CLIPS = {"white": white, "telephone": telephone}
CLIPS |= {name: lambda name=name: example(name) for name in ("person", "computer")}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("clip", CLIPS)
def test_a_change_of_pitch_or_speed_leaves_the_top_of_the_band_as_it_was(clip, change):
    """A shift down left nothing above 3.2 kHz, a higher speed nothing above 3.9 kHz."""
    wave = CLIPS[clip]()
    before, after = (
        np.array(list(shortcut_audit.top_of_the_band(each).values()))
        for each in (wave, CHANGES[change](wave))
    )
    assert np.abs(after - before).max() < 2


def median_pitch(wave):
    """Hz, of the voiced frames (Praat)."""
    import parselmouth

    sound = parselmouth.Sound(wave.astype(np.float64), dsp.RATE)
    pitch = sound.to_pitch(0.01, 60, 500).selected_array["frequency"]
    return np.median(pitch[pitch > 0])


@pytest.mark.parametrize(("change", "semitones"), [("down", -3), ("up", 3), ("faster", 3)])
def test_a_changed_voice_is_still_heard_as_changed(speechlike, change, semitones):
    """A filter over the whole band would bring a steady voice back to its old pitch."""
    for wave in (speechlike, example("person")):
        moved = 12 * np.log2(median_pitch(CHANGES[change](wave)) / median_pitch(wave))
        assert moved == pytest.approx(semitones, abs=0.4)


@pytest.mark.parametrize("name", augmentation.CHANGES_LABEL)
def test_silent_and_very_short_clips_are_changed_too(name):
    for wave in (np.zeros(dsp.RATE, np.float32), white()[:200]):
        changed = augmentation.EFFECTS[name](wave, np.random.default_rng(0))
        assert len(changed) and np.isfinite(changed).all()
