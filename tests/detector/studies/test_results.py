"""What the table of scores says, by hand."""

import numpy as np
import pandas as pd
import pytest

from utils.detector.studies import results


@pytest.fixture
def table(tmp_path):
    """40 clips of 8 owners: spoofs around -2, bona fide around 2, of people around 4."""
    rng = np.random.default_rng(0)
    label = np.arange(40) % 2
    plain = (label == 1) & (np.arange(40) % 4 == 1)
    frame = pd.DataFrame(
        {
            "id": [f"{i:012x}" for i in range(40)],
            "owner": [f"owner-{i % 8}" for i in range(40)],
            "system": np.where(label == 1, "bonafide", "HiFi-GAN"),
            "language": "en",
            "label": label,
            "kind": np.where(plain, "plain", "page"),
            "corpus": "",
            "seconds": 3.0,
            "bandwidth_hz": 8000.0,
            "fold": np.arange(40) % 8,
            "score_8khz": 4.0 * label - 2 + 2 * plain + rng.normal(size=40),
            "score_16khz": np.where(np.arange(40) < 20, 1.5, np.nan),
        }
    )
    frame.to_csv(tmp_path / "scores.csv", index=False)
    return results.read(tmp_path / "scores.csv")


def test_the_wide_score_is_taken_where_there_is_one(table):
    assert (table["score"][:20] == 1.5).all()
    assert np.allclose(table["score"][20:], table["score_8khz"][20:])


def test_families_are_told_by_names():
    names = pd.Series(["HiFi-GAN", "FreeVC", "ElevenLabs v2", "VALL-E X", "F5-TTS", "Tacotron 2"])
    found = results.families(names, pd.Series([0] * 6)).tolist()
    assert found == [
        "vocoder",
        "voice conversion",
        "commercial service",
        "language model on codes",
        "flow or diffusion",
        "acoustic model and vocoder",
    ]
    assert results.families(pd.Series(["VITS"]), pd.Series([1])).tolist() == ["bona fide"]


def test_rates_and_thresholds_by_hand(table):
    table = table.assign(score=[-3.0] * 10 + [3.0] * 30, label=[0] * 20 + [1] * 20)
    found = results.rates(table, 0.5)
    assert found["misses"] == 0.5 and found["false_alarms"] == 0
    scores = pd.DataFrame({"label": 1, "kind": "plain", "score": np.linspace(-4, 4, 101)})
    p = results.threshold_for(scores, 0.05)
    assert p == pytest.approx(1 / (1 + np.exp(3.6)))
    assert results.rates(scores.assign(label=1), p)["false_alarms_plain"] == pytest.approx(
        0.05, abs=0.01
    )


def test_base_rates_by_hand():
    found = results.base_rates(false_alarms=0.05, misses=0.2)
    assert found.loc[10, "true_share_of_alarms"] == pytest.approx(0.08 / (0.08 + 0.045))
    assert found.loc[1000, "alarms_per_1000"] == pytest.approx(0.8 + 0.05 * 999)


def test_errors_by_group_count_both_classes(table):
    found = results.errors_by(table.assign(score=4.0 * table["label"] - 2), "kind", 0.5, least=1)
    assert (found["errors"] == 0).all() and found["clips"].sum() == 40
    turned = results.errors_by(table.assign(score=2.0 - 4 * table["label"]), "kind", 0.5, least=1)
    assert (turned["errors"] == 1).all()
    few = results.errors_by(table, "kind", 0.5, least=15)
    assert set(few["kind"]) == {"page", "fewer clips"}


def test_quality_counts_clips_that_have_the_score(table):
    found = results.quality(table, "score_8khz")
    assert found["clips"] == 40 and found["eer_low"] <= found["eer"] <= found["eer_high"]
    assert results.quality(table, "score_16khz")["clips"] == 20


def test_a_calibration_is_tested_on_other_owners(table):
    """Owners whose scores are turned round do not calibrate themselves."""
    score, label, owner = (table[name].to_numpy() for name in ("score_8khz", "label", "owner"))
    turned = np.where(owner == "owner-1", -score, score)
    stated = results.calibrated_out_of_fold(turned, label, owner)
    bonafide = (owner == "owner-1") & (label == 1)
    assert stated[bonafide].mean() < 0.5
