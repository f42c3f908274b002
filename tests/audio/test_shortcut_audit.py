"""The shortcut audit measures packaging, finds a planted shortcut, and leaves nothing to chance."""

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from utils.audio import channel, shortcut_audit


def test_packaging_features_see_silence_zeros_dc_and_a_codec(speechlike):
    plain = shortcut_audit.packaging(speechlike)
    padded = shortcut_audit.packaging(np.pad(speechlike, (4000, 0)))
    assert padded["silence: lead (s)"] == pytest.approx(plain["silence: lead (s)"] + 0.5, abs=0.03)
    assert padded["digital zeros: longest run (s)"] >= 0.5
    assert plain["digital zeros: longest run (s)"] < 0.5
    shifted = shortcut_audit.packaging(speechlike + 0.1)
    mean = "DC / below 50 Hz: mean"
    assert shifted[mean] == pytest.approx(plain[mean] + 0.1, abs=1e-3)
    coded = shortcut_audit.packaging(channel.transmit(speechlike, "mulaw"))
    distance = "codec: distance to the µ-law grid"
    assert coded[distance] < 2e-5 < plain[distance]


def test_the_top_of_the_band_is_told_against_its_middle():
    wave = np.random.default_rng(0).standard_normal(80_000).astype(np.float32)
    flat = shortcut_audit.top_of_the_band(wave)
    assert len(flat) == 12 and max(map(abs, flat.values())) < 1
    spectrum = np.fft.rfft(wave)
    spectrum[np.fft.rfftfreq(len(wave), 1 / 8000) > 3500] *= 0.1
    cut = shortcut_audit.top_of_the_band(np.fft.irfft(spectrum))
    assert cut["top: 3300 Hz (dB)"] == pytest.approx(flat["top: 3300 Hz (dB)"], abs=0.1)
    assert cut["top: 3600 Hz (dB)"] == pytest.approx(flat["top: 3600 Hz (dB)"] - 20, abs=0.1)


def test_the_longest_run_of_zeros_is_counted_at_both_ends_and_inside():
    longest = shortcut_audit._longest_run
    assert longest(np.array([True, True, False, True, False])) == 2
    assert longest(np.array([False, True, False, True, True, True])) == 3
    assert longest(np.zeros(5, bool)) == 0 and longest(np.ones(5, bool)) == 5


@pytest.fixture
def labelled():
    """80 clips in 4 folds and 8 groups: `level` tells the class, `duration` is noise."""
    rng = np.random.default_rng(0)
    label = np.tile([1, 0], 40)
    fold = np.repeat(np.arange(4), 20)
    group = np.repeat([f"g{i}" for i in range(8)], 10)
    features = pd.DataFrame(
        {"level: mean (dBFS)": label * 10.0 - 30, "duration: all (s)": rng.uniform(1, 5, 80)}
    )
    return features, label, fold, group


def test_the_audit_finds_a_planted_shortcut_and_no_other(labelled):
    table, scores = shortcut_audit.audit(*labelled, seed=1)
    assert list(table.index) == ["level", "duration", shortcut_audit.ALL_FEATURES]
    assert list(table.columns) == ["auc", "low", "high"] and table.index.name == "feature_group"
    assert table.loc["level", "auc"] == 1 and table.loc[shortcut_audit.ALL_FEATURES, "auc"] == 1
    assert table.loc["duration", "low"] < 0.5 < table.loc["duration", "high"]
    assert scores[labelled[1] == 1].min() > 0.9 > 0.1 > scores[labelled[1] == 0].max()


def test_scores_of_a_fold_do_not_depend_on_its_own_labels(labelled):
    features, label, fold, _ = labelled
    scores = shortcut_audit._out_of_fold(features.to_numpy(), label, fold, seed=1)
    flipped = np.where(fold == 0, 1 - label, label)
    again = shortcut_audit._out_of_fold(features.to_numpy(), flipped, fold, seed=1)
    assert np.array_equal(scores[fold == 0], again[fold == 0])
    assert not np.array_equal(scores[fold != 0], again[fold != 0])


def test_one_class_alone_is_refused(labelled):
    features, label, fold, group = labelled
    with pytest.raises(ValueError):
        shortcut_audit.audit(features, np.ones_like(label), fold, group, seed=1)


def test_conditioning_depends_on_keys_and_strength_and_not_on_the_other_files(speechlike, tmp_path):
    files = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for file in files:
        sf.write(file, speechlike, 8000, subtype="PCM_16")
    waves, features = shortcut_audit.condition_files(files, ["a", "b"], 7, 1.0)
    assert len(waves) == len(features) == 2 and not np.array_equal(waves[0], waves[1])
    alone, _ = shortcut_audit.condition_files(files[1:], ["b"], 7, 1.0)
    assert np.array_equal(alone[0], waves[1])
    untouched, _ = shortcut_audit.condition_files(files, ["a", "b"], 7, 0.0)
    assert np.array_equal(untouched[0], untouched[1])
    assert len(untouched[0]) == len(speechlike)
    expected = shortcut_audit.packaging(waves[0])
    assert features.iloc[0].to_dict() == pytest.approx(expected)


def test_a_column_that_tells_the_class_is_found_and_one_that_does_not_is_not():
    rng = np.random.default_rng(0)
    label = np.tile([1, 0], 100)
    language = np.where(label == 1, "en", rng.choice(["en", "es"], 200))
    table = pd.DataFrame({"label": label, "language": language, "codec": rng.choice(["a"], 200)})
    found = shortcut_audit.columns(table, pd.Series(rng.uniform(1, 15, 200)), 0)
    assert list(found.index) == ["language", "codec", "seconds", "all columns"]
    assert found["language"] > 0.7 and found["all columns"] > 0.7
    assert found["codec"] == 0.5 and found["seconds"] < 0.62
