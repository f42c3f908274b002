"""Pooled statistics of frozen encoders: a fixed-size description of a clip for any classifier.

Of each channel of each depth: mean, standard deviation and mean absolute delta between frames
(`frozen_features.pool`). Low layers and deltas carry most of the evidence. A `depths` argument maps
names of encoders (`encoders.load`) to depths; depth 0 is the encoder's front end, the next ones are
its layers or blocks.
"""

import functools

import numpy as np
import torch
from torch import nn

from utils import feature_cache, parallel
from utils.audio.dsp import RATE
from utils.code_digest import code_digest
from utils.models import encoders, frozen_features

QUICK = {"whisper-base": (1,)}  # Whisper's first layer: for quick questions about data
CLIPS_PER_JOB = 50


@functools.cache
def _backbone(name: str, depth: int) -> nn.Module:
    # all layers of a transformer but the last are its `lower_layers`: with one layer more than
    # `depth`, nothing above `depth` is computed
    return encoders.load(name, depth + 1).eval()


def _outputs(name: str, wave: np.ndarray, depth: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(features, frames) of an encoder at depths 0 … `depth` at least, for one wave."""
    backbone = _backbone(name, depth)
    inputs = backbone.prepare(wave)
    outputs = backbone.lower_layers(inputs[None], torch.tensor([len(inputs)]))
    if depth >= len(outputs):
        outputs = [*outputs, *backbone.upper_layers(*outputs[-1])]
    return outputs


@torch.inference_mode()
def features_in_this_process(
    waves: list[np.ndarray], depths: dict[str, tuple[int, ...]] = QUICK, window_s: float = 0.0
) -> np.ndarray:
    """What `features` gives, computed in this process and not cached."""
    rows = []
    for wave in waves:
        wave = wave[: int((window_s or frozen_features.MAX_S) * RATE)]
        wave = np.pad(wave, (0, max(0, int(window_s * RATE) - len(wave))))
        pooled = []
        for name, wanted in depths.items():
            outputs = _outputs(name, wave, max(wanted))
            pooled.append(frozen_features.pool([outputs[depth] for depth in wanted])[0].numpy())
        rows.append(np.concatenate(pooled))
    return np.stack(rows)


def features(
    waves: list[np.ndarray],
    depths: dict[str, tuple[int, ...]] = QUICK,
    label: str = "",
    window_s: float = 0.0,
) -> np.ndarray:
    """Pooled statistics of clips, computed in parallel processes; each clip is cached by content.

    Args:
        waves: 8 kHz waves, cut at 15 s.
        depths: which depths of which encoders.
        label: of the progress bar; none without.
        window_s: if given, clips are cut or padded with silence to this length (s), as published
            classifiers do; the silence is pooled too.
    Returns float32 (N, D): encoders and depths in the order of `depths` (see `columns`); of each
    depth all means, then all standard deviations, then all mean absolute deltas.
    """
    if len(depths) > 1:  # encoder by encoder: those of one alone are computed and cached once
        each = [features(waves, {key: wanted}, label, window_s) for key, wanted in depths.items()]
        return np.concatenate(each, axis=1)

    def compute(missing):
        return parallel.map_chunks(
            features_in_this_process, missing, CLIPS_PER_JOB, depths, window_s, label=label
        )

    name = frozen_features.pooled_name(depths)
    if window_s:
        name += f" window of {window_s} s {code_digest(features_in_this_process)}"
    return np.stack(feature_cache.cached(waves, name, compute))


@functools.cache
@torch.inference_mode()
def _channels(name: str, depth: int) -> int:
    """Channels of an encoder at a depth, from a second of silence."""
    features_, _ = _outputs(name, np.zeros(RATE, np.float32), depth)[depth]
    return features_.shape[2]


def columns(depths: dict[str, tuple[int, ...]], backbone: str, depth: int) -> slice:
    """Columns of `features(waves, depths)` that hold `depth` of `backbone`.

    Raises ValueError if `depths` does not list it.
    """
    start = 0
    for name, wanted in depths.items():
        for each in wanted:
            size = 3 * _channels(name, each)
            if (name, each) == (backbone, depth):
                return slice(start, start + size)
            start += size
    raise ValueError(f"depth {depth} of {backbone!r} is not among {depths}")
