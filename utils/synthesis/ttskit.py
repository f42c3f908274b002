"""The two networks of ttskit, rebuilt for inference so that its pickled modules are read as data.

The files pickle whole modules. `torch.load(weights_only=True)` refuses foreign classes, so each
class name that a file asks for is answered by an empty class without code, and only the tensors
are used.
Architectures: MelGAN (Kumar et al. 2019); Mellotron (Valle et al. 2020) with pitch and style inputs
switched off.
"""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from utils.sources.registry import fetch

ALLOWED = ("torch.nn.", "melgan.model.", "mellotron.")
SILENT_FRAMES, SILENCE = 10, -11.5129  # natural logarithm of 1e-5, the floor of the log-mel


def pickled_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a pickled module by their dotted names.

    Raises ValueError if the file asks for classes that are not in `ALLOWED`.
    """
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    foreign = [name for name in names if not name.startswith(ALLOWED)]
    if foreign:
        raise ValueError(f"{path.name}: asks for {foreign}, refused")
    empty = [(type(name.rsplit(".", 1)[1], (), {}), name) for name in names]
    with torch.serialization.safe_globals(empty):
        module = torch.load(path, map_location="cpu", weights_only=True)

    def walk(module, prefix):
        state = vars(module)
        for name, tensor in (state.get("_parameters", {}) | state.get("_buffers", {})).items():
            if tensor is not None:
                yield prefix + name, tensor.detach()
        for name, child in state.get("_modules", {}).items():
            if child is not None:
                yield from walk(child, f"{prefix}{name}.")

    return dict(walk(module, ""))


def _model_file(name: str) -> Path:
    return fetch(["ttskit"])["ttskit"] / "ttskit" / "resource" / "model" / name


def open_melgan() -> Callable[[np.ndarray], np.ndarray]:
    """MelGAN as `vocode(log_mel float32 (80, frames)) -> wave float32 (256 · frames,)`, 22.05 kHz.

    The spectrogram is that of `vocoders.vocoder_log_mel`.
    """
    raw = pickled_tensors(_model_file("melgan.kuangdd.pt"))
    tensors = {}
    for name, value in raw.items():
        if name.endswith("weight_v"):
            # fold weight normalisation: w = g · v / |v|, norm over all axes except the first
            gain = raw[name[:-1] + "g"]
            tensors[name[:-2]] = gain * value / value.flatten(1).norm(dim=1).view(-1, 1, 1)
        elif name.endswith("bias"):
            tensors[name] = value

    def conv(x, name, **options):
        return F.conv1d(x, tensors[name + ".weight"], tensors[name + ".bias"], **options)

    def upsample(x, name, stride):
        weight, bias = tensors[name + ".weight"], tensors[name + ".bias"]
        return F.conv_transpose1d(x, weight, bias, stride=stride, padding=stride // 2)

    @torch.inference_mode()
    def vocode(mel: np.ndarray) -> np.ndarray:
        # Ten silent frames at the end hide the edge artefact; they are cut off again.
        x = F.pad(torch.from_numpy(mel)[None], (0, SILENT_FRAMES), value=SILENCE)
        x = conv(F.pad((x + 5) / 5, (3, 3), mode="reflect"), "generator.1")
        for index, stride in ((3, 8), (6, 8), (9, 2), (12, 2)):
            x = upsample(F.leaky_relu(x, 0.2), f"generator.{index}", stride)
            for i in range(3):
                block = f"generator.{index + 1}.blocks.{i}"
                y = F.pad(F.leaky_relu(x, 0.2), (3**i, 3**i), mode="reflect")
                y = conv(F.leaky_relu(conv(y, block + ".2", dilation=3**i), 0.2), block + ".4")
                x = conv(x, f"generator.{index + 1}.shortcuts.{i}") + y
        x = conv(F.pad(F.leaky_relu(x, 0.2), (3, 3), mode="reflect"), "generator.16")
        return torch.tanh(x)[0, 0, : -256 * SILENT_FRAMES].numpy()

    return vocode


def _convolutions(*channels: int) -> nn.ModuleList:
    """Convolution of width 5 and batch normalisation, from each number of channels to the next."""
    return nn.ModuleList(
        nn.Sequential(nn.Conv1d(a, b, 5, padding=2), nn.BatchNorm1d(b))
        for a, b in itertools.pairwise(channels)
    )


class Mellotron(nn.Module):
    """Text to log-mel spectrogram, one of 32 speakers. Names follow the published checkpoint."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(145, 256)
        self.speaker_embedding = nn.Linear(32, 32)
        self.encoder_convs = _convolutions(256, 256, 256, 256)
        self.encoder_lstm = nn.LSTM(256, 128, batch_first=True, bidirectional=True)
        self.prenet = nn.ModuleList(
            [nn.Linear(80, 128, bias=False), nn.Linear(128, 128, bias=False)]
        )
        self.attention_rnn = nn.LSTMCell(128 + 288, 512)
        self.decoder_rnn = nn.LSTMCell(512 + 288, 512)
        self.query = nn.Linear(512, 64, bias=False)
        self.memory = nn.Linear(288, 64, bias=False)
        self.energy = nn.Linear(64, 1, bias=False)
        self.location = nn.Conv1d(2, 16, 31, padding=15, bias=False)
        self.location_dense = nn.Linear(16, 64, bias=False)
        self.projection = nn.Linear(800, 80)
        self.gate = nn.Linear(800, 1)
        self.postnet = _convolutions(80, 256, 256, 256, 256, 80)

    @torch.inference_mode()
    def speak(self, symbols: list[int], speaker: int, max_frames: int = 1000) -> np.ndarray:
        """Log-mel spectrogram float32 (80, frames).

        Args:
            symbols: ids of the text's symbols, see phkit.chinese.text_to_sequence.
            speaker: 0 to 31.
            max_frames: longest result; a frame is 11.6 ms.
        """
        mel = self._decode(self._encode(symbols, speaker), max_frames)
        y = mel
        for layer in self.postnet[:-1]:
            y = torch.tanh(layer(y))
        return (mel + self.postnet[-1](y))[0].numpy()

    def _encode(self, symbols: list[int], speaker: int) -> torch.Tensor:
        """Text and speaker as (1, symbols, 288)."""
        x = self.embedding(torch.tensor([symbols])).transpose(1, 2)
        for layer in self.encoder_convs:
            x = F.relu(layer(x))
        text, _ = self.encoder_lstm(x.transpose(1, 2))
        identity = self.speaker_embedding(F.one_hot(torch.tensor([speaker]), 32).float())
        return torch.cat([text, identity[:, None].expand(-1, text.shape[1], -1)], dim=2)

    def _decode(self, memory: torch.Tensor, max_frames: int) -> torch.Tensor:
        """Log-mel (1, 80, frames) before the postnet, frame by frame until the gate closes."""
        keys = self.memory(memory)
        hidden, cell, out_hidden, out_cell = (torch.zeros(1, 512) for _ in range(4))
        weights, total = torch.zeros(1, memory.shape[1]), torch.zeros(1, memory.shape[1])
        context = torch.zeros(1, 288)
        frame, frames = torch.zeros(1, 80), []
        while len(frames) < max_frames:
            for layer in self.prenet:  # dropout stays on: the variation of Tacotron 2 is from it
                frame = F.dropout(F.relu(layer(frame)), 0.5, training=True)
            hidden, cell = self.attention_rnn(torch.cat([frame, context], 1), (hidden, cell))
            location = self.location(torch.stack([weights, total], 1)).transpose(1, 2)
            place = self.location_dense(location)
            energy = self.energy(torch.tanh(self.query(hidden)[:, None] + place + keys)).squeeze(-1)
            weights = F.softmax(energy, dim=1)
            total = total + weights
            context = (weights[:, None] @ memory)[:, 0]
            out_hidden, out_cell = self.decoder_rnn(
                torch.cat([hidden, context], 1), (out_hidden, out_cell)
            )
            state = torch.cat([out_hidden, context], 1)
            frame = self.projection(state)
            frames.append(frame)
            if torch.sigmoid(self.gate(state)) > 0.5:
                break
        return torch.stack(frames, dim=2)


# parts of the names in the checkpoint → in `Mellotron`, replaced in this order
RENAMED = {
    "encoder.convolutions.": "encoder_convs.",
    "encoder.lstm": "encoder_lstm",
    "decoder.prenet.layers.": "prenet.",
    "decoder.attention_layer.query_layer": "query",
    "decoder.attention_layer.memory_layer": "memory",
    "decoder.attention_layer.v.": "energy.",
    "decoder.attention_layer.location_layer.location_conv.conv": "location",
    "decoder.attention_layer.location_layer.location_dense": "location_dense",
    "decoder.linear_projection": "projection",
    "decoder.gate_layer": "gate",
    "decoder.": "",
    "postnet.convolutions.": "postnet.",
    ".conv.": ".",
    ".linear_layer.": ".",
}


def open_mellotron() -> Mellotron:
    """Mellotron with ttskit's multi-speaker Mandarin weights, ready to speak."""
    state = {}
    for name, tensor in pickled_tensors(_model_file("mellotron.kuangdd-mspk.pt")).items():
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        state[name] = tensor
    model = Mellotron()
    model.load_state_dict(state)
    return model.eval()
