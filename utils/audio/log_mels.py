"""TODO audio.log_mels."""

from functools import cache

import numpy as np
import torch
from torch.nn import functional as F

MODEL_RATE = 16000  # Hz, what all encoders here were trained at; 8 kHz clips are brought up to it


@cache
def _mel_bank(bins: int, mels: int, low: float, high: float, scale: str) -> torch.Tensor:
    from transformers.audio_utils import (
        mel_filter_bank,
    )  # here and below, not at the top: each process would wait 2 s for it

    bank = mel_filter_bank(
        bins,
        mels,
        low,
        high,
        MODEL_RATE,
        norm=None if scale == "kaldi" else "slaney",
        mel_scale=scale,
        triangularize_in_mel_space=scale == "kaldi",
    )
    return torch.from_numpy(bank.astype(np.float32))


def whisper_log_mel(wave: np.ndarray, mels: int = 80) -> torch.Tensor:
    """Whisper's log-mel of a 16 kHz wave without padding to 30 s: float32 (frames, mels), 10 ms a frame."""
    spectrum = torch.stft(
        torch.from_numpy(wave), 400, 160, window=torch.hann_window(400), return_complex=True
    )
    mel = spectrum[:, :-1].abs().square().T @ _mel_bank(201, mels, 0, 8000, "slaney")
    log = torch.log10(mel.clamp(min=1e-10))
    return (torch.maximum(log, log.max() - 8) + 4) / 4


def kaldi_fbank(wave: np.ndarray, mels: int = 80) -> torch.Tensor:
    """Kaldi's log filter bank of a 16 kHz wave (25 ms Povey window, pre-emphasis 0.97), mean-normalised: (frames, mels)."""
    frames = torch.from_numpy(wave * 32768).unfold(0, 400, 160)
    frames = frames - frames.mean(dim=1, keepdim=True)
    frames = frames - 0.97 * F.pad(frames, (1, 0), mode="replicate")[:, :-1]
    window = torch.hann_window(400, periodic=False).pow(0.85)
    power = torch.fft.rfft(frames * window, 512).abs().square()
    log = torch.log((power @ _mel_bank(257, mels, 20, 8000, "kaldi")).clamp(min=1.1920929e-07))
    return log - log.mean(dim=0)


def ge2e_mel(wave: np.ndarray) -> torch.Tensor:
    """Resemblyzer's mel power of a 16 kHz wave brought to -30 dBFS: float32 (frames, 40), 10 ms a frame."""
    wave = wave * 10 ** (-30 / 20) / max(float(np.sqrt(np.mean(wave**2))), 1e-6)
    spectrum = torch.stft(
        torch.from_numpy(wave.astype(np.float32)),
        400,
        160,
        window=torch.hann_window(400),
        return_complex=True,
    )
    return spectrum[:, :-1].abs().square().T @ _mel_bank(201, 40, 0, 8000, "slaney")
