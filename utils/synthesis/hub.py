"""Synthesisers whose weights come from a model hub: the finalist's eight generators and two more that transformers has.

Rows of `HUB_SYSTEMS` have the interface of `synth.SYSTEMS`. Noise is seeded by job seed and line: a job repeats its bytes on
one machine with the same files. `Line.voice` is what the loader's docstring says; where `clones` is set, also a path to a
reference .wav or .flac.

Weights lie in `<DFS_MODELS>/<owner>/<name>` (DFS_MODELS is `<cache>/models` by default; `hf download OWNER/NAME --local-dir …`
fills it); where that folder is missing, the hub is asked by name (HF_HUB_OFFLINE=1 spares the half minute that an unreachable
hub takes). What cannot be had raises GeneratorUnavailable.

No weights were at hand where this was written: the loaders with transformers ran with tiny random models, on the CPU; those with
a package of their own were NEVER RUN with it, only with stand-ins, and follow the published code that they name. Those packages
pin other libraries: give each its own environment. Nothing fetched is executed here, pickles load as weights only; what you
clone from a git host you look through yourself.
`python -m utils.synthesis.hub` lists what is available on this machine.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from utils import paths
from utils.audio import reading
from utils.synthesis.base import Line, System


class GeneratorUnavailable(RuntimeError):
    """A generator's package, weights or licence consent is missing. The message says what to do."""


@dataclass(frozen=True)
class HubSystem(System):
    """A `System` of hub `weights`: `modules` it imports, how to `install` them; `clones`: voice may be a reference clip."""

    weights: tuple[str, ...]
    modules: tuple[str, ...] = ("transformers",)
    install: str = "pip install transformers"
    clones: bool = False


def local_folder(name: str) -> Path:
    """Where the weights `owner/name` may lie on this machine, whether they do or not."""
    return Path(os.environ.get("DFS_MODELS") or paths.CACHE / "models") / name


@contextmanager
def _needs(system: str, name: str):
    """Turn an ImportError, or an error from opening the weights `name`, into GeneratorUnavailable with the remedy."""
    try:
        yield
    except ImportError as error:
        raise GeneratorUnavailable(
            f"{system}: a package is missing ({' '.join(str(error).split())}). "
            f"Remedy: {HUB_SYSTEMS[system].install}"
        ) from error
    except (
        OSError,
        TypeError,
        ValueError,
    ) as error:  # the latter two: a tokenizer whose file is missing
        folder = local_folder(name)
        raise GeneratorUnavailable(
            f"{system}: no whole copy of the weights {name} in {folder} and no hub in reach. Remedy: where "
            f"there is a network, hf download {name} --local-dir {folder} (DFS_MODELS moves it). "
            f"Cause: {' '.join(str(error).split())}"
        ) from error


def _pretrained(system: str, name: str, *kinds: str) -> list:
    """`transformers.<kind>` of the weights `name` for each kind; the model, which comes first, in float32 on the CPU."""
    with _needs(system, name):
        import transformers

        place = str(local_folder(name)) if local_folder(name).is_dir() else name
        parts = [getattr(transformers, kind).from_pretrained(place) for kind in kinds]
    return [part.float().eval() if hasattr(part, "eval") else part for part in parts]


def _own(system: str, name: str, *modules: str) -> list:
    """[folder of the weights `name` (local, else the hub's snapshot: data only), and the generator's own modules, imported]."""
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = (
        "1"  # torch.load unpickles nothing else, whatever the package asks for
    )
    with _needs(system, name):
        from huggingface_hub import snapshot_download

        imported = [import_module(module) for module in modules]
        return [
            local_folder(name) if local_folder(name).is_dir() else Path(snapshot_download(name)),
            *imported,
        ]


def _seeded(seed: int, say: Callable) -> Callable:
    """`make(line)` around `say(line) -> (samples, rate)`: noise from seed and line, no gradients, float32 (samples,)."""
    import torch

    def make(line: Line):
        torch.set_num_threads(
            1
        )  # jobs run side by side; one thread each also fixes the order of summation
        torch.manual_seed(
            int.from_bytes(hashlib.md5(f"{seed}/{line}".encode()).digest()[:4], "big")
        )
        with torch.inference_mode():
            wave, rate = say(line)
        return np.asarray(
            wave.float().cpu() if isinstance(wave, torch.Tensor) else wave, np.float32
        ).ravel(), int(rate)

    return make


