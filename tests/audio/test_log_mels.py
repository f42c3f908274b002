"""Spectral features equal those of the libraries whose models read them."""

import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from utils.audio import dsp, log_mels


def test_log_mel_equals_openai_whisper(speechlike):
    import whisper

    wave = dsp.resample(speechlike, 8000, 16000)
    theirs = whisper.log_mel_spectrogram(torch.from_numpy(wave)).T
    assert torch.allclose(log_mels.whisper_log_mel(wave), theirs, atol=1e-4)


def test_kaldi_fbank_equals_transformers():
    # energy in all bands: no rounding noise
    wave = dsp.coloured_noise(16000, 3, np.random.default_rng(0)) * 0.1
    bank = mel_filter_bank(257, 80, 20, 8000, 16000, None, "kaldi", triangularize_in_mel_space=True)
    theirs = spectrogram(
        wave * 32768.0,
        window_function(400, "povey", periodic=False),
        400,
        160,
        512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=bank,
        log_mel="log",
        mel_floor=1.1920929e-07,
        remove_dc_offset=True,
    ).T
    assert np.allclose(log_mels.kaldi_fbank(wave), theirs - theirs.mean(axis=0), atol=5e-3)
