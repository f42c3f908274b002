"""What notebook 09 compares: other models, another split, fewer owners, packaging, a map, and how
well a timeline finds the fake part of a recording.

Clips are a table as `release` makes it, with `fold`; x are their statistics (N, D).
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import Nystroem

from utils import metrics, parallel
from utils.audio import augmentation, reading, shortcut_audit
from utils.detector import detector
from utils.detector.embedding import RATE
from utils.detector.studies import results
from utils.detector.train import heads, material

SEED = 2024
CORPUS_COLUMNS = ("eer", "eer_with_corpus", "delta", "delta_low", "delta_high")
FEWEST_OWNERS = 4  # that train in a learning curve
RBF_GAMMA, RBF_C = 0.25, 30.0  # gamma is divided by the number of statistics
RBF_CLIPS = 1500  # to which likeness is computed
PART_S = (2.0, 5.0)  # length of a part of a partly fake recording


def fewer_folds(clips: pd.DataFrame) -> np.ndarray:
    """Fold of each clip (N,), two folds of the release made one: models train twice as fast."""
    return clips["fold"].to_numpy() % max(2, (clips["fold"].max() + 1) // 2)


def without_corpora(clips: pd.DataFrame, x: np.ndarray, of_all: np.ndarray) -> pd.DataFrame:
    """The second split: clips of a corpus scored by heads that saw neither corpus nor owner.

    of_all: scores of heads that saw all clips but those of the owners of a fold (N,).

    Error rates are NaN for a corpus of which `clips` do not hold both classes.
    """
    label, owner = clips["label"].to_numpy(), clips["owner"].to_numpy()
    weight, statistics = heads.clip_weights(owner, label), heads.Clips(x)
    fold, rows = fewer_folds(clips), {}
    for name in material.CORPORA:
        of_corpus = (clips["corpus"] == name).to_numpy()
        part = clips[of_corpus].reset_index(drop=True)
        rows[name] = dict.fromkeys(CORPUS_COLUMNS, np.nan)
        rows[name] |= {"clips": len(part), "bonafide": int(part["label"].sum())}
        rows[name] |= {"owners": part["owner"].nunique()}
        if part["label"].nunique() < 2:
            continue
        trains = np.where(of_corpus, -1, fold)
        lines = heads.lines_of_folds(statistics, label, weight, trains, fold.max() + 1)
        without = heads.scores_of_folds(lines, x, fold)[of_corpus]
        both = without, of_all[of_corpus]
        found = [metrics.eer(part["label"], score) for score in both]
        found += results.compared(part, *both)
        rows[name] |= dict(zip(CORPUS_COLUMNS, found, strict=True))
    return pd.DataFrame(rows).T.rename_axis("corpus")


def learning_curve(
    clips: pd.DataFrame, x: np.ndarray, of_all: dict[str, np.ndarray], repeats: int = 2
) -> pd.DataFrame:
    """EER of owners left out against the number of owners that train, drawn at random.

    of_all: scores of the models "line" and "RBF likeness" (N,) where all owners but those of a
    fold train. Columns: model, owners, repeat, eer.
    """
    label, owner = clips["label"].to_numpy(), clips["owner"].to_numpy()
    fold, rows = fewer_folds(clips), []
    names, statistics = np.unique(owner), heads.Clips(x)
    for parts in (16, 8, 4, 2, 1):
        if len(names) // parts < FEWEST_OWNERS:
            continue
        for repeat in range(repeats if parts > 1 else 1):
            rng = np.random.default_rng([SEED, parts, repeat])
            chosen = rng.choice(names, len(names) // parts, replace=False)
            scores = of_all
            if parts > 1:
                trains = np.where(np.isin(owner, chosen), fold, -1)
                scores = _scores_of_some(clips, statistics, trains, fold)
            count = round(len(chosen) * (1 - 1 / (fold.max() + 1)))
            for model, score in scores.items():
                row = {"model": model, "owners": count, "repeat": repeat}
                rows.append(row | {"eer": metrics.eer(label, score)})
    return pd.DataFrame(rows)


def _scores_of_some(
    clips: pd.DataFrame, statistics: heads.Clips, trains: np.ndarray, fold: np.ndarray
) -> dict[str, np.ndarray]:
    """Scores of all clips by both models; those whose number in `trains` is negative train none."""
    label, owner = clips["label"].to_numpy(), clips["owner"].to_numpy()
    inside, weight = trains >= 0, np.zeros(len(clips))
    weight[inside] = heads.clip_weights(owner[inside], label[inside])
    lines = heads.lines_of_folds(statistics, label, weight, trains, fold.max() + 1)
    return {
        "line": heads.scores_of_folds(lines, statistics.x, fold),
        "RBF likeness": rbf_scores(statistics, label, weight, trains, fold),
    }


def candidates(clips: pd.DataFrame, x: np.ndarray) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Quality of models on owners left out, and their EER less that of the first, the release's.

    Returns (table, scores (N,) of the models "line" and "RBF likeness").
    """
    label, owner = clips["label"].to_numpy(), clips["owner"].to_numpy()
    fold, weight = fewer_folds(clips), heads.clip_weights(owner, label)
    whisper = slice(0, 3 * 2 * 512)  # depths 0 and 1, 512 channels, three statistics
    tried = {
        "both encoders, a line": slice(None),
        "Whisper alone": whisper,
        "CAM++ alone": slice(whisper.stop, None),
    }
    scores = {}
    for name, columns in tried.items():
        lines = heads.lines_of_folds(heads.Clips(x[:, columns]), label, weight, fold)
        scores[name] = heads.scores_of_folds(lines, x[:, columns], fold)
    line, name = scores["both encoders, a line"], "both encoders, RBF likeness"
    scores[name] = rbf_scores(heads.Clips(x), label, weight, fold, fold)
    rows = {}
    for model, score in scores.items():
        delta, low, high = results.compared(clips, score, line)
        rows[model] = results.quality(clips.assign(score=score))
        rows[model] |= {"delta": delta, "delta_low": low, "delta_high": high}
    table = pd.DataFrame(rows).T.rename_axis("model")
    return table, {"line": line, "RBF likeness": scores[name]}


