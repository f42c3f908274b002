"""What the ladder of notebook 11 asks: four ways to leave clips out, the same for every rung, and the scores of a rung on each.

A view is a way to judge: clips of other folds (`out of fold`), of synthesisers and of sources that training never saw, and sets of
their own (`test`, `field set`). In each, every model's scores are brought to one scale by its real training clips.
"""
import hashlib
from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pandas as pd
import torch
from scipy.signal import fftconvolve, firwin
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch.nn import functional as F

from utils import audio, augment, backbones, cost, data, detector, metrics, one_class, paths, probe, stems, training, workers

VIEWS = ("out of fold", "systems left out", "corpora left out", "test", "field set")
PARTS = 4  # a view's clips are judged in so many parts, each by a model of its own


def _in_parts(names: pd.Series, label: pd.Series, rng: np.random.Generator) -> pd.Series:
    """Part 0 … PARTS-1 of each name, drawn until each part holds both classes (or, with one class, a name)."""
    unique = sorted(set(names))
    for _ in range(1000):
        part = names.map(dict(zip(unique, rng.permutation(len(unique)) % PARTS, strict=True)))
        if (label.groupby(part).nunique() == label.nunique()).all() and part.nunique() == PARTS:
            return part
    raise ValueError(f"{len(unique)} names do not make {PARTS} parts that hold both classes")


