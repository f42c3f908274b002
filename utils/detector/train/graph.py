"""The encoders of the detector as one ONNX file: 16 kHz waves in, pooled statistics out.

One level, the log-mels, the layers of Whisper base and of CAM++ that the detector reads, and the
pooling all lie in the graph, so a program without PyTorch gets the same statistics. Spectra are
convolutions with sines and cosines: all that comes before their power is linear. White noise of
`FLOOR_DBFS` is added to the power of every band: below it lie the rounding of a file's samples, of
a resampler and of this program, which say nothing about how speech was made. For the same reason
nothing below `LOWEST_HZ` is heard: rumble and hum tell rooms and microphones from synthesisers.

`write` makes the file, which holds weights of Whisper (MIT) and of CAM++ (Apache-2.0).
"""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from utils import paths
from utils.audio.log_mels import MODEL_RATE, mel_bank
from utils.detector.embedding import PEAK
from utils.models import encoders
from utils.models.campplus import FROZEN_LAYERS, SEGMENT

WHISPER_LAYERS = 1  # beside the convolutions, which are depth 0
LONGEST_S = 15  # s, of a wave: so many position embeddings are in the file
FLOOR_DBFS = -60.0
LOWEST_HZ = 80.0
FRAME, HOP = 400, 160  # samples, of both log-mels
HALF_FROM = 4096  # weights: larger arrays are stored in half precision …
EIGHT_FROM = 10_000  # … and larger matrices in 8 bits


