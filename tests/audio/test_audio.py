"""Reading audio: what is wrong is named, never turned into silence. Conditioning and augmentation keep their word."""

import io
import tracemalloc

import av
import numpy as np
import pytest
import soundfile as sf

from utils.audio import augmentation, channel, dsp, reading


def wav(wave, rate=8000, **options):
    buffer = io.BytesIO()
    sf.write(buffer, wave, rate, format="WAV", **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda w: b"", "empty file"),
        (lambda w: b"no audio here, just words", "not audio"),
        (lambda w: wav(w)[:2000], "truncated"),
        (lambda w: wav(w)[:40], "truncated"),
        (lambda w: wav(np.zeros(8000)), "silent"),
        (lambda w: wav(w[:0]), "no samples|truncated"),
        (
            lambda w: wav(
                np.where(np.arange(len(w)) == 7, np.nan, w).astype(np.float32), subtype="FLOAT"
            ),
            "NaN",
        ),
        (lambda w: wav(np.full(800, np.inf, np.float32), subtype="FLOAT"), "NaN or infinite"),
    ],
)
def test_rejected_is_named(tmp_path, speechlike, make, reason):
    path = tmp_path / "broken.wav"
    path.write_bytes(make(speechlike))
    with pytest.raises(dsp.AudioError, match=f"broken.wav: .*({reason})"):
        reading.read(path)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "nowhere.wav", tmp_path):
        with pytest.raises(dsp.AudioError, match="cannot be read"):
            reading.read(path)


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


FFMPEG = [
    ("mp4", "aac", "a.m4a", 44100),
    ("webm", "libopus", "a.webm", 48000),
    ("adts", "aac", "a.aac", 22050),
    ("amr", "libopencore_amrnb", "a.amr", 8000),
]


def encode(target, wave, container, encoder, rate, **options):
    """Write an 8 kHz wave to a file's name or a buffer with FFmpeg's libraries."""
    with av.open(target, "w", format=container, options=options) as file:
        stream = file.add_stream(encoder, rate=rate, layout="mono")
        stream.bit_rate = 12200 if container == "amr" else 64000
        frame = av.AudioFrame.from_ndarray(
            dsp.resample(wave, 8000, rate)[None], format="fltp", layout="mono"
        )
        frame.sample_rate = rate
        fit = av.AudioResampler(stream.codec_context.format or "fltp", "mono", rate)
        for part in (*fit.resample(frame), None):
            for packet in stream.encode(part):
                file.mux(packet)


def ffmpeg(path, *what, **options):
    encode(str(path), *what, **options)
    return path.read_bytes()


@pytest.mark.parametrize(("container", "encoder", "name", "rate"), FFMPEG)
def test_what_phones_and_browsers_record_is_read(
    tmp_path, speechlike, container, encoder, name, rate
):
    ffmpeg(tmp_path / name, speechlike, container, encoder, rate)
    wave = reading.read(tmp_path / name)
    shift = np.argmax(np.correlate(wave[:8000], speechlike[:4000], "valid"))
    together = np.corrcoef(wave[shift : shift + 4000], speechlike[:4000])[0, 1]
    assert abs(len(wave) - len(speechlike)) < 1000 and together > (
        0.4 if container == "amr" else 0.9
    )  # AMR keeps no phases


