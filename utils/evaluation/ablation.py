"""From the scores of rungs to a table with intervals and a figure; and the clips that notebooks 11 to 13 judge."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from utils import contracts, metrics, parallel, paths, plots
from utils.audio import reading
from utils.evaluation.leave_out import PROTOCOLS
from utils.sources import public_corpora

FAMILIES = {
    "hifigan": "hi-?fi",
    "griffin-lim": r"griffin|\bgl\b",
    "world": r"\bworld\b|merlin",
    "kokoro": "kokoro|hibari",
    "espeak": "espeak",
    "pico": r"\bpico",
}


def clips_of(competition: str, field_set: str = "") -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Clips of a competition that we built (training first, then its test, then a field set if a folder is named) and their waves.

    Columns: what its tables tell, `set` ("train", "test", "field set"), `path`, and `family` (of a splice: of its fake part).
    """
    home = paths.INPUTS / competition
    train = pd.read_csv(home / "train_meta.csv").assign(
        set="train", path=lambda t: [home / "train" / i for i in t["id"]]
    )
    tables = [
        train,
        pd.read_csv(home / "test_key.csv").assign(
            set="test", path=lambda t: [home / "test" / i for i in t["id"]]
        ),
    ]
    if field_set:
        field = pd.read_csv(Path(field_set) / "key.csv")
        tables.append(
            field.assign(
                id=field["name"],
                set="field set",
                source=field["group"],
                path=[f"{field_set}/clips/{name}" for name in field["name"]],
                group="page-" + field["group"],
            )
        )
    clips = pd.concat(tables, ignore_index=True)
    made_by = clips["system"].str.split("+").str[-1]
    clips["family"] = made_by.map(dict(zip(train["system"], train["family"], strict=True))).fillna(
        made_by
    )
    return clips, [reading.read(path) for path in clips["path"]]


def family_of(system: pd.Series) -> np.ndarray:
    """Family of `mini`'s synthesisers that a name of a system elsewhere tells of, or "" (N,): it goes where a view leaves it out."""
    name = system.str.lower()
    return np.select(
        [name.str.contains(pattern) for pattern in FAMILIES.values()], list(FAMILIES), ""
    )


def others_of(
    external: list[str], apart_from: pd.DataFrame
) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Training clips of `inputs/external/<name>/` of each name, with their `family`, and their waves; an empty table without names.

    Clips of a group that `apart_from` holds (the owner of a page that the field set has too) are left out.
    """
    corpora = [
        public_corpora.manifest(name, paths.INPUTS / "external" / name)[0] for name in external
    ]
    nothing = pd.DataFrame({"label": [], "group": [], "system": []})
    table = contracts.training(pd.concat(corpora, ignore_index=True)) if corpora else nothing
    table = table[~table["group"].isin(apart_from["group"])].reset_index(drop=True)
    table["family"] = family_of(table["system"].astype(str))
    return table, [reading.read(paths.HOME / path) for path in table.get("path", [])]


def threshold(label: np.ndarray, scores: pd.DataFrame) -> float:
    """The threshold with the best F1 out of fold: the only one that a rung may know."""
    rows = scores["out of fold"].notna().to_numpy()
    return metrics.best_threshold(label[rows], scores.loc[rows, "out of fold"])[0]


def summary(
    label: np.ndarray,
    group: np.ndarray,
    rung: list[pd.DataFrame],
    reference: list[pd.DataFrame],
    repeats: int = 200,
) -> dict:
    """{(view, what): (value, low, high)} of a rung, the mean over its seeds: EER, F1 (of real, at `threshold`), and both less
    those of `reference`; 95 % intervals by drawing groups, the same for rung and reference."""
    seeds, result = [], {}
    for i, mine in enumerate(rung):
        other = reference[min(i, len(reference) - 1)]
        seeds.append((mine, threshold(label, mine), other, threshold(label, other)))
    for view in PROTOCOLS:
        parts = []  # of each seed, which may judge other clips: labels, groups, scores and decisions of both
        for mine, cut, other, other_cut in seeds:
            rows = (mine[view].notna() & other[view].notna()).to_numpy()
            parts.append(
                (
                    label[rows],
                    group[rows],
                    *(
                        values
                        for table, at in ((mine, cut), (other, other_cut))
                        for values in (table.loc[rows, view].to_numpy(), table.loc[rows, view] > at)
                    ),
                )
            )
        if not all(len(np.unique(part[0])) == 2 for part in parts):
            continue
        names, drawn, rng = (
            np.unique(np.concatenate([part[1] for part in parts])),
            [],
            np.random.default_rng(0),
        )
        members = [{name: np.flatnonzero(part[1] == name) for name in names} for part in parts]

        def found(chosen, parts=parts, members=members):
            figures = []
            for (y, _, ours, ours_bonafide, theirs, theirs_bonafide), of in zip(
                parts, members, strict=True
            ):
                at = np.concatenate([of[name] for name in chosen])
                if not 0 < y[at].mean() < 1:
                    return None
                ones = [
                    2
                    * (y[at] & bonafide.to_numpy()[at]).sum()
                    / (y[at].sum() + bonafide.to_numpy()[at].sum())
                    for bonafide in (ours_bonafide, theirs_bonafide)
                ]
                eers = [metrics.eer(y[at], scores[at]) for scores in (ours, theirs)]
                figures.append([eers[0], ones[0], eers[0] - eers[1], ones[0] - ones[1]])
            return np.mean(figures, axis=0)

        drawn = [
            x
            for x in (found(rng.choice(names, len(names))) for _ in range(repeats))
            if x is not None
        ]
        low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
        for what, value, a, b in zip(
            ("EER", "F1", "EER less", "F1 less"), found(names), low, high, strict=True
        ):
            result[view, what] = (value, a, b)
    return result


def table(
    clips: pd.DataFrame,
    scores: dict,
    seeds: list[int],
    base: str,
    against: dict[str, str],
    repeats: int,
) -> pd.DataFrame:
    """`summary` of each rung of `scores` {(rung, seed): table}, `base` first, each compared with `base` or what `against` names:
    a row for each rung, view and what (EER, F1, and both less those of `against`) with value, low, high."""
    label, group = clips["label"].to_numpy(), clips["group"].to_numpy()
    order = [base, *(name for name in dict.fromkeys(name for name, _ in scores) if name != base)]
    jobs = [
        (
            label,
            group,
            [scores[name, seed] for seed in seeds],
            [scores[against.get(name, base), seed] for seed in seeds],
            repeats,
        )
        for name in order
    ]
    return pd.DataFrame(
        [
            {
                "rung": name,
                "view": view,
                "what": what,
                "value": value,
                "low": low,
                "high": high,
                "against": against.get(name, base) if what.endswith("less") else "",
            }
            for name, found in zip(
                order, parallel.run_in_processes(summary, jobs, "intervals"), strict=True
            )
            for (view, what), (value, low, high) in found.items()
        ]
    )


def save(run: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Write `rungs.csv` (what `table` gives) and `ladder.csv` (a row a rung, EER and F1 of each view), which is returned."""
    rows.to_csv(run / "rungs.csv", index=False, float_format="%.4f")
    order = rows["rung"].drop_duplicates()
    wide = rows.pivot(index="rung", columns=["what", "view"], values="value").loc[order]
    flat = wide[
        [(what, view) for what in ("EER", "F1") for view in PROTOCOLS if (what, view) in wide]
    ]
    flat.set_axis([f"{what}, {view}" for what, view in flat], axis=1).to_csv(
        run / "ladder.csv", float_format="%.4f"
    )
    return flat


