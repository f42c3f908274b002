"""Reading audio: what is wrong with a file is named, and never turned into silence."""

import io
import struct

import av
import numpy as np
import pytest
import soundfile as sf

from tests import helpers
from utils.audio import dsp, reading
from utils.audio.decoding import parts

FFMPEG = [
    ("mp4", "aac", "a.m4a", 44100),
    ("webm", "libopus", "a.webm", 48000),
    ("adts", "aac", "a.aac", 22050),
    ("amr", "libopencore_amrnb", "a.amr", 8000),
]
LIBSNDFILE = [
    ("WAV", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


def wav(wave, rate=8000, **options):
    buffer = io.BytesIO()
    sf.write(buffer, wave, rate, format="WAV", **options)
    return buffer.getvalue()


def with_nan(wave):
    wave = wave.copy()
    wave[7] = np.nan
    return wav(wave, subtype="FLOAT")


def with_size(data, size):
    """A WAV with another size in the header of its samples, which may be a placeholder."""
    return data[:40] + struct.pack("<I", size) + data[44:]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda w: b"", "empty file"),
        (lambda w: b"no audio here, just words", "not audio"),
        (lambda w: wav(w)[:2000], "truncated or damaged .0.1 of 2.0 s decoded"),
        (lambda w: wav(w)[:40], "no 'data' tag"),
        (lambda w: with_size(wav(w), 0), "gives no length"),
        (lambda w: wav(np.zeros(8000)), "silent"),
        (lambda w: wav(w[:0]), "no samples"),
        (lambda w: wav(w) + wav(w)[:20] + b"DD" + wav(w)[22:], "cannot be decoded"),
        (with_nan, "NaN"),
        (lambda w: wav(np.full(800, np.inf, np.float32), subtype="FLOAT"), "NaN or infinite"),
    ],
)
def test_a_broken_file_is_refused_with_its_reason(tmp_path, speechlike, make, reason):
    path = tmp_path / "broken.wav"
    path.write_bytes(make(speechlike))
    with pytest.raises(dsp.AudioError, match=f"broken.wav: .*({reason})"):
        reading.read(path)


def test_a_missing_file_and_a_folder_cannot_be_read(tmp_path):
    for path in (tmp_path / "nowhere.wav", tmp_path):
        with pytest.raises(dsp.AudioError, match="cannot be read"):
            reading.read(path)


def test_what_is_no_file_or_too_large_is_refused(tmp_path, monkeypatch):
    (tmp_path / "large.wav").write_bytes(bytes(3000))
    monkeypatch.setattr(parts, "LARGEST_BYTES", 2000)
    for path, reason in (
        (tmp_path / "large.wav", "too large"),
        ("/dev/zero", "device or pipe"),
        ("a\0b.wav", "null byte"),
        ("a" * 300 + ".wav", "File name too long"),
    ):
        with pytest.raises(dsp.AudioError, match=reason):
            reading.read(path)


def test_a_recording_longer_than_allowed_is_refused(speechlike):
    with pytest.raises(dsp.AudioError, match="longer than 1 s: cut it into parts"):
        reading.decode(wav(speechlike), "x", longest_s=1)
    assert len(reading.decode(wav(speechlike), "x", longest_s=2)) == len(speechlike)


def test_stereo_and_44_1_khz_become_mono_8_khz(tmp_path):
    time = np.arange(44100) / 44100
    stereo = np.stack([0.4 * np.sin(2 * np.pi * 440 * time), np.zeros_like(time)], axis=1)
    path = tmp_path / "stereo.wav"
    sf.write(path, stereo, 44100)
    wave = reading.read(path)
    assert wave.shape == (8000,) and wave.dtype == np.float32
    middle = wave[1000:7000]
    assert np.sqrt(2) * middle.std() == pytest.approx(0.2, rel=0.02)  # the mean of both channels
    assert np.argmax(np.abs(np.fft.rfft(middle))) * 8000 / 6000 == pytest.approx(440, abs=2)
    with pytest.raises(dsp.AudioError, match="44100 Hz where 8000 Hz is expected"):
        reading.read(path, expect_rate=8000)


@pytest.mark.parametrize(("container", "encoder", "name", "rate"), FFMPEG)
def test_what_phones_and_browsers_record_is_read(
    tmp_path, speechlike, container, encoder, name, rate
):
    helpers.encode(str(tmp_path / name), speechlike, container, encoder, rate)
    wave = reading.read(tmp_path / name)
    shift = np.argmax(np.correlate(wave[:8000], speechlike[:4000], "valid"))
    correlation = np.corrcoef(wave[shift : shift + 4000], speechlike[:4000])[0, 1]
    assert abs(len(wave) - len(speechlike)) < 1000
    assert correlation > (0.4 if container == "amr" else 0.9)  # AMR does not keep phases


