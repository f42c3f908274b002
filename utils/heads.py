"""Heads past the deck, on what frozen encoders give: multilayer perceptrons on pooled statistics, and attention over frames.

Notebook 12 judges them on the views of `utils/ladder.py`. What all heads of a training set share, its projection, is made once.
"""
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from utils import detector, ladder, paths, probe, stems, workers

LAYERS = 4  # of Whisper base whose frames are kept: convolutions, layers 1–3
LONGEST = 750  # frames of 20 ms a clip: 15 s, as pooled statistics have


def supervised_contrast(z: torch.Tensor, label: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    """Loss that draws clips of one class together (Khosla et al. 2020, the sum outside): z (B, D), label (B,)."""
    z = F.normalize(z, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool)
    alike = (z @ z.T / temperature).masked_fill(itself, float("-inf"))
    log_share = alike - torch.logsumexp(alike, dim=1, keepdim=True)
    same = (label[:, None] == label[None]) & ~itself
    return -(log_share.masked_fill(~same, 0.0).sum(1) / same.sum(1).clamp(min=1)).mean()


class Attentive(nn.Module):
    """Learned weights of layers → a projection → four heads of attention over real frames → mean, deviation, change → one logit."""

    def __init__(self, centre: torch.Tensor, scale: torch.Tensor, width: int = 128, heads: int = 4):
        super().__init__()
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)
        self.layers, self.heads = nn.Parameter(torch.zeros(len(centre))), heads
        self.project, self.attend = nn.Linear(centre.shape[1], width), nn.Linear(width, heads)
        self.judge = nn.Sequential(nn.LayerNorm(3 * width), nn.Dropout(0.3), nn.Linear(3 * width, 1))

    def attention(self, x: torch.Tensor, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x (B, T, layers, D), of which `frames` (B,) are real → projected (B, T, width), weights (B, T, heads), sum 1."""
        x = ((x - self.centre) / self.scale * torch.softmax(self.layers, 0)[:, None]).sum(2)
        h = F.gelu(self.project(x))
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


def _descend(modules: list[nn.Module], loss, batches, epochs: int, rate: float, sam: float = 0.0, average: int = 0) -> None:
    """Train `modules` in place by AdamW with one cycle of the rate. `loss(rows)` of each of `batches()`, as many in each epoch.

    With `sam` each step takes the gradient that far uphill (Foret et al. 2021); with `average` the weights end as the mean of those
    after the last so many epochs.
    """
    weights = [p for module in modules for p in module.parameters()]
    optimiser, schedule, kept = torch.optim.AdamW(weights, rate, weight_decay=0.01), None, []
    for epoch in range(epochs):
        todo = batches()
        schedule = schedule or torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * len(todo))
        for rows in todo:
            state = torch.get_rng_state()
            optimiser.zero_grad()
            loss(rows).backward()
            if sam:
                with torch.no_grad():
                    norm = torch.sqrt(sum(p.grad.square().sum() for p in weights)) + 1e-12
                    uphill = [p.grad * (sam / norm) for p in weights]
                    torch._foreach_add_(weights, uphill)
                torch.set_rng_state(state)  # the same units are dropped
                optimiser.zero_grad()
                loss(rows).backward()
                with torch.no_grad():
                    torch._foreach_sub_(weights, uphill)
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            schedule.step()
        if epoch >= epochs - average:
            kept.append([p.detach().clone() for p in weights])
    with torch.no_grad():
        for p, values in zip(weights, zip(*kept, strict=True), strict=False):
            p.copy_(torch.stack(values).mean(0))
    for module in modules:
        module.eval()


def _balance(label: torch.Tensor) -> torch.Tensor:
    return torch.where(label == 1, 0.5 / label.mean(), 0.5 / (1 - label.mean()))


def perceptron(x: np.ndarray, label: np.ndarray, seed: int, width: int = 256, epochs: int = 10, contrast: float = 0.0,
               mixup: float = 0.0, sam: float = 0.0, average: int = 0):
    """Two hidden layers on features (N, D); returns `scores(rows)`, higher is more real.

    Args: `contrast` weighs `supervised_contrast` on the last hidden layer; `mixup` is the parameter of its beta distribution (Zhang
    et al. 2018); `sam` and `average` as in `_descend`.
    """
    torch.manual_seed(seed)
    rng, centre, scale = np.random.default_rng(seed), x.mean(0), x.std()
    x, y = torch.from_numpy(((x - centre) / scale).astype(np.float32)), torch.from_numpy(label.astype(np.float32))
    body = nn.Sequential(nn.Linear(x.shape[1], width), nn.GELU(), nn.Dropout(0.5),
                         nn.Linear(width, width), nn.GELU(), nn.Dropout(0.5))
    head, weight = nn.Linear(width, 1), _balance(y)

    def loss(rows):
        z, target, share = x[rows], y[rows], weight[rows]
        if mixup:
            other, part = torch.randperm(len(rows)), torch.from_numpy(rng.beta(mixup, mixup, len(rows)).astype(np.float32))
            z = part[:, None] * z + (1 - part[:, None]) * z[other]
            target, share = part * target + (1 - part) * target[other], part * share + (1 - part) * share[other]
        hidden = body(z)
        found = F.binary_cross_entropy_with_logits(head(hidden)[:, 0], target, share)
        return found + contrast * supervised_contrast(hidden, y[rows]) if contrast else found

    _descend([body, head], loss, lambda: torch.randperm(len(x)).tensor_split(max(1, len(x) // 128)), epochs, 1e-3, sam, average)

    @torch.inference_mode()
    def scores(rows: np.ndarray) -> np.ndarray:
        return head(body(torch.from_numpy(((rows - centre) / scale).astype(np.float32))))[:, 0].numpy()

    return scores


class Frames:
    """Frames of clips in one memory-mapped file: `self[i]` is (T, LAYERS, D), float16."""

    def __init__(self, folder: Path):
        self.values, self.ends = np.load(folder / "frames.npy", mmap_mode="r"), np.load(folder / "ends.npy")

    def __getitem__(self, i: int) -> np.ndarray:
        return self.values[self.ends[i - 1] if i else 0 : self.ends[i]]


@torch.inference_mode()
def _frames_here(waves: list[np.ndarray], part: Path) -> list[int]:
    backbone, result = probe._backbone("whisper-base", LAYERS - 1), []
    for wave in waves:
        mel = backbone.prepare(wave[: LONGEST * 160])
        depths = backbone.stem(mel[None], torch.tensor([len(mel)]))
        result.append(torch.stack([x[0] for x, _ in depths], dim=1).half().numpy())
    np.save(part, np.concatenate(result))
    return [len(r) for r in result]


def frames(waves: list[np.ndarray], home: Path, label: str = "") -> Path:
    """Folder under `home` with Whisper base's frames of 8 kHz waves, made once a set of waves and of code."""
    digest = hashlib.sha256(stems.code_digest() + Path(__file__).read_bytes())
    for wave in waves:
        digest.update(hashlib.sha256(np.ascontiguousarray(wave)).digest())
    folder = home / digest.hexdigest()[:24]
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "ends.npy").exists():
        cuts = np.array_split(np.arange(len(waves)), max(1, len(waves) // 50))
        jobs = [([waves[i] for i in cut], folder / f"part{n}.npy") for n, cut in enumerate(cuts)]
        ends = np.cumsum([size for sizes in workers.in_processes(_frames_here, jobs, label) for size in sizes])
        with paths.whole(folder / "frames.npy") as part:
            first = np.load(jobs[0][1], mmap_mode="r")
            joined, at = np.lib.format.open_memmap(part, "w+", np.float16, (int(ends[-1]), *first.shape[1:])), 0
            for _, place in jobs:
                piece = np.load(place, mmap_mode="r")
                joined[at : at + len(piece)], at = piece, at + len(piece)
            joined.flush()
        for _, place in jobs:
            place.unlink()
        with paths.whole(folder / "ends.npy") as part, part.open("wb") as file:  # last: the mark of a finished folder
            np.save(file, ends)
    return folder


def attentive(clips: Frames, rows: np.ndarray, label: np.ndarray, seed: int, epochs: int = 6, crop: tuple[int, int] = (100, 100)):
    """Train `Attentive` on crops of clips, as many frames as `crop` bounds (one length a batch).

    A crop has its clip's label, also where only another part of the clip is fake.
    Returns `scores(rows)`, which has the trained `network` as an attribute.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    some = np.concatenate([clips[i][::10] for i in rng.choice(rows, min(len(rows), 400), replace=False)]).astype(np.float32)
    network = Attentive(torch.from_numpy(some.mean(0)), torch.from_numpy(some.std(0) + 1e-4))
    y = torch.from_numpy(label.astype(np.float32))
    weight = _balance(y)

    def loss(chosen):
        length, parts = int(rng.integers(crop[0], crop[1] + 1)), []
        for i in chosen:
            clip = clips[rows[i]]
            start = int(rng.integers(max(1, len(clip) - length + 1)))
            parts.append(torch.from_numpy(clip[start : start + length].astype(np.float32)))
        logits = network(nn.utils.rnn.pad_sequence(parts, batch_first=True), torch.tensor([len(part) for part in parts]))
        return F.binary_cross_entropy_with_logits(logits, y[chosen], weight[chosen])

    _descend([network], loss, lambda: torch.randperm(len(rows)).tensor_split(max(1, len(rows) // 32)), epochs, 1e-3)

    @torch.inference_mode()
    def scores(judged: np.ndarray) -> np.ndarray:
        return np.array([float(network(torch.from_numpy(clips[i].astype(np.float32))[None], torch.tensor([len(clips[i])])))
                         for i in judged])

    scores.network = network
    return scores


def judge(clips: pd.DataFrame, seed: int, heads: dict[str, dict | None], clean: np.ndarray, copies: ladder.Copies | None = None,
          windows: tuple[np.ndarray, np.ndarray] | None = None) -> dict[str, pd.DataFrame]:
    """The released detector's kernel machine, and other heads on its projection, on all views (`ladder.on_views`).

    Args: `heads` name → None (logistic regression) or options of `perceptron`; `clean` features (N, D) of `clips`; `copies` train
    too, each where all that it is made of does; of `windows` (features (W, D), owner (W,)) the kernel gives two more rungs: their
    mean, and the mean of the lowest quarter.
    """

    def learn(known, judged):
        x, y = ladder.training_rows(clips, clean, known, copies)
        machine = detector.fit(x, y)
        project = machine[:-1]
        z, asked = project.transform(x), project.transform(clean[judged])
        real, found = z[y == 1], {}
        judges = {"kernel": machine[-1].decision_function}
        for name, options in heads.items():
            judges[name] = probe.fit(z, y).decision_function if options is None else perceptron(z, y, seed, **options)
        for name, scores in judges.items():
            found[name] = scores(asked), scores(real)
        if windows is not None:
            mine = np.isin(windows[1], np.flatnonzero(judged))
            each = pd.Series(machine.decision_function(windows[0][mine])).groupby(windows[1][mine])
            for name, summary in (("windows, mean", "mean"), ("windows, lowest quarter", lowest_quarter)):
                found[name] = each.agg(summary).loc[np.flatnonzero(judged)].to_numpy(), found["kernel"][1]
        return found

    return ladder.on_views(clips, seed, learn, rotations=1)


def judge_frames(clips: pd.DataFrame, seed: int, folder: Path, others: tuple[np.ndarray, np.ndarray],
                 lengths: dict[str, tuple[int, int]], epochs: int) -> dict[str, pd.DataFrame]:
    """`attentive` on all views: `folder` of `frames` of `clips` and then of others, of which `others` tells labels and families (M,).

    `lengths` name → bounds of the crops, in frames.
    """
    every, label = Frames(folder), clips["label"].to_numpy()

    def learn(known, judged):
        also = ladder.may_train(clips, known, others[1])
        rows = np.concatenate([np.flatnonzero(known), len(clips) + np.flatnonzero(also)])
        y, found = np.concatenate([label[known], others[0][also]]), {}
        for name, crop in lengths.items():
            scores = attentive(every, rows, y, seed, epochs, crop)
            found[name] = scores(np.flatnonzero(judged)), scores(rows[y == 1][::4])
        return found

    return ladder.on_views(clips, seed, learn, rotations=1)


def lowest_quarter(scores: pd.Series) -> float:
    """Mean of the lowest quarter of scores, at least one: a clip is as fake as its most fake part."""
    return float(np.sort(scores)[: max(1, len(scores) // 4)].mean())
