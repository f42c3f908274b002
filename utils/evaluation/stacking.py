"""Stackers and votes: one score from the scores of several models; how far their errors are alike.

Scores are log-odds of bona fide: higher is more bona fide. Labels: 1 bona fide, 0 spoof.
"""

from collections.abc import Callable

import lightgbm as lgb
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from utils import metrics
from utils.evaluation import calibration, leave_out

STACKERS = ["mean", "logistic", "lightgbm"]
VOTES = ["soft vote", "hard vote"]
KEY = ["protocol", "part", "clip"]  # columns of `leave_out.score` that name a score
STRICTNESS = (0.35, 0.5, 0.65)  # probabilities above which a model votes for bona fide


def error_correlation(scores: pd.DataFrame, label) -> pd.DataFrame:
    """Correlation between the errors of models, (models, models).

    The error of a score is what remains of it after the mean score of its class; the correlation
    standardises it. Raises ValueError if `label` (clips,) is not as long as `scores`.

    Args: `scores` (clips, models).
    """
    label = np.asarray(label)
    if len(label) != len(scores):
        raise ValueError(f"{len(scores)} rows of scores, but {len(label)} labels")
    return (scores - scores.groupby(label).transform("mean")).corr()


def variance_of_mean(m: int, sigma2: float, rho: float) -> float:
    """Variance of the mean of `m` errors of variance `sigma2` and mean correlation `rho`:
    σ²(1 − ρ)/m + σ²ρ. The second term, what they share, no number of models averages away."""
    return sigma2 * (1 - rho) / m + sigma2 * rho


def _boosted_trees(
    scores: np.ndarray, label: np.ndarray, leaves: int, seed: int
) -> lgb.LGBMClassifier:
    """LightGBM with few leaves: there are about a thousand rows and a handful of columns."""
    model = lgb.LGBMClassifier(
        n_estimators=60,
        num_leaves=leaves,
        learning_rate=0.05,
        min_child_samples=5,
        subsample=0.8,
        subsample_freq=1,
        random_state=seed,
        n_jobs=1,
        deterministic=True,
        verbose=-1,
    )
    return model.fit(scores, label)


def fit(
    name: str, scores: pd.DataFrame, label, leaves: int = 4, seed: int = 0
) -> Callable[[pd.DataFrame], np.ndarray]:
    """Fit a stacker of `STACKERS`: "mean" of the scores, "logistic" regression, or "lightgbm".

    Args: `scores` (clips, models), standardised; `label` (clips,); `leaves` and `seed` of LightGBM.
    Returns a function from such scores of other clips to one score per clip, higher is more bona
    fide. Raises ValueError for an unknown name.
    """
    if name == "mean":
        return lambda table: table.to_numpy().mean(axis=1)
    if name == "logistic":
        return LogisticRegression(C=0.1).fit(scores, label).decision_function
    if name == "lightgbm":
        trees = _boosted_trees(scores.to_numpy(), label, leaves, seed)
        return lambda table: trees.predict(table.to_numpy(), raw_score=True)
    raise ValueError(f"{name!r} is not a stacker: {', '.join(STACKERS)}")