def splits(clips: pd.DataFrame, seed: int, rotations: int = PARTS) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(view, rows that train, rows that are judged), both boolean (N,), of `clips`: id, label, family, source, group, set.

    `set` is "train" or the name of a view of its own, which a model of all training clips judges. A clip of a system left out is
    of a fold left out too; sources left out take all their groups with them. `rotations` below `PARTS` judge only
    part of the fakes of systems left out.
    """
    inside = (clips["set"] == "train").to_numpy()
    train, rng = clips[inside], np.random.default_rng(seed)
    fold = np.full(len(clips), -1)
    fold[inside] = data.make_folds(train, PARTS, seed).reindex(train["id"]).to_numpy()
    family, source = np.full(len(clips), -1), np.full(len(clips), -1)
    fakes = inside & (clips["label"] == 0).to_numpy()
    family[fakes] = _in_parts(clips.loc[fakes, "family"], clips.loc[fakes, "label"], rng)
    source[inside] = _in_parts(train["source"], train["label"], rng)
    real, group = inside & ~fakes, clips["group"].to_numpy()
    result = [("out of fold", inside & (fold != k), fold == k) for k in range(PARTS)]
    for turn in range(rotations):
        for k in range(PARTS):
            held = (k + turn) % PARTS
            result.append(("systems left out", inside & (fold != k) & (family != held), (fold == k) & (real | (family == held))))
    for k in range(PARTS):
        judged = source == k
        result.append(("corpora left out", inside & ~judged & ~np.isin(group, group[judged]), judged))
    result += [(name, inside, (clips["set"] == name).to_numpy()) for name in VIEWS[3:] if (clips["set"] == name).any()]
    for view, known, judged in result:
        assert not (known & judged).any(), view
        assert view not in ("out of fold", "corpora left out") or set(group[known]).isdisjoint(group[judged]), view
    return result


def _trees(x: np.ndarray, y: np.ndarray):
    model = lgb.LGBMClassifier(n_estimators=150, num_leaves=15, learning_rate=0.05, min_child_samples=20, subsample=0.8,
                               subsample_freq=1, colsample_bytree=0.3, class_weight="balanced", n_jobs=1, verbose=-1, seed=0,
                               deterministic=True)
    return model.fit(x, y)


def _fit(kind: str, x: np.ndarray, y: np.ndarray, seed: int):
    """A function from features (N, D) to scores (N,), higher is more real, learned from `x`, `y`."""
    if kind == "linear":
        return probe.fit(x, y).decision_function
    if kind == "kernel":
        return detector.fit(x, y).decision_function
    if kind == "trees":
        model = _trees(x, y)
        return lambda rows: model.predict(rows, raw_score=True)
    if kind == "deep SVDD":
        return one_class.fit(x[y == 1], seed=seed)[0]
    if kind == "OC-softmax":
        return one_class.fit_oc_softmax(x, y, seed=seed)
    if kind == "cnn":
        return _cnn(x, y, seed)
    raise ValueError(f"no model {kind!r}")


def _cnn(x: np.ndarray, y: np.ndarray, seed: int, epochs: int = 15):
    """The official baseline (`cost.Baseline`) on log-mels (an array of (frames, 40) arrays): a crop of 2 s a clip and epoch; Adam at
    1e-3 in batches of 64; the mean of five crops judges. 15 epochs where 80 are published."""
    torch.manual_seed(seed)
    rng, network = np.random.default_rng(seed), cost.Baseline().model
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(x)), max(1, len(x) // 64)):
            starts = [rng.integers(max(1, len(x[i]) - 99)) for i in rows]
            batch = np.stack([x[i][start : start + 100] for i, start in zip(rows, starts, strict=True)])
            loss = F.cross_entropy(network(torch.from_numpy(batch)[:, None]), torch.from_numpy(y[rows]).long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    @torch.inference_mode()
    def scores(mels: np.ndarray) -> np.ndarray:
        crops = np.stack([mel[start : start + 100] for mel in mels for start in np.linspace(0, len(mel) - 100, 5).astype(int)])
        logits = torch.cat([network(part[:, None]) for part in torch.from_numpy(crops).split(256)])
        return (logits[:, 1] - logits[:, 0]).reshape(-1, 5).mean(dim=1).numpy()

    return scores


def baseline_mels(waves: list[np.ndarray]) -> np.ndarray:
    """What `_cnn` reads: log-mels of 40 bands, frames of 20 ms, as at 16 kHz (the published baseline takes the rate for that); an
    array of (frames, 40) arrays, at least 2 s each."""
    result = np.empty(len(waves), object)
    for i, wave in enumerate(waves):
        padded = np.pad(wave[: 15 * audio.RATE], (0, max(0, 2 * audio.RATE - len(wave))))
        result[i] = backbones.whisper_log_mel(padded, 40)[:, :40].numpy().astype(np.float32)
    return result


@dataclass
class Copies:
    """Augmented copies of training clips: features (M, D), labels (M,), and the rows of `clips` that each is made of (M, 4);
    -1: none, it may always train."""

    features: np.ndarray
    label: np.ndarray
    parts: np.ndarray


def judge(clips: pd.DataFrame, seed: int, kind: str, clean: np.ndarray, copies: Copies | None = None,
          keep: np.ndarray | None = None, rotations: int = PARTS) -> pd.DataFrame:
    """Scores of a rung: one row a clip (N), a column a view, NaN where a view does not judge it.

    Args: `kind` of model (`_fit`); `clean` features (N, D) of `clips`; `copies` train too, each where all that it is made of does;
    `keep` (N,) which clean clips may train (all unless given); `rotations` as in `splits`.
    """
    label = clips["label"].to_numpy()
    total, times = np.zeros((len(VIEWS), len(clips))), np.zeros((len(VIEWS), len(clips)))
    for view, known, judged in splits(clips, seed, rotations):
        known = known if keep is None else known & keep
        x, y = clean[known], label[known]
        if copies is not None:
            also = np.append(known, True)[copies.parts].all(axis=1)
            x, y = np.concatenate([x, copies.features[also]]), np.concatenate([y, copies.label[also]])
        scores, at = _fit(kind, x, y, seed), VIEWS.index(view)
        real = scores(x[y == 1])
        total[at, judged] += (scores(clean[judged]) - real.mean()) / (real.std() + 1e-9)
        times[at, judged] += 1
    return pd.DataFrame(np.divide(total, times, out=np.full_like(total, np.nan), where=times > 0).T, columns=list(VIEWS))


def _judge_once(folder: Path, digest: str, *job) -> pd.DataFrame:
    mark = hashlib.sha256(digest.encode())
    for part in job:
        for value in (part.features, part.label, part.parts) if isinstance(part, Copies) else (part,):
            if isinstance(value, pd.DataFrame):
                value = value.drop(columns="path", errors="ignore").to_csv().encode()
            elif isinstance(value, np.ndarray) and value.dtype == object:
                value = b"".join(np.ascontiguousarray(row).tobytes() for row in value)
            mark.update(np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value if isinstance(value, bytes)
                        else repr(value).encode())
    place = folder / f"{mark.hexdigest()[:24]}.npy"
    if not place.exists():
        with threadpool_limits(1):
            found = judge(*job)
        with paths.whole(place) as part, part.open("wb") as file:
            np.save(file, found.to_numpy())
    return pd.DataFrame(np.load(place), columns=list(VIEWS))


def judge_all(jobs: list[tuple], folder: Path, label: str = "") -> list[pd.DataFrame]:
    """`judge(*job)` of each, in processes; each is kept in `folder` by its content, so that a killed run goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    code = b"".join((paths.ROOT / "utils" / f"{name}.py").read_bytes() for name in ("ladder", "detector", "one_class", "probe"))
    digest = hashlib.sha256(code).hexdigest()
    return workers.in_processes(_judge_once, [(folder, digest, *job) for job in jobs], label)


