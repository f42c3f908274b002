"""Rows, warnings and figures of scored recordings."""

import shutil

import numpy as np
import pytest

from utils import paths
from utils.audio import dsp, reading
from utils.detector import command, scoring


@pytest.fixture
def clean():
    """3 s with rare peaks, as of speech."""
    noise = np.random.default_rng(3).laplace(size=24000) * 0.03 * np.hanning(24000)
    return noise.astype(np.float32)


def test_a_clean_clip_has_no_warning(clean):
    assert scoring.warnings(clean) == []


def test_little_sound_gets_a_warning(clean):
    short = np.concatenate([clean[10000:14000], np.zeros(16000, np.float32)])
    assert "only 0.5 s of sound" in scoring.warnings(short)[0]


def test_a_clip_in_which_nobody_speaks_gets_a_warning(clean):
    assert "nobody" in scoring.warnings(clean, 0.9)[0]


def test_a_clipped_clip_gets_a_warning(clean):
    fast = dsp.resample(clean, 8000, 44100)
    top = np.quantile(np.abs(fast), 0.85)
    clipped = dsp.resample(np.clip(fast, -top, top), 44100, 8000)
    assert scoring.warnings(clipped)[0].startswith("clipped")


def test_rows_name_what_cannot_be_scored_and_keep_the_order(toy):
    scorer = scoring.Scorer(str(toy.folder), with_language=False)
    rows = scorer.rows([toy.waves[0], np.zeros(8000, np.float32), toy.waves[-1]])
    assert [row["decision"] for row in rows] == ["bona fide", "", "spoof"]
    assert "silent" in rows[1]["note"] and rows[1]["p_bona_fide"] == ""
    assert all(list(row) == list(scoring.COLUMNS[1:]) for row in rows)


def test_a_detector_that_changed_while_it_was_used_is_refused(toy):
    with pytest.raises(ValueError, match="changed while"):
        scoring.Scorer(str(toy.folder), "another version")


def test_a_recording_is_shown_in_a_notebook(toy, tmp_path, capsys):
    reading.write(tmp_path / "hiss.wav", toy.waves[0])
    player = scoring.show(tmp_path / "hiss.wav", toy.folder)
    assert "bona fide" in capsys.readouterr().out and "<audio" in player._repr_html_()


def test_showing_a_recording_that_is_too_short_names_it(toy, tmp_path):
    reading.write(tmp_path / "short.wav", toy.waves[0][:900])
    with pytest.raises(dsp.AudioError, match=r"short.wav: 0.11 s is too short"):
        scoring.show(tmp_path / "short.wav", toy.folder)


def test_no_decision_where_a_clip_is_unlike_the_training_clips(toy, tmp_path):
    another = tmp_path / "detector"
    shutil.copytree(toy.folder, another)
    card = paths.read_json(another / "card.json") | {"familiar": 2.0}
    paths.write_json(another / "card.json", card)
    for abstain, decision in ((False, "bona fide"), (True, "no decision")):
        scorer = scoring.Scorer(str(another), with_language=False, abstain=abstain)
        (row,) = scorer.rows([toy.waves[0]])
        assert "unlike" in row["note"] and row["decision"] == decision and row["p_bona_fide"]


def test_the_public_door_opens():
    from utils import predict

    assert predict.load_detector is scoring.load_detector and predict.show is scoring.show
    assert predict.main is command.main
