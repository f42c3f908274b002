"""What several tests need: commands of the project, caches, stand-ins for demo pages."""

import io
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pandas as pd

from utils import paths
from utils.audio import dsp, reading
from utils.detector import detector
from utils.detector.embedding import NARROW, WIDE

DOWNLOADS = ("apt", "downloads", "environments", "packages")  # folders of the cache that are pinned
STARTED = re.compile(r"\[(\d)/8\] \S+: started")  # a line of a smoke run


def link_downloads(downloaded: Path, cache: Path) -> Path:
    """Make `cache`, which holds the downloads of `downloaded` and nothing that was computed."""
    cache.mkdir(parents=True, exist_ok=True)
    for name in DOWNLOADS:
        (downloaded / name).mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to((downloaded / name).resolve())
    return cache


def empty_cache(cache: Path) -> Path:
    """A cache of a test's own, in which nothing was computed yet."""
    return link_downloads(paths.CACHE, cache)


def start_command(
    home: Path,
    *arguments: str,
    module: str = "utils.pipeline.run",
    cache: Path | None = None,
    demo_pages: Path | str = "",
) -> subprocess.Popen:
    """Start a command of the project with its inputs, outputs and submissions under `home`.

    Args:
        home: DFS_HOME.
        arguments: command line; the profile is smoke unless it holds `--profile`.
        module: what `python -m` starts.
        cache: DFS_CACHE; default: the one that all tests of a session share.
        demo_pages: DFS_DEMO_PAGES, a folder as `stand_in_pages` makes it.
    Returns the process, the leader of a group of its own; its stdout holds stderr too.
    """
    if module == "utils.pipeline.run" and "--profile" not in arguments:
        arguments = ("--profile", "smoke", *arguments)
    environment = os.environ | {
        "DFS_HOME": str(home),
        "PYTHONPATH": str(paths.ROOT),
        "DFS_DEMO_PAGES": str(demo_pages),
        "DFS_CACHE": str(cache or paths.CACHE),
    }
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=paths.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run_command(
    home: Path, *arguments: str, timeout: float = 1200, **options
) -> subprocess.CompletedProcess:
    """Run a command as `start_command` does, to its end; see `returncode` and `stdout`."""
    process = start_command(home, *arguments, **options)
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, output)


@dataclass(frozen=True)
class SmokeRun:
    """A finished run of profile smoke that nobody disturbed; tests only read it."""

    home: Path
    cache: Path
    output: str  # of the command
    seconds: list[float]  # of the inputs, then of each notebook

    def copied_to(self, folder: Path) -> Path:
        """A home with the same files, for a test that changes them. Returns `folder`."""
        return shutil.copytree(self.home, folder)


def undisturbed_smoke_run(folder: Path) -> SmokeRun:
    """Run profile smoke from the downloads on, with home and cache under `folder`."""
    home, cache = folder / "home", empty_cache(folder / "cache")
    process, output, begun = start_command(home, cache=cache), "", [time.monotonic()]
    for line in process.stdout:
        output += line
        if STARTED.match(line):
            begun.append(time.monotonic())
    assert process.wait() == 0, output
    begun.append(time.monotonic())
    return SmokeRun(home, cache, output, [b - a for a, b in itertools.pairwise(begun)])


def settings(**values) -> list[str]:
    """`--set NAME=VALUE` for each of `values`."""
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def stand_in_pages(
    folder: Path, home: Path, pages: int = 4, clips: int = 1000, wide: bool = False
) -> Path:
    """Make a folder for DFS_DEMO_PAGES: `key.csv` and `clips/`, from raw training clips of smoke.

    Args:
        folder: is made.
        home: the folder in which smoke was built (the fixture `smoke_inputs`).
        pages: each gets about as many clips of every synthesiser and as many bona fide ones.
        clips: at most so many, the first by name.
        wide: half of the clips get 16 kHz, and some hiss above 4 kHz.
    Returns `folder`.
    """
    source = home / "inputs" / "smoke"
    meta = pd.read_csv(source / "train_meta.csv").sort_values("id")[:clips]
    meta = meta.sort_values(["label", "system", "id"], ignore_index=True)
    (folder / "clips").mkdir(parents=True)
    for number, name in enumerate(meta["id"]):
        shutil.copyfile(source / "raw" / name, folder / "clips" / name)
        if wide and number % 2:
            wave = reading.read(folder / "clips" / name, 16000)
            hiss = np.random.default_rng(number).standard_normal(len(wave))
            hiss *= 0.02 * np.abs(wave).max()
            reading.write(folder / "clips" / name, wave + hiss.astype(np.float32), 16000)
    key = meta[["label", "system", "language"]].assign(
        name=meta["id"],
        group=[f"page{number % pages}" for number in range(len(meta))],
        repo=[f"page{number % pages}/demo" for number in range(len(meta))],
        path=meta["id"],
        kind=["page" if number % pages else "plain" for number in range(len(meta))],
    )
    key.to_csv(folder / "key.csv", index=False)
    return folder


