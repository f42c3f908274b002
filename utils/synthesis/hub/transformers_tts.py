"""Generators that transformers has: SpeechT5, Bark, MMS-TTS, FastSpeech2Conformer, Dia."""

from functools import cache
from importlib.util import find_spec

import numpy as np

from utils.synthesis.base import GeneratorUnavailable, Line
from utils.synthesis.hub.common import open_transformers, seeded_maker

# ISO 639-1 → 639-3; there are no checkpoints for Italian, Chinese and Japanese
MMS_CODES = {
    "en": "eng",
    "es": "spa",
    "fr": "fra",
    "de": "deu",
    "nl": "nld",
    "pt": "por",
    "ro": "ron",
    "ru": "rus",
    "ko": "kor",
    "ar": "ara",
    "hi": "hin",
    "vi": "vie",
}
MMS_WEIGHTS = tuple(f"facebook/mms-tts-{code}" for code in MMS_CODES.values())


def load_speecht5(seed: int):
    """SpeechT5 (Ao et al. 2022). Output 16 kHz.

    Voice: a .npy file with a speaker's x-vector (512,) of speechbrain/spkrec-xvect-voxceleb. The
    maker raises ValueError for another size.
    """
    import torch

    model, processor = open_transformers(
        "speecht5", "microsoft/speecht5_tts", "SpeechT5ForTextToSpeech", "SpeechT5Processor"
    )
    (vocoder,) = open_transformers("speecht5", "microsoft/speecht5_hifigan", "SpeechT5HifiGan")

    def say(line: Line):
        vector = np.load(line.voice, allow_pickle=False)
        if vector.size != 512:
            raise ValueError(f"{line.voice}: {vector.size} numbers where an x-vector has 512")
        vector = torch.from_numpy(vector.reshape(1, 512).astype(np.float32))
        tokens = processor(text=line.text, return_tensors="pt")["input_ids"]
        return model.generate_speech(tokens, vector, vocoder=vocoder), vocoder.config.sampling_rate

    return seeded_maker(seed, say)


def load_bark(seed: int):
    """Bark. Output 24 kHz.

    Voice: a preset of the checkpoint such as v2/en_speaker_6; empty: a random voice.
    """
    model, processor = open_transformers("bark", "suno/bark", "BarkModel", "BarkProcessor")

    def say(line: Line):
        inputs = processor(line.text, voice_preset=line.voice or None)
        return model.generate(**inputs), model.generation_config.sample_rate

    return seeded_maker(seed, say)


def load_mms(seed: int):
    """MMS-TTS (VITS; Pratap et al. 2023): one checkpoint and one voice per language. Output 16 kHz.

    Language: a key of `MMS_CODES`, or any ISO 639-3 code with weights `facebook/mms-tts-<code>`;
    the voice is not read. Where the tokenizer says `is_uroman` (Korean and others), the package
    uroman is required: without it transformers would only warn, and drop the letters.
    """
    import torch

    @cache
    # Opening a model uses random numbers for its first weights: not those of the line's noise.
    @torch.random.fork_rng()
    def open_language(code: str):
        model, tokenizer = open_transformers(
            "mms-tts", f"facebook/mms-tts-{code}", "VitsModel", "VitsTokenizer"
        )
        if tokenizer.is_uroman and not find_spec("uroman"):
            raise GeneratorUnavailable(
                f"mms-tts: facebook/mms-tts-{code} reads romanised text. Remedy: pip install uroman"
            )
        return model, tokenizer

    def say(line: Line):
        model, tokenizer = open_language(MMS_CODES.get(line.language, line.language))
        inputs = tokenizer(line.text, return_tensors="pt")
        return model(**inputs).waveform, model.config.sampling_rate

    return seeded_maker(seed, say)


def load_fastspeech2(seed: int):
    """FastSpeech2Conformer with HiFi-GAN. Output 22.05 kHz.

    LJSpeech's voice only; the voice is not read. The package g2p_en downloads NLTK data.
    """
    model, tokenizer = open_transformers(
        "fastspeech2",
        "espnet/fastspeech2_conformer_with_hifigan",
        "FastSpeech2ConformerWithHifiGan",
        "FastSpeech2ConformerTokenizer",
    )

    def say(line: Line):
        tokens = tokenizer(line.text, return_tensors="pt")["input_ids"]
        return model(tokens).waveform, 22050

    return seeded_maker(seed, say)


def load_dia(seed: int):
    """Dia 1.6B, made for dialogues: its speaker S1. Output 44.1 kHz.

    The voice is a random one, `Line.voice` is not read.
    """
    model, reader, tokenizer = open_transformers(
        "dia",
        "nari-labs/Dia-1.6B-0626",
        "DiaForConditionalGeneration",
        "DiaFeatureExtractor",
        "DiaTokenizer",
    )
    (codec,) = open_transformers("dia", "descript/dac_44khz", "DacModel")
    from transformers import DiaProcessor

    processor = DiaProcessor(reader, tokenizer, codec)

    def say(line: Line):
        generated = model.generate(**processor(text=[f"[S1] {line.text}"]))
        return processor.batch_decode(generated)[0], reader.sampling_rate

    return seeded_maker(seed, say)
