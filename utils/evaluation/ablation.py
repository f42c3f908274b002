"""An ablation: conditions that differ in one thing, scored by the protocols of `leave_out`.

A `Condition` says what trains a model: features, augmentation, further data and the kind of model.
`Material` makes features on demand, once for all conditions that share them. `compare` turns scores
into a table: error rates with intervals, and paired differences to the condition that each is
compared with.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from utils import bootstrap, parallel, paths
from utils.audio import augmentation, dsp
from utils.code_digest import code_digest
from utils.evaluation import leave_out
from utils.models import classifiers, finetune, frozen_features, pooled_features

DEPTHS = (0, 1, 2, 3)  # of both encoders; those of CAM++ are not equally wide
BOTH = {"whisper-base": DEPTHS, "campplus": DEPTHS}
FEATURES = {  # name → (depths of encoders, seconds to which clips are padded, 0: as they are)
    "Whisper layer 1": ({"whisper-base": (1,)}, 0.0),
    "Whisper layer 1 of 30 s": ({"whisper-base": (1,)}, 30.0),
    "Whisper layer 1 of 15 s": ({"whisper-base": (1,)}, 15.0),
    "Whisper layers 0-3": ({"whisper-base": (0, 1, 2, 3)}, 0.0),
    "CAM++ blocks 0-3": ({"campplus": (0, 1, 2, 3)}, 0.0),
    "Whisper and CAM++": (BOTH, 0.0),
    "log-mels": ({}, 0.0),  # for the official baseline
}
BACKGROUND_SNR_DB = (6.0, 20.0)
MUSIC_PROBABILITY = 0.5


@dataclass(frozen=True)
class Recipe:
    """What happens to the augmented training clips: one for each training clip, beside it."""

    probabilities: dict  # of each effect of `augmentation.EFFECTS`, and of "splice"
    background: bool = False  # music, or three other voices of the fold, under every clip
    masked: bool = False  # SpecAugment on every clip

    @classmethod
    def of(cls, *effects: str, **options) -> "Recipe":
        """The finalist's probabilities for these effects, 0 for the others."""
        chosen = {
            name: probability if name in effects else 0.0
            for name, probability in augmentation.PROBABILITIES.items()
        }
        return cls(chosen, **options)


@dataclass(frozen=True)
class Condition:
    """One row of the ablation."""

    name: str
    against: str = ""  # the condition that it is compared with; empty: with none
    features: str = "Whisper layer 1"  # key of FEATURES
    recipe: Recipe | None = None  # of augmented clips; None: clean clips only
    data: tuple[str, ...] = ()  # further training clips, keys of `Material.further`
    model: str = "logistic"  # kind of `classifiers.fit`

    def but(self, name: str, **changes) -> "Condition":
        """A condition that differs from this one by `changes` and is compared with it."""
        return replace(self, name=name, against=self.name, **changes)


@dataclass(frozen=True)
class Added:
    """Further training clips: features (M, D), label (M,), `sources` (rows of the clips that each
    was made from; it trains only where all of them do) and family (M,), "" for none."""

    features: np.ndarray
    label: np.ndarray
    sources: list[np.ndarray]
    family: np.ndarray

    def may_train(self, clips: pd.DataFrame, split: leave_out.Split) -> np.ndarray:
        """Which of them train in a split, boolean (M,)."""
        whole = np.array([split.trains[rows].all() for rows in self.sources], dtype=bool)
        unseen = leave_out.unseen(clips, split)
        known = [unseen.isdisjoint(families.split("+")) for families in self.family]
        return whole & np.array(known, dtype=bool)


def join(parts: list[Added]) -> Added | None:
    """All of `parts` as one; None if there is none."""
    if not parts:
        return None
    return Added(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.label for part in parts]),
        [rows for part in parts for rows in part.sources],
        np.concatenate([part.family for part in parts]),
    )


