"""What a player plays is heard, whatever its container says; what is missing is noted."""

import contextlib
import io
import re
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile as sf

from tests import helpers
from utils import paths
from utils.audio import decoding, dsp
from utils.audio.decoding import parts, sound, streams

RATE = 16000
BAD_INPUTS = paths.ROOT.parent / "shared" / "bad_inputs"


def written(wave, form, subtype, rate=8000, **options):
    """A file by libsndfile."""
    buffer = io.BytesIO()
    sf.write(buffer, wave, rate, format=form, subtype=subtype, **options)
    return buffer.getvalue()


def wav(wave, subtype="PCM_16", rate=8000):
    return written(wave, "WAV", subtype, rate)


def with_size(data, size):
    """A WAV with another size in the header of its samples."""
    at = data.index(b"data") + 4
    return data[:at] + struct.pack("<I", size) + data[at + 4 :]


def muxed(container, tracks, starts=None, attached=None, **options):
    """A file of several streams: (encoder, wave (channels, samples) at 48 kHz), or of pictures.

    Args: `starts` seconds at which each stream sets in; `attached` bytes of another file.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options) as file:
        opened = []
        if attached:
            file.add_attachment("other", "application/octet-stream", attached)
        for encoder, material in tracks:
            if encoder in ("mpeg4", "libvpx"):
                stream = file.add_stream(encoder, rate=5)
                stream.width = stream.height = 32
            else:
                layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[len(material)]
                stream = file.add_stream(encoder, rate=48000, layout=layout)
                stream.bit_rate = 64000
            opened.append(stream)
        for number, (stream, (_, material)) in enumerate(zip(opened, tracks, strict=True)):
            start = (starts or [0] * len(tracks))[number]
            for frame in frames(stream, material, start):
                for packet in stream.encode(frame):
                    file.mux(packet)
    return buffer.getvalue()


def frames(stream, material, start):
    if stream.type == "video":
        for number in range(5 * material):  # seconds of picture
            picture = np.full((32, 32, 3), 3 * number, np.uint8)
            yield av.VideoFrame.from_ndarray(picture, format="rgb24")
    else:
        block = stream.codec_context.frame_size or 1024
        packed = material.T.reshape(1, -1).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=stream.layout.name)
        frame.sample_rate = 48000
        form = stream.codec_context.format or "fltp"
        resampler = av.AudioResampler(form, stream.layout, 48000, frame_size=block)
        position = int(start * 48000)
        for converted in (*resampler.resample(frame), *resampler.resample(None)):
            converted.pts, converted.time_base = position, Fraction(1, 48000)
            position += converted.samples
            yield converted
    yield None


@pytest.fixture
def at_48(speechlike):
    """Two seconds of one channel (1, samples) at 48 kHz."""
    return dsp.resample(speechlike, 8000, 48000)[None]


def decoded(data, name="x", rate=RATE, **options):
    return decoding.decode(data, name, rate, **options)


def seconds_of(recording):
    return recording.channels.shape[1] / recording.rate


def loudness(recording):
    return [dsp.dbfs(channel) for channel in recording.channels]


def test_all_shared_recordings_are_decoded():
    """(seconds, channels) of each file; what a player plays."""
    if not BAD_INPUTS.exists():
        pytest.skip("no ../shared/bad_inputs")
    expected = {
        "chain.opus": (6.0, 1),
        "counts_header.wav": (3.0, 1),
        "eight.m4a": (2.04, 8),
        "espeak_stdout.wav": (1.51, 1),
        "huge_float.wav": (3.0, 1),
        "id3.aac": (3.07, 1),
        "int16_scale_float.wav": (3.0, 1),
        "last_frame_cut.aac": (3.02, 1),
        "late8.webm": (3.0, 1),
        "opposite.wav": (3.0, 2),
        "piece.wav": (3.0, 1),
        "piped.flac": (3.0, 1),
        "sox_pipe.wav": (2.99, 1),
        "two.mp3": (6.0, 1),
        "unfinished.wav": (3.0, 1),
        "zeros_first.mp3": (3.1, 1),
    }
    for name, (seconds, channels) in expected.items():
        recording = decoding.decode(BAD_INPUTS / name, name, RATE)
        assert recording.channels.dtype == np.float32 and recording.rate == RATE, name
        assert seconds_of(recording) == pytest.approx(seconds, abs=0.03), name
        assert len(recording.channels) == channels, name
        assert np.isfinite(recording.channels).all(), name
        assert 0.3 < np.abs(recording.channels).max() < 1.05, name
    assert {path.name for path in BAD_INPUTS.iterdir()} <= {*expected, "README.md"}


PLAIN = [
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAV", "ULAW"),
    ("WAV", "ALAW"),
    ("WAV", "GSM610"),
    ("WAV", "IMA_ADPCM"),
    ("WAV", "MS_ADPCM"),
    ("WAV", "G721_32"),
    ("WAVEX", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AIFF", "ULAW"),
    ("AIFF", "FLOAT"),
    ("AU", "PCM_16"),
    ("AU", "ULAW"),
    ("AU", "G721_32"),
    ("CAF", "PCM_16"),
    ("CAF", "ALAC_16"),
    ("W64", "PCM_16"),
    ("RF64", "PCM_16"),
    ("NIST", "PCM_16"),
    ("NIST", "ULAW"),
    ("VOC", "PCM_16"),
    ("PAF", "PCM_16"),
    ("PVF", "PCM_16"),
    ("SVX", "PCM_16"),
    ("IRCAM", "PCM_16"),
    ("HTK", "PCM_16"),
    ("SDS", "PCM_16"),
    ("AVR", "PCM_16"),
    ("MAT5", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


@pytest.mark.parametrize(("form", "subtype"), PLAIN)
def test_what_libsndfile_writes_is_decoded_without_a_note(speechlike, form, subtype):
    recording = decoded(written(speechlike, form, subtype), rate=8000)
    assert seconds_of(recording) == pytest.approx(2, abs=0.15)
    assert recording.notes == () and not recording.damaged
    wave = recording.channels[0]
    shift = np.argmax(np.correlate(wave[: 4000 + 2000], speechlike[:4000], "valid"))
    correlation = np.corrcoef(wave[shift : shift + 4000], speechlike[:4000])[0, 1]
    assert correlation > 0.8


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ULAW"])
def test_a_wav_of_another_byte_order_is_no_noise(speechlike, subtype):
    data = written(speechlike, "WAV", subtype, endian="BIG")
    recording = decoded(data, rate=8000)
    assert data[:4] == b"RIFX" and not recording.notes
    assert np.abs(recording.channels[0] - speechlike).max() < 0.03


FILMS = [
    ("mp4", "aac"),
    ("mov", "alac"),
    ("matroska", "flac"),
    ("webm", "libopus"),
    ("avi", "libmp3lame"),
    ("mpegts", "aac"),
    ("flv", "aac"),
    ("mpeg", "mp2"),
    ("asf", "wmav2"),
    ("ogg", "libopus"),
    ("adts", "aac"),
    ("ac3", "ac3"),
    ("caf", "pcm_s16be"),
    ("wav", "pcm_s24le"),
    ("aiff", "pcm_f32be"),
]


@pytest.mark.parametrize(("container", "encoder"), FILMS)
def test_what_ffmpeg_writes_is_decoded_without_a_note(at_48, container, encoder):
    recording = decoded(muxed(container, [(encoder, at_48)]))
    assert seconds_of(recording) == pytest.approx(2, abs=0.12)
    assert recording.notes == () and not recording.damaged
    assert loudness(recording)[0] == pytest.approx(dsp.dbfs(at_48[0]), abs=2)


SIZES = [0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF - 36, 0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bits", ["PCM_16", "FLOAT", "ULAW"])
def test_the_size_in_a_wav_that_went_through_a_pipe_is_not_believed(speechlike, size, bits):
    recording = decoded(with_size(wav(speechlike, bits), size), rate=8000)
    assert seconds_of(recording) == pytest.approx(2, abs=0.001)
    assert bool(recording.notes) == recording.damaged == (size == 0)


def test_a_wav_that_is_cut_tells_how_much_is_there(speechlike):
    data = wav(speechlike)
    assert decoded(data[: 44 + 16000]).notes == ("1.0 of 2.0 s decoded",)
    large = written(speechlike, "RF64", "PCM_16")
    assert decoded(large[:-16000]).notes == ("1.0 of 2.0 s decoded",)
    assert decoded(data[:-44]).notes == ()  # less than anybody hears
    assert seconds_of(decoded(data[:-1])) == pytest.approx(2, abs=0.001)


def test_what_stands_around_the_samples_of_a_wav_does_no_harm(speechlike):
    data = wav(speechlike)
    odd = b"LIST\x03\0\0\0abc\0"
    bext = b"bext" + struct.pack("<I", 70000) + bytes(70000)
    id3 = b"ID3\x04\0\0\0\0\x02\0" + bytes(256)
    for changed in (data + odd, data[:12] + odd + bext + data[12:], data + bytes(5000), id3 + data):
        recording = decoded(changed, rate=8000)
        assert seconds_of(recording) == pytest.approx(2, abs=0.02) and not recording.notes
        wave = recording.channels[0]
        assert np.abs(wave - speechlike[: len(wave)]).max() < 1e-4


def tagged(data, kind):
    ape = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0x80000000) + bytes(8)
    before = {
        "ID3": b"ID3\x04\0\0\0\0\x08\0" + bytes(1024),
        "two ID3": (b"ID3\x03\0\0\0\0\x01\0" + bytes(128)) * 2,
        "zeros": bytes(500),
        "more zeros": bytes(50_000),
    }
    after = {"ID3v1": b"TAG" + bytes(125), "APE": ape, "zeros behind": bytes(5000)}
    return before.get(kind, b"") + data + after.get(kind, b"")


TAGS = ["ID3", "two ID3", "zeros", "more zeros", "ID3v1", "APE", "zeros behind"]


@pytest.mark.parametrize("kind", TAGS)
@pytest.mark.parametrize("form", ["mp3", "adts", "flac"])
def test_tags_and_zeros_around_a_stream_do_no_harm(at_48, kind, form):
    encoder = {"mp3": "libmp3lame", "adts": "aac", "flac": "flac"}[form]
    recording = decoded(tagged(muxed(form, [(encoder, at_48)]), kind))
    assert seconds_of(recording) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("form", ["mp3", "adts", "flac", "mpegts", "ogg", "webm", "matroska"])
def test_a_stream_that_starts_or_ends_in_the_middle_is_heard(at_48, form):
    """Whoever cuts a capture or a download cuts through a frame."""
    encoder = {"mp3": "libmp3lame", "flac": "flac", "ogg": "libopus", "webm": "libopus"}
    data = muxed(form, [(encoder.get(form, "aac"), at_48)])
    assert 0.9 < seconds_of(decoded(data[: int(0.7 * len(data))])) < 1.6
    if form in ("mp3", "adts", "mpegts"):
        assert 1.0 < seconds_of(decoded(data[int(0.3 * len(data)) :])) < 1.7


@pytest.mark.parametrize("form", ["mp3", "adts", "flac", "mpegts", "ogg", "matroska"])
def test_what_lies_behind_a_damaged_place_is_heard(at_48, form):
    encoder = {"mp3": "libmp3lame", "flac": "flac", "ogg": "libopus"}.get(form, "aac")
    data = bytearray(muxed(form, [(encoder, np.tile(at_48, 4))]))
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    assert 6 < seconds_of(decoded(bytes(data))) < 8.5


def test_a_truncated_container_tells_how_much_is_there(tmp_path, speechlike):
    path = tmp_path / "index_first.m4a"
    helpers.encode(str(path), np.tile(speechlike, 5), "mp4", "aac", 16000, movflags="faststart")
    whole = path.read_bytes()
    recording = decoded(whole[: len(whole) // 2])
    (note,) = (note for note in recording.notes if "decoded" in note)
    assert note.endswith("of 10.1 s decoded") and recording.damaged
    assert 3 < seconds_of(recording) < 7
    assert float(note.split()[0]) == pytest.approx(seconds_of(recording), abs=0.06)


def test_nobody_knows_the_length_of_an_mp4_that_is_torn_inside_of_a_fragment(at_48):
    options = {"movflags": "frag_keyframe+empty_moov", "frag_duration": "1000000"}
    data = muxed("mp4", [("aac", np.tile(at_48, 4))], **options)
    whole = decoded(data)
    assert whole.notes == () and seconds_of(whole) == pytest.approx(8, abs=0.2)
    for share in (0.3, 0.55, 0.8):
        recording = decoded(data[: int(share * len(data))])
        assert recording.notes == ("its last packet is torn",) and recording.damaged


def test_an_mp4_without_its_index_is_refused_with_the_true_reason(at_48):
    whole = muxed("mp4", [("aac", at_48)])
    with pytest.raises(dsp.AudioError, match=r"x: .*moov atom not found") as refused:
        decoded(whole[: len(whole) // 2])
    assert not isinstance(refused.value, decoding.NotAudio)


JOINED = [
    ("WAV", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("CAF", "PCM_16"),
    ("W64", "PCM_16"),
]


@pytest.mark.parametrize(("form", "subtype"), JOINED)
def test_joined_files_are_heard_to_the_end_also_if_rate_and_channels_change(
    speechlike, form, subtype
):
    high = dsp.resample(speechlike, 8000, 24000)
    one = written(speechlike, form, subtype, 8000)
    two = written(np.stack([high, high / 2], axis=1), form, subtype, 24000)
    for data, channels in ((one + one, 1), (one + two, 2), (two + one + one, 2)):
        recording = decoded(data, rate=8000)
        count = 3 if len(data) > len(one) + len(two) else 2
        assert seconds_of(recording) == pytest.approx(2 * count, abs=0.5)
        assert len(recording.channels) == channels
        assert any("joined" in note for note in recording.notes) and not recording.damaged
        last = recording.channels[:, -12000:-4000]
        if channels == 2 and data.startswith(one):  # the second file as it is
            assert dsp.dbfs(last[0]) - dsp.dbfs(last[1]) == pytest.approx(6, abs=1)
        elif channels == 2:  # mono is on both channels
            assert dsp.dbfs(last[0]) == pytest.approx(dsp.dbfs(last[1]), abs=0.1)


@pytest.mark.parametrize(
    ("form", "encoder"),
    [("mp4", "aac"), ("webm", "libopus"), ("adts", "aac"), ("mpegts", "aac"), ("ogg", "libopus")],
)
def test_joined_films_and_voice_messages_are_heard_to_the_end(at_48, form, encoder):
    one, two = (muxed(form, [(encoder, np.tile(at_48, (n, 1)))]) for n in (1, 2))
    recording = decoded(one + two)
    assert seconds_of(recording) == pytest.approx(4, abs=0.3) and len(recording.channels) == 2


def test_joined_amr_and_many_ogg_parts_are_heard(speechlike):
    amr = helpers.encoded(speechlike, "amr", "libopencore_amrnb", 8000)
    assert seconds_of(decoded(amr * 3)) == pytest.approx(6, abs=0.2)
    opus = written(speechlike, "OGG", "OPUS", 8000)
    recording = decoded(opus * 20)
    assert seconds_of(recording) == pytest.approx(40, abs=1)
    assert "20 recordings joined" in recording.notes


def test_a_joined_part_that_is_broken_is_noted(speechlike):
    good = wav(speechlike)
    broken = good[:20] + b"\x44\x44" + good[22:]  # an unknown codec
    recording = decoded(good + broken + good)
    assert seconds_of(recording) == pytest.approx(4, abs=0.01) and recording.damaged
    assert f"{len(broken)} bytes of it cannot be decoded" in recording.notes


@pytest.mark.parametrize("container", ["matroska", "webm", "mp4", "mpegts"])
def test_sound_that_sets_in_late_in_a_film_is_all_there_without_silence(at_48, container):
    video = "libvpx" if container == "webm" else "mpeg4"
    audio = "libopus" if container == "webm" else "aac"
    data = muxed(container, [(video, 14), (audio, at_48)], starts=[0, 8])
    recording = decoded(data)
    assert seconds_of(recording) == pytest.approx(2, abs=0.1) and recording.notes == ()


def test_a_gap_in_the_time_line_is_noted_and_not_filled(at_48):
    data = muxed("matroska", [("libopus", np.tile(at_48, 3))])
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(buffer, "w", format="matroska") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.pts is not None and not 2000 <= packet.pts < 4000:
                packet.stream = stream
                target.mux(packet)
    recording = decoded(buffer.getvalue())
    assert seconds_of(recording) == pytest.approx(4, abs=0.1)
    assert recording.notes == ("gaps of 2.0 s in its time line",)


def test_of_several_streams_the_first_with_sound_is_heard(at_48):
    silent, second = np.zeros_like(at_48), 0.1 * at_48
    tracks = [("libopus", silent), ("libopus", second), ("libopus", at_48)]
    recording = decoded(muxed("matroska", tracks))
    assert loudness(recording)[0] == pytest.approx(dsp.dbfs(second[0]), abs=1)
    assert recording.notes == ("3 audio streams: number 2 is heard",)
    assert loudness(decoded(muxed("matroska", tracks[:1])))[0] < -90


def test_eight_and_more_channels_are_decoded_each(at_48):
    gains = np.float32(1 / 2 ** np.arange(8))[:, None]
    for container, encoder in (("mp4", "aac"), ("matroska", "flac"), ("wav", "pcm_s16le")):
        recording = decoded(muxed(container, [(encoder, gains * at_48)]))
        assert len(recording.channels) == 8 and seconds_of(recording) == pytest.approx(2, abs=0.1)
        if encoder != "aac":
            falls = -np.diff(loudness(recording))
            assert np.allclose(falls[:5], 6, atol=0.5)
    for count in (9, 16, 64, 100):
        many = wav(np.tile(at_48[0][:9600, None], (1, count)), rate=48000)
        assert decoded(many).channels.shape == (count, 3200)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_samples_beyond_full_scale_are_rescaled(speechlike, subtype):
    unit = speechlike / np.abs(speechlike).max()
    for peak in (1.5, 32767, 1e20, 3e38, 1e200):
        if peak > 4e38 and subtype == "FLOAT":
            continue
        data = wav(np.float64(unit) * peak, subtype)
        recording = decoded(data, rate=8000)
        assert np.abs(recording.channels[0] - unit).max() < 1e-5
        assert bool(recording.notes) == (peak > 2) and not recording.damaged
        assert np.isfinite(decoded(data, rate=16000).channels).all()
    assert decoded(wav(32767 * unit, subtype), rate=8000).notes == ("peak 32767: rescaled",)
    as_it_is = decoded(wav(100 * unit, subtype), rate=8000, rescale=False)
    assert np.abs(as_it_is.channels).max() == pytest.approx(100)


def test_a_few_broken_samples_do_not_silence_the_others(speechlike):
    wave = np.float64(speechlike)
    wave[[100, 5000]] = 1e20, -3
    for rate in (8000, 16000):
        recording = decoded(wav(wave, "FLOAT"), rate=rate)
        assert recording.notes == ("2 samples are beyond full scale, up to 1e+20: clipped",)
        assert loudness(recording)[0] == pytest.approx(dsp.dbfs(speechlike), abs=0.5)


def test_samples_that_are_no_numbers_are_noted(speechlike):
    wave = speechlike.copy()
    wave[100:112] = np.nan
    recording = decoded(wav(wave, "FLOAT"), rate=8000)
    assert recording.notes == ("12 samples are NaN or infinite: taken as silence",)
    assert recording.damaged and (recording.channels[0][100:112] == 0).all()
    wave[[200, 300, 301]] = np.inf
    recording = decoded(wav(wave, "FLOAT"), rate=8000)
    assert recording.notes == (
        "15 samples are NaN or infinite: interpolated, if only a few in a row",
    )
    error = recording.channels[0][[200, 300, 301]] - speechlike[[200, 300, 301]]
    assert np.abs(error).max() < 0.2 * np.abs(speechlike).max()
    assert recording.damaged and (recording.channels[0][100:112] == 0).all()
    with pytest.raises(dsp.AudioError, match="x: 800 samples are NaN or infinite"):
        decoded(wav(np.full(800, np.nan), "FLOAT"))


@pytest.mark.parametrize("every", [8, 20, 100])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_single_samples_that_are_no_numbers_are_drawn_as_those_around_them_tell(every, subtype):
    """A line between two samples of hiss is as wrong as silence."""
    noise = np.random.default_rng(10).standard_normal(8000)
    whole = 0.05 * np.convolve(noise, [1, -1.6, 0.9], "valid")
    whole /= np.abs(whole).max()
    filtered = dsp.resample(np.float32(whole), 8000, 12000)[:8000]  # nothing above 4 of 6 kHz
    for scale in (1, 1e-3, 1e4):
        wave = filtered * scale
        wave[every // 2 :: every] = np.nan
        found = decoded(wav(wave, subtype, 12000), rate=12000, rescale=False).channels[0] / scale
        missing = np.isnan(wave)
        error, power = (found - filtered)[missing].std(), filtered[missing].std()
        assert error < 0.4 * power
        assert np.abs(found - filtered)[~missing].max() < 1e-6


def test_opposite_channels_stay_apart(speechlike):
    recording = decoded(wav(np.stack([speechlike, -speechlike], axis=1)), rate=8000)
    assert np.abs(recording.channels - [speechlike, -speechlike]).max() < 1e-4


NO_SOUND = [
    b"",
    b"\0",
    bytes(5000),
    b"only words\n" * 50,
    b"<!doctype html><html><body>404</body></html>",
    b"\x89PNG\r\n\x1a\n" + bytes(300),
    b"GIF89a" + bytes(100),
    b"%PDF-1.7\n" + b"stream\n" * 90,
    b"PK\3\4" + bytes(200),
    b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
    b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    b"1\n00:00:01,000 --> 00:00:02,000\nsubtitle\n\n" * 5,
]


@pytest.mark.parametrize("data", NO_SOUND)
def test_what_holds_no_sound_is_told_from_broken_sound(data):
    with pytest.raises(decoding.NotAudio, match="^x.mp3: "):
        decoded(data, "x.mp3")


def test_a_film_without_sound_holds_none():
    with pytest.raises(decoding.NotAudio, match="it holds no sound that anything knows"):
        decoded(muxed("mp4", [("mpeg4", 2)]))


def test_a_playlist_opens_no_other_file(tmp_path, speechlike):
    (tmp_path / "a.wav").write_bytes(wav(speechlike))
    lists = {
        "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.wav\n#EXT-X-ENDLIST\n",
        "a.ffconcat": "ffconcat version 1.0\nfile a.wav\n",
        "a.sdp": "v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
        "a.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(decoding.NotAudio):
            decoding.decode(tmp_path / name, name)


HEADERS = [(22, "<H", 0), (24, "<I", 0), (24, "<I", 1), (24, "<I", 2**31), (34, "<H", 0)]


@pytest.mark.parametrize(("at", "form", "value"), HEADERS)
def test_a_header_without_channels_or_rate_is_refused_by_name(speechlike, at, form, value):
    data = bytearray(wav(speechlike))
    struct.pack_into(form, data, at, value)
    with pytest.raises(dsp.AudioError, match="^x: "):
        decoded(bytes(data))


@pytest.mark.parametrize("name", ["a.ul", "a.al", "a.sln", "a.gsm", "a.g722"])
def test_sound_without_a_header_is_told_by_its_suffix(speechlike, name):
    rate = 16000 if name == "a.g722" else 8000
    form, encoder, subtype = {
        "a.ul": ("mulaw", "pcm_mulaw", "ULAW"),
        "a.al": ("alaw", "pcm_alaw", "ALAW"),
        "a.sln": ("s16le", "pcm_s16le", "PCM_16"),
        "a.g722": ("g722", "g722", None),
        "a.gsm": ("gsm", None, "GSM610"),
    }[name]
    if encoder:
        data = helpers.encoded(speechlike, form, encoder, rate)
    else:
        data = written(speechlike, "RAW", subtype, 8000)
    assert seconds_of(decoded(data, name)) == pytest.approx(2, abs=0.05)
    if name != "a.gsm":  # which FFmpeg knows by its frames
        with pytest.raises(dsp.AudioError):
            decoded(data, "a.bin")


def test_limits_are_those_of_one_recording(speechlike, tmp_path, monkeypatch):
    data = wav(speechlike)
    with pytest.raises(dsp.AudioError, match="x: longer than 3 s: cut it into parts"):
        decoded(data * 2, longest_s=3)
    assert seconds_of(decoded(data, longest_s=2)) == 2
    monkeypatch.setattr(sound, "LONGEST_S", 2)  # of one channel; four may be as long
    many = wav(np.tile(speechlike[:, None], (1, 5)))
    with pytest.raises(dsp.AudioError, match="longer than"):
        decoded(many)
    monkeypatch.setattr(parts, "LARGEST_BYTES", 2000)
    (tmp_path / "large.wav").write_bytes(data)
    with pytest.raises(dsp.AudioError, match="large.wav: 0.0 GB are too large"):
        decoding.decode(tmp_path / "large.wav", "large.wav")


def test_blocks_of_any_size_and_memory_maps_give_the_same(speechlike, monkeypatch):
    stereo = np.stack([speechlike, speechlike[::-1]], axis=1)
    for data in (
        written(stereo, "FLAC", "PCM_16", 44100),
        written(stereo, "OGG", "VORBIS", 44100) + written(speechlike, "OGG", "VORBIS", 22050),
    ):
        with monkeypatch.context() as small:
            expected = decoded(data)
            small.setattr(streams, "BLOCK_SAMPLES", 700)
            small.setattr(sound, "BLOCK_SAMPLES", 900)
            small.setattr(sound, "MAPPED_SAMPLES", 100)
            small.setattr(parts, "SCAN_BYTES", 300)
            mapped = decoded(data)
        assert isinstance(mapped.channels, np.memmap)
        assert np.array_equal(mapped.channels, expected.channels)
        assert mapped.notes == expected.notes


def test_the_rate_of_the_beginning_is_kept_if_none_is_asked_for(speechlike):
    data = written(speechlike, "FLAC", "PCM_16", 22050)
    recording = decoding.decode(data, "x")
    assert recording.rate == 22050 and recording.channels.shape == (1, len(speechlike))


def test_nothing_is_printed_by_the_libraries(speechlike, capfd):
    for data in (wav(speechlike)[:3000], b"words", muxed("mp4", [("mpeg4", 1)])):
        with contextlib.suppress(dsp.AudioError):
            decoded(data)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("a.WAV", True),
        ("a.oga", True),
        ("a.3gpp", True),
        ("a.gsm", True),
        ("a.txt", False),
        ("a", False),
    ],
)
def test_which_suffixes_claim_sound(tmp_path, name, claims):
    assert decoding.claims_sound(tmp_path / name) == claims


def replaced(data, at, new):
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize("size", [bytes(8), b"\xff" * 8])
def test_large_files_that_went_through_a_pipe_are_heard(speechlike, size):
    rf64, w64 = (written(speechlike, form, "PCM_16") for form in ("RF64", "W64"))
    ds64, data = rf64.index(b"ds64") + 8, w64.index(b"data") + 16
    piped = [replaced(rf64, ds64, 3 * size), b"BW64" + replaced(rf64, ds64, 3 * size)[4:]]
    piped += [replaced(w64, 16, size)]
    piped += [replaced(w64, data, struct.pack("<Q", 2**63 - 1)), replaced(w64, data, b"\xff" * 8)]
    for changed in piped:
        recording = decoded(changed, rate=8000)
        assert seconds_of(recording) == pytest.approx(2, abs=0.01) and recording.notes == ()
        assert np.abs(recording.channels[0][:16000] - speechlike).max() < 1e-4


def test_au_and_caf_of_unknown_length_are_heard(speechlike):
    au, caf = (written(speechlike, form, "PCM_16") for form in ("AU", "CAF"))
    for data in (
        replaced(au, 8, bytes(4)),
        replaced(au, 8, b"\xff" * 4),
        replaced(caf, caf.index(b"data") + 4, b"\xff" * 8),
    ):
        recording = decoded(data, rate=8000)
        assert seconds_of(recording) == pytest.approx(2, abs=0.01) and recording.notes == ()


@pytest.mark.parametrize("form", ["W64", "CAF", "RF64"])
def test_how_much_is_missing_is_told_for_every_uncompressed_format(speechlike, form):
    data = written(speechlike, form, "PCM_16")
    assert decoded(data[:-16000]).notes == ("1.0 of 2.0 s decoded",)


def test_a_track_of_flash_is_one_stream_wherever_its_format_seems_to_change(at_48):
    data = muxed("flv", [("libmp3lame", np.tile(at_48, 2))])
    tags = [match.start() for match in re.finditer(rb"\x08\0.{5}\0{4}(?=\x2e)", data, re.DOTALL)]
    for changed in (tags[40:41], tags[40:]):
        odd = bytearray(data)
        for tag in changed:
            odd[tag + 11] = 0x2C  # 8 bits, of which MP3 knows nothing
        recording = decoded(bytes(odd))
        assert seconds_of(recording) == pytest.approx(4, abs=0.1) and recording.notes == ()


def test_a_little_that_is_missing_is_told_in_hundredths(speechlike):
    data = wav(speechlike)
    assert decoded(with_size(data, 32000 + 800)).notes == ("2.00 of 2.05 s decoded",)


def test_sound_behind_that_of_the_header_is_told(speechlike):
    """A recorder that was killed had written a length before; players stop there."""
    data = wav(speechlike)
    for changed, bytes_ in ((with_size(data, 16000), 16000), (data + data[36:], 32008)):
        assert decoded(changed).notes == (f"{bytes_} bytes behind its sound are not heard",)
    assert decoded(data + b"LIST\x08\0\0\0INFOabcd" + bytes(9000)).notes == ()


def extensible(wave, valid):
    """A WAV with integers of `valid` bits in 32."""
    samples = (np.round(wave * 2 ** (valid - 1)).astype("<i4") << (32 - valid)).tobytes()
    guid = b"\1\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    head = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 8000, 32000, 4, 32, 22, valid, 4) + guid
    chunks = b"fmt " + struct.pack("<I", 40) + head + b"data" + struct.pack("<I", len(samples))
    size = struct.pack("<I", 4 + len(chunks) + len(samples))
    return b"RIFF" + size + b"WAVE" + chunks + samples


@pytest.mark.parametrize("valid", [20, 24, 32])
def test_fewer_valid_bits_than_a_sample_takes_are_no_other_format(speechlike, valid):
    data = extensible(speechlike, valid)
    for changed in (data, data[:12] + b"JUNK\x0c\0\0\0" + bytes(12) + data[12:]):
        recording = decoded(changed, rate=8000)
        assert np.abs(recording.channels[0] - speechlike).max() < 1e-4 and not recording.notes


@pytest.mark.parametrize(
    ("form", "subtype", "options"),
    [
        ("WAV", "PCM_16", {"endian": "BIG"}),
        ("RF64", "PCM_16", {}),
        ("NIST", "PCM_16", {}),
        ("VOC", "PCM_16", {}),
    ],
)
def test_rarer_files_that_were_joined_are_heard(speechlike, form, subtype, options):
    data = written(speechlike, form, subtype, **options)
    recording = decoded(data + data, rate=8000)
    assert seconds_of(recording) == pytest.approx(4, abs=0.01)
    assert recording.notes == ("2 recordings joined",)
    assert np.abs(recording.channels[0][-16000:] - speechlike).max() < 1e-4


@pytest.mark.parametrize(("container", "encoder"), [("tta", "tta"), ("avi", "libmp3lame")])
def test_rarer_films_that_were_joined_are_heard(at_48, container, encoder):
    data = muxed(container, [(encoder, at_48)])
    assert seconds_of(decoded(data + data)) == pytest.approx(4, abs=0.2)


def test_a_large_id3_tag_is_left_out_whatever_follows(speechlike, at_48):
    rubbish = np.random.default_rng(2).bytes(300_000)  # a picture
    large = b"ID3\x03\0\0\0\x12\x27\x60" + rubbish
    footed = b"ID3\x04\0\x10\0\x12\x27\x60" + rubbish + b"3DI\x04\0\x10\0\x12\x27\x60"
    adts, m4a = muxed("adts", [("aac", at_48)]), muxed("mp4", [("aac", at_48)])
    mp3 = written(speechlike, "MP3", "MPEG_LAYER_III")
    for data in (wav(speechlike), written(speechlike, "OGG", "VORBIS"), adts, m4a, mp3):
        for tag in (large, footed):
            recording = decoded(tag + data)
            assert seconds_of(recording) == pytest.approx(2, abs=0.15) and not recording.notes
    lying = b"ID3\x03\0\0\0\x7f\x7f\x7f" + bytes(200) + mp3
    assert seconds_of(decoded(lying)) == pytest.approx(2, abs=0.25)


def test_what_a_server_says_before_a_file_is_left_out(kinds):
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: audio/x-wav\r\nContent-Length: 123\r\n\r\n"
    for kind, data in kinds.items():
        for head in (answer, b"ICY 200 OK\r\nicy-name: radio\r\n\r\n"):
            recording = decoded(head + data)
            assert np.array_equal(recording.channels, decoded(data).channels), kind
            assert recording.notes == (), kind
    for said in (answer, answer + b"<!doctype html><html><body>404</body></html>"):
        with pytest.raises(decoding.NotAudio):
            decoded(said)


@pytest.mark.parametrize("zeros", [1, 3, 15, 16, 3000])
def test_zeros_before_any_file_are_left_out(speechlike, at_48, zeros):
    for data in (wav(speechlike), muxed("mp4", [("aac", at_48)]), muxed("mpeg", [("mp2", at_48)])):
        assert seconds_of(decoded(bytes(zeros) + data)) == pytest.approx(2, abs=0.12)


def test_a_channel_of_nan_costs_that_channel_alone(speechlike):
    data = wav(np.stack([speechlike, speechlike * np.nan], axis=1), "FLOAT")
    recording = decoded(data, rate=8000)
    assert recording.notes == ("16000 samples are NaN or infinite: taken as silence",)
    assert np.abs(recording.channels[0] - speechlike).max() < 1e-6
    assert not recording.channels[1].any()


def test_a_few_numbers_among_nan_are_no_recording(speechlike):
    wave = np.where(np.arange(16000) < 1500, speechlike, np.nan)
    with pytest.raises(dsp.AudioError, match="x: 14500 samples are NaN or infinite"):
        decoded(wav(wave, "FLOAT"))


@pytest.mark.parametrize("offset", [0.006, 0.3, -0.5, 100])
def test_a_constant_offset_is_no_sound(speechlike, offset):
    expected = decoded(wav(speechlike - speechlike.mean(), "FLOAT")).channels[0]
    data = wav(np.stack([speechlike + offset, speechlike], axis=1), "FLOAT")
    for joined in (data, data + data):
        recording = decoded(joined)
        assert ("a constant offset: removed" in recording.notes) == (abs(offset) > 0.1)
        assert not recording.damaged
        found = recording.channels[0][: len(expected)]
        assert np.abs(found - expected)[:-200].max() < 1e-4
    untouched = decoded(wav(speechlike + 0.3, "FLOAT"), rescale=False)
    assert untouched.channels.mean() == pytest.approx(0.3, abs=0.01) and not untouched.notes
    silent = wav(np.stack([0 * speechlike + 0.3, speechlike], axis=1), "FLOAT")
    assert loudness(decoded(silent))[0] < -100


def test_the_second_stream_may_have_an_offset(at_48):
    tracks = [("flac", np.zeros_like(at_48)), ("flac", at_48 + np.float32(0.3))]
    recording = decoded(muxed("matroska", tracks))
    assert recording.notes[:2] == (
        "2 audio streams: number 2 is heard",
        "a constant offset: removed",
    )
    assert loudness(recording)[0] == pytest.approx(dsp.dbfs(at_48[0]), abs=0.1)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floating_point_is_as_exact_at_any_level(speechlike, subtype):
    unit = speechlike / np.abs(speechlike).max()
    for peak in (1e-4, 1e-5, 1e-6, 2.5e-7):
        recording = decoded(wav(peak * np.float64(unit), subtype), rate=8000)
        assert np.abs(recording.channels[0] - unit).max() < 1e-5
        assert recording.notes == (f"peak {peak:g}: rescaled",) and not recording.damaged
    silent = decoded(wav(0 * unit, subtype))
    assert not silent.channels.any() and silent.notes == ()
    assert loudness(decoded(wav(1e-4 * unit, "PCM_24")))[0] < -80  # noise of a few bits


def test_a_few_doubles_of_any_size_do_not_silence_the_others(speechlike):
    wave = np.float64(speechlike)
    wave[[100, 5000]] = 1e300, -1e200
    recording = decoded(wav(wave, "DOUBLE"), rate=8000)
    assert recording.notes == ("2 samples are beyond full scale, up to 1e+300: clipped",)
    assert loudness(recording)[0] == pytest.approx(dsp.dbfs(speechlike), abs=0.5)


def with_id3(data):
    return b"ID3\x03\0\0\0\0\x01\0" + bytes(128) + data


@pytest.fixture
def kinds(speechlike, at_48):
    """Two seconds in files of several kinds, by name."""
    mp3 = written(speechlike, "MP3", "MPEG_LAYER_III", 48000)
    return {
        "wav": wav(speechlike),
        "flac": written(speechlike, "FLAC", "PCM_16"),
        "opus": written(speechlike, "OGG", "OPUS"),
        "flac in ogg": muxed("ogg", [("flac", at_48)]),
        "flac in matroska": muxed("matroska", [("flac", at_48)]),
        "mp4": muxed("mp4", [("aac", at_48)]),
        "wavpack": muxed("wv", [("wavpack", at_48)]),
        "mpegts": muxed("mpegts", [("aac", at_48)]),
        "adts": muxed("adts", [("aac", at_48)]),
        "mp3": muxed("mp3", [("libmp3lame", at_48)], id3v2_version="0"),
        "mp3 with a tag": with_id3(mp3) if mp3[:3] != b"ID3" else mp3,
    }


NAMES = "wav,flac,opus,flac in ogg,flac in matroska,mp4,wavpack,mpegts,adts,mp3,mp3 with a tag"


@pytest.mark.parametrize("first", NAMES.split(","))
def test_joined_files_of_different_kinds_are_heard_to_the_end(kinds, first):
    alone = {name: decoded(data) for name, data in kinds.items()}
    assert not any(recording.notes for recording in alone.values())
    for second, data in kinds.items():
        recording = decoded(kinds[first] + data)
        expected = seconds_of(alone[first]) + seconds_of(alone[second])
        assert seconds_of(recording) == pytest.approx(expected, abs=0.15), second
        assert not recording.damaged, (second, recording.notes)
        if first != second:
            assert any("joined" in note for note in recording.notes), second


@pytest.mark.parametrize("first", ["au", "nist", "amr"])
def test_frames_that_were_joined_to_a_file_that_ffmpeg_reads_to_the_end_are_heard(
    speechlike, at_48, first
):
    data = {
        "au": written(speechlike, "AU", "PCM_16"),
        "nist": written(np.stack([speechlike] * 2, axis=1), "NIST", "PCM_16"),
        "amr": helpers.encoded(speechlike, "amr", "libopencore_amrnb", 8000),
    }[first]
    alone = decoded(data)
    mp3 = muxed("mp3", [("libmp3lame", at_48)], id3v2_version="0", write_xing="0")
    for frames in (mp3, muxed("adts", [("aac", at_48)]), muxed("ac3", [("ac3", at_48)])):
        recording = decoded(data + frames, "a.au")
        expected = seconds_of(alone) + seconds_of(decoded(frames))
        assert seconds_of(recording) == pytest.approx(expected, abs=0.05)
        assert recording.notes[0] == "2 recordings joined" and not recording.damaged
        assert loudness(recording)[0] == pytest.approx(loudness(alone)[0], abs=2)


@pytest.mark.parametrize(
    "head", [b".snd", b".snd\xff\xff\xff\xff\xff\xff", b"NIST_1A\n   x\n", b"#!AMR\n"]
)
def test_the_head_of_a_file_alone_is_refused(head):
    with pytest.raises(dsp.AudioError):
        decoded(head)


def test_what_lies_inside_a_file_of_another_kind_is_not_taken_for_a_joined_one(speechlike):
    archive = b"PK\3\4" + bytes(600) + wav(speechlike)
    with pytest.raises(decoding.NotAudio):
        decoded(archive)


def test_files_that_are_attached_to_matroska_are_not_heard(speechlike, at_48, kinds):
    attached = {name: kinds[name] for name in ("wav", "flac", "opus", "mp3 with a tag")}
    for data in attached.values():
        recording = decoded(muxed("matroska", [("libopus", np.tile(at_48, 2))], attached=data))
        assert seconds_of(recording) == pytest.approx(4, abs=0.1) and recording.notes == ()


def test_other_streams_of_a_film_are_no_joined_sound(at_48):
    silent = np.zeros_like(at_48)
    recording = decoded(muxed("mpegts", [("aac", silent), ("aac", np.tile(at_48, 2))]))
    assert seconds_of(recording) == pytest.approx(4, abs=0.1)
    assert recording.notes == ("2 audio streams: number 2 is heard",)


@pytest.mark.parametrize("kind", ["mp3", "adts", "wav"])
def test_a_large_tag_at_the_end_gives_no_note(kinds, kind):
    picture = np.random.default_rng(4).bytes(300_000)
    item = struct.pack("<II", len(picture), 2) + b"Cover Art (Front)\0" + picture
    counts = struct.pack("<III", 2000, 32 + len(item), 1)
    head, foot = (
        b"APETAGEX" + counts + struct.pack("<I", flags) + bytes(8)
        for flags in (0xA0000000, 0x80000000)
    )
    recording = decoded(kinds[kind] + head + item + foot + b"TAG" + bytes(125))
    assert seconds_of(recording) == pytest.approx(2, abs=0.1) and recording.notes == ()


def test_short_gaps_in_flac_add_up(speechlike):
    data = bytearray(written(np.tile(speechlike, 4), "FLAC", "PCM_16"))
    for place in np.linspace(5000, len(data) - 9000, 6).astype(int):  # each costs a frame
        data[place : place + 4] = bytes(4)
    recording = decoded(bytes(data))
    assert recording.notes[0].endswith(" of 8.0 s decoded") and recording.damaged


def xing(data, frames, size):
    """An MP3 whose first frame says so many times its frames and bytes."""
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    told = struct.unpack(">II", data[at : at + 8])
    return replaced(data, at, struct.pack(">II", int(told[0] * frames), int(told[1] * size)))


def test_a_first_frame_of_mp3_that_lies_gives_no_false_note(at_48):
    data = muxed("mp3", [("libmp3lame", np.tile(at_48, 3))])
    for frames, size in ((1, 1), (2, 1), (100, 1), (0.5, 1), (1, 2), (1, 0.5), (0, 0)):
        recording = decoded(xing(data, frames, size))
        assert seconds_of(recording) == pytest.approx(6, abs=0.1)
        assert recording.notes == () and not recording.damaged, (frames, size)
    cut = decoded(data[: len(data) // 2])
    assert cut.notes[0].endswith(" of 6.0 s decoded") and cut.damaged
    assert "joined" in decoded(data + data).notes[0]


def vbri(data, frames, size):
    """An MP3 with such a first frame: numbers of frames and of bytes."""
    at = data.index(b"\xff\xfb")
    head = b"VBRI" + struct.pack(">HHHIIHHHH", 1, 0, 75, size, frames, 1, 1, 1, 1)
    return replaced(data, at + 4, bytes(32) + head.ljust(80, b"\0"))


def test_a_vbri_frame_is_believed_only_if_bytes_are_missing(at_48):
    data = muxed("mp3", [("libmp3lame", np.tile(at_48, 3))])
    true = vbri(data, 251, len(data))
    assert decoded(true).notes == decoded(vbri(data, 502, len(data))).notes == ()
    assert decoded(true[: len(data) // 2]).notes[0].endswith(" of 6.0 s decoded")


def test_an_avi_that_went_through_a_pipe_misses_nothing(at_48):
    data = muxed("avi", [("libmp3lame", at_48)])
    at = data.index(b"strh") + 8 + 32  # the length of the stream, in frames
    piped = replaced(replaced(data, at, struct.pack("<I", 10**5)), 4, b"\xff" * 4)
    assert seconds_of(decoded(piped)) == pytest.approx(2, abs=0.1) and not decoded(piped).notes


def test_realmedia_that_went_through_a_pipe_misses_nothing(at_48):
    data = muxed("rm", [("ac3", at_48)])
    properties = data.index(b"PROP") + 10
    length = struct.unpack(">I", data[properties + 20 : properties + 24])
    assert length[0] == pytest.approx(2000, abs=100)
    piped = data.replace(struct.pack(">I", *length), struct.pack(">I", 3_600_000))
    assert seconds_of(decoded(piped)) == pytest.approx(2, abs=0.1)
    assert decoded(piped).notes == decoded(data).notes == ()


HEADERLESS = [
    ("a.sbc", "sbc", "sbc", 16000),
    ("a.dfpwm", "dfpwm", "dfpwm", 48000),
    ("a.pcmu", "mulaw", "pcm_mulaw", 8000),
    ("a.au", "mulaw", "pcm_mulaw", 8000),  # as the first Suns wrote them
    ("a.pcma", "alaw", "pcm_alaw", 8000),
    ("a.sln16", "s16le", "pcm_s16le", 16000),
]


@pytest.mark.parametrize(("name", "form", "encoder", "rate"), HEADERLESS)
def test_more_kinds_without_a_header_are_told_by_their_suffix(
    speechlike, name, form, encoder, rate
):
    data = helpers.encoded(speechlike, form, encoder, rate)
    assert seconds_of(decoded(data, name)) == pytest.approx(2, abs=0.05)
    assert decoded(data, name).notes == ()


def test_g726_without_a_header_is_told_by_its_suffix(speechlike):
    data = written(speechlike, "AU", "G721_32")
    recording = decoded(data[int.from_bytes(data[4:8], "big") :], "a.g726le", rate=8000)
    assert recording.notes == () and seconds_of(recording) == pytest.approx(2, abs=0.05)
    assert np.corrcoef(recording.channels[0][:15000], speechlike[:15000])[0, 1] > 0.9


def test_dialogics_files_are_heard_and_cubes_of_that_suffix_are_not(speechlike):
    data = written(speechlike, "RAW", "VOX_ADPCM")
    recording = decoded(data, "a.vox", rate=8000)
    assert np.corrcoef(recording.channels[0][:16000], speechlike)[0, 1] > 0.9
    with pytest.raises(dsp.AudioError):
        decoded(b"VOX \x96\0\0\0MAIN" + bytes(900), "a.vox")


def test_what_cannot_be_decoded_is_refused_with_the_true_reason(speechlike):
    for mark, codec in ((b"OFR \x0c\0\0\0", "OptimFROG"), (b"\xc0\xde\xc2\1\0\0\0", "Codec 2")):
        with pytest.raises(dsp.AudioError, match=f"{codec}, for which there is no dec") as refused:
            decoded(mark + bytes(900), "a")
        assert not isinstance(refused.value, decoding.NotAudio)
    raw = written(speechlike, "RAW", "PCM_16")
    with pytest.raises(decoding.NotAudio, match="raw samples of a rate that nothing tells"):
        decoded(raw, "a.raw")


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE", "PCM_32"])
def test_dither_and_rounding_are_silence(subtype):
    dither = np.random.default_rng(6).integers(-1, 2, 16000) * 2.0**-23
    for wave in (dither, 1e-2 * dither, 1e-20 * dither):
        recording = decoded(wav(wave, subtype))
        assert loudness(recording)[0] < -130 and recording.notes == ()


def test_a_stream_of_rounding_errors_is_not_the_first_with_sound(at_48):
    tracks = [("pcm_f32le", 1e-8 * at_48), ("pcm_f32le", 1e-5 * at_48)]
    notes = decoded(muxed("matroska", tracks)).notes
    assert notes[0] == "2 audio streams: number 2 is heard" and notes[1].startswith("peak ")


@pytest.mark.parametrize(("rate", "up_to"), [(1000, "500"), (4000, "2,000"), (6000, "3,000")])
def test_a_rate_below_that_of_the_telephone_is_noted(speechlike, rate, up_to):
    slow = wav(dsp.resample(speechlike, 8000, rate), rate=rate)
    note = f"recorded at {rate:,} Hz: it holds nothing above {up_to} Hz"
    assert decoded(slow).notes == (note,) and not decoded(slow).damaged
    assert note in decoded(wav(speechlike) + slow).notes
    for enough in (6800, 7350, 8000):
        data = wav(dsp.resample(speechlike, 8000, enough), rate=enough)
        assert decoded(data).notes == ()
    with pytest.raises(dsp.AudioError, match="x: 999 Hz is no rate of speech"):
        decoded(wav(speechlike, rate=999))


def three_bytes_of_four(samples, channels):
    """A WAV of 24 bits in 4 bytes; ints or floats (samples,), the same in each channel."""
    head = struct.pack("<HHIIHH", 1, channels, 8000, 32000 * channels, 4 * channels, 24)
    chunks = b"fmt " + struct.pack("<I", 16) + head + b"LIST\x04\0\0\0INFO"
    chunks += b"data" + struct.pack("<I", 4 * channels * len(samples))
    return b"RIFF\xff\xff\xff\xffWAVE" + chunks + np.repeat(samples, channels).tobytes()


@pytest.mark.parametrize("channels", [1, 2])
def test_24_bits_at_either_end_of_4_bytes_are_no_floats(speechlike, channels):
    unit = speechlike / np.abs(speechlike).max()
    whole = np.round(unit * (2**23 - 1)).astype("<i4")
    for samples in (whole, whole << 8, (unit * 2**23).astype("<f4")):  # the last is Cool Edit's
        recording = decoded(three_bytes_of_four(samples, channels), rate=8000)
        assert len(recording.channels) == channels and not recording.damaged
        heard = recording.channels[-1] / np.abs(recording.channels).max()
        assert np.abs(heard - unit).max() < 1e-4
    quiet = decoded(three_bytes_of_four(whole // 10, channels), rate=8000)
    assert quiet.notes == ("peak 0.00039063: rescaled",)
    assert loudness(quiet)[0] == pytest.approx(dsp.dbfs(unit), abs=0.1)


def test_an_id3_tag_at_the_end_is_no_sound(kinds):
    picture = b"APIC\0\0\x75\x4e\0\0\0image/png\0\3\0" + np.random.default_rng(7).bytes(30_000)
    size = bytes(len(picture) >> shift & 127 for shift in (21, 14, 7, 0))
    bare = b"ID3\3\0\0" + size + picture
    footed = b"ID3\4\0\x10" + size + picture + b"3DI\4\0\x10" + size
    for kind in ("mp3", "adts", "wav", "flac", "opus"):
        alone = decoded(kinds[kind])
        for end in (bare, footed, footed + b"TAG" + bytes(125)):
            recording = decoded(kinds[kind] + end)
            assert seconds_of(recording) == seconds_of(alone) and recording.notes == (), kind
    twice = decoded(kinds["mp3"] + bare + kinds["mp3"] + bare)
    assert seconds_of(twice) == pytest.approx(4, abs=0.2) and not twice.damaged


@pytest.mark.parametrize("encoder", ["libmp3lame", "ac3", "pcm_s16le"])
@pytest.mark.parametrize("film", [True, False])
def test_an_avi_tells_what_is_missing_of_its_sound(at_48, encoder, film):
    tracks = [("mpeg4", 8)] * film + [(encoder, np.tile(at_48, 4))]
    data = muxed("avi", tracks)
    whole, (start, end) = decoded(data), (int(part * len(data)) for part in (0.4, 0.6))
    assert whole.notes == ()
    damaged = data[:start] + data[end:], data[:start] + bytes(end - start) + data[end:]
    for changed in (*damaged, data[:end]):
        recording = decoded(changed)
        note = f"{seconds_of(recording):.1f} of {seconds_of(whole):.1f} s decoded"
        assert note in recording.notes and recording.damaged
        assert seconds_of(recording) < 6.6


def moved(data, container, encoder, seconds):
    """A file of one stream whose time line begins later, as that of a capture does."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(buffer, "w", format=container) as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.pts = packet.dts = packet.dts + int(seconds / packet.time_base)
                packet.stream = stream
                target.mux(packet)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("container", "encoder"),
    [
        ("ogg", "libopus"),
        ("asf", "wmav2"),
        ("flv", "aac"),
        ("webm", "libopus"),
        ("matroska", "aac"),
        ("mpegts", "aac"),
        ("nut", "aac"),
    ],
)
@pytest.mark.parametrize("seconds", [100, 3600])
def test_a_capture_that_begins_late_misses_nothing(at_48, container, encoder, seconds):
    data = moved(muxed(container, [(encoder, at_48)]), container, encoder, seconds)
    recording = decoded(data)
    assert seconds_of(recording) == pytest.approx(2, abs=0.1)
    assert recording.notes == () and not recording.damaged