def figure(run: Path, rows: pd.DataFrame, base: str, name: str = "ladder") -> None:
    """`figures/<name>.png`: EER of every rung on every view with intervals; colours tell what is better or worse."""
    order, y = rows["rung"].drop_duplicates(), np.arange(rows["rung"].nunique())[::-1]
    shown = [view for view in PROTOCOLS if view in set(rows["view"])]
    fig, axes = plt.subplots(
        1,
        len(shown),
        figsize=(3.1 * len(shown), 0.24 * len(order) + 1.2),
        sharey=True,
        squeeze=False,
    )
    for axis, view in zip(axes[0], shown, strict=True):
        here = rows[rows["view"] == view].set_index("rung")
        part, less = (here[here["what"] == what].loc[order] for what in ("EER", "EER less"))
        axis.hlines(y, part["low"], part["high"], color=plots.GREY, lw=1.5)
        colour = np.where(
            less["high"] < 0, plots.BONAFIDE, np.where(less["low"] > 0, plots.SPOOF, "black")
        )
        axis.scatter(part["value"], y, c=colour, s=18, zorder=3)
        axis.axvline(part.loc[base, "value"], color=plots.GREY, ls="--", lw=1)
        axis.set(title=view, xlabel="EER", ylim=(-1, len(order)))
        axis.set_yticks(y, order, fontsize=8)
    fig.suptitle(
        "EER, mean of seeds, 95 % over groups. Blue: better than what it is compared with, orange: worse",
        fontsize=10,
    )
    plots.save(run, name)


def beyond_chance(rows: pd.DataFrame) -> None:
    """Print, view by view, which rungs are better or worse than what they are compared with, beyond the interval."""
    less = rows[rows["what"] == "EER less"].set_index(["rung", "view"])
    for view in less.index.unique("view"):
        part = less.xs(view, level="view")
        good, bad = (
            part[part["high"] < 0].sort_values("value"),
            part[part["low"] > 0].sort_values("value", ascending=False),
        )
        print(
            f"{view}: better beyond the interval: "
            + ("; ".join(f"{n} {r['value']:+.3f}" for n, r in good.iterrows()) or "none")
        )
        print(
            f"{' ' * len(view)}  worse: "
            + ("; ".join(f"{n} {r['value']:+.3f}" for n, r in bad.iterrows()) or "none")
        )


def mistakes(clips: pd.DataFrame, tables: list[pd.DataFrame], least: int = 10) -> pd.DataFrame:
    """Where a rung errs at its equal error rate: share of clips decided wrongly, mean over its seeds (`tables`), of each family of
    synthesisers and each source of real clips with at least `least` clips in a view. Columns: view, class, what, wrong, clips."""
    rows = []
    for view in PROTOCOLS:
        for table in tables:
            part = clips[table[view].notna()].assign(score=table[view].dropna())
            if part["label"].nunique() < 2:
                continue
            error = metrics.eer(part["label"], part["score"])
            cut = part.loc[part["label"] == 1, "score"].quantile(error)
            bonafide = part["label"] == 1
            rows.append(
                pd.DataFrame(
                    {
                        "view": view,
                        "class": np.where(bonafide, "real", "fake"),
                        "wrong": (part["score"] > cut) != bonafide,
                        "what": part["source"].where(bonafide, part["family"]),
                    }
                )
            )
    every = (
        pd.concat(rows)
        .groupby(["view", "class", "what"])["wrong"]
        .agg(wrong="mean", clips="size")
        .reset_index()
    )
    every["clips"] = (every["clips"] / len(tables)).round().astype(int)
    return every[every["clips"] >= least].reset_index(drop=True)
