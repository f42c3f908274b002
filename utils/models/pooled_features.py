"""Pooled statistics of frozen encoders, and a quick model on Whisper's first layer for questions about data.

Low layers and change over time carry the evidence (`stems.pool`: mean, deviation, mean absolute change a frame).
"""

import functools

import numpy as np
import torch

from utils import feature_cache, parallel
from utils.audio.dsp import RATE
from utils.models import encoders, frozen_features

QUICK = {"whisper-base": (1,)}  # backbone → depths (0: its front end, then its layers or blocks)


@functools.cache
def _backbone(name: str, depth: int, kind: torch.dtype = torch.float32):
    return (
        encoders.load(name, depth + 1).eval().to(kind)
    )  # a transformer's stem holds all layers but the last


@torch.inference_mode()
def features_in_this_process(
    waves: list[np.ndarray],
    depths: dict[str, tuple[int, ...]] = QUICK,
    window_s: float = 0.0,
    kind: torch.dtype = torch.float32,
) -> np.ndarray:
    """What `features` gives, computed in this process."""
    rows = []
    for wave in waves:
        parts, wave = [], wave[: int((window_s or frozen_features.MAX_S) * RATE)]
        wave = np.pad(wave, (0, max(0, int(window_s * RATE) - len(wave))))
        for name, wanted in depths.items():
            backbone = _backbone(name, max(wanted), kind)
            mel = backbone.prepare(wave).to(kind)
            found = backbone.lower_layers(mel[None], torch.tensor([len(mel)]))
            found = (
                found if max(wanted) < len(found) else [*found, *backbone.upper_layers(*found[-1])]
            )
            parts.append(
                frozen_features.pool([found[depth] for depth in wanted])[0].float().numpy()
            )
        rows.append(np.concatenate(parts))
    return np.stack(rows)


def features(
    waves: list[np.ndarray],
    depths: dict[str, tuple[int, ...]] = QUICK,
    label: str = "",
    window_s: float = 0.0,
    kind: torch.dtype = torch.float32,
) -> np.ndarray:
    """Pooled statistics of 8 kHz waves: float32 (N, three a channel of each depth of each backbone), in the order of `depths`.

    With `window_s` clips are cut or filled with silence to so many seconds, as the published classifiers do, and the silence is
    pooled too; `kind` is the precision that the backbone computes in. Computed in processes, once a clip: they are kept
    by content (`utils/cache.py`).
    """

    def compute(missing):
        cuts = np.array_split(np.arange(len(missing)), max(1, len(missing) // 50))
        jobs = [([missing[i] for i in cut], depths, window_s, kind) for cut in cuts]
        return [
            row
            for part in parallel.run_in_processes(features_in_this_process, jobs, label)
            for row in part
        ]

    changed = f" {window_s} {kind}" * bool(window_s or kind != torch.float32)
    return np.stack(
        feature_cache.cached(waves, frozen_features.pooled_name(depths) + changed, compute)
    )
