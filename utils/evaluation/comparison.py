"""From scores of conditions to error rates with intervals, paired differences and one figure.

Intervals are percentiles of a bootstrap. Groups are drawn whole; on `unseen families`, whose error
rate is the mean over families, families are drawn as well, since the claim is about families that
nobody has seen. A condition and the one it is compared with see the same draws, seed by seed, on
the clips that both scored.
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from utils import bootstrap, metrics, parallel, plots
from utils.evaluation import leave_out, stacking
from utils.evaluation.leave_out import FAMILIES, OUT_OF_FOLD, PROTOCOLS

KEY = ["protocol", "part", "clip"]
SHOWN = (OUT_OF_FOLD, FAMILIES, leave_out.TEST)  # protocols of the figure


def threshold(label: np.ndarray, scores: pd.DataFrame) -> float:
    """The threshold with the best F1 out of fold: all that a condition may know."""
    rows = scores[scores["protocol"] == OUT_OF_FOLD]
    return metrics.best_threshold(label[rows["clip"]], rows["score"])[0]


@dataclass(frozen=True)
class _Pair:
    """Scores of a condition and of its reference on the clips that both scored, of one seed."""

    label: np.ndarray  # (N,)
    group: np.ndarray  # (N,)
    part: np.ndarray  # (N,)
    scores: np.ndarray  # (2, N): condition, reference
    decisions: np.ndarray  # (2, N), 0 or 1


def _pairs(label, group, condition, reference, protocol) -> list[_Pair]:
    result = []
    for mine, other in zip(condition, reference, strict=True):
        cuts = [threshold(label, table) for table in (mine, other)]
        both = mine[mine["protocol"] == protocol].merge(other, on=KEY, suffixes=("_0", "_1"))
        clips = both["clip"].to_numpy()
        if len(np.unique(label[clips])) < 2:
            continue
        scores = both[["score_0", "score_1"]].to_numpy().T
        decisions = (scores > np.array(cuts)[:, None]).astype(int)
        result.append(_Pair(label[clips], group[clips], both["part"].to_numpy(), scores, decisions))
    return result


def _statistics(pair: _Pair, weights: np.ndarray, of_parts: np.ndarray | None) -> np.ndarray:
    """EER and F1 of condition and reference for each draw: (2, 2, draws).

    `weights` (draws, N) of clips; `of_parts` (draws, parts): how often each family counts, or None
    where all clips are pooled.
    """
    names = np.unique(pair.part) if of_parts is not None else [None]
    values = np.empty((len(names), 2, 2, len(weights)))
    for i, name in enumerate(names):
        rows = slice(None) if name is None else pair.part == name
        label, drawn = pair.label[rows], weights[:, rows]
        for j in (0, 1):
            values[i, 0, j] = bootstrap.eer(label, pair.scores[j, rows], drawn)
            values[i, 1, j] = bootstrap.f1(label, pair.decisions[j, rows], drawn)
    if of_parts is None:
        return values[0]
    counts = np.where(np.isfinite(values), of_parts.T[:, None, None], 0)
    with np.errstate(invalid="ignore"):
        return (np.nan_to_num(values) * counts).sum(axis=0) / counts.sum(axis=0)


def compare(
    label: np.ndarray,
    group: np.ndarray,
    condition: list[pd.DataFrame],
    reference: list[pd.DataFrame],
    repeats: int = 1000,
) -> list[dict]:
    """Error rates of a condition and paired differences to a reference, on each protocol.

    Args:
        label, group: of each clip, (N,).
        condition, reference: tables of `leave_out.score`, one per seed.
        repeats: bootstrap draws.
    Returns rows: protocol, metric (eer or f1), value, low, high, reference_value (on the same
    clips), delta, delta_low, delta_high, clips, groups, parts, seeds. Values are means over seeds.
    """
    rows = []
    for protocol in PROTOCOLS:
        pairs = _pairs(label, group, condition, reference, protocol)
        if not pairs:
            continue
        names = np.unique(np.concatenate([pair.group for pair in pairs]))
        parts = np.unique(np.concatenate([pair.part for pair in pairs]))
        by_group = bootstrap.group_weights(names, repeats, seed=0)
        by_part = bootstrap.group_weights(parts, repeats, seed=1) if protocol == FAMILIES else None
        values, points = [], []
        for pair in pairs:
            columns = np.searchsorted(names, pair.group)
            values.append(_statistics(pair, by_group[:, columns], by_part))
            once = None if by_part is None else np.ones((1, len(parts)))
            points.append(_statistics(pair, np.ones((1, len(columns)), int), once))
        values, points = np.mean(values, axis=0), np.mean(points, axis=0)[..., 0]
        sizes = {"clips": round(np.mean([len(pair.label) for pair in pairs]))}
        sizes |= {"groups": len(names), "parts": len(parts), "seeds": len(pairs)}
        for i, metric in enumerate(("eer", "f1")):
            low, high = bootstrap.interval(values[i, 0])
            delta_low, delta_high = bootstrap.interval(values[i, 0] - values[i, 1])
            row = {"protocol": protocol, "metric": metric, "value": points[i, 0]}
            row |= {"low": low, "high": high, "reference_value": points[i, 1]}
            row |= {"delta": points[i, 0] - points[i, 1]}
            rows.append(row | {"delta_low": delta_low, "delta_high": delta_high} | sizes)
    return rows


def table(
    clips: pd.DataFrame, scores: dict, against: dict[str, str], repeats: int = 1000
) -> pd.DataFrame:
    """`compare` for each condition of `scores`, {(name, seed): table}.

    Returns a row per condition, protocol and metric.

    `against` maps the name of a condition to the one that it is compared with, or to "" for
    none; it also gives the order. Seeds that only one of both has are left out.
    """
    label, group = clips["label"].to_numpy(), clips["group"].to_numpy()
    jobs = []
    for name, other in against.items():
        seeds = [seed for key, seed in scores if key == name and (other or name, seed) in scores]
        tables = [[scores[key, seed] for seed in seeds] for key in (name, other or name)]
        jobs.append((label, group, *tables, repeats))
    found = parallel.run_in_processes(compare, jobs, "intervals")
    rows = [
        {"condition": name, "against": other} | row
        for (name, other), result in zip(against.items(), found, strict=True)
        for row in result
    ]
    return pd.DataFrame(rows)


def counts(rows: pd.DataFrame) -> pd.DataFrame:
    """How many paired differences exclude 0, beside how many would by chance.

    Args: `rows` of `table`. Returns a row per protocol and metric: comparisons, better, worse (the
    95 % interval excludes 0) and expected_by_chance (5 % of the comparisons).
    """
    compared = rows[rows["against"] != ""]
    sign = np.where(compared["metric"] == "eer", -1, 1)
    low, high = (compared[f"delta_{end}"] * sign for end in ("low", "high"))
    found = compared.assign(
        better=np.minimum(low, high) > 0, worse=np.maximum(low, high) < 0, comparisons=1
    )
    found = found.groupby(["protocol", "metric"], sort=False)
    result = found[["comparisons", "better", "worse"]].sum()
    return result.assign(expected_by_chance=0.05 * result["comparisons"])


# ---------------------------------------------------------------- votes
def scaled(label: np.ndarray, scores: pd.DataFrame) -> pd.DataFrame:
    """Scores in units of their standard deviation out of fold, 0 at the best threshold there."""
    spread = scores.loc[scores["protocol"] == OUT_OF_FOLD, "score"].std()
    return scores.assign(score=(scores["score"] - threshold(label, scores)) / spread)


def members_of(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Scores of several models side by side, columns 0 … m-1, on the clips that all scored.

    The index is (protocol, part, clip).
    """
    return pd.concat([t.set_index(KEY)["score"] for t in tables], axis=1, join="inner").set_axis(
        range(len(tables)), axis=1
    )