def fine_tuned(clips: pd.DataFrame, waves: list, seed: int, config: training.Config, made: tuple, run) -> dict[str, pd.DataFrame]:
    """Scores of `frozen` and `tuned` (as `judge` gives them, in log-odds of real) of a backbone that notebook 04 fine-tunes.

    Args: `waves` of `clips`; `made` what `copies` gave for them; `run` the folder that keeps finished models.
    """
    label, names = clips["label"].to_numpy(), clips["id"].tolist()
    keys = [f"{name}/0" for name in names] + [f"{names[parts[0]]}/{seed}" for parts in made[2]]
    held = stems.compute(config, list(waves) + made[0], keys, [False] * len(clips) + [True] * len(made[0]), f"{seed} frozen part")
    base = pd.DataFrame({"id": names + [names[parts[0]] for parts in made[2]], "view": [0] * len(clips) + [1] * len(made[0]),
                         "label": np.concatenate([label, made[1]])})
    todo = splits(clips, seed, rotations=1)
    jobs = []
    for number, (_, known, judged) in enumerate(todo):
        fold = np.where(known, 1, np.where(judged, 0, -2))
        also = np.where(known[made[2]].all(axis=1), 1, -2)
        table, folder = base.assign(fold=np.concatenate([fold, also])), run / f"{config.backbone}-{seed}-{number}"
        jobs.append((config, 0, table, held.folder, folder))
    records, result = workers.in_processes(training.run_fold, jobs, f"{config.backbone} {seed}"), {}
    for kind in ("frozen", "tuned"):
        scores = pd.DataFrame(np.nan, index=range(len(clips)), columns=list(VIEWS))
        for (view, _, judged), record in zip(todo, records, strict=True):
            scores.loc[judged, view] = [record[kind][names[i]] for i in np.flatnonzero(judged)]
        result[kind] = scores
    return result


def stack(clips: pd.DataFrame, seed: int, models: list[pd.DataFrame], kind: str) -> pd.DataFrame:
    """A model on the scores of models. In the first three views it is learned from clips that were left out as those that it judges
    were, and judges others (the parts of `splits`); the sets of their own are judged by what is learned out of fold."""
    label, result = clips["label"].to_numpy(), pd.DataFrame(np.nan, index=range(len(clips)), columns=list(VIEWS))
    inputs = {view: np.nan_to_num(np.stack([model[view] for model in models], axis=1)) for view in VIEWS}
    there = {view: np.logical_and.reduce([model[view].notna() for model in models]) for view in VIEWS}

    def learn(rows, view):
        if kind == "trees":
            return _fit("trees", inputs[view][rows], label[rows], seed)
        return LogisticRegression(class_weight="balanced").fit(inputs[view][rows], label[rows]).decision_function

    for view, known, judged in splits(clips, seed, rotations=1):
        rows, from_view = judged & there[view], view if view in VIEWS[:3] else "out of fold"
        outside = known & there[from_view] & ~rows
        if rows.any():
            result.loc[rows, view] = learn(outside, from_view)(inputs[view][rows])
    return result


def threshold(label: np.ndarray, scores: pd.DataFrame) -> float:
    """The threshold with the best F1 out of fold: the only one that a rung may know."""
    rows = scores["out of fold"].notna().to_numpy()
    return metrics.best_threshold(label[rows], scores.loc[rows, "out of fold"])[0]


def summary(label: np.ndarray, group: np.ndarray, rung: list[pd.DataFrame], reference: list[pd.DataFrame],
            repeats: int = 200) -> dict:
    """{(view, what): (value, low, high)} of a rung, the mean over its seeds: EER, F1 (of real, at `threshold`), and both less
    those of `reference`; 95 % intervals by drawing groups, the same for rung and reference."""
    seeds, result = [], {}
    for i, mine in enumerate(rung):
        other = reference[min(i, len(reference) - 1)]
        seeds.append((mine, threshold(label, mine), other, threshold(label, other)))
    for view in VIEWS:
        parts = []  # of each seed, which may judge other clips: labels, groups, scores and decisions of both
        for mine, cut, other, other_cut in seeds:
            rows = (mine[view].notna() & other[view].notna()).to_numpy()
            parts.append((label[rows], group[rows], *(values for table, at in ((mine, cut), (other, other_cut))
                                                      for values in (table.loc[rows, view].to_numpy(), table.loc[rows, view] > at))))
        if not all(len(np.unique(part[0])) == 2 for part in parts):
            continue
        names, drawn, rng = np.unique(np.concatenate([part[1] for part in parts])), [], np.random.default_rng(0)
        members = [{name: np.flatnonzero(part[1] == name) for name in names} for part in parts]

        def found(chosen, parts=parts, members=members):
            figures = []
            for (y, _, ours, ours_real, theirs, theirs_real), of in zip(parts, members, strict=True):
                at = np.concatenate([of[name] for name in chosen])
                if not 0 < y[at].mean() < 1:
                    return None
                ones = [2 * (y[at] & real.to_numpy()[at]).sum() / (y[at].sum() + real.to_numpy()[at].sum())
                        for real in (ours_real, theirs_real)]
                eers = [metrics.eer(y[at], scores[at]) for scores in (ours, theirs)]
                figures.append([eers[0], ones[0], eers[0] - eers[1], ones[0] - ones[1]])
            return np.mean(figures, axis=0)

        drawn = [x for x in (found(rng.choice(names, len(names))) for _ in range(repeats)) if x is not None]
        low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
        for what, value, a, b in zip(("EER", "F1", "EER less", "F1 less"), found(names), low, high, strict=True):
            result[view, what] = (value, a, b)
    return result