def _reference(line: Line) -> Path:
    if not (line.voice.endswith((".wav", ".flac")) and Path(line.voice).is_file()):
        raise ValueError(
            f"voice {line.voice!r} is not a .wav or .flac file that is there; this system speaks by reference"
        )
    return Path(line.voice).resolve()


def _load_speecht5(seed: int):
    """SpeechT5. Voice: a .npy with a speaker's 512-d x-vector (speechbrain/spkrec-xvect-voxceleb). Output 16 kHz."""
    import torch

    model, processor = _pretrained(
        "speecht5", "microsoft/speecht5_tts", "SpeechT5ForTextToSpeech", "SpeechT5Processor"
    )
    (vocoder,) = _pretrained("speecht5", "microsoft/speecht5_hifigan", "SpeechT5HifiGan")

    def say(line: Line):
        vector = np.load(line.voice, allow_pickle=False)
        if vector.size != 512:
            raise ValueError(f"{line.voice}: {vector.size} numbers where an x-vector has 512")
        vector = torch.from_numpy(vector.reshape(1, 512).astype(np.float32))
        tokens = processor(text=line.text, return_tensors="pt")["input_ids"]
        return model.generate_speech(tokens, vector, vocoder=vocoder), vocoder.config.sampling_rate

    return _seeded(seed, say)


def _load_bark(seed: int):
    """Bark. Voice: a preset of the checkpoint such as v2/en_speaker_6; empty: a drawn one. Output 24 kHz."""
    model, processor = _pretrained("bark", "suno/bark", "BarkModel", "BarkProcessor")
    return _seeded(
        seed,
        lambda line: (
            model.generate(**processor(line.text, voice_preset=line.voice or None)),
            model.generation_config.sample_rate,
        ),
    )


def _load_mms(seed: int):
    """MMS-TTS (VITS), a checkpoint and a voice a language; voice is not read. Output 16 kHz.

    Language: a key of `MMS`, or any ISO 639-3 code with a checkpoint `facebook/mms-tts-<code>`. Where the tokenizer says
    `is_uroman` (Korean and others) the package uroman is required: transformers alone would warn and drop the letters.
    """
    import torch

    @cache
    @torch.random.fork_rng()  # a model being opened draws its first weights: not from the noise of the line being said
    def speaker(code: str):
        model, tokenizer = _pretrained(
            "mms-tts", f"facebook/mms-tts-{code}", "VitsModel", "VitsTokenizer"
        )
        if tokenizer.is_uroman and not find_spec("uroman"):
            raise GeneratorUnavailable(
                f"mms-tts: facebook/mms-tts-{code} reads romanised text. Remedy: pip install uroman"
            )
        return model, tokenizer

    def say(line: Line):
        model, tokenizer = speaker(MMS.get(line.language, line.language))
        return model(
            **tokenizer(line.text, return_tensors="pt")
        ).waveform, model.config.sampling_rate

    return _seeded(seed, say)


def _load_fastspeech2(seed: int):
    """FastSpeech2Conformer with HiFi-GAN; LJSpeech's voice, voice is not read. g2p_en fetches NLTK data. Output 22.05 kHz."""
    model, tokenizer = _pretrained(
        "fastspeech2",
        "espnet/fastspeech2_conformer_with_hifigan",
        "FastSpeech2ConformerWithHifiGan",
        "FastSpeech2ConformerTokenizer",
    )
    return _seeded(
        seed,
        lambda line: (
            model(tokenizer(line.text, return_tensors="pt")["input_ids"]).waveform,
            22050,
        ),
    )


