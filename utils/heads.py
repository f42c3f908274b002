"""Heads past the deck, on pooled statistics of frozen encoders: perceptrons, their losses, the kernel on windows.

Notebook 12 judges them on the views of `utils/ladder.py`. What all heads of a training set share, its projection, is made once.
"""
import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from utils import detector, ladder, probe


def supervised_contrast(z: torch.Tensor, label: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    """Loss that draws clips of one class together (Khosla et al. 2020, the sum outside): z (B, D), label (B,)."""
    z = F.normalize(z, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool)
    alike = (z @ z.T / temperature).masked_fill(itself, float("-inf"))
    log_share = alike - torch.logsumexp(alike, dim=1, keepdim=True)
    same = (label[:, None] == label[None]) & ~itself
    return -(log_share.masked_fill(~same, 0.0).sum(1) / same.sum(1).clamp(min=1)).mean()


def descend(modules: list[nn.Module], loss, batches, epochs: int, rate: float, sam: float = 0.0, average: int = 0) -> None:
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


def balance(label: torch.Tensor) -> torch.Tensor:
    """Weights (N,) of labels (N,): each class counts half."""
    return torch.where(label == 1, 0.5 / label.mean(), 0.5 / (1 - label.mean()))


def perceptron(x: np.ndarray, label: np.ndarray, seed: int, width: int = 256, epochs: int = 10, contrast: float = 0.0,
               mixup: float = 0.0, sam: float = 0.0, average: int = 0):
    """Two hidden layers on features (N, D); returns `scores(rows)`, higher is more real.

    Args: `contrast` weighs `supervised_contrast` on the last hidden layer; `mixup` is the parameter of its beta distribution (Zhang
    et al. 2018); `sam` and `average` as in `descend`.
    """
    torch.manual_seed(seed)
    rng, centre, scale = np.random.default_rng(seed), x.mean(0), x.std()
    x, y = torch.from_numpy(((x - centre) / scale).astype(np.float32)), torch.from_numpy(label.astype(np.float32))
    body = nn.Sequential(nn.Linear(x.shape[1], width), nn.GELU(), nn.Dropout(0.5),
                         nn.Linear(width, width), nn.GELU(), nn.Dropout(0.5))
    head, weight = nn.Linear(width, 1), balance(y)

    def loss(rows):
        z, target, share = x[rows], y[rows], weight[rows]
        if mixup:
            other, part = torch.randperm(len(rows)), torch.from_numpy(rng.beta(mixup, mixup, len(rows)).astype(np.float32))
            z = part[:, None] * z + (1 - part[:, None]) * z[other]
            target, share = part * target + (1 - part) * target[other], part * share + (1 - part) * share[other]
        hidden = body(z)
        found = F.binary_cross_entropy_with_logits(head(hidden)[:, 0], target, share)
        return found + contrast * supervised_contrast(hidden, y[rows]) if contrast else found

    descend([body, head], loss, lambda: torch.randperm(len(x)).tensor_split(max(1, len(x) // 128)), epochs, 1e-3, sam, average)

    @torch.inference_mode()
    def scores(rows: np.ndarray) -> np.ndarray:
        return head(body(torch.from_numpy(((rows - centre) / scale).astype(np.float32))))[:, 0].numpy()

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


def lowest_quarter(scores: pd.Series) -> float:
    """Mean of the lowest quarter of scores, at least one: a clip is as fake as its most fake part."""
    return float(np.sort(scores)[: max(1, len(scores) // 4)].mean())
