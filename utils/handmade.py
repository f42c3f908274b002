"""Features that people thought of: prosody, phase, spectrum, and what Whisper's decoder makes of a clip."""
import hashlib

import numpy as np
import parselmouth
import torch
from parselmouth.praat import call
from torch.nn import functional as F
from whisper.tokenizer import LANGUAGES

from utils import cache, language, paths, workers
from utils.audio import RATE, resample
from utils.backbones import MODEL_RATE, whisper_base, whisper_log_mel

TASK, PLAIN, END = 50359, 50363, 50257  # <|transcribe|>, <|notimestamps|>, <|endoftext|>
WORDS, ROOM_S = 12, 1.0  # tokens written down at most; silence after the clip, of the 30 s that are published


def prosody(wave: np.ndarray) -> dict[str, float]:
    """Pitch, its course, its steadiness from period to period, loudness and pauses of an 8 kHz wave (Praat)."""
    sound = parselmouth.Sound(wave.astype(float), RATE)
    pitch = sound.to_pitch(0.01, 60, 500)
    tone = pitch.selected_array["frequency"]
    voiced = np.log2(tone[tone > 0]) if (tone > 0).any() else np.zeros(1)
    pulses = call([sound, pitch], "To PointProcess (cc)")
    level = sound.to_intensity(60).values[0] if len(wave) > RATE // 5 else np.zeros(1)
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], (tone > 0).astype(int), [0]]))))[::2]
    ratio = call(sound.to_harmonicity_cc(0.01, 60, 0.1, 1.0), "Get mean", 0, 0)
    return {"pitch: median (octaves)": np.median(voiced), "pitch: spread": voiced.std(), "pitch: range": np.ptp(voiced),
            "pitch: step a frame": np.abs(np.diff(voiced)).mean() if len(voiced) > 1 else 0.0,
            "pitch: curvature": np.abs(np.diff(voiced, 2)).mean() if len(voiced) > 2 else 0.0,
            "voice: share": (tone > 0).mean(), "voice: run (frames)": runs.mean() if len(runs) else 0.0,
            "voice: jitter": call(pulses, "Get jitter (local)", 0, 0, 0.0001, 0.02, 1.3),
            "voice: shimmer": call([sound, pulses], "Get shimmer (local)", 0, 0, 0.0001, 0.02, 1.3, 1.6),
            "voice: harmonics to noise (dB)": ratio,
            "loudness: spread (dB)": level.std(), "loudness: step": np.abs(np.diff(level)).mean() if len(level) > 1 else 0.0}


def spectrum(wave: np.ndarray) -> dict[str, float]:
    """Level, spread and change of 16 bands, and how far phase strays from a steady sine's in each: 25 ms frames, 5 ms apart."""
    frames = torch.stft(torch.from_numpy(wave), 200, 40, window=torch.hann_window(200), return_complex=True)
    power = torch.stack([band.mean(dim=0) for band in (frames.abs() ** 2)[1:].split(6)[:16]])
    level, loud = (power + 1e-9).log(), power.sum(dim=0) > 0.01 * power.sum(dim=0).max()
    turn = torch.diff(torch.diff(frames.angle(), dim=1), dim=1)  # of a steady sine: 0
    stray = 1 - torch.cos(turn)[1:, loud[2:]]
    found = {}
    for i in range(16):
        found[f"band {i}: level"] = float(level[i].mean() - level.mean())
        found[f"band {i}: spread"] = float(level[i].std())
        found[f"band {i}: change"] = float(level[i].diff().abs().mean())
        found[f"band {i}: phase"] = float(stray[6 * i : 6 * i + 6].mean()) if stray.shape[1] else 0.0
    return found


@torch.inference_mode()
def decoding(wave: np.ndarray) -> dict[str, float]:
    """How sure Whisper base is while it writes a clip down, word by word, always the likeliest: log-probability and entropy of its
    tokens, how many a second, whether it came to an end; how sure it is of the language, and that somebody speaks."""
    model, seconds = whisper_base(), len(wave) / RATE
    spoken, sure, silent = language.detect_here([wave])[0]
    size = int(min(30, np.ceil((seconds + ROOM_S) * 2) / 2) * MODEL_RATE)
    mel = whisper_log_mel(language.whole_length(resample(wave, RATE, MODEL_RATE), size))[None].transpose(1, 2)
    x = F.gelu(model.encoder.conv2(F.gelu(model.encoder.conv1(mel)))).transpose(1, 2)
    x = x + model.encoder.embed_positions.weight[: x.shape[1]]
    for layer in model.encoder.layers:
        x = layer(x, None)
    heard = model.encoder.layer_norm(x)
    new = torch.tensor([[language.START, language.FIRST + list(LANGUAGES).index(spoken), TASK, PLAIN]])
    kept, sureness, doubt, ended = None, [], [], 0.0
    for _ in range(WORDS):
        out = model.decoder(input_ids=new, encoder_hidden_states=heard, past_key_values=kept, use_cache=True)
        kept = out.past_key_values
        shares = F.log_softmax((out.last_hidden_state[0, -1] @ model.decoder.embed_tokens.weight.T)[: END + 1], dim=0)
        token = int(shares.argmax())
        sureness.append(float(shares[token]))
        doubt.append(float(-(shares.exp() * shares).sum()))
        if token == END:
            ended = 1.0
            break
        new = torch.tensor([[token]])
    return {"decoder: mean log-probability": np.mean(sureness), "decoder: least log-probability": np.min(sureness),
            "decoder: mean entropy": np.mean(doubt), "decoder: largest entropy": np.max(doubt), "decoder: first entropy": doubt[0],
            "decoder: tokens a second": len(sureness) / seconds, "decoder: ended": ended,
            "language: probability": sure, "decoder: no speech": silent}


KINDS = {"prosody": prosody, "spectrum": spectrum, "decoding": decoding}


def features_here(waves: list[np.ndarray], kind: str) -> tuple[list[str], np.ndarray]:
    """(names, values (N, D)) of one of `KINDS`, computed in this process; what is not a number there is -1."""
    rows = [KINDS[kind](wave[: 15 * RATE]) for wave in waves]
    values = np.array([list(row.values()) for row in rows], np.float32)
    return list(rows[0]), np.where(np.isfinite(values), values, np.float32(-1))


def features(waves: list[np.ndarray], kind: str, label: str = "") -> tuple[list[str], np.ndarray]:
    """(names, values (N, D)) of 8 kHz waves in processes, kept by content."""
    def compute(missing):
        cuts = np.array_split(np.arange(len(missing)), max(1, len(missing) // 30))
        return [row for _, part in workers.in_processes(features_here, [([missing[i] for i in cut], kind) for cut in cuts], label)
                for row in part]

    names = features_here(waves[:1], kind)[0]
    return names, np.stack(cache.cached(waves, f"handmade {kind} {code_digest()}", compute))


def code_digest() -> str:
    """Hash of the code that decides these features."""
    code = b"".join((paths.ROOT / "utils" / name).read_bytes() for name in ("handmade.py", "language.py", "backbones.py"))
    return hashlib.sha256(code).hexdigest()[:16]
