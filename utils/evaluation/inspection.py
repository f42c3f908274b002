"""How good a submission is, on which clips it fails, and what a fine-tuned model looks at."""

import itertools
import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy.special import logit
from scipy.stats import binomtest, norm
from sklearn.metrics import confusion_matrix, roc_curve

from utils import metrics, plots
from utils.audio import dsp
from utils.models import finetune

NO_PROBABILITY = ["hard vote"]  # a fraction of votes: costs of probabilities do not apply to it
SPANS_S = {"under 2 s": 2, "2 to 3 s": 3, "3 to 5 s": 5, "5 to 8 s": 8, "over 8 s": np.inf}


# ---------------------------------------------------------------- how good
def result_row(
    name: str, label, group, decisions, probability, prior: float, repeats: int, seed: int
) -> dict[str, float]:
    """All metrics of one model, stack or vote on a set of clips.

    Args:
        label, group, decisions, probability: (clips,); `probability` of bona fide, stated for a
            fraction `prior` of bona fide clips.
        repeats, seed: of the bootstrap over groups, for 95 % intervals of F1, EER and AUC.
    Returns f1 (of bona fide), f1_spoof, recall (of bona fide), false_acceptance (of spoofs), eer,
    auc, min_dcf, act_dcf, cllr, ece, best_f1 (with the best threshold of these very clips) and
    intervals `…_low`, `…_high`. `act_dcf`, `cllr` and `ece` charge for probabilities: they are NaN
    for `NO_PROBABILITY`.
    """
    label, decisions = np.asarray(label), np.asarray(decisions)
    probability = np.asarray(probability, dtype=float)
    row = {}
    for metric, function, values in (
        ("f1", metrics.f1, decisions),
        ("eer", metrics.eer, probability),
        ("auc", metrics.auc, probability),
    ):
        low, high = metrics.group_bootstrap(
            function, group, label, values, repeats=repeats, seed=seed
        )
        row |= {metric: function(label, values), f"{metric}_low": low, f"{metric}_high": high}
    ratio = logit(np.clip(probability, 1e-6, 1 - 1e-6)) - logit(prior)  # log-likelihood ratio
    row |= {
        "f1_spoof": metrics.f1(label, decisions, positive=0),
        "recall": float(decisions[label == 1].mean()),
        "false_acceptance": float(decisions[label == 0].mean()),
        "min_dcf": metrics.dcf(label, ratio),
        "act_dcf": metrics.dcf(label, ratio, metrics.bayes_threshold()),
        "cllr": metrics.cllr(label, ratio),
        "ece": metrics.ece(label, probability),
        "best_f1": metrics.best_threshold(label, probability)[1],
    }
    if name in NO_PROBABILITY:
        row |= dict.fromkeys(("act_dcf", "cllr", "ece"), np.nan)
    return row


def plot_scores(axis, label, probability, threshold: float) -> None:
    """Histograms of stated probabilities of bona fide, each class apart, and the threshold."""
    for one, name in plots.NAMES.items():
        values = np.asarray(probability)[label == one]
        shape = {"density": True, "histtype": "step", "lw": 2, "color": plots.COLOURS[one]}
        axis.hist(values, np.linspace(0, 1, 26), label=f"{name} ({len(values)} clips)", **shape)
    axis.axvline(threshold, color="black", ls="--", label=f"threshold {threshold:.2f}")
    axis.set(xlabel="stated probability of bona fide", ylabel="density of the class")
    axis.legend(frameon=True)


def plot_confusion(axis, label, decisions) -> None:
    """Confusion matrix: clips of each class (rows) by decision (columns), counts and fractions."""
    counts = confusion_matrix(label, decisions, labels=list(plots.NAMES))
    fraction = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(fraction, cmap="Greys", vmin=0, vmax=1.8)
    for (row, column), count in np.ndenumerate(counts):
        text = f"{count}\n{fraction[row, column]:.0%}"
        axis.text(column, row, text, ha="center", va="center", fontsize=13)
    names = list(plots.NAMES.values())
    axis.set_xticks(range(2), [f"called\n{name}" for name in names])
    axis.set_yticks(range(2), names)
    axis.grid(False)


