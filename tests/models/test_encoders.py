"""Weights and features: the conversion against CTranslate2, the cropped encoder against the stock one, the hub path."""

import numpy as np
import pytest
import torch
from transformers import (
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperModel,
)
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from utils.audio import dsp, log_mels
from utils.models import classifiers, encoders, frozen_features, language_id
from utils.sources import whisper_weights
from utils.synthesis import ttskit


def test_converted_whisper_equals_ctranslate2(speechlike):
    import ctranslate2

    model = ctranslate2.models.Whisper(
        str(whisper_weights.ctranslate2_folder()), compute_type="float32"
    )
    mel = log_mels.whisper_log_mel(np.pad(dsp.resample(speechlike, 8000, 16000), (0, 28 * 16000)))
    mel = mel.T[None].contiguous()
    theirs = np.array(model.encode(ctranslate2.StorageView.from_array(mel.numpy())))
    with torch.inference_mode():
        ours = encoders.whisper_base().encoder(mel).last_hidden_state.numpy()
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 1e-4


def test_log_mel_equals_openai_whisper(speechlike):
    import whisper

    wave = dsp.resample(speechlike, 8000, 16000)
    theirs = whisper.log_mel_spectrogram(torch.from_numpy(wave)).T
    assert torch.allclose(log_mels.whisper_log_mel(wave), theirs, atol=1e-4)


def test_kaldi_fbank_equals_transformers():
    wave = (
        dsp.coloured_noise(16000, 3, np.random.default_rng(0)) * 0.1
    )  # energy in all bands: no rounding noise
    bank = mel_filter_bank(257, 80, 20, 8000, 16000, None, "kaldi", triangularize_in_mel_space=True)
    theirs = spectrogram(
        wave * 32768.0,
        window_function(400, "povey", periodic=False),
        400,
        160,
        512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=bank,
        log_mel="log",
        mel_floor=1.1920929e-07,
        remove_dc_offset=True,
    ).T
    assert np.allclose(log_mels.kaldi_fbank(wave), theirs - theirs.mean(axis=0), atol=5e-3)


