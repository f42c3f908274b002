"""Fine-tune an encoder with a small head, fold by fold, and score clips by log-odds of bona fide.

Linear probing first, then fine-tuning (LP-FT, Kumar et al., ICLR 2022): the head starts as the
logistic regression on frozen features, so that a random head does not disturb the encoder. The
frozen lower layers run once per clip, and all folds and epochs share their output. Folds train in
single-threaded processes: results do not depend on the number of cores.
"""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F

from utils import parallel, paths
from utils.audio import augmentation
from utils.code_digest import code_digest
from utils.models import encoders
from utils.models.frozen_features import MAX_S, FrozenFeatures, pool

# Values (clips × frames × channels) of one depth in a micro-batch: 32 s of audio in Whisper base.
VALUES_PER_STEP = 819_200


@dataclass(frozen=True)
class Config:
    """Everything that decides a model besides its data; stored beside the weights and hashed."""

    backbone: str
    layers: int = 3  # of a transformer, counted from below
    tuned: int = 1  # of these, counted from above, that fine-tuning moves (Whisper)
    augmented_per_clip: int = 1  # augmented clips per training clip, beside the clean one
    epochs: int = 1
    encoder_lr: float = 1e-4  # peak learning rate
    head_lr: float = 2e-5  # small: the head starts at its optimum
    batch: int = 8  # clips of median length per step
    max_s: float = MAX_S
    head_c: float = 0.001  # inverse strength of the L2 penalty of the starting head
    spec_augment: float = 0.1  # fraction of frames, and of bands, masked in augmented clips
    spoof_weight: float = 1.0  # above 1: stricter, fewer spoofed clips pass
    probabilities: dict = field(default_factory=lambda: dict(augmentation.PROBABILITIES))
    seed: int = 2024


