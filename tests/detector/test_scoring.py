"""Rows, warnings and figures of scored recordings."""

import numpy as np
import pytest
import soundfile as sf

from utils.audio import decoding, dsp, reading
from utils.audio.decoding import Recording
from utils.detector import embedding, scoring
from utils.detector.batch import command
from utils.detector.scoring import RATE
from utils.models import language_id


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
    assert "nobody" in scoring.warnings(clean, speaks=False)[0]


def test_a_clipped_clip_gets_a_warning(clean):
    fast = dsp.resample(clean, RATE, 44100)
    top = np.quantile(np.abs(fast), 0.85)
    clipped = dsp.resample(np.clip(fast, -top, top), 44100, RATE)
    assert scoring.warnings(clipped)[0].startswith("clipped")


def recording(*waves, notes=()):
    return Recording(np.stack(waves).astype(np.float32), RATE, notes)


FAR = "far quieter than the loudest moment and are not heard"


def test_what_lies_outside_the_quiet_ends_is_told(toy):
    """A click makes the rest unheard; so is a second speaker who is far away."""
    scorer, hiss = scoring.Scorer(str(toy.folder)), toy.waves[0]
    call = 0.01 * np.tile(hiss, 2)
    clicked = call.copy()
    clicked[800] = 1
    far = np.concatenate([hiss, 0.005 * np.tile(hiss, 4)])
    silence = np.concatenate([hiss, 0.0002 * np.tile(hiss, 4)])
    rows = scorer.rows([recording(wave) for wave in (clicked, far, call, silence)])
    assert f"2.8 of 3.0 s are {FAR}" in rows[0]["note"]
    assert rows[1]["note"] == f"5.9 of 7.5 s are {FAR}"
    assert rows[2]["note"] == rows[3]["note"] == ""


def test_quiet_pieces_in_the_middle_are_told(toy):
    hiss = np.tile(toy.waves[0], 4)  # 6 s
    wave = np.concatenate([hiss, 0.005 * np.tile(hiss, 2), hiss])
    (row,) = scoring.Scorer(str(toy.folder)).rows([recording(wave)])
    assert row["pieces"].count(" ") == 3 and row["note"] == f"12.0 of 24.0 s are {FAR}"


def test_a_channel_that_is_too_quiet_to_be_scored_is_told(toy):
    hiss, hum = toy.waves[0], toy.waves[-1]
    told = "channel 2 is 54 dB quieter and is not scored"
    for how, quiet, note in (
        ("each", 0.0028 * hum, told),
        ("each", 0.0028 * hiss, ""),  # the same sound
        ("each", 0.0002 * hum, ""),  # rounding
        ("each", 0.1 * toy.waves[1], ""),
        ("loudest", 0.0028 * hum, ""),
    ):
        scorer = scoring.Scorer(str(toy.folder), options=scoring.Options(channels=how))
        assert scorer.rows([recording(hiss, quiet)])[0]["note"] == note
    several = recording(hiss, 0.002 * hum, 0.001 * toy.waves[-2])
    note = scorer_note(toy, several)
    assert note == "channels 2, 3 are 57 dB or more quieter and are not scored"


def scorer_note(toy, recorded):
    return scoring.Scorer(str(toy.folder)).rows([recorded])[0]["note"]


def test_rows_name_what_cannot_be_scored_and_keep_the_order(toy):
    scorer = scoring.Scorer(str(toy.folder))
    waves = [toy.waves[0], np.zeros(RATE, np.float32), toy.waves[-1]]
    rows = scorer.rows([recording(wave) for wave in waves])
    assert [row["decision"] for row in rows] == ["bona fide", "", "spoof"]
    assert "silent" in rows[1]["note"] and rows[1]["p_bona_fide"] == rows[1]["head"] == ""
    assert all(list(row) == list(scoring.COLUMNS[1:]) for row in rows)
    assert all(row["detector"].endswith(scorer.released.version[:12]) for row in rows)


