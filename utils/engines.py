"""Scoring at a chosen precision, clips of like length together, and many files in processes.

Threads: a process computes with one thread and there are as many processes as cores, so that cores are used and not fought
over; one more thread a process reads the next clips and makes their features while the model works on these.
"""
import contextlib
import copy
import csv
import functools
import hashlib
import logging
import os
import shutil
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

from utils import audio, backbones, paths, stems, training, workers

PRECISIONS = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.qint8}
BATCH_S = 32  # seconds of audio a batch, padding included: 8 clips of 4 s
SHARD, GROUP, GROUP_S = 256, 32, 1800  # files a job, whose scores appear together; files, and about how many seconds, read at once


class Depths(nn.Module):
    """All depths of a backbone, body included, as one row of tensors: x, frames, x, frames …"""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, batch, frames):
        depths = self.backbone.stem(batch, frames)
        return tuple(part for depth in (*depths, *self.backbone.body(*depths[-1])) for part in depth)


def _int8(backbone: nn.Module) -> Callable:
    """What `Depths` computes, by ONNX Runtime on the thread that calls; several may call at once."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if not any(type(m) is nn.Linear for m in backbone.modules()):
        raise ValueError(f"int8: {type(backbone).__name__} has no linear layer to quantise")
    trial = backbone.prepare(audio.coloured_noise(audio.RATE, 3, np.random.default_rng(0)))
    shorter = len(trial) // 4 * 2 if backbone.takes_padding else len(trial)  # so that the mask is in the graph
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # export by tracing is to go: requirements.txt says so beside the pin
        exact, rounded = f"{folder}/exact.onnx", f"{folder}/rounded.onnx"
        torch.onnx.export(Depths(backbone), (torch.stack([trial, trial]), torch.tensor([len(trial), shorter])), exact, dynamo=False,
                          opset_version=17, input_names=["batch", "frames"], dynamic_axes={"batch": [0, 1], "frames": [0]})
        large = backbones.parameters(backbone) > 4e8  # one file holds 2 GB at most
        logging.disable(logging.WARNING)  # advice about a preparation that changes nothing here
        try:
            quantize_dynamic(exact, rounded, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8,
                             use_external_data_format=large)
        finally:
            logging.disable(logging.NOTSET)
        session = onnxruntime.InferenceSession(rounded, options, providers=["CPUExecutionProvider"])
    return lambda batch, frames: [torch.from_numpy(part) for part in
                                  session.run(None, {"batch": batch.numpy(), "frames": frames.numpy()})]


class Engine:
    """A detector whose backbone computes at one of `PRECISIONS`; pooling and head stay in float32 (fp64: all in float64).

    int8 is ONNX Runtime's: it rounds the weights of matrix products once and their inputs batch by batch. Notebook 10 shows it beside
    PyTorch's and CTranslate2's. Recurrent layers are not rounded: GE2E's EER rose from 0.31 to 0.43 by that. Raises ValueError if
    `precision` is unknown or changes nothing in this backbone.
    """

    def __init__(self, model: training.Detector, precision: str = "fp32", max_s: float = stems.MAX_S):
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r}: there are {', '.join(PRECISIONS)}")
        self.model, self.max_s, self.parameters = copy.deepcopy(model).eval(), max_s, backbones.parameters(model)
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
        order, result, before = np.argsort([len(w) for w in waves], kind="stable"), np.zeros(len(waves)), torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(threads) as pool:
                for rows, part in [(rows, pool.submit(self.scores, [waves[i] for i in rows]))
                                   for rows in (order[i::threads] for i in range(threads))]:
                    result[rows] = part.result()
        finally:
            torch.set_num_threads(before)
        return result

    def prepare(self, waves: list[np.ndarray]) -> list[torch.Tensor]:
        """Input features of 8 kHz waves."""
        return [self.model.backbone.prepare(wave[: int(self.max_s * audio.RATE)]) for wave in waves]

    @torch.inference_mode()
    def finish(self, features: list[torch.Tensor]) -> np.ndarray:
        """What `scores` does, from the features."""
        result = np.zeros(len(features))
        a_second = 16000 if features and features[0].shape[1] == 1 else 100  # samples or frames
        lengths = np.array([len(f) for f in features], int)
        for rows in stems.batches(lengths, BATCH_S * a_second, exact=not self.model.backbone.takes_padding):
            batch = nn.utils.rnn.pad_sequence([features[i] for i in rows], batch_first=True).to(self.dtype)
            flat = self.depths(batch, torch.from_numpy(lengths[rows]))
            statistics = stems.pool(list(zip(flat[::2], flat[1::2], strict=True)))
            result[rows] = self.model.judge(statistics).double().numpy()
        return result

    def rows(self, features: list[torch.Tensor]) -> list[dict[str, str]]:
        """What `score_files` writes of each clip."""
        return [{"score": f"{score:.6f}"} for score in self.finish(features)]


def open_fold(folder: str, precision: str = "fp32") -> Engine:
    """Engine of a fold that notebook 04 trained."""
    return Engine(training.load_fold(Path(folder)), precision)


def read_ahead(items: list, function: Callable) -> Iterator:
    """`function(item)` of each, in order; one thread is an item ahead of the reader."""
    with ThreadPoolExecutor(1) as thread:
        waiting = deque()
        for item in items:
            waiting.append(thread.submit(function, item))
            if len(waiting) == 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read(files: Iterator[Path]) -> list[tuple[Path, np.ndarray | None, str]]:
    """The next few (file, wave or None, error): `GROUP` files, fewer if they are long; none when all are read."""
    result, seconds = [], 0.0
    for file in files:
        try:
            wave = audio.read(file)
            result.append((file, wave, ""))
            seconds += len(wave) / audio.RATE
        except audio.AudioError as error:
            result.append((file, None, str(error)))
        if len(result) == GROUP or seconds > GROUP_S:
            break
    return result


@functools.lru_cache(maxsize=1)
def _opened(opener: Callable, arguments: tuple):
    return opener(*arguments)


def _shard(opener: Callable, arguments: tuple, files: list[Path], place: Path) -> None:
    """Score some files in this process and write their rows to `place`, whole."""
    judge, rows, left = _opened(opener, arguments), [], iter(files)

    def ready(_):
        group = _read(left)
        waves = [wave for _, wave, _ in group if wave is not None]
        return group, judge.prepare(waves) if hasattr(judge, "prepare") else waves

    for group, prepared in read_ahead(range(len(files)), ready):
        if not group:
            break
        scored = iter(judge.rows(prepared))
        rows += [{"file": str(file), **(next(scored) if wave is not None else {}), "error": error} for file, wave, error in group]
    with paths.whole(place) as part, part.open("w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def score_files(files: list[Path], opener: Callable, arguments: tuple = (), keep: Path | None = None, processes: int = 0,
                label: str = "") -> Iterator[dict[str, str]]:
    """Rows of files, in order: `file`, what `opener(*arguments).rows(waves)` says of each, `error` of one that cannot be read.

    Args: `opener` a function of a module; if what it gives can `prepare(waves)`, that runs ahead and `rows` gets its result;
    `keep` a folder where finished shards wait for a second start after a kill (the caller removes it when all is done);
    `processes` as many as cores unless given. Memory does not grow with the files: few shards are on their way at once, and
    their rows lie on disk.
    Raises what the judge raises.
    """
    if shared := paths.CACHE if os.environ.get("DFS_ENGINE") == "ray" else None:  # where all machines see it
        shared.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=shared) as spare:
        digest = hashlib.sha256(repr([opener.__qualname__, arguments]).encode() + stems.code_digest())
        home, shards = keep or Path(spare), [files[at : at + SHARD] for at in range(0, len(files), SHARD)]
        home.mkdir(parents=True, exist_ok=True)
        processes = min(processes or workers.processes(), len(shards))

        def place(shard: list[Path]) -> Path:
            mark = digest.copy()
            for file in shard:
                status = None
                with contextlib.suppress(OSError, ValueError):
                    status = file.stat()
                mark.update(f"{file}\0{status and (status.st_size, status.st_mtime_ns)}\0".encode())
            return home / f"{mark.hexdigest()[:24]}.csv"

        with workers.executor(max(1, processes)) as pool, workers.progress(label=label, total=len(files), unit="clip") as bar:
            waiting, todo = deque(), deque(shards)
            while todo or waiting:
                while todo and len(waiting) < 2 * processes:
                    shard = todo.popleft()
                    target = place(shard)
                    job = None if target.exists() else (opener, arguments, shard, target)
                    if job and processes == 1:  # few files: no process of its own
                        workers._single(_shard, job)
                        job = None
                    waiting.append((target, pool.submit(workers._single, _shard, job) if job else None))
                target, running = waiting.popleft()
                if running:
                    running.result()
                with target.open(newline="", encoding="utf-8") as file:
                    for row in csv.DictReader(file):
                        bar.update()
                        yield row


def clear(keep: Path) -> None:
    """Remove the shards that `score_files` kept."""
    shutil.rmtree(keep, ignore_errors=True)
