"""What notebooks 11 to 13 ask of every rung: five ways to leave clips out, the same for all, and the scores of a rung on each.

A view is a way to judge: clips of other folds (`out of fold`), of synthesisers and of sources that training never saw, and sets of
their own (`test`, `field set`). In each, every model's scores are brought to one scale by its real training clips.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from utils import contracts, metrics, parallel, paths
from utils.audio import augmentation, dsp
from utils.code_digest import code_digest
from utils.models import finetune, frozen_features
from utils.models.classifiers import fit, fit_logistic

PROTOCOLS = ("out of fold", "systems left out", "corpora left out", "test", "field set")
PARTS = 4  # a view's clips are judged in so many parts, each by a model of its own
SOURCES_PER_CLIP = (
    7  # clips at most in a copy: itself, three that are spliced to it, three voices of babble
)


def _in_parts(names: pd.Series, label: pd.Series, rng: np.random.Generator) -> pd.Series:
    """Part 0 … PARTS-1 of each name, drawn until each part holds both classes (or, with one class, a name)."""
    unique = sorted(set(names))
    for _ in range(1000):
        part = names.map(dict(zip(unique, rng.permutation(len(unique)) % PARTS, strict=True)))
        if (label.groupby(part).nunique() == label.nunique()).all() and part.nunique() == PARTS:
            return part
    raise ValueError(f"{len(unique)} names do not make {PARTS} parts that hold both classes")


def splits(
    clips: pd.DataFrame, seed: int, rotations: int = PARTS
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(view, rows that train, rows that are judged), both boolean (N,), of `clips`: id, label, family, source, group, set.

    `set` is "train" or the name of a view of its own, which a model of all training clips judges. A clip of a system left out is
    of a fold left out too; sources left out take all their groups with them. `rotations` below `PARTS` judge only
    part of the fakes of systems left out.
    """
    inside = (clips["set"] == "train").to_numpy()
    train, rng = clips[inside], np.random.default_rng(seed)
    fold = np.full(len(clips), -1)
    fold[inside] = contracts.make_folds(train, PARTS, seed).reindex(train["id"]).to_numpy()
    family, source = np.full(len(clips), -1), np.full(len(clips), -1)
    spoofs = inside & (clips["label"] == 0).to_numpy()
    family[spoofs] = _in_parts(clips.loc[spoofs, "family"], clips.loc[spoofs, "label"], rng)
    source[inside] = _in_parts(train["source"], train["label"], rng)
    bonafide, group = inside & ~spoofs, clips["group"].to_numpy()
    result = [("out of fold", inside & (fold != k), fold == k) for k in range(PARTS)]
    for turn in range(rotations):
        for k in range(PARTS):
            held = (k + turn) % PARTS
            result.append(
                (
                    "systems left out",
                    inside & (fold != k) & (family != held),
                    (fold == k) & (bonafide | (family == held)),
                )
            )
    for k in range(PARTS):
        judged = source == k
        result.append(
            ("corpora left out", inside & ~judged & ~np.isin(group, group[judged]), judged)
        )
    result += [
        (name, inside, (clips["set"] == name).to_numpy())
        for name in PROTOCOLS[3:]
        if (clips["set"] == name).any()
    ]
    for view, known, judged in result:
        assert not (known & judged).any(), view
        assert view not in ("out of fold", "corpora left out") or set(group[known]).isdisjoint(
            group[judged]
        ), view
    return result


@dataclass
class Augmented:
    """Augmented copies of training clips: features (M, D), labels (M,), and the rows of `clips` that each is made of (M, ·);
    -1: none, it may always train. With `family` (M,), one that `clips` know trains only where one of their fakes of it does."""

    features: np.ndarray
    label: np.ndarray
    parts: np.ndarray
    family: np.ndarray | None = None


