"""TODO synthesis.base."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Line:
    """A sentence to say: text, ISO language, voice (a name of the system's own; Kokoro also takes mixtures)."""

    text: str
    language: str
    voice: str


@dataclass(frozen=True)
class System:
    """A synthesiser. `kind` is tts or copy; systems of one `family` share parts and stay on one side of the split."""

    family: str
    kind: str
    languages: tuple[str, ...]
    licence: str
    packages: tuple[str, ...]
    load: Callable[[int], Callable] = field(repr=False)


def onnx_session(path: Path, seed: int):
    import onnxruntime

    onnxruntime.set_seed(seed)  # kernels that draw noise take their seed when the session is opened
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = (
        1  # jobs run side by side; one thread each also fixes the order of summation
    )
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def espeak_phonemes(text: str, language: str) -> list[str]:
    from piper.phonemize_espeak import EspeakPhonemizer

    if language == "ja":  # espeak reads kana alone
        import pyopenjtalk

        text = pyopenjtalk.g2p(text, kana=True)
    voice = {"en": "en-us", "pt": "pt-br"}.get(language, language)
    return ["".join(sentence) for sentence in EspeakPhonemizer().phonemize(voice, text)]