def encode(target, wave: np.ndarray, container: str, encoder: str, rate: int, **options) -> None:
    """Write an 8 kHz wave with FFmpeg's libraries, resampled to `rate` Hz.

    Args:
        target: name of a file, as str, or a binary buffer.
        container, encoder: FFmpeg's names, e.g. "mp4" and "aac".
        options: of the container, e.g. movflags="faststart".
    """
    with av.open(target, "w", format=container, options=options) as file:
        stream = file.add_stream(encoder, rate=rate, layout="mono")
        stream.bit_rate = 12200 if container == "amr" else 64000
        samples = dsp.resample(wave, dsp.RATE, rate)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.codec_context.format or "fltp", "mono", rate)
        for converted in (*resampler.resample(frame), None):
            for packet in stream.encode(converted):
                file.mux(packet)


def encoded(wave: np.ndarray, container: str, encoder: str, rate: int = 16000) -> bytes:
    """What `encode` writes, as bytes."""
    buffer = io.BytesIO()
    encode(buffer, wave, container, encoder, rate)
    return buffer.getvalue()


def assert_same_results(home: Path, other: Path) -> None:
    """Compare the submissions of two smoke runs, and what stands behind them, byte for byte."""
    for name in (
        "submissions/smoke.csv",
        "outputs/smoke/probabilities.csv",
        "outputs/smoke/models/ge2e/fold0/weights.safetensors",
    ):
        assert (home / name).read_bytes() == (other / name).read_bytes(), name


TOY_ENCODERS = """
<ir_version: 8, opset_import: ["": 17]>
toy (float[clips, samples] wave) => (float[clips, 2] statistics) {
    zero = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    last = Constant <value_ints = [-1]> ()
    end = Constant <value_ints = [1000000000]> ()
    size = Abs (wave)
    peak = ReduceMax <axes = [1]> (size)
    scaled = Div (wave, peak)
    scaled_size = Abs (scaled)
    level = ReduceMean <axes = [1]> (scaled_size)
    later = Slice (scaled, one, end, one)
    earlier = Slice (scaled, zero, last, one)
    step = Sub (later, earlier)
    step_size = Abs (step)
    slope = ReduceMean <axes = [1]> (step_size)
    sharpness = Div (slope, level)
    statistics = Concat <axis = 1> (level, sharpness)
}
"""  # of a wave with peak 1: mean size of its samples, and of their steps in relation to that
SPEECH = np.float32([-10, 0]), 7.0  # sounds whose mean size is below 0.7 of the peak
TOY_HEADS = {
    NARROW: detector.Head(np.float32([1, 12]), -8.0, *SPEECH, 2.0),
    WIDE: detector.Head(np.float32([2, 10]), -7.0, *SPEECH, 1.5),
}


def write_toy_detector(folder: Path) -> None:
    """Write a detector that tells hisses (bona fide) from hums below 1 kHz (spoof) with certainty.

    It reads two statistics of a wave, which `TOY_ENCODERS` computes. For it, nobody speaks where a
    sound has the same size all the time (a square wave).
    """
    import onnx.parser

    onnx.save(onnx.parser.parse_model(TOY_ENCODERS), folder / "encoders.onnx")
    detector.save_heads(folder / "heads.npz", TOY_HEADS)
    card = {"threshold": 0.5, "recall_bonafide": 0.9, "recall_spoof": 0.8}
    paths.write_json(folder / "card.json", card)
