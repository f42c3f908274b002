"""Protocols: ways to leave clips out of training, and the scores of a model on what was left out.

- `out of fold`: a fold is scored by a model of the other folds; a group (a speaker, a recording and
  what was made from it) lies in one fold.
- `unseen families`: spoofed clips of one synthesiser family and the bona fide clips of a fold are
  scored by a model of the other folds that never saw this family. One error rate per family.
- `unseen corpora`: the recordings of some corpora, and what was vocoded from them, are scored by a
  model that saw no clip of their groups. Clips of text-to-speech always train and are not scored.
  Splices are not scored either, and train unless their group is.
- `test` and `external`: the competition's test and an external test set, scored by a model of all
  training clips.

The scores of each model are standardised by the mean and standard deviation of its scores on bona
fide training clips, so that models of one protocol share a scale.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from utils import bootstrap, contracts, metrics, paths
from utils.audio import reading
from utils.models.classifiers import fit_logistic
from utils.sources import public_corpora

OUT_OF_FOLD, FAMILIES, CORPORA = "out of fold", "unseen families", "unseen corpora"
TEST, EXTERNAL = "test", "external"
PROTOCOLS = (OUT_OF_FOLD, FAMILIES, CORPORA, TEST, EXTERNAL)
FOLDS = 4
LEAST = 10  # clips that a family needs for an error rate of its own
FAMILY_NAMES = {  # family of the mini competition → how names of systems elsewhere tell of it
    "hifigan": "hi-?fi",
    "griffin-lim": r"griffin|\bgl\b",
    "world": r"\bworld\b|merlin",
    **{name: name for name in ("sinusoid", "diphone", "clustergen")},
    "kokoro": "kokoro|hibari",
    "espeak": "espeak",
    "pico": r"\bpico",
    "articulatory": "articulat|gnuspeech",
    "vits": r"\bvits|piper",
    "ttskit": "mel-?gan|mellotron",
    "praat": "psola|praat",
}


def load_clips(competition: str, external: str = "") -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Clips of a competition that the project built, with its test key, and their 8 kHz waves.

    Args: `competition`, a folder under inputs/; `external`, a folder with key.csv (name, label,
    system, group) and clips/, or "".
    Columns: those of its tables, set ("train", "test", "external"), path, and family (of a splice,
    of its spoofed part). Training clips come first.
    """
    home = paths.INPUTS / competition
    tables = []
    for name, key in (("train", "train_meta.csv"), (TEST, "test_key.csv")):
        table = pd.read_csv(home / key)
        tables.append(table.assign(set=name, path=[home / name / i for i in table["id"]]))
    if external:
        key = pd.read_csv(Path(external) / "key.csv")
        files = [f"{external}/clips/{name}" for name in key["name"]]
        owner = "page-" + key["group"]
        more = {"id": key["name"], "set": EXTERNAL, "source": key["group"], "path": files}
        tables.append(key.assign(**more, group=owner))
    clips, built = pd.concat(tables, ignore_index=True), pd.concat(tables[:2])
    made_by = clips["system"].str.split("+").str[-1]
    family_of = dict(zip(built["system"], built["family"], strict=True))
    clips["family"] = made_by.map(family_of).fillna(made_by)
    return clips, [reading.read(path) for path in clips["path"]]


def family_of_names(systems: pd.Series) -> np.ndarray:
    """Families of the mini competition that the name of a system elsewhere tells of, (N,).

    Several are joined by "+" (a text-to-speech model and its vocoder); "" for none.
    """
    names = systems.astype(str).str.lower()
    found = np.full(len(names), "", dtype=object)
    for family, pattern in FAMILY_NAMES.items():
        matches = names.str.contains(pattern).to_numpy(dtype=bool)
        found[matches] = [f"{before}+{family}".strip("+") for before in found[matches]]
    return found


def load_external(
    names: list[str], clips: pd.DataFrame, most: int = 0
) -> tuple[list[np.ndarray], np.ndarray, list[np.ndarray], np.ndarray]:
    """Labelled clips of `inputs/external/<name>/` that train on every protocol.

    Returns (waves, label (M,), sources (each empty: made from none of `clips`), family (M,)). Clips
    of a group that `clips` has too (an owner of demo pages in the external test set) are left out;
    of the others `bootstrap.some_groups` chooses at most `most` (0: all).
    """
    tables = [public_corpora.manifest(n, paths.INPUTS / "external" / n)[0] for n in names]
    if not tables:
        return [], np.zeros(0, int), [], np.zeros(0, str)
    table = contracts.training(pd.concat(tables, ignore_index=True))
    table = table[~table["group"].isin(clips["group"])]
    table = table[bootstrap.some_groups(table["group"], most)]
    waves = [reading.read(paths.HOME / path) for path in table["path"]]
    label, nothing = table["label"].astype(int).to_numpy(), [np.zeros(0, int)] * len(table)
    return waves, label, nothing, family_of_names(table["system"])


