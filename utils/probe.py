"""Pooled statistics of frozen encoders, and a quick model on Whisper's first layer for questions about data.

Low layers and change over time carry the evidence (`stems.pool`: mean, deviation, mean absolute change a frame).
"""
import functools

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from utils import backbones, cache, metrics, stems, workers
from utils.audio import RATE

QUICK = {"whisper-base": (1,)}  # backbone → depths (0: its front end, then its layers or blocks)


@functools.cache
def _backbone(name: str, depth: int, kind: torch.dtype = torch.float32):
    return backbones.load(name, depth + 1).eval().to(kind)  # a transformer's stem holds all layers but the last


@torch.inference_mode()
def features_here(waves: list[np.ndarray], depths: dict[str, tuple[int, ...]] = QUICK, window_s: float = 0.0,
                  kind: torch.dtype = torch.float32) -> np.ndarray:
    """What `features` gives, computed in this process."""
    rows = []
    for wave in waves:
        parts, wave = [], wave[: int((window_s or stems.MAX_S) * RATE)]
        wave = np.pad(wave, (0, max(0, int(window_s * RATE) - len(wave))))
        for name, wanted in depths.items():
            backbone = _backbone(name, max(wanted), kind)
            mel = backbone.prepare(wave).to(kind)
            found = backbone.stem(mel[None], torch.tensor([len(mel)]))
            found = found if max(wanted) < len(found) else [*found, *backbone.body(*found[-1])]
            parts.append(stems.pool([found[depth] for depth in wanted])[0].float().numpy())
        rows.append(np.concatenate(parts))
    return np.stack(rows)


def features(waves: list[np.ndarray], depths: dict[str, tuple[int, ...]] = QUICK, label: str = "", window_s: float = 0.0,
             kind: torch.dtype = torch.float32) -> np.ndarray:
    """Pooled statistics of 8 kHz waves: float32 (N, three a channel of each depth of each backbone), in the order of `depths`.

    With `window_s` clips are cut or filled with silence to so many seconds, as the published classifiers do, and the silence is
    pooled too; `kind` is the precision that the backbone computes in. Computed in processes, once a clip: they are kept
    by content (`utils/cache.py`).
    """

    def compute(missing):
        cuts = np.array_split(np.arange(len(missing)), max(1, len(missing) // 50))
        jobs = [([missing[i] for i in cut], depths, window_s, kind) for cut in cuts]
        return [row for part in workers.in_processes(features_here, jobs, label) for row in part]

    changed = f" {window_s} {kind}" * bool(window_s or kind != torch.float32)
    return np.stack(cache.cached(waves, stems.pooled_name(depths) + changed, compute))


def fit(x: np.ndarray, label: np.ndarray, c: float = 0.001, fake_weight: float = 1.0):
    """Standardised logistic regression, classes balanced and fakes then weighed by `fake_weight` (above 1: a stricter model);
    `decision_function` gives log-odds of real."""
    weight = len(label) / (2 * np.bincount(label, minlength=2).clip(1)) * (fake_weight, 1.0)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=300, class_weight=dict(enumerate(weight))))
    return model.fit(x, label)


def leave_systems_out(x: np.ndarray, label: np.ndarray, family: np.ndarray, fold: np.ndarray,
                      least: int = 10) -> dict[str, float]:
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
            model = fit(x[inside], label[inside])
            known = model.decision_function(x[inside & (label == 1)])
            scores[rows & (fold == k)] = (model.decision_function(x[rows & (fold == k)]) - known.mean()) / known.std()
        rows &= np.isfinite(scores)
        result[held] = metrics.eer(label[rows], scores[rows])
    return result


def leave_corpora_out(x: np.ndarray, label: np.ndarray, source: np.ndarray, group: np.ndarray,
                      least: int = 10) -> dict[str, float]:
    """EER on each source that holds `least` clips of both classes, of a model that saw neither it nor any of its groups."""
    result = {}
    for held in sorted(set(source.tolist())):
        rows = source == held
        if min((label[rows] == 1).sum(), (label[rows] == 0).sum()) < least:
            continue
        inside = ~rows & ~np.isin(group, group[rows])
        if min((label[inside] == 1).sum(), (label[inside] == 0).sum()) < least:
            continue
        result[held] = metrics.eer(label[rows], fit(x[inside], label[inside]).decision_function(x[rows]))
    return result
