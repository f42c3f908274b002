"""Spoken language identification by Whisper, in batches, and by openai-whisper for comparison.

Whisper was trained on windows of 30 s, in which silence follows a short clip. `detect` represents
most of this silence by few positions of the encoder, which makes short clips much cheaper.
"""

import numpy as np
import torch
from torch.nn import functional as F
from whisper.tokenizer import LANGUAGES

from utils import feature_cache, parallel
from utils.audio.dsp import RATE, fit_length, resample
from utils.audio.log_mels import MODEL_RATE, whisper_log_mel
from utils.code_digest import code_digest
from utils.models import encoders

START = 50258  # token <|startoftranscript|>
FIRST = 50259  # token <|en|>: all language tokens follow, in the order of LANGUAGES
NO_SPEECH = 50362  # token <|nospeech|>
PAD_S = 0.75  # least silence after a clip that goes through the convolutions
GRID_S = 0.5  # padded clips have a multiple of this length, so that many share a batch
BATCH_S = 40  # seconds of audio per batch
CLIPS_PER_JOB = 60


def _thinned(encoder, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Input of the encoder's transformer layers, with the silence up to 30 s thinned out.

    All positions of `mel` are kept. Of the silence that would follow up to 30 s, one position
    stands for several equal ones: for 3 right after the clip, and for one more with every 25
    positions (0.5 s) of distance. It has the position embedding of the middle one.
    Args: log-mels `mel` (B, frames, bands), which end in silence.
    Returns (x, weight): x (B, T, D), and weight (1, 1, 1, T), which is added to attention scores:
    the logarithm of the number of positions that each one stands for. exp(score + log n) counts n
    times in the softmax.
    """
    x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel.transpose(1, 2))))).transpose(1, 2)
    last = encoder.embed_positions.num_embeddings
    # the last two outputs of the convolutions depend on the end of `mel`: they are not silence
    kept = last if x.shape[1] >= last else x.shape[1] - 2
    edges = [kept]
    while edges[-1] < last:
        edges.append(min(last, edges[-1] + 3 + (edges[-1] - kept) // 25))
    starts, sizes = np.array(edges[:-1], int), np.diff(edges)
    silence = x[:, kept - 1 : kept].expand(-1, len(starts), -1)
    positions = np.concatenate([np.arange(kept), starts + sizes // 2])
    x = torch.cat([x[:, :kept], silence], dim=1) + encoder.embed_positions.weight[positions]
    weight = torch.from_numpy(np.log(np.concatenate([np.ones(kept), sizes]))).float()
    return x, weight[None, None, None]


def _first_logits(model, mel: torch.Tensor) -> torch.Tensor:
    """Whisper's logits (B, V) of the token after <|startoftranscript|>; mel (B, frames, bands)."""
    x, weight = _thinned(model.encoder, mel)
    for layer in model.encoder.layers:
        x = layer(x, weight)
    x = model.encoder.layer_norm(x)

    def split(y):
        return y.unflatten(-1, (-1, 64)).transpose(1, 2)

    # transformers' decoder accepts no weights, so its layers are written out here
    decoder = model.decoder
    token = decoder.embed_tokens.weight[START] + decoder.embed_positions.weight[0]
    y = token.expand(len(mel), 1, -1)
    for layer in decoder.layers:
        # self-attention of a single token is its value
        value = layer.self_attn.v_proj(layer.self_attn_layer_norm(y))
        y = y + layer.self_attn.out_proj(value)
        cross = layer.encoder_attn
        query = cross.q_proj(layer.encoder_attn_layer_norm(y))
        key, value = cross.k_proj(x), cross.v_proj(x)
        attended = F.scaled_dot_product_attention(
            split(query), split(key), split(value), attn_mask=weight
        )
        y = y + cross.out_proj(attended.transpose(1, 2).flatten(2))
        y = y + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(y))))
    return decoder.layer_norm(y)[:, 0] @ decoder.embed_tokens.weight.T


