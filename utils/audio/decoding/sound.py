"""What is decoded of a recording, collected block by block in flat memory."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

from utils.audio.dsp import AudioError

LONGEST_S = 6 * 3600  # of one recording
MOST_CHANNELS = 4  # of a recording of that length; a shorter one may have more
RATES = (1000, 768_000)  # Hz; a rate of 1 Hz would turn kilobytes into gigabytes
TELEPHONE_RATE = 6800  # Hz; a lower one cuts the telephone band, which ends at 3.4 kHz
MAPPED_SAMPLES = 2**24  # from here on the result is a memory map
BLOCK_SAMPLES = 2**20  # moved at a time
LARGEST = 1e30  # of a sample: the resampler works in single precision
FEW = 0.001  # of all samples
LEAST_S = 0.25  # of samples that are numbers, where some are none
MENDED = 4  # samples in a row; so many that are no numbers are drawn from those around them
AROUND, STRETCH = 8, 1024  # samples on either side, and that are foretold in the same way
OFFSET_PART = 0.015  # of a channel's peak; a mean beyond it is no sound, and is subtracted
TOLD_OFFSET = 0.05  # of that peak; less is not told
LEAST_OFFSET = 0.001  # of the peak of all channels
LOUD_PEAK = 2.0  # a peak beyond full scale is told from here on: that of lossy codecs is lower
SILENT_PEAK = 3e-4  # -70 dBFS: a stream below it says nothing
# Peaks of floating point, which is as exact at any level: below, dither at 24 bits and rounding,
# which is silence (two steps of 2^-23, -132 dBFS); above, any sound is loud enough as it is.
QUIET_PEAKS = (2.0**-22, 1e-3)


class NotAudio(AudioError):
    """The content is no sound at all: text, a picture, an empty file."""


class Again(Exception):
    """The recording has to be decoded once more, by a `Sound` that is changed so."""

    def __init__(self, **change):
        super().__init__()
        self.change = change


class Recording(NamedTuple):
    """What was heard of a file."""

    channels: np.ndarray  # float32 (channels, samples), full scale ±1; of hours, a memory map
    rate: int  # Hz, of `channels`
    notes: tuple[str, ...]  # what is missing or damaged, or was changed
    damaged: bool = False  # samples are missing, or are no numbers


class _Run:
    """Blocks of one number of channels, one behind the other."""

    def __init__(self, channels: int, offsets: np.ndarray | None = None):
        """Args: `offsets` float64 (channels,), subtracted from each sample."""
        self.channels, self.offsets = channels, offsets
        self.samples, self.added = 0, 0  # in the file, and before they were resampled
        self.sums, self.peaks = np.zeros(channels), np.zeros(channels)

    def count(self, block: np.ndarray) -> None:
        """Count (samples, channels) as they came."""
        self.added += len(block)
        self.sums += block.sum(axis=0, dtype=np.float64)
        self.peaks = np.maximum(self.peaks, np.abs(block).max(axis=0))

    def found(self) -> np.ndarray:
        """Means that are no sound, float64 (channels,); 0 where there is none."""
        means = self.sums / self.added
        least = np.maximum(OFFSET_PART * self.peaks, LEAST_OFFSET * self.peaks.max())
        return np.where(np.abs(means) > least, means, 0)

    def tells(self) -> bool:
        """Whether what was subtracted is worth a note."""
        return bool(
            (np.abs(self.offsets) > TOLD_OFFSET * (self.peaks + np.abs(self.offsets))).any()
        )


class Sound:
    """Collects blocks of sound, at any rates and numbers of channels, at one rate."""

    def __init__(
        self,
        name: str,
        rate: int | None,
        longest_s: float,
        gain: float = 1.0,
        clip: bool = False,
        offsets: list[np.ndarray] | None = None,
    ):
        """Args: `name` for messages; `rate` of the result in Hz, None: that of the first block.

        gain, clip: what is done to all samples before they are resampled.
        offsets: what is subtracted before that, (channels,) for each run of one format.
        """
        self.name, self.rate, self.longest_s = name, rate, longest_s
        self.gain, self.clip, self.offsets = gain, clip, offsets
        self.runs: list[_Run] = []  # what lies in `file` in a row
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `__exit__`)
        self.streams = 1  # of which one is heard
        self.seconds, self.channel_seconds, self.peak = 0.0, 0.0, 0.0
        self.samples = 0  # of all blocks
        self.broken, self.lost = 0, 0  # of any channel, of all: no finite numbers
        self.drawn = 0  # of those that are none, from those around them
        self.beyond = 0  # samples of any channel beyond ±1
        self.floats = False  # its samples were stored in 32 bits or more, most in floating point
        self.notes: list[str] = []
        self.reasons: list[str] = []  # why something could not be decoded
        self.damaged, self.unknown = False, True  # unknown: nothing knows what the content is
        self._format: tuple[int, int] | None = None  # rate and channels of the last block
        self._resampler: soxr.ResampleStream | None = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    @property
    def is_silent(self) -> bool:
        """Whether nothing of it is worth hearing."""
        return self.peak <= (QUIET_PEAKS[0] if self.floats else SILENT_PEAK)

    def add(self, rate: int, block: np.ndarray) -> None:
        """Append float32 or float64 (samples, channels) at `rate` Hz.

        Raises AudioError if the recording is too long by now, or the rate is none of sound.
        Raises Again.
        """
        samples, channels = block.shape
        if not samples:
            return
        if not RATES[0] <= rate <= RATES[1]:
            raise AudioError(
                f"{self.name}: {rate} Hz is no rate of speech ({RATES[0]} to {RATES[1]} are read)"
            )
        self.seconds += samples / rate
        self.channel_seconds += samples * channels / rate
        if self.seconds > self.longest_s or self.channel_seconds > MOST_CHANNELS * LONGEST_S:
            limit = f"{self.longest_s:.0f} s"
            if self.longest_s >= 7200:
                limit = f"{self.longest_s / 3600:.0f} hours"
            raise AudioError(f"{self.name}: longer than {limit}: cut it into parts")
        self.samples += samples
        if (rate, channels) != self._format:
            self._start_run(rate, channels)
        if self.runs[-1].offsets is not None:
            block = block - self.runs[-1].offsets
        finite = np.isfinite(block)
        if not finite.all():
            self.broken += int((~finite).any(axis=1).sum())
            self.lost += int((~finite).all(axis=1).sum())
            block = np.where(finite, block, block.dtype.type(0))
            for channel, known in zip(block.T, finite.T, strict=True):
                self.drawn += _mend(channel, known)
        self.runs[-1].count(block)
        peak = float(np.abs(block).max())
        self.peak = max(self.peak, peak)
        if peak > 1:
            self.beyond += int((np.abs(block) > 1).any(axis=1).sum())
            if self.clip:
                block = np.clip(block, -1, 1)
            elif peak * self.gain > LARGEST:
                raise Again(gain=2.0 ** -np.ceil(np.log2(peak)))
        self._write((block if self.gain == 1 else block * self.gain).astype(np.float32, copy=False))

    def _start_run(self, rate: int, channels: int) -> None:
        self._end_run()
        self.rate = self.rate or rate
        self._format = rate, channels
        if rate < TELEPHONE_RATE:
            self.notes.append(f"recorded at {rate:,} Hz: it holds nothing above {rate // 2:,} Hz")
        number = len(self.runs)
        self.runs.append(_Run(channels, self.offsets[number] if self.offsets else None))
        if rate != self.rate:
            self._resampler = soxr.ResampleStream(rate, self.rate, channels, dtype="float32")

    def _write(self, block: np.ndarray, last: bool = False) -> None:
        if self._resampler:
            block = self._resampler.resample_chunk(block, last=last)
        self.file.write(np.ascontiguousarray(block, np.float32).data)
        self.runs[-1].samples += len(block)

    def _end_run(self) -> None:
        if self._resampler:
            self._write(np.zeros((0, self._format[1]), np.float32), last=True)
        self._resampler = None

    def recording(self, rescale: bool, long_to: Path | None) -> Recording:
        """Everything that was added; see `decode` for the arguments.

        Raises AudioError if next to none of it are finite numbers, and Again.
        """
        self._end_run()
        offsets = [run.found() for run in self.runs]
        if self.offsets:
            if any(run.tells() for run in self.runs):
                self.notes.append("a constant offset: removed")
        elif rescale and any(found.any() for found in offsets):
            raise Again(offsets=offsets)
        if self.broken:
            what = f"{_samples(self.broken)} NaN or infinite"
            if self.seconds * (1 - self.lost / self.samples) < LEAST_S:
                raise AudioError(f"{self.name}: {what}")
            how = "interpolated, if only a few in a row" if self.drawn else "taken as silence"
            self.notes.append(f"{what}: {how}")
            self.damaged = True
        factor = 1 / self.gain
        if self.clip:
            what = f"{_samples(self.beyond)} beyond full scale, up to {self.peak:.5g}"
            self.notes.append(f"{what}: clipped")
        elif rescale and self.peak > 1:
            if self.peak > LOUD_PEAK and self.beyond < FEW * self.samples:
                # a few broken samples are no reason to silence the others
                raise Again(clip=True, gain=1.0)
            factor /= self.peak
            if self.peak > LOUD_PEAK:
                self.notes.append(f"peak {self.peak:.5g}: rescaled")
        elif rescale and self.floats and QUIET_PEAKS[0] < self.peak < QUIET_PEAKS[1]:
            factor /= self.peak
            self.notes.append(f"peak {self.peak:.5g}: rescaled")
        shape = max(run.channels for run in self.runs), sum(run.samples for run in self.runs)
        if not shape[1]:  # of a few samples, nothing may be left at another rate
            raise AudioError(f"{self.name}: empty, no samples")
        if any(run.channels != shape[0] for run in self.runs):
            self.notes.append("the number of channels changes")
        channels = self._channels(shape, factor, long_to)
        notes = tuple(dict.fromkeys(self.notes))
        return Recording(channels, self.rate, notes, self.damaged)

    def _channels(self, shape: tuple[int, int], factor: float, long_to: Path | None) -> np.ndarray:
        """(channels, samples): in memory, or a memory map, whose file is written without one."""
        if shape[0] * shape[1] < MAPPED_SAMPLES:
            result = np.empty(shape, np.float32)
            for start, block in self._blocks(shape[0], factor):
                result[:, start : start + block.shape[1]] = block
            return result
        with long_to.open("w+b") if long_to else tempfile.TemporaryFile() as file:
            for start, block in self._blocks(shape[0], factor):
                for number, row in enumerate(block):
                    file.seek(4 * (number * shape[1] + start))
                    file.write(row.tobytes())
            file.flush()
            return np.memmap(file, np.float32, "r+", shape=shape)

    def _blocks(self, channels: int, factor: float) -> Iterator[tuple[int, np.ndarray]]:
        """(first sample, float32 (channels, samples)) of what was written, times `factor`."""
        self.file.flush()
        self.file.seek(0)
        start = 0
        for run in self.runs:
            width, end = run.channels, start + run.samples
            while start < end:
                size = min(end - start, BLOCK_SAMPLES)
                block = np.fromfile(self.file, np.float32, width * size).reshape(size, width).T
                if factor != 1:
                    block = block * np.float32(factor)
                if width != channels:
                    missing = np.zeros((channels - width, size), np.float32)
                    block = np.vstack([block, missing + block if width == 1 else missing])
                yield start, block
                start += size


def _mend(channel: np.ndarray, known: np.ndarray) -> int:
    """Draw, in place, up to `MENDED` samples in a row that are not known; return how many."""
    good, bad = np.flatnonzero(known), np.flatnonzero(~known)
    behind = np.searchsorted(good, bad)
    inside = (behind > 0) & (behind < len(good))
    bad, behind = bad[inside], behind[inside]
    bad = bad[good[behind] - good[behind - 1] <= MENDED + 1]
    if len(bad):
        channel[bad] = np.interp(bad, good, channel[good])
        for start in range(0, len(channel), STRETCH):
            end = start + STRETCH + 2 * AROUND
            _foretell(channel[start:end], known[start:end], bad - start)
    return len(bad)


def _foretell(channel: np.ndarray, known: np.ndarray, bad: np.ndarray) -> None:
    """Draw samples, in place, as those around them foretell the known ones: a line loses hiss."""
    bad = bad[(bad >= AROUND) & (bad < len(channel) - AROUND)] - AROUND
    if not len(bad):
        return
    windows = np.lib.stride_tricks.sliding_window_view(channel, 2 * AROUND + 1)
    peaks = np.maximum(np.abs(windows).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    scaled = np.float64(windows) / peaks  # else one large sample would decide
    around, middle = np.delete(scaled, AROUND, axis=1), scaled[:, AROUND]
    rows = around[known[AROUND:-AROUND]]
    square = rows.T @ rows + (1e-6 * len(rows) + 1e-12) * np.eye(2 * AROUND)
    weights = np.linalg.solve(square, rows.T @ middle[known[AROUND:-AROUND]])
    channel[bad + AROUND] = np.clip(around[bad] @ weights, -1, 1) * peaks[bad, 0]


def _samples(count: int) -> str:
    return "1 sample is" if count == 1 else f"{count} samples are"
