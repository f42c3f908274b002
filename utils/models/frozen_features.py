"""Output of a backbone's frozen layers over many clips: computed once, cached, shared.

Folds, epochs, models, notebooks and runs share it. Everything is content-addressed: the key is a
hash of samples, settings and code. Two things are kept. Pooled statistics of clean clips go to
`feature_cache`, clip by clip. What fine-tuning starts from, the last lower layer frame by frame,
goes to a memory-mapped file, in one folder for each set of clips. When all folders together exceed
three quarters of `DFS_CACHE_GB` (see `utils/paths.py`), the least recently used ones are removed.
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

MAX_S = 15.0  # clips are cut at this length, as on the finalist's slides
ARRAYS = ("lower", "upper", "hidden", "ends")  # files of a folder: <name>.npy
LIMIT_GB = paths.CACHE_GB * 3 / 4
CLIPS_PER_JOB = 40


def pool(depths: encoders.Outputs) -> torch.Tensor:
    """Statistics over the real frames of each depth, as one row per clip.

    Args: `depths`, for each depth features (B, T, D) and the number of real frames (B,), 2 or more.
    Returns (B, 3 · sum of D): of each depth the mean, the standard deviation and the mean absolute
    delta between frames of each channel. Half precisions are pooled in float32.
    """
    statistics = []
    for x, frames in depths:
        x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        if (frames == x.shape[1]).all():  # no padding: less memory, same values but for rounding
            mean = x.mean(1)
            variance = F.mse_loss(x, mean[:, None].expand_as(x), reduction="none").mean(1)
            delta = F.l1_loss(x[:, 1:], x[:, :-1], reduction="none").mean(1)
        else:
            valid = (torch.arange(x.shape[1], device=x.device)[None] < frames[:, None])[..., None]
            count = frames[:, None].to(x.dtype)
            mean = (x * valid).sum(1) / count
            variance = ((x - mean[:, None]).square() * valid).sum(1) / count
            delta = ((x[:, 1:] - x[:, :-1]).abs() * valid[:, 1:]).sum(1) / (count - 1)
        statistics += [mean, (variance + 1e-6).sqrt(), delta]
    return torch.cat(statistics, dim=1)


def spec_augment(
    features: torch.Tensor, fraction: float, rng: np.random.Generator, span: int = 10
) -> torch.Tensor:
    """SpecAugment (Park et al., Interspeech 2019): mask random spans of frames and of bands.

    Args: `features` (frames, bands); about `fraction` of the frames, and of the bands, are masked,
    in spans of `span`. Returns a new tensor, masked values replaced by the clip's mean.
    """
    features = features.clone()
    for axis in (0, 1):
        for _ in range(rng.poisson(fraction * features.shape[axis] / span)):
            start = rng.integers(features.shape[axis])
            masked = features.narrow(axis, start, min(span, features.shape[axis] - start))
            masked.fill_(features.mean())
    return features


def batches(lengths: np.ndarray, budget: int, exact: bool = False) -> list[np.ndarray]:
    """Rows in batches of about equal length, so that there is little padding.

    Args: `lengths` (N,); `budget` limits rows × longest of a batch (one clip alone may exceed it);
    with `exact`, only clips of equal length share a batch. Rows of equal length keep their order.
    """
    lengths = np.asarray(lengths)
    result: list[list[int]] = []
    for row in np.argsort(lengths, kind="stable"):
        last = result[-1] if result else []
        fits = (len(last) + 1) * lengths[row] <= budget
        if last and fits and (not exact or lengths[row] == lengths[last[0]]):
            last.append(row)
        else:
            result.append([row])
    return [np.array(rows) for rows in result]


@torch.inference_mode()
def _frozen_of(
    clips: list[tuple[int, np.ndarray, str, bool]], config, folder: Path
) -> list[tuple[np.ndarray, np.ndarray, int, int]]:
    """(lower statistics, upper statistics, frames, number of depths) of each clip.

    `clips`: number, wave, key and whether it is masked. The last lower layer of all clips, one
    after another, goes to a file of `folder`, named by the number of the first, as float16.
    """
    backbone = encoders.load(config.backbone, config.layers, config.tuned).eval()
    result, hidden = [], []
    for _, wave, key, mask in clips:
        features = backbone.prepare(wave[: int(config.max_s * RATE)])
        if mask:
            rng = parallel.seeded_rng(config.seed, "mask", key)
            features = spec_augment(features, config.spec_augment, rng)
        lower = backbone.lower_layers(features[None], torch.tensor([len(features)]))
        x, frames = lower[-1]
        hidden.append(x[0].half().numpy())
        upper = backbone.upper_layers(x, frames)
        statistics = pool(lower)[0].numpy(), pool(upper)[0].numpy()
        result.append((*statistics, x.shape[1], len(lower) + len(upper)))
    np.save(folder / f"part{clips[0][0]:09d}.npy", np.concatenate(hidden))
    return result


@dataclass
class FrozenFeatures:
    """Frozen features of N clips, as `compute` gives them."""

    lower: np.ndarray  # pooled statistics of the lower layers, float32 (N, ·)
    upper: np.ndarray  # pooled statistics of the upper layers before fine-tuning, float32 (N, ·)
    hidden: np.ndarray  # last lower layer of all clips in a row, float16 (frames, D), memory-mapped
    ends: np.ndarray  # where each clip ends in `hidden` (N,)
    folder: Path
    lock: object  # while it lives, the folder is not removed to make room

    @classmethod
    def open(cls, folder: Path) -> "FrozenFeatures":
        """What `compute` left in `folder`."""
        arrays = (
            np.load(folder / f"{name}.npy", mmap_mode="r" if name == "hidden" else None)
            for name in ARRAYS
        )
        return cls(*arrays, folder, _use(folder))

    def clip(self, i: int) -> torch.Tensor:
        """Last lower layer of clip i, float32 (frames, D)."""
        begin = self.ends[i - 1] if i else 0
        return torch.from_numpy(np.asarray(self.hidden[begin : self.ends[i]], dtype=np.float32))

    def batch(
        self, rows: np.ndarray, longest: int | None = None, rng: np.random.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Clips as a batch: lower statistics (B, S), last lower layer (B, T, D), real frames (B,).

        A clip of more than `longest` frames is cut to a stretch of this length at random.
        """
        hidden = [self.clip(i) for i in rows]
        if longest:
            starts = [int(rng.integers(max(1, len(h) - longest + 1))) for h in hidden]
            hidden = [h[start : start + longest] for h, start in zip(hidden, starts, strict=True)]
        return (
            torch.from_numpy(self.lower[rows]),
            nn.utils.rnn.pad_sequence(hidden, batch_first=True),
            torch.tensor([len(h) for h in hidden]),
        )

    def training_batches(
        self, rows: np.ndarray, clips: int, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], int]:
        """(batches of places in `rows`, median number of frames, to which longer clips are cut).

        Clips of about equal length share a batch. It has as many frames as `clips` clips of median
        length: all steps cost about the same and there is little padding. The number of batches
        does not depend on `rng`.
        """
        lengths = np.diff(self.ends, prepend=0)[rows]
        median = int(np.median(lengths))
        rounded = (np.minimum(lengths, median) // 25 + 1) * 25
        order = rng.permutation(len(rows))
        return [order[batch] for batch in batches(rounded[order], clips * median)], median


def _use(folder: Path):
    """A shared lock on the folder, held while the returned file lives; it counts as a use."""
    lock = folder.with_suffix(".lock").open("a")
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def make_room(home: Path, limit_gb: float = LIMIT_GB) -> None:
    """Remove the least recently used folders of `home`, but none in use, until `limit_gb` holds."""
    size, used = {}, {}
    for folder in home.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process makes or removes it just now
            if folder.is_dir():
                used[folder] = folder.with_suffix(".lock").stat().st_mtime_ns
                size[folder] = sum(p.stat().st_size for p in folder.iterdir())
    for folder in sorted(size, key=used.get):
        if sum(size.values()) <= limit_gb * 1e9:
            return
        with folder.with_suffix(".lock").open("a") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
            del size[folder]


def compute(
    config, waves: list[np.ndarray], keys: list[str], masked: list[bool], label: str = ""
) -> FrozenFeatures:
    """Run a backbone over clips, in parallel processes, or find what an earlier call computed.

    Args:
        config: a `finetune.Config`; its backbone, layers, tuned and max_s matter, and with `masked`
            clips spec_augment and seed.
        waves: at 8 kHz.
        keys: a name for each clip, from which its random masks follow.
        masked: which clips get SpecAugment: augmented ones, never those of validation or test.
        label: of the progress bar; none without.
    """
    settings = [config.backbone, config.layers, config.tuned, config.max_s]
    if any(masked):
        settings += [config.spec_augment, config.seed, keys, masked]
    digest = hashlib.sha256(json.dumps(settings).encode() + _code(config.backbone).encode())
    for wave in waves:
        digest.update(hashlib.sha256(np.ascontiguousarray(wave)).digest())
    folder = paths.CACHE / "frozen" / digest.hexdigest()[:32]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".making").open("w") as making, _use(folder) as lock:
        fcntl.flock(making, fcntl.LOCK_EX)  # a second process waits here and finds it done
        os.utime(lock.name)
        folder.mkdir(exist_ok=True)  # under the lock: nobody removes it any more
        if not (folder / "done.json").exists():
            _make(config, waves, keys, masked, folder, label)
        result = FrozenFeatures.open(folder)
    make_room(folder.parent)
    return result


