"""A simulated telephone channel: codecs, lost packets, and the conditioning chain of both classes.

Waves are float32 arrays of shape (samples,), full scale ±1, at 8 kHz.
"""

import io

import numpy as np
import soundfile as sf
from scipy.signal import butter, sosfilt

from utils.audio.dsp import RATE, add_noise, coloured_noise, dbfs, fit_length, loud_part, resample

# Noise floor that conditioning adds, in dB under the clip's level, pauses included: from … to.
# Notebook 02 shows what other values do.
FLOOR_SNR_DB = (25.0, 50.0)

# What is cut from each end of a clip beyond its silence, in s: from … to, at most a tenth of it.
CUT_S = (0.05, 0.25)

# Name → (container, subtype) of libsndfile; for AMR (container, encoder) of FFmpeg's libraries.
CODECS = {
    "pcm": None,
    "mulaw": ("WAV", "ULAW"),  # G.711 µ-law
    "alaw": ("WAV", "ALAW"),  # G.711 A-law
    "adpcm": ("WAV", "IMA_ADPCM"),
    "gsm": ("WAV", "GSM610"),  # GSM full rate
    "opus": ("OGG", "OPUS"),  # Opus, narrowband at 8 kHz
    "amr": ("3gp", "libopencore_amrnb"),  # AMR narrowband, 12.2 kbit/s
}
AMR_LOOK_AHEAD = 40  # samples (5 ms) by which AMR delays the signal

# Conditioning chooses one of these at random: two clips in seven stay uncoded.
TELEPHONE = ("pcm", "pcm", "mulaw", "alaw", "gsm", "amr", "opus")


def transmit(wave: np.ndarray, codec: str) -> np.ndarray:
    """Encode and decode `wave` with a codec of `CODECS`; the length stays.

    The label stays too: a bona fide recording that was transmitted is still bona fide.
    """
    if CODECS[codec] is None:
        return wave
    container, subtype = CODECS[codec]
    buffer = io.BytesIO()
    if codec == "amr":
        decoded = _through_ffmpeg(np.clip(wave, -1, 1), container, subtype, buffer)
    else:
        sf.write(buffer, np.clip(wave, -1, 1), RATE, format=container, subtype=subtype)
        buffer.seek(0)
        decoded, rate = sf.read(buffer, dtype="float32")
        decoded = resample(decoded, rate, RATE)
    return fit_length(decoded, len(wave))


def _through_ffmpeg(
    wave: np.ndarray, container: str, encoder: str, buffer: io.BytesIO
) -> np.ndarray:
    import av

    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(encoder, rate=RATE, layout="mono", format="s16")
        stream.bit_rate = 12200
        samples = (wave * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    buffer.seek(0)
    with av.open(buffer) as file:
        decoded = np.concatenate([f.to_ndarray().ravel() for f in file.decode(audio=0)])
    return decoded.astype(np.float32)[AMR_LOOK_AHEAD:]


def lose_packets(wave: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Lose about `fraction` of the 20 ms packets, in bursts of two on average (Gilbert 1960).

    Each lost packet is replaced by the one before it, 6 dB weaker each time, as simple receivers
    do. The first packet is never lost.
    """
    size, lost, result = RATE // 50, False, wave.copy()
    for start in range(size, len(wave) - size + 1, size):
        lost = rng.random() < (0.5 if lost else fraction / 2 / (1 - fraction))
        if lost:
            result[start : start + size] = result[start - size : start] / 2
    return result


def heard_part(wave: np.ndarray, rng: np.random.Generator) -> slice:
    """Samples of an 8 kHz wave that conditioning keeps: both ends are cut within the speech.

    Synthesised sentences, recordings and joined recordings begin and end in different ways, with
    other pauses and fades. So silence is cut, then a random time (`CUT_S`) of the speech itself,
    then what is quiet at the new ends.
    """
    loud = loud_part(wave, margin=0)
    length = min(loud.stop, len(wave)) - loud.start
    first, last = np.minimum(rng.uniform(*CUT_S, 2) * RATE, length / 10).astype(int)
    start, stop = loud.start + first, loud.start + length - last
    heard = loud_part(wave[start:stop], margin=0)
    return slice(int(start + heard.start), int(min(start + heard.stop, stop)))


def condition(
    wave: np.ndarray,
    rate: int,
    rng: np.random.Generator,
    codecs: tuple[str, ...],
    loss: float = 0.0,
    strength: float = 1.0,
    cut: bool = True,
) -> tuple[np.ndarray, str]:
    """The chain that clips of both classes pass, so that packaging does not tell them apart.

    Recordings and synthesised clips of our sources differ in more than speech. Each step replaces
    one such property by random values from one distribution for all clips: rate (8 kHz); silence at
    the ends (`heard_part`); DC offset and bandwidth (band-pass with random edges); noise
    floor (coloured noise, `FLOOR_SNR_DB`); codec, lost packets and level (random).

    Args:
        wave: at `rate` Hz.
        rng: of this clip. It is used in the same way at every strength.
        codecs: names from `CODECS`, of which one is chosen.
        loss: fraction of clips that lose 1–5 % of their packets.
        strength: from 0 (only resampled to 8 kHz and scaled if it would clip) to 1 (all steps).
            At 0.5, level and band edges are half-way, noise is 15 dB weaker and half of the clips
            are coded.
        cut: False if the ends are cut already.
    Returns (wave at 8 kHz, name of the codec used).
    """
    wave = resample(wave, rate, RATE)
    low, high = rng.uniform(60, 250), rng.uniform(3200, 3800)
    heard = heard_part(wave, rng) if cut else slice(None)
    wave = wave[heard] if strength else wave
    slope = rng.uniform(0, 6)
    if strength:
        edges = low * strength + 20 * (1 - strength), high * strength + 3950 * (1 - strength)
        band = butter(4, edges, "bandpass", fs=RATE, output="sos")
        wave = sosfilt(band, wave - wave.mean()).astype(np.float32)
        noise = coloured_noise(len(wave), slope, rng)
        wave = add_noise(wave, noise, rng.uniform(*FLOOR_SNR_DB) + 30 * (1 - strength))
        wave = wave * 10 ** ((rng.uniform(-30, -18) - dbfs(wave)) * strength / 20)
    codec = str(rng.choice(codecs))
    loses_packets = rng.random() < loss * strength
    lost_fraction = rng.uniform(0.01, 0.05)
    if rng.random() >= strength:  # never at full strength, always at 0
        codec = "pcm"
    wave = transmit(wave / max(1.0, np.abs(wave).max() / 0.98), codec)
    if loses_packets:
        wave = lose_packets(wave, lost_fraction, rng)
    return wave, codec
