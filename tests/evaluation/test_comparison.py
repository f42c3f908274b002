"""Differences are paired, intervals follow groups and families, and votes read no label."""

import numpy as np
import pandas as pd
import pytest

from utils import metrics, paths
from utils.evaluation import comparison, leave_out, stacking
from utils.evaluation.calibration import f1_at_prior


def rows_of(clips, condition, reference, **options):
    found = comparison.compare(clips, condition, reference, prior=0.3, **options)
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
    cut = stacking.threshold(label, tables[0])
    part = tables[0][tables[0]["protocol"] == "test"]
    truth, accepted = label[part["clip"]], part["score"] > cut
    f1 = f1_at_prior(accepted[truth == 1].mean(), accepted[truth == 0].mean(), 0.3)
    alone = rows_of(clips, tables[:1], tables[:1], repeats=20)
    assert alone.loc[("test", "f1"), "value"] == pytest.approx(f1)
    assert (alone["prior"] == 0.3).all() and comparison.test_prior(clips) == 0.5


def test_the_interval_of_unseen_families_covers_their_spread(clips, tables):
    """One family is impossible, the others are trivial: the interval must know that."""
    label = clips["label"].to_numpy()
    table = tables[0].copy()
    sign = np.where(table["part"] == "pico", -1, 1)
    table["score"] = label[table["clip"]] * 2.0 * sign
    row = rows_of(clips, [table], [table], repeats=500).loc[("unseen families", "eer")]
    assert row["value"] == pytest.approx(0.2) and row["low"] == 0 and row["high"] >= 0.4


def test_the_interval_of_the_test_covers_the_spread_of_families(clips, tables):
    """Of two families one is impossible and one is trivial; all groups are alike."""
    test = tables[0]["protocol"] == "test"
    clip = tables[0].loc[test, "clip"].to_numpy()
    two = clips.copy()
    two.loc[clip, "family"] = np.where(clip % 4 < 2, "easy", "hard")
    label = clips["label"].to_numpy()[clip]
    table = tables[0].copy()
    table.loc[test, "score"] = np.where(label == 1, 0.0, np.where(clip % 4 < 2, -1.0, 1.0))
    row = rows_of(two, [table], [table], repeats=500).loc[("test", "eer")]
    assert row["families"] == 2 and row["low"] == 0 and row["high"] == pytest.approx(1)
    row = rows_of(clips, [table], [table], repeats=500).loc[("test", "eer")]
    assert row["families"] == 1 and row["low"] > 0.2 and row["high"] < 0.8


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
    compared = table["against"] == "a"
    assert table.loc[~compared, ["p", "p_holm"]].isna().all(axis=None)
    assert (table.loc[compared, "p_holm"] >= table.loc[compared, "p"]).all()
    assert table.loc[compared, "p"].between(1 / 51, 1).all() and not counts["survive"].any()
    improved = table.assign(delta_low=-0.2, delta_high=-0.1, p_holm=0.01)
    counts = comparison.counts(improved)
    assert (counts["survive"] == 1).all()
    assert (counts.xs("eer", level="metric")["better"] == 1).all()
    assert (counts.xs("f1", level="metric")["worse"] == 1).all()


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


@pytest.mark.parametrize(
    ("low", "high", "claimed", "expected"),
    [
        (0.001, 0.005, 0.02, "reproduced"),
        (-0.017, 0.013, 0.02, "refuted"),
        (-0.005, 0.045, 0.01, "undecided, interval 0.050 wide"),
        (-0.03, -0.01, 0.0, "refuted"),
        (-0.01, 0.02, 0.0, "undecided, interval 0.030 wide"),
    ],
)
def test_verdicts_by_hand(low, high, claimed, expected):
    assert comparison.verdict(low, high, claimed) == expected


def test_claims_are_read_from_f1_on_the_test_beside_the_slides():
    rows = pd.DataFrame({"condition": ["+ splice", "soft vote", "+ demo pages", "other"]})
    rows = rows.assign(metric="f1", protocol="test", delta=0.005, delta_low=-0.0, delta_high=0.015)
    rows = pd.concat([rows, rows.assign(metric="eer"), rows.assign(protocol="out of fold")])
    slides = pd.read_csv(paths.ROOT / "outputs" / "reference" / "slides.csv")
    found = comparison.claims(rows, slides[::-1]).set_index("condition")  # in any order
    assert list(found.index) == ["+ splice", "soft vote", "+ demo pages"]
    assert found["claimed"].tolist() == pytest.approx([0.02, 0.005, np.nan], nan_ok=True)
    assert found["verdict"].str.split(",").str[0].tolist() == ["refuted", "undecided", "undecided"]
    assert found.loc["+ splice", "sentence"].endswith("(slides +0.020), **refuted**")
