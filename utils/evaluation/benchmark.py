"""What a model costs: weights, memory, speed and operations, measured in processes of their own.

The values of weights do not change a cost, so encoders that only a hub ships are measured with
random weights of their size. `rivals` compares ways to score a clip.
"""

import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import ticker
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from utils import metrics, parallel, plots
from utils.audio import dsp
from utils.audio.dsp import RATE
from utils.models import encoders, finetune, frozen_features, inference

# encoders that only a hub ships: (family, width, layers, feed-forward width, heads, mel bands)
HUB_SIZES = {
    "whisper-tiny": ("whisper", 384, 4, 1536, 6, 80),
    "whisper-small": ("whisper", 768, 12, 3072, 12, 80),
    "whisper-medium": ("whisper", 1024, 24, 4096, 16, 80),
    "whisper-large-v3": ("whisper", 1280, 32, 5120, 20, 128),
    "xls-r-300m": ("wav2vec2", 1024, 24, 4096, 16, 0),
}
OPERATIONS = {
    "convolution": "convolutions",
    "addmm": "linear layers",
    "mm": "linear layers",
    "bmm": "attention",
}


# ---------------------------------------------------------------- models with random weights
def random_weights(name: str) -> nn.Module:
    """Backbone of the size of a hub's model in `HUB_SIZES`, with random weights."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model, WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    family, width, layers, inner, heads, mels = HUB_SIZES[name]
    if family == "whisper":
        whisper = WhisperConfig(
            d_model=width,
            encoder_layers=layers,
            encoder_ffn_dim=inner,
            encoder_attention_heads=heads,
            num_mel_bins=mels,
        )
        return encoders.WhisperBackbone(WhisperEncoder(whisper), layers)
    wav2vec2 = Wav2Vec2Config(
        hidden_size=width,
        num_hidden_layers=layers,
        intermediate_size=inner,
        num_attention_heads=heads,
        feat_extract_norm="layer",
        conv_bias=True,
        do_stable_layer_norm=True,
        apply_spec_augment=False,
    )
    return encoders.WaveBackbone(Wav2Vec2Model(wav2vec2), layers)


def detector_of(backbone: nn.Module) -> finetune.Classifier:
    """A backbone under a head with random weights, whose size a trial second finds out."""
    torch.manual_seed(0)
    backbone.eval()
    trial = backbone.prepare(dsp.coloured_noise(RATE, 3, np.random.default_rng(0)))
    with torch.inference_mode():
        depths = backbone.lower_layers(trial[None], torch.tensor([len(trial)]))
        size = frozen_features.pool([*depths, *backbone.upper_layers(*depths[-1])]).shape[1]
    return finetune.Classifier(backbone, size)


def random_engine(name: str, layers: int, precision: str) -> inference.Engine:
    """Engine of an encoder of `encoders.load` or a size of `HUB_SIZES`, under a random head."""
    backbone = random_weights(name) if name in HUB_SIZES else encoders.load(name, layers)
    return inference.Engine(detector_of(backbone), precision)


# ---------------------------------------------------------------- cost in a process of its own
def peak_mb() -> float:
    """Most memory that this process has held so far, in MB (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1e3
    raise OSError("/proc/self/status does not tell the peak memory")


def _cost(openers: list, waves: list[np.ndarray]) -> dict:
    engines = [function(*arguments) for function, arguments in openers]
    for engine in engines:
        engine.scores(waves[:1])
    began = time.perf_counter()
    scores = np.array([[engine.scores([wave])[0] for engine in engines] for wave in waves])
    seconds = time.perf_counter() - began
    return {
        "parameters_millions": sum(engine.parameters for engine in engines) / 1e6,
        "peak_ram_gb": peak_mb() / 1e3,
        "times_real_time": sum(map(len, waves)) / RATE / seconds,
        "scores": scores,
    }


def cost_alone(openers: list, waves: list[np.ndarray]) -> dict:
    """Cost of scoring clips one by one, with one thread, in a fresh process.

    Args:
        openers: [(function, arguments)] that give engines. They are all held at once and score each
            clip one after another, as the folds of a model do.
        waves: clips at 8 kHz.
    Returns parameters_millions and peak_ram_gb of all engines together, times_real_time (seconds of
    audio per second) and scores (clips, engines). Raises what the engines raise.
    """
    with parallel.process_pool(1) as pool:
        return pool.submit(parallel.run_single_threaded, _cost, (openers, waves)).result()


def fold_openers(run: Path, model: str, precision: str = "fp32") -> list:
    """Openers for `cost_alone` of all finished folds of a trained model."""
    folders = sorted(done.parent for done in (run / "models" / model).glob("fold*/done.json"))
    return [(inference.open_fold, (str(folder), precision)) for folder in folders]


def precision_costs(
    run: Path, model: str, precisions: list[str], waves: list[np.ndarray], label
) -> list[dict]:
    """Cost and scores of a trained model's first fold at each precision.

    Args: `precisions`, the first of which the others are compared with; `waves` (clips at 8 kHz)
    and `label` (clips,) that this fold did not train on.
    Returns one row per precision with what `cost_alone` gives but the scores, eer, f1 at the best
    threshold of the first precision, largest_change and median_change of the scores; or with
    not_possible, the reason why this precision does not work here.
    """
    rows, exact = [], None
    for precision in parallel.progress(precisions, model):
        row = {"model": model, "precision": precision}
        try:
            row |= cost_alone(fold_openers(run, model, precision)[:1], waves)
        except (ValueError, RuntimeError) as error:
            rows.append(row | {"not_possible": str(error)[:80]})
            continue
        scores = row.pop("scores")[:, 0]
        exact = scores if exact is None else exact
        threshold = metrics.best_threshold(label, exact)[0]
        row |= {
            "eer": metrics.eer(label, scores),
            "f1": metrics.f1(label, (scores > threshold).astype(int)),
            "largest_change": np.abs(scores - exact).max(),
            "median_change": np.median(np.abs(scores - exact)),
        }
        rows.append(row)
    return rows


# ---------------------------------------------------------------- operations and the machine
def count_operations(backbone: nn.Module, seconds: float) -> dict[str, int]:
    """Floating-point operations of a backbone on one clip, by sort; multiply and add are two.

    Counted by torch while it computes: convolutions, linear layers and attention. Recurrent layers,
    normalisation and activations are not counted.
    """
    features = backbone.prepare(np.zeros(int(seconds * RATE), np.float32))
    # attention as plain matrix products: the counter does not know the fused one of CPUs
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        depths = backbone.lower_layers(features[None], torch.tensor([len(features)]))
        backbone.upper_layers(*depths[-1])
    total = dict.fromkeys(OPERATIONS.values(), 0)
    for operation, count in counter.get_flop_counts()["Global"].items():
        total[OPERATIONS[operation.__name__.split(".")[0]]] += count
    return total


def matrix_speed(
    threads: int, rows: int = 1600, width: int = 512, inner: int = 2048, seconds: float = 1.0
) -> float:
    """Operations per second of float32 matrix products (rows, width) · (width, inner).

    The shape is that of Whisper base's feed-forward layers; the best of five measurements counts,
    which take `seconds` together.
    """
    torch.set_num_threads(threads)
    a, b, best = torch.randn(rows, width), torch.randn(width, inner), 0.0
    for _ in range(5):
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds / 5:
            a @ b
            count += 1
        best = max(best, 2 * rows * width * inner * count / (time.perf_counter() - began))
    return best


def plot_cost(axis, names, speed, f1, colour: str) -> None:
    """F1 against speed (on a logarithmic scale), each point with its name."""
    axis.semilogx(speed, f1, "o", color=colour)
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())
    axis.set_xlim(min(speed) / 3, max(speed) * 5)
    axis.margins(y=0.1)
    axis.set_ylabel("F1 of bona fide")
    plots.name_points(axis, list(speed), list(f1), list(names), size=10)


