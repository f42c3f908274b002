"""From scores of conditions to error rates with intervals, paired differences and figures.

Intervals are percentiles of a bootstrap that samples groups and, for spoofs, synthesiser families
at once, since a claim is about speakers and synthesisers that nobody has seen: a bona fide clip
counts as often as its group is drawn, a spoof as often as its group times its family. A condition
and the one it is compared with see the same draws, seed by seed, on the clips that both scored.
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from utils import bootstrap, metrics, parallel, plots
from utils.evaluation import leave_out, stacking
from utils.evaluation.calibration import f1_at_prior
from utils.evaluation.leave_out import FAMILIES, OUT_OF_FOLD, PROTOCOLS

METRICS = ("eer", "f1")
SHOWN = (OUT_OF_FOLD, FAMILIES, leave_out.TEST)  # protocols of the figure
LEVEL = 0.05  # of significance
CLAIMS = {  # condition of notebook 11 → what the finalist's slides say of it, or of its kind
    "+ splice": "splicing (slides: mixup)",
    "15 s instead of 30 s": "clips cut at 15 s",
    "soft vote": "a vote, over the best single model",
    "hard vote of three strictnesses": "models of three strictnesses, voted",
    "+ pitch, speed (now spoof)": "pitch and speed as spoofs",
    "deep SVDD (one-class) instead": "one-class classification",
    "+ demo pages": "spoofs from outside (demo pages)",
    "+ more bona fide speech": "more bona fide speech",
}
REPEATS = 20_000  # with fewer no p-value could survive a correction for 400 comparisons


def test_prior(clips: pd.DataFrame) -> float:
    """Fraction of bona fide clips in the test, of the table of `leave_out.load_clips`."""
    return float(clips.loc[clips["set"] == leave_out.TEST, "label"].mean())


@dataclass(frozen=True)
class _Pair:
    """Scores of a condition and of its reference on the clips that both scored, of one seed."""

    clips: pd.DataFrame  # N rows: label, group, family, part
    scores: np.ndarray  # (2, N): condition, reference
    accepted: np.ndarray  # (2, N), boolean


def _pairs(clips, condition, reference, protocol) -> list[_Pair]:
    label, result = clips["label"].to_numpy(), []
    for mine, other in zip(condition, reference, strict=True):
        cuts = [stacking.threshold(label, table) for table in (mine, other)]
        both = mine[mine["protocol"] == protocol].merge(
            other, on=stacking.KEY, suffixes=("_0", "_1")
        )
        known = clips[["label", "group", "family"]].iloc[both["clip"]]
        if known["label"].nunique() < 2:
            continue
        scores = both[["score_0", "score_1"]].to_numpy().T
        known = known.assign(part=both["part"].to_numpy())
        result.append(_Pair(known, scores, scores > np.array(cuts)[:, None]))
    return result


class _Draws:
    """How often each group and each family counts in each draw; in the first, all count once."""

    def __init__(self, pairs: list[_Pair], repeats: int):
        clips = pd.concat([pair.clips for pair in pairs])
        self.groups = np.unique(clips["group"])
        self.families = np.unique(clips.loc[clips["label"] == 0, "family"])
        self.of_groups, self.of_families = (
            np.vstack([np.ones(len(names), int), bootstrap.group_weights(names, repeats, seed)])
            for seed, names in enumerate((self.groups, self.families))
        )

    def cells(self, clips: pd.DataFrame) -> tuple[bootstrap.Cells, bootstrap.Cells]:
        """Bona fide clips by group, and spoofs by group and family."""
        bonafide = clips["label"] == 1
        group = np.searchsorted(self.groups, clips["group"])
        family = np.searchsorted(self.families, clips.loc[~bonafide, "family"])
        of_spoof = group[~bonafide] * len(self.families) + family
        used, spoof = np.unique(of_spoof, return_inverse=True)
        of_group, of_family = np.divmod(used, len(self.families))
        weights = self.of_groups[:, of_group] * self.of_families[:, of_family]
        return bootstrap.Cells(group[bonafide], self.of_groups), bootstrap.Cells(spoof, weights)


def _statistics(pair: _Pair, draws: _Draws, prior: float) -> np.ndarray:
    """EER and F1 of condition and reference in each draw, (2, 2, draws), all clips pooled."""
    values = np.empty((2, 2, len(draws.of_groups)))
    bonafide, cells = (pair.clips["label"] == 1).to_numpy(), draws.cells(pair.clips)
    for j, (scores, accepted) in enumerate(zip(pair.scores, pair.accepted, strict=True)):
        values[0, j] = bootstrap.eer_of_cells(scores, bonafide, cells)
        recall, acceptance = cells[0].share(accepted[bonafide]), cells[1].share(accepted[~bonafide])
        values[1, j] = f1_at_prior(recall, acceptance, prior)
    return values


def _mean_of_families(pair: _Pair, draws: _Draws, prior: float) -> np.ndarray:
    """`_statistics` of each family's part, averaged as often as the family is drawn."""
    total, counts = 0.0, 0
    for name in np.unique(pair.clips["part"]):
        rows = (pair.clips["part"] == name).to_numpy()
        part = _Pair(pair.clips[rows], pair.scores[:, rows], pair.accepted[:, rows])
        values = _statistics(part, draws, prior)
        drawn = draws.of_families[:, np.searchsorted(draws.families, name)]
        count = np.where(np.isfinite(values), drawn, 0)
        total, counts = total + np.nan_to_num(values) * count, counts + count
    with np.errstate(invalid="ignore"):
        return total / counts


