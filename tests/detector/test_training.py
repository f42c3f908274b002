"""Steps of notebook 09: folds of pages, partly fake recordings, calibration errors."""

import numpy as np
import pandas as pd
import pytest

from utils import metrics
from utils.audio import dsp
from utils.detector import detector, training
from utils.models import classifiers


@pytest.fixture
def pages():
    """(features, label, page, folds) of 120 clips of 12 pages."""
    rng = np.random.default_rng(0)
    page = np.array([f"page-{i % 12}" for i in range(120)], object)
    label = rng.integers(2, size=120)
    features = rng.normal(size=(120, 20)) + label[:, None]
    return features, label, page, training.PageFolds.split(label, page, 4)


def rows_seen(x, label):
    """A stand-in for training: the numbers of the rows, which are their only feature."""
    return set(x[:, 0].astype(int).tolist())


def test_no_model_sees_a_page_of_its_fold(pages):
    _, label, page, folds = pages
    rows = np.arange(120.0)[:, None]
    seen = folds.fit(rows_seen, rows, label, page, "")
    for its, outside in zip(seen, folds.rows, strict=True):
        assert set(page[sorted(its)]).isdisjoint(page[outside])
        assert its == set(range(120)) - set(outside.tolist())


def test_every_clip_is_scored_by_the_model_that_did_not_see_its_page(pages):
    features, label, page, folds = pages
    models = folds.fit(classifiers.fit_logistic, features, label, page, "")
    scores = folds.scores(models, features)
    of_page = folds.by_page(models)
    assert set(of_page) == set(page)
    for i in range(0, 120, 7):
        expected = of_page[page[i]].decision_function(features[i : i + 1])
        assert scores[i] == pytest.approx(expected[0])


def test_leaving_out_nothing_gives_the_same_scores(pages):
    features, label, page, folds = pages
    models = folds.fit(classifiers.fit_svm, features, label, page, "")
    components = [model[:-1].transform(features) for model in models]
    nothing = np.zeros(120, bool)
    again = folds.scores_without(models, components, label, nothing)
    assert again == pytest.approx(folds.scores(models, features), abs=1e-6)
    without = folds.scores_without(models, components, label, page == "page-3")
    assert np.abs(without - again).max() > 1e-3


def test_a_source_is_left_out_only_if_both_classes_still_train(pages):
    _, label, _, folds = pages
    assert folds.can_leave_out(label, np.arange(120) < 20)
    assert not folds.can_leave_out(label, np.zeros(120, bool))
    assert not folds.can_leave_out(label, label == 0)


def test_the_mean_auc_leaves_out_pages_of_one_class():
    label = np.array([1, 0, 1, 0, 1, 1])
    scores = np.array([2.0, 1.0, 1.0, 2.0, 9.0, 9.0])
    page = np.array(["a", "a", "b", "b", "c", "c"], object)
    assert training.mean_auc(label, scores, page) == 0.5


def test_the_balanced_ece_does_not_depend_on_the_prior():
    """The ECE of the external test set was taken at a prior of 0.3 and compared with one at 0.5."""
    rng = np.random.default_rng(0)
    label = np.repeat([1, 0], 20000)
    log_odds = rng.normal(np.where(label == 1, 1.0, -1.0), np.sqrt(2))  # calibrated at one half
    p = 1 / (1 + np.exp(-log_odds))
    few = np.concatenate([np.arange(4000), np.arange(20000, 40000)])
    for rows in (slice(None), few):
        assert metrics.ece(label[rows], p[rows], balanced=True) < 0.015
    assert metrics.ece(label[few], p[few]) > 0.1


def test_the_balanced_ece_by_hand():
    # bin 0.6–0.7: weights 0.5/0.25 of the bona fide clip, 0.5/0.75 of each spoof
    label, p = np.array([1, 0, 0, 0]), np.array([0.65, 0.65, 0.15, 0.15])
    expected = (abs(2 * 0.35 - 0.65 * 2 / 3) + 2 * 0.15 * 2 / 3) / 4
    assert metrics.ece(label, p, balanced=True) == pytest.approx(expected)
    with pytest.raises(ValueError, match="both classes"):
        metrics.ece(label[1:], p[1:], balanced=True)


