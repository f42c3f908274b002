"""Classifiers on the features of a clip, from logistic regression to two one-class models.

All share one interface: `fit(kind, x, label, seed)` returns a scorer, a function from features to
scores; higher is more bona fide. Labels are 1 for bona fide and 0 for spoof. Scores of different
kinds have different scales: only the logistic regressions give log-odds.
"""

from collections.abc import Callable

import lightgbm as lgb
import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn
from torch.nn import functional as F

from utils.audio import dsp, log_mels

Scorer = Callable[[np.ndarray], np.ndarray]

SPOOF_WEIGHTS = {  # of a spoofed clip, once classes are balanced; a bona fide clip weighs 1
    "lenient": 0.25,
    "logistic": 1.0,
    "strict": 4.0,
}
KINDS = (*SPOOF_WEIGHTS, "svm", "trees", "deep_svdd", "oc_softmax", "cnn")
CROP_FRAMES = 100  # of the baseline network: 2 s at 20 ms per frame
CROPS = 5  # per clip, in scoring


def fit(kind: str, x: np.ndarray, label: np.ndarray, seed: int) -> Scorer:
    """Train a classifier.

    Args:
        kind: one of `KINDS`. "lenient" and "strict" are logistic regressions that weigh a spoofed
            clip 0.25 and 4 times as much as a bona fide one.
        x: features, float (N, D); for "cnn" an object array (N,) as `baseline_log_mels` gives it.
        label: (N,), 1 for bona fide and 0 for spoof. "deep_svdd" learns from bona fide clips only.
        seed: for the kinds that start from random weights.
    Returns a scorer: features (M, D) → scores (M,), higher is more bona fide.
    Raises ValueError for another kind.
    """
    if kind in SPOOF_WEIGHTS:
        return fit_logistic(x, label, spoof_weight=SPOOF_WEIGHTS[kind]).decision_function
    if kind == "svm":
        return fit_svm(x, label).decision_function
    if kind == "trees":
        model = fit_trees(x, label, seed)
        return lambda rows: model.predict(rows, raw_score=True)
    if kind == "deep_svdd":
        scorer, _ = fit_deep_svdd(x[label == 1], seed=seed)
        return scorer
    if kind == "oc_softmax":
        return fit_oc_softmax(x, label, seed=seed)
    if kind == "cnn":
        return fit_cnn(x, label, seed)
    raise ValueError(f"no classifier {kind!r}: there are {', '.join(KINDS)}")


def class_weights(label: np.ndarray, spoof_weight: float = 1.0) -> dict[int, float]:
    """Weights of classes 0 and 1 that balance labels (N,), then weigh a spoof `spoof_weight`."""
    balanced = len(label) / (2 * np.bincount(label, minlength=2).clip(1))
    return dict(enumerate(balanced * (spoof_weight, 1.0)))


def fit_logistic(
    x: np.ndarray, label: np.ndarray, c: float = 0.001, spoof_weight: float = 1.0
) -> Pipeline:
    """Logistic regression on standardised features.

    Args: features (N, D) and labels (N,); `c` is the inverse strength of the L2 penalty. Classes
    are balanced, then each spoofed clip is weighted by `spoof_weight`: above 1 fewer spoofed clips
    pass and more bona fide ones are rejected.
    Returns a pipeline whose `decision_function` gives log-odds of bona fide.
    """
    weights = class_weights(label, spoof_weight)
    regression = LogisticRegression(C=c, max_iter=300, class_weight=weights)
    return make_pipeline(StandardScaler(), regression).fit(x, label)