@dataclass(frozen=True)
class Split:
    """One model of a protocol: which clips train it and which it scores, both boolean (N,).

    `part` names what was left out: a fold, a family, a group of corpora; empty for a test set.
    """

    protocol: str
    part: str
    trains: np.ndarray
    scored: np.ndarray


def splits(
    clips: pd.DataFrame, seed: int, folds: int = FOLDS, family_folds: int | None = None
) -> list[Split]:
    """All models that a condition needs on all protocols.

    Args:
        clips: columns id, label, family, source, group and set ("train", "test" or "external").
        seed: of the folds and of the division of corpora.
        folds: number of folds; also the greatest number of parts of corpora.
        family_folds: in how many of the folds each family is scored (default: all). Fewer cost less
            time and score fewer clips: of four, 1 scores about a quarter of each family.
    Raises ValueError if corpora cannot be divided so that each part holds both classes, and
    AssertionError if a clip or a group would be on both sides.
    """
    inside = (clips["set"] == "train").to_numpy()
    bonafide, group = (clips["label"] == 1).to_numpy(), clips["group"].to_numpy()
    train = clips[inside]
    fold = np.full(len(clips), -1)
    fold[inside] = contracts.make_folds(train, folds, seed).reindex(train["id"]).to_numpy()
    result = [
        Split(OUT_OF_FOLD, f"fold {k}", inside & (fold != k), fold == k) for k in range(folds)
    ]
    for family in families(train):
        of_family = (clips["family"] == family).to_numpy() & ~bonafide
        for k in range(folds if family_folds is None else family_folds):
            trains = inside & (fold != k) & ~of_family
            result.append(Split(FAMILIES, family, trains, (fold == k) & (bonafide | of_family)))
    corpus = corpus_parts(clips, seed, folds)
    for k in range(corpus.max() + 1):
        scored = corpus == k
        trains = inside & ~scored & ~np.isin(group, group[scored])
        if 0 < bonafide[trains].sum() < trains.sum():  # of very few clips one class may be left
            result.append(Split(CORPORA, f"corpora {k}", trains, scored))
    for name in (TEST, EXTERNAL):
        scored = (clips["set"] == name).to_numpy()
        if scored.any():
            result.append(Split(name, "", inside, scored))
    for split in result:
        assert not (split.trains & split.scored).any(), split.protocol
        assert set(group[split.trains]).isdisjoint(group[split.scored]), split.protocol
    return result


def sizes(clips: pd.DataFrame, seed: int, folds: int = FOLDS) -> pd.DataFrame:
    """What each protocol holds: models, parts, clips scored in all, mean clips that train."""
    rows = [
        {"protocol": s.protocol, "part": s.part, "scored": s.scored.sum(), "train": s.trains.sum()}
        for s in splits(clips, seed, folds)
    ]
    grouped = pd.DataFrame(rows).groupby("protocol", sort=False)
    parts = grouped["part"].agg(models="size", parts="nunique")
    return parts.assign(scored=grouped["scored"].sum(), train=grouped["train"].mean().astype(int))


def families(train: pd.DataFrame) -> list[str]:
    """Synthesiser families with at least `LEAST` spoofed training clips, sorted."""
    counts = train.loc[train["label"] == 0, "family"].value_counts()
    return sorted(counts.index[counts >= LEAST])


