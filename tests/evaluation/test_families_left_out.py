"""The quick model's leave-out views leave out what they say."""

import numpy as np
import pytest

from utils.competition import plans
from utils.evaluation import leave_out
from utils.models import classifiers, pooled_features
from utils.pipeline import run


@pytest.fixture
def clips():
    """120 clips in 4 folds: real at -1; fakes of family `seen` and `twin` at +1, of `odd` on another axis."""
    rng = np.random.default_rng(0)
    family = np.array(["bonafide"] * 60 + ["seen"] * 20 + ["twin"] * 20 + ["odd"] * 20)
    x = rng.normal(size=(120, 6)).astype(np.float32) * 0.2
    x[family == "bonafide", 0] -= 1
    x[np.isin(family, ("seen", "twin")), 0] += 1
    x[family == "odd", :2] += (-1, 4)  # what tells it from real is what no other family shows
    return x, (family == "bonafide").astype(int), family, np.arange(120) % 4


def test_a_family_is_judged_by_models_that_never_saw_it(clips):
    x, label, family, fold = clips
    found = leave_out.eer_by_family_left_out(x, label, family, fold)
    assert set(found) == {"seen", "twin", "odd"}
    assert max(found["seen"], found["twin"]) < 0.1 < found["odd"]
    inside = np.isin(family, ("bonafide", "odd"))
    assert (
        pooled_features.metrics.eer(
            label[inside], classifiers.fit_logistic(x, label).decision_function(x[inside])
        )
        < 0.05
    )  # seen, it is easy
    assert set(leave_out.eer_by_family_left_out(x, label, family, fold, least=21)) == set()


def test_a_stricter_model_says_real_less_often(clips):
    x, label, _, _ = clips
    blurred = x + np.random.default_rng(1).normal(size=x.shape) * 2
    shares = [
        (
            classifiers.fit_logistic(blurred, label, spoof_weight=weight).decision_function(blurred)
            > 0
        ).mean()
        for weight in (0.25, 1.0, 4.0)
    ]
    assert shares[0] > shares[1] + 0.1 > shares[2] + 0.2
    uneven = np.r_[
        0:60, 60:80
    ]  # three real clips to a fake: weighed alike, as scikit-learn's "balanced" does
    model = pooled_features.make_pipeline(
        pooled_features.StandardScaler(),
        pooled_features.LogisticRegression(C=0.001, class_weight="balanced"),
    )
    expected = model.fit(blurred[uneven], label[uneven]).decision_function(blurred)
    assert np.allclose(
        classifiers.fit_logistic(blurred[uneven], label[uneven]).decision_function(blurred),
        expected,
        atol=1e-9,
    )


def test_a_source_is_left_out_with_all_its_groups(clips, monkeypatch):
    x, label, _, _ = clips
    source, group = np.array(["a", "b", "c", "d"] * 30), np.array([f"g{i % 8}" for i in range(120)])
    group[:3] = "shared"  # a clip of b and one of c share a group with one of a
    trained = []
    fit = classifiers.fit_logistic
    monkeypatch.setattr(
        pooled_features, "fit", lambda x, label, **k: trained.append(len(x)) or fit(x, label, **k)
    )
    found = leave_out.eer_by_source_left_out(x, label, source, group)
    assert set(found) == {"a", "b", "c", "d"} and trained == [88, 88, 88, 90]
    assert leave_out.eer_by_source_left_out(x, label, source, group, least=31) == {}


def test_a_missing_external_corpus_is_named(monkeypatch):
    monkeypatch.setitem(plans.PLANS, "there", None)
    monkeypatch.setattr("utils.competition.build.build", lambda name: None)
    with pytest.raises(run.RunError, match=r"external/Nowhere is missing.*utils\.adapters"):
        run.get_inputs("there", ["Nowhere"])