def _load_dia(seed: int):
    """Dia 1.6B, made for dialogues: its speaker S1, a drawn voice; voice is not read. Output 44.1 kHz."""
    model, reader, tokenizer = _pretrained(
        "dia",
        "nari-labs/Dia-1.6B-0626",
        "DiaForConditionalGeneration",
        "DiaFeatureExtractor",
        "DiaTokenizer",
    )
    codec = _pretrained("dia", "descript/dac_44khz", "DacModel")
    from transformers import DiaProcessor

    processor = DiaProcessor(reader, tokenizer, *codec)
    return _seeded(
        seed,
        lambda line: (
            processor.batch_decode(model.generate(**processor(text=[f"[S1] {line.text}"])))[0],
            reader.sampling_rate,
        ),
    )


def _load_xtts(seed: int):
    """XTTS-v2; voice also a built-in speaker such as 'Ana Florence'. Never run with its weights here. Output 24 kHz.

    After TTS/api.py of the wheel coqui-tts 0.28.0.
    """
    if os.environ.get("COQUI_TOS_AGREED") != "1":
        raise GeneratorUnavailable(
            "xtts-v2: its licence (CPML, LICENSE.txt of coqui/XTTS-v2) asks for your consent. Remedy: read "
            "it and, if you agree, set COQUI_TOS_AGREED=1 yourself"
        )
    folder, api = _own("xtts-v2", "coqui/XTTS-v2", "TTS.api")
    tts = api.TTS(
        model_path=str(folder), config_path=str(folder / "config.json"), progress_bar=False
    )

    def say(line: Line):
        voice = (
            {"speaker_wav": line.voice}
            if line.voice.endswith((".wav", ".flac"))
            else {"speaker": line.voice}
        )
        wave = tts.tts(
            line.text, language={"zh": "zh-cn"}.get(line.language, line.language), **voice
        )
        return wave, tts.synthesizer.output_sample_rate

    return _seeded(seed, say)


def _load_openvoice(seed: int):
    """OpenVoiceV2: MeloTTS speaks, a converter puts the reference's tone on it. Never run with its weights here. 22.05 kHz.

    After demo_part3.ipynb and openvoice/api.py of myshell-ai/OpenVoice and melo/api.py of myshell-ai/MeloTTS, which fetches
    BERTs from the hub. The package marks its clips with an inaudible watermark: a detector could learn just that.
    """
    import torch

    folder, api, melo = _own("openvoice-v2", "myshell-ai/OpenVoiceV2", "openvoice.api", "melo.api")
    converter = api.ToneColorConverter(str(folder / "converter/config.json"), device="cpu")
    converter.load_ckpt(str(folder / "converter/checkpoint.pth"))

    @cache
    @torch.random.fork_rng()  # as in _load_mms
    def speaker(language: str):
        code, name = MELO[language]
        (base,) = _own("openvoice-v2", name)
        tts = melo.TTS(
            code,
            "cpu",
            config_path=str(base / "config.json"),
            ckpt_path=str(base / "checkpoint.pth"),
        )
        who, number = next(iter(tts.hps.data.spk2id.items()))
        tone = folder / "base_speakers/ses" / f"{who.lower().replace('_', '-')}.pth"
        return tts, number, torch.load(tone, map_location="cpu", weights_only=True)

    def say(line: Line):
        target = converter.extract_se([str(_reference(line))])
        tts, number, tone = speaker(line.language)
        with tempfile.TemporaryDirectory() as work:
            tts.tts_to_file(line.text, number, f"{work}/base.wav", quiet=True)
            return converter.convert(
                f"{work}/base.wav", tone, target
            ), converter.hps.data.sampling_rate

    return _seeded(seed, say)


def _load_mars5(seed: int):
    """MARS5; reference of 2–12 s, with its transcript in `<voice>.txt` a deep clone. Never run with its weights here. 24 kHz.

    After inference.py and README.md of Camb-ai/MARS5-TTS. Upstream's torch.hub would execute fetched code: here the clone
    that you looked through and put on PYTHONPATH is imported. It fetches the weights of EnCodec and Vocos itself.
    """
    import torch
    from safetensors import safe_open

    (folder, inference), parts = _own("mars5", "CAMB-AI/MARS5-TTS", "inference"), []
    for part in ("ar", "nar"):
        with (
            _needs("mars5", "CAMB-AI/MARS5-TTS"),
            safe_open(folder / f"mars5_{part}.safetensors", "pt") as file,
        ):
            parts.append(
                {
                    "vocab": file.metadata(),
                    "model": {key: file.get_tensor(key) for key in file.keys()},
                }
            )  # noqa: SIM118
    model = inference.Mars5TTS(*parts)

    def say(line: Line):
        said = _reference(line).with_suffix(".txt")
        said = said.read_text(encoding="utf-8").strip() if said.is_file() else ""
        wave = torch.from_numpy(reading.read(line.voice, model.sr))
        return model.tts(line.text, wave, said, inference.InferenceConfig(deep_clone=bool(said)))[
            1
        ], model.sr

    return _seeded(seed, say)