def corpus_parts(clips: pd.DataFrame, seed: int, greatest: int = FOLDS) -> np.ndarray:
    """Part 0, 1, … of each training clip by its corpus, (N,); -1 for all other clips.

    A corpus is a source of bona fide recordings; what was vocoded from one belongs to it. Clips of
    text-to-speech and splices belong to none. There are `greatest` parts, or fewer where corpora
    are few; the division is drawn again until each part holds both classes. Raises ValueError if
    not even two parts can be made.
    """
    inside = (clips["set"] == "train").to_numpy()
    # were splices a corpus, nearly every group would be left out with it
    recorded = sorted(set(clips.loc[inside & (clips["label"] == 1), "source"]) - {"splice"})
    rows = np.flatnonzero(inside & clips["source"].isin(recorded).to_numpy())
    table, rng = clips.iloc[rows], np.random.default_rng(seed)
    for parts in range(min(greatest, len(recorded)), 1, -1):
        for _ in range(1000):
            order = rng.permutation(len(recorded)) % parts
            part = table["source"].map(dict(zip(recorded, order, strict=True))).to_numpy()
            if (table.groupby(part)["label"].nunique() == 2).all():
                result = np.full(len(clips), -1)
                result[rows] = part
                return result
    raise ValueError(f"{len(recorded)} corpora do not make parts that hold both classes")


def unseen(clips: pd.DataFrame, split: Split) -> set[str]:
    """Families of the scored spoofed clips that no clip in training has.

    Clips from elsewhere (demo pages) whose name tells such a family must not train either. The
    external test set leaves nothing out: it is no test of a family.
    """
    if split.protocol == EXTERNAL:
        return set()
    spoof = (clips["label"] == 0).to_numpy()
    known = set(clips.loc[split.trains & spoof, "family"])
    return set(clips.loc[split.scored & spoof, "family"]) - known


Learn = Callable[[Split], tuple[np.ndarray, np.ndarray]]


def score(
    clips: pd.DataFrame,
    seed: int,
    learn: Learn,
    folds: int = FOLDS,
    family_folds: int | None = None,
) -> pd.DataFrame:
    """Scores of one condition on all protocols, a row per scored clip and model.

    `learn(split)` trains a model and returns (scores of `split.scored`, scores of the bona fide
    clips that trained it). Columns: protocol, part, clip (row of `clips`), score (standardised).
    """
    tables = []
    for split in splits(clips, seed, folds, family_folds):
        scores, known = learn(split)
        standard = (scores - known.mean()) / (known.std() + 1e-9)
        rows = {
            "protocol": split.protocol,
            "part": split.part,
            "clip": np.flatnonzero(split.scored),
        }
        tables.append(pd.DataFrame(rows | {"score": standard}))
    return pd.concat(tables, ignore_index=True)


def eer_by_family_left_out(
    x: np.ndarray, label: np.ndarray, family: np.ndarray, fold: np.ndarray, least: int = LEAST
) -> dict[str, float]:
    """EER of a logistic regression on each synthesiser family that it never saw.

    Args:
        x: features, float (N, D).
        label: 1 bona fide, 0 spoof, (N,).
        family: synthesiser family of each spoofed clip, (N,).
        fold: fold of each clip, (N,); a clip is scored by a model of the other folds.
        least: spoofed clips that a family needs.
    Returns family → EER on its clips against all bona fide clips. The scores of each fold are
    standardised by those of the bona fide clips that trained its model.
    """
    result = {}
    for family_left_out in sorted(set(family[label == 0].tolist())):
        of_family = (label == 0) & (family == family_left_out)
        scored = (label == 1) | of_family
        if of_family.sum() < least:
            continue
        scores = np.full(len(x), np.nan)
        for k in np.unique(fold):
            trains, rows = (fold != k) & ~of_family, scored & (fold == k)
            if len(np.unique(label[trains])) < 2 or not rows.any():
                continue
            model = fit_logistic(x[trains], label[trains])
            known = model.decision_function(x[trains & (label == 1)])
            scores[rows] = (model.decision_function(x[rows]) - known.mean()) / known.std()
        scored &= np.isfinite(scores)
        result[family_left_out] = metrics.eer(label[scored], scores[scored])
    return result


def eer_by_source_left_out(
    x: np.ndarray, label: np.ndarray, source: np.ndarray, group: np.ndarray, least: int = LEAST
) -> dict[str, float]:
    """EER of a logistic regression on each source of clips that it never saw.

    Args: as in `eer_by_family_left_out`; `source` and `group` of each clip, (N,).
    Returns source → EER, for each source with `least` clips of both classes, of a model that saw
    neither the source nor any of its groups.
    """

    def too_few(rows):
        return min((label[rows] == 1).sum(), (label[rows] == 0).sum()) < least

    result = {}
    for name in sorted(set(source.tolist())):
        scored = source == name
        trains = ~scored & ~np.isin(group, group[scored])
        if too_few(scored) or too_few(trains):
            continue
        model = fit_logistic(x[trains], label[trains])
        result[name] = metrics.eer(label[scored], model.decision_function(x[scored]))
    return result