def test_the_balanced_ece_of_equal_classes_is_the_usual_one():
    rng = np.random.default_rng(1)
    label, p = np.repeat([0, 1], 50), rng.random(100)
    assert metrics.ece(label, p, balanced=True) == pytest.approx(metrics.ece(label, p))


def test_points_of_the_calibration_curve_by_hand():
    label, p = np.array([1, 0, 0, 0]), np.array([0.65, 0.65, 0.15, 0.15])
    curve = training.reliability(label, p)
    assert curve["clips"].tolist() == [2, 2] and curve["stated"].tolist() == [0.15, 0.65]
    assert curve["bonafide"].tolist() == pytest.approx([0, 0.75])


def test_a_partly_spoofed_recording_is_spoofed_in_the_middle():
    waves = [np.full(24000, 0.1 * (i + 1), np.float32) for i in range(3)]
    waves[2] = np.where(np.arange(24000) % 2, 0.3, -0.3).astype(np.float32)  # the fake one
    rng = np.random.default_rng(0)
    wave, spoof = training.partly_spoofed(waves, np.array([0, 1]), np.array([2]), rng)
    assert len(spoof) == int(np.ceil(len(wave) / dsp.RATE / detector.STEP_S))
    for middle, is_spoof in zip(detector.step_middles(len(wave)), spoof, strict=True):
        at = int(min(middle, len(wave) - 2))
        assert (wave[at] * wave[at + 1] < 0) == is_spoof
    assert not spoof[0] and not spoof[-1] and spoof.any()


def test_a_page_with_too_few_clips_gives_no_partly_spoofed_recording():
    waves = [np.ones(24000, np.float32)] * 6
    label = np.array([1, 1, 0, 1, 0, 0])
    page = np.array(["a", "a", "a", "b", "b", "b"], object)  # b has one bona fide clip
    recordings = training.partly_spoofed_recordings(waves, label, page, 2, 0)
    assert [name for name, _, _ in recordings] == ["a", "a"]


def test_errors_of_a_timeline_by_hand():
    spoof = np.array([True, True, False, False])
    row = training.segment_row(spoof, np.array([0.1, 0.9, 0.2, 0.8]))
    assert row == {"segment_eer": 0.5, "f1_spoof": 0.5, "iou": pytest.approx(1 / 3)}


def test_the_simulated_telephone_channel_follows_from_seed_and_name(speechlike):
    first = training.simulated_telephone(speechlike, "a", 1, 0.8)
    assert np.array_equal(first, training.simulated_telephone(speechlike, "a", 1, 0.8))
    assert not np.array_equal(first, training.simulated_telephone(speechlike, "b", 1, 0.8))


def test_the_change_of_the_eer_is_positive_where_scores_get_worse():
    label = np.array([1, 1, 0, 0])
    assert training.eer_change(label, label[::-1].astype(float), label.astype(float)) == 1


def test_without_songs_there_is_no_music():
    assert list(training.no_speech([], 0)) == ["noise", "tones"]
    song = np.ones(10 * dsp.RATE, np.float32)
    clips = training.no_speech([song], 0)
    assert {len(wave) for waves in clips.values() for wave in waves} == {4 * dsp.RATE}
    assert len(clips["music"]) == 8


def test_clips_of_a_corpus_are_told_by_the_paths_of_pages(tmp_path, monkeypatch):
    folder = tmp_path / "external" / "demo_pages"
    folder.mkdir(parents=True)
    meta = {
        "file": ["clips/a.wav", "clips/b.wav"],
        "page_path": ["VCTK/x.wav", "y"],
        "system": ["s"] * 2,
    }
    pd.DataFrame(meta).to_csv(folder / "meta.csv", index=False)
    monkeypatch.setattr(training.paths, "INPUTS", tmp_path)
    clips = pd.DataFrame(
        {
            "id": ["demo_pages/clips/b.wav", "demo_pages/clips/a.wav", "other/clips/a.wav"],
            "source": ["demo_pages", "demo_pages", "other"],
        }
    )
    found = training.clips_by_source(clips, {"VCTK": "vctk"})
    assert found["VCTK"].tolist() == [False, True, False]