@dataclass
class Material:
    """Clips (training first), their waves, music, and further training clips by name.

    `further[name]` is (waves, label (M,), sources, family (M,)) as in `Added`.
    """

    clips: pd.DataFrame
    waves: list[np.ndarray]
    music: list[np.ndarray]
    further: dict[str, tuple]
    folds: int = leave_out.FOLDS

    def features(self, name: str, waves: list[np.ndarray] | None = None) -> np.ndarray:
        """Features `name` of `waves` (default: the clips), (N, D); an object array for log-mels."""
        waves = self.waves if waves is None else waves
        if name == "log-mels":
            return classifiers.baseline_log_mels(waves)
        depths, window_s = FEATURES[name]
        return pooled_features.features(waves, depths, name, window_s)

    def added(self, condition: Condition, seed: int) -> Added | None:
        """All that trains besides the clean clips."""
        parts = []
        if condition.recipe:
            parts.append(self.augmented(condition.recipe, condition.features, seed))
        for name in condition.data:
            waves, *rest = self.further[name]
            parts.append(Added(self.features(condition.features, waves), *rest))
        return join(parts)

    def augmented(self, recipe: Recipe, features: str, seed: int) -> Added:
        """Augmented training clips of a recipe with their features."""
        made = self.augmented_waves(recipe, seed)
        waves, label, sources = made
        if recipe.masked:
            values = self._masked_features(features, waves, sources, seed)
        else:
            values = self.features(features, waves)
        return Added(values, label, sources, np.full(len(label), ""))

    def augmented_waves(self, recipe: Recipe, seed: int) -> tuple[list, np.ndarray, list]:
        """One augmented clip per training clip: (waves, label (M,), sources). Folds stay apart."""
        train = self.clips[self.clips["set"] == "train"]
        split = leave_out.splits(self.clips, seed, self.folds, family_folds=0)
        jobs = []
        for fold in (s for s in split if s.protocol == leave_out.OUT_OF_FOLD):
            rows = np.flatnonzero(fold.scored)
            table = train.iloc[rows][["id", "label"]].assign(row=rows)
            music = self.music if recipe.background else []
            jobs.append((table, [self.waves[i] for i in rows], seed, recipe, music))
        made = [clip for part in parallel.run_in_processes(_augment_fold, jobs) for clip in part]
        waves, label, sources = zip(*made, strict=True)
        return list(waves), np.array(label), list(sources)

    def _masked_features(self, features, waves, sources, seed) -> np.ndarray:
        keys = [f"{self.clips['id'].iloc[rows[0]]}/{seed}" for rows in sources]
        depths, columns = FEATURES[features][0], []
        for backbone, wanted in depths.items():
            config = finetune.Config(backbone, seed=seed)
            frozen = frozen_features.compute(config, waves, keys, [True] * len(waves), backbone)
            values, every = np.concatenate([frozen.lower, frozen.upper], axis=1), {backbone: DEPTHS}
            places = [pooled_features.columns(every, backbone, depth) for depth in wanted]
            columns += [values[:, place] for place in places]
        return np.concatenate(columns, axis=1)


def _augment_fold(table: pd.DataFrame, waves: list, seed: int, recipe: Recipe, music: list) -> list:
    """Augmented clips of one fold: (wave, label, rows of the clips that it was made from)."""
    rows, label = table["row"].to_numpy(), table["label"].to_numpy()
    pools = {name: np.flatnonzero(label == kind) for name, kind in (("bonafide", 1), ("spoof", 0))}
    waves_of = {name: [waves[i] for i in pool] for name, pool in pools.items()}
    result = []
    for i, clip in enumerate(table.itertuples()):
        rng = parallel.seeded_rng(seed, "ablation", clip.id)
        made = augmentation.augment(
            waves[i], clip.label, rng, waves_of["bonafide"], waves_of["spoof"], recipe.probabilities
        )
        wave, sources = made.wave, [i, *(pools[name][j] for name, j in made.sources)]
        if recipe.background:
            wave, voices = _with_background(wave, waves, music, rng)
            sources += voices
        result.append((wave, made.label, rows[sources]))
    return result


def _with_background(wave, voices: list, music: list, rng) -> tuple[np.ndarray, list[int]]:
    """`wave` over music or over three random `voices`, and which voices these are."""
    chosen = []
    if music and rng.random() < MUSIC_PROBABILITY:
        background = music[rng.integers(len(music))]
    else:
        chosen = rng.integers(len(voices), size=3).tolist()
        background = sum(np.resize(voices[j], len(wave)) for j in chosen)
    start = rng.integers(max(1, len(background) - len(wave)))
    background = background[start : start + len(wave)]
    return dsp.add_noise(wave, background, rng.uniform(*BACKGROUND_SNR_DB)), chosen


