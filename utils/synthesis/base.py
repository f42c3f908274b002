"""The interface of all synthesisers, and what several of them need.

A synthesiser is a row of `systems.SYSTEMS`. Its `load(seed)` opens the model and returns
`make(item) -> (wave float32 (samples,), rate in Hz)`. `item` is a `Line` for text-to-speech, and a
pair (wave float32 (samples,), rate in Hz) for vocoders and manipulations of a bona fide clip.
Libraries are imported by `load` only, so that a missing one stops no other system.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Line:
    """A sentence to say.

    text: in the writing of its language.
    language: ISO 639-1 code; a few loaders also take ISO 639-3.
    voice: a name that the system knows, see the docstring of its loader.
    """

    text: str
    language: str
    voice: str


@dataclass(frozen=True)
class System:
    """A synthesiser.

    family: systems of one family share parts (a network, a vocoder, an algorithm); they never stand
        on both sides of the split into training and test.
    kind: "tts" (says a `Line`) or "vocoder" (re-synthesises or manipulates a bona fide clip).
    languages: ISO codes, or one word where there are too many.
    licence: of the program and its voices.
    packages: packages of `sources.registry` that are fetched before the first job.
    load: seed → maker, see the docstring of this module.
    on_demand: further packages, which `load` or the maker fetches when a voice needs them.
    """

    family: str
    kind: str
    languages: tuple[str, ...]
    licence: str
    packages: tuple[str, ...]
    load: Callable[[int], Callable] = field(repr=False)
    on_demand: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class HubSystem(System):
    """A `System` whose weights come from a model hub.

    weights: their names, `owner/name`.
    modules: Python modules that it imports.
    install: how to install these.
    clones: `Line.voice` may be the path of a reference recording, .wav or .flac.
    """

    weights: tuple[str, ...] = field(kw_only=True)
    modules: tuple[str, ...] = field(default=("transformers",), kw_only=True)
    install: str = field(default="pip install transformers", kw_only=True)
    clones: bool = field(default=False, kw_only=True)


class GeneratorUnavailable(RuntimeError):
    """A package, weights or the consent to a licence is missing. The message says what to do."""


def noise_seed(seed: int, line: Line) -> int:
    """Seed of 32 bits for the noise of one line: a line sounds alike alone and among others."""
    return int.from_bytes(hashlib.md5(f"{seed}/{line}".encode()).digest()[:4], "big")


def onnx_session(path: Path, seed: int):
    """ONNX Runtime session on the CPU with one thread, whose random operators start from `seed`.

    Such operators take their seed when the session is opened, so each job opens its own.
    """
    import onnxruntime

    onnxruntime.set_seed(seed)
    options = onnxruntime.SessionOptions()
    # Jobs run side by side; one thread each also fixes the order of summation.
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def espeak_phonemes(text: str, language: str) -> list[str]:
    """Phonemes (IPA) of each sentence of `text`, by eSpeak NG."""
    from piper.phonemize_espeak import EspeakPhonemizer

    if language == "ja":  # eSpeak reads kana only
        import pyopenjtalk

        text = pyopenjtalk.g2p(text, kana=True)
    voice = {"en": "en-us", "pt": "pt-br"}.get(language, language)
    return ["".join(sentence) for sentence in EspeakPhonemizer().phonemize(voice, text)]
