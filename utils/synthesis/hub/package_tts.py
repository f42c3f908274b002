"""Generators that need a package of their own: XTTS, OpenVoice, MARS5, fish-speech, MetaVoice.

None of them was ever run here with its weights; each follows the published code that it names.
"""

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from utils.audio import reading
from utils.synthesis.base import GeneratorUnavailable, Line
from utils.synthesis.hub.common import needs, open_package, reference_of, seeded_maker

MELO_WEIGHTS = {  # language → (name in MeloTTS, weights), as in its melo/download_utils.py
    "en": ("EN_NEWEST", "myshell-ai/MeloTTS-English-v3"),
    "es": ("ES", "myshell-ai/MeloTTS-Spanish"),
    "fr": ("FR", "myshell-ai/MeloTTS-French"),
    "zh": ("ZH", "myshell-ai/MeloTTS-Chinese"),
    "ja": ("JP", "myshell-ai/MeloTTS-Japanese"),
    "ko": ("KR", "myshell-ai/MeloTTS-Korean"),
}
FISH_CODEC = "firefly-gan-vq-fsq-4x1024-42hz-generator.pth"


def load_xtts(seed: int):
    """XTTS-v2. Voice: a reference, or a built-in speaker such as 'Ana Florence'. Output 24 kHz.

    After TTS/api.py of the wheel coqui-tts 0.28.0.
    """
    if os.environ.get("COQUI_TOS_AGREED") != "1":
        raise GeneratorUnavailable(
            "xtts-v2: its licence (CPML, LICENSE.txt of coqui/XTTS-v2) asks for your consent. "
            "Remedy: read it and, if you agree, set COQUI_TOS_AGREED=1 yourself"
        )
    folder, (api,) = open_package("xtts-v2", "coqui/XTTS-v2", "TTS.api")
    tts = api.TTS(
        model_path=str(folder), config_path=str(folder / "config.json"), progress_bar=False
    )

    def say(line: Line):
        language = {"zh": "zh-cn"}.get(line.language, line.language)
        if line.voice.endswith((".wav", ".flac")):
            wave = tts.tts(line.text, language=language, speaker_wav=line.voice)
        else:
            wave = tts.tts(line.text, language=language, speaker=line.voice)
        return wave, tts.synthesizer.output_sample_rate

    return seeded_maker(seed, say)


def load_openvoice(seed: int):
    """OpenVoiceV2: MeloTTS speaks, a converter adds the tone of the reference. Output 22.05 kHz.

    After demo_part3.ipynb and openvoice/api.py of myshell-ai/OpenVoice, and melo/api.py of
    myshell-ai/MeloTTS, which downloads BERT models from the hub. The package marks its clips with
    an inaudible watermark: a detector could learn that instead of the voice.
    """
    import torch

    folder, (api, melo) = open_package(
        "openvoice-v2", "myshell-ai/OpenVoiceV2", "openvoice.api", "melo.api"
    )
    converter = api.ToneColorConverter(str(folder / "converter/config.json"), device="cpu")
    converter.load_ckpt(str(folder / "converter/checkpoint.pth"))

    @cache
    @torch.random.fork_rng()  # opening a model uses random numbers: not those of the line's noise
    def open_language(language: str):
        code, weights = MELO_WEIGHTS[language]
        base, _ = open_package("openvoice-v2", weights)
        files = {
            "config_path": str(base / "config.json"),
            "ckpt_path": str(base / "checkpoint.pth"),
        }
        tts = melo.TTS(code, "cpu", **files)
        name, number = next(iter(tts.hps.data.spk2id.items()))
        tone = folder / "base_speakers/ses" / f"{name.lower().replace('_', '-')}.pth"
        return tts, number, torch.load(tone, map_location="cpu", weights_only=True)

    def say(line: Line):
        target = converter.extract_se([str(reference_of(line))])
        tts, number, tone = open_language(line.language)
        with tempfile.TemporaryDirectory() as work:
            spoken = f"{work}/base.wav"
            tts.tts_to_file(line.text, number, spoken, quiet=True)
            return converter.convert(spoken, tone, target), converter.hps.data.sampling_rate

    return seeded_maker(seed, say)


