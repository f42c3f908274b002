"""Ways to score a clip and to train on it, side by side.

All get the same 8 kHz clips and do all the work from there: resampling, features, model, and for a
training step the loss, gradients and update. They are not trained: cost does not depend on weights.

- ours: the whole encoder of Whisper base on real frames.
- stock: transformers' WhisperForAudioClassification and its feature extractor, as published.
- openai: openai-whisper's encoder with its log-mel. Like stock it pads each clip to 30 s.
- cnn: the competition's official baseline, a floor of cost.
"""

import ctypes
import functools
import gc
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from utils import parallel
from utils.audio import dsp, log_mels
from utils.audio.dsp import RATE
from utils.evaluation import benchmark
from utils.models import classifiers, encoders, finetune, inference
from utils.sources import whisper_weights

MODEL_RATE = log_mels.MODEL_RATE
WIDTH = 512  # of Whisper base
Waves = list[np.ndarray]  # clips at 8 kHz


@dataclass(frozen=True)
class Rival:
    """A way to score clips and to train on them.

    `score(waves)` gives one score per clip, higher is more bona fide. `backward(waves, labels)`
    adds the gradients of the mean loss of a batch to the parameters of `model`.
    """

    model: nn.Module
    score: Callable[[Waves], np.ndarray]
    backward: Callable[[Waves, torch.Tensor], None]