def test_a_row_repeats_what_the_reader_noted(toy):
    noted = recording(toy.waves[0], notes=("2.0 of 3.0 s decoded",))
    (row,) = scoring.Scorer(str(toy.folder)).rows([noted])
    assert row["note"] == "2.0 of 3.0 s decoded"


def test_a_row_without_a_score_repeats_it_too(toy):
    noted = recording(np.zeros(24000, np.float32), notes=("2.0 of 3.0 s decoded",))
    (row,) = scoring.Scorer(str(toy.folder)).rows([noted])
    assert row["note"] == "2.0 of 3.0 s decoded; silent: no piece of it can be scored"


def test_a_row_tells_that_not_all_channels_are_scored(toy):
    for count in (8, 9):
        waves = np.random.default_rng(0).normal(size=(count, 24000)).astype(np.float32)
        (row,) = scoring.Scorer(str(toy.folder)).rows([recording(*waves / 10)])
        told = "the 8 loudest channels that differ are scored" in row["note"]
        assert told == (count == 9) and row["p_channels"].count(";") == 7


def test_a_row_tells_each_channel_and_which_is_the_score(toy):
    hiss, hum = toy.waves[0], toy.waves[-1]
    scorer = scoring.Scorer(str(toy.folder))
    both, same, opposite = scorer.rows(
        [recording(hiss, hum), recording(hum, hum), recording(hum, -hum)]
    )
    assert both["channel"] == "2 of 2" and both["decision"] == "spoof"
    first, second = both["p_channels"].split("; ")
    assert first.startswith("1 0.9") and second.startswith("2 0.0")
    for row in (same, opposite):
        assert row["channel"] == row["p_channels"] == ""
        assert float(row["p_bona_fide"]) == pytest.approx(float(both["p_bona_fide"]), abs=1e-3)
    loud = scoring.Scorer(str(toy.folder), options=scoring.Options(channels="loudest"))
    (row,) = loud.rows([recording(hiss, 0.001 * hum)])
    assert row["channel"] == "1 of 2" and row["decision"] == "bona fide"


