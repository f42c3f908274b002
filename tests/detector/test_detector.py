"""The detector: saved and opened again, pieces and timelines, the released one."""

import numpy as np
import pandas as pd
import pytest

from utils import paths
from utils.audio import dsp
from utils.detector import detector, scoring
from utils.models import pooled_features

SHARED = paths.ROOT.parent / "shared" / "demo_pages"


@pytest.fixture
def opened(toy):
    return detector.Detector(toy.folder)


def test_saved_and_opened_again_it_scores_the_same(toy, opened):
    assert toy.log_odds[:8].min() > toy.log_odds[8:].max()
    found = [opened.logit(wave) for wave in toy.waves]
    assert found == pytest.approx(toy.log_odds.tolist(), abs=0.01)  # half precision
    expected = 1 / (1 + np.exp(-toy.log_odds[0]))
    assert opened.probability(toy.waves[0]) == pytest.approx(expected, abs=0.005)


def test_a_training_clip_is_most_similar_to_itself(toy, opened):
    likeness = np.array([piece.likeness for wave in toy.waves for piece in opened.pieces(wave)])
    assert likeness.max() == pytest.approx(1, abs=0.01) and likeness.min() > 0.9
    supports = [int(row["system"].removeprefix("clip ")) for row in opened.supports]
    for i in supports[:2] + supports[-2:]:
        (first,) = opened.nearest(opened.pieces(toy.waves[i]), 1)
        assert first["system"] == f"clip {i}" and first["label"] == str(int(i < 8))
        assert first["likeness"] == "1.00"


def test_a_wave_at_another_rate_is_resampled(toy, opened):
    doubled = dsp.resample(toy.waves[0], 8000, 16000)
    expected = opened.probability(toy.waves[0])
    assert opened.probability(doubled, 16000) == pytest.approx(expected, abs=0.1)


def test_short_and_silent_waves_are_refused(toy, opened):
    with pytest.raises(dsp.AudioError, match="too short"):
        opened.probability(toy.waves[0][:1000])
    with pytest.raises(dsp.AudioError, match="silent"):
        opened.probability(np.zeros(8000, np.float32))


def test_a_long_recording_is_scored_in_equal_pieces(toy, opened):
    hiss, hum = toy.waves[0], toy.waves[-1]
    pieces = opened.pieces(np.concatenate([np.tile(hiss, 8), np.tile(hum, 8)]))  # 12 s each
    assert [(piece.start_s, piece.end_s) for piece in pieces] == [(0, 8), (8, 16), (16, 24)]
    assert pieces[0].log_odds > pieces[1].log_odds > pieces[2].log_odds


def test_the_score_is_the_mean_over_pieces_that_are_not_silent(toy, opened):
    wave = np.concatenate([np.tile(toy.waves[0], 7), np.zeros(168000, np.float32)])
    pieces = opened.pieces(wave)
    assert len(pieces) == 2
    expected = np.mean([piece.log_odds for piece in pieces])
    assert opened.logit(wave) == pytest.approx(expected)


def test_encoders_run_once_per_piece_and_once_per_window(toy, opened, monkeypatch):
    """The page needs pieces, timeline and nearest clips: it ran them up to three times per clip."""
    run, original = [], pooled_features.features_in_this_process

    def counted(waves, depths):
        run.extend(len(wave) for wave in waves)
        return original(waves, depths)

    monkeypatch.setattr(pooled_features, "features_in_this_process", counted)
    wave = np.tile(toy.waves[0], 3)
    pieces = opened.pieces(wave)
    opened.nearest(pieces, 5)
    assert run == [36000]
    run.clear()
    opened.timeline(wave)
    assert run == [16000] * 6


def test_the_timeline_of_one_window_is_the_score_of_the_clip(toy, opened):
    wave = toy.waves[3]
    assert opened.timeline(wave).tolist() == [opened.logit(wave)] * 3


def test_windows_by_hand():
    assert detector.windows(8000) == [slice(0, 8000)]
    edges = [(window.start, window.stop) for window in detector.windows(22000)]
    assert edges == [(0, 16000), (4000, 20000), (6000, 22000)]  # the last one ends with the wave


def test_steps_by_hand():
    # middles of steps: 0.25, 0.75, 1.25, 1.75, 2.25 and 2.75 s (the end of 22000 samples);
    # windows: 0–2, 0.5–2.5, 0.75–2.75 s
    assert detector.by_step(22000, np.array([1.0, 3.0, 8.0])).tolist() == [1, 4, 4, 4, 5.5, 8]
    silent = detector.by_step(22000, np.array([np.nan, 3.0, np.nan]))
    assert np.isnan(silent[[0, 5]]).all() and silent[1:5].tolist() == [3, 3, 3, 3]


def test_spans_by_hand():
    assert detector.spans(np.array([True, True, False, True])) == [(0, 1), (1.5, 2)]
    assert detector.spans(np.zeros(3, bool)) == []


def test_the_released_detector_is_small_and_its_card_states_limits():
    opened = detector.Detector()
    assert sum(file.stat().st_size for file in detector.FOLDER.iterdir()) < 20e6
    assert 0 < opened.card["threshold"] < 1 and opened.card["limits"]
    assert opened.card["unseen_pages"]["eer"] < 0.3
    assert opened.card["ece_unseen_pages"] <= 0.05


def test_the_released_detector_ranks_clips_that_it_was_trained_on():
    if not SHARED.exists():
        pytest.skip("the demo pages are not here")
    opened, key = scoring.load_detector(), pd.read_csv(SHARED / "key.csv")
    key = key[key["label"].isin(["0", "1"])].groupby("label").sample(6, random_state=1)
    p = np.array([opened.probability(SHARED / "clips" / name) for name in key["name"]])
    assert p[key["label"] == "1"].mean() > p[key["label"] == "0"].mean() + 0.2
