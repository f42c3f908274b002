"""Spoken language by Whisper, batched and without padding to 30 s; openai-whisper's own answer for comparison."""
import hashlib

import numpy as np
import torch
from torch.nn import functional as F
from whisper.tokenizer import LANGUAGES

from utils import cache, paths, workers
from utils.audio import RATE, resample
from utils.backbones import MODEL_RATE, WhisperBackbone, whisper_log_mel

START, FIRST = 50258, 50259  # <|startoftranscript|>, <|en|>: the language tokens follow in the order of LANGUAGES
NO_SPEECH = 50362  # <|nospeech|>

PAD_S, GRID_S = 1.0, 0.5  # silence after the clip, at least; lengths are rounded up to the grid, so that like ones share a batch
BUDGET_S = 40  # seconds a batch


@torch.inference_mode()
def detect_here(waves: list[np.ndarray]) -> list[tuple[str, float, float]]:
    """What `detect` gives, computed in this process."""
    from utils.backbones import whisper_base

    model, result = whisper_base(), [("", 0.0, 1.0)] * len(waves)
    encoder = WhisperBackbone(model.encoder, len(model.encoder.layers))
    size = [min(30, GRID_S * np.ceil((len(wave) / RATE + PAD_S) / GRID_S)) for wave in waves]
    for seconds in sorted(set(size)):
        rows = np.flatnonzero(np.equal(size, seconds))
        for part in np.array_split(rows, int(np.ceil(len(rows) * seconds / BUDGET_S))):
            fitted = [whisper_log_mel(whole_length(resample(waves[i], RATE, MODEL_RATE), int(seconds * MODEL_RATE))) for i in part]
            mel = torch.stack(fitted)
            depths = encoder.stem(mel, torch.full((len(part),), mel.shape[1]))
            hidden = model.encoder.layer_norm(encoder.body(*depths[-1])[0][0])
            state = model.decoder(input_ids=torch.full((len(part), 1), START), encoder_hidden_states=hidden).last_hidden_state
            logits = state[:, -1] @ model.decoder.embed_tokens.weight.T
            silent, languages = F.softmax(logits, dim=1)[:, NO_SPEECH], F.softmax(logits[:, FIRST : FIRST + 99], dim=1)
            for i, probability, index, none in zip(part, *languages.max(dim=1), silent, strict=True):
                result[i] = list(LANGUAGES)[int(index)], float(probability), float(none)
    return result


def whole_length(wave: np.ndarray, samples: int) -> np.ndarray:
    """The wave cut or filled with silence to `samples`."""
    return np.pad(wave[:samples], (0, max(0, samples - len(wave))))


def detect(waves: list[np.ndarray], label: str = "") -> list[tuple[str, float, float]]:
    """(language code, its probability among all languages, probability that nobody speaks) of clips at 8 kHz, in processes, kept by
    content. The last is Whisper's `no_speech_prob`.

    The encoder sees the clip and a second of silence instead of 30 s: notebook 01 measures the agreement with openai-whisper.
    """
    codes = list(LANGUAGES)
    code = b"".join((paths.ROOT / "utils" / name).read_bytes() for name in ("language.py", "backbones.py"))

    def compute(missing):
        order = np.argsort([len(wave) for wave in missing], kind="stable")  # like lengths side by side
        cuts = np.array_split(order, max(1, len(missing) // 60))
        parts = workers.in_processes(detect_here, [([missing[i] for i in cut],) for cut in cuts], label)
        made = dict(zip(order.tolist(), (answer for part in parts for answer in part), strict=True))
        return [np.array([codes.index(made[i][0]), *made[i][1:]]) for i in range(len(missing))]

    answers = cache.cached(waves, "language " + hashlib.sha256(code).hexdigest(), compute)
    return [(codes[int(index)], float(probability), float(none)) for index, probability, none in answers]


def openai_model(model: torch.nn.Module):
    """The same weights in openai-whisper's own class, for its `detect_language`."""
    import whisper

    c = model.config
    dims = whisper.model.ModelDimensions(c.num_mel_bins, c.max_source_positions, c.d_model, c.encoder_attention_heads,
                                         c.encoder_layers, c.vocab_size, c.max_target_positions, c.d_model,
                                         c.decoder_attention_heads, c.decoder_layers)
    names = {"encoder.embed_positions.weight": "encoder.positional_embedding",
             "decoder.embed_positions.weight": "decoder.positional_embedding",
             "encoder_attn_layer_norm": "cross_attn_ln", "encoder_attn": "cross_attn", "self_attn_layer_norm": "attn_ln",
             "self_attn": "attn", "final_layer_norm": "mlp_ln", "embed_tokens": "token_embedding",
             "encoder.layer_norm": "encoder.ln_post", "decoder.layer_norm": "decoder.ln", "q_proj": "query",
             "k_proj": "key", "v_proj": "value", "out_proj": "out", "fc1": "mlp.0", "fc2": "mlp.2", "layers.": "blocks."}
    state = {}
    for name, tensor in model.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        state[name] = tensor
    result = whisper.model.Whisper(dims)
    result.load_state_dict(state)
    return result.eval()


@torch.inference_mode()
def detect_openai(model, wave: np.ndarray) -> tuple[str, float]:
    """openai-whisper's published way: 30 s window, its own log-mel, `detect_language`: (language code, probability)."""
    import whisper

    padded = whisper.pad_or_trim(torch.from_numpy(resample(wave, RATE, MODEL_RATE)))
    _, shares = model.detect_language(whisper.log_mel_spectrogram(padded, model.dims.n_mels))
    code = max(shares, key=shares.get)
    return code, float(shares[code])
