"""Linear heads and folds that leave owners out."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from utils.detector.train import heads


@pytest.fixture
def clips():
    """(statistics, label, owner) of 240 clips of 24 owners."""
    rng = np.random.default_rng(0)
    owner = np.array([f"owner-{i % 24:02d}" for i in range(240)])
    label = rng.integers(2, size=240)
    x = rng.normal(size=(240, 20)) + label[:, None]
    return x.astype(np.float32), label, owner


def test_all_clips_of_an_owner_are_in_one_fold(clips):
    _, label, owner = clips
    fold = heads.owner_folds(label, owner, 1, 4)
    assert set(fold) == {0, 1, 2, 3}
    for name in set(owner):
        assert len(set(fold[owner == name])) == 1
    for number in range(4):
        assert set(label[fold == number]) == {0, 1}


def test_a_clip_is_scored_by_a_line_that_learned_from_other_folds(clips):
    """Labels of one fold are turned round: its line, which does not see them, still ranks right."""
    x, label, owner = clips
    fold = heads.owner_folds(label, owner, 1, 4)
    wrong = np.where(fold == 2, 1 - label, label)
    lines = heads.lines_of_folds(heads.Clips(x), wrong, np.ones(240), fold)
    scores = heads.scores_of_folds(lines, x, fold)
    inside = fold == 2
    assert scores[inside & (label == 1)].mean() > scores[inside & (label == 0)].mean() + 1


def test_clips_of_a_negative_fold_do_not_train(clips):
    x, label, owner = clips
    fold = heads.owner_folds(label, owner, 1, 4)
    out = owner < "owner-06"
    some = np.where(out, -1, fold)
    one = heads.lines_of_folds(heads.Clips(x), label, np.ones(240), some)
    wrong = np.where(out, 1 - label, label)
    other = heads.lines_of_folds(heads.Clips(x), wrong, np.ones(240), some)
    assert all(np.array_equal(a.weight, b.weight) for a, b in zip(one, other, strict=True))
    assert np.isnan(heads.scores_of_folds(one, x, some)[out]).all()


def test_the_line_is_that_of_a_library(clips):
    """On statistics as they are: standardised inside, and a line on what they were before."""
    x, label, owner = clips
    moved = (x * np.linspace(1, 100, 20) + np.arange(20)).astype(np.float32)
    weight = heads.clip_weights(owner, label)
    line = heads.Clips(moved).line(np.arange(240), label, weight)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=heads.C, tol=1e-8))
    model.fit(moved, label, logisticregression__sample_weight=weight)
    assert np.allclose(line.scores(moved), model.decision_function(moved), atol=1e-3)


def test_weights_by_hand():
    owner = np.array(["a"] * 4 + ["b"] * 1 + ["c"] * 1)
    label = np.array([0, 0, 0, 0, 0, 1])
    weight = heads.clip_weights(owner, label)
    assert weight.mean() == pytest.approx(1) and weight[5] == pytest.approx(3)
    assert weight[4] == pytest.approx(2 * weight[0])  # one clip against four of one owner
    assert weight[label == 0].sum() == pytest.approx(weight[label == 1].sum())


def test_a_direction_that_says_nothing_of_the_class_is_not_read(clips):
    """One column follows the class here and moves by itself elsewhere: the line leaves it alone."""
    x, label, owner = clips
    nuisance = np.zeros((30, 20), np.float32)
    nuisance[:, 4] = np.random.default_rng(2).normal(size=30)
    weight = heads.clip_weights(owner, label)
    free = heads.Clips(x).line(np.arange(240), label, weight)
    line = heads.Clips(x, nuisance).line(np.arange(240), label, weight)
    assert abs(line.weight[4]) < 1e-3 * abs(free.weight[4]) and np.abs(line.weight[:4]).min() > 0
    moved = x + nuisance[:1]
    assert np.allclose(line.scores(moved), line.scores(x), atol=1e-3)
    assert np.abs(free.scores(moved) - free.scores(x)).max() > 0.01