def load_mars5(seed: int):
    """MARS5. Output 24 kHz.

    Voice: a reference of 2 to 12 s; with its transcript in `<voice>.txt` it is a deep clone. After
    inference.py and README.md of Camb-ai/MARS5-TTS. Its torch.hub entry would execute downloaded
    code; here the clone is imported that you looked through and put on PYTHONPATH. It downloads the
    weights of EnCodec and Vocos itself.
    """
    import torch
    from safetensors import safe_open

    weights = "CAMB-AI/MARS5-TTS"
    folder, (inference,) = open_package("mars5", weights, "inference")
    checkpoints = []
    for name in ("ar", "nar"):
        file = folder / f"mars5_{name}.safetensors"
        with needs("mars5", weights), safe_open(file, "pt") as tensors:
            state = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118
            checkpoints.append({"vocab": tensors.metadata(), "model": state})
    model = inference.Mars5TTS(*checkpoints)

    def say(line: Line):
        transcript = _transcript(line)
        wave = torch.from_numpy(reading.read(line.voice, model.sr))
        config = inference.InferenceConfig(deep_clone=bool(transcript))
        _, spoken = model.tts(line.text, wave, transcript, config)
        return spoken, model.sr

    return seeded_maker(seed, say)


def _transcript(line: Line) -> str:
    """What is said in the reference: the text beside it, or "" where there is none."""
    file = reference_of(line).with_suffix(".txt")
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def load_fish(seed: int):
    """fish-speech 1.2. Output 44.1 kHz.

    Voice: a reference with its transcript in `<voice>.txt`; empty: a random voice. The commands of
    docs/en/inference.md of fishaudio/fish-speech as of version 1.2; each opens its model anew,
    which is slow.
    """
    import soundfile as sf
    import torch

    folder, (package,) = open_package("fish-speech-1.2", "fishaudio/fish-speech-1.2", "fish_speech")
    folder, tools = folder.resolve(), Path(next(iter(package.__path__))).parent / "tools"
    codec = ("vqgan/inference.py", "--checkpoint-path", folder / FISH_CODEC, "-i")
    text_model = ("llama/generate.py", "--checkpoint-path", folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def run(work: str, tool: str, *arguments) -> None:
        command = [sys.executable, tools / tool, *arguments, "--device", device]
        subprocess.run(command, cwd=work, check=True)

    def say(line: Line):
        with tempfile.TemporaryDirectory() as work:
            prompt = ()
            if line.voice:
                reference = reference_of(line)
                transcript = reference.with_suffix(".txt").read_text(encoding="utf-8").strip()
                run(work, *codec, reference)  # writes fake.npy
                prompt = ("--prompt-text", transcript, "--prompt-tokens", "fake.npy")
            noise = ("--seed", str(torch.initial_seed()))
            run(work, *text_model, "--text", line.text, *prompt, *noise)  # writes codes_0.npy
            run(work, *codec, "codes_0.npy")  # writes fake.wav
            return sf.read(f"{work}/fake.wav", dtype="float32")

    return seeded_maker(seed, say)


def load_metavoice(seed: int):
    """metavoice-1B. Output at the rate of the file that it writes. Wants a GPU of 16 GB.

    Voice: a reference of 30 s or more. After fam/llm/fast_inference.py of
    metavoiceio/metavoice-src.
    """
    import soundfile as sf

    folder, (inference,) = open_package(
        "metavoice-1b", "metavoiceio/metavoice-1B-v0.1", "fam.llm.fast_inference"
    )

    def our_folder(repo_id: str) -> str:
        return str(folder)

    inference.snapshot_download = our_folder  # its class takes names of the hub only
    work = tempfile.TemporaryDirectory()
    tts = inference.TTS(seed=seed, output_dir=work.name)

    def say(line: Line):
        return sf.read(tts.synthesise(line.text, str(reference_of(line))), dtype="float32")

    make = seeded_maker(seed, say)
    make.work = work  # lives as long as the maker
    return make
