"""The two networks of ttskit, rebuilt for inference so that its pickled modules are read as data.

The files pickle whole modules. `torch.load(weights_only=True)` refuses foreign classes; each class name that the file
asks for is therefore answered by an inert stand-in without any code, and only the tensors are taken.
Architectures: MelGAN (Kumar et al. 2019), Mellotron (Valle et al. 2020) with f0 and style inputs switched off.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from utils.sources.registry import fetch

ALLOWED = ("torch.nn.", "melgan.model.", "mellotron.")


def pickled_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a pickled module by their dotted names. Raises ValueError for a file asking for other classes."""
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    foreign = [name for name in names if not name.startswith(ALLOWED)]
    if foreign:
        raise ValueError(f"{path.name}: asks for {foreign}, refused")
    inert = [(type(name.rsplit(".", 1)[1], (), {}), name) for name in names]
    with torch.serialization.safe_globals(inert):
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


def load_melgan():
    """Return `vocode(log_mel float32 (80, frames)) -> wave float32 at 22.05 kHz`."""
    raw = pickled_tensors(_model_file("melgan.kuangdd.pt"))
    tensors = {}
    for (
        name,
        value,
    ) in (
        raw.items()
    ):  # fold weight normalisation: w = g · v / |v|, norm over all but the first axis
        if name.endswith("weight_v"):
            gain = raw[name[:-1] + "g"]
            tensors[name[:-2]] = gain * value / value.flatten(1).norm(dim=1).view(-1, 1, 1)
        elif name.endswith("bias"):
            tensors[name] = value

    def conv(x, name, **options):
        return F.conv1d(x, tensors[name + ".weight"], tensors[name + ".bias"], **options)

    @torch.inference_mode()
    def vocode(mel: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(mel)[None]
        x = F.pad(
            x, (0, 10), value=-11.5129
        )  # ten silent frames at the end, cut again: they hide the edge artefact
        x = conv(F.pad((x + 5) / 5, (3, 3), mode="reflect"), "generator.1")
        for index, stride in ((3, 8), (6, 8), (9, 2), (12, 2)):
            name = f"generator.{index}"
            x = F.conv_transpose1d(
                F.leaky_relu(x, 0.2),
                tensors[name + ".weight"],
                tensors[name + ".bias"],
                stride=stride,
                padding=stride // 2,
            )
            for i in range(3):
                block = f"generator.{index + 1}.blocks.{i}"
                y = F.pad(F.leaky_relu(x, 0.2), (3**i, 3**i), mode="reflect")
                y = conv(F.leaky_relu(conv(y, block + ".2", dilation=3**i), 0.2), block + ".4")
                x = conv(x, f"generator.{index + 1}.shortcuts.{i}") + y
        x = conv(F.pad(F.leaky_relu(x, 0.2), (3, 3), mode="reflect"), "generator.16")
        return torch.tanh(x)[0, 0, : -256 * 10].numpy()

    return vocode


class Mellotron(nn.Module):
    """Text to log-mel, one speaker identity of 32. Names follow the published checkpoint."""

    def __init__(self):
        super().__init__()

        def convs(*channels):
            return nn.ModuleList(
                nn.Sequential(nn.Conv1d(a, b, 5, padding=2), nn.BatchNorm1d(b))
                for a, b in zip(channels, channels[1:], strict=False)
            )

        self.embedding, self.speaker_embedding = nn.Embedding(145, 256), nn.Linear(32, 32)
        self.encoder_convs = convs(256, 256, 256, 256)
        self.encoder_lstm = nn.LSTM(256, 128, batch_first=True, bidirectional=True)
        self.prenet = nn.ModuleList(
            [nn.Linear(80, 128, bias=False), nn.Linear(128, 128, bias=False)]
        )
        self.attention_rnn, self.decoder_rnn = (
            nn.LSTMCell(128 + 288, 512),
            nn.LSTMCell(512 + 288, 512),
        )
        self.query, self.memory = nn.Linear(512, 64, bias=False), nn.Linear(288, 64, bias=False)
        self.energy, self.location = (
            nn.Linear(64, 1, bias=False),
            nn.Conv1d(2, 16, 31, padding=15, bias=False),
        )
        self.location_dense = nn.Linear(16, 64, bias=False)
        self.projection, self.gate = nn.Linear(800, 80), nn.Linear(800, 1)
        self.postnet = convs(80, 256, 256, 256, 256, 80)

    @torch.inference_mode()
    def speak(self, symbols: list[int], speaker: int, max_frames: int = 1000) -> np.ndarray:
        """Log-mel float32 (80, frames) for symbol ids and a speaker 0…31; at most `max_frames` (11.6 ms each)."""
        x = self.embedding(torch.tensor([symbols])).transpose(1, 2)
        for layer in self.encoder_convs:
            x = F.relu(layer(x))
        text, _ = self.encoder_lstm(x.transpose(1, 2))
        identity = self.speaker_embedding(F.one_hot(torch.tensor([speaker]), 32).float())
        memory = torch.cat([text, identity[:, None].expand(-1, text.shape[1], -1)], dim=2)
        keys = self.memory(memory)
        hidden, cell, out_hidden, out_cell = (torch.zeros(1, 512) for _ in range(4))
        weights, total, context = (
            torch.zeros(1, len(symbols)),
            torch.zeros(1, len(symbols)),
            torch.zeros(1, 288),
        )
        frame, frames = torch.zeros(1, 80), []
        while len(frames) < max_frames:
            for layer in self.prenet:  # dropout stays on: Tacotron 2 draws its variation from it
                frame = F.dropout(F.relu(layer(frame)), 0.5, training=True)
            hidden, cell = self.attention_rnn(torch.cat([frame, context], 1), (hidden, cell))
            place = self.location_dense(
                self.location(torch.stack([weights, total], 1)).transpose(1, 2)
            )
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
        mel = torch.stack(frames, dim=2)
        y = mel
        for layer in self.postnet[:-1]:
            y = torch.tanh(layer(y))
        return (mel + self.postnet[-1](y))[0].numpy()


def load_mellotron() -> Mellotron:
    """Mellotron with ttskit's multi-speaker Mandarin weights, ready to speak."""
    rename = {
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
    state = {}
    for name, tensor in pickled_tensors(_model_file("mellotron.kuangdd-mspk.pt")).items():
        for old, new in rename.items():
            name = name.replace(old, new)
        state[name] = tensor
    model = Mellotron()
    model.load_state_dict(state)
    return model.eval()