def scores_by_protocol(
    clips: pd.DataFrame, seed: int, learn, rotations: int = PARTS
) -> dict[str, pd.DataFrame]:
    """Scores of rungs: of each one row a clip (N), a column a view, NaN where a view does not judge it.

    `learn(known, judged)`, rows as `splits` gives them, returns name → (scores of what is judged, scores of real training clips).
    """
    total, times = {}, {}
    for view, known, judged in splits(clips, seed, rotations):
        for name, (scores, bonafide) in learn(known, judged).items():
            at = PROTOCOLS.index(view), judged
            total.setdefault(name, np.zeros((len(PROTOCOLS), len(clips))))[at] += (
                scores - bonafide.mean()
            ) / (bonafide.std() + 1e-9)
            times.setdefault(name, np.zeros((len(PROTOCOLS), len(clips))))[at] += 1
    return {
        name: pd.DataFrame(
            np.divide(
                total[name],
                times[name],
                out=np.full_like(total[name], np.nan),
                where=times[name] > 0,
            ).T,
            columns=list(PROTOCOLS),
        )
        for name in total
    }


def may_train(clips: pd.DataFrame, known: np.ndarray, family: np.ndarray) -> np.ndarray:
    """Whether clips of a `family` (M,) may train beside `known` (N,) of `clips`: not if training clips hold it and all of those are
    left out."""
    spoofs = clips[(clips["set"] == "train") & (clips["label"] == 0)]
    return ~np.isin(
        family, list(set(spoofs["family"]) - set(spoofs.loc[known[spoofs.index], "family"]))
    )


