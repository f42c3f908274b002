"""Decode a file by FFmpeg's libraries, or by libsndfile where they do not know it."""

import functools
import logging
import re
from collections.abc import Iterator
from pathlib import PurePath

from utils.audio.decoding import headers
from utils.audio.decoding.parts import Part
from utils.audio.decoding.sound import Sound
from utils.audio.dsp import AudioError

BLOCK_SAMPLES = 2**16  # converted at a time
MISSING_S = 0.25  # less is not told: packets of most codecs do not end where the sound does
MOST_S = 7 * 24 * 3600  # a header that promises more is not believed
MOST_ERRORS = 100  # of the container, in a row or not, after which the rest is given up
# These demuxers open other files, devices or addresses, or are of text and pictures.
DENIED = """
alsa applehttp bin concat concatf dash fbdev ffmetadata hls iec61883 image2 image2pipe imf jack
kmsgrab lavfi oss pulse rtp rtsp sap sdp sndio tty video4linux2,v4l2 webm_dash_manifest x11grab
"""
# Sound without any header is told by the suffix alone: FFmpeg's format, its options
HEADERLESS = {
    ".gsm": ("gsm", {}),
    ".g722": ("g722", {}),
    ".g729": ("g729", {}),
    ".sln": ("sln", {}),
    ".al": ("alaw", {"sample_rate": "8000"}),
    ".alaw": ("alaw", {"sample_rate": "8000"}),
    ".ul": ("mulaw", {"sample_rate": "8000"}),
    ".ulaw": ("mulaw", {"sample_rate": "8000"}),
}
LOG_ERROR = 16  # FFmpeg's level, and PyAV's
# Streams of frames are told by a few frames; what else FFmpeg takes for sound on such weak grounds
# (games' formats, by two bytes) mostly is none.
FRAMES = "aac ac3 dts eac3 gsm loas mp3 mpeg mpegts"
TORN = re.compile("Packet corrupt|ended prematurely|partial file|Truncating packet")


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
    if part.read(4) == b"RIFX":  # a WAV of another byte order, which FFmpeg takes for the usual one
        decoders.insert(0, _by_libsndfile)
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
    form, options = HEADERLESS.get(PurePath(sound.name).suffix.lower(), ("", {}))
    if form:
        _by_ffmpeg(part, sound, number, form, options)


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
    part: Part, sound: Sound, number: int, form: str | None = None, options: dict | None = None
) -> None:
    import av

    options = _options() | (options or {})
    with av.logging.Capture() as logs:
        try:
            with av.open(part, "r", form, options=options, metadata_errors="ignore") as file:
                streams = file.streams.audio
                guessed = any("misdetection possible" in text for _, _, text in logs)
                if not streams or (guessed and file.format.name not in FRAMES.split()):
                    sound.unknown = True
                    raise _Unreadable("no sound")
                sound.unknown = False
                sound.streams = max(sound.streams, len(streams))
                stream = streams[min(number, len(streams) - 1)]
                if stream.codec_context is None:
                    raise _Unreadable("its codec is not known")
                played = _Playback(file, stream, sound)
                played.run()
                played.tell(part, logs)
        except AudioError:
            raise
        except (av.FFmpegError, ValueError, ArithmeticError, AttributeError) as error:
            errors = [text.strip() for level, _, text in logs if level <= LOG_ERROR]
            reason = errors[0] if errors else getattr(error, "strerror", None) or str(error)
            raise _Unreadable(reason) from error


