"""The vectorised bootstrap gives what the plain metrics give for clips that are repeated."""

import numpy as np
import pandas as pd
import pytest

from utils import bootstrap, metrics


@pytest.mark.parametrize(("ties", "first"), [(False, 64), (False, 3), (True, 64)])
def test_rates_of_a_draw_are_those_of_repeated_clips(ties, first):
    rng = np.random.default_rng(0)
    label, cell = rng.integers(0, 2, 60), rng.integers(0, 9, 60)
    scores = rng.normal(label)
    if ties:
        scores = np.round(scores)
    weights = rng.multinomial(9, np.full(9, 1 / 9), size=50)
    bonafide, spoof = label == 1, label == 0
    cells = bootstrap.Cells(cell[bonafide], weights), bootstrap.Cells(cell[spoof], weights)
    eers = bootstrap.eer(label, scores, weights[:, cell])
    of_cells = bootstrap.eer_of_cells(scores, bonafide, cells, first)
    shares = [cells[0].share(scores[bonafide] > 0.4), cells[1].share(scores[spoof] > 0.4)]
    for row, *values in zip(weights, eers, of_cells, *shares, strict=True):
        clips = np.repeat(np.arange(60), row[cell])
        y, accepted = label[clips], scores[clips] > 0.4
        expected = metrics.eer(y, scores[clips])
        expected = (expected, expected, accepted[y == 1].mean(), accepted[y == 0].mean())
        assert values == pytest.approx(expected, abs=1e-6)


def test_a_draw_of_one_class_is_undefined_and_left_out_of_the_interval():
    label, scores = np.array([1, 1, 0, 0]), np.array([3.0, 1.0, 2.0, 0.0])
    weights = np.array([[1, 1, 0, 0], [0, 0, 2, 2], [1, 1, 1, 1]])
    assert np.isnan(bootstrap.eer(label, scores, weights)[:2]).all()
    cells = bootstrap.Cells(np.array([0, 1]), weights), bootstrap.Cells(np.array([2, 3]), weights)
    of_cells = bootstrap.eer_of_cells(scores, label == 1, cells)
    assert np.array_equal(np.isnan(of_cells), [True, True, False]) and of_cells[2] == 0.5
    assert np.isnan(cells[0].share(np.array([True, True]))[1])
    assert bootstrap.interval(bootstrap.eer(label, scores, weights)) == (0.5, 0.5)
    assert np.isnan(bootstrap.interval(np.array([np.nan]))).all()


def test_p_values_by_hand():
    assert bootstrap.p_value(np.r_[np.full(97, 1.0), np.full(3, -1.0)]) == pytest.approx(0.06)
    assert bootstrap.p_value(np.full(99, -1.0)) == pytest.approx(0.01)  # never 0
    assert bootstrap.p_value(np.zeros(10)) == 1
    assert bootstrap.p_value(np.array([1.0, np.nan, np.nan])) == 0.5
    assert np.isnan(bootstrap.p_value(np.array([np.nan])))


def test_p_values_are_corrected_by_holm():
    found = bootstrap.holm(np.array([0.04, np.nan, 0.01, 0.03, 0.5]))
    assert found == pytest.approx([0.09, np.nan, 0.04, 0.09, 0.5], nan_ok=True)
    assert bootstrap.holm(np.array([0.6, 0.7])).tolist() == [1, 1]


def test_perfect_and_reversed_scores():
    label, weights = np.array([0, 0, 1, 1]), np.ones((1, 4), int)
    assert bootstrap.eer(label, np.array([0.0, 1.0, 2.0, 3.0]), weights)[0] == 0
    assert bootstrap.eer(label, np.array([3.0, 2.0, 1.0, 0.0]), weights)[0] == 1


def test_groups_are_drawn_whole():
    weights = bootstrap.group_weights(np.array(["a", "b", "a", "c"]), 500, seed=1)
    assert weights.shape == (500, 3) and (weights.sum(axis=1) == 3).all()
    assert abs(weights.mean() - 1) < 0.01


def test_some_groups_are_whole_and_no_more_than_asked_for():
    group = pd.Series(np.repeat([f"g{i}" for i in range(20)], 5))
    some = bootstrap.some_groups(group, 33)
    assert some.sum() == 30
    assert set(group[some]).isdisjoint(group[~some])
    assert bootstrap.some_groups(group, 0).all()
    assert not some.equals(bootstrap.some_groups(group, 33, seed=1))