def machine() -> str:
    """Name of the processor and the widest instructions that torch uses on it."""
    name = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


# ---------------------------------------------------------------- language identification
def _languages(waves: list[np.ndarray]) -> tuple[list, list, float, float]:
    from utils.models import language_id

    reference = language_id.openai_model(encoders.whisper_base())
    language_id.detect_openai(reference, waves[0])
    began = time.process_time()
    theirs = [language_id.detect_openai(reference, wave) for wave in waves]
    between = time.process_time()
    ours = language_id.detect_in_this_process(waves)
    return theirs, ours, between - began, time.process_time() - between


def compare_languages(waves: list[np.ndarray]) -> tuple[pd.DataFrame, float]:
    """Languages of clips at 8 kHz by openai-whisper and by `language_id`, without any cache.

    Returns (rows with duration_s, ours, openai, our_p and openai_p; CPU seconds of openai-whisper
    for one of ours). Both run in processes with one thread.
    """
    order = np.argsort([len(wave) for wave in waves], kind="stable")
    chunks = np.array_split(order, max(1, len(waves) // 50))
    jobs = [([waves[i] for i in chunk],) for chunk in chunks]
    results = parallel.run_in_processes(_languages, jobs, "language, both ways")
    rows = []
    for chunk, (theirs, ours, _, _) in zip(chunks, results, strict=True):
        for i, (language, p), (our_language, our_p, *_) in zip(chunk, theirs, ours, strict=True):
            rows.append(
                {
                    "duration_s": len(waves[i]) / RATE,
                    "ours": our_language,
                    "openai": language,
                    "our_p": our_p,
                    "openai_p": p,
                }
            )
    seconds = np.sum([result[2:] for result in results], axis=0)
    return pd.DataFrame(rows), float(seconds[0] / seconds[1])