class _Playback:
    """One audio stream of an open file, decoded to its end, and what was wrong on the way."""

    def __init__(self, file, stream, sound: Sound):
        self.file, self.stream, self.sound = file, stream, sound
        self.before = sound.seconds
        self.packets = 0
        self.failed: list[int] = []  # numbers of packets that could not be decoded
        self.reached = 0.0  # seconds on the time line of the file
        self.gap_s = 0.0  # of that time line, inside the sound
        stream.codec_context.thread_count = 1

    def run(self) -> None:
        """Add all frames to the sound. PyAV reads planar frames of 8 channels from wrong memory."""
        import av

        converter, form, unit_s = None, None, 0.0
        for frame in self._frames():
            if (frame.format.name, frame.layout.name, frame.sample_rate) != form:
                self._add(converter.resample(None) if converter else [])
                form = frame.format.name, frame.layout.name, frame.sample_rate
                converter = av.AudioResampler("flt", frame_size=BLOCK_SAMPLES)
                unit_s = float(frame.time_base or 0)
            self._follow(frame, unit_s)
            frame.pts = None
            self._add(converter.resample(frame))
        self._add(converter.resample(None) if converter else [])

    def _frames(self) -> Iterator:
        import av

        for packet in self._packets():
            self.packets += 1
            try:
                yield from packet.decode()
            except (av.FFmpegError, ValueError):
                self.failed.append(self.packets)

    def _packets(self) -> Iterator:
        import av

        for _ in range(MOST_ERRORS):
            try:
                yield from self.file.demux(self.stream)
                return
            except (av.FFmpegError, ValueError, LookupError):  # the last: the stream has gone
                self.failed.append(self.packets)  # what comes behind may be whole

    def _add(self, frames: list) -> None:
        for frame in frames:
            block = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
            self.sound.add(frame.sample_rate, block)

    def _follow(self, frame, unit_s: float) -> None:
        """Note where on the time line a frame lies, whose times are in units of `unit_s`."""
        duration = frame.samples / frame.sample_rate
        start = self.reached if frame.pts is None or not unit_s else frame.pts * unit_s
        if self.reached > MISSING_S and start > self.reached + MISSING_S:  # else it sets in late
            self.gap_s += start - self.reached
        self.reached = start + duration

    def tell(self, part: Part, logs: list[tuple[int, str, str]]) -> None:
        """Note what is missing. Args: `logs` of FFmpeg: (level, who, what)."""
        seconds, notes = self.sound.seconds - self.before, []
        if not seconds:
            raise ValueError("it holds no samples")
        said = "".join(text for _, _, text in logs)
        missing, behind = self._missing(part, seconds, "Estimating duration" in said)
        joined = "invalid concatenated file" in said
        # the first and the last are torn wherever a recording was cut; behind them an empty one
        damaged = 0 if joined else sum(1 < number < self.packets - 1 for number in self.failed)
        if missing == headers.UNFINISHED:
            notes.append("its header gives no length: it was not finished")
        elif missing:
            digits = 1 if missing >= 0.1 else 2
            total = seconds + missing
            notes.append(f"{seconds:.{digits}f} of {total:.{digits}f} s decoded")
        if damaged:
            notes.append(f"{damaged} of {self.packets - 1} packets damaged")
        elif not missing and TORN.search(said) and self.file.format.name not in headers.FORMS:
            notes.append("its last packet is torn")
        broken = any(level <= LOG_ERROR and who == self.file.format.name for level, who, _ in logs)
        self.sound.damaged |= bool(notes) or bool(self.gap_s and broken)
        if self.gap_s:
            notes.append(f"gaps of {self.gap_s:.1f} s in its time line")
        if behind:
            notes.append(f"{behind} bytes behind its sound are not heard")
        if joined:
            notes.append("recordings were joined")
        self.sound.notes += notes

    def _missing(self, part: Part, seconds: float, guessed: bool) -> tuple[float, int]:
        """What `headers.not_heard` gives for a file that says more than the `seconds` it has.

        Args: guessed: the file says nothing, and FFmpeg guesses by the size.
        """
        if self.file.format.name in headers.FORMS:
            return headers.not_heard(part, self.file.format.name, seconds)
        promised = 0.0 if guessed else self._promised()
        missing = promised - max(self.reached, seconds)
        return (missing if max(MISSING_S, 0.02 * seconds) < missing < MOST_S else 0.0), 0

    def _promised(self) -> float:
        """End of the stream in seconds as the file says; 0 where it says nothing about the sound.

        The length of a whole film is not that of its sound.
        """
        streams = [s for s in self.file.streams if s.type in ("audio", "video")]
        alone = all(s is self.stream or _is_cover(s) for s in streams)
        begin = (self.stream.start_time or 0) * (self.stream.time_base or 0)
        if self.stream.duration and (alone or "mov" in self.file.format.name):
            return float(begin + self.stream.duration * self.stream.time_base)
        return (self.file.duration or 0) / 1e6 if alone else 0.0


def _is_cover(stream) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def _by_libsndfile(part: Part, sound: Sound, number: int) -> None:
    """Decode what FFmpeg does not know."""
    import soundfile as sf

    if part.read(1) == b"\xff":  # frames of MP3, which FFmpeg knows better
        raise _Unreadable("not recognised")
    part.seek(0)
    before = sound.seconds
    try:
        with sf.SoundFile(part) as file:
            sound.unknown, more = False, True
            while more:
                block = file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)
                sound.add(file.samplerate, block)
                more = len(block) == BLOCK_SAMPLES
    except (sf.LibsndfileError, RuntimeError) as error:
        if sound.seconds == before:
            # only the reason: the whole message names an object in memory
            reason = getattr(error, "error_string", str(error)).rstrip(".")
            raise _Unreadable(reason) from error
        sound.notes.append("the rest of the file is damaged")
        sound.damaged = True
