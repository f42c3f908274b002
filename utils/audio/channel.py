"""TODO audio.channel."""

import io

import numpy as np
import soundfile as sf
from scipy.signal import butter, sosfilt

from utils.audio.dsp import RATE, add_noise, coloured_noise, dbfs, resample, trim

FLOOR_SNR_DB = (
    25.0,
    50.0,
)  # noise floor that conditioning adds, dB under the speech; see notebook 02 for the choice


# libsndfile's (container, subtype): real telephone and internet codecs, no ffmpeg needed
CODECS = {
    "pcm": None,
    "mulaw": ("WAV", "ULAW"),  # G.711 µ-law
    "alaw": ("WAV", "ALAW"),  # G.711 A-law
    "adpcm": ("WAV", "IMA_ADPCM"),
    "gsm": ("WAV", "GSM610"),  # GSM full rate
    "opus": ("OGG", "OPUS"),  # Opus, narrowband at 8 kHz
    "amr": (
        "3gp",
        "libopencore_amrnb",
    ),  # AMR narrowband, 12.2 kbit/s, through FFmpeg's libraries (PyAV)
}

TELEPHONE = (
    "pcm",
    "pcm",
    "mulaw",
    "alaw",
    "gsm",
    "amr",
    "opus",
)  # what conditioning draws from; one in three is untouched


def transmit(wave: np.ndarray, codec: str) -> np.ndarray:
    """Encode and decode `wave` with one of `CODECS`, length kept. A transmitted real clip is still real."""
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
    return np.pad(decoded, (0, max(0, len(wave) - len(decoded))))[: len(wave)]


def _through_ffmpeg(
    wave: np.ndarray, container: str, encoder: str, buffer: io.BytesIO
) -> np.ndarray:
    import av

    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(encoder, rate=RATE, layout="mono", format="s16")
        stream.bit_rate = 12200
        frame = av.AudioFrame.from_ndarray(
            (wave * 32767).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    buffer.seek(0)
    with av.open(buffer) as file:
        return np.concatenate([f.to_ndarray().ravel() for f in file.decode(audio=0)]).astype(
            np.float32
        )[40:]  # 5 ms look-ahead


def lose_packets(wave: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Lose about `share` of the 20 ms packets, in bursts of two on average (Gilbert's model), and conceal each by the
    one before, 6 dB weaker each time, as simple receivers do."""
    size, lost, result = RATE // 50, False, wave.copy()
    for start in range(size, len(wave) - size + 1, size):
        lost = rng.random() < (0.5 if lost else share / 2 / (1 - share))
        if lost:
            result[start : start + size] = result[start - size : start] / 2
    return result


def condition(
    wave: np.ndarray,
    rate: int,
    rng: np.random.Generator,
    codecs: tuple[str, ...],
    loss: float = 0.0,
    strength: float = 1.0,
) -> tuple[np.ndarray, str]:
    """The one chain that both classes pass, so that what is left to learn is the speech and not the packaging.

    Each step removes a cue that would tell the classes apart in registry data, by drawing it anew from the same
    distribution for everyone: rate → 8 kHz; silence at the ends → trimmed to the same margin; DC and bandwidth →
    band-pass with drawn edges; noise floor → coloured noise, `FLOOR_SNR_DB` under the speech; codec, lost packets and
    level → drawn.

    Args: wave at `rate` Hz; `codecs` names to draw from; `loss` the share of clips that lose 1–5 % of their packets;
    `strength` 0 (8 kHz and a full scale that does not clip, nothing else) to 1 (all of it). A clip's draws are the same
    at every strength: 0.5 moves it half the way, with noise 15 dB weaker and half the codecs.
    Returns (wave at 8 kHz, codec used).
    """
    wave = resample(wave, rate, RATE)
    low, high = rng.uniform(60, 250), rng.uniform(3200, 3800)
    wave = trim(wave) if strength else wave
    slope = rng.uniform(0, 6)
    if strength:
        edges = low * strength + 20 * (1 - strength), high * strength + 3950 * (1 - strength)
        band = butter(4, edges, "bandpass", fs=RATE, output="sos")
        wave = sosfilt(band, wave - wave.mean()).astype(np.float32)
        noise = coloured_noise(len(wave), slope, rng)
        wave = add_noise(wave, noise, rng.uniform(*FLOOR_SNR_DB) + 30 * (1 - strength))
        wave = wave * 10 ** ((rng.uniform(-30, -18) - dbfs(wave)) * strength / 20)
    codec, loses, share = (
        str(rng.choice(codecs)),
        rng.random() < loss * strength,
        rng.uniform(0.01, 0.05),
    )
    if rng.random() >= strength:  # never at full strength, always at none
        codec = "pcm"
    wave = transmit(wave / max(1.0, np.abs(wave).max() / 0.98), codec)
    if loses:
        wave = lose_packets(wave, share, rng)
    return wave, codec
