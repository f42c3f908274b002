"""Classifiers: every kind learns, is repeatable and gives higher scores to bona fide clips."""

import numpy as np
import pytest

from utils import metrics
from utils.audio import dsp
from utils.models import classifiers


@pytest.fixture
def clips():
    """Features (300, 6) and labels; the first column separates the classes."""
    rng = np.random.default_rng(0)
    label = np.arange(300) % 2
    x = rng.normal(size=(300, 6)).astype(np.float32)
    x[:, 0] += 8.0 * label
    return x, label


@pytest.mark.parametrize("kind", [kind for kind in classifiers.KINDS if kind != "cnn"])
def test_every_kind_separates_easy_classes_and_repeats(clips, kind):
    x, label = clips
    if kind == "deep_svdd":  # sees bona fide clips only: spoofed ones must be far away on all sides
        x = np.where(label[:, None] == 1, x - x[label == 1].mean(axis=0), 6 * x)
    scorer = classifiers.fit(kind, x[:200], label[:200], 0)
    scores = scorer(x[200:])
    assert scores.shape == (100,) and metrics.eer(label[200:], scores) < 0.15
    assert np.array_equal(scores, classifiers.fit(kind, x[:200], label[:200], 0)(x[200:]))


def test_an_unknown_kind_is_refused_and_all_kinds_are_named(clips):
    with pytest.raises(ValueError, match="'forest'.*deep_svdd"):
        classifiers.fit("forest", *clips, 0)


def test_a_strict_model_scores_all_clips_lower_than_a_lenient_one(clips):
    x, label = clips
    strict, plain, lenient = (
        classifiers.fit(kind, x, label, 0)(x).mean() for kind in ("strict", "logistic", "lenient")
    )
    assert strict < plain < lenient


def test_a_strict_svm_accepts_fewer_clips_of_both_classes_than_a_lenient_one():
    rng, label = np.random.default_rng(0), np.arange(400) % 2
    x = rng.normal(size=(400, 6)) + 0.8 * label[:, None]
    weights = classifiers.strictnesses("svm")
    assert list(weights) == ["svm-strict", "svm", "svm-lenient"]
    scores = classifiers.svm_scores(x[:200], label[:200], x[200:], tuple(weights.values()))
    assert np.array_equal(scores[:, 1], classifiers.fit("svm", x[:200], label[:200], 0)(x[200:]))
    for one in (0, 1):
        strict, plain, lenient = (scores[label[200:] == one] > 0).mean(axis=0)
        assert strict < plain < lenient


def test_classes_are_balanced_before_a_spoof_is_weighted():
    label = np.array([1, 1, 1, 0])
    assert classifiers.class_weights(label) == {0: 2.0, 1: 4 / 6}
    assert classifiers.class_weights(label, 4.0) == {0: 8.0, 1: 4 / 6}


def test_gamma_of_the_svm_is_inverse_to_the_number_of_features(clips):
    x, label = clips
    wide = np.concatenate([x, x], axis=1)
    for features in (x, wide):
        model = classifiers.fit_svm(features, label, gamma_times_size=0.5)
        assert model[-1].gamma == 0.5 / features.shape[1]


def test_deep_svdd_ranks_outliers_last():
    rng = np.random.default_rng(0)
    inside, outside = rng.standard_normal((300, 20)), rng.standard_normal((50, 20)) + 4
    scorer, losses = classifiers.fit_deep_svdd(inside[:250].astype(np.float32), 8, 20, 0)
    assert losses[-1] < losses[0]
    assert np.median(scorer(outside)) < np.percentile(scorer(inside[250:]), 10)


def test_the_official_baseline_learns_and_repeats():
    rng, label = np.random.default_rng(0), np.arange(60) % 2
    waves = [dsp.coloured_noise(9000, 6.0 * y, rng) * 0.1 for y in label]
    mels = classifiers.baseline_log_mels(waves)
    assert mels[0].shape[1] == 40 and len(mels[0]) >= 100
    scores = classifiers.fit_cnn(mels[:40], label[:40], 0, epochs=4)(mels[40:])
    assert metrics.eer(label[40:], scores) < 0.1
    again = classifiers.fit_cnn(mels[:40], label[:40], 0, epochs=4)(mels[40:])
    assert np.array_equal(scores, again)