# ---------------------------------------------------------------- support vector machine
def fit_svm(
    x: np.ndarray,
    label: np.ndarray,
    components: int = 384,
    gamma_times_size: float = 0.25,
    c: float = 10.0,
    spoof_weight: float = 1.0,
) -> Pipeline:
    """Support vector machine (SVM) with an RBF kernel on principal components, classes balanced.

    Args:
        x, label: features (N, D) and labels (N,).
        components: principal components that are kept, at most min(N, D).
        gamma_times_size: the kernel of two clips is exp(-gamma · d) with gamma =
            `gamma_times_size` / D and d the squared distance of their standardised features. d
            grows with the number D of features, so gamma falls with it. A larger value gives a
            narrower kernel.
        c: cost of a training clip on the wrong side of its margin.
        spoof_weight: as in `fit_logistic`; it multiplies the cost of a spoofed clip.
    Returns a pipeline; its `decision_function` gives uncalibrated scores, higher is more bona fide.
    """
    pca = PCA(min(components, *x.shape), svd_solver="randomized", random_state=0)
    weights, gamma = class_weights(label, spoof_weight), gamma_times_size / x.shape[1]
    svm = SVC(C=c, gamma=gamma, class_weight=weights, cache_size=500)
    return make_pipeline(StandardScaler(), pca, svm).fit(x, label)


def strictnesses(name: str) -> dict[str, float]:
    """Names of the strict, the plain (`name`) and the lenient model of a kind → spoof weight."""
    strict, plain, lenient = (SPOOF_WEIGHTS[key] for key in ("strict", "logistic", "lenient"))
    return {f"{name}-strict": strict, name: plain, f"{name}-lenient": lenient}


def svm_scores(
    x: np.ndarray, label: np.ndarray, scored: np.ndarray, spoof_weights: tuple[float, ...] = (1.0,)
) -> np.ndarray:
    """Train `fit_svm` on features `x` (N, D) with each weight; score features `scored` (M, D).

    Returns (M, weights).
    """
    models = [fit_svm(x, label, spoof_weight=weight) for weight in spoof_weights]
    return np.stack([model.decision_function(scored) for model in models], axis=1)


# ---------------------------------------------------------------- boosted trees
def fit_trees(x: np.ndarray, label: np.ndarray, seed: int = 0) -> lgb.LGBMClassifier:
    """LightGBM with 150 shallow trees, classes balanced, from features (N, D) and labels (N,).

    `seed` draws which clips and which features each tree sees.
    `predict(…, raw_score=True)` gives scores, higher is more bona fide.
    """
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
        seed=seed,
        deterministic=True,
    )
    return model.fit(x, label)


# ---------------------------------------------------------------- one-class models
def _standardiser(features: np.ndarray) -> Callable[[np.ndarray], torch.Tensor]:
    """A function that standardises by the mean and standard deviation of `features` (N, D)."""
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-4
    return lambda rows: torch.from_numpy(((rows - mean) / std).astype(np.float32))


