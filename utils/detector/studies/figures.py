"""Figures of notebook 09, each drawn from the tables of the release."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import norm

from utils import plots
from utils.detector.studies import results

RATES = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.4])  # ticks of a DET curve
FEWEST = 0.002  # rates below it are drawn as it


def parts(table: pd.DataFrame) -> dict[str, tuple[pd.Series, dict]]:
    """Name → (which bona fide clips, look of their line): of demo pages, and of people."""
    bonafide, look = table["label"] == 1, {"color": plots.BONAFIDE}
    return {
        "bona fide, demo pages": (bonafide & (table["kind"] == "page"), look | {"ls": ":"}),
        "bona fide, people": (bonafide & (table["kind"] == "plain"), look),
    }


def det(run: Path, table: pd.DataFrame, threshold: float) -> None:
    """Misses against false alarms, and the scores of the classes."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    spoof = table.loc[table["label"] == 0, "score"].to_numpy()
    edges, bins = np.quantile(table["score"], np.linspace(0, 1, 400)), np.linspace(-14, 14, 57)
    label = f"spoof ({len(spoof)})"
    shape = {"density": True, "histtype": "step", "lw": 2}
    right.hist(spoof.clip(-14, 14), bins, color=plots.SPOOF, label=label, **shape)
    for name, (rows, look) in parts(table).items():
        own = table.loc[rows, "score"].to_numpy()
        if not len(own):
            continue
        alarms = np.array([(own <= edge).mean() for edge in edges]).clip(FEWEST, 1 - FEWEST)
        misses = np.array([(spoof > edge).mean() for edge in edges]).clip(FEWEST, 1 - FEWEST)
        left.plot(norm.ppf(alarms), norm.ppf(misses), label=name, lw=2, **look)
        at = [np.mean(own <= logit(threshold)), np.mean(spoof > logit(threshold))]
        left.plot(*norm.ppf(np.clip(at, FEWEST, 1 - FEWEST)), "*", color=plots.BONAFIDE, ms=12)
        name = f"{name} ({len(own)})"
        right.hist(own.clip(-14, 14), bins, label=name, **look, **shape)
    for set_ticks in (left.set_xticks, left.set_yticks):
        set_ticks(norm.ppf(RATES), [f"{rate:.0%}" for rate in RATES])
    limits = norm.ppf([0.008, 0.5])
    left.set(xlabel="bona fide called spoof", ylabel="spoofs missed", xlim=limits, ylim=limits)
    left.set_title("Fewer false alarms cost more misses\n(DET; star: released threshold)")
    left.legend(fontsize=9)
    right.axvline(logit(threshold), color="black", ls="--", label="released threshold")
    right.set(title="Spoofs lie lower, and overlap", xlabel="log-odds of bona fide")
    right.set(ylabel="density of clips of owners left out")
    right.set_ylim(top=1.6 * right.get_ylim()[1])  # room for the legend
    right.legend(fontsize=9, loc="upper left", frameon=True, framealpha=1)
    plots.save(run, "det")


def candidates(run: Path, table: pd.DataFrame) -> None:
    """EER of each candidate with its interval."""
    fig, axis = plt.subplots(figsize=(9, 2.8))
    names = {"eer": "value", "eer_low": "low", "eer_high": "high"}
    plots.intervals(axis, table.rename(columns=names))
    axis.set(title="A line on both encoders has the fewest errors")
    axis.set(xlabel="EER on owners left out (95 %)")
    plots.save(run, "candidates")


def learning(run: Path, curve: pd.DataFrame) -> tuple[float, float]:
    """EER against owners that train; returns (start, slope) of a line over log2 of the owners."""
    fig, axis = plt.subplots(figsize=(8, 3.6))
    ends = np.array([curve["owners"].min(), curve["owners"].max()])
    lines = {}
    looks = {"line": ("o", "-", plots.OURS), "RBF likeness": ("^", "--", plots.GREY)}
    for name, (marker, line, colour) in looks.items():
        rows = curve[curve["model"] == name]
        slope, start = lines[name] = np.polyfit(np.log2(rows["owners"]), rows["eer"], 1)
        label = f"{name}: {slope:+.3f} with each doubling"
        axis.plot(rows["owners"], rows["eer"], marker, color=colour, label=label)
        axis.plot(ends, start + slope * np.log2(ends), ls=line, color=colour, lw=1)
    axis.set_xscale("log", base=2)
    ticks = sorted(set(curve["owners"]))
    axis.set_xticks(ticks, ticks)
    axis.set(title="Each doubling of owners takes errors away")
    axis.set(xlabel="owners that train (log scale)", ylabel="EER on owners left out")
    axis.legend()
    plots.save(run, "learning")
    slope, start = lines["line"]
    return start, slope


def audit(run: Path, table: pd.DataFrame) -> None:
    """AUC of packaging alone, before and after the chain."""
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharex=True)
    for axis, (stage, rows) in zip(axes, table.groupby("stage", sort=False), strict=False):
        shown = rows.set_index("feature_group").rename(columns={"auc": "value"})
        plots.intervals(axis, shown)
        axis.axvline(0.5, color=plots.GREY, ls="--")
        axis.set_title(f"{stage} the chain ({rows['clips'].iloc[0]:.0f} clips)")
        axis.set_xlabel("AUC of packaging alone (0.5: a coin)")
    told = table[table["feature_group"] == "all features"].set_index("stage")["auc"]
    numbers = ", ".join(f"{auc:.2f} {stage}" for stage, auc in told.items())
    fig.suptitle(f"What packaging alone reveals: AUC {numbers} the chain", fontsize=12)
    plots.save(run, "audit")


