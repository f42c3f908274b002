"""What a model costs: weights, memory and speed, measured in processes of their own; rivals side by side; operations counted.

Rivals get the same 8 kHz clips and do all the work from there: resampling, features, model (and for a step: loss, gradient,
update). `ours` is the whole encoder of Whisper base on real frames; `stock` is transformers' WhisperForAudioClassification with
its feature extractor as published; `openai` is openai-whisper's encoder with its log-mel; both pad to 30 s. `cnn` is the official
baseline, a floor of cost. None is trained here: cost does not depend on the values of weights.
"""

import ctypes
import functools
import gc
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from utils import parallel
from utils.audio import dsp, log_mels
from utils.audio.dsp import RATE
from utils.models import encoders, finetune, frozen_features, inference

MODEL_RATE = log_mels.MODEL_RATE
WIDTH = 512  # of Whisper base
# encoders that only a hub ships: (family, width, layers, feed-forward width, heads, mel bands)
HUB_SIZES = {
    "whisper-tiny": ("whisper", 384, 4, 1536, 6, 80),
    "whisper-small": ("whisper", 768, 12, 3072, 12, 80),
    "whisper-medium": ("whisper", 1024, 24, 4096, 16, 80),
    "whisper-large-v3": ("whisper", 1280, 32, 5120, 20, 128),
    "xls-r-300m": ("wav2vec2", 1024, 24, 4096, 16, 0),
}


def random_weights(name: str) -> nn.Module:
    """Backbone of the size of a hub's model, its weights drawn: for cost alone."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model, WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    family, width, layers, inner, heads, mels = HUB_SIZES[name]
    if family == "whisper":
        return encoders.WhisperBackbone(
            WhisperEncoder(
                WhisperConfig(
                    d_model=width,
                    encoder_layers=layers,
                    encoder_ffn_dim=inner,
                    encoder_attention_heads=heads,
                    num_mel_bins=mels,
                )
            ),
            layers,
        )
    return encoders.WaveBackbone(
        Wav2Vec2Model(
            Wav2Vec2Config(
                hidden_size=width,
                num_hidden_layers=layers,
                intermediate_size=inner,
                num_attention_heads=heads,
                feat_extract_norm="layer",
                conv_bias=True,
                do_stable_layer_norm=True,
                apply_spec_augment=False,
            )
        ),
        layers,
    )


def detector_of(backbone: nn.Module) -> finetune.Classifier:
    """A detector with a drawn head, sized by a trial second."""
    torch.manual_seed(0)
    backbone.eval()
    trial = backbone.prepare(dsp.coloured_noise(RATE, 3, np.random.default_rng(0)))
    with torch.inference_mode():
        depths = backbone.lower_layers(trial[None], torch.tensor([len(trial)]))
        size = frozen_features.pool([*depths, *backbone.upper_layers(*depths[-1])]).shape[1]
    return finetune.Classifier(backbone, size)


def random_engine(name: str, layers: int, precision: str) -> inference.Engine:
    """Engine of a backbone of `backbones.load` or of a size of `HUB_SIZES` under a drawn head."""
    backbone = random_weights(name) if name in HUB_SIZES else encoders.load(name, layers)
    return inference.Engine(detector_of(backbone), precision)


# ---------------------------------------------------------------- rivals
class Rival:
    """A way to score clips, `score(waves)`, and to train on them, `loss(waves, labels)`."""

    def backward(self, waves, labels):
        self.loss(waves, labels).backward()


class Ours(Rival):
    """Whisper base, all six layers, on real frames, batches of like length; gradients in parts, as in `training`."""

    layers, precision = 6, "fp32"

    def __init__(self):
        self.model = detector_of(encoders.load("whisper-base", self.layers))

    @functools.cached_property
    def engine(self):
        return inference.Engine(self.model, self.precision, max_s=30.0)

    def score(self, waves):
        return self.engine.scores(waves, torch.get_num_threads())

    def backward(self, waves, labels):
        features = [self.model.backbone.prepare(wave) for wave in waves]
        batch, frames = (
            nn.utils.rnn.pad_sequence(features, batch_first=True),
            torch.tensor([len(f) for f in features]),
        )
        for cut in finetune.micro_batches(len(batch), batch.shape[1] // 2 * WIDTH):
            logits = self.model(batch[cut], frames[cut])
            (
                F.binary_cross_entropy_with_logits(logits, labels[cut].float(), reduction="sum")
                / len(batch)
            ).backward()


class OursInt8(Ours):
    """The same with int8 weights, for scoring."""

    precision = "int8"


class OursUsed(OursInt8):
    """The lowest three layers, which notebook 04 and the released detector use, with int8 weights."""

    layers = 3


class Stock(Rival):
    """WhisperForAudioClassification and WhisperFeatureExtractor, as published: 30 s whatever the clip."""

    def __init__(self):
        from transformers import (
            WhisperConfig,
            WhisperFeatureExtractor,
            WhisperForAudioClassification,
        )

        c = encoders.whisper_base().config
        config = WhisperConfig(
            **{
                k: v
                for k, v in c.to_dict().items()
                if k not in ("model_type", "transformers_version")
            }
        )
        config.num_labels = 2
        self.extract, self.model = WhisperFeatureExtractor(), WhisperForAudioClassification(config)
        self.model.encoder.load_state_dict(encoders.whisper_base().encoder.state_dict())

    def _inputs(self, waves):
        waves = [dsp.resample(wave, RATE, MODEL_RATE) for wave in waves]
        return self.extract(waves, sampling_rate=MODEL_RATE, return_tensors="pt").input_features

    @torch.inference_mode()
    def score(self, waves):
        return self.model.eval()(self._inputs(waves)).logits[:, 1].numpy()

    def loss(self, waves, labels):
        return self.model.train()(self._inputs(waves), labels=labels).loss


class OpenAI(Rival):
    """openai-whisper's encoder on its own log-mel, mean of all positions, a linear head."""

    def __init__(self):
        from utils.models import language_id

        self.model = nn.ModuleDict(
            {
                "encoder": language_id.openai_model(encoders.whisper_base()).encoder,
                "head": nn.Linear(512, 2),
            }
        )

    def _logits(self, waves):
        import whisper

        mels = [
            whisper.log_mel_spectrogram(
                whisper.pad_or_trim(torch.from_numpy(dsp.resample(wave, RATE, MODEL_RATE)))
            )
            for wave in waves
        ]
        return self.model["head"](self.model["encoder"](torch.stack(mels)).mean(dim=1))

    @torch.inference_mode()
    def score(self, waves):
        return self._logits(waves)[:, 1].numpy()

    def loss(self, waves, labels):
        return F.cross_entropy(self._logits(waves), labels)


