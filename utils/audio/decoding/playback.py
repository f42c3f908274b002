"""One audio stream of an open file, decoded by FFmpeg's libraries, and what is missing of it."""

import re
from collections.abc import Iterator

from utils.audio.decoding import headers
from utils.audio.decoding.parts import Part
from utils.audio.decoding.sound import Sound
from utils.audio.dsp import AudioError

BLOCK_SAMPLES = 2**16  # converted at a time
MISSING_S = 0.25  # less is not told: packets of most codecs do not end where the sound does
MOST_S = 7 * 24 * 3600  # a header that promises more is not believed
BACKWARDS_S = 2**32 / 90_000  # half of what MPEG's clock counts: such a leap is one backwards
MOST_ERRORS = 100  # of the container, in a row or not, after which the rest is given up
LOG_ERROR = 16  # FFmpeg's level, and PyAV's
WHOLE = 1.02  # of its size, that an MP3 may give without being cut
RM_S = 3600  # seconds that FFmpeg writes into RealMedia whose length it does not know
FROM_ZERO = ("ogg", "asf")  # their lengths count from zero, wherever their time line begins
FRAME_S = 0.02  # of AMR
JOINED = "recordings were joined"
TORN = re.compile("ended prematurely|partial file|Truncating packet")


def tracks(file) -> list[list]:
    """Audio streams of an open file, those of one track together: behind a damaged place of FLV,
    FFmpeg opens a second one.
    """
    found: dict[tuple, list] = {}
    for stream in file.streams.audio:
        key = (stream.index,)
        if file.format.name == "flv" and (codec := stream.codec_context):
            plain = codec.name.startswith(("pcm", "adpcm"))  # others say themselves what they are
            key = stream.id, codec.name, plain and (codec.sample_rate, codec.channels)
        found.setdefault(key, []).append(stream)
    return list(found.values())


