"""The reader of CTranslate2's format gives back what was written, and refuses what it is not."""

import struct

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperModel

from utils.sources import whisper_weights


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def model_bin(tensors: dict[str, np.ndarray], model: str = "WhisperSpec", version: int = 6):
    numbers = {np.dtype(kind): number for number, kind in whisper_weights.NUMBER_TYPES.items()}
    data = struct.pack("<I", version) + text(model) + struct.pack("<II", 3, len(tensors))
    for name, values in tensors.items():
        data += text(name) + struct.pack("<B", values.ndim)
        data += struct.pack(f"<{values.ndim}I", *values.shape)
        data += struct.pack("<BI", numbers[values.dtype], values.nbytes) + values.tobytes()
    return data


@pytest.mark.parametrize("number_type", whisper_weights.NUMBER_TYPES.values())
def test_tensors_of_every_type_come_back(tmp_path, number_type):
    values = np.arange(24).reshape(2, 3, 4).astype(number_type)
    tensors = {"encoder/a": values, "b": values[0], "number": values[0, 0, 0].reshape(())}
    (tmp_path / "model.bin").write_bytes(model_bin(tensors))
    found = whisper_weights.read_ctranslate2(tmp_path / "model.bin")
    assert list(found) == list(tensors)
    for name, expected in tensors.items():
        assert found[name].numpy().dtype == expected.dtype
        assert np.array_equal(found[name].numpy(), expected)


@pytest.mark.parametrize(
    "data",
    [
        model_bin({}, model="TransformerSpec"),
        model_bin({}, version=7),
        b"",
        b"RIFF",
        model_bin({"a": np.zeros(4, np.float32)})[:-3],
        model_bin({"a": np.zeros(4, np.float32)})[:-20],
    ],
    ids=["other model", "newer version", "empty", "other file", "cut values", "cut header"],
)
def test_other_files_are_refused_by_name(tmp_path, data):
    (tmp_path / "model.bin").write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.bin: (holds|not a)"):
        whisper_weights.read_ctranslate2(tmp_path / "model.bin")


def ctranslate2_names(model: dict[str, torch.Tensor], config: WhisperConfig) -> dict:
    """The tensors of a `WhisperModel`, renamed and fused as CTranslate2's converter does it."""
    tensors = {}

    def linear(target, *sources):
        weights = [model[f"{source}.weight"] for source in sources]
        tensors[f"{target}/weight"] = torch.cat(weights)
        no_bias = torch.zeros(config.d_model)  # of k_proj
        biases = [model.get(f"{source}.bias", no_bias) for source in sources]
        tensors[f"{target}/bias"] = torch.cat(biases)

    def norm(target, source):
        tensors[f"{target}/gamma"] = model[f"{source}.weight"]
        tensors[f"{target}/beta"] = model[f"{source}.bias"]

    def attention(target, source):
        linear(f"{target}/linear_0", *(f"{source}.self_attn.{name}_proj" for name in "qkv"))
        linear(f"{target}/linear_1", f"{source}.self_attn.out_proj")
        norm(f"{target}/layer_norm", f"{source}.self_attn_layer_norm")

    def cross_attention(target, source):
        linear(f"{target}/linear_0", f"{source}.encoder_attn.q_proj")
        linear(f"{target}/linear_1", *(f"{source}.encoder_attn.{name}_proj" for name in "kv"))
        linear(f"{target}/linear_2", f"{source}.encoder_attn.out_proj")
        norm(f"{target}/layer_norm", f"{source}.encoder_attn_layer_norm")

    for side, count in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        positions = model[f"{side}.embed_positions.weight"]
        tensors[f"{side}/position_encodings/encodings"] = positions
        norm(f"{side}/layer_norm", f"{side}.layer_norm")
        for i in range(count):
            target, source = f"{side}/layer_{i}", f"{side}.layers.{i}"
            attention(f"{target}/self_attention", source)
            if side == "decoder":
                cross_attention(f"{target}/attention", source)
            norm(f"{target}/ffn/layer_norm", f"{source}.final_layer_norm")
            linear(f"{target}/ffn/linear_0", f"{source}.fc1")
            linear(f"{target}/ffn/linear_1", f"{source}.fc2")
    for name in ("conv1", "conv2"):
        linear(f"encoder/{name}", f"encoder.{name}")
    tensors["decoder/embeddings/weight"] = model["decoder.embed_tokens.weight"]
    return tensors


def test_a_model_comes_back_from_the_names_of_ctranslate2():
    config = WhisperConfig(
        d_model=8,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        vocab_size=20,
        max_source_positions=10,
        max_target_positions=10,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    expected = WhisperModel(config).state_dict()
    found = whisper_weights.convert_whisper(ctranslate2_names(expected, config))
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