class Classifier(nn.Module):
    """Backbone → statistics over real frames of each depth → standardised → linear → one logit."""

    def __init__(self, backbone: nn.Module, size: int):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(size, 1)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def logits_of(self, statistics: torch.Tensor) -> torch.Tensor:
        """Logits (B,) from the statistics of all depths (B, size)."""
        return self.head((statistics.to(self.centre.dtype) - self.centre) / self.scale)[:, 0]

    def logits_from_lower_layers(
        self, lower_statistics: torch.Tensor, x: torch.Tensor, frames: torch.Tensor
    ) -> torch.Tensor:
        """Logits (B,) from the output of the lower layers: the statistics of all depths (B, S) and
        the last depth (B, T, D), of which the first `frames` (B,) are real."""
        upper_statistics = pool(self.backbone.upper_layers(x, frames))
        return self.logits_of(torch.cat([lower_statistics, upper_statistics], dim=1))

    def forward(self, batch: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Logits (B,) from input features (B, T, bands), of which the first `frames` are real."""
        depths = self.backbone.lower_layers(batch, frames)
        return self.logits_from_lower_layers(pool(depths), *depths[-1])


def augmented_clips(
    train: pd.DataFrame, waves: dict[str, np.ndarray], config: Config
) -> tuple[list[np.ndarray], pd.DataFrame]:
    """Clean and augmented training clips.

    Args: `train` with id, label, fold; `waves` at 8 kHz by id. A clip is spliced with clips of its
    own fold only, so that an augmented clip stays inside the fold. All random choices follow from
    the seed, the number of the augmentation and the clip's id.
    Returns (waves, rows): rows with id, augmentation (0: clean, k: k-th augmented clip), label,
    fold, effects (names with spaces between).
    """
    of_class = {
        key: [waves[i] for i in clips["id"]] for key, clips in train.groupby(["fold", "label"])
    }
    result, rows = [], []
    for number in range(config.augmented_per_clip + 1):
        for row in train.itertuples():
            clip = augmentation.Augmented(waves[row.id], int(row.label))
            if number:
                rng = parallel.seeded_rng(config.seed, number, row.id)
                pools = [of_class.get((row.fold, label), []) for label in (1, 0)]
                clip = augmentation.augment(
                    clip.wave, clip.label, rng, *pools, config.probabilities
                )
            result.append(clip.wave)
            rows.append((row.id, number, clip.label, row.fold, " ".join(clip.effects)))
    return result, pd.DataFrame(rows, columns=["id", "augmentation", "label", "fold", "effects"])


def initial_model(config: Config, features: np.ndarray, labels: np.ndarray) -> Classifier:
    """A classifier whose head is the logistic regression on frozen features.

    Args: `features` (N, D), the statistics of lower and upper layers; `labels` (N,).
    """
    torch.manual_seed(config.seed)
    backbone = encoders.load(config.backbone, config.layers, config.tuned)
    model = Classifier(backbone, features.shape[1])
    centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-4
    weights = {0: config.spoof_weight, 1: 1.0}
    fitted = LogisticRegression(C=config.head_c, max_iter=300, class_weight=weights)
    fitted.fit((features - centre) / scale, labels)
    with torch.no_grad():
        model.centre.copy_(torch.from_numpy(centre))
        model.scale.copy_(torch.from_numpy(scale))
        model.head.weight.copy_(torch.from_numpy(fitted.coef_.astype(np.float32)))
        model.head.bias.copy_(torch.from_numpy(fitted.intercept_.astype(np.float32)))
    return model


# ---------------------------------------------------------------- training
def micro_batches(clips: int, values: int) -> list[slice]:
    """Micro-batches: pieces of a batch of `clips`, with at most `VALUES_PER_STEP` values each.

    `values` (frames × channels) are those of one clip, which alone may exceed the limit. Gradients
    of the pieces add up to those of the batch: this bounds memory and does not change the model.
    """
    size = max(1, VALUES_PER_STEP // values)
    return [slice(start, start + size) for start in range(0, clips, size)]


def _backward(model: Classifier, batch: list[torch.Tensor], clips: int) -> list[float]:
    """Add the gradients of a batch, of `clips` over all processes; summed loss per micro-batch."""
    statistics, x, frames, target, weight = batch
    losses = []
    for part in micro_batches(len(x), x[0].numel()):
        logits = model.logits_from_lower_layers(statistics[part], x[part], frames[part])
        loss = F.binary_cross_entropy_with_logits(
            logits, target[part], weight[part], reduction="sum"
        )
        loss = loss / clips
        loss.backward()
        losses.append(float(loss.detach()) * clips)
    return losses


def fine_tune(
    model: Classifier,
    data: FrozenFeatures,
    rows: np.ndarray,
    labels: np.ndarray,
    config: Config,
    team=None,
) -> tuple[list[float], list[float]]:
    """Train upper layers and head in place on `rows` of `data`.

    Returns the mean loss of a clip in each epoch, and in each step. A clip longer than the median
    is cut to a stretch of median length, at random in each epoch. With a `team`
    (`pipeline.distributed.Team`), all processes call this alike, each computes its part of a batch.
    """
    device = team.device if team else torch.device("cpu")
    model.to(device)
    encoder = {"params": list(model.backbone.parameters()), "lr": config.encoder_lr}
    head = {"params": list(model.head.parameters()), "lr": config.head_lr}
    optimiser = torch.optim.AdamW([encoder, head], weight_decay=0.01)
    peaks, schedule, losses, steps = [config.encoder_lr, config.head_lr], None, [], []
    for epoch in range(config.epochs):
        model.train()
        rng, total = np.random.default_rng((config.seed, epoch)), 0.0
        batches, longest = data.training_batches(rows, config.batch, rng)
        schedule = schedule or torch.optim.lr_scheduler.OneCycleLR(
            optimiser, peaks, total_steps=max(11, config.epochs * len(batches)), pct_start=0.1
        )  # it divides by zero where a tenth of the steps is exactly one
        for index in rng.permutation(len(batches)):
            chosen = batches[index]
            target = torch.from_numpy(labels[chosen].astype(np.float32))
            weight = torch.where(target == 0, config.spoof_weight, 1.0)
            batch = [*data.batch(rows[chosen], longest, rng), target, weight]
            if team:
                batch = team.own_clips(batch)
            optimiser.zero_grad()
            loss = sum(_backward(model, [tensor.to(device) for tensor in batch], len(chosen)))
            if team:
                team.sum_gradients(model)
                loss = team.sum(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            steps.append(loss / len(chosen))
            total += loss
        losses.append(total / len(rows))
    return losses, steps


def key_of(
    config: Config, fold: int, table: pd.DataFrame, features: Path, distribution: str = ""
) -> str:
    """Hash of all that a fold's result depends on. `distribution`: over which processes, if any."""
    settings = json.dumps([asdict(config), fold, distribution])
    digest = hashlib.sha256(features.name.encode() + settings.encode())
    digest.update(table.to_csv().encode() + code_digest(run_fold).encode())
    return digest.hexdigest()[:16]


@torch.inference_mode()
def _scores(model: Classifier, data: FrozenFeatures, rows: np.ndarray, team=None) -> list[float]:
    """Log-odds of bona fide of `rows`, each alone in its batch: other clips cannot matter."""
    model.eval()
    device, scores = model.head.weight.device, {}
    for row in rows[team.rank :: team.size] if team else rows:
        batch = [tensor.to(device) for tensor in data.batch(np.array([row]))]
        scores[int(row)] = float(model.logits_from_lower_layers(*batch))
    if team:
        scores = team.gather(scores)
    return [scores[row] for row in rows.tolist()]


def run_fold(
    config: Config, fold: int, table: pd.DataFrame, features: Path, folder: Path, team=None
) -> dict:
    """Train on the other folds, then score this fold and the test set.

    The head starts from all clips; fine-tuning sees the augmented ones, if there are any.

    Args:
        table: id, augmentation, label, fold (-1: test set), one row for each clip of the
            `FrozenFeatures` in the folder `features`.
        folder: keeps `weights.safetensors` and the record, `done.json`; reused if they fit.
        team: as in `fine_tune`.
    Returns the record: key, config, seconds, losses (of epochs) and step_losses, and scores of
    clean clips by id: "frozen" (before fine-tuning) and "tuned" (after it).
    """
    key = key_of(config, fold, table, features, team.distribution if team else "")
    record = finished(folder, key)
    if record is not None:
        return record
    began = time.perf_counter()
    rows = np.flatnonzero((table["fold"] != fold) & (table["fold"] >= 0))
    clean = (table["fold"] == fold) & (table["augmentation"] == 0)
    scored = np.flatnonzero(clean | (table["fold"] == -1))
    labels = table["label"].to_numpy()[rows].astype(int)
    data = FrozenFeatures.open(features)
    statistics = np.concatenate([data.lower, data.upper], axis=1)
    model = initial_model(config, statistics[rows], labels)
    with torch.inference_mode():
        frozen = model.logits_of(torch.from_numpy(statistics[scored])).tolist()
    augmented = table["augmentation"].to_numpy()[rows] > 0
    seen = augmented if augmented.any() else ~augmented
    losses, steps = fine_tune(model, data, rows[seen], labels[seen], config, team)
    tuned = _scores(model, data, scored, team)
    if team and team.rank:
        return {}  # the first process writes
    with paths.whole(folder / "weights.safetensors") as temporary:
        weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, temporary)
    ids = table["id"].iloc[scored].tolist()
    record = {
        "key": key,
        "config": asdict(config),
        "losses": losses,
        "step_losses": [round(loss, 4) for loss in steps],
        "seconds": round(time.perf_counter() - began, 1),
        "frozen": dict(zip(ids, frozen, strict=True)),
        "tuned": dict(zip(ids, tuned, strict=True)),
    }
    paths.write_json(folder / "done.json", record)
    return record


def finished(folder: Path, key: str) -> dict | None:
    """The record of a finished fold that was made under `key` and has its weights, else None."""
    if not (folder / "done.json").exists() or not (folder / "weights.safetensors").exists():
        return None
    record = paths.read_json(folder / "done.json")
    return record if record["key"] == key else None


def load_fold(folder: Path) -> Classifier:
    """A finished fold's classifier. Raises ValueError, naming the file, if weights are damaged."""
    config = Config(**paths.read_json(folder / "done.json")["config"])
    try:
        state = load_file(folder / "weights.safetensors")
    except SafetensorError as error:
        raise ValueError(
            f"{folder / 'weights.safetensors'}: damaged ({error}). "
            f"Remove {folder} and run notebook 04 again"
        ) from error
    backbone = encoders.load(config.backbone, config.layers, config.tuned)
    model = Classifier(backbone, len(state["centre"]))
    model.load_state_dict(state)
    return model.eval()