def calibration(run: Path, curve: pd.DataFrame, ece: float, table: pd.DataFrame, threshold: float):
    """Stated against true share of bona fide, and error rates against the threshold."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    left.plot([0, 1], [0, 1], color=plots.GREY, ls="--", label="perfect")
    name = f"owners left out, ECE {ece:.3f}"
    left.plot(curve["stated"], curve["bonafide"], "o-", color=plots.OURS, label=name)
    left.set(title="The probability means what it says", xlabel="stated probability of bona fide")
    left.set(ylabel="share that is bona fide")
    left.legend()
    grid = np.linspace(0.02, 0.98, 97)
    p, spoof = expit(table["score"].to_numpy()), (table["label"] == 0).to_numpy()
    missed = [(p[spoof] > value).mean() for value in grid]
    right.plot(grid, missed, color=plots.SPOOF, ls="-.", label="spoofs missed")
    for name, (rows, look) in parts(table).items():
        called = [(p[rows] <= value).mean() for value in grid] if rows.any() else []
        right.plot(grid[: len(called)], called, label=f"{name}, called spoof", **look)
    right.axvline(threshold, color="black", ls="--", label="released")
    right.set(title="A lower threshold misses more spoofs", xlabel="threshold on p(bona fide)")
    right.set(ylabel="share of clips")
    right.legend(fontsize=9, frameon=True, framealpha=1, loc="upper center")
    plots.save(run, "calibration")


def errors(run: Path, by_family: pd.DataFrame, by_language: pd.DataFrame) -> None:
    """Share of clips decided wrongly, by family of systems and by language."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 5.2))
    rows = by_family.sort_values("errors")
    names = [f"{row.group} ({row.clips})" for row in rows.itertuples()]
    left.barh(names, rows["errors"], color=[plots.COLOURS[label] for label in rows["label"]])
    worst = " and ".join(rows["group"].iloc[:-3:-1])
    left.set(title=f"By family (clips): hardest are {worst}", xlabel="share decided wrongly")
    sizes = by_language.groupby("group")["clips"].sum().sort_values().tail(16)
    for label, marker, shift in ((1, "o", 0.12), (0, "s", -0.12)):
        own = by_language[by_language["label"] == label].set_index("group")["errors"]
        look = {"color": plots.COLOURS[label], "label": plots.NAMES[label]}
        right.plot(own.reindex(sizes.index), np.arange(len(sizes)) + shift, marker, **look)
    right.set_yticks(range(len(sizes)), [f"{name} ({n})" for name, n in sizes.items()])
    right.set(title="By language (clips)", xlabel="share decided wrongly")
    right.legend()
    plots.save(run, "errors")


def systems(run: Path, table: pd.DataFrame) -> None:
    """Maps: the mean statistics of each system on two principal components, a map per family."""
    families = results.families(table.index.to_series(), table["label"])
    bonafide = table[table["label"] == 1]
    names = [name for name in families.unique() if name != "bona fide"]
    columns = 3
    fig, axes = plt.subplots(
        -(-len(names) // columns), columns, figsize=(9, 7), sharex=True, sharey=True, squeeze=False
    )
    for axis, name in zip(axes.flat, sorted(names), strict=False):
        own = table[families == name]
        axis.scatter(table["x"], table["y"], s=4, color=plots.UNTOLD)
        axis.scatter(own["x"], own["y"], s=10, color=plots.SPOOF)
        for kind, marker, size in (("plain", "*", 180), ("page", "P", 90)):
            point = bonafide[bonafide.index.str.endswith(kind)]
            look = {"color": plots.BONAFIDE, "edgecolor": "white", "marker": marker}
            axis.scatter(point["x"], point["y"], s=size, **look)
        axis.set_title(f"{name} ({len(own)})", fontsize=10)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    fig.supxlabel("first principal component", fontsize=11)
    fig.supylabel("second principal component", fontsize=11)
    fig.suptitle(
        "Spoofs of most families lie on both sides of recordings\n(orange: the family; grey: all "
        "systems; star: recordings of people; cross: bona fide clips of demo pages)",
        fontsize=11,
    )
    plots.save(run, "systems")


def robustness(run: Path, table: pd.DataFrame) -> None:
    """EER under each condition with its interval, the largest first."""
    order = table.sort_values("eer", ascending=False)
    fig, axis = plt.subplots(figsize=(9, 6))
    columns = {"eer": "value", "eer_low": "low", "eer_high": "high"}
    plots.intervals(axis, order.rename(columns=columns))
    first = table.loc["as it is", "eer"]
    axis.axvline(first, color="black", ls="--", lw=1, label=f"as it is: {first:.3f}")
    worst = order.index[0]
    axis.set(
        xlabel="EER on owners left out (95 % over owners)",
        title=f"What costs most: {worst}",
    )
    axis.legend(loc="lower right")
    plots.save(run, "robustness")
