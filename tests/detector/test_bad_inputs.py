"""Over 500 files that cannot be scored: each is named with its reason, good ones are scored."""

import contextlib
import io
import json
import os
import struct
import zipfile
import zlib

import av
import numpy as np
import pytest
import soundfile as sf

from tests import helpers
from utils.audio import reading
from utils.detector import scoring
from utils.detector.batch import command, listing

FILES_PER_KIND = 14


def encoded(wave, form, subtype, rate=8000):
    buffer = io.BytesIO()
    sf.write(buffer, wave, rate, format=form, subtype=subtype)
    return buffer.getvalue()


def pictures(rng):
    """An MP4 film without sound."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(
                rng.integers(0, 255, (32, 32, 3), np.uint8), format="rgb24"
            )
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return buffer.getvalue()


def archive(rng):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("../../escape.wav", rng.bytes(100))
    return buffer.getvalue()


def header(data, at, form, value):
    """`data` with the number at a place of its header changed."""
    size = struct.calcsize(form)
    return data[:at] + struct.pack(form, value) + data[at + size :]


def kinds(wave):
    """(suffix, generator that gives a file's bytes) of each kind that cannot be scored."""
    pcm, flac = encoded(wave, "WAV", "PCM_16"), encoded(wave, "FLAC", "PCM_16")
    ogg, mp3, m4a = (
        encoded(wave, "OGG", "OPUS"),
        encoded(wave, "MP3", "MPEG_LAYER_III"),
        helpers.encoded(wave, "mp4", "aac"),
    )
    noise = np.float32(1e-5)
    return {
        "empty": ("wav", lambda r: b""),
        "words": ("mp3", lambda r: b"no audio, just words " * r.integers(1, 99)),
        "web page": ("ogg", lambda r: b"<!doctype html><html><body>404</body></html>"),
        "random": ("wav", lambda r: b"\0" + r.bytes(999)),
        "zeros": ("flac", lambda r: bytes(int(r.integers(1, 9999)))),
        "wav's first bytes": ("wav", lambda r: pcm[: r.integers(1, 44)]),
        "wav without samples": ("wav", lambda r: pcm[:40] + bytes(4)),
        "digital silence": (
            "wav",
            lambda r: encoded(np.zeros(r.integers(1, 16000)), "WAV", "PCM_16"),
        ),
        "next to silence": (
            "flac",
            lambda r: encoded(r.standard_normal(8000) * noise, "FLAC", "PCM_24"),
        ),
        "nothing but NaN": (
            "wav",
            lambda r: encoded(np.full(r.integers(1000, 9000), np.nan), "WAV", "FLOAT"),
        ),
        "infinite": (
            "wav",
            lambda r: encoded(np.full(r.integers(1000, 9000), np.inf), "WAV", "DOUBLE"),
        ),
        "too short": (
            "wav",
            lambda r: encoded(wave[4000 : 4000 + r.integers(200, 1900)], "WAV", "PCM_16"),
        ),
        "one sample": ("wav", lambda r: encoded(np.full(1, 0.5), "WAV", "PCM_16", 48000)),
        "flac's first bytes": ("flac", lambda r: flac[:40]),
        "ogg's first bytes": ("opus", lambda r: ogg[: r.integers(4, 60)]),
        "ogg with noise": ("ogg", lambda r: ogg[:30] + r.bytes(2000)),
        "mp3's first bytes": ("mp3", lambda r: mp3[: r.integers(4, 20)]),
        "mp3's label alone": ("mp3", lambda r: b"ID3\3\0\0\0\0\x0f\x76" + bytes(2038)),
        "cut m4a": ("m4a", lambda r: m4a[: r.integers(16, len(m4a) - 800)]),
        "mp4's mark and noise": ("mp4", lambda r: b"\0\0\0\x18ftypmp42" + r.bytes(500)),
        "film without sound": ("mp4", pictures),
        "webm's mark alone": ("webm", lambda r: b"\x1aE\xdf\xa3" + bytes(int(r.integers(0, 50)))),
        "aac's mark and noise": ("aac", lambda r: b"\xff\xf1" + bytes(int(r.integers(50, 500)))),
        "amr's mark alone": ("amr", lambda r: b"#!AMR\n"),
        "playlist": ("m4a", lambda r: b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"),
        "list of parts": ("m4a", lambda r: b"ffconcat version 1.0\nfile /etc/passwd\n"),
        "subtitles": ("wav", lambda r: b"1\n00:00:01,000 --> 00:00:02,000\nwords\n\n"),
        "pdf": ("mp3", lambda r: b"%PDF-1.7\n" + r.bytes(500)),
        "jpeg": ("mp3", lambda r: b"\xff\xd8\xff\xe0\0\x10JFIF\0" + r.bytes(500)),
        "zip": ("wav", archive),
        "png": ("mp3", lambda r: b"\x89PNG\r\n\x1a\n" + r.bytes(300)),
        "gzip": ("wav", lambda r: b"\x1f\x8b" + zlib.compress(r.bytes(99))),
        "pickle": ("wav", lambda r: b"\x80\x04\x95cposix\nsystem\n(S'touch escaped'\ntR."),
        "1 Hz": ("wav", lambda r: header(pcm, 24, "<I", 1)),
        "0 Hz": ("wav", lambda r: header(pcm, 24, "<I", 0)),
        "2 GHz": ("wav", lambda r: header(pcm, 24, "<I", 2 * 10**9 + int(r.integers(99)))),
        "no channels": ("wav", lambda r: header(pcm, 22, "<H", 0)),
        "unknown code": ("wav", lambda r: header(pcm, 20, "<H", 0x4444)),
    }


def damaged(wave):
    """(suffix, generator, note) of each kind that is scored as far as it can be decoded."""
    pcm, flac = encoded(wave, "WAV", "PCM_16"), encoded(wave, "FLAC", "PCM_16")
    mp3, aac = encoded(wave, "MP3", "MPEG_LAYER_III"), helpers.encoded(wave, "adts", "aac")
    with_nan = np.where(np.arange(len(wave)) == 99, np.nan, wave)
    return {
        "cut wav": ("wav", lambda r: pcm[: r.integers(18_000, 30_000)], "of 2.0 s decoded"),
        "cut flac": ("flac", lambda r: flac[: int(len(flac) * 0.8)], "of 2.0 s decoded"),
        "cut mp3": ("mp3", lambda r: mp3[: int(len(mp3) * 0.8)], "decoded"),
        "cut aac": ("aac", lambda r: aac[:-50], "torn"),
        "not finished": ("wav", lambda r: header(pcm, 40, "<I", 0), "not finished"),
        "promises more": ("wav", lambda r: header(pcm, 40, "<I", 40_000), "of 2.5 s decoded"),
        "NaN": ("wav", lambda r: encoded(with_nan, "WAV", "FLOAT"), "1 sample is NaN"),
        "too loud": ("wav", lambda r: encoded(wave * 9999, "WAV", "FLOAT"), "rescaled"),
        "joined": ("wav", lambda r: pcm + pcm, "2 recordings joined"),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """(folder of files, how many are bad): the bad ones are numbered; others can be scored."""
    home, rng = tmp_path_factory.mktemp("in"), np.random.default_rng(5)
    time = np.arange(16000) / 8000
    wave = np.float32(
        sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 12))
        * 0.1
        * (0.6 + 0.4 * np.sin(19 * time))
    )
    made = kinds(wave)
    for kind, (suffix, make) in made.items():
        for number in range(FILES_PER_KIND):
            (home / f"{kind} {number}.{suffix}").write_bytes(make(rng))
    for kind, (suffix, make, _) in damaged(wave).items():
        (home / f"{kind}.{suffix}").write_bytes(make(rng))
    (home / "a folder.wav").mkdir()
    (home / "to nowhere.wav").symlink_to(home / "nowhere")
    (home / "in a circle.wav").symlink_to(home / "in a circle.wav")
    (home / "endless.wav").symlink_to("/dev/zero")
    os.mkfifo(home / "a pipe.wav")
    (home / "two\nlines.wav").write_text("words")
    for name in ("good.wav", "goöd “2”.wav"):
        reading.write(home / name, wave)
    assert len(made) >= 37
    return home, len(made) * FILES_PER_KIND + 5


@pytest.fixture(scope="module")
def scored(toy, folder, tmp_path_factory):
    """Score the folder: (exit status, standard error, rows of the table, folder of timelines)."""
    out = tmp_path_factory.mktemp("out")
    arguments = [folder[0], "--out", out / "scores.json", "--timeline", out / "timelines"]
    arguments += ["--detector", toy.folder]
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        status = command.main(list(map(str, arguments)))
    rows = json.loads((out / "scores.json").read_text())
    return status, errors.getvalue(), rows, out / "timelines"


def name_of(row):
    return row["file"].rsplit("/", 1)[1]


@pytest.mark.slow
def test_good_files_are_scored_beside_500_bad_ones(scored):
    _, _, rows, _ = scored
    notes = {name_of(row): row["note"] for row in rows if row["p_bona_fide"] is not None}
    expected = damaged(np.zeros(16000, np.float32))
    for kind, (suffix, _, note) in expected.items():
        assert note in notes.pop(f"{kind}.{suffix}"), kind
    assert sorted(notes) == ["good.wav", "goöd “2”.wav"]


@pytest.mark.slow
def test_every_bad_file_has_a_reason_in_the_table(folder, scored):
    _, bad = folder
    _, _, rows, _ = scored
    reasons = [row["note"] for row in rows if row["p_bona_fide"] is None]
    assert len(reasons) == bad >= 500 and all(reasons)


@pytest.mark.slow
def test_every_bad_file_is_named_on_standard_error_without_a_traceback(scored):
    status, errors, rows, _ = scored
    assert status == 1 and "Traceback" not in errors and "Exception" not in errors
    for row in rows:
        assert row["p_bona_fide"] is not None or listing.printable(name_of(row)) in errors, name_of(
            row
        )


@pytest.mark.slow
def test_only_good_files_get_a_timeline(scored):
    names = {path.name.rsplit(".", 1)[0] for path in scored[3].iterdir()}
    assert len(names) == 2 + len(damaged(np.zeros(16000, np.float32)))


@pytest.mark.parametrize("option", ["--out", "--submission", "--timeline"])
def test_a_place_that_cannot_be_written_to_is_named(toy, option, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    reading.write(tmp_path / "hiss.wav", toy.waves[0], scoring.RATE)
    place = tmp_path / "file" if option == "--timeline" else tmp_path / "file" / "table.csv"
    arguments = [tmp_path / "hiss.wav", "--detector", toy.folder, option, place]
    assert command.main([*map(str, arguments)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""  # nothing is scored before
    assert printed.err.startswith(f"FAILED: {place}: cannot be written (")