def vote(tables: list[pd.DataFrame], hard: bool = False) -> pd.DataFrame:
    """Vote of scaled members: their mean, or how many decide bona fide (ties go by the mean)."""
    side_by_side = members_of(tables)
    mean = side_by_side.mean(axis=1)
    value = (side_by_side > 0).sum(axis=1) + 1e-3 * mean if hard else mean
    return value.rename("score").reset_index()


def stack(
    clips: pd.DataFrame,
    seed: int,
    tables: list[pd.DataFrame],
    stacker: str,
    folds: int = leave_out.FOLDS,
) -> pd.DataFrame:
    """Stack of scaled members, learned from scores out of fold of the clips that a split trains on.

    Args: `tables` of `scaled`; `stacker` one of `stacking.STACKERS`. Each family is scored in one
    fold.
    """
    side_by_side, label = members_of(tables).sort_index(), clips["label"].to_numpy()
    learned_from = side_by_side.loc[OUT_OF_FOLD].droplevel("part")
    results = []
    for split in leave_out.splits(clips, seed, folds, family_folds=1):
        known = learned_from[split.trains[learned_from.index]]
        if (split.protocol, split.part) not in side_by_side.index.droplevel("clip"):
            continue
        scored = side_by_side.loc[(split.protocol, split.part)]
        scored = scored[split.scored[scored.index]]
        values = stacking.fit(stacker, known, label[known.index])(scored)
        table = pd.DataFrame({"clip": scored.index, "score": values})
        results.append(table.assign(protocol=split.protocol, part=split.part))
    return pd.concat(results, ignore_index=True)