def plot_det(axis, label, scores: dict) -> None:
    """DET curves of scores by name: both error rates on scales of the normal distribution."""
    ticks, least = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.6]), 0.005
    looks = itertools.cycle([("-", "black"), ("--", "black"), (":", plots.GREY)])
    for (name, values), (line, colour) in zip(scores.items(), looks, strict=False):
        accepted, found, _ = roc_curve(label, values)
        rates = np.clip([accepted, 1 - found], least, 1 - least)
        text = f"{name}: EER {metrics.eer(label, values):.2f}"
        axis.plot(*norm.ppf(rates), line, color=colour, label=text)
    for set_ticks in (axis.set_xticks, axis.set_yticks):
        set_ticks(norm.ppf(ticks), [f"{rate:.0%}" for rate in ticks])
    limits = norm.ppf([0.015, 0.75])
    axis.plot(limits, limits, color=plots.GREY, lw=0.8)
    axis.set(xlabel="spoofs accepted", ylabel="bona fide clips refused", xlim=limits, ylim=limits)
    axis.legend(loc="lower left", frameon=True)


# ---------------------------------------------------------------- on which clips
def conditions(clips: pd.DataFrame, duration_s) -> dict[str, pd.Series]:
    """What clips can be grouped by: system, language, length and, where it is known, channel.

    Args: `clips` with columns label, system, source and language, perhaps codec and noise;
    `duration_s` (clips,). Returns name of the condition → its value for each clip. The "system" of
    a bona fide clip is its source.
    """
    bonafide = clips["label"] == 1
    system = clips["system"].where(~clips["system"].str.startswith("splice"), "spliced")
    spans = pd.cut(np.asarray(duration_s), [0, *SPANS_S.values()], labels=list(SPANS_S))
    result = {
        "system or source": system.where(~bonafide, clips["source"]),
        "language": clips["language"].where(~clips["language"].str.contains(r"\+"), "mixed"),
        "length": pd.Series(spans.astype(str), index=clips.index),
    }
    if {"codec", "noise"} <= set(clips):
        noise = (", " + clips["noise"]).where(clips["noise"] != "none", "")
        result["channel"] = clips["codec"] + noise
    return result


def breakdown(by: dict[str, pd.Series], label, decisions, least: int = 5) -> pd.DataFrame:
    """Fraction of clips decided rightly for each value of each condition, each class apart.

    Classes stand apart because a condition that holds more spoofs than another would else look
    easier or harder than it is. Intervals (Wilson, 95 %) take clips for independent: where few
    speakers stand behind a row they are too narrow.

    Args: `by` as `conditions` gives it; `label` and `decisions` (clips,); rows with fewer than
    `least` clips are left out. Returns columns by, value, class, right, right_low, right_high,
    clips; of each condition the best row first, but lengths in their order and systems after
    sources.
    """
    label, rows = np.asarray(label), []
    right = np.asarray(decisions) == label
    for condition, values in by.items():
        cells = pd.DataFrame({"value": np.asarray(values), "label": label, "right": right})
        for (value, one), cell in cells.groupby(["value", "label"])["right"]:
            if len(cell) < least:
                continue
            test = binomtest(int(cell.sum()), len(cell))
            interval = test.proportion_ci(method="wilson")
            rows.append(
                {
                    "by": condition,
                    "value": value,
                    "class": plots.NAMES[one],
                    "right": test.statistic,
                    "right_low": interval.low,
                    "right_high": interval.high,
                    "clips": len(cell),
                }
            )
    columns = ["by", "value", "class", "right", "right_low", "right_high", "clips"]
    table = pd.DataFrame(rows, columns=columns)
    condition = table["by"].map({name: i for i, name in enumerate(by)})
    span = table["value"].map({name: i for i, name in enumerate(SPANS_S)})
    one_class = table["class"].where(table["by"] == "system or source", "")
    keys = pd.concat([condition, one_class, span, -table["right"], table["value"]], axis=1)
    keys.columns = range(5)
    return table.loc[keys.sort_values(list(keys)).index].reset_index(drop=True)


def plot_breakdown(axis, table: pd.DataFrame) -> None:
    """Rows of `breakdown` of one condition: two colours and markers by class, clips counted."""
    values = list(dict.fromkeys(table["value"]))
    names, height = [], {value: len(values) - i for i, value in enumerate(values)}
    for value in values:
        counts = table[table["value"] == value].set_index("class")["clips"]
        names.append(f"{value} ({' + '.join(str(n) for n in counts.sort_index())})")
    for one, shift, marker in ((1, 0.15, "o"), (0, -0.15, "s")):
        rows = table[table["class"] == plots.NAMES[one]]
        errors = [rows["right"] - rows["right_low"], rows["right_high"] - rows["right"]]
        axis.errorbar(
            rows["right"],
            rows["value"].map(height) + shift,
            xerr=np.maximum(errors, 0),
            fmt=marker,
            ms=4,
            color=plots.COLOURS[one],
            capsize=2,
            label=plots.NAMES[one],
        )
    axis.set_yticks(list(height.values()), names, fontsize=10)
    axis.set(
        xlim=(0, 1.02), ylim=(0.4, len(values) + 0.6), xlabel="decided rightly (95 % interval)"
    )


