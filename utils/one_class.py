"""What is far from the centre of real speech is suspect: deep SVDD (Ruff et al., ICML 2018) and OC-softmax (Zhang et al. 2021)."""
import numpy as np
import torch
from torch import nn


def fit(features: np.ndarray, width: int = 64, epochs: int = 30, seed: int = 0):
    """Learn from real clips only.

    Args: features float32 (clips, size) of real clips; `width` units of the output space.
    Returns (judge, losses): `judge(features) -> scores` (minus the squared distance from the centre, in units of the
    training mean: higher is more real) and the mean loss of each epoch. No layer has a bias and the centre is fixed,
    as the paper asks, else mapping everything to one point would be the optimum.
    """
    torch.manual_seed(seed)
    centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-4
    data = torch.from_numpy(((features - centre) / scale).astype(np.float32))
    network = nn.Sequential(nn.Linear(data.shape[1], 256, bias=False), nn.LeakyReLU(0.1),
                            nn.Linear(256, width, bias=False))
    with torch.no_grad():
        target = network(data).mean(dim=0)
        target = torch.where(target.abs() < 0.1, 0.1 * torch.where(target < 0, -1.0, 1.0), target)
    optimiser, losses = torch.optim.AdamW(network.parameters(), 1e-4, weight_decay=1e-3), []
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(data)).split(64):
            loss = (network(data[rows]) - target).square().sum(dim=1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        losses.append(total / len(data))

    @torch.inference_mode()
    def judge(rows: np.ndarray) -> np.ndarray:
        moved = network(torch.from_numpy(((rows - centre) / scale).astype(np.float32)))
        return -((moved - target).square().sum(dim=1) / losses[-1]).numpy()

    return judge, losses


def fit_oc_softmax(features: np.ndarray, label: np.ndarray, width: int = 64, epochs: int = 20, seed: int = 0):
    """Learn a direction that real clips keep close to (cosine above 0.9) and fake ones away from (below 0.2), scale 20 as published.

    Args: features float32 (clips, size); `label` 1 real, 0 fake; `width` units of the output space.
    Returns `judge(features) -> scores`: the cosine with the direction, -1 … 1, higher is more real.
    """
    torch.manual_seed(seed)
    centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-4
    data, target = torch.from_numpy(((features - centre) / scale).astype(np.float32)), torch.from_numpy(np.asarray(label))
    network = nn.Sequential(nn.Linear(data.shape[1], 256), nn.LeakyReLU(0.1), nn.Linear(256, width))
    direction = nn.Parameter(torch.randn(width))
    optimiser = torch.optim.AdamW([*network.parameters(), direction], 3e-4, weight_decay=1e-2)

    def cosine(rows):
        return nn.functional.normalize(network(rows), dim=1) @ nn.functional.normalize(direction, dim=0)

    for _ in range(epochs):
        for rows in torch.randperm(len(data)).split(64):
            found, real = cosine(data[rows]), target[rows] == 1
            loss = nn.functional.softplus(20 * torch.where(real, 0.9 - found, found - 0.2)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    @torch.inference_mode()
    def judge(rows: np.ndarray) -> np.ndarray:
        return cosine(torch.from_numpy(((rows - centre) / scale).astype(np.float32))).numpy()

    return judge