def test_half_an_m4a_and_a_playlist_are_refused(tmp_path, speechlike):
    path, wave = tmp_path / "half.m4a", np.tile(speechlike, 4)
    helpers.encode(str(path), wave, "mp4", "aac", 16000)
    whole = path.read_bytes()
    helpers.encode(str(path), wave, "mp4", "aac", 16000, movflags="faststart")
    index_first = path.read_bytes()
    playlist = b"#EXTM3U\n#EXTINF:1,\n" + str(path).encode() + b"\n"
    for data, reason in (
        (whole[: len(whole) // 2], "not audio|truncated"),
        (index_first[: len(index_first) // 2], "not audio|truncated"),
        (whole[:64], "not audio"),
        (playlist, "not audio"),
    ):
        path.write_bytes(data)
        with pytest.raises(dsp.AudioError, match=f"half.m4a: .*({reason})"):
            reading.read(path)


def film(speechlike, container, picture_s):
    """A second of speech under `picture_s` seconds of picture, as bytes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        video = file.add_stream("mpeg4", rate=5)
        audio = file.add_stream("aac", rate=16000, layout="mono")
        video.width = video.height = 32
        samples = dsp.resample(speechlike[:8000], 8000, 16000)[None]
        sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        sound.sample_rate = 16000
        pictures = [
            av.VideoFrame.from_ndarray(np.full((32, 32, 3), 9 * i, np.uint8), format="rgb24")
            for i in range(5 * picture_s)
        ]
        for stream, frames in ((audio, [sound, None]), (video, [*pictures, None])):
            for frame in frames:
                for packet in stream.encode(frame):
                    file.mux(packet)
    return buffer.getvalue()


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_film_may_be_longer_than_its_sound(speechlike, container):
    whole = film(speechlike, container, 4)
    assert 0.9 < len(reading.decode(whole, "film")) / 8000 < 1.3


def test_the_length_that_ffmpeg_guesses_of_bare_aac_is_not_believed(speechlike):
    """It guesses by the first frames: after a quiet beginning, half seemed to be missing."""
    wave = np.concatenate([np.zeros(6 * 8000, np.float32), np.tile(speechlike, 2)])
    data = helpers.encoded(wave, "adts", "aac", 16000)
    assert len(reading.decode(data, "x.aac")) > len(wave) - 1000


@pytest.mark.parametrize(("form", "subtype"), LIBSNDFILE)
def test_what_libsndfile_reads_is_read_the_same_by_ffmpeg(tmp_path, speechlike, form, subtype):
    path, rate = tmp_path / "a", 48000 if subtype == "OPUS" else 44100
    wave = dsp.resample(np.tile(speechlike, 3), 8000, rate)
    sf.write(path, wave, rate, format=form, subtype=subtype)
    whole, _ = sf.read(path, dtype="float32")
    expected = dsp.resample(whole, rate, 8000)
    found = reading.read(path)
    least = min(len(found), len(expected))
    assert abs(len(found) - len(expected)) <= 50  # Vorbis: a packet of 256 samples
    assert np.abs(found[:least] - expected[:least]).max() < (1e-6 if form != "OGG" else 1e-2)
    native, its_rate = reading.decode_native(path.read_bytes(), "x")
    assert its_rate == rate and abs(len(native) - len(whole)) <= 256


def test_a_wav_that_went_through_a_pipe_is_whole(speechlike):
    for size in (0xFFFFFFFF, 0x7FFFF000):
        found = reading.decode(with_size(wav(speechlike), size), "x")
        assert np.abs(found - speechlike).max() < 1e-4


def test_a_peak_beyond_full_scale_stays_as_it_is(speechlike):
    """Training data keep their level; what scores rescales them."""
    loud = wav(10 * speechlike, subtype="FLOAT")
    assert np.array_equal(reading.decode(loud, "x"), 10 * speechlike)


@pytest.mark.parametrize("form", ["mp3", "adts", "matroska"])
def test_what_is_damaged_inside_is_refused(speechlike, form):
    encoder = "libmp3lame" if form == "mp3" else "aac"
    data = bytearray(helpers.encoded(np.tile(speechlike, 4), form, encoder))
    middle = len(data) // 2
    data[middle : middle + 4000] = np.random.default_rng(0).bytes(4000)
    with pytest.raises(dsp.AudioError, match="damaged"):
        reading.decode(bytes(data), "x")


def test_a_written_clip_has_the_competitions_format(tmp_path, speechlike):
    reading.write(tmp_path / "a.wav", speechlike)
    info = sf.info(tmp_path / "a.wav")
    assert (info.samplerate, info.channels, info.subtype) == (8000, 1, "PCM_16")
    assert np.abs(reading.read(tmp_path / "a.wav") - speechlike).max() < 1 / 32000
