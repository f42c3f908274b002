"""The command line: `python -m utils.predict`."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from utils import contracts, paths
from utils.audio import dsp, reading
from utils.detector import embedding, scoring
from utils.detector.batch import batch_scoring, command, places, tables
from utils.detector.scoring import RATE


@pytest.fixture
def score(toy):
    """Run the command with the toy detector; its exit status."""

    def run(*arguments):
        return command.main([*map(str, arguments), "--detector", str(toy.folder)])

    return run


def start(toy, *arguments, **options):
    """Start the command with the toy detector in a process of its own."""
    words = [sys.executable, "-m", "utils.predict", *arguments, "--detector", toy.folder]
    return subprocess.Popen(
        list(map(os.fspath, words)),
        cwd=paths.ROOT,
        env=os.environ | {"PYTHONPATH": str(paths.ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


@pytest.mark.slow
def test_a_folder_is_scored_with_languages(toy, score, tmp_path):
    sf.write(tmp_path / "hiss.wav", toy.waves[0], RATE)
    sf.write(tmp_path / "hum.flac", dsp.resample(toy.waves[-1], RATE, 44100), 44100)
    assert score(tmp_path, "--out", tmp_path / "scores.csv", "--language") == 0
    table = pd.read_csv(tmp_path / "scores.csv").set_index("file")
    assert table.loc[str(tmp_path / "hiss.wav"), "decision"] == "bona fide"
    assert table.loc[str(tmp_path / "hum.flac"), "decision"] == "spoof"
    assert table["language"].notna().all() and sorted(table["head"]) == ["16 kHz", "8 kHz"]


def test_the_encoders_are_opened_once(toy, score, tmp_path, monkeypatch):
    sf.write(tmp_path / "hiss.wav", toy.waves[0], RATE)
    opened, original = [], embedding.Encoders.__init__
    monkeypatch.setattr(
        embedding.Encoders,
        "__init__",
        lambda encoders, path: (opened.append(path), original(encoders, path))[1],
    )
    batch_scoring._open_scorer.cache_clear()
    assert score(tmp_path) == 0
    assert opened == [toy.folder / "encoders.onnx"]


def test_what_the_language_needs_is_said_where_it_is_missing(toy, score, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "utils.models.language_id", None)
    assert score("a.wav", "--language") == 1
    assert "needs PyTorch and Whisper" in capsys.readouterr().err


def test_the_columns_of_the_table_stay_as_users_know_them(toy, score, tmp_path):
    reading.write(tmp_path / "hiss.wav", toy.waves[0], RATE)
    score(tmp_path, "--out", tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_text().splitlines()[0] == (
        "file,p_bona_fide,decision,threshold,threshold_from,head,channel,p_channels,language,"
        "p_language,seconds,speech_s,p_lowest,lowest_at,note,pieces,detector,prior"
    )


def test_a_file_that_is_no_audio_is_named_and_the_status_is_1(toy, score, tmp_path, capsys):
    reading.write(tmp_path / "hiss.wav", toy.waves[0], RATE)
    (tmp_path / "broken.wav").write_text("words")
    assert score(tmp_path, "--out", tmp_path / "scores.csv") == 1
    assert "broken.wav: not audio" in capsys.readouterr().err
    table = pd.read_csv(tmp_path / "scores.csv")
    assert len(table) == 2 and table["detector"].notna().all()


def test_a_folder_without_a_detector_is_named_with_the_remedy(tmp_path, capsys):
    assert command.main([str(tmp_path), "--detector", str(tmp_path)]) == 1
    assert "--profile detector" in capsys.readouterr().err


def test_the_piece_with_the_lowest_probability_is_named(toy, score, tmp_path, capsys):
    long = np.concatenate([np.tile(toy.waves[0], 12), np.tile(toy.waves[-1], 4)])
    reading.write(tmp_path / "long.wav", long, RATE)
    assert score(tmp_path / "long.wav") == 0
    assert "at 18–24 s of 24 s" in capsys.readouterr().out


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
    assert contracts.check_submission(submission, ["a.wav", "b.wav"]).tolist() == [0, 1]
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


def test_timelines_of_several_folders_have_the_same_folders(toy, score, tmp_path):
    for folder in ("a", "b/deep"):
        (tmp_path / folder).mkdir(parents=True)
        reading.write(tmp_path / folder / "clip.wav", toy.waves[0], RATE)
    (tmp_path / "a" / "words.wav").write_text("words")
    both = tmp_path / "b", tmp_path / "a"
    assert score(*both, tmp_path / "a" / "clip.wav", "--timeline", tmp_path / "out") == 1
    written = {path.relative_to(tmp_path / "out").as_posix() for path in tables_of(tmp_path)}
    assert written == {"a/clip.wav.csv", "b/deep/clip.wav.csv"}


def tables_of(folder):
    return (folder / "out").rglob("*.csv")


def test_a_timeline_of_one_folder_lies_in_none_and_names_that_print_alike_are_numbered():
    name = os.fsdecode(b"caf\xe9.wav")
    files = [Path("in", name), Path("in/caf\\xe9.wav"), Path("in", name)]
    expected = ["caf\\xe9.wav", "caf\\xe9.wav-2", "caf\\xe9.wav"]
    assert [path.as_posix() for path in places.of_timelines(files)] == expected


def test_help_states_the_exit_status(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and "--prior SHARE" in text
    assert "exit status:" in text and "every file was scored" in text
    assert "  ./run_all.sh predict voicemail.mp3" in text  # works from the clone


def test_a_wrong_command_line_has_status_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--no-such-option", "a.wav"])
    assert stopped.value.code == 2 and "usage:" in capsys.readouterr().err


def test_json_lines_hold_a_row_each(clips, score, tmp_path):
    (clips / "words.wav").write_text("words")
    assert score(clips, "--out", tmp_path / "scores.jsonl") == 1
    a, b, words = map(json.loads, (tmp_path / "scores.jsonl").read_text().splitlines())
    assert a["decision"] == "spoof" and a["p_channels"] == [] and b["lowest_at"] is None
    assert words["p_bona_fide"] is None and "not audio" in words["note"]


def test_channels_of_a_call_are_told_apart(toy, score, tmp_path):
    both = np.stack([toy.waves[0], toy.waves[-1]], axis=1)
    sf.write(tmp_path / "call.wav", both, RATE)
    table = tmp_path / "scores.json"
    for how, decision in (("each", "spoof"), ("mix", "bona fide"), ("loudest", "bona fide")):
        assert score(tmp_path / "call.wav", "--channels", how, "--out", table) == 0
        (row,) = json.loads(table.read_text())
        assert row["decision"] == decision, how
        assert len(row["p_channels"]) == (2 if how == "each" else 0)
    assert score(tmp_path / "call.wav", "--out", table, "--timeline", tmp_path) == 0
    assert pd.read_csv(tmp_path / "call.wav.csv")["flagged"].all()  # of the channel that decides


def test_the_threshold_is_that_of_the_command_line(clips, score, tmp_path, capsys):
    table = tmp_path / "scores.json"
    assert score(clips, "--threshold", "0.0001", "--out", table) == 0
    first = json.loads(table.read_text())[0]
    assert first["threshold"] == 0.0001 and first["threshold_from"] == "the command line"
    assert "the command line" in capsys.readouterr().out


def test_the_prior_shifts_the_log_odds(clips, score, tmp_path):
    tables_by_prior = {}
    for prior in (0.5, 0.9):
        score(clips, "--prior", prior, "--out", tmp_path / "scores.json")
        tables_by_prior[prior] = json.loads((tmp_path / "scores.json").read_text())
    for even, shifted in zip(*tables_by_prior.values(), strict=True):
        odds = [row["p_bona_fide"] / (1 - row["p_bona_fide"]) for row in (even, shifted)]
        assert odds[1] / odds[0] == pytest.approx(0.1 / 0.9, rel=0.01)


def test_with_a_prior_the_rate_of_the_threshold_is_not_promised(clips, score, tmp_path, capsys):
    table = tmp_path / "scores.json"
    for prior, promised in ((0.5, True), (0.001, False)):
        score(clips, "--prior", prior, "--out", table)
        heading = capsys.readouterr().out.splitlines()[0]
        (row, _) = json.loads(table.read_text())
        assert row["prior"] == prior
        for text in (heading, row["threshold_from"]):
            assert ("calls 5 in 100" in text) == promised
            assert promised or "no longer" in text
    assert "0.1% spoof expected" in heading


@pytest.mark.parametrize(
    "words",
    [["--threshold", "0"], ["--prior", "nan"], ["--processes", "0"], ["--channels", "left"]],
)
def test_options_out_of_their_range_are_refused(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["a.wav", *words])
    assert stopped.value.code == 2 and words[0] in capsys.readouterr().err


def test_a_device_is_never_replaced_by_a_table(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["a.wav", "--out", "/dev/null"])
    assert stopped.value.code == 2 and "is no file" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--submission"])
@pytest.mark.parametrize(
    "name", ["in/a.wav", "beside.wav", "linked.csv", "paper.docx", "no suffix"]
)
def test_no_recording_and_no_file_of_others_is_replaced(clips, score, option, name, capsys):
    path = clips.parent / name
    (clips.parent / "linked.csv").symlink_to(clips / "a.wav")
    if not path.exists():
        path.write_bytes(b"PK\3\4")
    before = path.read_bytes()
    assert score(clips, option, path) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and path.read_bytes() == before
    assert str(path) in printed.err and "name another file" in printed.err


def test_a_table_is_replaced_by_the_next_one(clips, score, tmp_path):
    for path in (
        clips / "scores.csv",
        clips / "scores.JSON",
        tmp_path / "scores",
        tmp_path / "x.2",
    ):
        for _ in range(2):
            assert score(clips, "--out", path) == 0
    (tmp_path / "empty").touch()
    assert score(clips, "--out", tmp_path / "empty") == 0


def test_two_outputs_are_two_files(clips, score, tmp_path, capsys):
    assert score(clips, "--out", tmp_path / "a.csv", "--submission", tmp_path / "a.csv") == 2
    assert "name two" in capsys.readouterr().err


def test_what_was_scored_is_kept_until_the_timelines_are_drawn(
    clips, score, tmp_path, monkeypatch, capsys
):
    def stop(*_):
        raise KeyboardInterrupt

    words = clips, "--out", tmp_path / "scores.csv", "--timeline", tmp_path / "times"
    with monkeypatch.context() as patch:
        patch.setattr(tables, "_write_timeline", stop)
        assert score(*words) == 130
    assert "goes on from here" in capsys.readouterr().err
    assert score(*words) == 0
    assert "(some before)" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "scores.csv", "times"]


def test_the_summary_counts_and_names(clips, score, capsys):
    (clips / "torn.wav").write_bytes(b"RIFF")
    (clips / "notes.txt").write_text("words")
    assert score(clips, "--abstain", "--quiet") == 1
    printed = capsys.readouterr()
    last = printed.err.splitlines()[-1]
    assert printed.out == "" and last.startswith("3 files in ") and "times real time" in last
    assert last.partition("): ")[2].startswith(
        "1 bona fide, 1 undecided, 1 not scored; 1 file passed"
    )
    assert "notes.txt" in last


def test_quiet_says_nothing_where_nothing_went_wrong(clips, score, tmp_path, capsys):
    words = clips / "b.wav", "--timeline", tmp_path / "times", "--out", tmp_path / "scores.csv"
    assert score(*words, "--quiet") == 0
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""


def test_what_is_missing_is_named_once_and_a_pattern_as_one(score, tmp_path, capsys):
    table = tmp_path / "scores.json"
    assert score(tmp_path / "nothere.wav", tmp_path / "no*thing", "--out", table) == 1
    error = capsys.readouterr().err
    assert error.count("nothere.wav: cannot be read") == error.count("nothere.wav") == 1
    assert "no*thing: nothing has this name, or matches it as a pattern" in error
    assert "real time" not in error
    assert json.loads(table.read_text())[0]["note"].startswith("cannot be read")


def test_nothing_found_has_status_1(score, tmp_path, capsys):
    assert score(tmp_path) == 1
    assert "no recording was found" in capsys.readouterr().err


def write_named(path, wave):
    """Write a file whose name may be no text, which libsndfile does not take."""
    reading.write(path.with_name("plain.wav"), wave, RATE)
    path.with_name("plain.wav").rename(path)


STRANGE = ["a, b.wav", 'a "b".wav', "a\nb.wav", os.fsdecode(b"caf\xe9.wav")]


def test_strange_names_are_printed_on_a_line_and_quoted_in_the_table(toy, score, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in STRANGE:
        write_named(folder / name, toy.waves[0])
    assert score(folder, "--out", tmp_path / "scores.csv", "--timeline", tmp_path / "times") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "  bona fide  " in line]
    assert len(lines) == 4 and any("a\\nb.wav" in line for line in lines)
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        names = {row["file"].removeprefix(f"{folder}/") for row in csv.DictReader(file)}
    assert names == {*STRANGE[:3], "caf\\xe9.wav"}
    assert len(list((tmp_path / "times").glob("*.csv"))) == 4


@pytest.mark.parametrize("name", STRANGE)
def test_a_name_that_the_format_cannot_hold_is_refused(toy, score, name, tmp_path, capsys):
    write_named(tmp_path / name, toy.waves[0])
    submission = tmp_path / "submission.csv"
    assert score(tmp_path / name, "--submission", submission) == 1
    assert "cannot hold the name" in capsys.readouterr().err and not submission.exists()


@pytest.mark.parametrize(
    "name", ["plain.wav", "with blank.wav", "语音.wav", "no suffix", "it's.wav"]
)
def test_a_submission_passes_the_check_of_the_contracts(name, tmp_path):
    path = tmp_path / "submission.csv"
    tables.write_submission(path, [(name, 1), ("z", 0)])
    assert contracts.check_submission(path, sorted([name, "z"])).to_dict() == {name: 1, "z": 0}
    contracts.write_submission(tmp_path / "other.csv", pd.Series({name: 1, "z": 0}), [name, "z"])
    assert (tmp_path / "other.csv").read_bytes() == path.read_bytes()


def test_no_number_that_is_not_finite_is_written_as_json(tmp_path):
    row = dict.fromkeys(scoring.COLUMNS, "") | {"p_bona_fide": str(math.nan)}
    with pytest.raises(ValueError), tables.table(tmp_path / "scores.json") as write:
        write(row)
    assert not list(tmp_path.iterdir())


def test_a_reader_that_goes_away_ends_it_quietly(toy, clips):
    process = start(toy, clips)
    process.stdout.close()  # as `| head -0` does
    error = process.stderr.read().decode()
    assert process.wait() == 141 and error == ""


def test_a_run_that_went_on_tells_no_speed():
    """Recordings that were scored before took no time in this run."""
    result = command.Result()
    result.add(dict.fromkeys(scoring.COLUMNS, "") | {"decision": "spoof", "seconds": "4000"})
    assert "2000 times real time" in command.summary(result, [], 2.0)
    assert "(0.4 times real time)" in command.summary(result, [], 10_000.0)
    text = command.summary(result, [], 2.0, resumed=True)
    assert "real time" not in text and text.startswith("1 file in 2.0 s (some before): 1 spoof")


def test_ctrl_c_ends_it_with_a_line(toy, clips, tmp_path):
    names = "\n".join([str(clips / "a.wav")] * 3000)
    process = start(toy, "-", "--out", tmp_path / "scores.csv", "--quiet", stdin=subprocess.PIPE)
    process.stdin.write(names.encode())
    process.stdin.close()
    while not list(tmp_path.glob(".scores.csv.parts")):  # it scores
        time.sleep(0.1)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    error = process.stderr.read().decode()
    assert process.wait() == 130 and "goes on from here" in error and "Traceback" not in error
    assert time.monotonic() - begun < 10


@pytest.mark.slow
def test_the_module_utils_predict_scores_a_file(toy, clips):
    process = start(toy, clips / "b.wav")
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0 and "bona fide" in output.decode(), error.decode()
