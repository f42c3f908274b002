"""Spoken language by Whisper, batched, its 30 s of padding thinned; openai-whisper's own answer for comparison."""

import numpy as np
import torch
from torch.nn import functional as F
from whisper.tokenizer import LANGUAGES

from utils import feature_cache, parallel
from utils.audio.dsp import RATE, resample
from utils.audio.log_mels import MODEL_RATE, whisper_log_mel
from utils.code_digest import code_digest

START, FIRST = (
    50258,
    50259,
)  # <|startoftranscript|>, <|en|>: the language tokens follow in the order of LANGUAGES
NO_SPEECH = 50362  # <|nospeech|>

PAD_S, GRID_S = (
    0.75,
    0.5,
)  # silence after the clip, at least; lengths are rounded up to the grid, so that like ones share a batch
BUDGET_S = 40  # seconds a batch


def _thinned(encoder, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Input of the encoder's layers for (B, frames, bands): the positions of the clips, and some of the silence that openai-whisper
    puts after them up to 30 s. One of these stands for three positions at first, for one more every 25 positions farther on.
    The second value is what attention adds for a position that stands for several: the logarithm of how many."""
    x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel.transpose(1, 2))))).transpose(1, 2)
    last = encoder.embed_positions.num_embeddings
    own = (
        last if x.shape[1] >= last else x.shape[1] - 2
    )  # the convolutions' last ones saw an end, not silence
    starts = [own]
    while starts[-1] < last:
        starts.append(min(last, starts[-1] + 3 + (starts[-1] - own) // 25))
    starts, sizes = np.array(starts[:-1], int), np.diff(starts)
    x = torch.cat([x[:, :own], x[:, own - 1 : own].expand(-1, len(starts), -1)], dim=1)
    weight = torch.from_numpy(np.log(np.concatenate([np.ones(own), sizes]))).float()[
        None, None, None
    ]
    return x + encoder.embed_positions.weight[
        np.concatenate([np.arange(own), starts + sizes // 2])
    ], weight


def _heard(model, mel: torch.Tensor) -> torch.Tensor:
    """Whisper's logits after <|startoftranscript|> of (B, frames, bands): (B, words)."""
    x, weight = _thinned(model.encoder, mel)
    for layer in model.encoder.layers:
        x = layer(x, weight)
    x = model.encoder.layer_norm(x)

    def split(y):
        return y.unflatten(-1, (-1, 64)).transpose(1, 2)

    decoder = model.decoder
    said = (decoder.embed_tokens.weight[START] + decoder.embed_positions.weight[0]).expand(
        len(mel), 1, -1
    )
    for layer in decoder.layers:  # not by transformers, which takes no such weights; one word's attention to itself is its value
        said = said + layer.self_attn.out_proj(
            layer.self_attn.v_proj(layer.self_attn_layer_norm(said))
        )
        cross = layer.encoder_attn
        query, key, value = (
            cross.q_proj(layer.encoder_attn_layer_norm(said)),
            cross.k_proj(x),
            cross.v_proj(x),
        )
        found = F.scaled_dot_product_attention(
            split(query), split(key), split(value), attn_mask=weight
        )
        said = said + cross.out_proj(found.transpose(1, 2).flatten(2))
        said = said + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(said))))
    return decoder.layer_norm(said)[:, 0] @ decoder.embed_tokens.weight.T


@torch.inference_mode()
def detect_in_this_process(waves: list[np.ndarray]) -> list[tuple[str, float, float]]:
    """What `detect` gives, computed in this process."""
    from utils.models.encoders import whisper_base

    model, result = whisper_base(), [("", 0.0, 1.0)] * len(waves)
    size = [min(30, GRID_S * np.ceil((len(wave) / RATE + PAD_S) / GRID_S)) for wave in waves]
    for seconds in sorted(set(size)):
        rows = np.flatnonzero(np.equal(size, seconds))
        for part in np.array_split(rows, int(np.ceil(len(rows) * seconds / BUDGET_S))):
            fitted = [
                whisper_log_mel(
                    whole_length(resample(waves[i], RATE, MODEL_RATE), int(seconds * MODEL_RATE))
                )
                for i in part
            ]
            logits = _heard(model, torch.stack(fitted))
            silent, languages = (
                F.softmax(logits, dim=1)[:, NO_SPEECH],
                F.softmax(logits[:, FIRST : FIRST + 99], dim=1),
            )
            for i, probability, index, none in zip(
                part, *languages.max(dim=1), silent, strict=True
            ):
                result[i] = list(LANGUAGES)[int(index)], float(probability), float(none)
    return result


def whole_length(wave: np.ndarray, samples: int) -> np.ndarray:
    """The wave cut or filled with silence to `samples`."""
    return np.pad(wave[:samples], (0, max(0, samples - len(wave))))


def detect(waves: list[np.ndarray], label: str = "") -> list[tuple[str, float, float]]:
    """(language code, its probability among all languages, probability that nobody speaks) of clips at 8 kHz, in processes, kept by
    content. The last is Whisper's `no_speech_prob`.

    Of the silence up to 30 s the encoder sees a twentieth: notebooks 01 and 10 measure how often it agrees with openai-whisper.
    """
    codes = list(LANGUAGES)

    def compute(missing):
        order = np.argsort(
            [len(wave) for wave in missing], kind="stable"
        )  # like lengths side by side
        cuts = np.array_split(order, max(1, len(missing) // 60))
        parts = parallel.run_in_processes(
            detect_in_this_process, [([missing[i] for i in cut],) for cut in cuts], label
        )
        made = dict(zip(order.tolist(), (answer for part in parts for answer in part), strict=True))
        return [np.array([codes.index(made[i][0]), *made[i][1:]]) for i in range(len(missing))]

    answers = feature_cache.cached(
        waves, "language " + code_digest(detect_in_this_process), compute
    )
    return [
        (codes[int(index)], float(probability), float(none)) for index, probability, none in answers
    ]


def openai_model(model: torch.nn.Module):
    """The same weights in openai-whisper's own class, for its `detect_language`."""
    import whisper

    c = model.config
    dims = whisper.model.ModelDimensions(
        c.num_mel_bins,
        c.max_source_positions,
        c.d_model,
        c.encoder_attention_heads,
        c.encoder_layers,
        c.vocab_size,
        c.max_target_positions,
        c.d_model,
        c.decoder_attention_heads,
        c.decoder_layers,
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
    """openai-whisper's published way: 30 s window, its own log-mel, `detect_language`: (language code, probability)."""
    import whisper

    padded = whisper.pad_or_trim(torch.from_numpy(resample(wave, RATE, MODEL_RATE)))
    _, shares = model.detect_language(whisper.log_mel_spectrogram(padded, model.dims.n_mels))
    code = max(shares, key=shares.get)
    return code, float(shares[code])
