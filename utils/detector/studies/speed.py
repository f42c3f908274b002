"""What it costs to score files: the command's way, the same in PyTorch, and a published way.

All go from files to rows by `batch_scoring.score_files`: decoding, resampling and the model. They
run in turn, in processes of their own. `alone` is for notebook 08, which times models on waves.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from utils.audio import dsp
from utils.detector import scoring
from utils.detector.batch import batch_scoring
from utils.detector.detector import FOLDER, RATE, Detector

COMMAND, PYTORCH, STOCK = "released, ONNX Runtime", "released, PyTorch", "stock Whisper classifier"


class TorchScorer(scoring.Scorer):
    """The released detector with its encoders in PyTorch, in single precision."""

    def __init__(self, folder: str):
        super().__init__(folder)
        import torch

        from utils.detector.train import graph

        module = graph.Statistics()

        @torch.inference_mode()
        def statistics(waves: np.ndarray) -> np.ndarray:
            return module(torch.from_numpy(np.ascontiguousarray(waves, np.float32))).numpy()

        self.released.encoders.statistics = statistics


class StockScorer:
    """`transformers`' WhisperForAudioClassification (base), which pads each clip to 30 s."""

    def __init__(self):
        from utils.evaluation import rivals

        self.rival = rivals.stock()

    def rows(self, waves: list[np.ndarray]) -> list[dict[str, str]]:
        """A score for each 8 kHz wave."""
        return [{"p_bona_fide": f"{self.rival.score([wave])[0]:.6f}"} for wave in waves]


WAYS = {COMMAND: (scoring.Scorer, (str(FOLDER),)), PYTORCH: (TorchScorer, (str(FOLDER),))}
WAYS |= {STOCK: (StockScorer, ())}


def compare(files: list[Path], seconds: float, rounds: int, processes: int) -> pd.DataFrame:
    """Time each of `WAYS` on files that last `seconds` altogether.

    Returns a row per way and round: files_per_s, times_real_time (both with the start of processes
    and models), cpu_s_per_file, peak_mb of all processes together.
    """
    rows = []
    for number in range(rounds):
        for name, (opener, arguments) in WAYS.items():
            begun, spent, peak = time.perf_counter(), _cpu_s(), 0.0
            for row in batch_scoring.score_files(files, opener, arguments, processes=processes):
                assert row["p_bona_fide"], row["error"] or row["note"]
                peak = max(peak, _memory_mb())
            took = time.perf_counter() - begun
            rows.append(
                {
                    "way": name,
                    "round": number,
                    "files_per_s": len(files) / took,
                    "times_real_time": seconds / took,
                    "cpu_s_per_file": (_cpu_s() - spent) / len(files),
                    "peak_mb": peak,
                }
            )
    return pd.DataFrame(rows)


class Alone:
    """The released detector as an engine of `evaluation.benchmark`."""

    def __init__(self, folder: str, parameters: int):
        self.released, self.parameters = Detector(Path(folder)), parameters

    def scores(self, waves: list[np.ndarray]) -> np.ndarray:
        """Log-odds of bona fide of 8 kHz waves, float64 (N,)."""
        waves = [dsp.resample(wave, dsp.RATE, RATE) for wave in waves]
        return np.array([self.released.logit(wave) for wave in waves])


def alone() -> list:
    """Opener of the released detector for `evaluation.benchmark.cost_alone`."""
    import onnx  # here: the process that is measured does without

    encoders = onnx.load(FOLDER / "encoders.onnx").graph.initializer
    weights = [2 * len(head.weight) for head in Detector().heads.values()]
    return [(Alone, (str(FOLDER), sum(int(np.prod(x.dims)) for x in encoders) + sum(weights)))]


def _cpu_s() -> float:
    """CPU time of this process and of all that it started and that ended, in seconds."""
    spent = psutil.Process().cpu_times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _memory_mb() -> float:
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    total = 0.0
    for process in family:
        try:
            total += process.memory_info().rss / 1e6
        except psutil.NoSuchProcess:
            continue
    return total
