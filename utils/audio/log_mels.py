"""What the encoders take in: mel spectrograms of 16 kHz waves, one frame per 10 ms.

Waves are float32 arrays of shape (samples,). Tests compare the results with the libraries that the
encoders were trained with.
"""

from functools import cache

import numpy as np
import torch
from torch.nn import functional as F

MODEL_RATE = 16000  # Hz, at which all encoders here were trained; 8 kHz clips are resampled to it


@cache
def mel_bank(bins: int, mels: int, low: float, high: float, scale: str) -> torch.Tensor:
    """Triangular filters from `low` to `high` Hz, scale "slaney" or "kaldi": (bins, mels)."""
    # not at the top of the module: every process would wait 2 s for it
    from transformers.audio_utils import mel_filter_bank

    kaldi = scale == "kaldi"
    norm = None if kaldi else "slaney"
    bank = mel_filter_bank(
        bins, mels, low, high, MODEL_RATE, norm, scale, triangularize_in_mel_space=kaldi
    )
    return torch.from_numpy(bank.astype(np.float32))


def whisper_log_mel(wave: np.ndarray, mels: int = 80) -> torch.Tensor:
    """Whisper's log-mel without padding to 30 s (Radford et al. 2022): (frames, mels)."""
    log = torch.log10(_mel_power(wave, mels).clamp(min=1e-10))
    return (torch.maximum(log, log.max() - 8) + 4) / 4


def kaldi_fbank(wave: np.ndarray, mels: int = 80) -> torch.Tensor:
    """Kaldi's log filter bank of a wave, minus its mean over frames: (frames, mels).

    25 ms Povey window, pre-emphasis 0.97; frames beyond the end are left out.
    """
    frames = torch.from_numpy(wave * 32768).unfold(0, 400, 160)
    frames = frames - frames.mean(dim=1, keepdim=True)
    frames = frames - 0.97 * F.pad(frames, (1, 0), mode="replicate")[:, :-1]
    window = torch.hann_window(400, periodic=False).pow(0.85)
    power = torch.fft.rfft(frames * window, 512).abs().square()
    log = torch.log((power @ mel_bank(257, mels, 20, 8000, "kaldi")).clamp(min=1.1920929e-07))
    return log - log.mean(dim=0)


def ge2e_mel(wave: np.ndarray) -> torch.Tensor:
    """Mel power of a wave scaled to -30 dBFS, as Resemblyzer computes it for GE2E: (frames, 40)."""
    wave = wave * 10 ** (-30 / 20) / max(float(np.sqrt(np.mean(wave**2))), 1e-6)
    return _mel_power(wave.astype(np.float32), 40)


def _mel_power(wave: np.ndarray, mels: int) -> torch.Tensor:
    """Power in mel bands (Slaney's scale) in 25 ms Hann windows, without the last frame."""
    window = torch.hann_window(400)
    spectrum = torch.stft(torch.from_numpy(wave), 400, 160, window=window, return_complex=True)
    return spectrum[:, :-1].abs().square().T @ mel_bank(201, mels, 0, 8000, "slaney")
