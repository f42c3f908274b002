"""Decode a file by FFmpeg's libraries, or by libsndfile where they do not know it."""

import contextlib
import functools
import itertools
import logging
from pathlib import PurePath

from utils.audio.decoding import headers
from utils.audio.decoding.parts import FRAMES, Part
from utils.audio.decoding.playback import BLOCK_SAMPLES, LOG_ERROR, Playback, tracks
from utils.audio.decoding.sound import Sound
from utils.audio.dsp import AudioError

# These demuxers open other files, devices or addresses, or are of text and pictures.
DENIED = """
alsa applehttp bin concat concatf dash fbdev ffmetadata hls iec61883 image2 image2pipe imf jack
kmsgrab lavfi oss pulse rtp rtsp sap sdp sndio tty video4linux2,v4l2 webm_dash_manifest x11grab
"""
# Sound without any header is told by the suffix alone: FFmpeg's format, its options
HEADERLESS = {
    **{f".{name}": (name, {}) for name in ("g722", "g726", "g728", "g729", "rso", "dfpwm", "aptx")},
    **{f".{name}": ("alaw", {"sample_rate": "8000"}) for name in ("al", "alaw", "pcma")},
    **{f".{name}": ("mulaw", {"sample_rate": "8000"}) for name in ("ul", "ulaw", "mulaw", "pcmu")},
    **{f".{name}": ("g723_1", {}) for name in ("g723", "g723_1", "tco", "rco")},
    **{f".{name}": ("sbc", {}) for name in ("sbc", "msbc")},
    **{f".sln{k}": ("sln", {"sample_rate": f"{k}000"}) for k in (12, 16, 24, 32, 48, 96, 192)},
    ".au": ("mulaw", {"sample_rate": "8000"}),  # of the first Suns
    ".gsm": ("gsm", {}),
    ".g726le": ("g726le", {}),
    ".sln": ("sln", {}),
    ".sln44": ("sln", {"sample_rate": "44100"}),
    ".aptxhd": ("aptx_hd", {}),
    ".vox": ("", {}),  # Dialogic's, which libsndfile reads
}
# Bytes of a packet: each costs time, and FFmpeg's own are small. The first is looked at for DTS
OF_WAV = {"max_size": "32768", "max_probe_packets": "1"}
UNDECODED = {b"OFR ": "OptimFROG", b"\xc0\xde\xc2": "Codec 2"}  # by their first bytes
VOX = {"format": "RAW", "subtype": "VOX_ADPCM", "samplerate": 8000, "channels": 1}
# Streams of frames are told by a few frames; what else FFmpeg takes for sound on such weak grounds
# (games' formats, by two bytes) mostly is none.
GUESSED = "aac ac3 dts eac3 gsm loas mp3 mpeg mpegts"
JOINED_FRAMES = "aac,ac3,dts,eac3,mp3,mpegts"  # what FFmpeg finds behind any other file
FEWEST_BYTES = 2048  # of such frames
SEARCHED_BYTES, TRIES = 2**18, 100  # behind a file, and places in them, where frames may begin


class _Unreadable(Exception):
    """A decoder can do nothing with a file; the text says why."""


def hear(part: Part, sound: Sound, number: int) -> None:
    """Add what can be decoded of one audio stream of `part` to `sound`.

    Args: `number` of the stream, from 0. If nothing can be decoded, `sound.reasons` says why.
    Raises AudioError as `Sound.add` does.
    """
    before = sound.seconds
    sound.unknown &= not part.has_beginning
    decoders = [_by_ffmpeg, _by_libsndfile, _by_suffix]
    head = part.read(4)
    if head == b"RIFX":  # a WAV of another byte order, which FFmpeg takes for the usual one
        decoders.insert(0, _by_libsndfile)
    for mark, codec in UNDECODED.items():
        if head.startswith(mark):
            sound.unknown, decoders = False, []
            sound.reasons.append(f"{codec}, for which there is no decoder here")
    for decoder in decoders:
        part.seek(0)
        try:
            decoder(part, sound, number)
        except _Unreadable as error:
            sound.reasons.append(str(error))
        if sound.seconds > before:
            return
    sound.notes.append(f"{part.size} bytes of it cannot be decoded")
    sound.damaged = True


def _by_suffix(part: Part, sound: Sound, number: int) -> None:
    suffix = _suffix(sound)
    if suffix == ".vox":
        _by_libsndfile(part, sound, number, **VOX)
    elif suffix in HEADERLESS and not part.has_beginning:
        _by_ffmpeg(part, sound, number, *HEADERLESS[suffix])
    elif suffix == ".flac":  # its frames tell what they are, where their head is missing
        frames = Part(part.file, part.start + len(b"fLaC"), part.start + part.size)
        _by_ffmpeg(frames, sound, number, "flac")
        sound.notes.append("its beginning is missing or damaged")
        sound.damaged = True