# ---------------------------------------------------------------- scores
def score_condition(
    clips: pd.DataFrame,
    seed: int,
    model: str,
    x: np.ndarray,
    added: Added | None,
    folds: int = leave_out.FOLDS,
) -> pd.DataFrame:
    """Scores of a condition, as `leave_out.score` gives them; of each family, those of one fold."""
    label = clips["label"].to_numpy()

    def learn(split: leave_out.Split):
        x_train, y_train = x[split.trains], label[split.trains]
        if added is not None:
            more = added.may_train(clips, split)
            x_train = np.concatenate([x_train, added.features[more]])
            y_train = np.concatenate([y_train, added.label[more]])
        scorer = classifiers.fit(model, x_train, y_train, seed)
        return scorer(x[split.scored]), scorer(x_train[y_train == 1])

    return leave_out.score(clips, seed, learn, folds, family_folds=1)


def _score_once(folder: Path, digest: str, *job) -> pd.DataFrame:
    path = folder / f"{joblib.hash((digest, job))}.csv"
    if not path.exists():
        with paths.whole(path) as part:
            score_condition(*job).to_csv(part, index=False)
    return pd.read_csv(path, keep_default_na=False)


def score_all(
    conditions: list[Condition], material: Material, seeds: list[int], folder: Path
) -> dict[tuple[str, int], pd.DataFrame]:
    """(name, seed) → scores of each condition. Finished ones are kept in `folder` by content.

    Of each seed, features are made condition by condition; then all models are trained side by
    side. Seeds follow one another: the features of all would not fit into memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest, result = code_digest(score_condition), {}
    clips = material.clips.drop(columns="path", errors="ignore")
    names = dict.fromkeys(condition.features for condition in conditions)
    clean = {name: material.features(name) for name in names}
    for seed in seeds:
        jobs = []
        for condition in parallel.progress(conditions, f"features, seed {seed}"):
            added = material.added(condition, seed)
            x = clean[condition.features]
            jobs.append((folder, digest, clips, seed, condition.model, x, added, material.folds))
        scores = parallel.run_in_processes(_score_once, jobs, f"conditions, seed {seed}")
        result |= {(c.name, seed): table for c, table in zip(conditions, scores, strict=True)}
    return result


def fine_tuned(
    material: Material,
    seed: int,
    config: finetune.Config,
    folder: Path,
    protocols: tuple[str, ...] = leave_out.PROTOCOLS,
    most: int = 0,
    data: tuple[str, ...] = (),
) -> dict[str, pd.DataFrame]:
    """Scores (log-odds) of a backbone as notebook 04 fine-tunes it, on clean clips.

    `protocols`: those that are scored. A model costs a minute or more, and there are five without
    families and corpora instead of seventeen. `most`: at most so many training clips, of whole
    groups drawn by the seed (0: all). `data`: further ones, keys of `Material.further`.
    Returns tables as `leave_out.score` gives them: `frozen` (the head alone) and `tuned`.
    """
    clips = material.clips
    kept = (clips["set"] != "train").to_numpy(copy=True)
    kept[~kept] = bootstrap.some_groups(clips.loc[~kept, "group"], most, seed)
    waves, label, ids, further = list(material.waves), [clips["label"]], list(clips["id"]), []
    for name in data:
        more, of_class, *rest = material.further[name]
        further.append(Added(np.zeros((len(more), 0)), of_class, *rest))
        waves, label = waves + more, [*label, of_class]
        ids += [f"{name} {i}" for i in range(len(more))]
    frozen = frozen_features.compute(config, waves, ids, [False] * len(ids), config.backbone)
    todo, jobs = leave_out.splits(clips, seed, material.folds, family_folds=1), []
    rows = pd.DataFrame({"id": ids, "label": np.concatenate(label), "augmentation": 0})
    for number, split in enumerate(todo := [s for s in todo if s.protocol in protocols]):
        fold = [np.where(split.trains & kept, 1, np.where(split.scored, 0, -2))]
        fold += [np.where(added.may_train(clips, split), 1, -2) for added in further]
        table = rows.assign(fold=np.concatenate(fold))
        place = "-".join([config.backbone, f"{config.tuned}-{seed}-{most}", *data, str(number)])
        jobs.append((config, 0, table, frozen.folder, folder / place))
    records = parallel.run_in_processes(finetune.run_fold, jobs, f"fine-tune {config.backbone}")
    result = {}
    for kind in ("frozen", "tuned"):
        tables = []
        for split, record in zip(todo, records, strict=True):
            rows = np.flatnonzero(split.scored)
            values = {"protocol": split.protocol, "part": split.part, "clip": rows}
            tables.append(pd.DataFrame(values | {"score": [record[kind][ids[i]] for i in rows]}))
        result[kind] = pd.concat(tables, ignore_index=True)
    return result
