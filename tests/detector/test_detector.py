"""The detector: files and versions, pieces and timelines, two heads, the released one."""

import shutil

import numpy as np
import pandas as pd
import pytest

from tests import helpers
from utils import paths
from utils.audio import dsp, reading
from utils.detector import detector, embedding, page, scoring
from utils.detector.embedding import NARROW, RATE, WIDE

SHARED = paths.ROOT.parent / "shared" / "demo_pages"


@pytest.fixture
def opened(toy):
    return detector.Detector(toy.folder)


@pytest.fixture
def folder(toy, tmp_path):
    """The files of the detector, for a test that changes them."""
    return shutil.copytree(toy.folder, tmp_path / "detector")


def expected_log_odds(wave, band):
    """Of a wave that is one piece, by hand."""
    if band == NARROW:
        wave = embedding.telephone_band(wave)
    wave = embedding.filled(wave)
    level = np.abs(wave).mean()
    head = helpers.TOY_HEADS[band]
    numbers = level / np.abs(wave).max(), np.abs(np.diff(wave)).mean() / level
    return float(np.dot(head.weight, numbers)) + head.bias


def test_a_score_is_the_weighted_sum_of_statistics(toy, opened):
    expected = [expected_log_odds(wave, WIDE) for wave in toy.waves[:8]]
    expected += [expected_log_odds(wave, NARROW) for wave in toy.waves[8:]]
    assert min(expected[:8]) > 2 and max(expected[8:]) < -2
    assert [opened.logit(wave) for wave in toy.waves] == pytest.approx(expected, abs=1e-3)
    p = opened.probability(toy.waves[-1], RATE)
    assert p == pytest.approx(1 / (1 + np.exp(-expected[-1])), abs=1e-4)


def test_sound_above_4_khz_has_the_wide_head_unless_another_is_asked_for(toy, opened):
    hiss, hum = toy.waves[0], toy.waves[-1]
    bands = [opened.band(wave) for wave in (hiss, embedding.telephone_band(hiss), hum)]
    assert bands == [WIDE, NARROW, NARROW]
    for band in (NARROW, WIDE):
        (piece,) = opened.pieces(hiss, band)
        assert piece.log_odds == pytest.approx(expected_log_odds(hiss, band), abs=1e-3)


def test_a_wave_at_another_rate_is_resampled(toy, opened):
    faster = dsp.resample(toy.waves[-1], RATE, 44100)
    expected = opened.probability(toy.waves[-1], RATE)
    assert opened.probability(faster, 44100) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("gain", [0.01, 0.1, 0.5])
def test_gain_changes_nothing(toy, opened, gain):
    for wave in (toy.waves[0], toy.waves[-1], np.concatenate([toy.waves[0], toy.waves[-1]])):
        assert opened.logit(gain * wave) == pytest.approx(opened.logit(wave), abs=1e-3)
        quiet, loud = opened.timeline(gain * wave), opened.timeline(wave)
        assert quiet == pytest.approx(loud, abs=1e-3)


@pytest.mark.parametrize("seconds", [0.3, 1, 1.5, 2.999, 3, 3.001, 3.5, 4, 6, 7, 13])
def test_a_clip_and_its_repetition_have_the_same_score(toy, opened, seconds):
    wave = np.resize(np.concatenate([*toy.waves[:8], toy.waves[-1]]), int(seconds * RATE))
    expected = opened.logit(wave)
    assert opened.logit(np.tile(wave, 2)) == pytest.approx(expected, abs=1e-3)


def test_short_and_silent_waves_are_refused(toy, opened):
    for score in (opened.pieces, opened.timeline):
        with pytest.raises(dsp.AudioError, match="0.12 s is too short"):
            score(toy.waves[0][:2000])
        with pytest.raises(dsp.AudioError, match="silent"):
            score(np.full(RATE, 0.9e-4, np.float32))
    with pytest.raises(dsp.AudioError, match="too short"):
        opened.probability(toy.waves[0][:2000], RATE)


def test_pieces_by_hand():
    assert embedding.pieces(96000) == [(0, 96000)]
    assert embedding.pieces(96002) == [(0, 48001), (48001, 96002)]
    edges = [start for start, _ in embedding.pieces(13 * RATE)]
    assert edges == [0, 52000, 104000, 156000]  # three would do, four are a power of two