@torch.inference_mode()
def detect_in_this_process(waves: list[np.ndarray]) -> list[tuple[str, float, float]]:
    """What `detect` gives, computed in this process and not cached."""
    model, codes = encoders.whisper_base(), list(LANGUAGES)
    result = [("", 0.0, 1.0)] * len(waves)
    padded = [min(30, GRID_S * np.ceil((len(wave) / RATE + PAD_S) / GRID_S)) for wave in waves]
    for seconds in sorted(set(padded)):
        rows = np.flatnonzero(np.equal(padded, seconds))
        samples = int(seconds * MODEL_RATE)
        for batch in np.array_split(rows, int(np.ceil(len(rows) * seconds / BATCH_S))):
            mels = [
                whisper_log_mel(fit_length(resample(waves[i], RATE, MODEL_RATE), samples))
                for i in batch
            ]
            logits = _first_logits(model, torch.stack(mels))
            no_speech = F.softmax(logits, dim=1)[:, NO_SPEECH]
            languages = F.softmax(logits[:, FIRST : FIRST + 99], dim=1)
            best, index = languages.max(dim=1)
            for row, i in enumerate(batch):
                result[i] = codes[int(index[row])], float(best[row]), float(no_speech[row])
    return result


def detect(waves: list[np.ndarray], label: str = "") -> list[tuple[str, float, float]]:
    """Spoken language of clips, computed in parallel processes; each clip is cached by content.

    Args: waves at 8 kHz; `label` of the progress bar, none without.
    Returns of each clip (language code, its probability among all languages, probability that
    nobody speaks, Whisper's `no_speech_prob`). The encoder gets a twentieth of the silence up to
    30 s: notebooks 01 and 10 measure how often the answer agrees with openai-whisper's.
    """
    codes = list(LANGUAGES)

    def compute(missing):
        # clips of about equal length next to each other
        order = np.argsort([len(wave) for wave in missing], kind="stable")
        sorted_waves = [missing[i] for i in order]
        results = parallel.map_chunks(
            detect_in_this_process, sorted_waves, CLIPS_PER_JOB, label=label
        )
        rows: list = [None] * len(missing)
        for i, (code, probability, no_speech) in zip(order, results, strict=True):
            rows[i] = np.array([codes.index(code), probability, no_speech])
        return rows

    name = "language " + code_digest(
        detect_in_this_process, settings=encoders.identity("whisper-base")
    )
    answers = feature_cache.cached(waves, name, compute)
    return [
        (codes[int(index)], float(probability), float(no_speech))
        for index, probability, no_speech in answers
    ]


def openai_model(model: torch.nn.Module):
    """The same weights in openai-whisper's own class, for its `detect_language`."""
    import whisper

    config = model.config
    dims = whisper.model.ModelDimensions(
        n_mels=config.num_mel_bins,
        n_audio_ctx=config.max_source_positions,
        n_audio_state=config.d_model,
        n_audio_head=config.encoder_attention_heads,
        n_audio_layer=config.encoder_layers,
        n_vocab=config.vocab_size,
        n_text_ctx=config.max_target_positions,
        n_text_state=config.d_model,
        n_text_head=config.decoder_attention_heads,
        n_text_layer=config.decoder_layers,
    )
    names = {
        "encoder.embed_positions.weight": "encoder.positional_embedding",
        "decoder.embed_positions.weight": "decoder.positional_embedding",
        "encoder_attn_layer_norm": "cross_attn_ln",
        "encoder_attn": "cross_attn",
        "self_attn_layer_norm": "attn_ln",
        "self_attn": "attn",
        "final_layer_norm": "mlp_ln",
        "embed_tokens": "token_embedding",
        "encoder.layer_norm": "encoder.ln_post",
        "decoder.layer_norm": "decoder.ln",
        "q_proj": "query",
        "k_proj": "key",
        "v_proj": "value",
        "out_proj": "out",
        "fc1": "mlp.0",
        "fc2": "mlp.2",
        "layers.": "blocks.",
    }
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
    """Language of one 8 kHz clip the way openai-whisper publishes: (language code, probability).

    Its own log-mel of a window of 30 s, its own `detect_language`; `model` from `openai_model`.
    """
    import whisper

    padded = whisper.pad_or_trim(torch.from_numpy(resample(wave, RATE, MODEL_RATE)))
    mel = whisper.log_mel_spectrogram(padded, model.dims.n_mels)
    _, probabilities = model.detect_language(mel)
    code = max(probabilities, key=probabilities.get)
    return code, float(probabilities[code])
