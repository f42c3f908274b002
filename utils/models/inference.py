"""Score clips with a classifier at a chosen precision, clips of about equal length together."""

import copy
import logging
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

from utils.audio import dsp
from utils.models import encoders, finetune, frozen_features

PRECISIONS = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.qint8,
}
BATCH_S = 32  # seconds of audio per batch, padding included: 8 clips of 4 s


class Depths(nn.Module):
    """All depths of a backbone, lower and upper layers, as a flat tuple: x, frames, x, frames …"""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, batch: torch.Tensor, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        depths = self.backbone.lower_layers(batch, frames)
        depths = [*depths, *self.backbone.upper_layers(*depths[-1])]
        return tuple(tensor for depth in depths for tensor in depth)


def _int8(backbone: nn.Module) -> Callable:
    """What `Depths` computes, by ONNX Runtime in the calling thread; several may call at once."""
    import onnxruntime

    if not any(type(m) is nn.Linear for m in backbone.modules()):
        raise ValueError(f"int8: {type(backbone).__name__} has no linear layer to quantise")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    with tempfile.TemporaryDirectory() as folder:
        exact, rounded = f"{folder}/exact.onnx", f"{folder}/rounded.onnx"
        _export(backbone, exact)
        # a file holds 2 GB at most
        _quantise(exact, rounded, external=encoders.parameters(backbone) > 4e8)
        session = onnxruntime.InferenceSession(rounded, options, providers=["CPUExecutionProvider"])

    def depths(batch: torch.Tensor, frames: torch.Tensor) -> list[torch.Tensor]:
        arrays = session.run(None, {"batch": batch.numpy(), "frames": frames.numpy()})
        return [torch.from_numpy(array) for array in arrays]

    return depths


def _export(backbone: nn.Module, path: str) -> None:
    """Write `Depths` of a backbone as an ONNX graph, traced on a second of noise."""
    trial = backbone.prepare(dsp.coloured_noise(dsp.RATE, 3, np.random.default_rng(0)))
    # two clips of different length where that is allowed, so that the graph holds the mask
    shorter = len(trial) // 4 * 2 if backbone.takes_padding else len(trial)
    with warnings.catch_warnings(), torch.no_grad():
        # PyTorch will remove export by tracing: requirements.txt says so beside the pin
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Depths(backbone),
            (torch.stack([trial, trial]), torch.tensor([len(trial), shorter])),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["batch", "frames"],
            dynamic_axes={"batch": [0, 1], "frames": [0]},
        )


def _no_advice(record: logging.LogRecord) -> bool:
    """False for warnings of ONNX Runtime: they advise a preparation that changes nothing here."""
    return "onnxruntime" not in record.pathname or record.levelno > logging.WARNING


def _quantise(exact: str, rounded: str, external: bool) -> None:
    """Round the weights of matrix products in the ONNX file `exact` to int8; write `rounded`."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()  # onnxruntime logs to it
    root.addFilter(_no_advice)
    try:
        quantize_dynamic(
            exact,
            rounded,
            op_types_to_quantize=["MatMul"],
            weight_type=QuantType.QInt8,
            use_external_data_format=external,
        )
    finally:
        root.removeFilter(_no_advice)


class Engine:
    """Scores clips with a classifier at one of `PRECISIONS`; the classifier itself stays as it is.

    The backbone computes at this precision, pooling and head in float32 (fp64: all in float64).
    int8 is ONNX Runtime's dynamic quantisation: it rounds the weights of matrix products once and
    their inputs in each batch. Notebook 10 compares it with those of PyTorch and CTranslate2.
    Recurrent layers are not rounded: that raised GE2E's EER from 0.31 to 0.43.
    Raises ValueError if `precision` is unknown or changes nothing in this backbone.
    """

    def __init__(
        self,
        model: finetune.Classifier,
        precision: str = "fp32",
        max_s: float = frozen_features.MAX_S,
    ):
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r}: there are {', '.join(PRECISIONS)}")
        self.model, self.max_s = copy.deepcopy(model).eval(), max_s
        self.parameters = encoders.parameters(model)
        if precision == "int8":
            self.dtype, self.depths = torch.float32, _int8(self.model.backbone)
        else:
            self.dtype, self.depths = PRECISIONS[precision], Depths(self.model.backbone)
            converted = self.model if precision == "fp64" else self.model.backbone
            converted.to(self.dtype)

    def scores(self, waves: list[np.ndarray], threads: int = 1) -> np.ndarray:
        """Log-odds of bona fide of 8 kHz waves, float64 (N,); each is cut to `max_s` seconds.

        With `threads` above 1 the clips are divided among threads, each of which computes alone.
        That is faster than threads inside an operation, which wait for each other after each one.
        """
        if threads == 1:
            return self.scores_of(self.prepare(waves))
        order = np.argsort([len(wave) for wave in waves], kind="stable")
        result, before = np.zeros(len(waves)), torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(threads) as pool:
                jobs = []
                for i in range(threads):
                    rows = order[i::threads]
                    jobs.append((rows, pool.submit(self.scores, [waves[row] for row in rows])))
                for rows, job in jobs:
                    result[rows] = job.result()
        finally:
            torch.set_num_threads(before)
        return result

    def prepare(self, waves: list[np.ndarray]) -> list[torch.Tensor]:
        """Input features of 8 kHz waves, one tensor per clip; each is cut to `max_s` seconds."""
        return [self.model.backbone.prepare(wave[: int(self.max_s * dsp.RATE)]) for wave in waves]

    @torch.inference_mode()
    def scores_of(self, features: list[torch.Tensor]) -> np.ndarray:
        """Log-odds of bona fide, float64 (N,), from input features as `prepare` gives them."""
        result = np.zeros(len(features))
        lengths = np.array([len(f) for f in features], int)
        reads_samples = bool(features) and features[0].shape[1] == 1
        budget = BATCH_S * (16000 if reads_samples else 100)  # in samples or in frames of 10 ms
        exact = not self.model.backbone.takes_padding
        for rows in frozen_features.batches(lengths, budget, exact):
            batch = nn.utils.rnn.pad_sequence([features[i] for i in rows], batch_first=True)
            flat = self.depths(batch.to(self.dtype), torch.from_numpy(lengths[rows]))
            statistics = frozen_features.pool(list(zip(flat[::2], flat[1::2], strict=True)))
            result[rows] = self.model.logits_of(statistics).double().numpy()
        return result

    def rows(self, features: list[torch.Tensor]) -> list[dict[str, str]]:
        """One table row per clip, for `detector.batch.batch_scoring`."""
        return [{"score": f"{score:.6f}"} for score in self.scores_of(features)]


def open_fold(folder: str, precision: str = "fp32") -> Engine:
    """Engine of a fold that notebook 04 trained."""
    return Engine(finetune.load_fold(Path(folder)), precision)
