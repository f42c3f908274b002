"""Recordings get the length of clips, and corpora the identities of their speakers."""

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from utils.sources import real_speech
from utils.sources.speech import corpora, lengths

RATE = 8000


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder that `recordings` takes for the unpacked package of any source."""
    monkeypatch.setattr(real_speech, "fetch", lambda names: dict.fromkeys(names, tmp_path))
    return tmp_path


def sound(seconds, seed=0):
    """Noise, which counts as loud."""
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * RATE))
    return noise.astype(np.float32)


def quiet(seconds):
    return sound(seconds) / 1000


def test_a_long_recording_is_cut_in_its_pauses():
    wave = np.concatenate([part for i in range(9) for part in (quiet(0.5), sound(2, i))])
    parts = list(lengths.cut("talk.wav", wave, RATE))
    assert [key for key, *_ in parts] == [f"talk.wav#{i}" for i in range(len(parts))]
    seconds = [len(part) / RATE for _, part, _ in parts]
    assert len(parts) > 2 and all(1.9 < length <= 9 for length in seconds)
    for _, part, _ in parts:  # no phrase is cut: each part starts and ends near the quiet
        whole = len(np.flatnonzero(np.abs(part) > 0.01)) / RATE
        assert abs(whole / 2 - round(whole / 2)) < 0.05
    again = list(lengths.cut("talk.wav", wave, RATE))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(parts, again, strict=True))


def test_a_phrase_without_pauses_is_cut_where_it_is_quietest():
    wave = np.concatenate([quiet(0.5), sound(6), 0.3 * sound(0.1), sound(6), quiet(0.5)])
    parts = [part for _, part, _ in lengths.cut("talk.wav", wave, RATE)]
    assert len(parts) == 2 and abs(len(parts[0]) / RATE - 6.1) < 0.2
    assert list(lengths.cut("empty.wav", np.zeros(RATE, np.float32), RATE)) == []


def test_short_sounds_are_joined_and_none_is_used_twice():
    sounds = [(f"{i}.ogg", sound(0.8, i), RATE) for i in range(40)]
    clips = list(lengths.join(sounds))
    seconds = [len(wave) / rate for _, wave, rate in clips]
    assert all(3 <= length <= 9 for length in seconds)
    used = sum(1 + int(key.split("+")[1]) for key, *_ in clips)
    assert 36 <= used <= 40 and abs(sum(seconds) - used * (0.8 + 2 * lengths.MARGIN_S)) < 0.5
    assert list(lengths.join(sounds[:2])) == []


def test_of_the_same_sound_under_two_names_one_is_joined(package):
    folder = package / "voices" / "de" / "male2"
    folder.mkdir(parents=True)
    for i in range(6):
        sf.write(folder / f"{i}.ogg", sound(0.8, i % 3), RATE)
    sf.write(folder / "silent.ogg", np.zeros(RATE), RATE)
    (recording,) = real_speech.recordings("kajongg-klaus")
    assert recording.key.endswith("+2") and recording.language == "de"
    wave, rate = recording.load()
    assert rate == lengths.JOINED_RATE and abs(len(wave) / rate - 3.6) < 0.1


def test_raw_sounds_are_joined(package):
    for i in range(4):
        sf.write(package / f"{i}.au", sound(0.8, i), RATE, format="RAW", subtype="ULAW")
    (recording,) = real_speech.recordings("saytime")
    assert abs(len(recording.load()[0]) / lengths.JOINED_RATE - 4.8) < 0.1


def test_people_of_the_council_are_told_by_their_folder(package):
    buffer = io.BytesIO()
    sf.write(buffer, sound(4), RATE, format="WAV")
    names = ["m1/lewis/1-2.wav", "m2/lewis/5-9.wav", "m1/herbold/1-3.wav", "m1/sawant/2-4.wav"]
    with zipfile.ZipFile(package / "diarized.zip", "w") as archive:
        for name in [*names, "m1/lewis/notes.txt", "other.wav"]:
            archive.writestr(name, buffer.getvalue())
    found = {(r.key, r.speaker) for r in real_speech.recordings("council")}
    assert found == {
        ("m1/lewis/1-2.wav#0", "council-lewis"),
        ("m2/lewis/5-9.wav#0", "council-lewis"),
        ("m1/herbold/1-3.wav#0", "council-herbold"),
    }


def test_of_a_meeting_the_stretches_of_one_native_speaker_remain(package):
    turns = [("0.0", "5.0", "FEE078"), ("4.0", "4.0", "MEO069"), ("8.5", "1.2", "FEE078")]
    lines = [f"SPEAKER tr\u00f100 1 {a} {b} <NA> <NA> {who} <NA> <NA>" for a, b, who in turns]
    (package / "debug.train.rttm").write_text("\n".join(lines), encoding="utf-8")
    sf.write(package / "trn\u030300.wav", sound(10), RATE)  # the accent as a letter of its own
    found = sorted((r.key, r.speaker) for r in real_speech.recordings("ami"))
    assert found == [("trn00@0.00#0", "ami-FEE078"), ("trn00@8.50#0", "ami-FEE078")]
    wave, _ = min(real_speech.recordings("ami"), key=lambda r: r.key).load()
    assert abs(len(wave) / RATE - 4) < 0.1


def test_alone_is_who_speaks_while_nobody_else_does():
    turns = [(0.0, 10.0, "a"), (2.0, 3.0, "b"), (2.5, 4.0, "c"), (9.5, 12.0, "b")]
    assert corpora.alone(turns) == [(0.0, 2.0, "a"), (4.0, 9.5, "a"), (10.0, 12.0, "b")]


def test_phrases_of_a_talker_are_recordings_of_their_own(package):
    parts = [part for i in range(4) for part in (quiet(1), sound(2, i))]
    sf.write(package / "Vol_Set_F1.wav", np.concatenate([*parts, quiet(1)]), RATE)
    found = real_speech.recordings("nist-mrt-f1")
    assert len(found) == 4 and {r.group for r in found} == {"nist-mrt-f1"}
    assert all(1.9 < len(r.load()[0]) / RATE < 2.5 for r in found)
    other = replace(real_speech.SOURCES["nist-harvard-f1"], package="mcvqoe-tvo")
    (package / "Vol_Set_F1.wav").rename(package / "F1_harvard_phrases.wav")
    assert {r.group for r in other.reader(other, package)} == {"nist-mrt-f1"}
