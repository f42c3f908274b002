"""The command line: `python -m utils.predict`."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from utils import paths
from utils.audio import dsp, reading
from utils.detector.batch import command
from utils.detector.scoring import RATE


@pytest.fixture
def score(toy):
    """Run the command with the toy detector and without languages; its exit status."""

    def run(*arguments, languages=False):
        options = [] if languages else ["--no-language"]
        return command.main(
            [*map(str, arguments), "--detector", str(toy.folder), *options],
        )

    return run


def test_a_folder_is_scored_with_languages(toy, score, tmp_path):
    sf.write(tmp_path / "hiss.wav", toy.waves[0], RATE)
    sf.write(tmp_path / "hum.flac", dsp.resample(toy.waves[-1], RATE, 44100), 44100)
    assert score(tmp_path, "--out", tmp_path / "scores.csv", languages=True) == 0
    table = pd.read_csv(tmp_path / "scores.csv").set_index("file")
    assert table.loc[str(tmp_path / "hiss.wav"), "decision"] == "bona fide"
    assert table.loc[str(tmp_path / "hum.flac"), "decision"] == "spoof"
    assert table["language"].notna().all() and sorted(table["head"]) == ["16 kHz", "8 kHz"]


def test_the_columns_of_the_table_stay_as_users_know_them(toy, score, tmp_path):
    reading.write(tmp_path / "hiss.wav", toy.waves[0], RATE)
    score(tmp_path, "--out", tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_text().splitlines()[0] == (
        "file,p_bona_fide,decision,threshold,threshold_from,head,language,p_language,seconds,note,"
        "pieces"
    )


def test_a_file_that_is_no_audio_is_named_and_the_status_is_1(toy, score, tmp_path, capsys):
    reading.write(tmp_path / "hiss.wav", toy.waves[0], RATE)
    (tmp_path / "broken.wav").write_text("words")
    assert score(tmp_path, "--out", tmp_path / "scores.csv") == 1
    assert "broken.wav: not audio" in capsys.readouterr().err
    assert len(pd.read_csv(tmp_path / "scores.csv")) == 2


def test_a_folder_without_a_detector_is_named_with_the_remedy(tmp_path, capsys):
    assert command.main([str(tmp_path), "--detector", str(tmp_path)]) == 1
    assert "--profile detector" in capsys.readouterr().err


def test_the_piece_with_the_lowest_probability_is_named(toy, score, tmp_path, capsys):
    long = np.concatenate([np.tile(toy.waves[0], 12), np.tile(toy.waves[-1], 4)])
    reading.write(tmp_path / "long.wav", long, RATE)
    assert score(tmp_path / "long.wav") == 0
    assert "at 18–24 s of 24 s" in capsys.readouterr().out


def test_files_folders_patterns_and_standard_input_are_listed(toy, tmp_path, monkeypatch):
    for name in ("a", "b"):
        reading.write(tmp_path / f"{name}.wav", toy.waves[0], RATE)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{tmp_path}/a.wav\n\n"))
    arguments = [f"{tmp_path}/**/b*.wav", "-", str(tmp_path), f"{tmp_path}/missing*.wav"]
    names = [path.name for path in command.list_files(arguments)]
    assert names == ["b.wav", "a.wav", "a.wav", "b.wav", "missing*.wav"]


@pytest.fixture
def clips(toy, tmp_path):
    """Folder of a.wav, a hum of 12 s, and b.wav, a hiss."""
    folder = tmp_path / "in"
    folder.mkdir()
    reading.write(folder / "a.wav", np.tile(toy.waves[-1], 8), RATE)
    reading.write(folder / "b.wav", toy.waves[0], RATE)
    return folder


def test_a_submission_and_a_table_as_json_are_written(clips, score, tmp_path):
    submission, table = tmp_path / "submission.csv", tmp_path / "scores.json"
    assert score(clips, "--submission", submission, "--out", table) == 0
    assert submission.read_text() == "a.wav,0\nb.wav,1\n"
    a, b = json.loads(table.read_text())
    assert (a["decision"], a["seconds"], a["threshold"], b["pieces"]) == ("spoof", 12.0, 0.5, [])
    assert [(piece["start_s"], piece["end_s"]) for piece in a["pieces"]] == [(0, 6), (6, 12)]
    assert 0 < a["pieces"][0]["p_bona_fide"] < a["threshold"]


def test_no_submission_with_two_decisions_for_one_name(clips, score, tmp_path, capsys):
    submission = tmp_path / "submission.csv"
    assert score(clips / "b.wav", clips / "b.wav", "--submission", submission) == 1
    assert "exactly one decision" in capsys.readouterr().err and not submission.exists()


def test_no_submission_where_a_file_has_no_decision(score, tmp_path, capsys):
    submission, table = tmp_path / "submission.csv", tmp_path / "scores.json"
    assert score(tmp_path / "missing.wav", "--submission", submission, "--out", table) == 1
    assert "1 files have no decision" in capsys.readouterr().err and not submission.exists()
    assert json.loads(table.read_text())[0]["p_bona_fide"] is None


def test_no_submission_where_the_detector_abstains(clips, score, tmp_path, capsys):
    submission = tmp_path / "submission.csv"
    # a hum is near its peak for half of the time: there is a warning, and a decision
    assert score(clips, "--submission", submission) == 0
    submission.unlink()
    assert score(clips, "--submission", submission, "--abstain") == 1
    assert "1 files have no decision" in capsys.readouterr().err and not submission.exists()


def test_the_timeline_flags_the_spoofed_part(toy, score, tmp_path):
    hiss, hum = np.tile(toy.waves[0], 3), np.tile(toy.waves[-1], 3)  # 4.5 s each
    reading.write(tmp_path / "in.wav", np.concatenate([hiss, hum, hiss]), RATE)
    assert score(tmp_path / "in.wav", "--timeline", tmp_path / "out") == 0
    table = pd.read_csv(tmp_path / "out" / "in.wav.csv")
    assert list(table) == ["start_s", "end_s", "p_bona_fide", "flagged"]
    assert len(table) == 27 and table["end_s"].iloc[-1] == 13.5
    spoofed = (table["start_s"] >= 6) & (table["end_s"] <= 7.5)
    assert table["flagged"][spoofed].all()
    assert not table["flagged"][:6].any() and not table["flagged"][-6:].any()


def test_timelines_of_one_name_from_two_folders_are_numbered(toy, score, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        reading.write(tmp_path / folder / "clip.wav", toy.waves[0], RATE)
    (tmp_path / "a" / "words.wav").write_text("words")
    assert score(tmp_path / "a", tmp_path / "b", "--timeline", tmp_path / "out") == 1
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["clip.wav-2.csv", "clip.wav-2.png", "clip.wav.csv", "clip.wav.png"]


def test_help_states_the_exit_status(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and text.startswith("usage: python -m utils.predict")
    assert "exit status:" in text and "every file was scored" in text


def test_a_wrong_command_line_has_status_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--no-such-option", "a.wav"])
    assert stopped.value.code == 2 and "usage:" in capsys.readouterr().err


@pytest.mark.slow
def test_the_module_utils_predict_scores_a_file(toy, tmp_path):
    reading.write(tmp_path / "hiss.wav", toy.waves[0], RATE)
    options = [tmp_path / "hiss.wav", "--detector", toy.folder, "--no-language"]
    done = subprocess.run(
        [sys.executable, "-m", "utils.predict", *map(str, options)],
        cwd=paths.ROOT,
        env=os.environ | {"PYTHONPATH": str(paths.ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and "bona fide" in done.stdout, done.stderr
