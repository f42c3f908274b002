"""What recordings go through: codecs, noise, rooms, loudspeakers, quiet files. The label stays.

Waves are float32 (samples,) at `RATE`, full scale ±1. `degraded` makes copies that train the
detector; its study of robustness applies the others one at a time.
"""

import io

import numpy as np
from scipy import signal

from utils.audio import channel, dsp
from utils.detector.embedding import PEAK, RATE

ENCODERS = {  # codec → FFmpeg's container and encoder, and the rate in Hz
    "mp3": ("mp3", "libmp3lame", RATE),
    "opus": ("ogg", "libopus", RATE),
    "amr": ("amr", "libopencore_amrnb", dsp.RATE),
}

# What `degraded` draws from: fractions of clips, and ranges.
ROOMS, NOISY = 0.35, 0.5
RT60_S = (0.15, 0.9)
SNR_DB = (5.0, 40.0)
QUIETER_DB = (0.0, 45.0)
CODECS = {  # codec → bit rates in kbit/s; two clips in seven stay uncoded
    "mulaw": (64,),
    "gsm": (13,),
    "amr": (4.75, 5.9, 7.4, 12.2),
    "mp3": (16, 24, 32, 64),
    "opus": (8, 12, 16, 24, 32),
}
UNCODED = 2 / 7


def coded(wave: np.ndarray, codec: str, kbps: float) -> np.ndarray:
    """Encode by a codec of `ENCODERS` at a bit rate in kbit/s, and decode.

    The length can grow by the delay of the codec.
    """
    import av

    container, encoder, rate = ENCODERS[codec]
    buffer = io.BytesIO()
    samples = np.clip(dsp.resample(wave, RATE, rate), -1, 1)
    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(encoder, rate=rate, layout="mono")
        stream.bit_rate = int(kbps * 1000)
        frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.codec_context.format, "mono", rate)
        for converted in (*resampler.resample(frame), None):
            for packet in stream.encode(converted):
                file.mux(packet)
    buffer.seek(0)
    to_float = av.AudioResampler("flt", "mono", RATE)
    with av.open(buffer) as file:
        frames = [f for each in (*file.decode(audio=0), None) for f in to_float.resample(each)]
    return np.concatenate([frame.to_ndarray().ravel() for frame in frames]).astype(np.float32)


def by_telephone(wave: np.ndarray, codec: str) -> np.ndarray:
    """A codec of `channel.CODECS`, at 8 kHz."""
    return dsp.resample(channel.transmit(dsp.resample(wave, RATE, dsp.RATE), codec), dsp.RATE, RATE)


def noisy(
    wave: np.ndarray, rng: np.random.Generator, snr_db: float, slope_db: float = 3.0
) -> np.ndarray:
    """Noise at a signal-to-noise ratio, `slope_db` weaker with each octave: 3 is pink."""
    return dsp.add_noise(wave, dsp.coloured_noise(len(wave), slope_db, rng), snr_db)


def in_a_room(wave: np.ndarray, rng: np.random.Generator, rt60_s: float) -> np.ndarray:
    """Reverberation: direct sound and noise that decays by 60 dB in `rt60_s` (Polack 1988).

    The direct sound is as strong as in 1.5 m distance in a room of 60 m³.
    """
    time = np.arange(int(rt60_s * RATE)) / RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / rt60_s)
    critical_m = 0.057 * np.sqrt(60 / rt60_s)  # distance where both are as strong (Sabine)
    tail *= 1.5 / critical_m / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    return signal.fftconvolve(wave, tail)[: len(wave)].astype(np.float32)


def recorded_again(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A small loudspeaker (300 Hz to 6 kHz, mild clipping), a room, noise at 25 dB, MP3."""
    band = signal.butter(2, (300, 6000), "bandpass", fs=RATE, output="sos")
    played = signal.sosfilt(band, wave)
    played = np.tanh(1.5 * played / max(np.abs(played).max(), 1e-9)) / 1.5
    heard = noisy(in_a_room(played.astype(np.float32), rng, 0.4), rng, 25)
    return coded(heard / max(1.0, dsp.peak(heard)), "mp3", 64)


def quieter(wave: np.ndarray, db: float) -> np.ndarray:
    """Another level, rounded to 16 bits."""
    return (np.round(wave * 10 ** (-db / 20) * 32767) / 32767).astype(np.float32)


def degraded(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random way of a recording: a room, noise, a codec, another level in 16 bits.

    Each of the first three may be missing; amounts are drawn evenly from the ranges above.
    """
    roomy, noise = rng.random() < ROOMS, rng.random() < NOISY
    if roomy:
        wave = in_a_room(wave, rng, rng.uniform(*RT60_S))
    if noise:
        slope_db = rng.uniform(0, 6)
        wave = noisy(wave, rng, rng.uniform(*SNR_DB), slope_db)
    wave = wave * (PEAK / max(1e-9, dsp.peak(wave)))
    if rng.random() >= UNCODED:
        codec = str(rng.choice(list(CODECS)))
        kbps = float(rng.choice(CODECS[codec]))
        wave = coded(wave, codec, kbps) if codec in ENCODERS else by_telephone(wave, codec)
    return quieter(wave, rng.uniform(*QUIETER_DB))
