"""Each corpus in a tiny tree of its published layout: what the adapters make of it, and what they refuse by name."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from utils import contracts, paths
from utils.sources import public_corpora

SHARED = Path(__file__).resolve().parents[3] / "shared" / "competition_sample"
EXTERNAL = paths.INPUTS / "external"
LA = "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm"

# name: ({key file: text}, {clip: (label, system, language, speaker, group, spans)}); None = no label, "" = a group of its own
CASES = {
    "demo_pages": (
        {
            "meta.csv": "id,file,label,system,language,speaker,group\nx/a.wav,clips/a.wav,1,bonafide,en,p,page-p\n"
            "x/b.wav,clips/b.wav,0,VALL-X,zh,p,page-p\nx/c.wav,clips/c.wav,,EnCodec,en,p,page-p\n"
        },
        {
            "clips/a.wav": (1, "bonafide", "en", "p", "page-p", ""),
            "clips/b.wav": (0, "VALL-X", "zh", "p", "page-p", ""),
            "clips/c.wav": (None, "EnCodec", "en", "p", "page-p", ""),
        },
    ),
    "FinVCup9": (
        {"finvcup9th_1st_ds5/train_label.txt": "a1.wav, 1\nb2.wav, 0"},
        {
            "finvcup9th_1st_ds5/train/a1.wav": (1, "bonafide", "unknown", "unknown", "", ""),
            "finvcup9th_1st_ds5/train/b2.wav": (0, "unknown", "unknown", "unknown", "", ""),
            "finvcup9th_1st_ds5/test/c3.wav": (None, "unknown", "unknown", "unknown", "", ""),
            "finvcup9th_2nd_ds2a/test/d4.wav": (None, "unknown", "unknown", "unknown", "", ""),
        },
    ),
    "ASVspoof2019-LA": (
        {
            f"LA/{LA}.train.trn.txt": "LA_0079 LA_T_1 - - bonafide\n",
            f"LA/{LA}.eval.trl.txt": "LA_0039 LA_E_2 - A07 spoof\n",
        },
        {
            "LA/ASVspoof2019_LA_train/flac/LA_T_1.flac": (
                1,
                "bonafide",
                "en",
                "LA_0079",
                "ASVspoof-LA_0079",
                "",
            ),
            "LA/ASVspoof2019_LA_eval/flac/LA_E_2.flac": (
                0,
                "A07",
                "en",
                "LA_0039",
                "ASVspoof-LA_0039",
                "",
            ),
        },
    ),
    "ASVspoof2021-DF": (
        {
            "DF-keys-full/keys/DF/CM/trial_metadata.txt": "LA_0039 DF_E_1 nocodec asvspoof A14 spoof notrim progress traditional_vocoder - - - -\n"
            "TGF1 DF_E_2 mp3m4a vcc2020 Task2-team12 spoof notrim eval traditional_vocoder Task2 team12 FF G\n"
            "LA_0023 DF_E_3 low_m4a asvspoof - bonafide notrim eval bonafide - - - -\n"
        },
        {
            "ASVspoof2021_DF_eval_part00/ASVspoof2021_DF_eval/flac/DF_E_1.flac": (
                0,
                "A14",
                "en",
                "LA_0039",
                "ASVspoof-LA_0039",
                "",
            ),
            "ASVspoof2021_DF_eval_part01/ASVspoof2021_DF_eval/flac/DF_E_2.flac": (
                0,
                "Task2-team12",
                "unknown",
                "TGF1",
                "VCC2020-TGF1",
                "",
            ),
            "ASVspoof2021_DF_eval_part01/ASVspoof2021_DF_eval/flac/DF_E_3.flac": (
                1,
                "bonafide",
                "en",
                "LA_0023",
                "ASVspoof-LA_0023",
                "",
            ),
        },
    ),
    "ASVspoof5": (
        {
            "ASVspoof5_protocols/ASVspoof5.train.tsv": "T_4850 T_1 F - - - AC3 A05 spoof -\n",
            "ASVspoof5_protocols/ASVspoof5.eval.track_1.tsv": "E_1607 E_2 M C05 2 E_9 - bonafide bonafide -\n",
            "ASVspoof5_protocols/ASVspoof5.eval.track_2.trial.tsv": "E_4413 E_2 F A25 spoof\n",
        },
        {
            "flac_T/T_1.flac": (0, "A05", "en", "T_4850", "ASVspoof5-T_4850", ""),
            "flac_E_eval/E_2.flac": (1, "bonafide", "en", "E_1607", "ASVspoof5-E_1607", ""),
        },
    ),
    "In-the-Wild": (
        {
            "release_in_the_wild/meta.csv": "file,speaker,label\n0.wav,Alec Guinness,spoof\n1.wav,Alec Guinness,bona-fide\n"
        },
        {
            "release_in_the_wild/0.wav": (
                0,
                "unknown",
                "en",
                "Alec Guinness",
                "In-the-Wild-Alec Guinness",
                "",
            ),
            "release_in_the_wild/1.wav": (
                1,
                "bonafide",
                "en",
                "Alec Guinness",
                "In-the-Wild-Alec Guinness",
                "",
            ),
        },
    ),
    "MLAAD": (
        {
            "fake/zh-cn/vits/meta.csv": "path|original_file|language|model_name|transcript\n"
            './fake/zh/vits/a.wav|./en_US/by_book/female/mary_ann/northandsouth/wavs/n_01.wav|zh-cn|tts/vits|"No\n'
            "./fake/zh/vits/b.wav|-|zh-cn|tts/vits|He went.\n"
        },
        {
            "fake/zh-cn/vits/a.wav": (
                0,
                "tts/vits",
                "zh",
                "unknown",
                "M-AILABS-en_US/by_book/female/mary_ann",
                "",
            ),
            "fake/zh-cn/vits/b.wav": (0, "tts/vits", "zh", "unknown", "", ""),
        },
    ),
    "M-AILABS": (
        {},
        {
            "en_US/by_book/female/mary_ann/northandsouth/wavs/n_01.wav": (
                1,
                "bonafide",
                "en",
                "mary_ann",
                "M-AILABS-en_US/by_book/female/mary_ann",
                "",
            )
        },
    ),
    "WaveFake": (
        {},
        {
            "generated_audio/ljspeech_melgan/LJ001-0001_gen.wav": (
                0,
                "ljspeech_melgan",
                "en",
                "LJ",
                "LJSpeech-LJ",
                "",
            ),
            "generated_audio/common_voices_prompts_from_conformer_fastspeech2_pwg_ljspeech/gen_0.wav": (
                0,
                "common_voices_prompts_from_conformer_fastspeech2_pwg_ljspeech",
                "en",
                "LJ",
                "LJSpeech-LJ",
                "",
            ),
            "generated_audio/jsut_parallel_wavegan/BASIC5000_0001_gen.wav": (
                0,
                "jsut_parallel_wavegan",
                "ja",
                "JSUT",
                "JSUT-JSUT",
                "",
            ),
            "LJSpeech-1.1/wavs/LJ001-0001.wav": (1, "bonafide", "en", "LJ", "LJSpeech-LJ", ""),
            "jsut_ver1.1/basic5000/wav/BASIC5000_0001.wav": (
                1,
                "bonafide",
                "ja",
                "JSUT",
                "JSUT-JSUT",
                "",
            ),
        },
    ),
    "FoR": (
        {},
        {
            "for-original/training/fake/file12.mp3": (
                0,
                "unknown",
                "en",
                "unknown",
                "FoR-file12",
                "",
            ),
            "for-norm/training/fake/file12.mp3.wav_16k.wav_norm.wav": (
                0,
                "unknown",
                "en",
                "unknown",
                "FoR-file12",
                "",
            ),
            "for-rerecorded/testing/real/recording7.wav_norm_mono.wav": (
                1,
                "bonafide",
                "en",
                "unknown",
                "",
                "",
            ),
        },
    ),
    "CFAD": (
        {},
        {
            "CFAD/clean_version/train_clean/real_clean/aishell1/BAC009S0764W0121.wav": (
                1,
                "bonafide",
                "zh",
                "S0764",
                "AISHELL-1-S0764",
                "",
            ),
            "CFAD/codec_version/test_seen_codec/fake_codec/lpcnet/SSB09660003_lpcnet_m4a.wav": (
                0,
                "lpcnet",
                "zh",
                "SSB0966",
                "AISHELL-3-SSB0966",
                "",
            ),
            "CFAD/noisy_version/dev_noise/fake_noise/gl/A11_23_gl.wav": (
                0,
                "gl",
                "zh",
                "unknown",
                "CFAD-A11",
                "",
            ),
        },
    ),
    "ADD2022": (
        {
            "ADD_train_dev/label/train_label.txt": "ADD_T_1.wav genuine\n",
            "track1adp_out/label.txt": "ADD_A_2.wav fake\n",
        },
        {
            "ADD_train_dev/train/ADD_T_1.wav": (1, "bonafide", "zh", "unknown", "", ""),
            "track1adp_out/ADD_A_2.wav": (0, "unknown", "zh", "unknown", "", ""),
        },
    ),
    "ADD2023": (
        {
            "Track1.2/train/label.txt": "ADD2023_T1.2_T_1.wav fake\n",
            "ADD2023_Track2_train/label.txt": "ADD2023_T2_T_1 0.00-0.32-T/0.32-0.48-F/0.48-0.50-T 0\nADD2023_T2_T_2.wav 0.00-0.50-T 1\n"
            "ADD2023_T2_T_3 0.00-0.50-F 0\n",
        },
        {
            "Track1.2/train/wav/ADD2023_T1.2_T_1.wav": (0, "unknown", "zh", "unknown", "", ""),
            "ADD2023_Track2_train/wav/ADD2023_T2_T_1.wav": (
                0,
                "unknown",
                "zh",
                "unknown",
                "",
                [[0.32, 0.48]],
            ),
            "ADD2023_Track2_train/wav/ADD2023_T2_T_2.wav": (1, "bonafide", "zh", "unknown", "", ""),
            "ADD2023_Track2_train/wav/ADD2023_T2_T_3.wav": (0, "unknown", "zh", "unknown", "", ""),
        },
    ),
    "Codecfake": (
        {
            "label/train.txt": "SSB13650058.wav real 0\nF01_p225_007.wav fake 1\n",
            "label/C1.txt": "SSB13650058.wav real 0\n",
            "label/A1.txt": "x.wav fake L1\n",
        },
        {
            "train/SSB13650058.wav": (1, "bonafide", "zh", "SSB1365", "AISHELL-3-SSB1365", ""),
            "train/F01_p225_007.wav": (0, "C1", "en", "p225", "VCTK-p225", ""),
            "test/C1/SSB13650058.wav": (1, "bonafide", "zh", "SSB1365", "AISHELL-3-SSB1365", ""),
            "test/A1/x.wav": (0, "A1", "unknown", "unknown", "", ""),
        },
    ),
    "CodecFake-VCTK": (
        {},
        {
            "processed/encodec_24khz+p225_103.wav": (
                0,
                "encodec_24khz",
                "en",
                "p225",
                "VCTK-p225",
                "",
            )
        },
    ),
    "DFADD": (
        {},
        {
            "DATASET_PflowTTS/train/p345_251_pflow.wav": (
                0,
                "PflowTTS",
                "en",
                "p345",
                "VCTK-p345",
                "",
            ),
            "DATASET_VCTK_BONAFIDE/test/p345_251.wav": (
                1,
                "bonafide",
                "en",
                "p345",
                "VCTK-p345",
                "",
            ),
        },
    ),
    "PartialSpoof": (
        {
            "database/protocols/PartialSpoof_LA_cm_protocols/PartialSpoof.LA.cm.dev.trl.txt": "LA_0079 CON_D_1 - CON spoof\nLA_0079 LA_D_2 - - bonafide\n",
            "database/vad/dev/CON_D_1.vad": "0.0 0.2 1\n0.2 0.3 0\n0.3 0.4 1\n0.4 0.5 0\n",
            "database/vad/dev/LA_D_2.vad": "0.0 0.5 1\n",
        },
        {
            "database/dev/con_wav/CON_D_1.wav": (
                0,
                "CON",
                "en",
                "LA_0079",
                "ASVspoof-LA_0079",
                [[0.2, 0.3], [0.4, 0.5]],
            ),
            "database/dev/con_wav/LA_D_2.wav": (
                1,
                "bonafide",
                "en",
                "LA_0079",
                "ASVspoof-LA_0079",
                "",
            ),
        },
    ),
    "LlamaPartialSpoof": (
        {
            "label_R01TTS.0.a.txt": "dev-clean_1272_170145_000020_000002 0.5 bonafide 0.0000-0.5000-bonafide\n"
            "dev01-cosyvoice-full_1272_1_2_3 0.5 spoof 0.0000-0.5000-spoof\n",
            "label_R01TTS.0.b.txt": "dev01-xtts-partial-cp_1272_1_2_3 0.5 spoof 0.0000-0.3800-bonafide 0.3800-0.5000-spoof\n",
        },
        {
            "R01TTS.0.a/dev-clean_1272_170145_000020_000002.wav": (
                1,
                "bonafide",
                "en",
                "1272",
                "LibriVox-1272",
                "",
            ),
            "R01TTS.0.a/dev01-cosyvoice-full_1272_1_2_3.wav": (
                0,
                "cosyvoice-full",
                "en",
                "1272",
                "LibriVox-1272",
                "",
            ),
            "R01TTS.0.b/dev01-xtts-partial-cp_1272_1_2_3.wav": (
                0,
                "xtts-partial-cp",
                "en",
                "1272",
                "LibriVox-1272",
                [[0.38, 0.5]],
            ),
        },
    ),
    "CommonVoice": (
        {
            "cv-corpus-22.0/zh-CN/validated.tsv": 'client_id\tpath\tsentence\nab12\tcommon_voice_zh-CN_1.mp3\t"他说\n'
        },
        {
            "cv-corpus-22.0/zh-CN/clips/common_voice_zh-CN_1.mp3": (
                1,
                "bonafide",
                "zh",
                "ab12",
                "CommonVoice-ab12",
                "",
            )
        },
    ),
    "FLEURS": (
        {},
        {
            "data/cmn_hans_cn/audio/train/10.wav": (1, "bonafide", "zh", "unknown", "", ""),
            "data/es_419/audio/dev/11.wav": (1, "bonafide", "es", "unknown", "", ""),
        },
    ),
    "MLS": (
        {},
        {
            "mls_italian/train/audio/1595/5616/1595_5616_000327.flac": (
                1,
                "bonafide",
                "it",
                "1595",
                "LibriVox-1595",
                "",
            ),
            "mls_english_opus/dev/audio/1272/9/1272_9_000001.opus": (
                1,
                "bonafide",
                "en",
                "1272",
                "LibriVox-1272",
                "",
            ),
        },
    ),
    "LibriSpeech": (
        {},
        {
            "LibriSpeech/dev-clean/1272/128104/1272-128104-0000.flac": (
                1,
                "bonafide",
                "en",
                "1272",
                "LibriVox-1272",
                "",
            )
        },
    ),
    "AISHELL-1": (
        {},
        {
            "data_aishell/wav/test/S0764/BAC009S0764W0121.wav": (
                1,
                "bonafide",
                "zh",
                "S0764",
                "AISHELL-1-S0764",
                "",
            )
        },
    ),
    "AISHELL-3": (
        {},
        {
            "train/wav/SSB0966/SSB09660003.wav": (
                1,
                "bonafide",
                "zh",
                "SSB0966",
                "AISHELL-3-SSB0966",
                "",
            )
        },
    ),
    "MUSAN": (
        {},
        {
            "musan/noise/free-sound/noise-free-sound-0000.wav": (
                None,
                "noise",
                "unknown",
                "unknown",
                "",
                "",
            ),
            "musan/speech/librivox/speech-librivox-0001.wav": (
                None,
                "speech",
                "unknown",
                "unknown",
                "",
                "",
            ),
        },
    ),
    "RIRS_NOISES": (
        {},
        {
            "RIRS_NOISES/pointsource_noises/noise-free-sound-0001.wav": (
                None,
                "noise",
                "unknown",
                "unknown",
                "",
                "",
            ),
            "RIRS_NOISES/real_rirs_isotropic_noises/RVB2014_type1_noise_largeroom1_1.wav": (
                None,
                "noise",
                "unknown",
                "unknown",
                "",
                "",
            ),
            "RIRS_NOISES/real_rirs_isotropic_noises/RVB2014_type1_rir_largeroom1_1.wav": (
                None,
                "rir",
                "unknown",
                "unknown",
                "",
                "",
            ),
            "RIRS_NOISES/simulated_rirs/smallroom/Room001/Room001-00001.wav": (
                None,
                "rir",
                "unknown",
                "unknown",
                "",
                "",
            ),
        },
    ),
    "DNS": (
        {},
        {
            "datasets_fullband/noise_fullband/a.wav": (None, "noise", "unknown", "unknown", "", ""),
            "datasets_fullband/impulse_responses/SLR26/b.wav": (
                None,
                "rir",
                "unknown",
                "unknown",
                "",
                "",
            ),
        },
    ),
}
OPTIONS = {".wav": {}, ".flac": {}, ".mp3": {}, ".opus": {"format": "OGG", "subtype": "OPUS"}}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """suffix → bytes of half a second of something audible at 16 kHz."""
    time, folder = np.arange(8000) / 16000, tmp_path_factory.mktemp("sounds")
    wave = 0.2 * np.sin(2 * np.pi * 220 * time) * (1 + np.sin(2 * np.pi * 5 * time))
    for suffix, options in OPTIONS.items():
        sf.write(folder / f"a{suffix}", wave, 16000, **options)
    return {suffix: (folder / f"a{suffix}").read_bytes() for suffix in OPTIONS}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def build(sounds):
    """build(corpus) → its folder with the tree of `CASES`, fresh."""

    def make(name):
        folder = EXTERNAL / name
        shutil.rmtree(folder, ignore_errors=True)
        keys, clips = CASES[name]
        for path in clips:
            write(folder / path, sounds[Path(path).suffix])
        for path, text in keys.items():
            write(folder / path, text)
        return folder

    return make


def test_every_corpus_is_tested():
    assert list(CASES) == list(public_corpora.CORPORA)


@pytest.mark.parametrize("name", CASES)
def test_published_layout(name, build):
    table, rejected = public_corpora.manifest(name, build(name))
    assert rejected.empty and list(table.columns) == contracts.MANIFEST
    found = table.set_index("id")
    assert set(found.index) == {f"{name}/{path}" for path in CASES[name][1]}
    for path, (label, system, language, speaker, group, spans) in CASES[name][1].items():
        row = found.loc[f"{name}/{path}"]
        assert (row["system"], row["language"], row["speaker"]) == (system, language, speaker), path
        assert row["label"] is pd.NA if label is None else row["label"] == label, path
        assert row["group"] == (group or f"{name}/{path}"), path
        assert (json.loads(row["spans"]) if row["spans"] else "") == spans, path
        assert (
            row["path"] == f"inputs/external/{name}/{path}"
            and row["source"] == name
            and row["licence"]
        )
        assert row["split"] == ("test" if "/test/" in path and name == "FinVCup9" else "external")
    assert (
        table["duration_s"].sub(0.5).abs().max() < 0.1
        and table["sample_rate"].isin([16000, 48000]).all()
    )


@pytest.mark.parametrize(
    ("name", "pattern"),
    [(name, glob) for name, corpus in public_corpora.CORPORA.items() for glob in corpus.needs],
)
def test_what_a_layout_lacks_is_named(name, pattern, build):
    folder = build(name)
    assert public_corpora.check(name, folder) == folder
    for path in list(folder.glob(pattern)):
        path.unlink()
    with pytest.raises(contracts.ContractError) as problem:
        public_corpora.check(name, folder)
    assert all(
        word in str(problem.value)
        for word in (pattern, str(folder), public_corpora.CORPORA[name].home)
    )


def test_label_file_of_the_archive_is_missed(build):
    (build("FinVCup9") / "finvcup9th_1st_ds5" / "train_label.txt").unlink()
    with pytest.raises(contracts.ContractError, match="train_label.txt is missing"):
        public_corpora.manifest("FinVCup9", EXTERNAL / "FinVCup9")


def test_corrupt_clips_are_named_and_stop_nothing(build, sounds, tmp_path):
    home = build("In-the-Wild") / "release_in_the_wild"
    names = [
        "cut.wav",
        "text.wav",
        "empty.wav",
        "silent.wav",
        "lost.wav",
        "odd.wav",
        "0.wav",
        "../../../../etc/passwd.wav",
        "a/../1.wav",
        "link.wav",
        str(tmp_path / "far.wav"),
    ]
    with (home / "meta.csv").open("a") as key:
        key.writelines(
            f"{name},Someone,{'maybe' if name == 'odd.wav' else 'spoof'}\n" for name in names
        )
    write(home / "cut.wav", sounds[".wav"][:5000])
    write(home / "text.wav", "this is a text file\n")
    write(home / "empty.wav", b"")
    write(home / "odd.wav", sounds[".wav"])
    write(home / "nobody.wav", sounds[".wav"])
    write(tmp_path / "far.wav", sounds[".wav"])
    (home / "link.wav").symlink_to(tmp_path / "far.wav")
    (home / "a").mkdir()
    sf.write(home / "silent.wav", np.zeros(8000), 16000)
    table, rejected = public_corpora.manifest("In-the-Wild", home.parent)
    assert set(table["id"]) == {f"In-the-Wild/release_in_the_wild/{i}.wav" for i in (0, 1)}
    reasons = {
        Path(row.id).name: row.reason
        for row in rejected.itertuples()
        if not row.id.endswith("a/../1.wav")
    }
    expected = {
        "cut.wav": "truncated",
        "text.wav": "not audio",
        "empty.wav": "empty",
        "silent.wav": "silent",
        "lost.wav": "No such file",
        "odd.wav": "its key says 'maybe'",
        "nobody.wav": "no key names it",
        "0.wav": "twice",
        "passwd.wav": "leaves",
        "link.wav": "leaves",
        "far.wav": "leaves",
    }
    assert all(word in reasons[name] and name in reasons[name] for name, word in expected.items())
    assert (
        len(rejected) == len(expected) + 1
    )  # and the way round to 1.wav, twice under another name


def test_cut_mp3_is_noticed(build, sounds):
    folder = build("CommonVoice")
    clip = next(folder.rglob("*.mp3"))
    clip.write_bytes(sounds[".mp3"][: len(sounds[".mp3"]) // 2])
    table, rejected = public_corpora.manifest("CommonVoice", folder)
    assert table.empty and f"{clip.name}: truncated" in rejected["reason"][0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ASVspoof2019-LA", "LA_0079 LA_T_1 -\n"),
        ("LlamaPartialSpoof", "x_1_2 0.5 spoof 0.1-spoof\n"),
        ("MLAAD", "path,original\na.wav,b\n"),
        ("ADD2023", "x.wav\n"),
        ("CommonVoice", "\x00\x01\n\x02\n"),
    ],
)
def test_key_of_another_form_is_refused_by_row(name, text, build):
    folder = build(name)
    key = next(folder.glob(next(iter(public_corpora.CORPORA[name].needs))))
    write(key, text)
    with pytest.raises(contracts.ContractError, match="row 1") as problem:
        public_corpora.manifest(name, folder)
    assert str(key) in str(problem.value)


def test_class_numbers_are_no_labels(build):
    folder = build("ADD2023")  # track 3 numbers the synthesisers: "1" is not real there
    write(folder / "Track1.2/train/label.txt", "ADD2023_T1.2_T_1.wav 1\n")
    table, rejected = public_corpora.manifest("ADD2023", folder)
    assert len(table) == 3 and "says '1'" in rejected["reason"][0]


def test_corpora_that_share_recordings_share_groups(build):
    groups = {
        name: set(public_corpora.manifest(name, build(name))[0]["group"])
        for name in (
            "ASVspoof2019-LA",
            "ASVspoof2021-DF",
            "PartialSpoof",
            "MLAAD",
            "M-AILABS",
            "CFAD",
            "AISHELL-1",
            "AISHELL-3",
            "Codecfake",
            "CodecFake-VCTK",
            "LlamaPartialSpoof",
            "MLS",
            "LibriSpeech",
        )
    }
    for names in (
        ("ASVspoof2019-LA", "ASVspoof2021-DF"),
        ("ASVspoof2019-LA", "PartialSpoof"),
        ("MLAAD", "M-AILABS"),
        ("CFAD", "AISHELL-1"),
        ("CFAD", "AISHELL-3"),
        ("Codecfake", "CodecFake-VCTK"),
        ("LlamaPartialSpoof", "MLS", "LibriSpeech"),
    ):
        assert set.intersection(*(groups[name] for name in names)), names
        assert all(public_corpora.contamination().loc[names[0], name] for name in names)


def test_the_corpus_may_be_a_link_and_must_be_in_the_project(build, tmp_path):
    folder = build("AISHELL-3")
    shutil.move(folder, tmp_path / "elsewhere")
    with pytest.raises(contracts.ContractError, match="not in the project"):
        public_corpora.manifest("AISHELL-3", tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    table, _ = public_corpora.manifest("AISHELL-3", folder)
    folder.unlink()
    assert table["path"].tolist() == ["inputs/external/AISHELL-3/train/wav/SSB0966/SSB09660003.wav"]


def test_noise_files_leave_out_speech_and_rooms(build):
    assert [path.name for path in public_corpora.noise_files("MUSAN", build("MUSAN"))] == [
        "noise-free-sound-0000.wav"
    ]
    rooms = public_corpora.noise_files("RIRS_NOISES", build("RIRS_NOISES"), ("rir",))
    assert len(rooms) == 2 and all(path.exists() for path in rooms)


def test_contamination_is_symmetric_and_containing_is_transitive():
    table = public_corpora.contamination()
    assert (
        table.equals(table.T)
        and (np.diag(table) == 1).all()
        and set(public_corpora.CORPORA) <= set(table.columns)
    )
    for name in table.columns:
        for source in public_corpora.sources(name):
            assert (
                public_corpora.sources(source) <= public_corpora.sources(name)
                and table.loc[name, source] == 1
            )
    assert (
        "VCTK" in public_corpora.sources("PartialSpoof") and table.loc["PartialSpoof", "DFADD"] == 1
    )
    assert (
        table.loc["LlamaPartialSpoof", "LibriSpeech"] == 1 and table.loc["In-the-Wild"].sum() == 1
    )
    assert (
        table.loc["DFADD", "Codecfake"] == table.loc["Codecfake", "AISHELL-3"] == 1
        and table.loc["DFADD", "AISHELL-3"] == 0
    )


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["adapters", *map(str, arguments)])
    runpy.run_path(public_corpora.__file__, run_name="__main__")


def test_command_line(build, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "--help")
    said = capsys.readouterr().out
    assert stop.value.code == 0 and all(
        name in said and next(iter(c.needs)) in said for name, c in public_corpora.CORPORA.items()
    )
    folder = build("DFADD")
    write(folder / "DATASET_PflowTTS/train/p345_252_pflow.wav", b"no audio")
    run(monkeypatch, "DFADD", folder, "--out", tmp_path / "manifest.csv")
    assert (
        len(pd.read_csv(tmp_path / "manifest.csv")) == 2
        and "p345_252" in (tmp_path / "rejected.csv").read_text()
    )
    with pytest.raises(SystemExit, match="error: .*nothing there matches"):
        run(monkeypatch, "CFAD", folder, "--out", tmp_path / "other.csv")
    assert not (tmp_path / "other.csv").exists()


@pytest.mark.skipif(not SHARED.exists(), reason="the sample of the real competition is not at hand")
def test_sample_of_the_real_archive():
    folder = EXTERNAL / "sample"
    shutil.copytree(SHARED, folder / "finvcup9th_1st_ds5", dirs_exist_ok=True)
    table, rejected = public_corpora.manifest("FinVCup9", folder)
    assert rejected.empty and table["split"].value_counts().to_dict() == {
        "test": 20,
        "external": 10,
    }
    labels = contracts.read_labels(SHARED / "train_label.txt")
    known = table[table["split"] == "external"]
    assert known["label"].tolist() == [labels[Path(path).name] for path in known["path"]]
    assert (table["sample_rate"] == 8000).all() and table.loc[
        table["split"] == "test", "label"
    ].isna().all()


def test_external_clips_pass_the_same_chain(build, tmp_path_factory, speechlike):
    folder = build("In-the-Wild")
    for name in ("0.wav", "1.wav"):
        sf.write(
            folder / "release_in_the_wild" / name,
            np.pad(np.tile(speechlike, 2), (16000, 0)) * 0.9,
            16000,
        )
    table, _ = public_corpora.manifest("In-the-Wild", folder)
    target = paths.HOME / "outputs" / "conditioned"
    shutil.rmtree(target, ignore_errors=True)
    first, rejected = public_corpora.condition(table, target, 1)
    assert (
        rejected.empty and set(first["sample_rate"]) == {8000} and (first["duration_s"] < 2.3).all()
    )  # the silence is gone
    kept = {path: (paths.HOME / path).read_bytes() for path in first["path"]}
    assert all(
        (paths.HOME / path).parent.with_name("raw").joinpath(Path(path).name).exists()
        for path in first["path"]
    )
    (paths.HOME / first["path"][0]).unlink()
    again, _ = public_corpora.condition(table, target, 1)
    assert (
        again.equals(first)
        and {path: (paths.HOME / path).read_bytes() for path in again["path"]} == kept
    )
    (folder / "release_in_the_wild" / "1.wav").write_bytes(b"")
    other, rejected = public_corpora.condition(table, target, 2)
    assert len(other) == 1 and rejected["id"].tolist() == ["In-the-Wild/release_in_the_wild/1.wav"]