def test_short_waves_are_doubled_until_they_last_more_than_3_s():
    wave = np.arange(RATE)
    assert np.array_equal(embedding.filled(wave), np.tile(wave, 4))
    # as long as two of them, which are one piece
    assert len(embedding.filled(np.ones(3 * RATE))) == 6 * RATE
    assert len(embedding.filled(np.ones(3 * RATE + 1))) == 3 * RATE + 1
    assert len(embedding.filled(np.ones(0))) == 0


def test_bandwidth_by_hand(monkeypatch):
    time = np.arange(RATE) / RATE

    def tone(hertz, level_db=0.0):
        return 10 ** (level_db / 20) * np.sin(2 * np.pi * hertz * time)

    # the window widens a tone: it ends up to 300 Hz higher
    assert embedding.bandwidth_hz(tone(1000)) == pytest.approx(1200, abs=100)
    assert embedding.bandwidth_hz(tone(1000) + tone(6000, -40)) == pytest.approx(6200, abs=100)
    assert embedding.bandwidth_hz(tone(1000) + tone(6000, -60)) == pytest.approx(1200, abs=100)
    hiss = np.random.default_rng(0).normal(size=RATE + 1).astype(np.float32)
    assert embedding.bandwidth_hz(hiss) == embedding.bandwidth_hz(hiss[:50]) == 8000
    narrow = embedding.telephone_band(hiss)
    assert 3900 <= embedding.bandwidth_hz(narrow) < embedding.WIDE_FROM_HZ
    assert abs(len(narrow) - len(hiss)) <= 1
    monkeypatch.setattr(dsp, "FRAMES_AT_ONCE", 20)  # 50 frames in three blocks: all of them count
    parts = [tone(6000)[: RATE // 10], tone(1000)[: RATE * 9 // 10]]
    for wave in (np.concatenate(parts), np.concatenate(parts[::-1])):
        assert embedding.bandwidth_hz(wave) > 6000


def test_a_long_recording_is_scored_in_equal_pieces(toy, opened):
    hiss, hum = toy.waves[0], toy.waves[-1]
    wave = np.concatenate([np.tile(hiss, 6), np.tile(hum, 6)])  # 9 s each
    pieces = opened.pieces(wave)
    assert [(p.start_s, p.end_s) for p in pieces] == [(0, 4.5), (4.5, 9), (9, 13.5), (13.5, 18)]
    first, second, third, last = (piece.log_odds for piece in pieces)
    assert min(first, second) > 2 and max(third, last) < -1
    assert opened.logit(wave) == pytest.approx(np.mean([first, second, third, last]))


@pytest.mark.parametrize(("gain", "starts"), [(0.003, [0, 12, 18]), (0.03, [0, 6, 12, 18])])
def test_a_piece_40_db_below_the_loudest_frame_is_left_out(toy, opened, gain, starts):
    hiss = np.tile(toy.waves[0], 4)
    pieces = opened.pieces(np.concatenate([hiss, gain * hiss, hiss, hiss]))
    assert [piece.start_s for piece in pieces] == starts


def test_quiet_ends_are_no_part_of_any_piece(toy, opened):
    silence = np.zeros(RATE, np.float32)
    (piece,) = opened.pieces(np.concatenate([silence, toy.waves[0], silence]))
    assert piece[:2] == pytest.approx((0.9, 2.6), abs=0.01)  # a margin of 0.1 s stays


def test_encoders_run_once_per_piece_and_once_per_window(toy, opened, monkeypatch):
    run, original = [], opened.encoders.statistics

    def counted(waves):
        run.append(waves.shape)
        return original(waves)

    monkeypatch.setattr(opened.encoders, "statistics", counted)
    wave = np.tile(toy.waves[0], 3)
    opened.pieces(wave)
    assert run == [(1, 72000)]
    run.clear()
    opened.pieces(toy.waves[0])  # 1.5 s: doubled until it is longer than 3 s
    assert run == [(1, 96000)]
    run.clear()
    opened.timeline(wave)
    assert run == [(1, 72000)] + [(1, 32000)] * 6  # the recording, then its windows
    run.clear()
    opened.timeline(wave, log_odds=1.0)
    assert run == [(1, 32000)] * 6


def test_a_timeline_says_where_and_the_recording_says_whether(toy, opened):
    """Windows lie around the log-odds of the recording, by a slope of their own."""
    hiss, hum = np.tile(toy.waves[0], 2), np.tile(toy.waves[-1], 2)
    wave = np.concatenate([hiss, hum])
    cuts = detector.windows(len(wave))
    head = opened.heads[WIDE]
    values = np.array([head.log_odds(opened.statistics([wave[cut]], WIDE))[0] for cut in cuts])
    expected = opened.logit(wave) + head.window_slope * (values - values.mean())
    assert expected.mean() == pytest.approx(opened.logit(wave))
    assert opened.timeline(wave) == pytest.approx(detector.by_step(len(wave), expected))
    assert opened.timeline(wave)[0] > opened.timeline(wave)[-1] + 2


@pytest.fixture
def ringing():
    """A square wave, in which nobody speaks, 9 s long."""
    return np.sign(np.sin(np.arange(9 * RATE) * 0.1)).astype(np.float32)


def test_pieces_in_which_nobody_speaks_have_no_vote(toy, opened, ringing):
    spoof = np.tile(toy.waves[-1], 6)
    pieces = opened.pieces(np.concatenate([ringing, spoof]), NARROW)
    assert [piece.speaks for piece in pieces] == [False, False, True, True]
    assert detector.voting(pieces) == pieces[2:]
    assert detector.voting(pieces[:2]) == pieces[:2]  # where nobody speaks at all, all vote
    timeline = opened.timeline(np.concatenate([ringing, spoof]), NARROW)
    assert np.isnan(timeline[:14]).all() and np.isfinite(timeline[-14:]).all()
    assert np.isfinite(opened.timeline(ringing, NARROW)).all()


def test_the_channel_that_looks_most_like_a_spoof_is_the_score(toy, opened, ringing):
    hiss, hum = toy.waves[0], toy.waves[-1]
    for waves in (np.stack([hiss, hum]), np.stack([hum, hiss])):
        assert opened.logit(waves) == pytest.approx(opened.logit(hum), abs=1e-3)
        assert opened.probability(waves, RATE) < 0.1
    # a channel without speech does not count beside one with
    party = np.tile(hiss, 6)
    assert opened.logit(np.stack([ringing, party])) == pytest.approx(opened.logit(party), abs=1e-3)


def test_a_timeline_is_empty_where_it_is_quiet(toy, opened):
    hiss = np.tile(toy.waves[0], 2)
    quiet = np.tile(0.003 * hiss, 2)  # from 3 to 9 s; the windows from 3–5 to 7–9 s are quiet
    timeline = opened.timeline(np.concatenate([hiss, quiet, hiss]))
    assert np.flatnonzero(np.isnan(timeline)).tolist() == [9, 10, 11, 12, 13, 14]


def test_windows_by_hand():
    assert detector.windows(16000) == [slice(0, 16000)]
    edges = [(window.start, window.stop) for window in detector.windows(44000)]
    assert edges == [(0, 32000), (8000, 40000), (12000, 44000)]  # the last one ends with the wave


def test_steps_by_hand():
    # middles of steps: 0.25, 0.75, 1.25, 1.75, 2.25 and 2.75 s (the end of 44000 samples);
    # windows: 0–2, 0.5–2.5, 0.75–2.75 s
    assert detector.by_step(44000, np.array([1.0, 3.0, 8.0])).tolist() == [1, 4, 4, 4, 5.5, 8]
    silent = detector.by_step(44000, np.array([np.nan, 3.0, np.nan]))
    assert np.isnan(silent[[0, 5]]).all() and silent[1:5].tolist() == [3, 3, 3, 3]


def test_spans_by_hand():
    assert detector.spans(np.array([True, True, False, True])) == [(0, 1), (1.5, 2)]
    assert detector.spans(np.zeros(3, bool)) == []


def test_heads_are_opened_as_they_were_saved(toy):
    found = detector.load_heads(toy.folder / "heads.npz")
    for band, head in helpers.TOY_HEADS.items():
        for mine, saved in zip(found[band], head, strict=True):
            assert np.array_equal(mine, saved)


# what is appended says nothing: a new line, bytes after an archive, a description of the graph
@pytest.mark.parametrize(
    ("name", "more"), [("card.json", b"\n"), ("heads.npz", b"\n"), ("encoders.onnx", b"2\1x")]
)
def test_the_version_follows_every_file(opened, folder, name, more):
    assert detector.Detector(folder).version == opened.version
    with (folder / name).open("ab") as file:
        file.write(more)
    assert detector.Detector(folder).version != opened.version


@pytest.mark.parametrize("shape", [(24000, 2), (24000, 1), (1, 2, 24000)])
def test_a_wave_of_another_shape_is_refused_with_the_remedy(toy, shape):
    opened = detector.Detector(toy.folder)
    with pytest.raises(dsp.AudioError, match="wave: shape"):
        opened.probability(np.full(shape, 0.1, np.float32), RATE)
    if len(shape) == 2:
        with pytest.raises(dsp.AudioError, match="transpose"):
            opened.logit(np.full(shape, 0.1, np.float32))


@pytest.mark.parametrize("name", detector.FILES)
def test_a_missing_file_is_named_with_the_remedy(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing.*--profile detector"):
        detector.Detector(folder)


@pytest.mark.parametrize("name", detector.FILES)
@pytest.mark.parametrize("damage", ["empty", "cut", "words"])
def test_a_damaged_file_is_refused(folder, name, damage):
    whole = (folder / name).read_bytes()
    damaged = {"empty": b"", "cut": whole[: len(whole) // 2], "words": b"PK\3\4 and words"}
    (folder / name).write_bytes(damaged[damage])
    with pytest.raises(ValueError, match="no detector, or a damaged one"):
        detector.Detector(folder)


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [([1, np.nan], [1, 2]), ([1, 2, 3], [1, 2]), ([[1, 2]], [[1, 2]]), ([1, np.inf], [1, 2])],
)
def test_heads_that_cannot_score_are_refused(folder, narrow, wide):
    heads = {
        NARROW: detector.Head(narrow, 0, narrow, 0, 1),
        WIDE: detector.Head(wide, 0, wide, 0, 1),
    }
    detector.save_heads(folder / "heads.npz", heads)
    with pytest.raises(ValueError, match="heads.npz: weights of different shapes, or not finite"):
        detector.Detector(folder)


def test_a_missing_head_is_named(folder):
    detector.save_heads(folder / "heads.npz", {NARROW: helpers.TOY_HEADS[NARROW]})
    with pytest.raises(ValueError, match=f"heads.npz.*{WIDE} numbers"):
        detector.Detector(folder)


@pytest.mark.parametrize("threshold", [0, 1, float("nan"), "0.5", None])
def test_a_card_without_a_threshold_between_0_and_1_is_refused(folder, threshold):
    paths.write_json(folder / "card.json", {"threshold": threshold})
    with pytest.raises(ValueError, match="damaged"):
        detector.Detector(folder)


def test_the_released_detector_is_small_and_its_card_states_limits():
    opened = detector.Detector()
    assert (detector.FOLDER / "encoders.onnx").stat().st_size <= 30e6
    assert (detector.FOLDER / "heads.npz").stat().st_size <= 1e6
    assert 0 < opened.card["threshold"] < 1 and opened.card["limits"]
    assert min(opened.card["recall_bonafide"], opened.card["recall_spoof"]) > 0.5


def test_gain_and_repetition_do_not_change_what_the_released_detector_says(speechlike):
    opened, wave = detector.Detector(), dsp.resample(speechlike, dsp.RATE, RATE)
    expected = opened.probability(wave, RATE)
    for other in (0.01 * wave, 0.1 * wave, np.tile(wave, 2)):
        assert opened.probability(other, RATE) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("seconds", [1, 1.5, 2.999, 3, 3.001, 4, 6])
def test_the_released_detector_says_the_same_of_speech_that_is_played_twice(seconds):
    opened, spoken = detector.Detector(), reading.read(page.WEB / "examples" / "person.flac", RATE)
    wave = np.resize(spoken[dsp.between_quiet_ends(spoken, RATE, margin_s=0)], int(seconds * RATE))
    expected = opened.probability(wave, RATE)
    assert opened.probability(np.tile(wave, 2), RATE) == pytest.approx(expected, abs=0.03)


def test_the_released_detector_ranks_clips_that_it_was_trained_on():
    if not SHARED.exists():
        pytest.skip("the demo pages are not here")
    opened, key = scoring.load_detector(), pd.read_csv(SHARED / "key.csv")
    key = key[key["label"].isin(["0", "1"])].groupby("label").sample(6, random_state=1)
    p = np.array([opened.probability(SHARED / "clips" / name) for name in key["name"]])
    assert p[key["label"] == "1"].mean() > p[key["label"] == "0"].mean() + 0.2