class Baseline(Rival):
    """The official baseline: 40 log-mel bands of 2 s crops, two convolutions; five crops a clip when scoring, one in training."""

    def __init__(self):
        self.model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(512, 2),
        )

    def _logits(self, waves, crops):
        batch = []
        for wave in waves:
            mel = log_mels.whisper_log_mel(np.pad(wave, (0, max(0, 2 * RATE - len(wave)))), 40)[
                :, :40
            ]
            starts = np.linspace(0, len(mel) - 100, crops).astype(
                int
            )  # 100 frames of 20 ms at 8 kHz are 2 s
            batch += [mel[start : start + 100] for start in starts]
        return self.model(torch.stack(batch)[:, None]).reshape(len(waves), crops, 2).mean(dim=1)

    @torch.inference_mode()
    def score(self, waves):
        return self._logits(waves, 5)[:, 1].numpy()

    def loss(self, waves, labels):
        return F.cross_entropy(self._logits(waves, 1), labels)


RIVALS = {
    "ours": Ours,
    "ours, int8": OursInt8,
    "ours, int8, 3 layers": OursUsed,
    "stock": Stock,
    "openai": OpenAI,
    "cnn": Baseline,
}


@functools.cache
def _rival(name: str, task: str):
    rival = RIVALS[name]()
    encoders.whisper_base.cache_clear()  # what it was made from counts for none of them
    return rival, torch.optim.AdamW(rival.model.parameters(), 1e-6) if task == "step" else None


def measure(name: str, task: str, waves: list[np.ndarray], threads: int, warm: bool = True) -> dict:
    """Run a rival's `task` (score or step) once over a batch in this process; a trial comes first if `warm`.

    Returns wall and CPU seconds and the process's peak memory in MB during the run.
    """
    torch.set_num_threads(threads)
    rival, optimiser = _rival(name, task)
    labels = torch.arange(len(waves)) % 2

    def run():
        if task == "score":
            return rival.score(waves)
        optimiser.zero_grad()
        rival.backward(waves, labels)
        optimiser.step()

    if warm:
        run()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(
        0
    )  # what longer clips left in the heap is not these clips' memory
    Path("/proc/self/clear_refs").write_text("5")  # peak memory counts from here
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall_s": wall, "cpu_s": cpu, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Most memory that this process held, in MB (Linux)."""
    (line,) = [
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) / 1e3


