"""The ablation notebook runs to its end on stand-in data, and its table holds what it promises."""

import pandas as pd
import pytest

from tests import helpers
from utils.evaluation import leave_out


@pytest.mark.slow
def test_the_ablation_runs_on_a_few_clips(smoke_inputs, tmp_path):
    pages = helpers.stand_in_pages(tmp_path / "pages", smoke_inputs, clips=80)
    few = {"SEEDS": [1], "FOLDS": 2, "TUNED_LAYERS": [1], "CURVE": [0], "REPEATS": 20}
    settings = helpers.settings(RUN="ablation", COMPETITION="smoke", **few)
    done = helpers.run_command(smoke_inputs, "--profile", "ablation", *settings, demo_pages=pages)
    assert done.returncode == 0, done.stdout
    run = smoke_inputs / "outputs" / "ablation"
    table = pd.read_csv(run / "ablation.csv", keep_default_na=False)
    assert {"out of fold", "unseen corpora", "test"} <= set(table["protocol"])
    assert set(table["protocol"]) <= set(leave_out.PROTOCOLS)
    expected = {"+ splice", "+ demo pages", "CAM++ alone", "third layer fine-tuned", "soft vote"}
    assert expected <= set(table["condition"])
    assert (table["value"].between(0, 1)).all()
    alone = table[table["against"] != ""]
    paired = alone["value"].astype(float) - alone["reference_value"].astype(float)
    assert (paired - alone["delta"].astype(float)).abs().max() < 2e-4
    assert (alone["p_holm"].astype(float) >= alone["p"].astype(float)).all()
    assert (table.loc[table["metric"] == "f1", "prior"].astype(float).between(0.01, 0.99)).all()
    assert (run / "figures" / "ablation.png").exists() and (run / "errors.csv").exists()
    assert (run / "figures" / "curve.png").exists()
    curve = table[table["condition"].str.startswith("tuned, ")]
    assert curve["condition"].nunique() == 2 and curve["against"].str.startswith("frozen, ").all()
