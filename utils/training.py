"""Fine-tune a backbone with a small head, fold by fold, and score clips. Scores are log-odds of real.

Linear probing first, then fine-tuning (Kumar et al. 2022): the head starts as the logistic regression on frozen features,
so the encoder moves from there instead of being shaken by a random head.
"""
import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from utils import augment, backbones, paths


@dataclass(frozen=True)
class Config:
    """Everything that decides a fold's weights besides its data; stored beside them and hashed for reuse."""

    backbone: str
    layers: int = 2  # of a transformer, from below
    epochs: int = 2
    encoder_lr: float = 2e-5
    head_lr: float = 2e-4
    batch: int = 8
    max_s: float = 15.0
    head_c: float = 0.003  # inverse strength of the L2 penalty of the starting head
    spec_augment: float = 0.1  # share of frames and of bands masked, each
    fake_weight: float = 1.0  # above 1: a stricter model, misses fewer fakes
    probabilities: dict = field(default_factory=lambda: dict(augment.PROBABILITIES))
    seed: int = 2024


class Detector(nn.Module):
    """Backbone → statistics over real frames of each depth → standardised → linear. One logit of real a clip."""

    def __init__(self, backbone: nn.Module, size: int):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(size, 1)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def forward(self, batch: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        return self.head((pool(self.backbone(batch, frames)) - self.centre) / self.scale)[:, 0]


def pool(depths: list) -> torch.Tensor:
    """Per depth: mean, deviation and mean absolute change from frame to frame, over valid frames only: (B, features)."""
    parts = []
    for x, frames in depths:
        valid = (torch.arange(x.shape[1])[None] < frames[:, None])[..., None]
        count = frames[:, None].to(x.dtype)
        mean = (x * valid).sum(1) / count
        spread = ((x - mean[:, None]).square() * valid).sum(1) / count
        change = ((x[:, 1:] - x[:, :-1]).abs() * valid[:, 1:]).sum(1) / (count - 1)
        parts += [mean, (spread + 1e-6).sqrt(), change]
    return torch.cat(parts, dim=1)


def collate(features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad a list of (frames, bands) to one batch; returns (batch, valid frames)."""
    return nn.utils.rnn.pad_sequence(features, batch_first=True), torch.tensor([len(f) for f in features])


@torch.inference_mode()
def pooled(backbone: nn.Module, waves: list[np.ndarray], label: str = "") -> np.ndarray:
    """Frozen features of clips (8 kHz), one after another at their own length: float32 (clips, features)."""
    backbone.eval()
    rows = [pool(backbone(*collate([backbone.prepare(wave)]))).numpy()[0] for wave in _progress(waves, label)]
    return np.stack(rows)


@torch.inference_mode()
def score(model: Detector, waves: list[np.ndarray], max_s: float, label: str = "") -> np.ndarray:
    """Log-odds of real for each 8 kHz clip, cut to `max_s` seconds; alone in its batch, so company cannot change it."""
    model.eval()
    size = int(max_s * 8000)
    return np.array([float(model(*collate([model.backbone.prepare(wave[:size])]))) for wave in _progress(waves, label)])


def _progress(items, label: str):
    return tqdm(items, desc=label, disable=not label, leave=False, mininterval=0.5 if sys.stderr.isatty() else 20)


def spec_augment(features: torch.Tensor, share: float, rng: np.random.Generator, span: int = 10) -> torch.Tensor:
    """Mask spans of frames and of bands with the clip's mean, about `share` of each (Park et al. 2019)."""
    features = features.clone()
    for axis in (0, 1):
        for _ in range(rng.poisson(share * features.shape[axis] / span)):
            start = rng.integers(features.shape[axis])
            features.narrow(axis, start, min(span, features.shape[axis] - start)).fill_(features.mean())
    return features


def views(waves: list, labels: np.ndarray, config: Config, count: int) -> tuple[list, np.ndarray]:
    """`count` augmented copies of each clip for the starting head. No splicing: folds share these copies."""
    alone = config.probabilities | {"splice": 0.0}
    made = [augment.augment(wave, int(label), np.random.default_rng((config.seed, view, i)), [], [], alone)
            for view in range(1, count + 1) for i, (wave, label) in enumerate(zip(waves, labels, strict=True))]
    return [wave for wave, _, _ in made], np.array([label for _, label, _ in made])


def start(config: Config, features: np.ndarray, labels: np.ndarray) -> Detector:
    """A detector whose head is the logistic regression on frozen `features` (rows as `labels`)."""
    torch.manual_seed(config.seed)
    model = Detector(backbones.load(config.backbone, config.layers), features.shape[1])
    centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-4
    fitted = LogisticRegression(C=config.head_c, max_iter=300, class_weight={0: config.fake_weight, 1: 1.0})
    fitted.fit((features - centre) / scale, labels)
    model.centre.copy_(torch.from_numpy(centre))
    model.scale.copy_(torch.from_numpy(scale))
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(fitted.coef_.astype(np.float32)))
        model.head.bias.copy_(torch.from_numpy(fitted.intercept_.astype(np.float32)))
    return model


def fine_tune(model: Detector, waves: list, labels: np.ndarray, config: Config, label: str = "") -> list[float]:
    """Train in place for `config.epochs`; returns the mean loss of each epoch.

    Every draw (augmentation, masks, order) follows from the seed, the epoch and the clip's place, so a fold repeats.
    """
    real, fake = ([w for w, y in zip(waves, labels, strict=True) if y == kind] for kind in (1, 0))
    groups = [{"params": [p for p in model.backbone.parameters() if p.requires_grad], "lr": config.encoder_lr},
              {"params": model.head.parameters(), "lr": config.head_lr}]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = config.epochs * -(-len(waves) // config.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [g["lr"] for g in groups], total_steps=steps, pct_start=0.1)
    losses = []
    for epoch in range(config.epochs):
        model.train()
        rng = np.random.default_rng((config.seed, epoch))
        order, total = rng.permutation(len(waves)), 0.0
        made = {}

        def prepare(i, epoch=epoch, made=made):
            draw = np.random.default_rng((config.seed, epoch + 100, i))
            wave, target, _ = augment.augment(waves[i], int(labels[i]), draw, real, fake, config.probabilities)
            features = model.backbone.prepare(wave[: int(config.max_s * 8000)])
            made[i] = spec_augment(features, config.spec_augment, draw), target

        batches = []
        for at in range(0, len(order), config.batch * 8):  # clips of like length share a batch: little padding
            pool_ = order[at : at + config.batch * 8]
            pool_ = pool_[np.argsort([len(waves[i]) for i in pool_], kind="stable")]
            batches += [pool_[i : i + config.batch] for i in range(0, len(pool_), config.batch)]
        for rows in _progress([batches[i] for i in rng.permutation(len(batches))], f"{label} epoch {epoch + 1}"):
            for i in rows:
                prepare(i)
            batch, frames = collate([made[i][0] for i in rows])
            target = torch.tensor([made.pop(i)[1] for i in rows], dtype=torch.float32)
            weight = torch.where(target == 0, config.fake_weight, 1.0)
            loss = F.binary_cross_entropy_with_logits(model(batch, frames), target, weight)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        losses.append(total / len(waves))
    return losses


def fold_key(config: Config, train_ids: list[str], labels: np.ndarray) -> str:
    """Hash of what decides a fold's weights: settings, training clips and labels, and the code that trains."""
    code = b"".join((paths.ROOT / "utils" / f).read_bytes()
                    for f in ("training.py", "backbones.py", "campplus.py", "augment.py", "audio.py"))
    text = json.dumps([asdict(config), train_ids, [int(y) for y in labels]], sort_keys=True)
    return hashlib.sha256(code + text.encode()).hexdigest()[:16]


def finished(folder: Path, key: str) -> dict | None:
    """The record of a finished fold if it was made from the same `key`, else None."""
    record = folder / "done.json"
    if record.exists() and (found := paths.read_json(record))["key"] == key:
        return found
    return None


def run_fold(config: Config, folder: Path, train: pd.DataFrame, valid: pd.DataFrame, test: pd.DataFrame, clips: dict,
             features: dict, label: str = "") -> dict:
    """Train on `train`, score `valid` and `test`, keep weights and scores in `folder`; reuse it if it is finished.

    Args: tables with `id` (and `label`); clips id → wave; features id → rows of frozen features (clean first, then views)
    with their labels as (array, labels). Returns the fold's record: key, losses, seconds, scores by id.
    """
    labels = train["label"].to_numpy(dtype=int)
    key = fold_key(config, train["id"].tolist(), labels)
    if (record := finished(folder, key)) is not None:
        return record
    began = time.perf_counter()
    stacked = [features[i] for i in train["id"]]
    model = start(config, np.concatenate([rows for rows, _ in stacked]), np.concatenate([y for _, y in stacked]))
    frozen = {"valid": dict(zip(valid["id"], head_scores(model, [features[i][0][0] for i in valid["id"]]), strict=True))}
    losses = fine_tune(model, [clips[i] for i in train["id"]], labels, config, label) if config.epochs else []
    scored = {kind: dict(zip(table["id"], score(model, [clips[i] for i in table["id"]], config.max_s, f"{label} {kind}")
                             .tolist(), strict=True)) for kind, table in (("valid", valid), ("test", test))}
    with paths.whole(folder / "weights.safetensors") as part:
        save_file(model.state_dict(), part)
    record = {"key": key, "config": asdict(config), "losses": losses, "seconds": round(time.perf_counter() - began, 1),
              "frozen": frozen, "scores": scored}
    paths.write_json(folder / "done.json", record)
    return record


def head_scores(model: Detector, rows: list) -> list[float]:
    """Log-odds of the head on frozen feature rows."""
    with torch.inference_mode():
        return model.head((torch.from_numpy(np.stack(rows)) - model.centre) / model.scale)[:, 0].tolist()


def load_fold(folder: Path) -> Detector:
    """Rebuild a finished fold's detector from its own config and weights."""
    config = Config(**paths.read_json(folder / "done.json")["config"])
    state = load_file(folder / "weights.safetensors")
    model = Detector(backbones.load(config.backbone, config.layers), len(state["centre"]))
    model.load_state_dict(state)
    return model.eval()
