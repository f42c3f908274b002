"""What is done with public corpora: manifests on the command line, contamination, conditioning."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from utils import paths
from utils.sources import public_corpora


def test_contamination_is_symmetric_and_covers_every_corpus():
    table = public_corpora.contamination()
    assert table.equals(table.T) and (np.diag(table) == 1).all()
    assert set(public_corpora.CORPORA) <= set(table.columns)


def test_containing_is_transitive_and_sharing_is_not():
    table, sources = public_corpora.contamination(), public_corpora.sources
    for name in table.columns:
        for source in sources(name):
            assert sources(source) <= sources(name) and table.loc[name, source] == 1
    assert "VCTK" in sources("PartialSpoof") and table.loc["PartialSpoof", "DFADD"] == 1
    assert table.loc["LlamaPartialSpoof", "LibriSpeech"] == 1
    assert table.loc["DFADD", "Codecfake"] == table.loc["Codecfake", "AISHELL-3"] == 1
    assert table.loc["DFADD", "AISHELL-3"] == 0


def test_a_corpus_that_shares_nothing_is_contaminated_by_itself_only():
    assert public_corpora.contamination().loc["In-the-Wild"].sum() == 1


def test_help_lists_every_corpus_with_what_its_folder_must_hold():
    command = [sys.executable, "-m", "utils.sources.public_corpora", "--help"]
    text = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=True)
    for name, corpus in public_corpora.CORPORA.items():
        assert f"{name}  [{corpus.licence}]" in text.stdout
        assert all(glob in text.stdout for glob in corpus.needs)


def test_command_line_writes_manifest_and_rejected(build, tmp_path, write):
    folder = build("DFADD")
    write(folder / "DATASET_PflowTTS/train/p345_252_pflow.wav", b"no audio")
    arguments = ["DFADD", str(folder), "--out", str(tmp_path / "manifest.csv")]
    assert public_corpora.main(arguments) == 0
    assert len(pd.read_csv(tmp_path / "manifest.csv")) == 2
    assert "p345_252" in (tmp_path / "rejected.csv").read_text()


def test_command_line_says_what_a_folder_lacks(build, tmp_path, capsys):
    arguments = ["CFAD", str(build("DFADD")), "--out", str(tmp_path / "other.csv")]
    assert public_corpora.main(arguments) == 1
    assert "nothing in it matches" in capsys.readouterr().err
    assert not (tmp_path / "other.csv").exists()


@pytest.fixture
def external(build, speechlike):
    """A corpus of two clips with half a second of silence around the speech, and a new folder."""
    folder = build("In-the-Wild")
    for name in ("0.wav", "1.wav"):
        wave = np.pad(np.tile(speechlike, 2), (16000, 0)) * 0.9
        sf.write(folder / "release_in_the_wild" / name, wave, 16000)
    table, _ = public_corpora.manifest("In-the-Wild", folder)
    target = paths.HOME / "outputs" / "conditioned"
    shutil.rmtree(target, ignore_errors=True)
    return table, target


def test_conditioned_clips_are_8_khz_without_the_silence(external):
    conditioned, rejected = public_corpora.condition(*external, seed=1)
    assert rejected.empty and len(conditioned) == 2
    assert set(conditioned["sample_rate"]) == {8000}
    assert (conditioned["duration_s"] < 2.3).all()
    for path in map(Path, conditioned["path"]):
        assert (paths.HOME / path).exists()
        assert (paths.HOME / path.parent.parent / "raw" / path.name).exists()


def test_a_lost_conditioned_clip_comes_back_the_same(external):
    first, _ = public_corpora.condition(*external, seed=1)
    content = {path: (paths.HOME / path).read_bytes() for path in first["path"]}
    (paths.HOME / first["path"][0]).unlink()
    again, _ = public_corpora.condition(*external, seed=1)
    assert again.equals(first)
    assert {path: (paths.HOME / path).read_bytes() for path in again["path"]} == content


def test_clips_that_other_code_conditioned_or_with_a_newer_source_are_made_anew(
    external, monkeypatch
):
    """Both were kept as they were."""
    first, _ = public_corpora.condition(*external, seed=1)
    clips = [paths.HOME / path for path in first["path"]]
    content = clips[0].read_bytes()
    clips[0].write_bytes(b"old")
    monkeypatch.setattr(public_corpora, "code_digest", lambda *functions: "other code")
    public_corpora.condition(*external, seed=1)
    assert clips[0].read_bytes() == content
    clips[0].write_bytes(clips[1].read_bytes())
    public_corpora.condition(*external, seed=1)
    assert clips[0].read_bytes() == clips[1].read_bytes()
    later = clips[0].stat().st_mtime_ns + 10**9
    os.utime(paths.HOME / external[0]["path"][0], ns=(later, later))
    public_corpora.condition(*external, seed=1)
    assert clips[0].read_bytes() == content


def test_an_unreadable_clip_is_rejected_when_it_is_conditioned(external):
    broken = "In-the-Wild/release_in_the_wild/1.wav"
    (paths.INPUTS / "external" / broken).write_bytes(b"")
    conditioned, rejected = public_corpora.condition(*external, seed=2)
    assert len(conditioned) == 1 and rejected["id"].tolist() == [broken]
