"""How good, on what, and where: the numbers of notebook 08, by hand."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from torch import nn

from utils import metrics
from utils.evaluation import benchmark, inspection
from utils.models import encoders


@pytest.fixture
def scored():
    """Labels, groups, decisions and probabilities of 200 clips."""
    rng = np.random.default_rng(0)
    label = np.arange(200) % 2
    probability = np.clip(0.5 + 0.2 * (label - 0.5) + 0.2 * rng.standard_normal(200), 0.01, 0.99)
    return label, np.arange(200) // 10, (probability > 0.5).astype(int), probability


def test_a_result_has_rates_and_intervals_around_its_values(scored):
    row = inspection.result_row("model", *scored, 0.5, repeats=100, seed=0)
    label, _, decisions, _ = scored
    assert row["recall"] == decisions[label == 1].mean()
    assert row["false_acceptance"] == decisions[label == 0].mean()
    for metric in ("f1", "eer", "auc"):
        assert row[f"{metric}_low"] < row[metric] < row[f"{metric}_high"]
    assert row["best_f1"] >= row["f1"]
    assert np.isfinite(list(row.values())).all()


def test_the_hard_vote_has_no_costs_of_probabilities(scored):
    """Its fraction of votes was turned into log-odds of ±14: Cllr and actDCF said nothing."""
    row = inspection.result_row("hard vote", *scored, 0.5, repeats=20, seed=0)
    assert np.isnan([row["act_dcf"], row["cllr"], row["ece"]]).all()
    assert np.isfinite([row["min_dcf"], row["eer"], row["f1"]]).all()


def test_probabilities_are_charged_without_the_prior_that_they_are_stated_for(scored):
    """Probabilities stated for 0.3 have the same likelihood ratios as those stated for 0.5."""
    label, group, decisions, probability = scored
    odds = probability / (1 - probability) * 0.3 / 0.7
    rows = [
        inspection.result_row("model", label, group, decisions, p, prior, repeats=20, seed=0)
        for p, prior in ((probability, 0.5), (odds / (1 + odds), 0.3))
    ]
    assert rows[0]["cllr"] == pytest.approx(rows[1]["cllr"])
    assert rows[0]["act_dcf"] == pytest.approx(rows[1]["act_dcf"])


@pytest.fixture
def axis():
    yield plt.figure().subplots()
    plt.close("all")


def test_a_confusion_matrix_counts_every_clip_once(axis):
    label, decisions = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 0, 1])
    inspection.plot_confusion(axis, label, decisions)
    shown = {text.get_position(): text.get_text() for text in axis.texts}
    assert shown == {(0, 0): "2\n67%", (1, 0): "1\n33%", (0, 1): "1\n50%", (1, 1): "1\n50%"}
    assert [text.get_text() for text in axis.get_yticklabels()] == ["bona fide", "spoof"]


def test_a_det_curve_crosses_the_diagonal_at_its_equal_error_rate(axis, scored):
    label, _, _, probability = scored
    inspection.plot_det(axis, label, {"a": probability, "b": -probability})
    crossing = np.abs(np.subtract(*axis.lines[0].get_data())).argmin()
    rates = norm.cdf(np.array(axis.lines[0].get_data())[:, crossing])
    assert rates == pytest.approx(metrics.eer(label, probability), abs=0.02)
    assert axis.get_legend().get_texts()[0].get_text().startswith("a: EER 0.")


def test_score_histograms_count_the_clips_of_each_class(axis, scored):
    label, _, _, probability = scored
    inspection.plot_scores(axis, label, probability, 0.5)
    names = [text.get_text() for text in axis.get_legend().get_texts()]
    assert sorted(names) == ["bona fide (100 clips)", "spoof (100 clips)", "threshold 0.50"]


def test_bona_fide_and_spoof_stand_apart_in_a_breakdown():
    """A language of spoofs alone used to look as easy as spoofs are."""
    by = {"language": pd.Series(["zh"] * 10 + ["cs"] * 20)}
    label = np.array([0] * 10 + [1] * 12 + [0] * 8)
    decisions = np.zeros(30, int)
    table = inspection.breakdown(by, label, decisions).set_index(["value", "class"])
    assert table["right"].to_dict() == {
        ("zh", "spoof"): 1.0,
        ("cs", "spoof"): 1.0,
        ("cs", "bona fide"): 0.0,
    }
    assert table.loc[("cs", "bona fide"), "clips"] == 12


def test_intervals_of_a_breakdown_are_wilsons():
    by = {"language": pd.Series(["cs"] * 20)}
    decisions = np.array([1] * 15 + [0] * 5)
    (row,) = inspection.breakdown(by, np.ones(20, int), decisions).itertuples()
    z, n, p = 1.959964, 20, 0.75
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert (row.right_low, row.right_high) == pytest.approx((middle - half, middle + half))


def test_few_clips_make_no_row_and_lengths_keep_their_order():
    clips = pd.DataFrame(
        {
            "label": 1,
            "system": "bonafide",
            "source": ["a"] * 26 + ["b"] * 4,
            "language": ["en"] * 15 + ["en+fr"] * 15,
        }
    )
    durations = [9.0] * 10 + [1.0] * 10 + [4.0] * 10
    by = inspection.conditions(clips, durations)
    table = inspection.breakdown(by, clips["label"], np.arange(30) < 10)
    values = table.groupby("by", sort=False)["value"].agg(list)
    assert values["system or source"] == ["a"]  # four clips of "b" are too few
    assert values["length"] == ["under 2 s", "3 to 5 s", "over 8 s"]
    assert set(values["language"]) == {"en", "mixed"}
    assert "channel" not in by


def test_spliced_systems_are_one_condition_and_channels_name_their_noise():
    clips = pd.DataFrame(
        {
            "label": [0, 0, 1],
            "system": ["splice+lpc", "pico", "bonafide"],
            "source": ["x", "y", "z"],
            "language": "en",
            "codec": ["amr", "pcm", "pcm"],
            "noise": ["none", "babble", "none"],
        }
    )
    by = inspection.conditions(clips, [3.0, 3.0, 3.0])
    assert list(by["system or source"]) == ["spliced", "pico", "z"]
    assert list(by["channel"]) == ["amr", "pcm, babble", "pcm"]


class Sum(nn.Module):
    """Log-odds: the mean of the features of a clip; one feature per 100 samples."""

    def __init__(self):
        super().__init__()
        self.backbone = self

    def prepare(self, wave):
        return torch.from_numpy(wave).reshape(-1, 100).mean(1, keepdim=True)

    def forward(self, features, frames):
        return features.mean(dim=(1, 2))


def test_a_hidden_quarter_costs_what_it_had_added():
    wave = np.zeros(8000, np.float32)
    wave[2000:4000] = 4.0  # the second quarter
    added, edges = inspection.hidden_quarters(Sum(), wave)
    assert edges == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    # the mean is 1: hiding the second quarter takes (4 − 1)/4, any other gives back 1/4
    assert added == pytest.approx([-0.25, 0.75, -0.25, -0.25])
    table = inspection.quarters_table("a.wav", added, edges, [[0.3, 0.7]])
    assert list(table["spoof"]) == [0, 1, 1, 0]
    assert not inspection.quarters_table("a.wav", added, edges, [])["spoof"].any()


def test_weights_of_a_head_are_divided_among_depths_and_statistics():
    model = benchmark.detector_of(encoders.CAMPPlusBackbone(encoders.CAMPPlus()))
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.weight[0, 0] = 2.0  # a mean at depth 0
        model.head.weight[0, -1] = 1.0  # a delta at the highest depth
    table = inspection.weight_by_depth(model)
    assert table.shape == (4, 3)
    assert (table[0, 0], table[-1, 2]) == pytest.approx((0.8, 0.2))
    assert table.sum() == pytest.approx(1)
