"""What notebook 09 compares: other models, another split, fewer owners, packaging, a map.

Clips are a table as `release` makes it, with `fold`; x are their statistics (N, D).
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from utils import metrics, parallel
from utils.audio import reading, shortcut_audit
from utils.detector.train import heads, material, results

SEED = 2024
CORPUS_COLUMNS = ("eer", "eer_with_corpus", "delta", "delta_low", "delta_high")
FEWEST_OWNERS = 4  # that train in a learning curve
RBF_GAMMA, RBF_C = 0.25, 30.0  # gamma is divided by the number of statistics


def without_corpora(clips: pd.DataFrame, x: np.ndarray, folds: int = 4) -> pd.DataFrame:
    """The second split: clips of a corpus scored by heads that saw neither corpus nor owner.

    Error rates are NaN for a corpus of which `clips` do not hold both classes.
    """
    label, owner = clips["label"].to_numpy(), clips["owner"].to_numpy()
    weight, statistics = heads.clip_weights(owner, label), heads.Clips(x)
    rows = {}
    for name in material.CORPORA:
        of_corpus = (clips["corpus"] == name).to_numpy()
        part = clips[of_corpus].reset_index(drop=True)
        rows[name] = dict.fromkeys(CORPUS_COLUMNS, np.nan)
        rows[name] |= {"clips": len(part), "bonafide": int(part["label"].sum())}
        rows[name] |= {"owners": part["owner"].nunique()}
        if part["label"].nunique() < 2:
            continue
        fold = heads.owner_folds(label, owner, SEED, folds)
        score = {}
        for kept in (False, True):
            trains = fold if kept else np.where(of_corpus, -1, fold)
            lines = heads.lines_of_folds(statistics, label, weight, trains, fold.max() + 1)
            score[kept] = heads.scores_of_folds(lines, x, fold)[of_corpus]
        found = [metrics.eer(part["label"], score[kept]) for kept in (False, True)]
        found += results.compared(part, score[False], score[True])
        rows[name] |= dict(zip(CORPUS_COLUMNS, found, strict=True))
    return pd.DataFrame(rows).T.rename_axis("corpus")


def learning_curve(clips: pd.DataFrame, x: np.ndarray, repeats: int = 2) -> pd.DataFrame:
    """EER of owners left out against the number of owners that train, drawn at random.

    Columns: model ("line", "RBF likeness"), owners, repeat, eer.
    """
    label, owner = clips["label"].to_numpy(), clips["owner"].to_numpy()
    fold, rows = clips["fold"].to_numpy(), []
    names, statistics = np.unique(owner), heads.Clips(x)
    for parts in (16, 8, 4, 2, 1):
        if len(names) // parts < FEWEST_OWNERS:
            continue
        for repeat in range(repeats if parts > 1 else 1):
            rng = np.random.default_rng([SEED, parts, repeat])
            chosen = rng.choice(names, len(names) // parts, replace=False)
            trains = np.where(np.isin(owner, chosen), fold, -1)
            inside = trains >= 0
            weight = np.zeros(len(label))
            weight[inside] = heads.clip_weights(owner[inside], label[inside])
            lines = heads.lines_of_folds(statistics, label, weight, trains, fold.max() + 1)
            scores = {"line": heads.scores_of_folds(lines, x, fold)}
            scores["RBF likeness"] = rbf_scores(statistics, label, weight, trains, fold)
            count = round(len(chosen) * (1 - 1 / (fold.max() + 1)))
            for model, score in scores.items():
                row = {"model": model, "owners": count, "repeat": repeat}
                rows.append(row | {"eer": metrics.eer(label, score)})
    return pd.DataFrame(rows)


def candidates(clips: pd.DataFrame, x: np.ndarray, released: np.ndarray) -> pd.DataFrame:
    """Quality of other models on owners left out, and their EER less that of the release."""
    label, owner = clips["label"].to_numpy(), clips["owner"].to_numpy()
    fold, weight = clips["fold"].to_numpy(), heads.clip_weights(owner, label)
    alike = heads.class_weights(label, np.ones(len(label)))
    whisper = slice(0, 3 * 4 * 512)  # depths 0 … 3, 512 channels, three statistics
    tried = {
        "both encoders, owners weigh less the more clips they have": (slice(None), weight),
        "both encoders, clips weigh the same": (slice(None), alike),
        "Whisper alone": (whisper, weight),
        "CAM++ alone": (slice(whisper.stop, None), weight),
    }
    scores = {}
    for name, (columns, weights) in tried.items():
        lines = heads.lines_of_folds(heads.Clips(x[:, columns]), label, weights, fold)
        scores[name] = heads.scores_of_folds(lines, x[:, columns], fold)
    scores["both encoders, RBF likeness"] = rbf_scores(heads.Clips(x), label, weight, fold, fold)
    rows = {}
    for name, score in scores.items():
        delta, low, high = results.compared(clips, score, released)
        rows[name] = results.quality(clips.assign(score=score))
        rows[name] |= {"delta": delta, "delta_low": low, "delta_high": high}
    return pd.DataFrame(rows).T.rename_axis("model")


def rbf_scores(
    statistics: heads.Clips,
    label: np.ndarray,
    weight: np.ndarray,
    trains: np.ndarray,
    fold: np.ndarray,
) -> np.ndarray:
    """Scores (N,) of a logistic regression on RBF likeness to training clips, by folds.

    trains: as `fold`, but negative for clips that do not train. It is no line: it needs the
    statistics of all training clips.
    """
    size, products = statistics.x.shape[1], statistics.products
    norm = np.diag(products)
    distance = np.maximum(norm[:, None] + norm - 2 * products, 0)
    likeness, scores = np.exp(-RBF_GAMMA / size * distance), np.zeros(len(label))
    for number in range(fold.max() + 1):
        inside = np.flatnonzero((trains != number) & (trains >= 0))
        outside = np.flatnonzero(fold == number)
        some = likeness[np.ix_(inside, inside)]
        share, bias = heads.logistic(some, label[inside], weight[inside], RBF_C)
        scores[outside] = likeness[np.ix_(outside, inside)] @ share + bias
    return scores


def audits(clips: pd.DataFrame) -> pd.DataFrame:
    """How well the packaging of files tells the classes, before and after they are conditioned.

    By trees on owners left out (`shortcut_audit`); before: of clips whose original is known.
    """
    label, fold = clips["label"].to_numpy(), clips["fold"].to_numpy()
    owner, tables = clips["owner"].to_numpy(), []
    known = clips["native_hz"].notna().to_numpy()
    before = pd.DataFrame(
        {
            "rate: (Hz)": clips["native_hz"],
            "codec: suffix": clips["suffix"].astype("category").cat.codes.astype(float),
            "duration: all (s)": clips["native_s"],
            "level: peak": clips["native_peak"],
            "level: mean (dBFS)": clips["native_dbfs"],
            "silence: lead (s)": clips["native_lead_s"],
            "silence: tail (s)": clips["native_tail_s"],
        }
    )
    files = clips["path"].tolist()
    narrow = parallel.map_chunks(_packaging, files, 100, label="packaging")
    after = pd.DataFrame(narrow).assign(**{"bandwidth: up to 8 kHz (Hz)": clips["bandwidth_hz"]})
    for stage, features, rows in (("before", before, known), ("after", after, known | True)):
        if len(set(label[rows])) < 2:
            continue
        found, _ = shortcut_audit.audit(
            features[rows].reset_index(drop=True), label[rows], fold[rows], owner[rows], SEED
        )
        tables.append(found.assign(stage=stage, clips=rows.sum()).reset_index())
    return pd.concat(tables, ignore_index=True)


def _packaging(files: list[str]) -> list[dict[str, float]]:
    return [shortcut_audit.packaging(reading.read(Path(file))) for file in files]


def system_map(table: pd.DataFrame, x: np.ndarray, least: int = 4) -> pd.DataFrame:
    """Two principal components of the mean statistics of each system, and of each corpus."""
    name = table["system"].where(table["label"] == 0, "bona fide, " + table["kind"])
    counts = name.value_counts()
    names = counts.index[counts >= least]
    z = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
    means = np.stack([z[(name == each).to_numpy()].mean(axis=0) for each in names])
    found = PCA(2, random_state=SEED).fit_transform(means)
    label = table.groupby(name)["label"].first().loc[names]
    return pd.DataFrame(
        {"label": label, "clips": counts.loc[names], "x": found[:, 0], "y": found[:, 1]}
    ).rename_axis("system")
