"""CAM++ (Wang et al., Interspeech 2023, "CAM++: A Fast and Efficient Network for Speaker
Verification Using Context-Aware Masking"), written to fit the published weights: 80 filter-bank
bands in, a 192-dimensional speaker embedding out.
"""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

SEGMENT = 100  # frames (1 s)
FROZEN_LAYERS = 16  # of the second block's 24, in fine-tuning: two thirds of its cost


def _norm_relu(channels: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(channels), relu=nn.ReLU()))


class ResBlock(nn.Module):
    """Two 3×3 convolutions over (band, frame); `stride` applies to the bands only."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, (stride, 1), 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, (stride, 1), bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class Head(nn.Module):
    """Front-end convolution module: (B, 80, T) → (B, 320, T)."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32)
        self.layer1 = nn.Sequential(ResBlock(32, 32, 2), ResBlock(32, 32, 1))
        self.layer2 = nn.Sequential(ResBlock(32, 32, 2), ResBlock(32, 32, 1))
        self.conv2, self.bn2 = nn.Conv2d(32, 32, 3, (2, 1), 1, bias=False), nn.BatchNorm2d(32)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x[:, None])))
        x = F.relu(self.bn2(self.conv2(self.layer2(self.layer1(x)))))
        return x.flatten(1, 2)


def segment_means(x: torch.Tensor) -> torch.Tensor:
    """Mean of each segment of `SEGMENT` frames, for all of its frames: (B, D, T) → (B, D, T).

    The last segment may be shorter. As a sum and a count: ONNX Runtime before 1.29 divides
    AveragePool's last segment, with `ceil_mode`, by the wrong number.
    """
    frames = x.shape[2]
    ends = 0, -frames % SEGMENT
    sums = F.pad(x, ends).unflatten(2, (-1, SEGMENT)).sum(dim=3, keepdim=True)
    counts = F.pad(torch.ones_like(x[:1, :1]), ends).unflatten(2, (-1, SEGMENT)).sum(3, True)
    return (sums / counts).expand(-1, -1, -1, SEGMENT).flatten(2)[..., :frames]


class Mask(nn.Module):
    """Context-aware mask: a local convolution, gated by the means of the clip and of its segments.

    A segment has `SEGMENT` frames.
    """

    def __init__(self, inputs: int, outputs: int, dilation: int):
        super().__init__()
        self.linear_local = nn.Conv1d(
            inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(inputs, inputs // 2, 1)
        self.linear2 = nn.Conv1d(inputs // 2, outputs, 1)

    def forward(self, x):
        context = x.mean(dim=2, keepdim=True) + segment_means(x)
        return self.linear_local(x) * torch.sigmoid(self.linear2(F.relu(self.linear1(context))))


class DenseLayer(nn.Module):
    """One layer of a dense block: its 32 new channels are appended to its input."""

    def __init__(self, inputs: int, dilation: int):
        super().__init__()
        self.nonlinear1, self.linear1 = _norm_relu(inputs), nn.Conv1d(inputs, 128, 1, bias=False)
        self.nonlinear2, self.cam_layer = _norm_relu(128), Mask(128, 32, dilation)

    def forward(self, x):
        new = self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))
        return torch.cat([x, new], dim=1)


class Unit(nn.Module):
    """Convolution, batch norm and ReLU, in either order."""

    def __init__(self, inputs: int, outputs: int, norm_first: bool = False, **options):
        super().__init__()
        self.linear = nn.Conv1d(inputs, outputs, bias=False, **options)
        self.nonlinear, self.norm_first = _norm_relu(inputs if norm_first else outputs), norm_first

    def forward(self, x):
        return self.linear(self.nonlinear(x)) if self.norm_first else self.nonlinear(self.linear(x))


class Embed(nn.Module):
    """Last projection, batch norm without scale."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Conv1d(1024, 192, 1, bias=False)
        self.nonlinear = nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(192, affine=False)))

    def forward(self, x):
        return self.nonlinear(self.linear(x)[:, :, 0])


class CAMPPlus(nn.Module):
    """The whole network.

    `lower` and `upper` give what a spoofing detector reads, `forward` the speaker embedding.
    """

    def __init__(self):
        super().__init__()
        self.head = Head()
        blocks, channels = {"tdnn": Unit(320, 128, kernel_size=5, stride=2, padding=2)}, 128
        for i, (layers, dilation) in enumerate(((12, 1), (24, 2), (16, 2)), start=1):
            block = OrderedDict(
                **{f"tdnnd{j + 1}": DenseLayer(channels + 32 * j, dilation) for j in range(layers)}
            )
            blocks[f"block{i}"] = nn.Sequential(block)
            channels += 32 * layers
            blocks[f"transit{i}"] = Unit(channels, channels // 2, norm_first=True, kernel_size=1)
            channels //= 2
        blocks["out_nonlinear"], blocks["dense"] = _norm_relu(channels), Embed()
        self.xvector = nn.ModuleDict(blocks)

    def lower(self, fbank: torch.Tensor) -> list[torch.Tensor]:
        """fbank (B, 80, T) → [(B, 320, T), (B, 256, T/2), (B, 768, T/2)]: the outputs of front end,
        first block and 16 layers of the second block.
        """
        front = self.head(fbank)
        first = self.xvector["transit1"](self.xvector["block1"](self.xvector["tdnn"](front)))
        return [front, first, self.xvector["block2"][:FROZEN_LAYERS](first)]

    def upper(self, x: torch.Tensor) -> torch.Tensor:
        """Last depth of `lower` (B, 768, T/2) → second block's output (B, 512, T/2)."""
        return self.xvector["transit2"](self.xvector["block2"][FROZEN_LAYERS:](x))

    def forward(self, fbank: torch.Tensor) -> torch.Tensor:
        """fbank (B, 80, T), mean-normalised → speaker embedding (B, 192)."""
        x = self.xvector["transit3"](self.xvector["block3"](self.upper(self.lower(fbank)[-1])))
        x = self.xvector["out_nonlinear"](x)
        return self.xvector["dense"](torch.cat([x.mean(dim=2), x.std(dim=2)], dim=1)[:, :, None])