def pages(data):
    """The pages of an Ogg file."""
    starts = [match.start() for match in re.finditer(rb"OggS\0", data)]
    return [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]


@pytest.mark.parametrize("encoder", ["libopus", "flac", "libvorbis"])
def test_an_ogg_file_that_ends_inside_of_a_page_is_torn(at_48, speechlike, encoder):
    if encoder == "libvorbis":
        data = written(np.tile(speechlike, 20), "OGG", "VORBIS")
    else:
        data = muxed("ogg", [(encoder, np.tile(at_48, 4))], page_duration="200000")
    for end in (-1, -300, len(data) // 2):
        torn = decoded(data[:end])
        assert torn.notes == ("its last packet is torn",) and torn.damaged
    for whole in (data, data + bytes(300_000), b"".join(pages(data)[:-1])):
        assert decoded(whole).notes == ()


def test_opus_that_was_joined_late_misses_nothing(at_48):
    """A listener of a radio station gets its head, then the pages of that moment."""
    every = pages(muxed("ogg", [("libopus", np.tile(at_48, 4))], page_duration="200000"))
    recording = decoded(b"".join(every[:2] + every[12:]))
    assert seconds_of(recording) == pytest.approx(6, abs=0.1)
    assert recording.notes == () and not recording.damaged


BEGINNINGS = [
    b"OggS\0\2" + bytes(16),
    b"RIFF\1\1\1\1WAVE",
    b"RIFX\1\1\1\1WAVE",
    b"RF64\1\1\1\1WAVE",
    b"BW64\1\1\1\1WAVE",
    b"RIFF\1\1\1\1AVI LIST",
    b"fLaC\0\0\0\x22",
    b"\0\0\0\x20ftypM4A ",
    b"#!AMR\n",
    b"#!AMR-WB\n",
    b"FORM\1\1\1\1AIFF",
    b".snd\0\0\0\x20\1\1\1\1\0\0\0\3",
    b"caff\0\1\0\0desc",
    b"riff\x2e\x91\xcf\x11",
    b"NIST_1A\n",
    b"Creative Voice File\x1a",
    b"TTA1\1\0",
    b"FLV\1\4\0\0\0\x09",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c",
    b"wvpk\1\1\1\0\1\4" + bytes(15) + b"\x18",
    b"MPCKSH",
    b"MAC \1\x0f\0\0\x34\0\0\0",
    b"DSD \x1c" + bytes(7),
    b"FRM8\1\1\1\1\1\1\1\1DSD ",
    b"\x1aE\xdf\xa3\1\1webm",
    (b"\x47\x40\0" + bytes(185)) * 3,
    b"\x47\x60\x11" + bytes(185) + b"\x47" + bytes(187) + b"\x47",
    b"\x1f\x43\xb6\x75",
]


@pytest.mark.parametrize("at", [0, 1, 999, 1000])
def test_every_beginning_is_found_wherever_it_stands(at, monkeypatch):
    noise = np.random.default_rng(11).bytes(3000)
    monkeypatch.setattr(parts, "SCAN_BYTES", 1000)
    found = set()
    for beginning in BEGINNINGS:
        for data in (replaced(noise, at, beginning), bytes(at) + beginning + bytes(900)):
            (kind,) = {k for begin, _, k in parts._beginnings(io.BytesIO(data), 0, len(data))}
            assert kind.match(data, at), beginning
            found.add(kind)
    assert found == {*parts.KINDS, parts.CLUSTER}


@pytest.mark.parametrize("encoders", [("aac", "mp2"), ("mp2", "aac"), ("aac", "ac3")])
def test_captures_of_different_codecs_that_were_joined_are_heard_to_the_end(at_48, encoders):
    first, second = (muxed("mpegts", [(encoder, at_48)]) for encoder in encoders)
    recording = decoded(first + second)
    assert seconds_of(recording) == pytest.approx(4, abs=0.2)
    assert recording.notes == ("recordings were joined",) and not recording.damaged


def test_flac_in_ogg_that_was_joined_late_misses_nothing(at_48):
    every = pages(muxed("ogg", [("flac", np.tile(at_48, 4))], page_duration="500000"))
    assert len(every) > 12
    late = decoded(b"".join(every[:2] + every[6:]))
    assert 4 < seconds_of(late) < 7 and late.notes == () and not late.damaged
    (note,) = decoded(b"".join(every[:6] + every[8:])).notes
    assert re.fullmatch(r"gaps of [01]\.\d s in its time line", note)


@pytest.mark.parametrize("film", [True, False])
def test_captures_whose_time_runs_backwards_are_heard_to_the_end(at_48, film):
    tracks = [("mpeg4", 2)] * film
    second = muxed("mpegts", [*tracks, ("aac", at_48)])
    first = muxed("mpegts", [*tracks, ("aac", np.tile(at_48, 2))], output_ts_offset="100")
    recording = decoded(first + second)
    assert seconds_of(recording) == pytest.approx(6, abs=0.2)
    assert recording.notes == () and not recording.damaged


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_flac_without_its_beginning_is_heard(speechlike, subtype):
    stereo = np.stack([np.tile(speechlike, 4), np.tile(speechlike[::-1], 4)], axis=1)
    data = written(stereo, "FLAC", subtype)
    rest, note = data[len(data) // 4 :], ("its beginning is missing or damaged",)
    for changed in (data[4:], data[42:], data[:8] + bytes(34) + data[42:], bytes(42) + data[42:]):
        recording = decoded(changed, "a.flac", rate=8000)
        assert recording.notes == note and recording.damaged
        assert np.abs(recording.channels - stereo.T).max() < 1e-4
    recording = decoded(rest, "a.flac", rate=8000)
    assert recording.notes == note and 5 < seconds_of(recording) < 6.2
    end = recording.channels[:, -32000:]
    assert np.abs(end - stereo.T[:, -32000:]).max() < 1e-4
    for junk in (b"words " * 999, np.random.default_rng(8).bytes(100_000)):
        with pytest.raises(decoding.NotAudio, match="or its beginning is missing"):
            decoded(junk, "a.flac")
    mp3 = written(speechlike, "MP3", "MPEG_LAYER_III")
    assert decoded(mp3, "a.flac").notes == decoded(mp3, "a.mp3").notes == ()


def test_encrypted_sound_is_refused_by_that_name(at_48):
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76" * 16}
    data = muxed("mp4", [("aac", at_48)], encryption_kid="a7" * 16, **options)
    with pytest.raises(dsp.AudioError, match="^x: encrypted$"):
        decoded(data)


def test_a_wav_of_another_byte_order_that_was_not_finished_is_no_noise(speechlike):
    data = written(speechlike, "WAV", "PCM_16", endian="BIG")
    recording = decoded(replaced(data, data.index(b"data") + 4, bytes(4)), rate=8000)
    assert np.abs(recording.channels[0] - speechlike).max() < 1e-4


@pytest.mark.parametrize("encoder", ["libmp3lame", "ac3"])
def test_codecs_in_a_wav_that_went_through_a_pipe_are_not_torn(at_48, encoder):
    data = muxed("wav", [(encoder, at_48)])
    assert decoded(with_size(data, 0xFFFFFFFF)).notes == decoded(data).notes == ()


@pytest.fixture
def call(speechlike):
    """Speech and pauses in turn, 10 s at 8 kHz."""
    noise = np.random.default_rng(9).standard_normal(24000) * 1e-4
    return np.concatenate([speechlike, noise, speechlike, noise])


def amr(wave, container, frames_in_one_packet=1):
    """A file of AMR that sends the level of the noise, or nothing, while nobody speaks."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        options = {"options": {"dtx": "1"}, "layout": "mono"}
        stream = file.add_stream("libopencore_amrnb", rate=8000, **options)
        stream.bit_rate = 12200
        whole = np.int16(32767 * wave)[None]
        frame = av.AudioFrame.from_ndarray(whole, format="s16", layout="mono")
        frame.sample_rate = 8000
        resampled = av.AudioResampler("s16", "mono", 8000).resample(frame)
        packets = [packet for part in (*resampled, None) for packet in stream.encode(part)]
        for number in range(0, len(packets), frames_in_one_packet):
            some = packets[number : number + frames_in_one_packet]
            packet = av.Packet(b"".join(map(bytes, some)))
            packet.pts, packet.dts, packet.time_base = some[0].pts, some[0].dts, some[0].time_base
            packet.duration, packet.stream = 160 * len(some), stream
            file.mux(packet)
    return buffer.getvalue()


@pytest.mark.parametrize(("container", "per_packet"), [("amr", 1), ("3gp", 1), ("nut", 5)])
def test_pauses_of_a_telephone_are_no_damage(call, speechlike, container, per_packet):
    data = amr(call, container, per_packet)
    recording = decoded(data, rate=8000)
    (note,) = recording.notes
    assert re.fullmatch(r"pauses of [45]\.\d s hold no sound", note) and not recording.damaged
    assert seconds_of(recording) + float(note.split()[2]) == pytest.approx(10, abs=0.1)
    assert dsp.dbfs(recording.channels[0]) > dsp.dbfs(speechlike) - 5
    if container == "amr":
        lost = data.replace(b"\x7c", b"\x5c")  # of a type that does not exist
        assert "packets damaged" in decoded(lost).notes[0]


@pytest.mark.parametrize("name", ["a.au", "a.gsm"])
def test_a_file_with_a_header_is_never_read_as_one_without(speechlike, name):
    data = written(speechlike, "AU", "PCM_16")
    assert decoded(data, name).notes == ()
    with pytest.raises(dsp.AudioError, match="not audio that can be read"):
        decoded(replaced(data, 12, b"\0\0\0\x09"), name)  # a codec that nothing knows
