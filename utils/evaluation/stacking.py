"""Stackers and votes: one score from the scores of several models; how far their errors are alike.

The error of a score is what remains of it after the mean score of its class, in units of its
standard deviation: errors of all models have the variance 1. Their mean correlation is ρ.

Scores are log-odds of bona fide: higher is more bona fide. Labels: 1 bona fide, 0 spoof.
"""

from collections.abc import Callable

import lightgbm as lgb
import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from utils import metrics
from utils.evaluation import calibration, leave_out

STACKERS = ["mean", "logistic", "lightgbm"]
VOTES = ["soft vote", "hard vote"]
MAJORITY = 0.5  # of `hard_vote`
ONLY_VOTE = ("-strict", "-lenient")  # endings of models that are no members of a stack
KEY = ["protocol", "part", "clip"]  # columns of `leave_out.score` that name a score


def error_correlation(scores: pd.DataFrame, label) -> pd.DataFrame:
    """Correlation between the errors of models, (models, models).

    Raises ValueError if `label` (clips,) is not as long as `scores` (clips, models).
    """
    label = np.asarray(label)
    if len(label) != len(scores):
        raise ValueError(f"{len(scores)} rows of scores, but {len(label)} labels")
    return (scores - scores.groupby(label).transform("mean")).corr()


def mean_correlation(scores: pd.DataFrame, label) -> float:
    """ρ: the mean of `error_correlation` over pairs of different models; 0 for a single model."""
    rho, m = error_correlation(scores, label).to_numpy(), scores.shape[1]
    return float((rho.sum() - m) / max(1, m * (m - 1)))


def variance_of_mean(m: int, sigma2: float, rho: float) -> float:
    """Variance of the mean of `m` errors of variance `sigma2` and mean correlation `rho`:
    σ²(1 − ρ)/m + σ²ρ. The second term, what they share, no number of models averages away."""
    return sigma2 * (1 - rho) / m + sigma2 * rho


def predicted_variance(
    oof: pd.DataFrame, label, test: pd.DataFrame, test_label
) -> dict[str, float]:
    """Variance of the mean error of m models on a test, predicted out of fold, and measured.

    With ρ of the clips themselves the formula of `variance_of_mean` is exact, so what this tests is
    whether ρ out of fold holds on the test.

    Args: `oof` and `test` (clips, models), `label` and `test_label` (clips,).
    Returns m, "rho, out of fold", "rho, test", "predicted" (from the former) and "on the test".
    """
    pairs, m = ((oof, label), (test, test_label)), oof.shape[1]
    rho, rho_test = (mean_correlation(*pair) for pair in pairs)
    return {
        "m": m,
        "rho, out of fold": rho,
        "rho, test": rho_test,
        "predicted": variance_of_mean(m, 1.0, rho),
        "on the test": variance_of_mean(m, 1.0, rho_test),
    }


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


def hard_vote(scores: pd.DataFrame) -> np.ndarray:
    """Vote of an odd number of models that each decide for bona fide above a score of 0.

    Args: `scores` (clips, models). Returns (clips,), between 0 and 1 and above one half where more
    than half of the models decide for bona fide. With equal votes the mean score gives the order.
    It is no probability.
    """
    votes, mean = (scores > 0).sum(axis=1), scores.mean(axis=1)
    return ((votes + expit(mean)) / (scores.shape[1] + 1)).to_numpy()


def vote_gain(
    scores: pd.DataFrame, label, group, plain: str, repeats: int = 300, seed: int = 0
) -> pd.DataFrame:
    """What a hard vote gains over its voters, all of which decide at the score 0.

    Args: `scores` (clips, voters), `label` and `group` (clips,); `plain`, the voter that the others
    are compared with; `repeats` and `seed` of the bootstrap over groups.
    Returns rows for each voter and "hard vote": f1 (of bona fide) and eer, each with the difference
    `…_delta` to `plain` and its paired 95 % interval, `…_delta_low` and `…_delta_high`; recall (of
    bona fide), false_acceptance (of spoofs).
    """
    values = scores.assign(**{"hard vote": hard_vote(scores) - MAJORITY})
    decisions, label = (values > 0).astype(int), np.asarray(label)
    rates = {1: "recall", 0: "false_acceptance"}
    table = pd.DataFrame({name: decisions[label == one].mean() for one, name in rates.items()})
    for metric, of, columns in (("f1", metrics.f1, decisions), ("eer", metrics.eer, values)):
        table[metric] = [of(label, columns[name]) for name in table.index]
        table[f"{metric}_delta"] = table[metric] - table.loc[plain, metric]
        table[[f"{metric}_delta_low", f"{metric}_delta_high"]] = [
            metrics.group_bootstrap(
                lambda y, a, b, of=of: of(y, a) - of(y, b),
                group,
                label,
                columns[name],
                columns[plain],
                repeats=repeats,
                seed=seed,
            )
            for name in table.index
        ]
    return table.rename_axis("model")


def threshold_of(name: str, label, probability, prior: float) -> float:
    """Above which value candidate `name` decides for bona fide.

    `MAJORITY` for the hard vote, `calibration.f1_threshold` of the other arguments for all others.
    """
    if name == "hard vote":
        return MAJORITY
    return calibration.f1_threshold(label, probability, prior)


def meaning(name: str) -> str:
    """What the values of candidate `name` say, for the axis of a figure."""
    return "votes, then mean score, 0 to 1" if name == "hard vote" else "probability of bona fide"


def vote_candidates(
    scores: pd.DataFrame, label, other: pd.DataFrame, voters: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Calibrated probabilities of bona fide: of each column, and their mean over the voters.

    Args: `scores` and `other` (clips, columns) with the same columns; `label` (clips,) of `scores`;
    `voters`, the columns whose mean is the "soft vote". Calibration is fitted on `scores` alone.
    Returns the candidates of `scores` and of `other`, each (clips, candidates).
    """
    tables = [pd.DataFrame(index=table.index) for table in (scores, other)]
    for name in scores:
        platt = calibration.fit_platt(scores[name], label)
        for table, values in zip(tables, (scores, other), strict=True):
            table[name] = platt.probability(values[name])
    for table in tables:
        table["soft vote"] = table[voters].to_numpy().mean(axis=1)
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
    """Vote of scaled members: their mean, or `hard_vote`."""
    members = members_of(tables)
    value = hard_vote(members) if hard else members.mean(axis=1)
    return members.assign(score=value)["score"].reset_index()


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
