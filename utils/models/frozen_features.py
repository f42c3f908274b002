"""The frozen part of a backbone over many clips: run once, kept in the cache, shared by folds, epochs, models and notebooks.

What is kept is found by its content: samples, settings, code. Pooled statistics of clean clips go to `utils/cache.py` clip by
clip; what fine-tuning starts from, the last frozen depth frame by frame, lies memory-mapped in a folder a set of clips, and the
folders used least recently go when all take more than `DFS_STEMS_GB` (default 12).
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from utils import feature_cache, parallel, paths
from utils.audio.dsp import RATE
from utils.code_digest import code_digest
from utils.models import encoders

MAX_S = 15.0  # the deck's cut
NAMES = ("lower", "upper", "hidden", "ends")  # arrays of a folder
FROZEN_GB = float(os.environ.get("DFS_STEMS_GB", "12"))


def pool(depths: list) -> torch.Tensor:
    """Per depth: mean, deviation and mean absolute change from frame to frame, over valid frames only: (B, features).

    Half precisions are pooled in float32.
    """
    parts = []
    for x, frames in depths:
        x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        if (
            frames == x.shape[1]
        ).all():  # no padding: fewer copies, the same values but for rounding
            mean = x.mean(1)
            spread = F.mse_loss(x, mean[:, None].expand_as(x), reduction="none").mean(1)
            parts += [
                mean,
                (spread + 1e-6).sqrt(),
                F.l1_loss(x[:, 1:], x[:, :-1], reduction="none").mean(1),
            ]
            continue
        valid = (torch.arange(x.shape[1], device=x.device)[None] < frames[:, None])[..., None]
        count = frames[:, None].to(x.dtype)
        mean = (x * valid).sum(1) / count
        spread = ((x - mean[:, None]).square() * valid).sum(1) / count
        change = ((x[:, 1:] - x[:, :-1]).abs() * valid[:, 1:]).sum(1) / (count - 1)
        parts += [mean, (spread + 1e-6).sqrt(), change]
    return torch.cat(parts, dim=1)


def spec_augment(
    features: torch.Tensor, share: float, rng: np.random.Generator, span: int = 10
) -> torch.Tensor:
    """Mask spans of frames and of bands with the clip's mean, about `share` of each (Park et al. 2019)."""
    features = features.clone()
    for axis in (0, 1):
        for _ in range(rng.poisson(share * features.shape[axis] / span)):
            start = rng.integers(features.shape[axis])
            features.narrow(axis, start, min(span, features.shape[axis] - start)).fill_(
                features.mean()
            )
    return features


def batches(lengths: np.ndarray, budget: int, exact: bool = False) -> list[np.ndarray]:
    """Rows in batches of like length: rows × longest stays within `budget` (one clip may exceed it alone).

    With `exact`, only clips of the same length share a batch. Rows of one length keep their order.
    """
    result, lengths = [], np.asarray(lengths)
    for row in np.argsort(lengths, kind="stable"):
        last = result[-1] if result else []
        if (
            last
            and (len(last) + 1) * lengths[row] <= budget
            and not (exact and lengths[row] != lengths[last[0]])
        ):
            last.append(row)
        else:
            result.append([row])
    return [np.array(rows) for rows in result]


@torch.inference_mode()
def _frozen_of(config, waves: list, keys: list[str], masked: list[bool], part: Path) -> list[tuple]:
    """(stem statistics, body statistics, frames, depths of both) of each clip; the stem's last depths go to `part`, in a row."""
    backbone = encoders.load(config.backbone, config.layers, config.tuned).eval()
    result, hidden = [], []
    for wave, key, mask in zip(waves, keys, masked, strict=True):
        features = backbone.prepare(wave[: int(config.max_s * RATE)])
        if mask:
            features = spec_augment(
                features, config.spec_augment, parallel.seeded_rng(config.seed, "mask", key)
            )
        depths = backbone.lower_layers(features[None], torch.tensor([len(features)]))
        x, frames = depths[-1]
        hidden.append(x[0].half().numpy())
        above = backbone.upper_layers(x, frames)
        result.append(
            (pool(depths)[0].numpy(), pool(above)[0].numpy(), x.shape[1], len(depths) + len(above))
        )
    np.save(part, np.concatenate(hidden))
    return result


