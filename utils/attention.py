"""Attention over frames of a frozen encoder (notebook 13): learned weights of layers, four heads that choose moments.

What a frame of each layer holds is reduced to its principal components once, so that training fits a laptop.
"""
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from torch import nn
from torch.nn import functional as F

from utils import ladder, paths, probe, stems, workers
from utils.heads import balance, descend

LAYERS, PARTS = 4, 128  # layers of Whisper base whose frames are kept (convolutions, layers 1–3), components of each
LONGEST = 750  # frames of 20 ms a clip: 15 s, as pooled statistics have


class Attentive(nn.Module):
    """Learned weights of layers → a projection → four heads of attention over real frames → mean, deviation, change → one logit."""

    def __init__(self, layers: int = LAYERS, inputs: int = PARTS, width: int = 128, heads: int = 4):
        super().__init__()
        self.layers, self.heads = nn.Parameter(torch.zeros(layers)), heads
        self.project, self.attend = nn.Linear(inputs, width), nn.Linear(width, heads)
        self.judge = nn.Sequential(nn.LayerNorm(3 * width), nn.Dropout(0.3), nn.Linear(3 * width, 1))

    def attention(self, x: torch.Tensor, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x (B, T, layers, D), of which `frames` (B,) are real → projected (B, T, width), weights (B, T, heads), sum 1."""
        h = F.gelu(self.project((x * torch.softmax(self.layers, 0)[:, None]).sum(2)))
        valid = torch.arange(h.shape[1])[None] < frames[:, None]
        return h, torch.softmax(self.attend(h).masked_fill(~valid[..., None], float("-inf")), dim=1)

    def forward(self, x: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """As `attention` → logits of real (B,)."""
        h, weight = self.attention(x, frames)
        weight = weight.repeat_interleave(h.shape[2] // self.heads, dim=2)
        mean = (weight * h).sum(1)
        spread = ((weight * h.square()).sum(1) - mean.square()).clamp(min=1e-6).sqrt()
        step = (h[:, 1:] - h[:, :-1]).abs() * weight[:, 1:]
        return self.judge(torch.cat([mean, spread, step.sum(1)], dim=1))[:, 0]


class Frames:
    """Frames of clips in one memory-mapped file: `self[i]` is (T, LAYERS, PARTS), float16; `share` (LAYERS,) of variance is kept."""

    def __init__(self, folder: Path):
        self.values, self.ends = np.load(folder / "frames.npy", mmap_mode="r"), np.load(folder / "ends.npy")
        self.share = np.load(folder / "projection.npz")["share"]

    def __getitem__(self, i: int) -> np.ndarray:
        return self.values[self.ends[i - 1] if i else 0 : self.ends[i]]


@torch.inference_mode()
def _hear(wave: np.ndarray) -> np.ndarray:
    """Frames (T, LAYERS, 512) of an 8 kHz wave."""
    backbone = probe._backbone("whisper-base", LAYERS - 1)
    mel = backbone.prepare(wave[: LONGEST * 160])
    return torch.stack([x[0] for x, _ in backbone.stem(mel[None], torch.tensor([len(mel)]))], dim=1).numpy()


def _some_here(waves: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([_hear(wave)[::10] for wave in waves])


def _project_here(waves: list[np.ndarray], projection: Path, part: Path) -> list[int]:
    with np.load(projection) as p:
        result = [np.einsum("tld,ldk->tlk", _hear(wave), p["matrix"]) - p["offset"] for wave in waves]
    np.save(part, np.concatenate(result).astype(np.float16))
    return [len(r) for r in result]


def _learn(some: np.ndarray) -> dict[str, np.ndarray]:
    """Of frames (N, LAYERS, D): each layer standardised, then its principal components, to a mean variance of 1."""
    matrix, offset, share = [], [], []
    for layer in some.transpose(1, 0, 2):
        centre, scale = layer.mean(0), layer.std(0) + 1e-4
        pca = PCA(PARTS, svd_solver="covariance_eigh").fit((layer - centre) / scale)
        matrix.append(pca.components_.T / scale[:, None] / np.sqrt(pca.explained_variance_.mean()))
        offset.append(centre @ matrix[-1])
        share.append(pca.explained_variance_ratio_.sum())
    return {"matrix": np.float32(matrix), "offset": np.float32(offset), "share": np.float32(share)}


def frames(waves: list[np.ndarray], home: Path, of: slice, label: str = "") -> Path:
    """Folder under `home` with reduced frames of 8 kHz waves, made once a set of waves and of code.

    The components are learned, without labels, from 400 at most of the waves `of`, which no view judges.
    """
    digest = hashlib.sha256(stems.code_digest() + Path(__file__).read_bytes() + repr(of).encode())
    for wave in waves:
        digest.update(hashlib.sha256(np.ascontiguousarray(wave)).digest())
    folder = home / digest.hexdigest()[:24]
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "ends.npy").exists():
        chosen = waves[of][:: max(1, len(waves[of]) // 400)][:400]
        jobs = [(chosen[at : at + 25],) for at in range(0, len(chosen), 25)]
        with paths.whole(folder / "projection.npz") as part, part.open("wb") as file:
            np.savez(file, **_learn(np.concatenate(workers.in_processes(_some_here, jobs, f"{label}: components"))))
        cuts = np.array_split(np.arange(len(waves)), max(1, len(waves) // 50))
        jobs = [([waves[i] for i in cut], folder / "projection.npz", folder / f"part{n}.npy") for n, cut in enumerate(cuts)]
        ends = np.cumsum([size for sizes in workers.in_processes(_project_here, jobs, label) for size in sizes])
        with paths.whole(folder / "frames.npy") as part, part.open("wb") as file:
            np.save(file, np.concatenate([np.load(place) for *_, place in jobs]))
        for *_, place in jobs:
            place.unlink()
        with paths.whole(folder / "ends.npy") as part, part.open("wb") as file:  # last: the mark of a finished folder
            np.save(file, ends)
    return folder


def train(clips: Frames, rows: np.ndarray, label: np.ndarray, seed: int, epochs: int = 6, crop: tuple[int, int] = (100, 100)):
    """Train `Attentive` on crops of clips, as many frames as `crop` bounds (one length a batch).

    A crop has its clip's label, also where only another part of the clip is fake.
    Returns `scores(rows)`, higher is more real, which has the trained `network` as an attribute.
    """
    torch.manual_seed(seed)
    rng, network = np.random.default_rng(seed), Attentive()
    y = torch.from_numpy(label.astype(np.float32))
    weight = balance(y)

    def loss(chosen):
        length, parts = int(rng.integers(crop[0], crop[1] + 1)), []
        for i in chosen:
            clip = clips[rows[i]]
            start = int(rng.integers(max(1, len(clip) - length + 1)))
            parts.append(torch.from_numpy(clip[start : start + length].astype(np.float32)))
        logits = network(nn.utils.rnn.pad_sequence(parts, batch_first=True), torch.tensor([len(part) for part in parts]))
        return F.binary_cross_entropy_with_logits(logits, y[chosen], weight[chosen])

    descend([network], loss, lambda: torch.randperm(len(rows)).tensor_split(max(1, len(rows) // 32)), epochs, 1e-3)

    @torch.inference_mode()
    def scores(judged: np.ndarray) -> np.ndarray:
        return np.array([float(network(torch.from_numpy(clips[i].astype(np.float32))[None], torch.tensor([len(clips[i])])))
                         for i in judged])

    scores.network = network
    return scores


def judge(clips: pd.DataFrame, seed: int, folder: Path, others: tuple[np.ndarray, np.ndarray], epochs: int,
          crop: tuple[int, int]) -> pd.DataFrame:
    """`train` on all views (`ladder.on_views`): `folder` of `frames` of `clips` and then of others, whose labels and families (M,)
    are `others`."""
    every, label = Frames(folder), clips["label"].to_numpy()

    def learn(known, judged):
        also = ladder.may_train(clips, known, others[1])
        rows = np.concatenate([np.flatnonzero(known), len(clips) + np.flatnonzero(also)])
        y = np.concatenate([label[known], others[0][also]])
        scores = train(every, rows, y, seed, epochs, crop)
        return {"attention": (scores(np.flatnonzero(judged)), scores(rows[y == 1][::4]))}

    return ladder.on_views(clips, seed, learn, rotations=1)["attention"]
