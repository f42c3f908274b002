"""Pooled features: their order, their columns, windows of a fixed length."""

import numpy as np
import pytest

from utils.models import pooled_features

DEPTHS = {"ge2e": (0, 2), "campplus": (0, 1, 2, 3), "whisper-base": (1,)}


def test_columns_are_those_of_the_depth_computed_alone(speechlike):
    joined = pooled_features.features_in_this_process([speechlike], DEPTHS)[0]
    end = 0
    for backbone, depths in DEPTHS.items():
        for depth in depths:
            columns = pooled_features.columns(DEPTHS, backbone, depth)
            alone = pooled_features.features_in_this_process([speechlike], {backbone: (depth,)})
            assert joined[columns] == pytest.approx(alone[0], abs=1e-4)
            assert columns.start == end
            end = columns.stop
    assert end == len(joined)


def test_a_layer_of_whisper_base_has_three_times_512_columns():
    columns = pooled_features.columns({"whisper-base": (0, 1, 2, 3)}, "whisper-base", 1)
    assert columns == slice(1536, 3072)


def test_a_depth_that_is_not_listed_is_refused():
    with pytest.raises(ValueError, match="depth 1 of 'ge2e'"):
        pooled_features.columns(DEPTHS, "ge2e", 1)


def test_a_window_cuts_long_clips_and_pads_short_ones(speechlike):
    windowed = pooled_features.features_in_this_process(
        [speechlike[:8000], speechlike], {"ge2e": (0,)}, window_s=1.5
    )
    silence = np.pad(speechlike[:8000], (0, 4000))
    by_hand = pooled_features.features_in_this_process(
        [silence, speechlike[:12000]], {"ge2e": (0,)}
    )
    assert np.array_equal(windowed, by_hand)


def test_features_in_processes_are_those_of_this_process(speechlike, tmp_path, monkeypatch):
    monkeypatch.setattr("utils.paths.CACHE", tmp_path)
    waves = [speechlike, speechlike[:9000], speechlike]
    here = pooled_features.features_in_this_process(waves, {"ge2e": (0, 2)})
    assert pooled_features.features(waves, {"ge2e": (0, 2)}) == pytest.approx(here, abs=1e-5)
    windowed = pooled_features.features(waves, {"ge2e": (0, 2)}, window_s=1.5)
    assert not np.allclose(windowed, here)  # another window is another key