def compare(
    clips: pd.DataFrame,
    condition: list[pd.DataFrame],
    reference: list[pd.DataFrame],
    prior: float,
    repeats: int = REPEATS,
) -> list[dict]:
    """Error rates of a condition and paired differences to a reference, on each protocol.

    Args:
        clips: columns label, group and family.
        condition, reference: tables of `leave_out.score`, one per seed.
        prior: fraction of bona fide clips that F1 holds for, of recall and false acceptance at the
            threshold that is best out of fold.
        repeats: bootstrap draws.
    Returns rows: protocol, metric (eer or f1), value, low, high, reference_value (on the same
    clips), delta, delta_low, delta_high, p (that there is no difference, by the same draws), prior,
    clips, groups, families, seeds. Values are means over seeds.
    """
    rows = []
    for protocol in PROTOCOLS:
        pairs = _pairs(clips, condition, reference, protocol)
        if not pairs:
            continue
        draws = _Draws(pairs, repeats)
        statistics = _mean_of_families if protocol == FAMILIES else _statistics
        values = sum(statistics(pair, draws, prior) for pair in pairs) / len(pairs)
        sizes = {"prior": prior, "clips": round(np.mean([len(pair.clips) for pair in pairs]))}
        sizes |= {"groups": len(draws.groups), "families": len(draws.families), "seeds": len(pairs)}
        for metric, (mine, other) in zip(METRICS, values, strict=True):
            delta = mine - other
            row = {"protocol": protocol, "metric": metric, "value": mine[0]}
            row |= dict(zip(("low", "high"), bootstrap.interval(mine[1:]), strict=True))
            row |= {"reference_value": other[0], "delta": delta[0]}
            row |= dict(
                zip(("delta_low", "delta_high"), bootstrap.interval(delta[1:]), strict=True)
            )
            rows.append(row | {"p": bootstrap.p_value(delta[1:])} | sizes)
    return rows