def test_half_an_m4a_is_named(tmp_path, speechlike):
    whole = ffmpeg(tmp_path / "whole.m4a", np.tile(speechlike, 4), "mp4", "aac", 16000)
    front = ffmpeg(
        tmp_path / "front.m4a", np.tile(speechlike, 4), "mp4", "aac", 16000, movflags="faststart"
    )
    playlist = b"#EXTM3U\n#EXTINF:1,\n" + str(tmp_path / "half.m4a").encode() + b"\n"
    for data, reason in (
        (whole[: len(whole) // 2], "not audio|truncated"),
        (front[: len(front) // 2], "not audio|truncated"),
        (whole[:64], "not audio"),
        (playlist, "not audio"),
    ):
        (tmp_path / "half.m4a").write_bytes(data)
        with pytest.raises(dsp.AudioError, match=f"half.m4a: .*({reason})"):
            reading.read(tmp_path / "half.m4a")


def film(speechlike, container, picture_s):
    """A second of speech under `picture_s` seconds of picture, as bytes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        seen, heard = (
            file.add_stream("mpeg4", rate=5),
            file.add_stream("aac", rate=16000, layout="mono"),
        )
        seen.width = seen.height = 32
        sound = av.AudioFrame.from_ndarray(
            dsp.resample(speechlike[:8000], 8000, 16000)[None], format="fltp", layout="mono"
        )
        sound.sample_rate = 16000
        picture = [
            av.VideoFrame.from_ndarray(np.full((32, 32, 3), 9 * i, np.uint8), format="rgb24")
            for i in range(5 * picture_s)
        ]
        for stream, frames in ((heard, [sound, None]), (seen, [*picture, None])):
            for frame in frames:
                for packet in stream.encode(frame):
                    file.mux(packet)
    return buffer.getvalue()


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_film_may_be_longer_than_its_sound(speechlike, container):
    whole = film(speechlike, container, 4)
    assert 0.9 < len(reading.decode(whole, "film")) / 8000 < 1.3


def test_aac_without_a_container_promises_no_length(speechlike):
    """FFmpeg guesses its length by the first frames: after a quiet beginning, which takes few bytes, half seemed to be missing."""
    buffer, wave = (
        io.BytesIO(),
        np.concatenate([np.zeros(6 * 8000, np.float32), np.tile(speechlike, 2)]),
    )
    encode(buffer, wave, "adts", "aac", 16000)
    assert len(reading.decode(buffer.getvalue(), "x.aac")) > len(wave) - 1000


def test_levels_of_a_long_recording_take_little_memory():
    wave = np.random.default_rng(0).standard_normal(3_000_000).astype(np.float32)
    tracemalloc.start()
    found = dsp.frames_dbfs(wave)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 60e6 and np.array_equal(
        found, 10 * np.log10(np.mean(wave.reshape(-1, 160).astype(float) ** 2, axis=1))
    )


@pytest.mark.parametrize(
    ("form", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_reading_in_blocks_changes_nothing(speechlike, monkeypatch, form, subtype):
    """Blocks of a few frames give what one read of the whole gives; resampled as it is read, a long one too."""
    buffer, rate = io.BytesIO(), 48000 if subtype == "OPUS" else 44100
    sf.write(
        buffer, dsp.resample(np.tile(speechlike, 3), 8000, rate), rate, format=form, subtype=subtype
    )
    whole, _ = sf.read(io.BytesIO(buffer.getvalue()), dtype="float32")
    expected = dsp.resample(whole, rate, 8000)
    monkeypatch.setattr(reading, "BLOCK", 1000)
    found = reading.decode(buffer.getvalue(), "x")
    assert len(found) == len(expected) and np.abs(found - expected).max() < 1e-4
    monkeypatch.setattr(reading, "STREAMED", 5000)
    streamed = reading.decode(buffer.getvalue(), "x")
    least = min(len(streamed), len(expected))
    assert (
        abs(len(streamed) - len(expected)) <= 1
        and np.abs(streamed[:least] - expected[:least]).max() < 1e-3
    )
    monkeypatch.setattr(reading, "LONGEST_S", 2)
    with pytest.raises(dsp.AudioError, match="longer than 0 hours"):
        reading.decode(buffer.getvalue(), "x")


def test_what_is_no_file_or_too_large_is_refused(tmp_path, monkeypatch):
    (tmp_path / "large.wav").write_bytes(bytes(3000))
    monkeypatch.setattr(reading, "LARGEST_BYTES", 2000)
    for path, reason in (
        (tmp_path / "large.wav", "too large"),
        ("/dev/zero", "device or pipe"),
        ("a\0b.wav", "null byte"),
        ("a" * 300 + ".wav", "File name too long"),
    ):
        with pytest.raises(dsp.AudioError, match=reason):
            reading.read(path)


def test_written_clip_is_the_competitions_format(tmp_path, speechlike):
    reading.write(tmp_path / "a.wav", speechlike)
    info = sf.info(tmp_path / "a.wav")
    assert (info.samplerate, info.channels, info.subtype) == (8000, 1, "PCM_16")
    assert np.abs(reading.read(tmp_path / "a.wav") - speechlike).max() < 1 / 32000


@pytest.mark.parametrize("codec", channel.CODECS)
def test_codecs_keep_length_and_most_of_the_signal(speechlike, codec):
    sent = channel.transmit(speechlike, codec)
    assert sent.shape == speechlike.shape
    spectra = [
        np.abs(np.fft.rfft(wave.reshape(-1, 160), axis=1)).ravel() for wave in (sent, speechlike)
    ]  # 20 ms frames
    assert np.corrcoef(*spectra)[0, 1] > 0.9


def test_conditioning_has_a_strength(speechlike):
    def conditioned(strength):
        return channel.condition(
            speechlike, 8000, np.random.default_rng(3), ("gsm",), 0.0, strength
        )

    untouched, codec = conditioned(0)
    assert codec == "pcm" and np.array_equal(untouched, speechlike)
    full, codec = conditioned(1)
    assert codec == "gsm" and -30.5 < dsp.dbfs(full) < -17.5
    half, _ = conditioned(0.5)
    assert abs(dsp.dbfs(half) - (dsp.dbfs(speechlike) + dsp.dbfs(full)) / 2) < 1.5


def test_lost_packets_are_concealed(speechlike):
    lossy = channel.lose_packets(speechlike, 0.3, np.random.default_rng(1))
    changed = (
        (lossy != speechlike)
        .reshape(-1)[: len(speechlike) // 160 * 160]
        .reshape(-1, 160)
        .any(axis=1)
    )
    assert len(lossy) == len(speechlike) and 0.1 < changed.mean() < 0.5
    first = int(np.flatnonzero(changed)[0])
    assert np.array_equal(
        lossy[first * 160 : first * 160 + 160], speechlike[first * 160 - 160 : first * 160] / 2
    )
    assert np.array_equal(
        channel.lose_packets(speechlike, 0.0, np.random.default_rng(1)), speechlike
    )


def test_conditioning_is_seeded_and_takes_packaging_away(speechlike):
    padded = np.concatenate([np.zeros(8000), speechlike + 0.05, np.zeros(4000)]).astype(np.float32)
    one, _ = channel.condition(padded, 8000, np.random.default_rng(1), ("pcm",))
    same, _ = channel.condition(padded, 8000, np.random.default_rng(1), ("pcm",))
    other, _ = channel.condition(padded, 8000, np.random.default_rng(2), ("pcm",))
    assert np.array_equal(one, same) and not np.array_equal(one[:100], other[:100])
    assert len(one) < len(speechlike) + 0.2 * 8000  # silence is gone
    assert abs(one.mean()) < 1e-3 and -31 < dsp.dbfs(one) < -17


def test_noise_lands_at_its_snr(speechlike):
    noise = dsp.coloured_noise(len(speechlike), 3, np.random.default_rng(0))
    added = dsp.add_noise(speechlike, noise, 12) - speechlike
    assert dsp.dbfs(speechlike) - dsp.dbfs(added) == pytest.approx(12, abs=0.1)


@pytest.mark.parametrize("name", augmentation.EFFECTS)
def test_effects_repeat_and_stay_finite(speechlike, name):
    one, two = (augmentation.EFFECTS[name](speechlike, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one, two) and np.isfinite(one).all() and one.dtype == np.float32
    assert not np.array_equal(one, speechlike)


def test_labels_after_augmentation(speechlike):
    only = dict.fromkeys(augmentation.PROBABILITIES, 0.0)
    rng = np.random.default_rng
    for name in augmentation.PROBABILITIES:
        for label in (0, 1):
            _, after, done = augmentation.augment(
                speechlike, label, rng(0), [speechlike], [], only | {name: 1.0}
            )
            assert done == [name]
            assert after == (0 if name in augmentation.CHANGES_LABEL else label)
    made = [
        augmentation.augment(
            speechlike, 1, rng(i), [speechlike], [speechlike], only | {"splice": 1.0}
        )
        for i in range(60)
    ]
    assert (
        0.3 < np.mean([label for _, label, _ in made]) < 0.95
    )  # a fake part makes it fake, real parts do not
    assert max(len(w) for w, _, _ in made) <= 15 * 8000 and min(len(w) for w, _, _ in made) > len(
        speechlike
    )
    long = np.tile(speechlike, 6)  # 12 s: over 5 s, never spliced
    assert augmentation.augment(long, 1, rng(0), [long], [long], only | {"splice": 1.0})[2] == []
