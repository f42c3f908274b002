"""Decode what a player plays: any recording, by its content, with notes about what is not right.

FFmpeg's libraries (PyAV) decide by content; libsndfile reads what they do not know. The whole file
is heard: files that were joined, rates and numbers of channels that change, what is left of a
damaged one. Nothing is ever filled with silence.
"""

from pathlib import Path, PurePath

from utils.audio.decoding import headers, parts, streams
from utils.audio.decoding.sound import LONGEST_S, Again, NotAudio, Recording, Sound
from utils.audio.dsp import AudioError

__all__ = ["LONGEST_S", "NotAudio", "Recording", "claims_sound", "decode"]

CLAIMS = """
3g2 3ga 3gp 3gpp aac ac3 adts aif aifc aiff amr ape asf au avi awb caf dts eac3 f4a f4v flac flv gsm
m2ts m4a m4b m4r m4v mka mkv mov mp2 mp3 mp4 mpc mpeg mpg mts nist oga ogg ogv ogx opus qcp qt ra
rf64 rm snd sph spx tta voc w64 wav wave wax weba webm wma wmv wv
"""  # suffixes of files of which people say that they hold sound
RAW = "raw pcm s8 s16 s16le s24 s32 u8 f32 f64"  # suffixes of samples without a header


def claims_sound(path: Path) -> bool:
    """Whether the suffix of a name says that the file holds sound."""
    suffix = path.suffix.lower()
    return suffix[1:] in CLAIMS.split() or suffix in streams.HEADERLESS


def decode(
    source: Path | bytes,
    name: str,
    rate: int | None = None,
    longest_s: float = LONGEST_S,
    rescale: bool = True,
    long_to: Path | None = None,
) -> Recording:
    """Decode all that can be decoded of a recording.

    Args:
        source: a file, or its content.
        name: of the file, for messages; its suffix matters only for sound that has no header.
        rate: of the result in Hz; None: that of the beginning of the recording.
        longest_s: longest recording that is decoded, in seconds.
        rescale: divide by the peak where it is beyond ±1.
        long_to: file of the memory map of a long recording; None: a temporary one.
    Of several audio streams the first one that is not silent is taken. Where the number of channels
    changes, a single channel is repeated on all others; else those that are missing are silent.
    Raises NotAudio if the file holds no sound, and AudioError, naming the file, if it cannot be
    read, is too large or too long, or if nothing of it can be decoded.
    """
    with parts.opened(source, name) as file:
        joined = [part for whole in parts.split(file) for part in headers.apart(whole)]
        if not joined:
            raise NotAudio(f"{name}: empty file")
        number, change = 0, {}
        while True:
            with Sound(name, rate, longest_s, **change) as sound:
                try:
                    for part in joined:
                        streams.hear(part, sound, number)
                    if not sound.is_silent or number + 1 >= sound.streams:
                        return _recording(sound, len(joined), number, (rescale, long_to))
                    number, change = number + 1, {}
                except Again as again:
                    change |= again.change


def _recording(sound: Sound, joined: int, number: int, form: tuple) -> Recording:
    if not sound.runs:
        if sound.unknown:
            raise NotAudio(f"{sound.name}: not audio, {_unknown(sound.name)}")
        raise AudioError(f"{sound.name}: not audio that can be read ({sound.reasons[0]})")
    if sound.streams > 1:
        sound.notes.append(f"{sound.streams} audio streams: number {number + 1} is heard")
    if joined > 1:
        sound.notes.append(f"{joined} recordings joined")
    return sound.recording(*form)


def _unknown(name: str) -> str:
    if PurePath(name).suffix.lower()[1:] in RAW.split():
        return "or raw samples of a rate that nothing tells: make a WAV of them"
    text = "it holds no sound that anything knows"
    return f"{text}, or its beginning is missing" if claims_sound(Path(name)) else text