# ---------------------------------------------------------------- figure and errors
def figure(run, rows: pd.DataFrame, sections: dict[str, list[str]], name="ablation") -> None:
    """`figures/<name>.png`: difference of EER of each condition, a panel per protocol.

    Args: `rows` of `table`; `sections` maps a title to the conditions under it, in order.
    """
    labels, y, place = [], {}, 0
    for title, conditions in sections.items():
        labels.append((place, title))
        for i, condition in enumerate(conditions, start=1):
            y[condition] = place + i
        place += len(conditions) + 2
    eer = rows[(rows["metric"] == "eer") & (rows["against"] != "")]
    shown = [protocol for protocol in SHOWN if protocol in set(eer["protocol"])]
    fig, axes = plt.subplots(1, len(shown), figsize=(9, 0.22 * place + 0.8), sharey=True)
    for axis, protocol in zip(np.atleast_1d(axes), shown, strict=True):
        part = eer[(eer["protocol"] == protocol) & eer["condition"].isin(list(y))]
        height = part["condition"].map(y)
        better, worse = part["delta_high"] < 0, part["delta_low"] > 0
        colour = np.where(better, plots.BETTER, np.where(worse, plots.WORSE, "black"))
        axis.hlines(height, part["delta_low"], part["delta_high"], color=plots.GREY, lw=1.5)
        axis.scatter(part["delta"], height, c=colour, s=22, zorder=3)
        axis.axvline(0, color=plots.GREY, lw=1)
        axis.set(title=protocol, xlabel="difference of EER", ylim=(place - 1, -1))
    ticks = [*labels, *((height, condition) for condition, height in y.items())]
    axes = np.atleast_1d(axes)
    axes[0].set_yticks([t[0] for t in ticks], [t[1] for t in ticks], fontsize=9)
    for tick, (_, text) in zip(axes[0].get_yticklabels(), ticks, strict=True):
        tick.set_fontweight("bold" if text in sections else "normal")
    eer = eer[eer["protocol"].isin(shown) & eer["condition"].isin(list(y))]
    beyond = ((eer["delta_high"] < 0) | (eer["delta_low"] > 0)).sum()
    fig.suptitle(
        f"{beyond} of {len(eer)} differences have a 95 % interval that excludes 0 "
        "(blue better, pink worse)",
        fontsize=11,
    )
    plots.save(run, name)


def errors(clips: pd.DataFrame, tables: list[pd.DataFrame], least: int = 10) -> pd.DataFrame:
    """Where a condition errs at its equal error rate, mean over its seeds (`tables`).

    Returns a row per protocol, class ("bona fide" or "spoof") and name (family of a spoofed clip,
    source of a bona fide one) with at least `least` clips: error_rate, clips.
    """
    rows = []
    for scores in tables:
        for protocol, part in scores.groupby("protocol"):
            known = clips.iloc[part["clip"]].reset_index(drop=True)
            value, bonafide = part["score"].to_numpy(), known["label"].to_numpy() == 1
            if bonafide.all() or not bonafide.any():
                continue
            cut = np.quantile(value[bonafide], metrics.eer(known["label"], value))
            named = known["source"].where(bonafide, known["family"])
            wrong = (value > cut) != bonafide
            kind = np.where(bonafide, "bona fide", "spoof")
            rows.append(
                pd.DataFrame({"protocol": protocol, "class": kind, "name": named, "wrong": wrong})
            )
    found = pd.concat(rows).groupby(["protocol", "class", "name"])["wrong"]
    result = found.agg(error_rate="mean", clips="size").reset_index()
    result["clips"] = (result["clips"] / len(tables)).round().astype(int)
    return result[result["clips"] >= least].reset_index(drop=True)


def error_map(run, table: pd.DataFrame, title: str, name: str = "errors") -> None:
    """`figures/<name>.png`: `errors` as two maps, spoofs by family and bona fide by source."""
    titles = {"spoof": "spoofs accepted, by family", "bona fide": "bona fide rejected, by source"}
    fig, axes = plt.subplots(1, 2, figsize=(9, 5))
    for axis, kind in zip(axes, titles, strict=True):
        part = table[table["class"] == kind]
        rates = part.pivot(index="name", columns="protocol", values="error_rate")
        rates = rates[[protocol for protocol in PROTOCOLS if protocol in rates]]
        rates = rates.loc[rates.mean(axis=1).sort_values(ascending=False).index]
        options = {"annot": True, "fmt": ".2f", "cmap": "cividis_r", "vmin": 0, "vmax": 1}
        bar = {"label": "error rate"}
        sns.heatmap(rates, ax=axis, cbar=kind == "bona fide", cbar_kws=bar, **options)
        axis.set(xlabel="", ylabel="", title=titles[kind])
        axis.tick_params(axis="x", rotation=20)
    fig.suptitle(title, fontsize=10)
    plots.save(run, name)
