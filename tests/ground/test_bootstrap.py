"""The vectorised bootstrap gives what the plain metrics give for clips that are repeated."""

import numpy as np
import pytest

from utils import bootstrap, metrics


@pytest.mark.parametrize("ties", [False, True])
def test_eer_and_f1_of_a_draw_are_those_of_repeated_clips(ties):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 60)
    scores = rng.normal(label)
    if ties:
        scores = np.round(scores)
    weights = rng.multinomial(60, np.full(60, 1 / 60), size=50)
    eers = bootstrap.eer(label, scores, weights)
    f1s = bootstrap.f1(label, (scores > 0.4).astype(int), weights)
    for row, eer, f1 in zip(weights, eers, f1s, strict=True):
        clips = np.repeat(np.arange(60), row)
        assert eer == pytest.approx(metrics.eer(label[clips], scores[clips]), abs=1e-12)
        assert f1 == pytest.approx(metrics.f1(label[clips], scores[clips] > 0.4), abs=1e-12)


def test_a_draw_of_one_class_is_undefined_and_left_out_of_the_interval():
    label, scores = np.array([1, 1, 0, 0]), np.array([3.0, 1.0, 2.0, 0.0])
    weights = np.array([[1, 1, 0, 0], [0, 0, 2, 2], [1, 1, 1, 1]])
    assert np.isnan(bootstrap.eer(label, scores, weights)[:2]).all()
    assert np.isnan(bootstrap.f1(label, label, weights)[1])
    assert bootstrap.interval(bootstrap.eer(label, scores, weights)) == (0.5, 0.5)
    assert np.isnan(bootstrap.interval(np.array([np.nan]))).all()


def test_perfect_and_reversed_scores():
    label, weights = np.array([0, 0, 1, 1]), np.ones((1, 4), int)
    assert bootstrap.eer(label, np.array([0.0, 1.0, 2.0, 3.0]), weights)[0] == 0
    assert bootstrap.eer(label, np.array([3.0, 2.0, 1.0, 0.0]), weights)[0] == 1


def test_groups_are_drawn_whole():
    weights = bootstrap.group_weights(np.array(["a", "b", "a", "c"]), 500, seed=1)
    assert weights.shape == (500, 3) and (weights.sum(axis=1) == 3).all()
    assert abs(weights.mean() - 1) < 0.01