class Playback:
    """One audio stream of an open file, decoded to its end, and what was wrong on the way."""

    def __init__(self, file, track: list, sound: Sound, logs: list[tuple[int, str, str]]):
        """Args: `track` of `tracks`; `logs` of FFmpeg, which grow meanwhile: (level, who, what)."""
        self.file, self.track, self.sound, self.logs = file, track, sound, logs
        self.stream = stream = track[0]
        self.seconds = 0.0  # that were decoded
        self.packets, self.at = 0, (0, 0)  # where the last packet begins and ends
        self.places = 0  # where packets began: of Ogg, pages
        # the last packet of which nothing bad was said: its number, and the byte behind it
        self.whole, self.end = 0, 0
        self.failed: list[int] = []  # numbers of packets that could not be decoded
        self.reached = 0.0  # seconds on the time line of the file
        self.gap_s = 0.0  # of that time line, inside the sound
        self.pause_s = 0.0  # of it, that was not recorded as nobody spoke
        stream.codec_context.thread_count = 1

    @property
    def is_alone(self) -> bool:
        """Whether the file holds nothing else to hear or see, but for a cover."""
        streams = [s for s in self.file.streams if s.type in ("audio", "video")]
        return all(s in self.track or _is_cover(s) for s in streams)

    def run(self) -> None:
        """Add all frames to the sound. PyAV reads planar frames of 8 channels from wrong memory.

        Raises ValueError if there are none, and what `Sound.add` raises.
        """
        import av

        converter, form, unit_s, before = None, None, 0.0, self.sound.seconds
        name, lossless = self.stream.codec.name, self.stream.codec.lossless
        for frame in self._frames():
            if (frame.format.name, frame.layout.name, frame.sample_rate) != form:
                self._add(converter.resample(None) if converter else [])
                form = frame.format.name, frame.layout.name, frame.sample_rate
                packed = "dbl" if frame.format.name.startswith("dbl") else "flt"
                floating = lossless and frame.format.name.startswith(("flt", "dbl"))
                self.sound.floats |= floating or name.startswith("pcm_s32")
                converter = av.AudioResampler(packed, frame_size=BLOCK_SAMPLES)
                unit_s = float(frame.time_base or 0)
            self._follow(frame, unit_s)
            frame.pts = None
            self._add(converter.resample(frame))
        self._add(converter.resample(None) if converter else [])
        self.seconds = self.sound.seconds - before
        if not self.seconds:
            raise ValueError("it holds no samples")

    def _frames(self) -> Iterator:
        import av

        sizes = headers.FRAME_BYTES.get(self.stream.codec.name)
        for packet in self._packets():
            self.packets += 1
            # FFmpeg makes no comfort noise
            spoken, pauses = _spoken(packet, sizes) if sizes else (packet, 0)
            if self.packets == 1 and packet.has_sidedata("encryption_info"):
                raise AudioError(f"{self.sound.name}: encrypted")
            said = len(self.logs)
            try:
                frames = self.stream.codec_context.decode(spoken) if spoken else []
                good = bool(frames) or spoken is None
                self._reach(packet, good and len(self.logs) == said)
                yield from frames
            except (av.FFmpegError, ValueError):
                self.failed.append(self.packets)
            self.pause_s += pauses * FRAME_S
            self.reached += pauses * FRAME_S

    def _reach(self, packet, good: bool) -> None:
        if packet.pos is not None:  # several may lie at one place
            self.places += packet.pos != self.at[0] or not self.places
            start, end = self.at if packet.pos == self.at[0] else (packet.pos, packet.pos)
            self.at = start, end + packet.size
            if good and self.at[1] > self.end:
                self.whole, self.end = self.packets, self.at[1]

    def _packets(self) -> Iterator:
        import av

        for _ in range(MOST_ERRORS):
            try:
                yield from self.file.demux(self.track)
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
        early = self.reached <= MISSING_S  # then it sets in late
        if self.file.format.name == "ogg":  # whose pages tell when they end, not when they begin
            early |= self.places <= 2
        if not early and MISSING_S < start - self.reached < BACKWARDS_S:
            self.gap_s += start - self.reached
        self.reached = start + duration

    def tell(self, part: Part, more: bool) -> None:
        """Note what is missing. Args: more: sound behind its end was heard."""
        seconds, notes = self.seconds, []
        said = "".join(text for _, _, text in self.logs)
        missing, behind = self._missing(part, "Estimating duration" in said)
        # the first and the last are torn wherever a recording was cut; behind them an empty one
        last = self.whole if more else self.packets - 1
        damaged = sum(1 < number < last for number in self.failed)
        name, codec = self.file.format.name, self.stream.codec_context.name
        plain = name == "wav" or codec.startswith(("pcm", "adpcm", "g72"))
        corrupt = f"Packet corrupt (stream = {self.stream.index}," in said
        torn = corrupt or TORN.search(said) or name == "ogg" and headers.is_torn_ogg(part)
        joined = "invalid concatenated file" in said and self._is_longer(part)
        if missing and "mov" in name and headers.is_fragmented(part):
            torn, missing = True, 0.0  # each piece knows of itself alone
        if missing == headers.UNFINISHED:
            notes.append("its header gives no length: it was not finished")
        elif missing:
            digits = 1 if missing >= 0.1 else 2
            total = seconds + missing
            notes.append(f"{seconds:.{digits}f} of {total:.{digits}f} s decoded")
        if damaged and not joined:
            notes.append(f"{damaged} of {self.packets - 1} packets damaged")
        elif not missing and torn and not plain and not more:
            notes.append("its last packet is torn")
        broken = any(level <= LOG_ERROR and who == name for level, who, _ in self.logs)
        self.sound.damaged |= bool(notes) or bool(self.gap_s and broken)
        if self.gap_s:
            notes.append(f"gaps of {self.gap_s:.1f} s in its time line")
        if self.pause_s > MISSING_S:
            notes.append(f"pauses of {self.pause_s:.1f} s hold no sound")
        if behind and not more:
            notes.append(f"{behind} bytes behind its sound are not heard")
        if joined or more:
            notes.append(JOINED)
        self.sound.notes += notes

    def _is_longer(self, part: Part) -> bool:
        """Whether an MP3 has clearly more frames than it says."""
        told = headers.of_mpeg(part)
        return told is None or self.packets - len(self.failed) > 1.1 * told[0]

    def _missing(self, part: Part, guessed: bool) -> tuple[float, int]:
        """What `headers.not_heard` gives for a file that says more than was decoded.

        Args: guessed: the file says nothing, and FFmpeg guesses by the size.
        """
        name, told = self.file.format.name, headers.of_mpeg(part)
        if name in headers.FORMS:
            return headers.not_heard(part, name, self.seconds)
        if name == "mp3" and told and 0 < told[1] <= WHOLE * part.size:
            return 0.0, 0  # no byte is missing: its number of frames lies
        promised = 0.0 if guessed else self._promised()
        if name == "rm" and promised == RM_S:
            promised = 0.0
        if name == "avi":
            promised = headers.of_avi(part, self.file.streams.audio.index(self.stream))
        # FLAC's promise is exact; others may begin late
        missing = promised - (self.seconds if name == "flac" else max(self.reached, self.seconds))
        most = BACKWARDS_S if name.startswith("mpeg") else MOST_S
        return (missing if max(MISSING_S, 0.02 * self.seconds) < missing < most else 0.0), 0

    def _promised(self) -> float:
        """End of the stream in seconds as the file says; 0 where it says nothing about the sound.

        The length of a whole film is not that of its sound.
        """
        alone = self.is_alone
        begin = (self.stream.start_time or 0) * (self.stream.time_base or 0)
        if self.file.format.name in FROM_ZERO:
            begin = 0
        if self.stream.duration and (alone or "mov" in self.file.format.name):
            return float(begin + self.stream.duration * self.stream.time_base)
        return (self.file.duration or 0) / 1e6 if alone else 0.0


def _spoken(packet, sizes: tuple[int, ...]) -> tuple:
    """(packet of the frames of speech in one of AMR or None, number of its other frames).

    Args: `sizes` of `headers.FRAME_BYTES`. What is no frame stays, to be noted as damaged.
    """
    import av

    rest, speech, pauses = bytes(packet), b"", 0
    while rest and (size := headers.frame_bytes(rest[0], sizes)):
        is_speech = size > headers.NOISE_BYTES
        pauses += not is_speech
        speech += rest[:size] if is_speech else b""
        rest = rest[size:]
    if not pauses:
        return packet, 0
    if not speech + rest:
        return None, pauses
    spoken = av.Packet(speech + rest)
    spoken.pts, spoken.time_base = packet.pts, packet.time_base
    return spoken, pauses


def _is_cover(stream) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)
