"""Scoring at a chosen precision, clips of like length together, and many files in processes.

Threads: a process computes with one thread and there are as many processes as cores, so that cores are used and not fought
over; one more thread a process reads the next clips and makes their features while the model works on these.
"""

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
BATCH_S = 32  # seconds of audio a batch, padding included: 8 clips of 4 s


class Depths(nn.Module):
    """All depths of a backbone, body included, as one row of tensors: x, frames, x, frames …"""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, batch, frames):
        depths = self.backbone.lower_layers(batch, frames)
        return tuple(
            part for depth in (*depths, *self.backbone.upper_layers(*depths[-1])) for part in depth
        )


def _int8(backbone: nn.Module) -> Callable:
    """What `Depths` computes, by ONNX Runtime on the thread that calls; several may call at once."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if not any(type(m) is nn.Linear for m in backbone.modules()):
        raise ValueError(f"int8: {type(backbone).__name__} has no linear layer to quantise")
    trial = backbone.prepare(dsp.coloured_noise(dsp.RATE, 3, np.random.default_rng(0)))
    shorter = (
        len(trial) // 4 * 2 if backbone.takes_padding else len(trial)
    )  # so that the mask is in the graph
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter(
            "ignore"
        )  # export by tracing is to go: requirements.txt says so beside the pin
        exact, rounded = f"{folder}/exact.onnx", f"{folder}/rounded.onnx"
        torch.onnx.export(
            Depths(backbone),
            (torch.stack([trial, trial]), torch.tensor([len(trial), shorter])),
            exact,
            dynamo=False,
            opset_version=17,
            input_names=["batch", "frames"],
            dynamic_axes={"batch": [0, 1], "frames": [0]},
        )
        large = encoders.parameters(backbone) > 4e8  # one file holds 2 GB at most
        logging.disable(logging.WARNING)  # advice about a preparation that changes nothing here
        try:
            quantize_dynamic(
                exact,
                rounded,
                op_types_to_quantize=["MatMul"],
                weight_type=QuantType.QInt8,
                use_external_data_format=large,
            )
        finally:
            logging.disable(logging.NOTSET)
        session = onnxruntime.InferenceSession(rounded, options, providers=["CPUExecutionProvider"])
    return lambda batch, frames: [
        torch.from_numpy(part)
        for part in session.run(None, {"batch": batch.numpy(), "frames": frames.numpy()})
    ]


class Engine:
    """A detector whose backbone computes at one of `PRECISIONS`; pooling and head stay in float32 (fp64: all in float64).

    int8 is ONNX Runtime's: it rounds the weights of matrix products once and their inputs batch by batch. Notebook 10 shows it beside
    PyTorch's and CTranslate2's. Recurrent layers are not rounded: GE2E's EER rose from 0.31 to 0.43 by that. Raises ValueError if
    `precision` is unknown or changes nothing in this backbone.
    """

    def __init__(
        self,
        model: finetune.Classifier,
        precision: str = "fp32",
        max_s: float = frozen_features.MAX_S,
    ):
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r}: there are {', '.join(PRECISIONS)}")
        self.model, self.max_s, self.parameters = (
            copy.deepcopy(model).eval(),
            max_s,
            encoders.parameters(model),
        )
        if precision == "int8":
            self.dtype, self.depths = torch.float32, _int8(self.model.backbone)
        else:
            self.dtype, self.depths = PRECISIONS[precision], Depths(self.model.backbone)
            (self.model if precision == "fp64" else self.model.backbone).to(self.dtype)

    def scores(self, waves: list[np.ndarray], threads: int = 1) -> np.ndarray:
        """Log-odds of real of 8 kHz waves, float64 (N,); each is cut to `max_s` seconds.

        Clips are dealt out to `threads`, each of which computes with one thread: threads that share one operation wait for each
        other after each.
        """
        if threads == 1:
            return self.finish(self.prepare(waves))
        order, result, before = (
            np.argsort([len(w) for w in waves], kind="stable"),
            np.zeros(len(waves)),
            torch.get_num_threads(),
        )
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(threads) as pool:
                for rows, part in [
                    (rows, pool.submit(self.scores, [waves[i] for i in rows]))
                    for rows in (order[i::threads] for i in range(threads))
                ]:
                    result[rows] = part.result()
        finally:
            torch.set_num_threads(before)
        return result

    def prepare(self, waves: list[np.ndarray]) -> list[torch.Tensor]:
        """Input features of 8 kHz waves."""
        return [self.model.backbone.prepare(wave[: int(self.max_s * dsp.RATE)]) for wave in waves]

    @torch.inference_mode()
    def finish(self, features: list[torch.Tensor]) -> np.ndarray:
        """What `scores` does, from the features."""
        result = np.zeros(len(features))
        a_second = 16000 if features and features[0].shape[1] == 1 else 100  # samples or frames
        lengths = np.array([len(f) for f in features], int)
        for rows in frozen_features.batches(
            lengths, BATCH_S * a_second, exact=not self.model.backbone.takes_padding
        ):
            batch = nn.utils.rnn.pad_sequence([features[i] for i in rows], batch_first=True).to(
                self.dtype
            )
            flat = self.depths(batch, torch.from_numpy(lengths[rows]))
            statistics = frozen_features.pool(list(zip(flat[::2], flat[1::2], strict=True)))
            result[rows] = self.model.judge(statistics).double().numpy()
        return result

    def rows(self, features: list[torch.Tensor]) -> list[dict[str, str]]:
        """What `score_files` writes of each clip."""
        return [{"score": f"{score:.6f}"} for score in self.finish(features)]


def open_fold(folder: str, precision: str = "fp32") -> Engine:
    """Engine of a fold that notebook 04 trained."""
    return Engine(finetune.load_fold(Path(folder)), precision)