def table(
    clips: pd.DataFrame, scores: dict, against: dict[str, str], repeats: int = REPEATS
) -> pd.DataFrame:
    """`compare` for each condition of `scores`, {(name, seed): table}, at the prior of the test.

    Returns a row per condition, protocol and metric, with `p_holm`: p corrected for all comparisons
    of the table (Holm). Both are NaN where nothing is compared.

    `against` maps the name of a condition to the one that it is compared with, or to "" for
    none; it also gives the order. Seeds that only one of both has are left out.
    """
    jobs, prior = [], test_prior(clips)
    known = clips[["label", "group", "family"]]
    for name, other in against.items():
        seeds = [seed for key, seed in scores if key == name and (other or name, seed) in scores]
        tables = [[scores[key, seed] for seed in seeds] for key in (name, other or name)]
        jobs.append((known, *tables, prior, repeats))
    found = parallel.run_in_processes(compare, jobs, "intervals")
    rows = [
        {"condition": name, "against": other} | row
        for (name, other), result in zip(against.items(), found, strict=True)
        for row in result
    ]
    result = pd.DataFrame(rows)
    result["p"] = result["p"].where(result["against"] != "")
    return result.assign(p_holm=bootstrap.holm(result["p"].to_numpy()))


def counts(rows: pd.DataFrame) -> pd.DataFrame:
    """How many paired differences exclude 0, beside how many would by chance.

    Args: `rows` of `table`. Returns a row per protocol and metric: comparisons, better, worse (the
    95 % interval excludes 0), expected_by_chance (5 % of the comparisons) and survive (p is below
    0.05 when it is corrected for all comparisons of the table).
    """
    compared = rows[rows["against"] != ""]
    sign = np.where(compared["metric"] == "eer", -1, 1)
    low, high = (compared[f"delta_{end}"] * sign for end in ("low", "high"))
    found = compared.assign(
        better=np.minimum(low, high) > 0, worse=np.maximum(low, high) < 0, comparisons=1
    )
    found = found.assign(survive=found["p_holm"] < LEVEL)
    found = found.groupby(["protocol", "metric"], sort=False)
    result = found[["comparisons", "better", "worse", "survive"]].sum()
    return result.assign(expected_by_chance=LEVEL * result["comparisons"])


# ---------------------------------------------------------------- claims of the slides
def verdict(low: float, high: float, claimed: float = 0.0) -> str:
    """What the 95 % interval of a gain says of a claim.

    "reproduced" (the interval lies above 0), "refuted" (it lies below the gain that is `claimed`,
    or below 0 where no number is), else "undecided" with its width.
    """
    if low > 0:
        return "reproduced"
    return "refuted" if high < claimed else f"undecided, interval {high - low:.3f} wide"


def claims(rows: pd.DataFrame, slides: pd.DataFrame) -> pd.DataFrame:
    """The claims of `CLAIMS` by F1 on the test.

    Args: `rows` of `table`; `slides` of outputs/reference/slides.csv. Returns a row per claim:
    condition, claim, claimed (gain of F1 on the slides, NaN for none), delta, delta_low,
    delta_high, verdict, sentence.
    """
    gain, f1 = (slides.set_index("system")[name] for name in ("f1_gain", "f1"))
    splice, cut = gain[["splicing (there: mixup)", "15 s cut (there: attention enhancement)"]]
    gains = {"+ splice": splice, "15 s instead of 30 s": cut}
    gains["soft vote"] = f1["best vote"] - f1["Whisper small, clips cut at 15 s"]
    test, result = rows.query("protocol == 'test' and metric == 'f1'").set_index("condition"), []
    for name in (name for name in CLAIMS if name in test.index):
        delta, low, high = test.loc[name, ["delta", "delta_low", "delta_high"]]
        row = {"condition": name, "claim": CLAIMS[name], "claimed": gains.get(name, np.nan)}
        row |= {"delta": delta, "delta_low": low, "delta_high": high}
        row["verdict"] = verdict(low, high, gains.get(name, 0.0))
        theirs = f" (slides {gains[name]:+.3f})" if name in gains else ""
        words = f"{CLAIMS[name]}: {delta:+.3f} [{low:+.3f}, {high:+.3f}]{theirs}"
        result.append(row | {"sentence": f"{words.replace('-0', '−0')}, **{row['verdict']}**"})
    return pd.DataFrame(result)


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
        colour = np.where(better, plots.BETTER, np.where(worse, plots.WORSE, plots.OURS))
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
        "(blue better, purple worse)",
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