def rbf_scores(
    statistics: heads.Clips,
    label: np.ndarray,
    weight: np.ndarray,
    trains: np.ndarray,
    fold: np.ndarray,
) -> np.ndarray:
    """Scores (N,) of a logistic regression on RBF likeness to some clips, by folds.

    By Nyström's method (Williams & Seeger 2001). trains: as `fold`, but negative for clips that do
    not train. It is no line: it needs the statistics of `RBF_CLIPS` clips.
    """
    size = statistics.x.shape[1]
    features = Nystroem(gamma=RBF_GAMMA / size, n_components=RBF_CLIPS, random_state=SEED)
    likeness, scores = features.fit_transform(statistics.z), np.zeros(len(label))
    for number in range(fold.max() + 1):
        inside = np.flatnonzero((trains != number) & (trains >= 0))
        outside = np.flatnonzero(fold == number)
        model = heads.logistic(likeness[inside], label[inside], weight[inside], RBF_C)
        scores[outside] = model.decision_function(likeness[outside])
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


def partly_spoofed(
    waves: list[np.ndarray], bonafide: np.ndarray, spoof: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A recording whose middle is fake: a random bona fide clip, a spoof, another bona fide clip.

    Args: `waves` at 16 kHz; `bonafide` and `spoof`, the numbers of those to choose from, two and
    one at least. Each part is a random stretch of `PART_S`, or the whole clip if that is shorter.
    Returns (16 kHz wave, whether the middle of each step of `detector.STEP_S` is fake).
    """
    first, last = rng.choice(bonafide, 2, replace=False)
    parts = []
    for i in (first, rng.choice(spoof), last):
        size = int(min(rng.uniform(*PART_S) * RATE, len(waves[i])))
        start = rng.integers(len(waves[i]) - size + 1)
        parts.append(waves[i][start : start + size])
    recording = augmentation.splice(parts)
    start, end, _ = np.cumsum([len(part) for part in parts])
    middles = detector.step_middles(len(recording))
    return recording, (start <= middles) & (middles < end)


def partly_spoofed_recordings(
    waves: list, label: np.ndarray, owner: np.ndarray, per_owner: int, seed: int
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(owner, wave, whether each step is fake): `per_owner` of each that has clips for them."""
    rng, result = np.random.default_rng(seed), []
    for name in np.unique(owner):
        bonafide = np.flatnonzero((owner == name) & (label == 1))
        spoof = np.flatnonzero((owner == name) & (label == 0))
        if len(bonafide) > 1 and len(spoof):
            result += [
                (name, *partly_spoofed(waves, bonafide, spoof, rng)) for _ in range(per_owner)
            ]
    return result


def segment_row(spoof: np.ndarray, p: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
    """Errors of a timeline: `spoof` (steps,) true where a step is fake, `p` (steps,) of bona fide.

    Returns segment_eer, and of the steps with p at most the threshold the F1 of spoof and the
    intersection over union (IoU) with the fake steps.
    """
    flagged = p <= threshold
    return {
        "segment_eer": metrics.eer(1 - spoof.astype(int), p),
        "f1_spoof": metrics.f1(spoof.astype(int), flagged.astype(int)),
        "iou": float((spoof & flagged).sum() / max(1, (spoof | flagged).sum())),
    }


def segment_table(steps: pd.DataFrame, threshold: float, seed: int) -> pd.DataFrame:
    """`segment_row` of the timeline, of chance and of calling everything fake.

    steps: a row per step with spoof and p.
    """
    spoof = steps["spoof"].to_numpy(bool)
    guesses = {
        "timeline": (steps["p"].to_numpy(), threshold),
        "chance": (np.random.default_rng(seed).random(len(steps)), 0.5),
        "always fake": (np.zeros(len(steps)), 0.5),
    }
    rows = {name: segment_row(spoof, p, limit) for name, (p, limit) in guesses.items()}
    return pd.DataFrame(rows).T.rename_axis("method")
