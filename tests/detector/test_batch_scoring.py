"""Scoring of many files: order, errors, and going on after a kill."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from utils import code_digest, paths
from utils.audio import dsp, reading
from utils.detector import scoring
from utils.detector.batch import batch_scoring, listing
from utils.detector.batch.decoder import Decoder
from utils.detector.batch.listing import Listed
from utils.evaluation import benchmark


class Loudness:
    """A scorer that is cheap: the level of each wave."""

    def rows(self, waves):
        return [{"score": f"{dsp.dbfs(wave):.3f}"} for wave in waves]


@pytest.fixture
def digest_of_a_test_class(monkeypatch):
    """`code_digest` takes definitions of the project only; `Loudness` is none."""
    monkeypatch.setattr(batch_scoring, "code_digest", lambda *functions, settings: "a digest")


@pytest.fixture
def files(tmp_path):
    """12 files of growing length and level; 3.wav is no audio, 7.wav is missing."""
    rng, names = np.random.default_rng(0), [tmp_path / f"{i}.wav" for i in range(12)]
    for i, name in enumerate(names):
        reading.write(name, rng.normal(size=4000 + 500 * i).astype(np.float32) * 0.01 * (i + 1))
    names[3].write_text("words")
    names[7].unlink()
    return names


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_files_are_scored_in_order_and_bad_ones_named(
    files, processes, monkeypatch, digest_of_a_test_class
):
    monkeypatch.setattr(batch_scoring, "SHARD_FILES", 5)
    rows = list(batch_scoring.score_files(files, Loudness, processes=processes))
    assert [row["file"] for row in rows] == [str(file) for file in files]
    assert [i for i, row in enumerate(rows) if row["error"]] == [3, 7]
    assert "not audio" in rows[3]["error"]
    expected = dsp.dbfs(reading.read(files[11]))
    assert float(rows[11]["score"]) == pytest.approx(expected, abs=1e-3)


class Length:
    """A scorer of 16 kHz waves: their numbers of samples."""

    rate = 16000

    def rows(self, waves):
        return [{"score": str(len(wave))} for wave in waves]


def test_a_scorer_gets_waves_at_its_rate(files, digest_of_a_test_class):
    (row,) = batch_scoring.score_files(files[:1], Length)
    assert row["score"] == "8000"  # of 4000 at 8 kHz


def test_no_files_give_no_rows(digest_of_a_test_class):
    assert list(batch_scoring.score_files([], Loudness)) == []


def test_features_that_are_made_ahead_give_the_same_scores(files):
    arguments = ("ge2e", 1, "fp32")
    rows = list(
        batch_scoring.score_files(files[:4], benchmark.random_engine, arguments, processes=1)
    )
    (alone,) = benchmark.random_engine(*arguments).scores([reading.read(files[0])])
    assert [bool(row["error"]) for row in rows] == [False, False, False, True]
    assert float(rows[0]["score"]) == pytest.approx(alone, abs=1e-3)


def test_rows_of_a_shard_are_written_as_csv(files, tmp_path):
    listed = [Listed(files[0], named=True)]
    with batch_scoring._decoder_of_this_process():
        batch_scoring._score_shard(Loudness, (), listed, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as table:
        assert set(next(csv.DictReader(table))) == {"file", "score", "passed", "error"}


class Channels:
    """A scorer that takes recordings: their channels and what was noted."""

    recordings, rate = True, 16000

    def rows(self, recordings):
        return [{"channels": len(r.channels), "note": "; ".join(r.notes)} for r in recordings]


def test_a_scorer_of_recordings_gets_all_channels_and_notes(tmp_path, digest_of_a_test_class):
    stereo = np.random.default_rng(0).normal(size=(8000, 2)) * 0.1
    sf.write(tmp_path / "a.wav", stereo, 8000)
    cut = (tmp_path / "a.wav").read_bytes()[:20000]
    (tmp_path / "cut.wav").write_bytes(cut)
    names = [tmp_path / "a.wav", tmp_path / "cut.wav"]
    first, second = batch_scoring.score_files(names, Channels)
    assert (first["channels"], first["note"]) == ("2", "")
    assert second["note"] == "0.6 of 1.0 s decoded" and not second["error"]
    strict = list(batch_scoring.score_files(names, Loudness))  # waves are read strictly
    assert [bool(row["error"]) for row in strict] == [False, True]


def test_what_was_found_and_is_no_sound_is_passed_over(files, tmp_path, digest_of_a_test_class):
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7" + bytes(100))
    files[0].rename(tmp_path / "voice")
    listed, _ = listing.list_files([str(tmp_path)])
    rows = {Path(row["file"]).name: row for row in batch_scoring.score_files(listed, Loudness)}
    for name in ("notes.txt", "a.pdf"):
        assert (rows[name]["passed"], rows[name]["error"]) == ("not sound", "")
    assert rows["3.wav"]["error"] and not rows["3.wav"]["passed"]  # its suffix claims sound
    assert rows["voice"]["score"]
    (named,) = batch_scoring.score_files([tmp_path / "notes.txt"], Loudness)
    assert "not audio" in named["error"]


def test_names_of_any_bytes_have_rows(files, tmp_path, digest_of_a_test_class):
    names = [tmp_path / os.fsdecode(name) for name in (b"caf\xe9.wav", b'two\nlines, "x".wav')]
    files[0].rename(names[0])
    files[1].rename(names[1])
    names.append(tmp_path / os.fsdecode(b"missing \xff.wav"))
    rows = list(batch_scoring.score_files(names, Loudness, keep=tmp_path / "keep"))
    assert [row["file"] for row in rows] == list(map(str, names))
    assert [bool(row["error"]) for row in rows] == [False, False, True]
    assert list(batch_scoring.score_files(names, Loudness, keep=tmp_path / "keep")) == rows


class FragileDecoder(Decoder):
    """Its process dies at every file that is called 2.wav or 5.wav."""

    def _ask(self, question, limit_s):
        if "2.wav" in question or "5.wav" in question:
            os.kill(self._process.pid, signal.SIGSEGV)
        return super()._ask(question, limit_s)


def test_a_decoder_that_dies_costs_that_file_alone(files, monkeypatch, digest_of_a_test_class):
    monkeypatch.setattr(batch_scoring, "Decoder", FragileDecoder)
    rows = list(batch_scoring.score_files(files, Loudness))
    assert [i for i, row in enumerate(rows) if row["error"]] == [2, 3, 5, 7]
    for number in (2, 5):
        assert rows[number]["error"] == (
            f"{number}.wav: the decoder stopped at this file (signal 11)"
        )


def watched(monkeypatch) -> list[subprocess.Popen]:
    """The processes that decoders start from now on."""
    started = []

    class Watched(Decoder):
        def _start(self):
            started.append(super()._start())
            return started[-1]

    monkeypatch.setattr(batch_scoring, "Decoder", Watched)
    return started


def test_one_decoder_serves_all_shards(files, monkeypatch, digest_of_a_test_class):
    started = watched(monkeypatch)
    monkeypatch.setattr(batch_scoring, "SHARD_FILES", 2)
    assert len(list(batch_scoring.score_files(files, Loudness, processes=1))) == len(files)
    assert [process.poll() is not None for process in started] == [True]


def test_shards_are_many_and_change_little_when_files_are_added():
    sizes = {count: batch_scoring.shard_size(count) for count in (0, 1, 32, 33, 600, 601, 10**6)}
    assert sizes == {0: 0, 1: 1, 32: 32, 33: 8, 600: 16, 601: 16, 10**6: 128}


class Broken:
    def rows(self, waves):
        raise ZeroDivisionError


def test_an_error_of_the_scorer_leaves_no_process_behind(
    files, monkeypatch, digest_of_a_test_class
):
    started = watched(monkeypatch)
    monkeypatch.setattr(batch_scoring, "GROUP_FILES", 1)
    with pytest.raises(ZeroDivisionError):
        list(batch_scoring.score_files(files, Broken))
    assert started and all(process.poll() is not None for process in started)


SLOW = """
import sys, time
from pathlib import Path
from utils.detector.batch import batch_scoring, listing
from utils.detector.batch.decoder import Decoder
from utils.detector.batch.listing import Listed

