"""What pages quote of the ablation and of the runs before it: tables, counts of differences."""

import numpy as np
import pandas as pd

from utils.evaluation import comparison
from utils.pipeline.pages import mini
from utils.reference import read, rows


def compared() -> pd.DataFrame:
    """Every comparison of the ablation, with `beyond`: its 95 % interval excludes 0."""
    table = read("ablation/ablation")
    table = table[table["against"].notna()]
    below = np.signbit(table["delta_high"])  # -0.0000 in the table is below 0, too
    return table.assign(beyond=(table["delta_low"] > 0) | below)


def surviving() -> pd.DataFrame:
    """The comparisons that Holm's correction leaves."""
    return compared().query("p_holm <= 0.05")


def effects() -> pd.DataFrame:
    """Changes of the EER by each effect alone, on each protocol, as `compared` gives them."""
    return compared().query("metric == 'eer' and condition.str.endswith(', alone')")


def effects_beyond() -> str:
    """ "five of nine": effects that move an EER beyond its interval, alone, on any protocol."""
    beyond = effects().groupby("condition")["beyond"].any()
    if len(beyond) != 9:
        raise KeyError(f"{len(beyond)} effects alone, not nine")
    words = ["none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    return f"{words[beyond.sum()]} of nine"


def effect_intervals() -> str:
    """ "8 of 36": intervals of `effects_beyond`, each effect on each protocol."""
    return f"{effects()['beyond'].sum()} of {len(effects())}"


def effects_test() -> pd.Series:
    """Change of the EER on the test by each effect alone."""
    return effects().query("protocol == 'test'")["delta"]


def curve_sizes() -> list[int]:
    """Numbers of training clips of the curve of fine-tuning, ascending; the last has demo pages."""
    names = compared()["condition"].drop_duplicates()
    return sorted(names.str.extract(r"^tuned, (\d+) clips$")[0].dropna().astype(int))


def earlier_rows() -> str:
    """The steps of the notebooks before 11: EER and difference, as `ablation_rows`."""
    table = read("ablation/earlier_runs").query("study == 'step by step'")
    values = table[table["quantity"] == "eer"].set_index(["condition", "protocol"])["value"]
    deltas = table[table["quantity"] == "eer_delta"].set_index(["condition", "protocol"])
    cells = []
    for condition in table["condition"].unique():
        against, written = "–", []
        for protocol in ("out of fold", "unseen systems", "unseen sources", "test"):
            row = deltas.loc[(condition, protocol)]
            text = f"{values[condition, protocol]:.3f}"
            if row["against"] != condition:
                against, bold = row["against"], "**" if row["low"] > 0 or row["high"] < 0 else ""
                text += f" ({bold}{row['value']:+.3f}{bold})"
            written.append(text)
        cells.append((condition, against, *written))
    return rows(cells)


def earlier_compared() -> pd.DataFrame:
    """Every comparison of the earlier runs with another condition, and `beyond`."""
    table = read("ablation/earlier_runs")
    table = table[
        table["quantity"].str.endswith("_delta") & (table["against"] != table["condition"])
    ]
    return table.assign(beyond=(table["low"] > 0) | (table["high"] < 0))


def width_of_eer() -> float:
    """Median width of the interval of an EER of the ablation."""
    table = read("ablation/ablation").query("metric == 'eer'")
    return (table["high"] - table["low"]).median()


def ablation_rows() -> str:
    """EER of each condition and protocol; in brackets the difference, bold beyond its interval."""
    table = read("ablation/ablation").query("metric == 'eer' and protocol != 'external'")
    beyond = compared()["beyond"].reindex(table.index, fill_value=False)
    table, protocols = table.assign(beyond=beyond), table["protocol"].unique()
    cells = []
    for (condition, against), some in table.fillna({"against": ""}).groupby(
        ["condition", "against"], sort=False
    ):
        values = []
        by_protocol = some.set_index("protocol")
        for protocol in protocols:
            if protocol not in by_protocol.index:  # fine-tuning is not scored on all
                values.append("–")
                continue
            row = by_protocol.loc[protocol]
            bold = "**" if row["beyond"] else ""
            delta = f" ({bold}{row['delta']:+.3f}{bold})" if against else ""
            values.append(f"{row['value']:.3f}{delta}")
        cells.append((condition, against or "–", *values))
    return rows(cells)


def half_precision() -> str:
    """The claim that half precision costs nothing, by notebook 10. The smallest gain that the
    slides name is the largest loss that counts as none."""
    table = read("speed/precision").pivot(index="model", columns="precision", values="f1")
    change, least = table["fp16"] - table["fp32"], read("slides")["f1_gain"].min()
    told = "reproduced" if change.min() > -least else "refuted"
    return (
        f"half precision in place of float32, {len(table)} encoders of notebook 10 (no interval): "
        f"{change.min():+.3f} to {change.max():+.3f}, **{told}**"
    )


def shifted_threshold() -> str:
    """The claim that a threshold moved by the share of bona fide clips helps, by notebook 07."""
    vote = mini.vote()
    low, high = vote["prior_interval"]
    return (
        f"a threshold moved by the expected share of bona fide clips: the estimate of notebook 07 "
        f"is {vote['prior_estimate']:.2f}, its interval {high - low:.2f} wide; used was "
        f"{vote['prior_used']}, **undecided**"
    )


def claim_lines() -> str:
    """A sentence for each claim of the slides, with its verdict."""
    found = comparison.claims(read("ablation/ablation"), read("slides"))
    sentences = [*found["sentence"], half_precision(), shifted_threshold()]
    return "\n".join(f"- {sentence}".replace("-0.", "−0.") for sentence in sentences)


VALUES = {
    "ablation_rows": ablation_rows,
    "ablation_seeds": lambda: str(read("ablation/ablation")["seeds"].max()),
    "claim_lines": claim_lines,
    "comparisons": lambda: str(len(compared())),
    "comparisons_beyond": lambda: str(compared()["beyond"].sum()),
    "comparisons_survive": lambda: str(len(surviving())),
    "comparisons_by_chance": lambda: f"{0.05 * len(compared()):.0f}",
    "curve_fewest": lambda: str(curve_sizes()[0]),
    "curve_sizes": lambda: ", ".join(f"{size:,}" for size in curve_sizes()),
    "demo_clips": lambda: str(curve_sizes()[-1] - curve_sizes()[-2]),
    "earlier_rows": earlier_rows,
    "earlier": lambda: str(len(earlier_compared())),
    "earlier_beyond": lambda: str(earlier_compared()["beyond"].sum()),
    "earlier_by_chance": lambda: f"{0.05 * len(earlier_compared()):.0f}",
    "eer_width": lambda: f"{width_of_eer():.2f}",
    "effects_beyond": effects_beyond,
    "effect_intervals": effect_intervals,
    "effects_least": lambda: f"{effects_test().min():+.3f}".replace("-", "−"),
    "effects_most": lambda: f"{effects_test().max():+.3f}",
}
