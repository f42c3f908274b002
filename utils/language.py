"""Spoken language by Whisper, batched and without padding to 30 s; openai-whisper's own answer for comparison."""
import numpy as np
import torch
from torch.nn import functional as F
from transformers import WhisperModel
from whisper.tokenizer import LANGUAGES

from utils.audio import RATE, resample
from utils.backbones import MODEL_RATE, WhisperBackbone, whisper_log_mel

START, FIRST = 50258, 50259  # <|startoftranscript|>, <|en|>: the language tokens follow in the order of LANGUAGES


@torch.inference_mode()
def detect(model: WhisperModel, wave: np.ndarray, pad_s: float = 1.0) -> tuple[str, float]:
    """(language code, probability among all languages) of one 8 kHz clip.

    The encoder sees the clip and one second of silence (`pad_s`) instead of 30 s: the notebook measures the agreement.
    """
    encoder = WhisperBackbone(model.encoder, len(model.encoder.layers))
    padded = np.pad(resample(wave, RATE, MODEL_RATE), (0, int(pad_s * MODEL_RATE)))[: 30 * MODEL_RATE]
    mel = whisper_log_mel(padded)
    mel = mel[: len(mel) // 2 * 2]
    depths = encoder.stem(mel[None], torch.tensor([len(mel)]))
    hidden = model.encoder.layer_norm(encoder.body(*depths[-1])[0][0])
    state = model.decoder(input_ids=torch.tensor([[START]]), encoder_hidden_states=hidden).last_hidden_state[0, -1]
    logits = state @ model.decoder.embed_tokens.weight[FIRST : FIRST + 99].T
    probability, index = F.softmax(logits, dim=0).max(dim=0)
    return list(LANGUAGES)[int(index)], float(probability)


def openai_model(model: WhisperModel):
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
    """openai-whisper's published way: 30 s window, its own log-mel, `detect_language`. Same return as `detect`."""
    import whisper

    padded = whisper.pad_or_trim(torch.from_numpy(resample(wave, RATE, MODEL_RATE)))
    _, shares = model.detect_language(whisper.log_mel_spectrogram(padded, model.dims.n_mels))
    code = max(shares, key=shares.get)
    return code, float(shares[code])


def detect_all(waves: list[np.ndarray]) -> list[tuple[str, float]]:
    """`detect` for a list of clips, with Whisper base opened in this process."""
    from utils.backbones import whisper_base

    return [detect(whisper_base(), wave) for wave in waves]