batch_scoring.SHARD_FILES = 2
batch_scoring.code_digest = lambda *functions, settings: "a digest"

class Slow:
    def rows(self, waves):
        time.sleep(0.4)
        return [{"score": str(len(wave))} for wave in waves]

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    files = sorted(folder.glob("*.wav"))
    rows = list(batch_scoring.score_files(files, Slow, (), folder / "keep", processes=1))
    print(len(rows), flush=True)
"""


def test_a_killed_scoring_goes_on(files, tmp_path):
    program, keep = tmp_path / "slow.py", tmp_path / "keep"
    program.write_text(SLOW)
    command = [sys.executable, str(program), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
    first = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 120
    while len(list(keep.glob("*.csv"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    first.kill()
    first.wait()
    before = {path: path.stat().st_mtime_ns for path in keep.glob("*.csv")}
    assert 2 <= len(before) < 6
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "11"
    for path, date in before.items():
        assert path.stat().st_mtime_ns == date, "a finished shard was scored again"
    batch_scoring.clear(keep)
    assert not keep.exists()


def test_reading_ahead_keeps_the_order():
    assert list(batch_scoring.read_ahead([1, 2, 3], lambda n: n * n)) == [1, 4, 9]
    assert list(batch_scoring.read_ahead([], abs)) == []


def test_reading_ahead_raises_what_the_function_raises():
    with pytest.raises(ZeroDivisionError):
        list(batch_scoring.read_ahead([1, 0], lambda n: 1 / n))


def test_kept_shards_are_not_taken_for_those_of_another_detector(toy, tmp_path):
    another, keep = tmp_path / "detector", tmp_path / "keep"
    shutil.copytree(toy.folder, another)
    reading.write(tmp_path / "hiss.wav", toy.waves[0], scoring.RATE)

    def score():
        version = scoring.load_detector(another).version
        arguments = (str(another), version)
        return list(
            batch_scoring.score_files([tmp_path / "hiss.wav"], scoring.Scorer, arguments, keep)
        )

    first = score()
    assert score() == first and len(list(keep.iterdir())) == 1
    card = paths.read_json(another / "card.json") | {"threshold": 0.999999}
    paths.write_json(another / "card.json", card)
    assert (first[0]["decision"], score()[0]["decision"]) == ("bona fide", "spoof")


@pytest.mark.parametrize(
    "definition",
    [
        "detector.scoring.Scorer",
        "detector.scoring.warnings",
        "detector.detector.Detector",
        "detector.detector.load_heads",
        "detector.embedding.Encoders",
        "detector.embedding.filled",
        "models.language_id.detect_in_this_process",
        "models.encoders.whisper_base",
        "audio.decoding.decode",
        "audio.decoding.streams.hear",
        "audio.decoding.sound.Sound",
        "detector.batch.decoder.serve",
    ],
)
def test_the_key_of_kept_shards_follows_all_code_that_decides_a_score(definition):
    """A list of files kept by hand missed detector, features, language and scorer."""
    source = (
        "from utils.detector import scoring\n"
        "from utils.detector.batch import batch_scoring\n"
        "scoring.Scorer, batch_scoring._score_shard"
    )
    assert f"utils.{definition}" in code_digest.reached(source)


def test_the_key_of_kept_shards_changes_with_the_arguments(tmp_path):
    names = set()
    for arguments in (("a", 1), ("a", 2)):
        key = batch_scoring.code_digest(scoring.Scorer, settings=arguments)
        names.add(batch_scoring._shard_name(key, [Listed(tmp_path / "a.wav", True)]))
    assert len(names) == 2


def test_the_name_of_a_shard_changes_with_its_files(files):
    def name():
        return batch_scoring._shard_name("key", [Listed(file, True) for file in files])

    before = name()
    assert before == name()
    reading.write(files[0], np.full(9000, 0.1, np.float32))
    assert name() != before
