"""Hub synthesisers: tiny random models through the loaders; what is missing is named.

The packages of XTTS, OpenVoice, MARS5, fish-speech and MetaVoice are not installed: their loaders
run with stand-ins that have the published signatures. That shows that our side holds together, and
nothing about theirs.
"""

import json
import os
import pickle
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import torch
import transformers as tf
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from utils import paths
from utils.audio import reading
from utils.synthesis.base import GeneratorUnavailable, HubSystem, Line
from utils.synthesis.hub.common import local_folder
from utils.synthesis.systems import SYSTEMS

HUB_SYSTEMS = {name: row for name, row in SYSTEMS.items() if isinstance(row, HubSystem)}

LETTERS = {
    c: i
    for i, c in enumerate(["<pad>", "<s>", "</s>", "<unk>", " ", *"abcdefghijklmnopqrstuvwxyz"])
}
HIFIGAN = {
    "upsample_initial_channel": 8,
    "upsample_rates": (8, 4),
    "upsample_kernel_sizes": (16, 8),
    "resblock_kernel_sizes": (3,),
    "resblock_dilation_sizes": ((1,),),
}


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """An empty folder of models, no network, one thread."""
    monkeypatch.setenv("DFS_MODELS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read once, at import
    monkeypatch.setattr("torch.set_num_threads", lambda n: None)  # do not slow other tests down
    monkeypatch.setenv(
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0"
    )  # set by the loaders; undone after the test
    torch.manual_seed(0)


def letters():
    """A tokenizer with a token a letter, in the format that needs no sentencepiece."""
    tokenizer = Tokenizer(models.WordLevel(LETTERS, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    )


def vocabulary(folder, tokens):
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(tokens))
    return str(folder / "vocab.json")


def tiny_speecht5(root):
    folder = root / "microsoft/speecht5_tts"
    model = tf.SpeechT5ForTextToSpeech(
        tf.SpeechT5Config(
            vocab_size=len(LETTERS),
            hidden_size=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            speech_decoder_prenet_units=8,
            speech_decoder_postnet_units=8,
            speech_decoder_postnet_layers=2,
            conv_dim=(8,),
            conv_stride=(5,),
            conv_kernel=(10,),
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
        )
    )
    torch.nn.init.constant_(
        model.speech_decoder_postnet.prob_out.bias, -9.0
    )  # never stops before the longest length
    model.save_pretrained(folder)
    tf.SpeechT5Processor(tf.SpeechT5FeatureExtractor(), letters()).save_pretrained(folder)
    tf.SpeechT5HifiGan(tf.SpeechT5HifiGanConfig(**HIFIGAN, sampling_rate=16000)).save_pretrained(
        root / "microsoft/speecht5_hifigan"
    )
    np.save(root / "voice.npy", np.random.default_rng(0).standard_normal(512))
    return str(root / "voice.npy"), 16000


def tiny_bark(root):
    part = {"num_layers": 1, "num_heads": 2, "hidden_size": 8}
    model = tf.BarkModel(
        tf.BarkConfig(
            semantic_config={**part, "input_vocab_size": 129600},
            coarse_acoustics_config={**part, "input_vocab_size": 12096, "output_vocab_size": 12096},
            fine_acoustics_config={**part, "input_vocab_size": 1056, "output_vocab_size": 1056},
            codec_config={
                "model_type": "encodec",
                "hidden_size": 8,
                "num_filters": 4,
                "num_lstm_layers": 1,
            },
        )
    )
    for layer in model.codec_model.quantizer.layers:
        layer.codebook.embed.normal_()  # zeros before training: every code would sound the same
    model.generation_config = tf.GenerationConfig(
        semantic_config={"do_sample": True, "max_new_tokens": 6},
        codebook_size=1024,
        coarse_acoustics_config={"do_sample": True},
        fine_acoustics_config={},
        sample_rate=24000,
    )
    model.save_pretrained(root / "suno/bark")
    letters().save_pretrained(root / "suno/bark")
    preset = {
        "semantic_prompt": np.arange(9),
        "coarse_prompt": np.ones((2, 12), int),
        "fine_prompt": np.ones((8, 6), int),
    }
    files = {part: f"speaker_embeddings/v2/en_speaker_6_{part}.npy" for part in preset}
    (root / "suno/bark/speaker_embeddings/v2").mkdir(parents=True)
    for part, array in preset.items():
        np.save(root / "suno/bark" / files[part], array)
    (root / "suno/bark/speaker_embeddings_path.json").write_text(
        json.dumps({"repo_or_path": "suno/bark", "v2/en_speaker_6": files})
    )
    return "v2/en_speaker_6", 24000


def tiny_mms(root, uroman=False):
    folder = root / "facebook/mms-tts-spa"
    tf.VitsTokenizer(
        vocabulary(folder, LETTERS), phonemize=False, is_uroman=uroman
    ).save_pretrained(folder)
    tf.VitsModel(
        tf.VitsConfig(
            vocab_size=len(LETTERS),
            hidden_size=8,
            num_hidden_layers=1,
            ffn_dim=8,
            flow_size=8,
            spectrogram_bins=9,
            duration_predictor_filter_channels=8,
            duration_predictor_num_flows=1,
            prior_encoder_num_flows=1,
            prior_encoder_num_wavenet_layers=1,
            posterior_encoder_num_wavenet_layers=1,
            **HIFIGAN,
        )
    ).save_pretrained(folder)
    return "", 16000


def tiny_fastspeech2(root):
    folder = root / "espnet/fastspeech2_conformer_with_hifigan"
    tf.FastSpeech2ConformerTokenizer(
        vocabulary(folder, LETTERS | {"<blank>": 31, "<sos/eos>": 32})
    ).save_pretrained(folder)
    model = tf.FastSpeech2ConformerConfig(
        hidden_size=8,
        vocab_size=40,
        encoder_layers=1,
        decoder_layers=1,
        encoder_linear_units=8,
        decoder_linear_units=8,
        speech_decoder_postnet_units=8,
        duration_predictor_channels=8,
        energy_predictor_channels=8,
        pitch_predictor_channels=8,
        decoder_kernel_size=7,
    )
    vocoder = tf.FastSpeech2ConformerHifiGanConfig(**HIFIGAN)
    model = tf.FastSpeech2ConformerWithHifiGan(
        tf.FastSpeech2ConformerWithHifiGanConfig(
            model_config=model.to_dict(), vocoder_config=vocoder.to_dict()
        )
    )
    torch.nn.init.constant_(model.model.duration_predictor.linear.bias, 1.5)  # some frames a token
    model.save_pretrained(folder)
    return "", 22050


def tiny_dia(root):
    folder, size = (
        root / "nari-labs/Dia-1.6B-0626",
        {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "head_dim": 8,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "intermediate_size": 16,
        },
    )
    model = tf.DiaForConditionalGeneration(
        tf.DiaConfig(
            encoder_config=size,
            decoder_config={
                **size,
                "cross_hidden_size": 16,
                "cross_head_dim": 8,
                "cross_num_attention_heads": 2,
                "cross_num_key_value_heads": 2,
            },
        )
    )
    model.generation_config.update(do_sample=True, max_new_tokens=40, guidance_scale=3.0)
    model.save_pretrained(folder)
    tf.DiaFeatureExtractor(sampling_rate=44100).save_pretrained(folder)
    tf.DiaTokenizer().save_pretrained(folder)
    tf.DacModel(
        tf.DacConfig(
            encoder_hidden_size=4,
            downsampling_ratios=(2, 4),
            decoder_hidden_size=16,
            sampling_rate=44100,
        )
    ).save_pretrained(root / "descript/dac_44khz")
    return "", 44100


@pytest.fixture
def g2p(tmp_path, monkeypatch):
    """A stand-in for g2p_en, which would fetch NLTK data: a phoneme is a letter."""
    (tmp_path / "g2p_en.py").write_text(
        "class G2p:\n    def __call__(self, text):\n        return list(text.lower())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        "transformers.models.fastspeech2_conformer.tokenization_fastspeech2_conformer.requires_backends",
        lambda *_: None,
    )  # transformers remembers what was installed at its import
    yield
    sys.modules.pop("g2p_en", None)


@pytest.mark.parametrize(
    "system, tiny",
    [
        ("speecht5", tiny_speecht5),
        ("bark", tiny_bark),
        ("mms-tts", tiny_mms),
        ("fastspeech2", tiny_fastspeech2),
        ("dia", tiny_dia),
    ],
)
def test_tiny_models_speak_through_the_loaders_and_repeat(tmp_path, g2p, system, tiny):
    voice, rate = tiny(tmp_path)
    line, make = Line("hello there", "es", voice), HUB_SYSTEMS[system].load(1)
    torch.manual_seed(5)  # what was random before must not matter
    wave, native = make(line)
    assert native == rate and wave.dtype == np.float32 and wave.ndim == 1 and len(wave) > 100
    assert np.isfinite(wave).all() and wave.std() > 0
    again = HUB_SYSTEMS[system].load(1)
    other = again(Line("another line", "es", voice))[0]
    assert np.array_equal(again(line)[0], wave) and not np.array_equal(other, wave)
    if system != "fastspeech2":  # the only one without noise
        assert not np.array_equal(HUB_SYSTEMS[system].load(2)(line)[0], wave)


def test_what_a_language_of_mms_needs(tmp_path, monkeypatch):
    tiny_mms(tmp_path, uroman=True)
    monkeypatch.setitem(sys.modules, "uroman", None)  # as if not installed, even where it is
    make = HUB_SYSTEMS["mms-tts"].load(1)
    with pytest.raises(GeneratorUnavailable, match="mms-tts-spa.*pip install uroman"):
        make(
            Line("hola", "es", "")
        )  # better than a clip without the letters that transformers would drop
    with pytest.raises(
        GeneratorUnavailable, match=f"mms-tts-ita in {tmp_path}/facebook/mms-tts-ita"
    ):
        make(Line("ciao", "ita", ""))
    monkeypatch.delitem(sys.modules, "uroman")
    (tmp_path / "uroman.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert make(Line("hola", "spa", ""))[1] == 16000


def test_a_checkpoint_with_other_pickles_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    tiny_mms(tmp_path)
    (tmp_path / "facebook/mms-tts-spa/model.safetensors").unlink()
    torch.save({"x": Evil()}, tmp_path / "facebook/mms-tts-spa/pytorch_model.bin")
    with pytest.raises(pickle.UnpicklingError):
        HUB_SYSTEMS["mms-tts"].load(1)(Line("hola", "es", ""))
    assert not (tmp_path / "executed").exists()


def test_an_x_vector_has_512_numbers(tmp_path):
    tiny_speecht5(tmp_path)
    np.save(tmp_path / "short.npy", np.zeros(192))
    np.save(tmp_path / "code.npy", np.array([{}] * 512), allow_pickle=True)
    make = HUB_SYSTEMS["speecht5"].load(1)
    with pytest.raises(ValueError, match="short.npy: 192"):
        make(Line("hello", "en", str(tmp_path / "short.npy")))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        make(Line("hello", "en", str(tmp_path / "code.npy")))


@pytest.mark.parametrize("system", ["speecht5", "bark", "dia", "mms-tts"])
def test_missing_weights_name_the_hub_and_the_folder(tmp_path, system):
    name = HUB_SYSTEMS[system].weights[0]
    with pytest.raises(
        GeneratorUnavailable, match=f"{system}: .*{name} in {tmp_path}/{name} .*hf download {name}"
    ):
        HUB_SYSTEMS[system].load(1)(Line("hello", "en", ""))
    (tmp_path / name).mkdir(parents=True)  # a download that was broken off
    with pytest.raises(GeneratorUnavailable, match=f"no complete weights {name}"):
        HUB_SYSTEMS[system].load(1)(Line("hello", "en", ""))


def test_a_model_without_its_tokenizer_is_not_complete(tmp_path):
    tiny_mms(tmp_path)
    (tmp_path / "facebook/mms-tts-spa/vocab.json").unlink()
    with pytest.raises(GeneratorUnavailable, match="no complete weights facebook/mms-tts-spa"):
        HUB_SYSTEMS["mms-tts"].load(1)(Line("hola", "es", ""))


@pytest.mark.parametrize(
    "system", ["mars5", "fish-speech-1.2", "xtts-v2", "openvoice-v2", "metavoice-1b"]
)
def test_a_missing_package_names_the_command(system, monkeypatch):
    monkeypatch.setenv("COQUI_TOS_AGREED", "1")
    for module in HUB_SYSTEMS[system].modules:
        monkeypatch.setitem(sys.modules, module, None)  # as if not installed, even where it is
    with pytest.raises(GeneratorUnavailable, match=f"{system}: a package is missing .*pip install"):
        HUB_SYSTEMS[system].load(1)


def test_missing_sentencepiece_names_the_command(tmp_path, monkeypatch):
    tiny_speecht5(tmp_path)
    folder = tmp_path / "microsoft/speecht5_tts"
    (folder / "tokenizer.json").rename(folder / "spm_char.model")  # the published format
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "SpeechT5Tokenizer"}')
    monkeypatch.setattr(
        "transformers.utils.import_utils.BACKENDS_MAPPING",
        {"sentencepiece": (lambda: False, "no sentencepiece")},
    )
    with pytest.raises(GeneratorUnavailable, match="pip install sentencepiece"):
        HUB_SYSTEMS["speecht5"].load(1)


def test_the_licence_of_xtts_is_not_agreed_to_silently(monkeypatch):
    monkeypatch.delenv("COQUI_TOS_AGREED", raising=False)
    with pytest.raises(GeneratorUnavailable, match="COQUI_TOS_AGREED=1 yourself"):
        HUB_SYSTEMS["xtts-v2"].load(1)
    assert "COQUI_TOS_AGREED" not in os.environ


def module(monkeypatch, name, **content):
    stand_in = ModuleType(name)
    vars(stand_in).update(content)
    monkeypatch.setitem(sys.modules, name, stand_in)


def noise(*shape):
    return torch.randn(*shape)


def stand_in_xtts(root, monkeypatch):
    class TTS:
        synthesizer = SimpleNamespace(output_sample_rate=24000)

        def __init__(self, model_name="", *, model_path=None, config_path=None, progress_bar=True):
            assert (
                model_path == str(root / "coqui/XTTS-v2")
                and config_path == model_path + "/config.json"
            )

        def tts(
            self,
            text,
            speaker=None,
            language=None,
            speaker_wav=None,
            emotion=None,
            split_sentences=True,
        ):
            assert speaker_wav and not speaker and language == "zh-cn"
            return noise(900).tolist()

    monkeypatch.setenv("COQUI_TOS_AGREED", "1")
    module(monkeypatch, "TTS.api", TTS=TTS)
    (root / "coqui/XTTS-v2").mkdir(parents=True)
    return 24000


def stand_in_openvoice(root, monkeypatch):
    class ToneColorConverter:
        hps = SimpleNamespace(data=SimpleNamespace(sampling_rate=22050))

        def __init__(self, config_path, device="cuda:0"):
            assert config_path.endswith("myshell-ai/OpenVoiceV2/converter/config.json")

        def load_ckpt(self, ckpt_path):
            assert ckpt_path.endswith("checkpoint.pth")

        def extract_se(self, ref_wav_list, se_save_path=None):
            return reading.read(ref_wav_list[0])[0]

        def convert(
            self, audio_src_path, src_se, tgt_se, output_path=None, tau=0.3, message="default"
        ):
            assert src_se.shape == (1, 256, 1) and tgt_se
            return reading.read(audio_src_path, 22050)

    class TTS:
        hps = SimpleNamespace(data=SimpleNamespace(spk2id={"ZH_A": 1}))

        def __init__(
            self,
            language,
            device="auto",
            use_hf=True,
            config_path=None,
            ckpt_path=None,
            hf_repo=None,
            hf_ckpt=None,
        ):
            assert language == "ZH" and ckpt_path == str(
                root / "myshell-ai/MeloTTS-Chinese/checkpoint.pth"
            )
            noise(7)  # opening a model uses random numbers

        def tts_to_file(
            self,
            text,
            speaker_id,
            output_path=None,
            sdp_ratio=0.2,
            noise_scale=0.6,
            noise_scale_w=0.8,
            speed=1.0,
            pbar=None,
            format=None,
            position=None,
            quiet=False,
        ):
            sf.write(output_path, noise(4410).numpy() * 0.1, 44100)

    module(monkeypatch, "openvoice.api", ToneColorConverter=ToneColorConverter)
    module(monkeypatch, "melo.api", TTS=TTS)
    (root / "myshell-ai/MeloTTS-Chinese").mkdir(parents=True)
    (root / "myshell-ai/OpenVoiceV2/base_speakers/ses").mkdir(parents=True)
    torch.save(torch.zeros(1, 256, 1), root / "myshell-ai/OpenVoiceV2/base_speakers/ses/zh-a.pth")
    return 22050


def stand_in_mars5(root, monkeypatch):
    class Mars5TTS:
        sr = 24000

        def __init__(self, ar_ckpt, nar_ckpt, device=None):
            assert (
                ar_ckpt["vocab"]["texttok.model"] == "a b"
                and ar_ckpt["model"]["w"].shape == (2,)
                and nar_ckpt["model"]
            )

        def tts(self, text, ref_audio, ref_transcript=None, cfg=None):
            assert ref_audio.ndim == 1 and ref_transcript == "what is said" and cfg.deep_clone
            return torch.zeros(3, dtype=torch.long), noise(900)

    module(
        monkeypatch,
        "inference",
        Mars5TTS=Mars5TTS,
        InferenceConfig=lambda deep_clone=True: SimpleNamespace(deep_clone=deep_clone),
    )
    (root / "CAMB-AI/MARS5-TTS").mkdir(parents=True)
    for part in ("ar", "nar"):
        save_file(
            {"w": torch.zeros(2)},
            root / f"CAMB-AI/MARS5-TTS/mars5_{part}.safetensors",
            {"texttok.model": "a b"},
        )
    return 24000


FISH = """
import argparse, pathlib, shutil, sys
import numpy as np
import soundfile as sf
options = argparse.ArgumentParser()
for flag in FLAGS:
    options.add_argument(*flag, required=True)
given = options.parse_args()
"""
FISH_CODEC = (
    FISH.replace("FLAGS", '[("-i",), ("--checkpoint-path",), ("--device",)]')
    + """
if given.i.endswith(".npy"):
    sf.write("fake.wav", np.random.default_rng(np.load(given.i)).standard_normal(900) * 0.1, 44100)
else:
    np.save("fake.npy", sf.read(given.i)[0])
"""
)
FISH_TEXT = (
    FISH.replace(
        "FLAGS",
        str(
            [
                ("--text",),
                ("--prompt-text",),
                ("--prompt-tokens",),
                ("--checkpoint-path",),
                ("--seed",),
                ("--device",),
            ]
        ),
    )
    + """
assert given.prompt_text == "what is said" and len(np.load(given.prompt_tokens))
np.save("codes_0.npy", [int(given.seed)])
"""
)


def stand_in_fish(root, monkeypatch):
    clone = root / "clone"
    for path, text in (
        ("tools/vqgan/inference.py", FISH_CODEC),
        ("tools/llama/generate.py", FISH_TEXT),
        ("fish_speech/x.py", ""),
    ):
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(text)
    module(monkeypatch, "fish_speech", __path__=[str(clone / "fish_speech")])
    (root / "fishaudio/fish-speech-1.2").mkdir(parents=True)
    return 44100


def stand_in_metavoice(root, monkeypatch):
    class TTS:
        def __init__(
            self, model_name="metavoiceio/metavoice-1B-v0.1", *, seed=1337, output_dir="outputs"
        ):
            self.folder = output_dir
            assert sys.modules["fam.llm.fast_inference"].snapshot_download(
                repo_id=model_name
            ) == str(root / model_name)

        def synthesise(self, text, spk_ref_path, top_p=0.95, guidance_scale=3.0, temperature=1.0):
            sf.write(f"{self.folder}/said.wav", noise(900).numpy() * 0.1, 24000)
            return f"{self.folder}/said.wav"

    module(monkeypatch, "fam.llm.fast_inference", TTS=TTS, snapshot_download=None)
    (root / "metavoiceio/metavoice-1B-v0.1").mkdir(parents=True)
    return 24000


@pytest.mark.parametrize(
    "system, stand_in",
    [
        ("xtts-v2", stand_in_xtts),
        ("openvoice-v2", stand_in_openvoice),
        ("mars5", stand_in_mars5),
        ("fish-speech-1.2", stand_in_fish),
        ("metavoice-1b", stand_in_metavoice),
    ],
)
def test_our_side_of_the_other_packages(tmp_path, monkeypatch, speechlike, system, stand_in):
    rate = stand_in(tmp_path, monkeypatch)
    reading.write(tmp_path / "voice.wav", speechlike)
    (tmp_path / "voice.txt").write_text("what is said\n")
    line = Line("text", "zh", str(tmp_path / "voice.wav"))
    make = HUB_SYSTEMS[system].load(1)
    wave, native = make(line)
    assert native == rate and wave.dtype == np.float32 and wave.shape[0] > 500 and wave.std() > 0
    assert np.array_equal(make(line)[0], wave)  # also when the first call opened a model
    assert not np.array_equal(make(Line("other", "zh", line.voice))[0], wave)
    assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
    if system != "xtts-v2":  # which has voices of its own
        with pytest.raises(ValueError, match="reference"):
            make(Line("text", "zh", "nobody"))


def test_the_finalists_eight_generators_have_rows():
    eight = {
        "mars5",
        "fish-speech-1.2",
        "xtts-v2",
        "openvoice-v2",
        "speecht5",
        "metavoice-1b",
        "bark",
        "mms-tts",
    }
    assert eight <= set(HUB_SYSTEMS)
    cloning = {name for name, row in HUB_SYSTEMS.items() if row.clones}
    assert cloning == eight - {"speecht5", "bark", "mms-tts"}
    assert all(row.packages == () and row.weights for row in HUB_SYSTEMS.values())


def test_the_table_of_systems_imports_no_library_of_a_generator():
    heavy = {module for row in HUB_SYSTEMS.values() for module in row.modules}
    heavy |= {"torch", "transformers", "huggingface_hub"}
    code = f"import sys, utils.synthesis.systems; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=paths.ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_table_says_what_is_here(tmp_path):
    (tmp_path / "suno/bark").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", "utils.synthesis.hub"],
        capture_output=True,
        text=True,
        cwd=paths.ROOT,
        check=True,
    )
    rows = {
        line.split()[0]: line
        for line in done.stdout.splitlines()[1:]
        if line and line.split()[0] in HUB_SYSTEMS
    }
    assert (
        set(rows) == set(HUB_SYSTEMS)
        and rows["bark"].endswith("1 of 1")
        and rows["dia"].endswith("0 of 2")
    )
    assert str(local_folder("<owner>/<name>")) in done.stdout
