"""Numbers of the model card and of notebook 09 that are no single cell of a table.

Pages quote them as `{{card; name}}` (see `pipeline.pages.filling`). They come from the tables of
the reference run and from `card_facts`, so that none can be stale.
"""

from functools import lru_cache

import numpy as np
import pandas as pd

from utils import paths
from utils.detector import detector
from utils.detector.embedding import NARROW, WIDE
from utils.detector.studies import card_facts, comparisons, results
from utils.reference import read, rows


def with_interval(row: pd.Series, name: str = "eer") -> str:
    """ "0.128 [0.113, 0.145]" of a row with `name`, `name`_low and `name`_high."""
    return f"{row[name]:.3f} [{row[name + '_low']:.3f}, {row[name + '_high']:.3f}]"


def difference(row: pd.Series) -> str:
    """ "+0.010 [+0.004, +0.017]" of a row with delta and its interval."""
    return f"{row['delta']:+.3f} [{row['delta_low']:+.3f}, {row['delta_high']:+.3f}]"


def of_release() -> dict:
    """What the released files say of themselves."""
    card = paths.read_json(detector.FOLDER / "card.json")
    agree = sorted(card["windows_agree"].items())
    statistics = len(detector.load_heads(detector.FOLDER / "heads.npz")[NARROW].weight)
    return {
        "encoders": card["encoders"],
        "heads_kb": f"{(detector.FOLDER / 'heads.npz').stat().st_size / 1e3:.0f}",
        "encoders_mb": f"{(detector.FOLDER / 'encoders.onnx').stat().st_size / 1e6:.0f}",
        "seed": card["seed"],
        "threshold": f"{card['threshold']:.2f}",
        "ece": f"{card['ece']:.3f}",
        "cllr": f"{card['cllr']:.3f}",
        "partly": card["partly_spoofed_recordings"],
        "windows_agree": ", ".join(f"{share:.1%} ({band})" for band, share in agree),
        "rbf_clips": f"{comparisons.RBF_CLIPS:,}",
        "rbf_mb": f"{comparisons.RBF_CLIPS * statistics * 4 / 1e6:.0f}",
        "statistics": f"{statistics:,}",
    }


def base_rates(thresholds: list) -> str:
    """Rows: what an alarm is worth where one recording in so many is fake, at each threshold."""
    tables = [results.base_rates(row["false_alarms_plain"], row["misses"]) for row in thresholds]
    cells = []
    for one_in in tables[0].index:
        of_each = [table.loc[one_in] for table in tables]
        shares = [(x["true_share_of_alarms"], x["alarms_per_1000"] / 1000) for x in of_each]
        cells.append((f"1 in {one_in:,}", *(f"{share:.1%}" for pair in shares for share in pair)))
    return rows(cells)


def of_quality() -> dict:
    """Quality on owners left out, thresholds, errors by group."""
    thresholds = read("detector/thresholds", index_col="chosen_for")
    errors = read("detector/errors").sort_values("errors", ascending=False)
    released = thresholds.loc["released"]
    rates = ["false_alarms_plain", "false_alarms", "misses"]

    def wrong(by, label):
        some = errors[(errors["by"] == by) & (errors["label"] == label)].itertuples()
        return "; ".join(f"{row.group} {row.errors:.0%} of {row.clips}" for row in some)

    return {
        "people_alarms": f"{released['false_alarms_plain']:.1%}",
        "all_alarms": f"{released['false_alarms']:.1%}",
        "misses": f"{released['misses']:.1%}",
        "quality_rows": rows(
            (
                name,
                with_interval(row),
                f"{row['auc']:.3f}",
                f"{row['clips']:,.0f} ({row['bonafide']:,.0f}), {row['owners']:,.0f}",
            )
            for name, row in read("detector/quality", index_col="scored").iterrows()
        ),
        "family_errors": wrong("family", 0),
        "kind_errors": wrong("kind", 1),
        "base_rate_rows": base_rates([released, thresholds.loc["1% false alarms"]]),
        "threshold_rows": rows(
            (name, f"{row['threshold']:.2f}", *row[rates].map("{:.1%}".format))
            for name, row in thresholds.iterrows()
        ),
    }


