"""Fine-tune a backbone with a small head, fold by fold, and score clips. Scores are log-odds of real.

Linear probing first, then fine-tuning (Kumar et al. 2022): the head starts as the logistic regression on frozen features,
so the encoder moves from there instead of being shaken by a random head. The frozen stem runs once a clip and its output
is shared by all folds and epochs. Work goes to single-threaded processes: results do not depend on the number of cores.
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
from utils.audio.dsp import RATE
from utils.code_digest import code_digest
from utils.models import encoders, frozen_features
from utils.models.frozen_features import MAX_S, FrozenFeatures, pool

VALUES_PER_STEP = 819_200  # values (clips × frames × width) of a depth that a step holds at a time: 32 s of Whisper base's


@dataclass(frozen=True)
class Config:
    """Everything that decides a model besides its data; stored beside the weights and hashed for reuse."""

    backbone: str
    layers: int = 3  # of a transformer, from below
    tuned: int = (
        1  # of these layers of Whisper, from above, that fine-tuning moves; those below stay frozen
    )
    views: int = 1  # augmented copies of each training clip, beside the clean one
    epochs: int = 1
    body_lr: float = 1e-4
    head_lr: float = 2e-5  # small: the head starts at its optimum
    batch: int = 8  # clips of median length a step
    max_s: float = MAX_S
    head_c: float = 0.001  # inverse strength of the L2 penalty of the starting head
    spec_augment: float = 0.1  # share of frames and of bands masked in augmented copies, each
    spoof_weight: float = 1.0  # above 1: a stricter model, misses fewer fakes
    probabilities: dict = field(default_factory=lambda: dict(augmentation.PROBABILITIES))
    seed: int = 2024


class Classifier(nn.Module):
    """Backbone → statistics over real frames of each depth → standardised → linear. One logit of real a clip."""

    def __init__(self, backbone: nn.Module, size: int):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(size, 1)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def finish(
        self, lower_statistics: torch.Tensor, x: torch.Tensor, frames: torch.Tensor
    ) -> torch.Tensor:
        """Logits from the stem's statistics (B, S) and its last depth (B, T, D) with valid `frames`."""
        return self.judge(
            torch.cat([lower_statistics, pool(self.backbone.upper_layers(x, frames))], dim=1)
        )

    def judge(self, statistics: torch.Tensor) -> torch.Tensor:
        """Logits (B,) from the statistics of all depths (B, F)."""
        return self.head((statistics.to(self.centre.dtype) - self.centre) / self.scale)[:, 0]

    def forward(self, batch: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        depths = self.backbone.lower_layers(batch, frames)
        return self.finish(pool(depths), *depths[-1])


def augmented_clips(
    train: pd.DataFrame, waves: dict, config: Config
) -> tuple[list[np.ndarray], pd.DataFrame]:
    """Clean and augmented training clips: (waves, rows with id, view, label, fold, done).

    A copy may be spliced with clips of its own fold only, so that it stays inside that fold. Every draw follows from the
    seed, the view and the clip's id.
    """
    pools = {
        fold: [[waves[i] for i in part.loc[part["label"] == kind, "id"]] for kind in (1, 0)]
        for fold, part in train.groupby("fold")
    }
    made, rows = [], []
    for view in range(config.views + 1):
        for row in train.itertuples():
            wave, label, done = waves[row.id], int(row.label), []
            if view:
                rng = parallel.seeded_rng(config.seed, view, row.id)
                wave, label, done = augmentation.augment(
                    wave, label, rng, *pools[row.fold], config.probabilities
                )
            made.append(wave)
            rows.append(
                {
                    "id": row.id,
                    "view": view,
                    "label": label,
                    "fold": row.fold,
                    "done": " ".join(done),
                }
            )
    return made, pd.DataFrame(rows)


def initial_model(config: Config, features: np.ndarray, labels: np.ndarray) -> Classifier:
    """A detector whose head is the logistic regression on frozen `features` (stem and body statistics)."""
    torch.manual_seed(config.seed)
    model = Classifier(
        encoders.load(config.backbone, config.layers, config.tuned), features.shape[1]
    )
    centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-4
    fitted = LogisticRegression(
        C=config.head_c, max_iter=300, class_weight={0: config.spoof_weight, 1: 1.0}
    )
    fitted.fit((features - centre) / scale, labels)
    with torch.no_grad():
        model.centre.copy_(torch.from_numpy(centre))
        model.scale.copy_(torch.from_numpy(scale))
        model.head.weight.copy_(torch.from_numpy(fitted.coef_.astype(np.float32)))
        model.head.bias.copy_(torch.from_numpy(fitted.intercept_.astype(np.float32)))
    return model


def micro_batches(clips: int, values: int) -> list[slice]:
    """Cuts of a batch of `clips`, each of so many `values`, that stay within `HELD` (one clip may exceed it alone).

    Gradients of the parts add up to the batch's: long clips cost no more memory than short ones, and no page faults.
    """
    size = max(1, VALUES_PER_STEP // values)
    return [slice(at, at + size) for at in range(0, clips, size)]


def sum_gradients(model: nn.Module, team) -> None:
    """Replace each gradient by the sum of those of all processes of `team`, in one message."""
    held = [p.grad for p in model.parameters() if p.grad is not None]
    flat = team.reduce(torch.cat([grad.flatten() for grad in held]), "sum")
    for grad, summed in zip(held, flat.split([grad.numel() for grad in held]), strict=True):
        grad.copy_(summed.view_as(grad))


def fine_tune(
    model: Classifier,
    data: FrozenFeatures,
    rows: np.ndarray,
    labels: np.ndarray,
    config: Config,
    team=None,
) -> list[float]:
    """Train body and head in place on `rows` of `data`; returns the mean loss of each epoch.

    Of a clip longer than the median each epoch sees one stretch of median length, drawn anew. Clips of like length share a
    batch, as many as have the frames of `config.batch` clips of median length: a step costs alike whatever its clips, there is
    little padding, and attention and pooling see none of it (CAM++'s masks do). With a `team` (accelerate's Accelerator, see
    `utils/together.py`) all its processes call this alike, and each computes its share of every batch.
    """
    rank, size, device = (
        (team.process_index, team.num_processes, team.device)
        if team
        else (0, 1, torch.device("cpu"))
    )
    model.to(device)
    groups = [
        {"params": list(model.backbone.parameters()), "lr": config.body_lr},
        {"params": list(model.head.parameters()), "lr": config.head_lr},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
    lengths, losses, schedule = np.diff(data.ends, prepend=0)[rows], [], None
    longest = int(np.median(lengths))
    like, budget = (np.minimum(lengths, longest) // 25 + 1) * 25, config.batch * longest
    for epoch in range(config.epochs):
        model.train()
        rng, total = np.random.default_rng((config.seed, epoch)), 0.0
        order = rng.permutation(len(rows))
        batches = [
            order[batch] for batch in frozen_features.batches(like[order], budget)
        ]  # as many in each epoch
        schedule = schedule or torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            [config.body_lr, config.head_lr],
            total_steps=config.epochs * len(batches),
            pct_start=0.1,
        )
        for index in rng.permutation(len(batches)):
            chosen = batches[index]
            target = torch.from_numpy(labels[chosen].astype(np.float32))
            weight = torch.where(target == 0, config.spoof_weight, 1.0)
            batch = *data.batch(rows[chosen], longest, rng), target, weight
            if size > 1:  # no share is empty: gradients would be missing
                batch = [part[rank::size] if rank < len(chosen) else part[:1] for part in batch]
                batch[-1] = batch[-1] * float(rank < len(chosen))
            stem, x, frames, target, weight = (part.to(device) for part in batch)
            optimiser.zero_grad()
            for cut in micro_batches(len(x), x[0].numel()):
                logits = model.finish(stem[cut], x[cut], frames[cut])
                loss = F.binary_cross_entropy_with_logits(
                    logits, target[cut], weight[cut], reduction="sum"
                ) / len(chosen)
                loss.backward()
                total += float(loss.detach()) * len(chosen)
            if size > 1:
                sum_gradients(model, team)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        total = float(team.reduce(torch.tensor(total, device=device), "sum")) if size > 1 else total
        losses.append(total / len(rows))
    return losses


def key_of(
    config: Config, fold: int, table: pd.DataFrame, features: Path, processes: int = 1
) -> str:
    """What a fold's result depends on, as a hash. Several processes round differently."""
    return hashlib.sha256(
        features.name.encode()
        + json.dumps([asdict(config), fold, *[processes] * (processes > 1)]).encode()
        + table.to_csv().encode()
        + code_digest(run_fold).encode()
    ).hexdigest()[:16]


def run_fold(
    config: Config, fold: int, table: pd.DataFrame, features: Path, folder: Path, team=None
) -> dict:
    """Train on the other folds, score this one and the test; keep weights and record in `folder`, or reuse them.

    Args: table with id, view, label, fold (test rows: fold -1), one row a clip of the `Stems` in the folder `features`; `team` as
    in `fine_tune`.
    Returns the record: key, config, losses, seconds, frozen and tuned scores by id.
    """
    rows = np.flatnonzero((table["fold"] != fold) & (table["fold"] >= 0))
    wanted = np.flatnonzero(
        ((table["fold"] == fold) & (table["view"] == 0)) | (table["fold"] == -1)
    )
    labels = table["label"].to_numpy()[rows].astype(int)
    rank, size = (team.process_index, team.num_processes) if team else (0, 1)
    key = key_of(config, fold, table, features, size)
    if (record := finished(folder, key)) is not None:
        return record
    began = time.perf_counter()
    data = FrozenFeatures.open(features)
    statistics = np.concatenate([data.lower, data.upper], axis=1)
    model = initial_model(config, statistics[rows], labels)
    with torch.inference_mode():
        frozen = model.head((torch.from_numpy(statistics[wanted]) - model.centre) / model.scale)[
            :, 0
        ].tolist()
    losses = fine_tune(model, data, rows, labels, config, team) if config.epochs else []
    model.eval()
    device = model.head.weight.device
    with torch.inference_mode():  # alone in its batch: company cannot change a score
        tuned = {
            int(i): float(model.finish(*(part.to(device) for part in data.batch(np.array([i])))))
            for i in wanted[rank::size]
        }
    if size > 1:
        from accelerate.utils import gather_object

        tuned = dict(gather_object(list(tuned.items())))
    ids, tuned = table["id"].to_numpy()[wanted].tolist(), [tuned[i] for i in wanted.tolist()]
    if rank:
        return {}  # the first process writes
    with paths.whole(folder / "weights.safetensors") as part:
        save_file(
            {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}, part
        )
    record = {
        "key": key,
        "config": asdict(config),
        "losses": losses,
        "seconds": round(time.perf_counter() - began, 1),
        "frozen": dict(zip(ids, frozen, strict=True)),
        "tuned": dict(zip(ids, tuned, strict=True)),
    }
    paths.write_json(folder / "done.json", record)
    return record


def finished(folder: Path, key: str) -> dict | None:
    """The record of a finished fold if it was made from the same `key` and its weights are there, else None."""
    record = folder / "done.json"
    if (
        record.exists()
        and (folder / "weights.safetensors").exists()
        and (found := paths.read_json(record))["key"] == key
    ):
        return found
    return None


def load_fold(folder: Path) -> Classifier:
    """Rebuild a finished fold's detector from its own config and weights. Raises ValueError, naming the file, if they are damaged."""
    config = Config(**paths.read_json(folder / "done.json")["config"])
    try:
        state = load_file(folder / "weights.safetensors")
    except SafetensorError as error:
        raise ValueError(
            f"{folder / 'weights.safetensors'}: damaged ({error}). Remove {folder} and run notebook 04 again"
        ) from error
    model = Classifier(
        encoders.load(config.backbone, config.layers, config.tuned), len(state["centre"])
    )
    model.load_state_dict(state)
    return model.eval()


@torch.inference_mode()
def score(model: Classifier, wave: np.ndarray, max_s: float = MAX_S) -> float:
    """Log-odds of real for one 8 kHz clip, cut to `max_s` seconds."""
    features = model.backbone.prepare(wave[: int(max_s * RATE)])
    return float(model(features[None], torch.tensor([len(features)])))