def tiny_whisper():
    torch.manual_seed(0)
    return WhisperModel(
        WhisperConfig(
            vocab_size=60,
            d_model=32,
            encoder_layers=3,
            decoder_layers=1,
            encoder_ffn_dim=64,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            decoder_ffn_dim=64,
            max_source_positions=200,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
    ).eval()


@torch.inference_mode()
def test_cropped_encoder_equals_the_stock_class():
    model = tiny_whisper()
    mel = torch.randn(2, 400, 80)
    stock = model.encoder(mel.transpose(1, 2)).last_hidden_state
    ours = encoders.WhisperBackbone(model.encoder, 3)
    depths = ours.lower_layers(mel, torch.tensor([400, 400]))
    hidden = model.encoder.layer_norm(ours.upper_layers(*depths[-1])[0][0])
    assert torch.allclose(hidden, stock, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["whisper-base", "ge2e"])
def test_company_and_padding_do_not_change_a_clip(speechlike, name):
    backbone = encoders.load(name, 2).eval()
    features = [backbone.prepare(speechlike[:9000]), backbone.prepare(speechlike)]
    batch = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
    frames = torch.tensor([len(f) for f in features])

    def statistics(batch, frames):
        depths = backbone.lower_layers(batch, frames)
        return frozen_features.pool([*depths, *backbone.upper_layers(*depths[-1])])

    alone = statistics(features[0][None], frames[:1])
    assert torch.allclose(statistics(batch, frames)[0], alone[0], atol=2e-4, rtol=1e-3)


@torch.inference_mode()
def test_ge2e_layers_equal_one_lstm(speechlike):
    backbone = encoders.load("ge2e").eval()
    whole = torch.nn.LSTM(40, 256, 3, batch_first=True)
    whole.load_state_dict(
        {
            f"{n}_l{i}": getattr(lstm, f"{n}_l0")
            for i, lstm in enumerate(backbone.lstms)
            for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
    )
    mel = backbone.prepare(speechlike)[None]
    depths = backbone.lower_layers(mel, torch.tensor([mel.shape[1]]))
    assert torch.allclose(backbone.upper_layers(*depths[-1])[0][0], whole(mel)[0], atol=1e-5)


@torch.inference_mode()
def test_campplus_knows_voices():
    """Two halves of one real recording are nearer to each other than to another speaker's."""
    from utils.sources import real_speech

    network = encoders.load("campplus").network.eval()
    halves = []
    for source in ("es-co", "armelle", "asterisk-ru"):
        long = next(
            w for w, r in (c.load() for c in real_speech.recordings(source)) if len(w) / r > 5
        )
        halves.append(
            [
                network(log_mels.kaldi_fbank(dsp.resample(part, 8000, 16000)).T[None])[0]
                for part in np.array_split(long, 2)
            ]
        )
    for i, (one, two) in enumerate(halves):
        same = torch.cosine_similarity(one, two, dim=0)
        others = [
            torch.cosine_similarity(one, other, dim=0)
            for j, pair in enumerate(halves)
            if j != i
            for other in pair
        ]
        assert same > max(others) + 0.1


SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
CONV = {
    "conv_dim": (16, 16),
    "conv_stride": (10, 8),
    "conv_kernel": (10, 8),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_feat_extract_layers": 2,
}


@pytest.mark.parametrize(
    "make",
    [
        tiny_whisper,
        lambda: Wav2Vec2Model(Wav2Vec2Config(**SMALL, **CONV)),
        lambda: WavLMModel(WavLMConfig(**SMALL, **CONV)),
        lambda: Wav2Vec2BertModel(Wav2Vec2BertConfig(**SMALL, feature_projection_input_dim=160)),
    ],
    ids=["whisper", "wav2vec2 / XLS-R / MMS", "WavLM", "w2v-BERT"],
)
def test_saved_models_load_by_folder_and_train(tmp_path, speechlike, make):
    make().save_pretrained(tmp_path)
    torch.manual_seed(0)
    backbone = encoders.load(str(tmp_path), 2)
    features = backbone.prepare(speechlike)
    depths = backbone.lower_layers(features[None], torch.tensor([len(features)]))
    statistics = frozen_features.pool([*depths, *backbone.upper_layers(*depths[-1])])
    assert statistics.shape[0] == 1 and torch.isfinite(statistics).all()
    statistics.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())


def test_unknown_backbone_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no network in a test
    with pytest.raises(OSError, match="whisper-base, campplus or ge2e"):
        encoders.load("no-such/model")


def test_other_files_are_no_ctranslate2_model(tmp_path):
    for content in (b"", b"\x06\0\0\0\x03\0abc", b"words " * 50):
        (tmp_path / "model.bin").write_bytes(content)
        with pytest.raises(ValueError, match="model.bin"):
            whisper_weights.read_ctranslate2(tmp_path / "model.bin")


def test_language_of_real_prompts():
    from utils.sources import real_speech

    waves, codes = [], ["es", "fr", "ru"]
    for source in ("es-co", "armelle", "asterisk-ru"):
        wave, rate = max(
            (c.load() for c in real_speech.recordings(source)[:60]), key=lambda pair: len(pair[0])
        )
        waves.append(dsp.resample(wave, rate, 8000))
    answers = language_id.detect(waves)
    assert [code for code, *_ in answers] == codes and max(none for *_, none in answers) < 0.5
    assert language_id.detect_in_this_process(waves[1:2])[0][1] == pytest.approx(
        answers[1][1], abs=1e-4
    )  # company does not matter
    code, confidence = language_id.detect_openai(
        language_id.openai_model(encoders.whisper_base()), waves[2]
    )
    assert code == "ru" and abs(confidence - answers[2][1]) < 0.1


def test_pickled_modules_with_other_classes_are_refused(tmp_path):
    path = tmp_path / "evil.pt"

    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"x": Evil()}, path)
    with pytest.raises(ValueError, match="refused"):
        ttskit.pickled_tensors(path)


def test_one_class_ranks_outliers_last():
    rng = np.random.default_rng(0)
    inside, outside = rng.standard_normal((300, 20)), rng.standard_normal((50, 20)) + 4
    judge, losses = classifiers.fit_deep_svdd(inside[:250].astype(np.float32), 8, 20, 0)
    assert losses[-1] < losses[0]
    assert np.median(judge(outside)) < np.percentile(judge(inside[250:]), 10)