def of_studies() -> dict:
    """Other models, fewer owners, corpora left out, packaging."""
    candidates = read("detector/candidates", index_col="model")
    corpora = read("detector/corpora", index_col="corpus")
    audit = read("detector/audit")
    after = audit[(audit["stage"] == "after") & (audit["feature_group"] != "all features")]
    worst = after.sort_values("auc").iloc[-1]
    learning = read("detector/learning")
    slope = {
        model: np.polyfit(np.log2(some["owners"]), some["eer"], 1)[0]
        for model, some in learning.groupby("model")
    }
    of_line = learning[learning["model"] == "line"].groupby("owners")["eer"].mean()
    return {
        "campplus_delta": difference(candidates.loc["CAM++ alone"]),
        "rbf_delta": difference(candidates.loc["both encoders, RBF likeness"]),
        "fewest_owners": of_line.index[0],
        "fewest_eer": f"{of_line.iloc[0]:.3f}",
        "most_owners": of_line.index[-1],
        "most_eer": f"{of_line.iloc[-1]:.3f}",
        "candidate_rows": rows(
            (name, with_interval(row), f"{row['auc']:.3f}", difference(row))
            for name, row in candidates.iterrows()
        ),
        "doubling": f"{slope['line']:+.3f}",
        "doubling_rbf": f"{slope['RBF likeness']:+.3f}",
        "last_doubling": f"{of_line.iloc[-1] - of_line.iloc[-2]:+.3f}",
        "corpora": "; ".join(
            f"{difference(row)} ({name}, {row['clips']:,.0f} clips)"
            for name, row in corpora.iterrows()
        ),
        "audit_worst": f"{worst['feature_group']} ({worst['auc']:.3f})",
    }


def of_map() -> dict:
    """Where systems lie on the first component, beside both kinds of bona fide clips."""
    table = read("detector/systems")
    spoof, recordings = (table.loc[table["label"] == label, "x"] for label in (0, 1))
    return {
        "systems_all": len(spoof),
        "systems_left": int((spoof < recordings.min()).sum()),
        "systems_right": int((spoof > recordings.max()).sum()),
    }


def of_recordings() -> dict:
    """Speech and other sounds, conditions of recordings."""
    speech = read("detector/speech")
    others = speech[speech["sound"] != "speech"]
    most = others.loc[others["share"].idxmax()]
    of_speech = speech[speech["sound"] == "speech"].set_index("head")["share"]
    robustness = read("detector/robustness", index_col="condition")
    robustness = robustness.sort_values("eer", ascending=False)
    changed = robustness.drop(index="as it is")
    return {
        "robust_worst_eer": ", ".join(
            f"{n} ({eer:.3f})" for n, eer in robustness["eer"][:3].items()
        ),
        "robust_quiet": difference(robustness.loc["40 dB quieter"]),
        "robust_beyond": f"{(changed['delta_low'] > 0).sum()} of {len(changed)}",
        "speech_narrow": f"{of_speech[NARROW]:.1%}",
        "speech_wide": f"{of_speech[WIDE]:.1%}",
        "no_speech": f"{most['share']:.1%} of {most['sound']} ({most['head']} head) and at most "
        f"{others.loc[others['sound'] != most['sound'], 'share'].max():.1%} of any other kind",
        "robust_worst": "; ".join(robustness.index[:3]),
        "noise_misses": f"{robustness.loc[card_facts.NOISE, 'misses']:.0%}",
        "robust_rows": rows(
            (
                name,
                with_interval(row),
                difference(row),
                f"{row['false_alarms']:.0%}",
                f"{row['misses']:.0%}",
            )
            for name, row in robustness.iterrows()
        ),
    }


@lru_cache
def values() -> dict:
    """All of them by name. Raises FileNotFoundError if a table is missing."""
    table, errors = results.read(results.TABLES / "scores.csv"), read("detector/errors")
    external = read("detector/external_test").iloc[0]
    card = paths.read_json(detector.FOLDER / "card.json")
    threshold, owners = card["threshold"], card["trained_on"]["owners"]
    return (
        of_release()
        | of_quality()
        | of_studies()
        | of_map()
        | of_recordings()
        | card_facts.of_recording()
        | card_facts.of_training()
        | card_facts.of_degraded()
        | card_facts.of_data(table)
        | card_facts.of_groups(table, errors, threshold)
        | card_facts.of_examples(card_facts.example_scores(), threshold)
        | card_facts.of_releases(external, owners)
        | card_facts.of_project()
    )
