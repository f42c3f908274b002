"""Each corpus in a small tree of its published layout: what is read, and what is refused."""

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from utils import contracts, paths
from utils.sources import public_corpora

SHARED = Path(__file__).resolve().parents[3] / "shared" / "competition_sample"
EXTERNAL = paths.INPUTS / "external"
LAYOUTS = Path(__file__).with_name("corpus_layouts.toml")
CASES = tomllib.loads(LAYOUTS.read_text(encoding="utf-8"))


def test_every_corpus_is_tested():
    assert list(CASES) == list(public_corpora.CORPORA)


@pytest.mark.parametrize("name", CASES)
def test_published_layout(name, build):
    table, rejected = public_corpora.manifest(name, build(name))
    assert rejected.empty and list(table.columns) == contracts.MANIFEST
    found, clips = table.set_index("id"), CASES[name]["clips"]
    assert set(found.index) == {f"{name}/{path}" for path in clips}
    for path, (label, system, language, speaker, group, spans) in clips.items():
        row = found.loc[f"{name}/{path}"]
        assert (row["system"], row["language"], row["speaker"]) == (system, language, speaker), path
        assert row["label"] is pd.NA if label == "" else row["label"] == label, path
        assert row["group"] == (group or f"{name}/{path}"), path
        assert (json.loads(row["spans"]) if row["spans"] else []) == spans, path
        assert row["path"] == f"inputs/external/{name}/{path}"
        assert row["source"] == name and row["licence"]
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


def damage(kind: str, home: Path, sounds, outside: Path) -> None:
    """Put the file of one broken row of `BROKEN` where its key says, or where it should not be."""
    if kind in ("far.wav", "link.wav"):
        outside.write_bytes(sounds[".wav"])
    if kind == "link.wav":
        (home / kind).symlink_to(outside)
    elif kind == "silent.wav":
        sf.write(home / kind, np.zeros(8000), 16000)
    elif kind == "cut.wav":
        (home / kind).write_bytes(sounds[".wav"][:5000])
    elif kind == "text.wav":
        (home / kind).write_text("this is a text file\n")
    elif kind == "empty.wav":
        (home / kind).touch()
    elif kind in ("odd.wav", "nobody.wav"):
        (home / kind).write_bytes(sounds[".wav"])
    elif kind == "a/../1.wav":
        (home / "a").mkdir()


BROKEN = {  # name in the key: what the reason says
    "cut.wav": "truncated",
    "text.wav": "not audio",
    "empty.wav": "empty",
    "silent.wav": "silent",
    "lost.wav": "No such file",
    "odd.wav": "its key says 'maybe'",
    "nobody.wav": "no key names it",
    "0.wav": "twice",
    "../../../../etc/passwd.wav": "leaves",
    "link.wav": "leaves",
    "far.wav": "leaves",
    "a/../1.wav": "twice",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_clip_is_rejected_by_name_and_stops_nothing(build, sounds, tmp_path, name):
    home = build("In-the-Wild") / "release_in_the_wild"
    damage(name, home, sounds, tmp_path / "far.wav")
    if name != "nobody.wav":
        written = str(tmp_path / name) if name == "far.wav" else name
        label = "maybe" if name == "odd.wav" else "spoof"
        with (home / "meta.csv").open("a") as key:
            key.write(f"{written},Someone,{label}\n")
    table, rejected = public_corpora.manifest("In-the-Wild", home.parent)
    assert set(table["id"]) == {f"In-the-Wild/release_in_the_wild/{i}.wav" for i in (0, 1)}
    (reason,) = rejected["reason"]
    assert BROKEN[name] in reason and Path(name).name in reason


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
def test_key_of_another_form_is_refused_by_row(name, text, build, write):
    folder = build(name)
    key = next(folder.glob(public_corpora.CORPORA[name].keys))
    write(key, text)
    with pytest.raises(contracts.ContractError, match="row 1") as problem:
        public_corpora.manifest(name, folder)
    assert str(key) in str(problem.value)


def test_class_numbers_are_no_labels(build, write):
    folder = build("ADD2023")  # track 3 numbers the synthesisers: "1" is not real there
    write(folder / "Track1.2/train/label.txt", "ADD2023_T1.2_T_1.wav 1\n")
    table, rejected = public_corpora.manifest("ADD2023", folder)
    assert len(table) == 3 and "says '1'" in rejected["reason"][0]


@pytest.mark.parametrize(
    "names",
    [
        ("ASVspoof2019-LA", "ASVspoof2021-DF"),
        ("ASVspoof2019-LA", "PartialSpoof"),
        ("MLAAD", "M-AILABS"),
        ("CFAD", "AISHELL-1"),
        ("CFAD", "AISHELL-3"),
        ("Codecfake", "CodecFake-VCTK"),
        ("LlamaPartialSpoof", "MLS", "LibriSpeech"),
    ],
    ids="+".join,
)
def test_corpora_that_share_recordings_share_groups(build, names):
    tables = [public_corpora.manifest(name, build(name))[0] for name in names]
    assert set.intersection(*(set(table["group"]) for table in tables))
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


@pytest.mark.skipif(not SHARED.exists(), reason="the sample of the real competition is not at hand")
def test_the_sample_of_the_official_archive_is_read():
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