def cross_fit(
    scores: pd.DataFrame, label, fold, leaves: int = 4, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Stack out-of-fold scores: each fold is scored by stackers that were fitted on the others.

    This is cross-fitting, not nesting: the members' scores in the other folds come from models that
    trained on this fold's labels, so the result is slightly optimistic.

    Args: `scores` (clips, models), standardised; `label` and `fold` (clips,).
    Returns (stacked (clips, stackers), gain (models, folds)): `gain` is the fraction of LightGBM's
    reduction of the loss that each model brings, which sums to 1 in each fold.
    """
    label, fold = np.asarray(label), np.asarray(fold)
    stacked = pd.DataFrame(0.0, index=scores.index, columns=STACKERS)
    gain = pd.DataFrame(0.0, index=scores.columns, columns=np.unique(fold))
    for number in gain.columns:
        inside, outside = fold != number, fold == number
        for name in STACKERS:
            stacker = fit(name, scores[inside], label[inside], leaves, seed)
            stacked.loc[outside, name] = stacker(scores[outside])
        trees = _boosted_trees(scores[inside].to_numpy(), label[inside], leaves, seed)
        gain[number] = trees.booster_.feature_importance("gain")
    return stacked, gain / gain.sum()


def vote_candidates(
    scores: pd.DataFrame, label, other: pd.DataFrame, voters: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every way to decide, as a number between 0 and 1: the calibrated columns, and two votes.

    "soft vote" is the mean of the voters' calibrated probabilities of bona fide. In the "hard vote"
    each voter votes once for each threshold of `STRICTNESS`; the number is the fraction of votes
    for bona fide. It is no probability.

    Args: `scores` and `other` (clips, columns) with the same columns; `label` (clips,) of `scores`;
    `voters`, the columns that vote. Calibration is fitted on `scores` alone.
    Returns the candidates of `scores` and of `other`, each (clips, candidates).
    """
    tables = [pd.DataFrame(index=table.index) for table in (scores, other)]
    for name in scores:
        platt = calibration.fit_platt(scores[name], label)
        for table, values in zip(tables, (scores, other), strict=True):
            table[name] = platt.probability(values[name])
    for table in tables:
        probability = table[voters].to_numpy()
        votes = [probability > threshold for threshold in STRICTNESS]
        table["soft vote"] = probability.mean(axis=1)
        table["hard vote"] = np.mean(votes, axis=(0, 2))
    return tables[0], tables[1]


# ---------------------------------------------------------------- votes of tables of `leave_out`
def threshold(label: np.ndarray, scores: pd.DataFrame) -> float:
    """The threshold with the best F1 out of fold: all that a condition may know."""
    rows = scores[scores["protocol"] == leave_out.OUT_OF_FOLD]
    return metrics.best_threshold(label[rows["clip"]], rows["score"])[0]


def scaled(label: np.ndarray, scores: pd.DataFrame) -> pd.DataFrame:
    """Scores in units of their standard deviation out of fold, 0 at the best threshold there."""
    spread = scores.loc[scores["protocol"] == leave_out.OUT_OF_FOLD, "score"].std()
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


def best_single(label: np.ndarray, members: dict[str, list[pd.DataFrame]]) -> str:
    """Name of the member with the lowest EER out of fold, mean over its tables, one per seed.

    It is chosen as a vote's rival must be: without a look at what the vote is measured on.
    """

    def eer(table: pd.DataFrame) -> float:
        rows = table[table["protocol"] == leave_out.OUT_OF_FOLD]
        return metrics.eer(label[rows["clip"]], rows["score"])

    return min(members, key=lambda name: np.mean([eer(table) for table in members[name]]))


def stack(
    clips: pd.DataFrame,
    seed: int,
    tables: list[pd.DataFrame],
    stacker: str,
    folds: int = leave_out.FOLDS,
) -> pd.DataFrame:
    """Stack of scaled members, learned from scores out of fold of the clips that a split trains on.

    Args: `tables` of `scaled`; `stacker` one of `STACKERS`. Each family is scored in one fold.
    """
    side_by_side, label = members_of(tables).sort_index(), clips["label"].to_numpy()
    learned_from = side_by_side.loc[leave_out.OUT_OF_FOLD].droplevel("part")
    results = []
    for split in leave_out.splits(clips, seed, folds, family_folds=1):
        known = learned_from[split.trains[learned_from.index]]
        if (split.protocol, split.part) not in side_by_side.index.droplevel("clip"):
            continue
        scored = side_by_side.loc[(split.protocol, split.part)]
        scored = scored[split.scored[scored.index]]
        values = fit(stacker, known, label[known.index])(scored)
        table = pd.DataFrame({"clip": scored.index, "score": values})
        results.append(table.assign(protocol=split.protocol, part=split.part))
    return pd.concat(results, ignore_index=True)