def fit_deep_svdd(
    features: np.ndarray, width: int = 64, epochs: int = 30, seed: int = 0
) -> tuple[Scorer, list[float]]:
    """Deep SVDD (Ruff et al., ICML 2018): map bona fide clips close to one point, the centre.

    Args: features float32 (N, D) of bona fide clips only; `width` is the size of the output space.
    Returns (scorer, losses): scores are minus the squared distance from the centre, in units of its
    mean over the training clips, so higher is more bona fide; the mean loss of each epoch. No layer
    has a bias and the centre is fixed, as the paper asks: else the network could map everything to
    the centre.
    """
    torch.manual_seed(seed)
    standardise = _standardiser(features)
    data = standardise(features)
    network = nn.Sequential(
        nn.Linear(data.shape[1], 256, bias=False),
        nn.LeakyReLU(0.1),
        nn.Linear(256, width, bias=False),
    )
    with torch.no_grad():
        centre = network(data).mean(dim=0)
        sign = torch.where(centre < 0, -1.0, 1.0)
        centre = torch.where(centre.abs() < 0.1, 0.1 * sign, centre)  # away from 0, as published
    optimiser, losses = torch.optim.AdamW(network.parameters(), 1e-4, weight_decay=1e-3), []
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(data)).split(64):
            loss = (network(data[rows]) - centre).square().sum(dim=1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        losses.append(total / len(data))

    @torch.inference_mode()
    def scorer(rows: np.ndarray) -> np.ndarray:
        distance = (network(standardise(rows)) - centre).square().sum(dim=1)
        return -(distance / losses[-1]).numpy()

    return scorer, losses


def fit_oc_softmax(
    features: np.ndarray, label: np.ndarray, width: int = 64, epochs: int = 20, seed: int = 0
) -> Scorer:
    """OC-softmax (Zhang, Jiang and Duan, IEEE SPL 2021): learn one direction for bona fide speech.

    The cosine with this direction is trained to exceed 0.9 for bona fide clips and to stay below
    0.2 for spoofed ones, with scale 20, as published.
    Args: features float32 (N, D), labels (N,); `width` is the size of the output space.
    Returns a scorer that gives the cosine, -1 … 1, higher is more bona fide.
    """
    torch.manual_seed(seed)
    standardise = _standardiser(features)
    data, target = standardise(features), torch.from_numpy(np.asarray(label))
    network = nn.Sequential(nn.Linear(data.shape[1], 256), nn.LeakyReLU(0.1), nn.Linear(256, width))
    direction = nn.Parameter(torch.randn(width))
    optimiser = torch.optim.AdamW([*network.parameters(), direction], 3e-4, weight_decay=1e-2)

    def cosine(inputs):
        return F.normalize(network(inputs), dim=1) @ F.normalize(direction, dim=0)

    for _ in range(epochs):
        for rows in torch.randperm(len(data)).split(64):
            similarity = cosine(data[rows])
            excess = torch.where(target[rows] == 1, 0.9 - similarity, similarity - 0.2)
            loss = F.softplus(20 * excess).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    @torch.inference_mode()
    def scorer(rows: np.ndarray) -> np.ndarray:
        return cosine(standardise(rows)).numpy()

    return scorer


# ---------------------------------------------------------------- the competition's baseline
def baseline_network() -> nn.Sequential:
    """The competition's official baseline: log-mels (B, 1, frames, 40) → logits (B, 2)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(512, 2),
    )


def baseline_log_mels(waves: list[np.ndarray]) -> np.ndarray:
    """Input of `fit_cnn`: log-mels of 40 bands of 8 kHz waves, cut at 15 s, padded to 2 s at least.

    Returns an object array (N,) of float32 arrays (frames, 40). A frame has 20 ms: the published
    baseline reads 8 kHz samples as if they were 16 kHz, and so do we.
    """
    result = np.empty(len(waves), object)
    for i, wave in enumerate(waves):
        padded = np.pad(wave[: 15 * dsp.RATE], (0, max(0, 2 * dsp.RATE - len(wave))))
        result[i] = log_mels.whisper_log_mel(padded, 40)[:, :40].numpy().astype(np.float32)
    return result


def fit_cnn(x: np.ndarray, label: np.ndarray, seed: int, epochs: int = 15) -> Scorer:
    """Train the official baseline: Adam at 1e-3, batches of 64, one random crop of 2 s per clip and
    epoch. The published recipe has 80 epochs.

    Args: log-mels as `baseline_log_mels` gives them, labels (N,).
    Returns a scorer of such log-mels: log-odds of bona fide, the mean of five crops of 2 s.
    """
    torch.manual_seed(seed)
    rng, network = np.random.default_rng(seed), baseline_network()
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(x)), max(1, len(x) // 64)):
            crops = []
            for i in rows:
                start = rng.integers(max(1, len(x[i]) - CROP_FRAMES + 1))
                crops.append(x[i][start : start + CROP_FRAMES])
            logits = network(torch.from_numpy(np.stack(crops))[:, None])
            loss = F.cross_entropy(logits, torch.from_numpy(label[rows]).long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    @torch.inference_mode()
    def scorer(mels: np.ndarray) -> np.ndarray:
        crops = []
        for mel in mels:
            starts = np.linspace(0, len(mel) - CROP_FRAMES, CROPS).astype(int)
            crops += [mel[start : start + CROP_FRAMES] for start in starts]
        batches = torch.from_numpy(np.stack(crops)).split(256)
        logits = torch.cat([network(batch[:, None]) for batch in batches])
        return (logits[:, 1] - logits[:, 0]).reshape(-1, CROPS).mean(dim=1).numpy()

    return scorer
