"""Rows, warnings and figures of scored recordings."""

import numpy as np
import pytest

from utils.audio import dsp, reading
from utils.detector import embedding, scoring
from utils.detector.batch import command
from utils.detector.scoring import RATE


@pytest.fixture
def clean():
    """3 s with rare peaks, as of speech."""
    noise = np.random.default_rng(3).laplace(size=48000) * 0.03 * np.hanning(48000)
    return noise.astype(np.float32)


def test_a_clean_clip_has_no_warning(clean):
    assert scoring.warnings(clean) == []


def test_little_sound_gets_a_warning(clean):
    short = np.concatenate([clean[20000:28000], np.zeros(32000, np.float32)])
    assert "only 0.5 s of sound" in scoring.warnings(short)[0]


def test_a_clip_in_which_nobody_speaks_gets_a_warning(clean):
    assert "nobody" in scoring.warnings(clean, 0.9)[0]


def test_a_clipped_clip_gets_a_warning(clean):
    fast = dsp.resample(clean, RATE, 44100)
    top = np.quantile(np.abs(fast), 0.85)
    clipped = dsp.resample(np.clip(fast, -top, top), 44100, RATE)
    assert scoring.warnings(clipped)[0].startswith("clipped")


def test_rows_name_what_cannot_be_scored_and_keep_the_order(toy):
    scorer = scoring.Scorer(str(toy.folder), with_language=False)
    rows = scorer.rows([toy.waves[0], np.zeros(RATE, np.float32), toy.waves[-1]])
    assert [row["decision"] for row in rows] == ["bona fide", "", "spoof"]
    assert "silent" in rows[1]["note"] and rows[1]["p_bona_fide"] == rows[1]["head"] == ""
    assert all(list(row) == list(scoring.COLUMNS[1:]) for row in rows)


def test_a_detector_that_changed_while_it_was_used_is_refused(toy):
    with pytest.raises(ValueError, match="changed while"):
        scoring.Scorer(str(toy.folder), "another version")


def test_a_recording_is_shown_in_a_notebook(toy, tmp_path, capsys):
    reading.write(tmp_path / "hiss.wav", toy.waves[0], RATE)
    player = scoring.show(tmp_path / "hiss.wav", toy.folder)
    assert "bona fide" in capsys.readouterr().out and "<audio" in player._repr_html_()


def test_showing_a_recording_that_is_too_short_names_it(toy, tmp_path):
    reading.write(tmp_path / "short.wav", toy.waves[0][:1800], RATE)
    with pytest.raises(dsp.AudioError, match=r"short.wav: 0.11 s is too short"):
        scoring.show(tmp_path / "short.wav", toy.folder)


def test_a_row_names_the_head_that_scored(toy):
    hiss, scorer = toy.waves[0], scoring.Scorer(str(toy.folder), with_language=False)
    rows = scorer.rows([hiss, embedding.telephone_band(hiss), toy.waves[-1]])
    assert [row["head"] for row in rows] == ["16 kHz", "8 kHz", "8 kHz"]
    (piece,) = scorer.released.pieces(hiss, "16 kHz")
    assert float(rows[0]["p_bona_fide"]) == pytest.approx(scoring.probability(piece.log_odds))


def test_languages_are_those_of_the_wave_at_8_khz(toy, monkeypatch):
    seen = []
    monkeypatch.setattr(
        scoring.language_id,
        "detect_in_this_process",
        lambda waves: seen.extend(len(wave) for wave in waves) or [("sw", 0.9, 0.0)] * len(waves),
    )
    (row,) = scoring.Scorer(str(toy.folder)).rows([toy.waves[0]])
    assert seen == [12000] and (row["language"], row["p_language"]) == ("sw", "0.90")


def test_no_decision_where_there_is_a_warning(toy):
    hiss, hum = toy.waves[0], toy.waves[-1]  # a sine is near its peak for half of the time
    for abstain, decision in ((False, "spoof"), (True, "no decision")):
        scorer = scoring.Scorer(str(toy.folder), with_language=False, abstain=abstain)
        rows = scorer.rows([hiss, hum])
        assert [row["decision"] for row in rows] == ["bona fide", decision]
        assert not rows[0]["note"] and "clipped" in rows[1]["note"] and rows[1]["p_bona_fide"]


def test_the_public_door_opens():
    from utils import predict

    assert predict.load_detector is scoring.load_detector and predict.show is scoring.show
    assert predict.main is command.main
