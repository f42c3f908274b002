"""What is far from the centre of real speech is suspect: deep SVDD (Ruff et al., ICML 2018) and OC-softmax (Zhang et al. 2021)."""

import lightgbm as lgb
import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn
from torch.nn import functional as F

from utils.audio import dsp, log_mels
from utils.evaluation import benchmark


def fit_deep_svdd(features: np.ndarray, width: int = 64, epochs: int = 30, seed: int = 0):
    """Learn from real clips only.

    Args: features float32 (clips, size) of real clips; `width` units of the output space.
    Returns (judge, losses): `judge(features) -> scores` (minus the squared distance from the centre, in units of the
    training mean: higher is more real) and the mean loss of each epoch. No layer has a bias and the centre is fixed,
    as the paper asks, else mapping everything to one point would be the optimum.
    """
    torch.manual_seed(seed)
    centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-4
    data = torch.from_numpy(((features - centre) / scale).astype(np.float32))
    network = nn.Sequential(
        nn.Linear(data.shape[1], 256, bias=False),
        nn.LeakyReLU(0.1),
        nn.Linear(256, width, bias=False),
    )
    with torch.no_grad():
        target = network(data).mean(dim=0)
        target = torch.where(target.abs() < 0.1, 0.1 * torch.where(target < 0, -1.0, 1.0), target)
    optimiser, losses = torch.optim.AdamW(network.parameters(), 1e-4, weight_decay=1e-3), []
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(data)).split(64):
            loss = (network(data[rows]) - target).square().sum(dim=1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        losses.append(total / len(data))

    @torch.inference_mode()
    def judge(rows: np.ndarray) -> np.ndarray:
        moved = network(torch.from_numpy(((rows - centre) / scale).astype(np.float32)))
        return -((moved - target).square().sum(dim=1) / losses[-1]).numpy()

    return judge, losses


def fit_oc_softmax(
    features: np.ndarray, label: np.ndarray, width: int = 64, epochs: int = 20, seed: int = 0
):
    """Learn a direction that real clips keep close to (cosine above 0.9) and fake ones away from (below 0.2), scale 20 as published.

    Args: features float32 (clips, size); `label` 1 real, 0 fake; `width` units of the output space.
    Returns `judge(features) -> scores`: the cosine with the direction, -1 … 1, higher is more real.
    """
    torch.manual_seed(seed)
    centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-4
    data, target = (
        torch.from_numpy(((features - centre) / scale).astype(np.float32)),
        torch.from_numpy(np.asarray(label)),
    )
    network = nn.Sequential(nn.Linear(data.shape[1], 256), nn.LeakyReLU(0.1), nn.Linear(256, width))
    direction = nn.Parameter(torch.randn(width))
    optimiser = torch.optim.AdamW([*network.parameters(), direction], 3e-4, weight_decay=1e-2)

    def cosine(rows):
        return nn.functional.normalize(network(rows), dim=1) @ nn.functional.normalize(
            direction, dim=0
        )

    for _ in range(epochs):
        for rows in torch.randperm(len(data)).split(64):
            found, bonafide = cosine(data[rows]), target[rows] == 1
            loss = nn.functional.softplus(
                20 * torch.where(bonafide, 0.9 - found, found - 0.2)
            ).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    @torch.inference_mode()
    def judge(rows: np.ndarray) -> np.ndarray:
        return cosine(torch.from_numpy(((rows - centre) / scale).astype(np.float32))).numpy()

    return judge


def fit_svm(
    x: np.ndarray, label: np.ndarray, components: int = 384, width: float = 0.25, c: float = 10.0
) -> Pipeline:
    """The machine, trained on features (N, D); its `decision_function` gives uncalibrated scores, higher is more real.

    `width` divides the squared distance of standardised features, averaged over all D: the kernel is exp(-width · distance).
    """
    pca = PCA(min(components, *x.shape), svd_solver="randomized", random_state=0)
    machine = SVC(C=c, gamma=width / x.shape[1], class_weight="balanced", cache_size=500)
    return make_pipeline(StandardScaler(), pca, machine).fit(x, label)


def svm_scores(x: np.ndarray, label: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """Uncalibrated scores of features `judged` (M, D) by `fit`'s machine, trained on features `x` (N, D): (M,)."""
    return fit_svm(x, label).decision_function(judged)


def svm_likeness(model: Pipeline, x: np.ndarray) -> np.ndarray:
    """Kernel of features (N, D) with the most similar support vector of `fit`'s machine, 0 … 1 (N,)."""
    return rbf_kernel(model[:-1].transform(x), model[-1].support_vectors_, model[-1].gamma).max(
        axis=1
    )


SPOOF_WEIGHTS = {
    "lenient": 0.25,
    "linear": 1.0,
    "strict": 4.0,
}  # logistic regressions, by what a fake weighs beside a real clip


def fit_trees(x: np.ndarray, y: np.ndarray) -> lgb.LGBMClassifier:
    """LightGBM, shallow and balanced, learned from features (N, D) and labels (N,)."""
    model = lgb.LGBMClassifier(
        n_estimators=150,
        num_leaves=15,
        learning_rate=0.05,
        min_child_samples=20,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.3,
        class_weight="balanced",
        n_jobs=1,
        verbose=-1,
        seed=0,
        deterministic=True,
    )
    return model.fit(x, y)


def fit(kind: str, x: np.ndarray, y: np.ndarray, seed: int):
    """A function from features (N, D) to scores (N,), higher is more real, learned from `x`, `y`."""
    if kind in SPOOF_WEIGHTS:
        return fit_logistic(x, y, spoof_weight=SPOOF_WEIGHTS[kind]).decision_function
    if kind == "kernel":
        return fit_svm(x, y).decision_function
    if kind == "trees":
        model = fit_trees(x, y)
        return lambda rows: model.predict(rows, raw_score=True)
    if kind == "deep SVDD":
        return fit_deep_svdd(x[y == 1], seed=seed)[0]
    if kind == "OC-softmax":
        return fit_oc_softmax(x, y, seed=seed)
    if kind == "cnn":
        return _fit_cnn(x, y, seed)
    raise ValueError(f"no model {kind!r}")


def _fit_cnn(x: np.ndarray, y: np.ndarray, seed: int, epochs: int = 15):
    """The official baseline (`cost.Baseline`) on log-mels (an array of (frames, 40) arrays): a crop of 2 s a clip and epoch; Adam at
    1e-3 in batches of 64; the mean of five crops judges. 15 epochs where 80 are published."""
    torch.manual_seed(seed)
    rng, network = np.random.default_rng(seed), benchmark.Baseline().model
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(x)), max(1, len(x) // 64)):
            starts = [rng.integers(max(1, len(x[i]) - 99)) for i in rows]
            batch = np.stack(
                [x[i][start : start + 100] for i, start in zip(rows, starts, strict=True)]
            )
            loss = F.cross_entropy(
                network(torch.from_numpy(batch)[:, None]), torch.from_numpy(y[rows]).long()
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    @torch.inference_mode()
    def scores(mels: np.ndarray) -> np.ndarray:
        crops = np.stack(
            [
                mel[start : start + 100]
                for mel in mels
                for start in np.linspace(0, len(mel) - 100, 5).astype(int)
            ]
        )
        logits = torch.cat([network(part[:, None]) for part in torch.from_numpy(crops).split(256)])
        return (logits[:, 1] - logits[:, 0]).reshape(-1, 5).mean(dim=1).numpy()

    return scores


def baseline_log_mels(waves: list[np.ndarray]) -> np.ndarray:
    """What `_cnn` reads: log-mels of 40 bands, frames of 20 ms, as at 16 kHz (the published baseline takes the rate for that); an
    array of (frames, 40) arrays, at least 2 s each."""
    result = np.empty(len(waves), object)
    for i, wave in enumerate(waves):
        padded = np.pad(wave[: 15 * dsp.RATE], (0, max(0, 2 * dsp.RATE - len(wave))))
        result[i] = log_mels.whisper_log_mel(padded, 40)[:, :40].numpy().astype(np.float32)
    return result


def fit_logistic(x: np.ndarray, label: np.ndarray, c: float = 0.001, spoof_weight: float = 1.0):
    """Standardised logistic regression, classes balanced and fakes then weighed by `fake_weight` (above 1: a stricter model);
    `decision_function` gives log-odds of real."""
    weight = len(label) / (2 * np.bincount(label, minlength=2).clip(1)) * (spoof_weight, 1.0)
    model = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=c, max_iter=300, class_weight=dict(enumerate(weight))),
    )
    return model.fit(x, label)