def ours(layers: int = 6, precision: str = "fp32") -> Rival:
    """The lowest `layers` layers of Whisper base on real frames; `precision` is that of scoring.

    Scoring batches clips of like length; gradients are summed over small parts of a batch, as in
    `models.finetune`.
    """
    model = benchmark.detector_of(encoders.load("whisper-base", layers))

    @functools.cache  # made by the first score, so that training does not hold it
    def engine() -> inference.Engine:
        return inference.Engine(model, precision, max_s=30.0)

    def score(waves: Waves) -> np.ndarray:
        return engine().scores(waves, torch.get_num_threads())

    def backward(waves: Waves, labels: torch.Tensor) -> None:
        features = [model.backbone.prepare(wave) for wave in waves]
        batch = nn.utils.rnn.pad_sequence(features, batch_first=True)
        frames = torch.tensor([len(f) for f in features])
        for rows in finetune.micro_batches(len(batch), batch.shape[1] // 2 * WIDTH):
            loss = F.binary_cross_entropy_with_logits(
                model(batch[rows], frames[rows]), labels[rows].float(), reduction="sum"
            )
            (loss / len(batch)).backward()

    return Rival(model, score, backward)


def stock() -> Rival:
    """WhisperForAudioClassification and WhisperFeatureExtractor, as published: always 30 s."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForAudioClassification

    settings = encoders.whisper_base().config.to_dict()
    for name in ("model_type", "transformers_version"):
        settings.pop(name)
    config = WhisperConfig(**settings)
    config.num_labels = 2
    extract, model = WhisperFeatureExtractor(), WhisperForAudioClassification(config)
    model.encoder.load_state_dict(encoders.whisper_base().encoder.state_dict())

    def inputs(waves: Waves) -> torch.Tensor:
        waves = [dsp.resample(wave, RATE, MODEL_RATE) for wave in waves]
        return extract(waves, sampling_rate=MODEL_RATE, return_tensors="pt").input_features

    @torch.inference_mode()
    def score(waves: Waves) -> np.ndarray:
        return model.eval()(inputs(waves)).logits[:, 1].numpy()

    def backward(waves: Waves, labels: torch.Tensor) -> None:
        model.train()(inputs(waves), labels=labels).loss.backward()

    return Rival(model, score, backward)


def _from_logits(model: nn.Module, scoring: Callable, training: Callable) -> Rival:
    """A rival with two functions waves → logits (clips, 2), for scoring and for training."""

    @torch.inference_mode()
    def score(waves: Waves) -> np.ndarray:
        return scoring(waves)[:, 1].numpy()

    def backward(waves: Waves, labels: torch.Tensor) -> None:
        F.cross_entropy(training(waves), labels).backward()

    return Rival(model, score, backward)


def openai() -> Rival:
    """openai-whisper's encoder on its own log-mel, mean of all positions, a linear head."""
    import whisper

    from utils.models import language_id

    encoder = language_id.openai_model(encoders.whisper_base()).encoder
    model = nn.ModuleDict({"encoder": encoder, "head": nn.Linear(WIDTH, 2)})

    def logits(waves: Waves) -> torch.Tensor:
        waves = [torch.from_numpy(dsp.resample(wave, RATE, MODEL_RATE)) for wave in waves]
        mels = [whisper.log_mel_spectrogram(whisper.pad_or_trim(wave)) for wave in waves]
        return model["head"](model["encoder"](torch.stack(mels)).mean(dim=1))

    return _from_logits(model, logits, logits)


def cnn() -> Rival:
    """The official baseline: five crops of 2 s per clip when scoring, one in training."""
    model = classifiers.baseline_network()

    def logits(waves: Waves, crops: int) -> torch.Tensor:
        batch = []
        for wave in waves:
            wave = np.pad(wave, (0, max(0, 2 * RATE - len(wave))))
            mel = log_mels.whisper_log_mel(wave, 40)[:, :40]
            # 100 frames of 20 ms at 8 kHz are 2 s
            starts = np.linspace(0, len(mel) - 100, crops).astype(int)
            batch += [mel[start : start + 100] for start in starts]
        return model(torch.stack(batch)[:, None]).reshape(len(waves), crops, 2).mean(dim=1)

    return _from_logits(
        model, functools.partial(logits, crops=5), functools.partial(logits, crops=1)
    )


RIVALS = {
    "ours": ours,
    "ours, int8": functools.partial(ours, precision="int8"),
    # the layers that notebook 04 and the released detector use
    "ours, int8, 3 layers": functools.partial(ours, layers=3, precision="int8"),
    "stock": stock,
    "openai": openai,
    "cnn": cnn,
}


@functools.cache
def _rival(name: str, task: str) -> tuple[Rival, torch.optim.Optimizer | None]:
    rival = RIVALS[name]()
    encoders.whisper_base.cache_clear()  # what it was built from counts for none of them
    optimiser = None
    if task == "step":
        optimiser = torch.optim.AdamW(rival.model.parameters(), 1e-6)
    return rival, optimiser


def measure(name: str, task: str, waves: Waves, threads: int, warm: bool = True) -> dict:
    """Run a rival's task over one batch in this process and measure it.

    Args:
        name: of `RIVALS`.
        task: "score" or "step", one step of fine-tuning.
        warm: run it once before, unmeasured.
    Returns wall_s and cpu_s, seconds of wall clock and CPU, and peak_mb, the process's peak memory
    during the run.
    """
    torch.set_num_threads(threads)
    rival, optimiser = _rival(name, task)
    labels = torch.arange(len(waves)) % 2

    def run_task() -> None:
        if task == "score":
            rival.score(waves)
            return
        optimiser.zero_grad()
        rival.backward(waves, labels)
        optimiser.step()

    if warm:
        run_task()
    gc.collect()
    # memory that longer clips left in the heap does not belong to these clips
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # peak memory counts from here
    wall, cpu = time.perf_counter(), time.process_time()
    run_task()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall_s": wall, "cpu_s": cpu, "peak_mb": benchmark.peak_mb()}


def compare(
    clips: Callable[[float], Waves], lengths_s: list[float], rounds: int, threads: int
) -> pd.DataFrame:
    """Measure all rivals in turn, each in a process of its own that stays open.

    Args: `clips(seconds)` gives a batch of clips of that length.
    Returns rows with round, seconds, rival, task, what `measure` gives, clips_per_s,
    times_real_time (seconds of audio per second) and cpu_s_per_clip.
    """
    tasks = [(name, "score") for name in RIVALS]
    tasks += [(name, "step") for name in RIVALS if "int8" not in name]
    pools = {task: parallel.process_pool(1) for task in tasks}
    rows = []
    for number in range(rounds):
        for seconds in lengths_s:
            waves, warm = clips(seconds), number == 0 and seconds == lengths_s[0]
            for name, task in parallel.progress(tasks, f"round {number + 1}, {seconds} s"):
                job = pools[name, task].submit(measure, name, task, waves, threads, warm)
                row = {"round": number, "seconds": seconds, "rival": name, "task": task}
                rows.append(row | job.result() | {"clips": len(waves)})
    for pool in pools.values():
        pool.shutdown()
    table = pd.DataFrame(rows)
    clips_of_batch = table.pop("clips")
    table["clips_per_s"] = clips_of_batch / table["wall_s"]
    table["times_real_time"] = table["clips_per_s"] * table["seconds"]
    table["cpu_s_per_clip"] = table["cpu_s"] / clips_of_batch
    return table


def _eight_bit_engines(waves: Waves) -> dict[str, Callable[[], list | tuple | None]]:
    """Whisper base's encoder on `waves` of equal length, in float32 and by three int8 engines.

    Each function computes all depths, a flat list as `inference.Depths` gives it; CTranslate2's
    output has another form, and its function returns None.
    """
    import ctranslate2

    detector = benchmark.detector_of(encoders.load("whisper-base", 6))
    exact = inference.Engine(detector)
    mel = torch.stack(exact.prepare(waves))
    frames = torch.full((len(waves),), mel.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this quantisation is to leave PyTorch
        rounded = torch.ao.quantization.quantize_dynamic(
            detector.backbone, {nn.Linear}, dtype=torch.qint8
        )
    engines = {
        "float32, PyTorch": exact.depths,
        "int8, ONNX Runtime": inference.Engine(detector, "int8").depths,
        "int8, PyTorch": inference.Depths(rounded),
    }
    folder = str(whisper_weights.ctranslate2_folder())
    converted = ctranslate2.models.Whisper(folder, compute_type="int8", intra_threads=1)
    bands_first = np.ascontiguousarray(mel.numpy().transpose(0, 2, 1))
    stored = ctranslate2.StorageView.from_array(bands_first)

    def encode_converted() -> None:
        converted.encode(stored)

    functions = {name: functools.partial(engine, mel, frames) for name, engine in engines.items()}
    return functions | {"int8, CTranslate2": encode_converted}


def compare_eight_bits(waves: Waves, rounds: int) -> pd.DataFrame:
    """Time the encoder of Whisper base in float32 and by three int8 engines, with one thread.

    Args: `waves` of equal length; `rounds` in which all engines take their turn.
    Returns medians over rounds by engine: s_per_clip, and relative_change, the mean absolute change
    of the last layer against float32, divided by the mean absolute value (NaN for CTranslate2).
    """
    torch.set_num_threads(1)
    engines, rows = _eight_bit_engines(waves), []
    with torch.inference_mode():
        exact = engines["float32, PyTorch"]()[-2]
        for number in range(rounds + 1):
            for name, engine in engines.items():
                began = time.perf_counter()
                depths = engine()
                seconds = time.perf_counter() - began
                change = np.nan
                if depths is not None:
                    change = float((depths[-2] - exact).abs().mean() / exact.abs().mean())
                if number > 0:  # the first round warms up
                    row = {"s_per_clip": seconds / len(waves), "relative_change": change}
                    rows.append({"engine": name} | row)
    return pd.DataFrame(rows).groupby("engine", sort=False).median()