def _suffix(sound: Sound) -> str:
    return PurePath(sound.name).suffix.lower()


@functools.cache
def _options() -> dict[str, str]:
    """FFmpeg's options of every file: it opens nothing but this file."""
    import av

    logging.getLogger("libav").setLevel(logging.CRITICAL)  # logs are captured, never printed
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    formats = [name for name in av.formats_available if name not in DENIED.split()]
    allowed = [name for name in formats if not name.endswith("_pipe")]
    return {
        "format_whitelist": ",".join(sorted(allowed)),
        "protocol_whitelist": "none",
        "max_probe_packets": "4",  # looks for DTS in PCM; all it would look at takes 12 ms
    }


def _by_ffmpeg(
    part: Part,
    sound: Sound,
    number: int,
    form: str | None = None,
    options: dict | None = None,
    before: tuple[str, str] | None = None,
) -> None:
    """Args: `form` and `options` of FFmpeg, None: by content.

    before: (format, codec) of what lies before it: then no guess will do, nor both the same.
    """
    import av

    options = _options() | (OF_WAV if part.head[8:12] == b"WAVE" else {}) | (options or {})
    with av.logging.Capture() as logs:
        try:
            with av.open(part, "r", form, options=options, metadata_errors="ignore") as file:
                streams = tracks(file)
                if not streams or _is_misdetected(file.format, sound, logs, bool(before)):
                    sound.unknown = True
                    raise _Unreadable("no sound")
                sound.unknown &= form is not None  # else it was opened as what it may not be
                sound.streams = max(sound.streams, len(streams))
                track = streams[min(number, len(streams) - 1)]
                if track[0].codec_context is None:
                    raise _Unreadable("its codec is not known")
                if before == (file.format.name, track[0].codec.name):
                    raise _Unreadable("more of the same")
                played = Playback(file, track, sound, logs)
                played.run()
                played.tell(part, played.is_alone and _hear_behind(part, played, sound))
        except AudioError:
            raise
        except (av.FFmpegError, ValueError, ArithmeticError, AttributeError) as error:
            errors = [text.strip() for level, _, text in logs if level <= LOG_ERROR]
            reason = errors[0] if errors else getattr(error, "strerror", None) or str(error)
            raise _Unreadable(reason) from error


def _is_misdetected(form, sound: Sound, logs: list[tuple[int, str, str]], strict: bool) -> bool:
    """Whether FFmpeg's guess at a format (`av.ContainerFormat`) is too weak."""
    guessed = [text for _, _, text in logs if "misdetection possible" in text]
    suffix = _suffix(sound)
    if strict or not guessed:
        return bool(guessed)
    if suffix[1:] in form.extensions:
        return False
    return form.name not in GUESSED.split() or suffix in HEADERLESS


def _hear_behind(part: Part, played: Playback, sound: Sound) -> bool:
    """Whether frames of sound were joined to what was played of `part`; they are added."""
    name, end = played.file.format.name, played.end
    if end and "mov" in name:
        end = headers.behind_boxes(part, end)
    stop, before = part.start + part.size, sound.seconds
    options = {"format_whitelist": JOINED_FRAMES, "formatprobesize": "16384"}
    if not end or part.size - end < FEWEST_BYTES:
        return False
    part.seek(end)
    for match in itertools.islice(FRAMES.finditer(part.read(SEARCHED_BYTES)), TRIES):
        behind = Part(part.file, part.start + end + match.start(), stop)
        with contextlib.suppress(_Unreadable):
            _by_ffmpeg(behind, sound, 0, None, options, (name, played.stream.codec.name))
        if sound.seconds > before:
            return True
    return False


def _by_libsndfile(part: Part, sound: Sound, number: int, **raw) -> None:
    """Decode what FFmpeg does not know. Args: `raw` of `soundfile`, if there is no header."""
    import soundfile as sf

    head = part.read(4)
    part.seek(0)
    # frames of MP3, which FFmpeg knows better; a picture of cubes whose suffix is that of Dialogic
    if head.startswith(b"\xff") and not raw or head == b"VOX ":
        raise _Unreadable("not recognised")
    before = sound.seconds
    try:
        with sf.SoundFile(part, **raw) as file:
            sound.unknown, more = False, True
            sound.floats |= file.subtype in ("FLOAT", "DOUBLE", "PCM_32")
            form = "float64" if file.subtype == "DOUBLE" else "float32"
            while more:
                block = file.read(BLOCK_SAMPLES, dtype=form, always_2d=True)
                sound.add(file.samplerate, block)
                more = len(block) == BLOCK_SAMPLES
    except (sf.LibsndfileError, RuntimeError) as error:
        if sound.seconds == before:
            # only the reason: the whole message names an object in memory
            reason = getattr(error, "error_string", str(error)).rstrip(".")
            raise _Unreadable(reason) from error
        sound.notes.append("the rest of the file is damaged")
        sound.damaged = True