# ---------------------------------------------------------------- copies
class _Noted(list):
    """A pool of clips that notes which of them were taken."""

    def __getitem__(self, i):
        self.taken.append(i)
        return super().__getitem__(i)


def _filter(rng: np.random.Generator, gain_db: tuple[float, float]) -> np.ndarray:
    """RawBoost's drawn multi-notch filter: five stop bands below 3.9 kHz."""
    taps = np.ones(1)
    for _ in range(5):
        centre, width = rng.uniform(20, 3900), rng.uniform(100, 1000)
        edges = max(1.0, centre - width / 2), min(3999.0, centre + width / 2)
        taps = np.convolve(taps, firwin(2 * int(rng.integers(5, 50)) + 1, edges, fs=audio.RATE))
    return taps / np.abs(np.fft.rfft(taps, 1024)).max() * 10 ** (rng.uniform(*gain_db) / 20)


def rawboost(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """RawBoost's algorithm 5 (Tak et al. 2022), its top band edge under 4 kHz: linear and non-linear convolutive noise, then
    impulses that follow the signal."""
    made = np.zeros(len(wave))
    for power in range(1, 6):
        gain = (0.0, 0.0) if power == 1 else (-20.0, -5.0)
        made += fftconvolve(wave.astype(float) ** power, _filter(rng, gain), "same")
    made = (made - made.mean()) / max(np.abs(made - made.mean()).max(), 1e-9)
    rows = rng.permutation(len(made))[: int(len(made) * rng.uniform(0, 0.1))]
    made[rows] += 2 * made[rows] * rng.uniform(-1, 1, len(rows)) * rng.uniform(-1, 1, len(rows))
    return (made / np.abs(made).max() * np.abs(wave).max()).astype(np.float32)


def _copies_here(rows: np.ndarray, waves: list, label: np.ndarray, ids: list[str], seed: int, probabilities: dict, codec: float,
                 extra: str, tracks: list) -> list[tuple[np.ndarray, int, list[int]]]:
    """Copies of the clips `rows` of one fold: (wave, label, rows that it is made of)."""
    result, pools = [], {kind: [waves[i] for i in np.flatnonzero(label == kind)] for kind in (1, 0)}
    for i, wave in enumerate(waves):
        rng, noted = workers.generator(seed, "ladder", ids[i]), {kind: _Noted(pool) for kind, pool in pools.items()}
        for pool in noted.values():
            pool.taken = []
        made, y, _ = augment.augment(wave, int(label[i]), rng, noted[1], noted[0], probabilities, codec)
        if extra == "RawBoost":
            made = rawboost(made, rng)
        elif extra == "noise":  # music, or three voices of the fold at once
            track = tracks[rng.integers(len(tracks))] if rng.random() < 0.5 else sum(
                np.resize(waves[j], len(made)) for j in rng.integers(len(waves), size=3))
            start = rng.integers(max(1, len(track) - len(made)))
            made = audio.add_noise(made, track[start : start + len(made)], rng.uniform(6, 20))
        parts = [i, *(np.flatnonzero(label == kind)[j] for kind, pool in noted.items() for j in pool.taken)]
        result.append((made, y, [int(rows[j]) for j in (parts + [i] * 4)[:4]]))
    return result


def copies(clips: pd.DataFrame, waves: list, seed: int, probabilities: dict, codec: float = 0.0, extra: str = "", tracks: list = ()):
    """(waves, labels (M,), rows of `clips` that each is made of (M, 4)): one copy of each training clip, spliced within its fold.

    Args: `probabilities`, `codec` as in `augment.augment`; `extra` "RawBoost" or "noise" (of `tracks` at 8 kHz and of other clips).
    """
    train = clips[clips["set"] == "train"]
    fold, jobs = data.make_folds(train, PARTS, seed).reindex(train["id"]).to_numpy(), []
    for k in range(PARTS):
        rows = np.flatnonzero(fold == k)  # training clips come first
        jobs.append((rows, [waves[i] for i in rows], train["label"].to_numpy()[rows], train["id"].iloc[rows].tolist(), seed,
                     probabilities, codec, extra, list(tracks)))
    made = [copy for part in workers.in_processes(_copies_here, jobs) for copy in part]
    return [m[0] for m in made], np.array([m[1] for m in made]), np.array([m[2] for m in made])