def _make(
    config, waves: list, keys: list[str], masked: list[bool], folder: Path, label: str
) -> None:
    for file in folder.glob("part*.npy"):  # of a process that was killed
        file.unlink()
    clips = list(zip(range(len(waves)), waves, keys, masked, strict=True))
    results = parallel.map_chunks(_frozen_of, clips, CLIPS_PER_JOB, config, folder, label=label)
    lower, upper, frames, depths = zip(*results, strict=True)
    ends = np.cumsum(frames)
    for name, array in (("lower", np.stack(lower)), ("upper", np.stack(upper)), ("ends", ends)):
        with paths.whole(folder / f"{name}.npy") as temporary:
            np.save(temporary, array)
    _join(sorted(folder.glob("part*.npy")), int(ends[-1]), folder / "hidden.npy")
    if config.max_s == MAX_S:  # for those who need only the pooled statistics of clean clips
        name = pooled_name({config.backbone: tuple(range(depths[0]))})
        pooled = {}
        for wave, low, high, mask in zip(waves, lower, upper, masked, strict=True):
            if not mask:
                pooled[feature_cache.key_of(wave, name)] = np.concatenate([low, high])
        feature_cache.put(pooled)
    record = {"backbone": config.backbone, "layers": config.layers, "clips": len(waves)}
    paths.write_json(folder / "done.json", record)


def _join(files: list[Path], frames: int, path: Path) -> None:
    """Join arrays (·, D) of `files` into one (frames, D) of `path`, and remove them.

    Through memory maps: many clips make gigabytes.
    """
    channels = np.load(files[0], mmap_mode="r").shape[1]
    with paths.whole(path) as temporary:
        joined = np.lib.format.open_memmap(temporary, "w+", np.float16, (frames, channels))
        start = 0
        for file in files:
            piece = np.load(file, mmap_mode="r")
            joined[start : start + len(piece)] = piece
            start += len(piece)
        joined.flush()
    for file in files:
        file.unlink()


def pooled_name(depths: dict[str, tuple[int, ...]]) -> str:
    """Name in `feature_cache` of a clip's pooled statistics at these depths of these backbones."""
    code = " ".join(_code(backbone) for backbone in depths)
    return f"pooled {json.dumps(list(depths.items()))} {code}"


def _code(backbone: str) -> str:
    """Digest of the code and of the weights that decide what a backbone gives."""
    return code_digest(_frozen_of, settings=encoders.identity(backbone))