def fourier(taps: np.ndarray, size: int) -> torch.Tensor:
    """Weights, float32 (2 · bins, 1, samples), of a convolution: cosines, then sines.

    taps: (samples, samples) what is done to the samples of a frame before its transform of `size`.
    """
    angle = 2 * np.pi / size * np.outer(np.arange(size // 2 + 1), np.arange(len(taps)))
    waves = np.concatenate([np.cos(angle), -np.sin(angle)]) @ taps
    return torch.from_numpy(waves[:, None].astype(np.float32))


def whisper_taps() -> np.ndarray:
    """Whisper's window."""
    return np.diag(torch.hann_window(FRAME, dtype=torch.float64).numpy())


def kaldi_taps() -> np.ndarray:
    """Kaldi's steps for a frame: scale of 16 bits, less its mean, pre-emphasis, Povey's window."""
    centred = np.eye(FRAME) - 1 / FRAME
    emphasised = centred - 0.97 * np.concatenate([centred[:1], centred[:-1]])
    window = torch.hann_window(FRAME, periodic=False, dtype=torch.float64).pow(0.85).numpy()
    return 32768 * window[:, None] * emphasised


class LogMel(nn.Module):
    """Mel power of frames of 16 kHz waves and the noise floor: (B, samples) → (B, frames, 80)."""

    def __init__(self, taps: np.ndarray, size: int, low_hz: float, scale: str, floor_dbfs: float):
        super().__init__()
        waves, bank = fourier(taps, size), mel_bank(size // 2 + 1, 80, low_hz, 8000, scale)
        noise = waves.double().square().sum(dim=(1, 2)).view(2, -1).sum(dim=0)
        heard = torch.linspace(0, 8000, size // 2 + 1) >= LOWEST_HZ
        self.register_buffer("waves", waves)
        self.register_buffer("bank", bank * heard[:, None])
        self.register_buffer("floor", 10 ** (floor_dbfs / 10) * (noise.float() @ bank))

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        cosine, sine = F.conv1d(wave[:, None], self.waves, stride=HOP).chunk(2, dim=1)
        return (cosine.square() + sine.square()).transpose(1, 2) @ self.bank + self.floor


class Statistics(nn.Module):
    """16 kHz waves of one length (B, samples) → pooled statistics (B, 10176).

    Of Whisper's depths 0 and 1 (512 channels each), then of those of CAM++ (320, 256, 768, 512 and
    512): mean, standard deviation and mean absolute delta between frames of each channel, as
    `frozen_features.pool` gives them for waves whose peak is `PEAK`. Waves last 0.25 s to
    `LONGEST_S`.
    """

    def __init__(self, floor_dbfs: float = FLOOR_DBFS):
        super().__init__()
        whisper = encoders.load("whisper-base", WHISPER_LAYERS)
        self.conv1, self.conv2, self.layers = whisper.conv1, whisper.conv2, whisper.layers
        positions = whisper.embed_positions.weight[: LONGEST_S * MODEL_RATE // HOP // 2]
        self.register_buffer("positions", positions.detach().clone())
        self.network = encoders.load("campplus").network
        self.whisper_mel = LogMel(whisper_taps(), FRAME, 0, "slaney", floor_dbfs)
        self.kaldi_mel = LogMel(kaldi_taps(), 512, 20, "kaldi", floor_dbfs)
        self.eval()

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        wave = PEAK * wave / wave.abs().amax(dim=1, keepdim=True).clamp(min=1e-9)
        return torch.cat([pool(x) for x in self.whisper(wave) + self.campplus(wave)], dim=1)

    def whisper(self, wave: torch.Tensor) -> list[torch.Tensor]:
        """Depths 0 and 1 of Whisper, (B, frames, 512) each."""
        padded = F.pad(wave[:, None], (FRAME // 2, FRAME // 2), mode="reflect")[:, 0]
        log = self.whisper_mel(padded)[:, :-1].clamp(min=1e-10).log10()
        log = (torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8) + 4) / 4
        log = log[:, : log.shape[1] // 2 * 2].transpose(1, 2)
        x = F.pad(F.gelu(self.conv1(log)).transpose(1, 2), (0, 0, 1, 1))
        three = torch.cat([x[:, :-2:2], x[:, 1:-1:2], x[:, 2::2]], dim=2)  # frames of one step
        x = F.gelu(three @ self.conv2.weight.permute(2, 1, 0).flatten(0, 1) + self.conv2.bias)
        depths = [x + self.positions[: x.shape[1]]]
        for layer in self.layers:
            x = layer(depths[-1], attention_mask=None)
            depths.append(x[0] if isinstance(x, tuple) else x)
        return depths

    def campplus(self, wave: torch.Tensor) -> list[torch.Tensor]:
        """Front end of CAM++, its blocks, and a place within the second: (B, frames, 256 … 768)."""
        log = self.kaldi_mel(wave).clamp(min=1.1920929e-07).log()
        parts = self.network.xvector
        front = self.network.head((log - log.mean(dim=1, keepdim=True)).transpose(1, 2))
        x = parts["tdnn"](front).transpose(1, 2)
        segments = Segments(x.shape[1])
        first = projected(parts["transit1"], dense(parts["block1"], x, segments))
        middle = dense(parts["block2"][:FROZEN_LAYERS], first, segments)
        second = dense(parts["block2"][FROZEN_LAYERS:], middle, segments)
        second = projected(parts["transit2"], second)
        third = projected(parts["transit3"], dense(parts["block3"], second, segments))
        return [front.transpose(1, 2), first, middle, second, third]


class Segments:
    """Segments of `SEGMENT` frames of a clip of so many frames.

    context: (segments, frames), what makes the mean of the clip plus that of the segment.
    of: (frames,), the segment of each frame.
    """

    def __init__(self, frames: int):
        self.of = torch.arange(frames) // SEGMENT
        count = (frames + SEGMENT - 1) // SEGMENT
        inside = (torch.arange(count)[:, None] == self.of).float()
        self.context = inside / inside.sum(dim=1, keepdim=True) + 1 / frames


def dense(block: nn.Sequential, x: torch.Tensor, segments: Segments) -> torch.Tensor:
    """A dense block of CAM++, (B, frames, D) → (B, frames, D + 32 · layers), by matrix products.

    They are the same sums as those of `campplus.DenseLayer`, which 8 bits and few nodes make fast.
    What layers add is not joined to the wide input before the end: each time would copy all of it.
    """
    width, added = block[0].linear1.in_channels, []
    for layer in block:
        mask, (scale, shift) = layer.cam_layer, affine(layer.nonlinear2.batchnorm)
        times, plus = affine(layer.nonlinear1.batchnorm)
        weight = layer.linear1.weight[:, :, 0].T * scale
        h = F.relu(x * times[:width] + plus[:width]) @ weight[:width] + shift
        if added:
            new = torch.cat(added, dim=2)
            h = h + F.relu(new * times[width:] + plus[width:]) @ weight[width:]
        h = F.relu(h)
        gate = F.relu(linear(mask.linear1, segments.context @ h))
        gate = torch.sigmoid(linear(mask.linear2, gate))
        added.append(neighbours(mask.linear_local, h) * gate[:, segments.of])
    return torch.cat([x, *added], dim=2)


def neighbours(layer: nn.Conv1d, x: torch.Tensor) -> torch.Tensor:
    """A convolution over three frames that lie `dilation` apart: (B, frames, D) → the same."""
    apart, width = layer.dilation[0], layer.out_channels
    products = x @ layer.weight.permute(1, 2, 0).flatten(1)  # with each of the three taps
    earlier, same, later = products.split(width, dim=2)
    earlier = F.pad(earlier, (0, 0, apart, -apart))
    return earlier + same + F.pad(later, (0, 0, -apart, apart))


def projected(unit: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A transit of CAM++: batch norm, ReLU, linear; (B, frames, D) → (B, frames, D / 2)."""
    return F.relu(normalised(unit.nonlinear, x)) @ unit.linear.weight[:, :, 0].T


def linear(layer: nn.Conv1d, x: torch.Tensor) -> torch.Tensor:
    """A convolution over one frame, of (B, frames, D)."""
    return x @ layer.weight[:, :, 0].T + layer.bias


def affine(norm: nn.BatchNorm1d) -> tuple[torch.Tensor, torch.Tensor]:
    """(scale, shift) of a batch norm in evaluation, (D,) each."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale


def normalised(unit: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Batch norm of (B, frames, D)."""
    scale, shift = affine(unit.batchnorm)
    return x * scale + shift


def pool(x: torch.Tensor) -> torch.Tensor:
    """`frozen_features.pool` of one depth without padding: (B, frames, D) → (B, 3 · D)."""
    mean = x.mean(dim=1)
    deviation = ((x - mean[:, None]).square().mean(dim=1) + 1e-6).sqrt()
    return torch.cat([mean, deviation, (x[:, 1:] - x[:, :-1]).abs().mean(dim=1)], dim=1)


def write(path: Path, eight_bits: bool = True, floor_dbfs: float = FLOOR_DBFS) -> None:
    """Write `Statistics` as an ONNX file with input `wave` and output `statistics`.

    eight_bits: round the weights of matrix products (to 7 bits, stored in 8) and store other large
    ones in half precision; otherwise everything is stored as it is.
    """
    with tempfile.TemporaryDirectory() as folder:
        exact, rounded = f"{folder}/exact.onnx", f"{folder}/rounded.onnx"
        _export(Statistics(floor_dbfs), exact)
        if eight_bits:
            _round(exact, rounded)
        with paths.whole(path) as temporary:
            temporary.write_bytes(Path(rounded if eight_bits else exact).read_bytes())


def _export(module: nn.Module, path: str) -> None:
    import onnxruntime

    trial = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 40000))).float()
    with warnings.catch_warnings(), torch.no_grad():
        # PyTorch will remove export by tracing: requirements.txt says so beside the pin
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (trial,),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["wave"],
            output_names=["statistics"],
            dynamic_axes={"wave": {0: "clips", 1: "samples"}, "statistics": {0: "clips"}},
        )
    # sums and products of weights alone become weights
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = path
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _round(exact: str, rounded: str) -> None:
    """7 bits, stored in 8, for weights of products; half precision for what is large beside."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        exact,
        rounded,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        reduce_range=True,  # 7 bits: sums of two products fit into 16 on any processor
        nodes_to_exclude=_kept_exact(exact),
    )
    model = onnx.load(rounded)
    for weight in list(model.graph.initializer):
        array, name = numpy_helper.to_array(weight), weight.name
        if weight.data_type == TensorProto.FLOAT and array.size >= HALF_FROM:
            half = numpy_helper.from_array(array.astype(np.float16), f"{name}_half")
            model.graph.initializer.remove(weight)
            model.graph.initializer.append(half)
            cast = helper.make_node("Cast", [half.name], [name], to=TensorProto.FLOAT)
            model.graph.node.insert(0, cast)
    onnx.checker.check_model(model)
    onnx.save(model, rounded)


def _kept_exact(path: str) -> list[str]:
    """Names of matrix products that 8 bits do not suit.

    Those with mel banks, whose powers span ten decades, and small ones, where rounding takes longer
    than the product.
    """
    import onnx

    graph = onnx.load(path).graph
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    banks = [n.name for n in products if shapes.get(n.input[1]) in ((201, 80), (257, 80))]
    assert len(banks) == 2, f"{len(banks)} products with mel banks, expected 2"
    sizes = {node.name: np.prod(shapes.get(node.input[1], (0,))) for node in products}
    return banks + [name for name, size in sizes.items() if 0 < size < EIGHT_FROM]