@dataclass
class FrozenFeatures:
    """Frozen results of clips: `stem` and `body` statistics (N, ·), and the stem's last depth as one array of frames
    (float16, memory-mapped) with `ends` of each clip."""

    lower: np.ndarray
    upper: np.ndarray
    hidden: np.ndarray
    ends: np.ndarray
    folder: Path
    in_use: object  # while it lives, the folder is not cleared to make room

    @classmethod
    def open(cls, folder: Path) -> "FrozenFeatures":
        """What `compute` left in `folder`."""
        arrays = (
            np.load(folder / f"{name}.npy", mmap_mode="r" if name == "hidden" else None)
            for name in NAMES
        )
        return cls(*arrays, folder, _use(folder))

    def clip(self, i: int) -> torch.Tensor:
        """Last stem depth of clip i, float32 (frames, D)."""
        begin = self.ends[i - 1] if i else 0
        return torch.from_numpy(np.asarray(self.hidden[begin : self.ends[i]], dtype=np.float32))

    def batch(
        self, rows, longest: int | None = None, rng=None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(stem statistics, padded hidden, frames) of some clips; of more than `longest` frames only a stretch that `rng` draws."""
        hidden = [self.clip(i) for i in rows]
        if longest:
            starts = [int(rng.integers(max(1, len(h) - longest + 1))) for h in hidden]
            hidden = [h[start : start + longest] for h, start in zip(hidden, starts, strict=True)]
        return (
            torch.from_numpy(self.lower[rows]),
            nn.utils.rnn.pad_sequence(hidden, batch_first=True),
            torch.tensor([len(h) for h in hidden]),
        )


def _use(folder: Path):
    """A shared lock on the folder's name, held while the returned file lives; counts as its last use."""
    mark = folder.with_suffix(".lock").open("a")
    fcntl.flock(mark, fcntl.LOCK_SH)
    return mark


def make_room(home: Path, limit_gb: float = FROZEN_GB) -> None:
    """Remove the least recently used folders that nobody uses until all fit in `limit_gb`."""
    size, used = {}, {}
    for folder in home.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process makes or removes it just now
            if folder.is_dir():
                used[folder] = folder.with_suffix(".lock").stat().st_mtime_ns
                size[folder] = sum(p.stat().st_size for p in folder.iterdir())
    for folder in sorted(size, key=used.get):
        if sum(size.values()) <= limit_gb * 1e9:
            return
        with folder.with_suffix(".lock").open("a") as mark, contextlib.suppress(BlockingIOError):
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
            del size[folder]


def compute(
    config, waves: list, keys: list[str], masked: list[bool], label: str = ""
) -> FrozenFeatures:
    """Run the frozen part over clips once and keep it in the cache; whoever has the same clips, settings and code shares it.

    Args: config with backbone, layers, tuned, max_s, spec_augment, seed (`training.Config`); waves at 8 kHz; keys name them; masked
    says which get SpecAugment (augmented copies, never validation or test).
    """
    settings = [config.backbone, config.layers, config.tuned, config.max_s]
    if any(masked):
        settings += [config.spec_augment, config.seed, keys, masked]
    digest = hashlib.sha256(json.dumps(settings).encode() + code_digest(_frozen_of).encode())
    for wave in waves:
        digest.update(hashlib.sha256(np.ascontiguousarray(wave)).digest())
    folder = paths.CACHE / "frozen" / digest.hexdigest()[:32]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".making").open("w") as making, _use(folder) as used:
        fcntl.flock(
            making, fcntl.LOCK_EX
        )  # a second process that wants it waits, and finds it done
        os.utime(used.name)
        folder.mkdir(exist_ok=True)  # under the lock: nobody clears it any more
        if not (folder / "done.json").exists():
            _make(config, waves, keys, masked, folder, label)
        result = FrozenFeatures.open(folder)
    make_room(folder.parent)
    return result


def _make(
    config, waves: list, keys: list[str], masked: list[bool], folder: Path, label: str
) -> None:
    cuts = np.array_split(np.arange(len(waves)), max(1, len(waves) // 40))
    places = [folder / f"part{i}.npy" for i in range(len(cuts))]
    jobs = [
        (config, [waves[i] for i in cut], [keys[i] for i in cut], [masked[i] for i in cut], place)
        for cut, place in zip(cuts, places, strict=True)
    ]
    parts = [row for rows in parallel.run_in_processes(_frozen_of, jobs, label) for row in rows]
    arrays = {
        "lower": np.stack([p[0] for p in parts]),
        "upper": np.stack([p[1] for p in parts]),
        "ends": np.cumsum([p[2] for p in parts]),
    }
    for name, array in arrays.items():
        with paths.whole(folder / f"{name}.npy") as part:
            np.save(part, array)
    with paths.whole(
        folder / "hidden.npy"
    ) as part:  # many gigabytes for many clips: never in memory at once
        width = np.load(places[0], mmap_mode="r").shape[1]
        joined, at = (
            np.lib.format.open_memmap(part, "w+", np.float16, (int(arrays["ends"][-1]), width)),
            0,
        )
        for place in places:
            piece = np.load(place, mmap_mode="r")
            joined[at : at + len(piece)], at = piece, at + len(piece)
        joined.flush()
    for place in places:
        place.unlink()
    if config.max_s == MAX_S:  # whoever asks for pooled statistics of the clean clips finds them
        name = pooled_name({config.backbone: tuple(range(parts[0][3]))})
        feature_cache.put(
            {
                feature_cache.key_of(wave, name): np.concatenate(part[:2])
                for wave, part, mask in zip(waves, parts, masked, strict=True)
                if not mask
            }
        )
    paths.write_json(
        folder / "done.json",
        {"backbone": config.backbone, "layers": config.layers, "clips": len(waves)},
    )


def pooled_name(depths: dict[str, tuple[int, ...]]) -> str:
    """Name in `cache` of the pooled statistics of a clip at these depths of these backbones."""
    return f"pooled {json.dumps(list(depths.items()))} {code_digest(_frozen_of)}"