# ---------------------------------------------------------------- one model in a process of its own
def _cost(openers: list, waves: list[np.ndarray]) -> dict:
    opened = [function(*arguments) for function, arguments in openers]
    for engine in opened:
        engine.scores(waves[:1])
    began = time.perf_counter()
    scores = np.array([[engine.scores([wave])[0] for engine in opened] for wave in waves])
    seconds = time.perf_counter() - began
    return {
        "parameters (M)": sum(e.parameters for e in opened) / 1e6,
        "peak RAM (GB)": peak_mb() / 1e3,
        "× real time": sum(map(len, waves)) / RATE / seconds,
        "scores": scores,
    }


def cost_alone(openers: list, waves: list[np.ndarray]) -> dict:
    """Cost of scoring clips one by one, with one thread, in a fresh process.

    Args: `openers` [(function, arguments)] that give engines, scored one after another (the folds of a model); waves at 8 kHz.
    Returns parameters (M), peak RAM (GB), × real time (seconds of audio a second), all engines together, and the scores
    (clips, engines). Raises what the engines raise.
    """
    with parallel.process_pool(1) as pool:
        return pool.submit(parallel.run_single_threaded, _cost, (openers, waves)).result()


def fold_openers(run: Path, model: str, precision: str = "fp32") -> list:
    """Openers of a trained model's finished folds."""
    done = sorted(p.parent for p in (run / "models" / model).glob("fold*/done.json"))
    return [(inference.open_fold, (str(folder), precision)) for folder in done]


# ---------------------------------------------------------------- operations
def whisper_operations(
    seconds: float, width: int = 512, layers: int = 6, inner: int = 2048, mels: int = 80
) -> dict[str, float]:
    """Floating-point operations of Whisper's encoder on `seconds` of audio (a multiply and an add are two), by part."""
    frames = int(seconds * 50)
    return {
        "convolutions": 2 * (2 * frames * mels * width * 3 + frames * width * width * 3),
        "projections": layers * 2 * frames * 4 * width * width,
        "attention": layers * 2 * 2 * frames * frames * width,
        "feed-forward": layers * 2 * frames * 2 * width * inner,
    }


def matrix_rate(
    threads: int, rows: int = 1600, width: int = 512, inner: int = 2048, seconds: float = 1.0
) -> float:
    """Measured operations a second of float32 matrix products of the shape that feed-forward layers have, the best of five."""
    torch.set_num_threads(threads)
    a, b, best = torch.randn(rows, width), torch.randn(width, inner), 0.0
    for _ in range(5):
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds / 5:
            a @ b
            count += 1
        best = max(best, 2 * rows * width * inner * count / (time.perf_counter() - began))
    return best


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
    """Language of clips by openai-whisper's published way and by ours: (ours, openai and both probabilities, CPU seconds of
    theirs to ours). Both in processes of one thread; what the cache holds is not used."""
    order = np.argsort([len(wave) for wave in waves], kind="stable")
    parts = parallel.run_in_processes(
        _languages,
        [([waves[i] for i in cut],) for cut in np.array_split(order, max(1, len(waves) // 50))],
        "language, both ways",
    )
    rows = [
        {
            "seconds": len(waves[i]) / RATE,
            "ours": ours[0],
            "openai": theirs[0],
            "our p": ours[1],
            "openai p": theirs[1],
        }
        for i, theirs, ours in zip(
            order, (t for p in parts for t in p[0]), (o for p in parts for o in p[1]), strict=True
        )
    ]
    return pd.DataFrame(rows), sum(p[2] for p in parts) / sum(p[3] for p in parts)


def machine() -> str:
    """Processor and its widest instructions for matrix products."""
    facts = dict(
        line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line
    )
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    has = set(facts.get("flags", "").split())
    widest = next(
        (f for f in ("amx_int8", "avx512_vnni", "avx_vnni", "avx512f", "avx2") if f in has),
        "unknown instructions",
    )
    return f"{facts.get('model name', 'unknown processor')} ({widest})"