def _load_fish(seed: int):
    """fish-speech 1.2; a reference needs its transcript in `<voice>.txt`; empty voice: a drawn one. Never run here. 44.1 kHz.

    The commands of docs/en/inference.md of fishaudio/fish-speech as of version 1.2; each opens its model anew, which is slow.
    """
    import soundfile as sf
    import torch

    folder, package = _own("fish-speech-1.2", "fishaudio/fish-speech-1.2", "fish_speech")
    tools, folder = Path(next(iter(package.__path__))).parent / "tools", folder.resolve()
    codec = (
        "vqgan/inference.py",
        "--checkpoint-path",
        folder / "firefly-gan-vq-fsq-4x1024-42hz-generator.pth",
        "-i",
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def say(line: Line):
        with tempfile.TemporaryDirectory() as work:

            def run(tool, *arguments):
                subprocess.run(
                    [sys.executable, tools / tool, *arguments, "--device", device],
                    cwd=work,
                    check=True,
                )

            prompt = ()
            if line.voice:
                said = _reference(line).with_suffix(".txt").read_text(encoding="utf-8").strip()
                run(*codec, _reference(line))  # writes fake.npy
                prompt = ("--prompt-text", said, "--prompt-tokens", "fake.npy")
            run(
                "llama/generate.py",
                "--checkpoint-path",
                folder,
                "--text",
                line.text,
                *prompt,
                "--seed",
                str(torch.initial_seed()),
            )
            run(*codec, "codes_0.npy")  # writes fake.wav
            return sf.read(f"{work}/fake.wav", dtype="float32")

    return _seeded(seed, say)


def _load_metavoice(seed: int):
    """metavoice-1B; reference of 30 s or more; wants a GPU of 16 GB. Never run with its weights here. Rate: its file's.

    After fam/llm/fast_inference.py of metavoiceio/metavoice-src.
    """
    import soundfile as sf

    folder, inference = _own(
        "metavoice-1b", "metavoiceio/metavoice-1B-v0.1", "fam.llm.fast_inference"
    )
    inference.snapshot_download = lambda repo_id: str(
        folder
    )  # its class takes hub names only: hand it our folder
    work = tempfile.TemporaryDirectory()
    tts = inference.TTS(seed=seed, output_dir=work.name)
    make = _seeded(
        seed,
        lambda line: sf.read(tts.synthesise(line.text, str(_reference(line))), dtype="float32"),
    )
    make.work = work  # lives as long as the maker
    return make


MMS = {
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
}  # ISO 639-1 → 639-3; there are no checkpoints for Italian, Chinese and Japanese
MELO = {
    "en": ("EN_NEWEST", "myshell-ai/MeloTTS-English-v3"),
    "es": ("ES", "myshell-ai/MeloTTS-Spanish"),
    "fr": ("FR", "myshell-ai/MeloTTS-French"),
    "zh": ("ZH", "myshell-ai/MeloTTS-Chinese"),
    "ja": ("JP", "myshell-ai/MeloTTS-Japanese"),
    "ko": ("KR", "myshell-ai/MeloTTS-Korean"),
}  # as in melo/download_utils.py
XTTS = (
    "en",
    "es",
    "fr",
    "de",
    "it",
    "pt",
    "pl",
    "tr",
    "ru",
    "nl",
    "cs",
    "ar",
    "zh",
    "hu",
    "ko",
    "ja",
    "hi",
)
BARK = ("en", "de", "es", "fr", "hi", "it", "ja", "ko", "pl", "pt", "ru", "tr", "zh")
GIT = "git clone https://github.com"
HUB_SYSTEMS = {
    "mars5": HubSystem(
        "mars5",
        "tts",
        ("en",),
        "AGPL-3",
        (),
        _load_mars5,
        ("CAMB-AI/MARS5-TTS",),
        ("inference", "mars5"),
        f"{GIT}/Camb-ai/MARS5-TTS, put it on PYTHONPATH, pip install torchaudio vocos encodec regex",
        True,
    ),
    "fish-speech-1.2": HubSystem(
        "fish-speech",
        "tts",
        ("en", "zh", "ja"),
        "CC-BY-NC-SA-4.0",
        (),
        _load_fish,
        ("fishaudio/fish-speech-1.2",),
        ("fish_speech",),
        f"{GIT}/fishaudio/fish-speech, check version 1.2 out, pip install -e .",
        True,
    ),
    "xtts-v2": HubSystem(
        "xtts",
        "tts",
        XTTS,
        "CPML",
        (),
        _load_xtts,
        ("coqui/XTTS-v2",),
        ("TTS",),
        "pip install coqui-tts[codec] torch torchaudio",
        True,
    ),
    "openvoice-v2": HubSystem(
        "vits",
        "tts",
        tuple(MELO),
        "MIT",
        (),
        _load_openvoice,
        ("myshell-ai/OpenVoiceV2", *(name for _, name in MELO.values())),
        ("openvoice", "melo"),
        f"{GIT}/myshell-ai/OpenVoice and {GIT}/myshell-ai/MeloTTS, pip install -e . in both, "
        "python -m unidic download",
        True,
    ),
    "speecht5": HubSystem(
        "speecht5",
        "tts",
        ("en",),
        "MIT",
        (),
        _load_speecht5,
        ("microsoft/speecht5_tts", "microsoft/speecht5_hifigan"),
        ("sentencepiece",),
        "pip install sentencepiece",
    ),
    "metavoice-1b": HubSystem(
        "metavoice",
        "tts",
        ("en",),
        "Apache-2.0",
        (),
        _load_metavoice,
        ("metavoiceio/metavoice-1B-v0.1",),
        ("fam",),
        f"{GIT}/metavoiceio/metavoice-src, pip install -r requirements.txt -e .",
        True,
    ),
    "bark": HubSystem("bark", "tts", BARK, "MIT", (), _load_bark, ("suno/bark",)),
    "mms-tts": HubSystem(
        "vits",
        "tts",
        tuple(MMS),
        "CC-BY-NC-4.0",
        (),
        _load_mms,
        tuple(f"facebook/mms-tts-{code}" for code in MMS.values()),
    ),
    "fastspeech2": HubSystem(
        "fastspeech2",
        "tts",
        ("en",),
        "Apache-2.0",
        (),
        _load_fastspeech2,
        ("espnet/fastspeech2_conformer_with_hifigan",),
        ("g2p_en",),
        "pip install g2p-en",
    ),
    "dia": HubSystem(
        "dia",
        "tts",
        ("en",),
        "Apache-2.0",
        (),
        _load_dia,
        ("nari-labs/Dia-1.6B-0626", "descript/dac_44khz"),
    ),
}

if __name__ == "__main__":
    form = "{:16} {:12} {:26} {:16} {:7} {:22} {}"
    print(
        form.format(
            "system",
            "family",
            "languages",
            "licence",
            "clones",
            "packages here",
            "weights in local folders",
        )
    )
    for key, row in HUB_SYSTEMS.items():
        missing = [module for module in row.modules if not find_spec(module)]
        found = sum(local_folder(name).is_dir() for name in row.weights)
        print(
            form.format(
                key,
                row.family,
                " ".join(row.languages)[:26],
                row.licence,
                "yes" if row.clones else "no",
                f"no: {', '.join(missing)}" if missing else "yes",
                f"{found} of {len(row.weights)}",
            )
        )
    print(
        f"\nLocal folders: {local_folder('<owner>/<name>')}; what is not there is asked from the hub by name."
    )
