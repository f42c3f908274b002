"""What the loaders share: where weights lie, what to say if they are missing, seeded noise."""

import os
from collections.abc import Callable
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from utils import paths
from utils.synthesis.base import GeneratorUnavailable, Line, noise_seed

GITHUB = "git clone https://github.com"
INSTALL = {  # system → how to install the modules that it imports; default: TRANSFORMERS
    "mars5": (
        f"{GITHUB}/Camb-ai/MARS5-TTS, put it on PYTHONPATH, "
        "pip install torchaudio vocos encodec regex"
    ),
    "fish-speech-1.2": f"{GITHUB}/fishaudio/fish-speech, check version 1.2 out, pip install -e .",
    "xtts-v2": "pip install coqui-tts[codec] torch torchaudio",
    "openvoice-v2": (
        f"{GITHUB}/myshell-ai/OpenVoice and {GITHUB}/myshell-ai/MeloTTS, pip install -e . in both, "
        "python -m unidic download"
    ),
    "metavoice-1b": f"{GITHUB}/metavoiceio/metavoice-src, pip install -r requirements.txt -e .",
    "speecht5": "pip install sentencepiece",
    "fastspeech2": "pip install g2p-en",
}
TRANSFORMERS = "pip install transformers"


def local_folder(weights: str) -> Path:
    """Where the weights `owner/name` would lie on this machine, whether they do or not."""
    return Path(os.environ.get("DFS_MODELS") or paths.CACHE / "models") / weights


@contextmanager
def needs(system: str, weights: str):
    """Raise GeneratorUnavailable with the remedy where an import or opening `weights` fails."""
    try:
        yield
    except ImportError as error:
        raise GeneratorUnavailable(
            f"{system}: a package is missing ({' '.join(str(error).split())}). "
            f"Remedy: {INSTALL.get(system, TRANSFORMERS)}"
        ) from error
    # TypeError and ValueError: from a tokenizer whose file is missing
    except (OSError, TypeError, ValueError) as error:
        folder = local_folder(weights)
        raise GeneratorUnavailable(
            f"{system}: no complete weights {weights} in {folder} and the hub cannot be "
            f"reached. Remedy: where there is a network, hf download {weights} "
            f"--local-dir {folder} (DFS_MODELS moves it). Cause: {' '.join(str(error).split())}"
        ) from error


def open_transformers(system: str, weights: str, *classes: str) -> list:
    """Objects of these classes of `transformers` from `weights`, models in float32 on the CPU.

    Raises GeneratorUnavailable if the weights or a package is missing.
    """
    with needs(system, weights):
        import transformers

        folder = local_folder(weights)
        source = str(folder) if folder.is_dir() else weights
        opened = [getattr(transformers, name).from_pretrained(source) for name in classes]
    return [model.float().eval() if hasattr(model, "eval") else model for model in opened]


def open_package(system: str, weights: str, *modules: str) -> tuple[Path, list[ModuleType]]:
    """Folder of `weights` (local, or a snapshot of the hub's), and the generator's own modules.

    From then on `torch.load` reads weights only in this process, whatever the package asks for.
    Raises GeneratorUnavailable if the weights or a package is missing.
    """
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    with needs(system, weights):
        from huggingface_hub import snapshot_download

        imported = [import_module(module) for module in modules]
        folder = local_folder(weights)
        if not folder.is_dir():
            folder = Path(snapshot_download(weights))
        return folder, imported


def seeded_maker(seed: int, say: Callable) -> Callable:
    """`make(line) -> (wave float32 (samples,), rate)` from `say(line) -> (samples, rate)`.

    Noise follows from the seed and the line; no gradients; one thread, since jobs run side by side
    and the number of threads decides the order of summation.
    """
    import torch

    def make(line: Line):
        torch.set_num_threads(1)
        torch.manual_seed(noise_seed(seed, line))
        with torch.inference_mode():
            wave, rate = say(line)
        if isinstance(wave, torch.Tensor):
            wave = wave.float().cpu()
        return np.asarray(wave, np.float32).ravel(), int(rate)

    return make


def reference_of(line: Line) -> Path:
    """The reference recording that `line.voice` names. Raises ValueError if it is no such file."""
    path = Path(line.voice)
    if path.suffix not in (".wav", ".flac") or not path.is_file():
        raise ValueError(
            f"voice {line.voice!r} is not an existing .wav or .flac file; this system clones the "
            "voice of a reference recording"
        )
    return path.resolve()