def training_rows(
    clips: pd.DataFrame,
    clean: np.ndarray,
    known: np.ndarray,
    copies: Augmented | None,
    keep: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of what may train: `known` (N,) of `clean` (N, D), of those only `keep` (N,) if given, and the copies that
    go with what is known."""
    label, clear = clips["label"].to_numpy(), known if keep is None else known & keep
    if copies is None:
        return clean[clear], label[clear]
    also = np.append(clear, True)[copies.parts].all(axis=1)
    if copies.family is not None:
        also &= may_train(clips, known, copies.family)
    return np.concatenate([clean[clear], copies.features[also]]), np.concatenate(
        [label[clear], copies.label[also]]
    )


def score_condition(
    clips: pd.DataFrame,
    seed: int,
    kind: str,
    clean: np.ndarray,
    copies: Augmented | None = None,
    keep: np.ndarray | None = None,
    rotations: int = PARTS,
) -> pd.DataFrame:
    """Scores of a rung, as `on_views` gives them.

    Args: `kind` of model (`_fit`); `clean` features (N, D) of `clips`; `copies` train too, each where all that it is made of does;
    `keep` (N,) which clean clips may train (all unless given); `rotations` as in `splits`.
    """

    def learn(known, judged):
        x, y = training_rows(clips, clean, known, copies, keep)
        scores = fit(kind, x, y, seed)
        return {kind: (scores(clean[judged]), scores(x[y == 1]))}

    return scores_by_protocol(clips, seed, learn, rotations)[kind]


def _mark(mark, value) -> None:
    """Add all of a job's content to a hash."""
    if isinstance(value, Augmented):
        value = tuple(vars(value).values())
    if isinstance(value, pd.DataFrame):
        mark.update(value.drop(columns="path", errors="ignore").to_csv().encode())
    elif isinstance(value, tuple | list):
        mark.update(f"{len(value)}:".encode())
        for part in value:
            _mark(mark, part)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        _mark(mark, list(value))
    elif isinstance(value, np.ndarray):
        mark.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    else:
        mark.update(repr(value).encode())


def _judge_once(folder: Path, digest: str, function, *job):
    mark = hashlib.sha256(digest.encode())
    _mark(mark, job)
    place = folder / f"{mark.hexdigest()[:24]}.npz"
    if not place.exists():
        found = function(*job)
        with paths.whole(place) as part, part.open("wb") as file:
            tables = found if isinstance(found, dict) else {"only": found}
            np.savez(file, **{name: table.to_numpy() for name, table in tables.items()})
    with np.load(place) as found:
        tables = {name: pd.DataFrame(found[name], columns=list(PROTOCOLS)) for name in found.files}
    return tables.get("only", tables)


def score_all(jobs: list[tuple], folder: Path, label: str = "", function=None) -> list:
    """`function(*job)` (`judge` unless given) of each, in processes; each is kept in `folder` by content: a killed run goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = code_digest(function or score_condition)
    return parallel.run_in_processes(
        _judge_once, [(folder, digest, function or score_condition, *job) for job in jobs], label
    )


def frozen_part(
    clips: pd.DataFrame, waves: list, seed: int, config: finetune.Config, made: tuple
) -> frozen_features.FrozenFeatures:
    """What `fine_tuned` starts from: the frozen part over `clips`, then over `made` (of `copies`) with SpecAugment."""
    names = clips["id"].tolist()
    keys = [f"{name}/0" for name in names] + [f"{names[parts[0]]}/{seed}" for parts in made[2]]
    return frozen_features.compute(
        config,
        list(waves) + made[0],
        keys,
        [False] * len(clips) + [True] * len(made[0]),
        f"{seed} frozen part",
    )


def fine_tuned(
    clips: pd.DataFrame, waves: list, seed: int, config: finetune.Config, made: tuple, run
) -> dict[str, pd.DataFrame]:
    """Scores of `frozen` and `tuned` (as `judge` gives them, in log-odds of real) of a backbone that notebook 04 fine-tunes.

    Args: `waves` of `clips`; `made` what `copies` gave for them; `run` the folder that keeps finished models.
    """
    label, names = clips["label"].to_numpy(), clips["id"].tolist()
    held = frozen_part(clips, waves, seed, config, made)
    base = pd.DataFrame(
        {
            "id": names + [names[parts[0]] for parts in made[2]],
            "view": [0] * len(clips) + [1] * len(made[0]),
            "label": np.concatenate([label, made[1]]),
        }
    )
    todo = splits(clips, seed, rotations=1)
    jobs = []
    for number, (_, known, judged) in enumerate(todo):
        fold = np.where(known, 1, np.where(judged, 0, -2))
        also = np.where(known[made[2]].all(axis=1), 1, -2)
        folder = run / f"{config.backbone}-{config.tuned}-{seed}-{number}"
        table = base.assign(fold=np.concatenate([fold, also]))
        jobs.append((config, 0, table, held.folder, folder))
    records, result = (
        parallel.run_in_processes(finetune.run_fold, jobs, f"{config.backbone} {seed}"),
        {},
    )
    for kind in ("frozen", "tuned"):
        scores = pd.DataFrame(np.nan, index=range(len(clips)), columns=list(PROTOCOLS))
        for (view, _, judged), record in zip(todo, records, strict=True):
            scores.loc[judged, view] = [record[kind][names[i]] for i in np.flatnonzero(judged)]
        result[kind] = scores
    return result


def stack(clips: pd.DataFrame, seed: int, models: list[pd.DataFrame], kind: str) -> pd.DataFrame:
    """A model on the scores of models. In the first three views it is learned from clips that were left out as those that it judges
    were, and judges others (the parts of `splits`); the sets of their own are judged by what is learned out of fold."""
    label, result = (
        clips["label"].to_numpy(),
        pd.DataFrame(np.nan, index=range(len(clips)), columns=list(PROTOCOLS)),
    )
    inputs = {
        view: np.nan_to_num(np.stack([model[view] for model in models], axis=1))
        for view in PROTOCOLS
    }
    there = {
        view: np.logical_and.reduce([model[view].notna() for model in models]) for view in PROTOCOLS
    }

    def learn(rows, view):
        if kind == "trees":
            return fit("trees", inputs[view][rows], label[rows], seed)
        return (
            LogisticRegression(class_weight="balanced", max_iter=1000)
            .fit(inputs[view][rows], label[rows])
            .decision_function
        )

    for view, known, judged in splits(clips, seed, rotations=1):
        rows, from_view = judged & there[view], view if view in PROTOCOLS[:3] else "out of fold"
        outside = known & there[from_view] & ~rows
        if rows.any():
            result.loc[rows, view] = learn(outside, from_view)(inputs[view][rows])
    return result


# ---------------------------------------------------------------- copies
class _Noted(list):
    """A pool of clips that notes which of them were taken."""

    def __getitem__(self, i):
        self.taken.append(i)
        return super().__getitem__(i)


def _copies_here(
    rows: np.ndarray,
    waves: list,
    label: np.ndarray,
    ids: list[str],
    seed: int,
    probabilities: dict,
    tracks: list,
) -> list[tuple[np.ndarray, int, list[int]]]:
    """Copies of the clips `rows` of one fold: (wave, label, rows that it is made of)."""
    result, pools = [], {kind: [waves[i] for i in np.flatnonzero(label == kind)] for kind in (1, 0)}
    for i, wave in enumerate(waves):
        rng, noted = (
            parallel.seeded_rng(seed, "ladder", ids[i]),
            {kind: _Noted(pool) for kind, pool in pools.items()},
        )
        for pool in noted.values():
            pool.taken = []
        made, y, _ = augmentation.augment(
            wave, int(label[i]), rng, noted[1], noted[0], probabilities
        )
        parts = [
            i,
            *(np.flatnonzero(label == kind)[j] for kind, pool in noted.items() for j in pool.taken),
        ]
        if tracks:  # music, or three voices of the fold at once
            if rng.random() < 0.5:
                track = tracks[rng.integers(len(tracks))]
            else:
                voices = rng.integers(len(waves), size=3)
                track, parts = (
                    sum(np.resize(waves[j], len(made)) for j in voices),
                    [*parts, *voices],
                )
            start = rng.integers(max(1, len(track) - len(made)))
            made = dsp.add_noise(made, track[start : start + len(made)], rng.uniform(6, 20))
        result.append(
            (made, y, [int(rows[j]) for j in (parts + [i] * SOURCES_PER_CLIP)[:SOURCES_PER_CLIP]])
        )
    return result


def augmented_clips(
    clips: pd.DataFrame, waves: list, seed: int, probabilities: dict, tracks: list = ()
):
    """(waves, labels (M,), rows of `clips` each is made of (M, MADE_OF)): one copy of each training clip, spliced within its fold.

    Args: `probabilities` as in `augment.augment`; `tracks` at 8 kHz: if any, each copy gets noise, of one or of other clips.
    """
    train = clips[clips["set"] == "train"]
    fold, jobs = contracts.make_folds(train, PARTS, seed).reindex(train["id"]).to_numpy(), []
    for k in range(PARTS):
        rows = np.flatnonzero(fold == k)  # training clips come first
        jobs.append(
            (
                rows,
                [waves[i] for i in rows],
                train["label"].to_numpy()[rows],
                train["id"].iloc[rows].tolist(),
                seed,
                probabilities,
                list(tracks),
            )
        )
    made = [copy for part in parallel.run_in_processes(_copies_here, jobs) for copy in part]
    return [m[0] for m in made], np.array([m[1] for m in made]), np.array([m[2] for m in made])


def eer_by_family_left_out(
    x: np.ndarray, label: np.ndarray, family: np.ndarray, fold: np.ndarray, least: int = 10
) -> dict[str, float]:
    """EER on the fakes of each family of `least` clips (against all real clips) of models that saw neither family nor fold.

    The scores of each fold are brought to one scale by the mean and deviation of its model on real training clips.
    """
    result = {}
    for held in sorted(set(family[label == 0].tolist())):
        scores, rows = np.full(len(x), np.nan), (label == 1) | (family == held)
        if (rows & (label == 0)).sum() < least:
            continue
        for k in np.unique(fold):
            inside = (fold != k) & ((label == 1) | (family != held))
            if len(np.unique(label[inside])) < 2 or not (rows & (fold == k)).any():
                continue
            model = fit_logistic(x[inside], label[inside])
            known = model.decision_function(x[inside & (label == 1)])
            scores[rows & (fold == k)] = (
                model.decision_function(x[rows & (fold == k)]) - known.mean()
            ) / known.std()
        rows &= np.isfinite(scores)
        result[held] = metrics.eer(label[rows], scores[rows])
    return result


def eer_by_source_left_out(
    x: np.ndarray, label: np.ndarray, source: np.ndarray, group: np.ndarray, least: int = 10
) -> dict[str, float]:
    """EER on each source that holds `least` clips of both classes, of a model that saw neither it nor any of its groups."""
    result = {}
    for held in sorted(set(source.tolist())):
        rows = source == held
        if min((label[rows] == 1).sum(), (label[rows] == 0).sum()) < least:
            continue
        inside = ~rows & ~np.isin(group, group[rows])
        if min((label[inside] == 1).sum(), (label[inside] == 0).sum()) < least:
            continue
        result[held] = metrics.eer(
            label[rows], fit_logistic(x[inside], label[inside]).decision_function(x[rows])
        )
    return result