def test_a_threshold_and_a_prior_of_ones_own(toy):
    (row,) = scoring.Scorer(str(toy.folder)).rows([recording(toy.waves[0])])
    p = float(row["p_bona_fide"])
    options = scoring.Options(threshold=0.999999, prior=0.9)
    (other,) = scoring.Scorer(str(toy.folder), options=options).rows([recording(toy.waves[0])])
    odds = p / (1 - p) * 0.1 / 0.9  # by Bayes: nine spoofs for each bona fide recording
    assert float(other["p_bona_fide"]) == pytest.approx(odds / (1 + odds), abs=1e-4)
    assert other["decision"] == "spoof" and other["threshold"] == "0.999999"
    for wrong in ({"threshold": 1.0}, {"prior": 0.0}, {"channels": "left"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            scoring.Scorer(str(toy.folder), options=scoring.Options(**wrong))


def test_the_lowest_piece_of_a_long_recording_is_told(toy):
    wave = np.concatenate([np.tile(toy.waves[0], 12), np.tile(toy.waves[-1], 4)])  # 18 s and 6 s
    (row,) = scoring.Scorer(str(toy.folder)).rows([recording(wave)])
    assert row["lowest_at"] == "18.00-24.00" and float(row["p_lowest"]) < 0.5
    assert row["pieces"].count("; ") == 3 and row["speech_s"] == "24.00"
    assert row["decision"] == "bona fide"


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
    hiss, scorer = toy.waves[0], scoring.Scorer(str(toy.folder))
    waves = hiss, embedding.telephone_band(hiss), toy.waves[-1]
    rows = scorer.rows([recording(wave) for wave in waves])
    assert [row["head"] for row in rows] == ["16 kHz", "8 kHz", "8 kHz"]
    (piece,) = scorer.released.pieces(hiss, "16 kHz")
    assert float(rows[0]["p_bona_fide"]) == pytest.approx(scoring.probability(piece.log_odds))


def test_languages_are_those_of_the_spoken_pieces_at_8_khz(toy, monkeypatch):
    seen = []
    monkeypatch.setattr(
        language_id,
        "detect_in_this_process",
        lambda waves: seen.extend(len(wave) for wave in waves) or [("sw", 0.9, 0.0)] * len(waves),
    )
    square = np.sign(np.sin(np.arange(3 * RATE // 2) * 0.1))
    wave = np.concatenate([np.tile(square, 6), np.tile(toy.waves[-1], 6)])  # 9 s each
    options = scoring.Options(language=True)
    (row,) = scoring.Scorer(str(toy.folder), options=options).rows([recording(wave)])
    assert abs(seen[0] - 9 * 8000) < 10 and (row["language"], row["p_language"]) == ("sw", "0.90")


def test_no_decision_where_there_is_a_warning(toy):
    hiss, hum = toy.waves[0], toy.waves[-1]  # a sine is near its peak for half of the time
    for abstain, decision in ((False, "spoof"), (True, "no decision")):
        scorer = scoring.Scorer(str(toy.folder), options=scoring.Options(abstain=abstain))
        rows = scorer.rows([recording(hiss), recording(hum)])
        assert [row["decision"] for row in rows] == ["bona fide", decision]
        assert not rows[0]["note"] and "clipped" in rows[1]["note"] and rows[1]["p_bona_fide"]


@pytest.mark.parametrize(
    "note",
    [
        "3 of 90 packets damaged",
        "700 bytes behind its sound are not heard",
        "2.0 of 3.0 s decoded",
        "2 audio streams: number 1 is heard",
        "gaps of 1.0 s in its time line",
    ],
)
def test_no_decision_where_something_is_damaged_or_missing(toy, note):
    scorer = scoring.Scorer(str(toy.folder), options=scoring.Options(abstain=True))
    rows = scorer.rows([recording(toy.waves[0], notes=(note,)), recording(toy.waves[0])])
    assert [row["decision"] for row in rows] == ["no decision", "bona fide"]
    quiet = recording(toy.waves[0], 0.0028 * toy.waves[-1])
    assert scorer.rows([quiet])[0]["decision"] == "no decision"


def test_a_decision_where_a_note_is_about_nothing_that_is_lost(toy, tmp_path):
    """An offset, a peak beyond full scale, and recordings that were joined."""
    hiss = toy.waves[0]
    sf.write(tmp_path / "offset.wav", hiss + 0.1, RATE, subtype="FLOAT")
    sf.write(tmp_path / "loud.wav", 100 * hiss, RATE, subtype="FLOAT")
    reading.write(tmp_path / "plain.wav", hiss, RATE)
    twice = 2 * (tmp_path / "plain.wav").read_bytes()
    (tmp_path / "joined.wav").write_bytes(twice)
    scorer = scoring.Scorer(str(toy.folder), options=scoring.Options(abstain=True))
    for name, note in (("offset", "removed"), ("loud", "rescaled"), ("joined", "joined")):
        path = tmp_path / f"{name}.wav"
        (row,) = scorer.rows([decoding.decode(path, path.name, RATE)])
        assert note in row["note"] and row["decision"] == "bona fide", row["note"]


def test_log_odds_of_files_are_those_of_their_rows(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring.detector, "FOLDER", toy.folder)
    files = [tmp_path / f"{number}.wav" for number in range(3)]
    for file, wave in zip(files, (toy.waves[0], toy.waves[-1], np.zeros(RATE)), strict=True):
        reading.write(file, wave.astype(np.float32), RATE)
    opened = scoring.load_detector(toy.folder)
    expected = [opened.logit(reading.read(file, RATE)) for file in files[:2]]
    assert scoring.log_odds(files[:2]) == pytest.approx(expected, abs=0.01)
    with pytest.raises(dsp.AudioError, match="2.wav"):
        scoring.log_odds(files)


def test_the_public_door_opens():
    from utils import predict

    assert predict.load_detector is scoring.load_detector and predict.show is scoring.show
    assert predict.main is command.main