# ---------------------------------------------------------------- what a model looks at
def weight_by_depth(model: finetune.Classifier) -> np.ndarray:
    """Fraction of the head's squared weights at each depth and statistic, (depths, 3).

    The statistics are mean, standard deviation and delta (mean absolute change between frames).
    Inputs of the head are standardised, so weights compare.
    """
    trial = model.backbone.prepare(dsp.coloured_noise(dsp.RATE, 3, np.random.default_rng(0)))
    with torch.inference_mode():
        depths = model.backbone.lower_layers(trial[None], torch.tensor([len(trial)]))
        depths = [*depths, *model.backbone.upper_layers(*depths[-1])]
    widths = [frames.shape[-1] for frames, _ in depths for _ in range(3)]
    squares = model.head.weight.detach()[0].square().split(widths)
    table = np.array([float(square.sum()) for square in squares]).reshape(-1, 3)
    return table / table.sum()


def hidden_quarters(model: finetune.Classifier, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each quarter of a second adds to the log-odds of bona fide of a wave at 8 kHz.

    Its frames are replaced by the clip's mean frame; what the log-odds lose by it is what it had
    added. Returns (added (quarters,), edges of the quarters in seconds (quarters + 1,)).
    """
    seconds = len(wave) / dsp.RATE
    with torch.inference_mode():
        features = model.backbone.prepare(wave)
        edges = np.linspace(0, len(features), max(2, round(seconds * 4)) + 1).astype(int)
        hidden = torch.stack([features] * len(edges))  # the first row stays as it is
        for row, (start, end) in enumerate(itertools.pairwise(edges), start=1):
            hidden[row, start:end] = features.mean(0)
        log_odds = model(hidden, torch.full((len(edges),), len(features)))
    return (log_odds[0] - log_odds[1:]).numpy(), edges / len(features) * seconds


def spoof_spans(spans: pd.Series) -> dict[str, list]:
    """Spoofed spans [(start s, end s)] of the spliced clips among `spans`, by id."""
    return {i: json.loads(text) for i, text in spans.items() if str(text).startswith("[")}


def quarters_table(name: str, added: np.ndarray, edges: np.ndarray, spans: list) -> pd.DataFrame:
    """Rows of one clip: id, start_s, end_s, spoof (whether its middle is), added (to log-odds)."""
    middles = (edges[:-1] + edges[1:]) / 2
    spoof = np.any([(start <= middles) & (middles < end) for start, end in spans], axis=0)
    return pd.DataFrame(
        {
            "id": name,
            "start_s": edges[:-1],
            "end_s": edges[1:],
            "spoof": np.broadcast_to(spoof, len(middles)).astype(int),
            "added": added,
        }
    )


def plot_weights(axis, weights: dict[str, np.ndarray]) -> None:
    """Bars of `weight_by_depth` by model: each piece is a depth, darker ones lie higher."""
    for name, table in weights.items():
        depths, left = table.sum(axis=1), 0.0
        for depth, width in enumerate(depths):
            shade = 0.15 + 0.6 * depth / max(1, len(depths) - 1)
            axis.barh(name, width, left=left, color=plt.cm.Greys(shade), edgecolor="white")
            colour = "white" if shade > 0.6 else "black"
            axis.text(left + width / 2, name, depth, ha="center", va="center", color=colour)
            left += width
    axis.set(
        xlabel="fraction of squared weights (number: depth)",
        title="Depths, in the fine-tuned heads",
        xlim=(0, 1),
    )


def plot_quarters(top, bottom, wave: np.ndarray, rows: pd.DataFrame, spans, title: str) -> None:
    """Spectrogram above, what each quarter of a second adds below; spoofed spans shaded."""
    plots.spectrogram(top, wave, dsp.RATE, title)
    edges = [*rows["start_s"], rows["end_s"].iloc[-1]]
    for start, end in spans:
        bottom.axvspan(start, min(end, edges[-1]), color=plots.SPOOF, alpha=0.25, lw=0, zorder=0)
    bottom.stairs(rows["added"], edges, fill=True, baseline=0, color=plots.GREY)
    bottom.axhline(0, color="black", lw=1)
    top.set(xlabel="")
    shaded = "; shaded: the spoofed part" if spans else ""
    bottom.set(xlabel=f"time (s){shaded}", xlim=(0, edges[-1]))
