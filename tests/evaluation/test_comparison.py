"""Differences are paired, intervals follow groups and families, and votes read no label."""

import numpy as np
import pandas as pd
import pytest

from utils import metrics
from utils.evaluation import ablation, comparison, leave_out

KEY = comparison.KEY


@pytest.fixture(scope="module")
def tables(clips, features):
    """Scores of four models whose errors are independent."""
    return [
        ablation.score_condition(clips, 0, "logistic", features(1.5, seed), None)
        for seed in range(4)
    ]


def rows_of(clips, condition, reference, **options):
    label, group = clips["label"].to_numpy(), clips["group"].to_numpy()
    found = comparison.compare(label, group, condition, reference, **options)
    return pd.DataFrame(found).set_index(["protocol", "metric"])


def test_a_perfect_condition_against_a_coin(clips, tables):
    label = clips["label"].to_numpy()
    perfect = tables[0].assign(score=label[tables[0]["clip"]] * 2.0)
    coin = tables[0].assign(score=np.arange(len(tables[0])) // 2 % 2.0)
    found = rows_of(clips, [perfect], [coin], repeats=200)
    test = found.loc["test"]
    assert tuple(test.loc["eer", ["value", "low", "high"]]) == (0, 0, 0)
    assert tuple(test.loc["f1", ["value", "low", "high"]]) == (1, 1, 1)
    assert test.loc["eer", "delta"] == -test.loc["eer", "reference_value"]
    assert test.loc["eer", "delta_high"] < -0.3


def test_a_condition_against_itself_differs_by_nothing(clips, tables):
    found = rows_of(clips, tables[:1], tables[:1], repeats=50)
    assert (found[["delta", "delta_low", "delta_high"]] == 0).all(axis=None)
    assert set(found.index.get_level_values("protocol")) == set(leave_out.PROTOCOLS)


def test_values_are_those_of_the_plain_metrics_averaged_over_families_and_seeds(clips, tables):
    label = clips["label"].to_numpy()
    found = rows_of(clips, tables[:2], tables[:2], repeats=20)["value"]
    for protocol in ("out of fold", "test"):
        parts = [t[t["protocol"] == protocol] for t in tables[:2]]
        eers = [metrics.eer(label[part["clip"]], part["score"]) for part in parts]
        assert found[protocol, "eer"] == pytest.approx(np.mean(eers))
    of_families = [
        metrics.eer(label[part["clip"]], part["score"])
        for table in tables[:2]
        for _, part in table[table["protocol"] == "unseen families"].groupby("part")
    ]
    assert found["unseen families", "eer"] == pytest.approx(np.mean(of_families))
    cut = comparison.threshold(label, tables[0])
    part = tables[0][tables[0]["protocol"] == "test"]
    f1 = metrics.f1(label[part["clip"]], part["score"] > cut)
    alone = rows_of(clips, tables[:1], tables[:1], repeats=20)["value"]
    assert alone["test", "f1"] == pytest.approx(f1)


def test_the_interval_of_unseen_families_covers_their_spread(clips, tables):
    """One family is impossible, the others are trivial: the interval must know that."""
    label = clips["label"].to_numpy()
    table = tables[0].copy()
    sign = np.where(table["part"] == "pico", -1, 1)
    table["score"] = label[table["clip"]] * 2.0 * sign
    row = rows_of(clips, [table], [table], repeats=500).loc[("unseen families", "eer")]
    assert row["value"] == pytest.approx(0.2) and row["low"] == 0 and row["high"] >= 0.4


def test_only_clips_that_both_scored_are_compared(clips, tables):
    fewer = tables[1][(tables[1]["protocol"] != "test") | (tables[1]["clip"] % 4 < 2)]
    row = rows_of(clips, tables[:1], [fewer], repeats=20).loc[("test", "eer")]
    assert row["clips"] == 20
    part = tables[0][(tables[0]["protocol"] == "test") & (tables[0]["clip"] % 4 < 2)]
    label = clips["label"].to_numpy()
    assert row["value"] == pytest.approx(metrics.eer(label[part["clip"]], part["score"]))


def test_the_table_counts_comparisons_beside_what_chance_gives(clips, tables):
    scores = {("a", 1): tables[0], ("b", 1): tables[1], ("b", 2): tables[2]}
    table = comparison.table(clips, scores, {"a": "", "b": "a"}, repeats=50)
    assert set(table.loc[table["condition"] == "b", "seeds"]) == {1}  # "a" has one seed only
    counts = comparison.counts(table)
    assert (counts["comparisons"] == 1).all() and len(counts) == 10
    assert (counts["expected_by_chance"] == 0.05).all()
    improved = table.assign(delta_low=-0.2, delta_high=-0.1)
    counts = comparison.counts(improved)
    assert (counts.xs("eer", level="metric")["better"] == 1).all()
    assert (counts.xs("f1", level="metric")["worse"] == 1).all()


@pytest.mark.parametrize("stacker", ["logistic", "lightgbm"])
def test_a_stack_gains_from_models_that_err_apart_and_reads_no_label_of_the_test(
    clips, tables, stacker
):
    label = clips["label"].to_numpy()
    scaled = [comparison.scaled(label, table) for table in tables]
    stacked = comparison.stack(clips, 0, scaled, stacker)
    for protocol in ("out of fold", "unseen corpora"):
        rows = stacked[stacked["protocol"] == protocol]
        singles = [t[t["protocol"] == protocol] for t in tables]
        single = min(metrics.eer(label[t["clip"]], t["score"]) for t in singles)
        assert metrics.eer(label[rows["clip"]], rows["score"]) < single
    flipped = clips.assign(label=np.where(clips["set"] == "test", 1 - label, label))
    again = comparison.stack(flipped, 0, scaled, stacker)
    test = stacked["protocol"] == "test"
    assert np.array_equal(stacked.loc[test, "score"], again.loc[test, "score"])


def test_votes_by_hand(clips, tables):
    label = clips["label"].to_numpy()
    two = [tables[0].assign(score=1.0), tables[0].assign(score=-3.0)]
    assert (comparison.vote(two)["score"] == -1).all()
    assert np.allclose(comparison.vote(two, hard=True)["score"], 1 - 1e-3)
    scaled = comparison.scaled(label, tables[0])
    out_of_fold = scaled[scaled["protocol"] == "out of fold"]
    assert out_of_fold["score"].std() == pytest.approx(1)
    assert comparison.threshold(label, scaled) == pytest.approx(0, abs=1e-6)


def test_errors_by_hand():
    clips = pd.DataFrame(
        {"label": [1] * 10 + [0] * 10, "source": "a", "family": ["bonafide"] * 10 + ["f"] * 10}
    )
    score = np.r_[np.full(8, 3.0), 0.0, 0.1, np.full(8, -3.0), 4.0, 4.1]
    table = pd.DataFrame({"protocol": "test", "part": "", "clip": np.arange(20), "score": score})
    found = comparison.errors(clips, [table]).set_index("class")
    assert found.loc["spoof", "error_rate"] == found.loc["bona fide", "error_rate"] == 0.2
    assert found["clips"].tolist() == [10, 10]


def test_the_figure_names_every_condition_and_protocol(clips, tables, tmp_path, monkeypatch):
    scores = {("a", 1): tables[0], ("b", 1): tables[1], ("c", 1): tables[2]}
    table = comparison.table(clips, scores, {"a": "", "b": "a", "c": "b"}, repeats=20)
    shown = {}

    def save(run, name):
        figure = comparison.plt.gcf()
        shown["labels"] = [t.get_text() for t in figure.axes[0].get_yticklabels()]
        shown["titles"] = [axis.get_title() for axis in figure.axes]

    monkeypatch.setattr(comparison.plots, "save", save)
    comparison.figure(tmp_path, table, {"one": ["b"], "two": ["c"]})
    assert set(shown["labels"]) == {"one", "b", "two", "c"}
    assert shown["titles"] == list(comparison.SHOWN)
