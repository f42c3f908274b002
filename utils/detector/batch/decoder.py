"""Decode files of strangers in a process of its own, which may die.

What brings that process down, or keeps it busy for ever, costs this one file: the next one gets a
new process. Names and notes travel through pipes as lines of JSON, sound through files.
"""

import contextlib
import errno
import json
import os
import queue
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from utils.audio.decoding import LONGEST_S, NotAudio, Recording, decode
from utils.audio.dsp import AudioError
from utils.paths import ROOT

DATA_BYTES = 2 * 2**30  # of memory
SPACE_BYTES = 16 * 2**30  # of addresses: a long recording is a file that is mapped
LIMIT_S, LIMIT_S_PER_MB = 120.0, 30.0  # of time for any file, and more for each megabyte
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MAPPED_BYTES = 2**26  # from here on a wave is mapped, not loaded


class Decoder:
    """A process that decodes files one by one; use it in a `with` block, by one thread at a time.

    It starts at once, beside what the caller does, and ends with the block or with the caller.
    """

    def __init__(self, longest_s: float = LONGEST_S, limit_s: float = LIMIT_S):
        """Args: `longest_s` of a recording; `limit_s` of time for a small file."""
        self.longest_s, self.limit_s = longest_s, limit_s
        self._folder = tempfile.TemporaryDirectory(prefix="decoded-")
        self._process = self._start()
        self._ready, self._files = False, 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._end()
        self._folder.cleanup()

    def read(self, path: Path, rate: int | None = None) -> Recording:
        """What `decoding.decode` gives for a file, at `rate` Hz (None: that of the file).

        Raises NotAudio and AudioError as that does, and AudioError, naming the file, if the process
        dies or takes too long. Raises RuntimeError if it cannot be started, and OSError if the
        disk has no room for the decoded wave.
        """
        self._make_ready()
        self._files += 1
        target = Path(self._folder.name, str(self._files))
        limit_s = self.limit_s
        with contextlib.suppress(OSError, ValueError):
            limit_s += LIMIT_S_PER_MB * path.stat().st_size / 1e6
        question = json.dumps([str(path), rate, self.longest_s, str(target)])
        try:
            answer = json.loads(self._ask(question, limit_s))
        except _Stopped as stop:
            target.unlink(missing_ok=True)
            reason = f"the decoder stopped at this file ({stop})"
            raise AudioError(f"{path.name}: {reason}") from stop
        if "no room" in answer:  # no fault of the file: another start may read it
            hint = "make room, or name another folder in TMPDIR"
            raise OSError(f"{self._folder.name}: {answer['no room']}: {hint}")
        if "error" in answer:
            raise (NotAudio if answer["not audio"] else AudioError)(answer["error"])
        channels = _loaded(target, answer["channels"])
        return Recording(channels, answer["rate"], tuple(answer["notes"]), answer["damaged"])

    def _start(self) -> subprocess.Popen:
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        # an empty entry would be the working folder: modules beside a recording are not ours
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, folders)])
        self._ready = False
        return subprocess.Popen(
            # named by way of a function: so the digest of what decides a score follows it
            [sys.executable, "-P", "-m", serve.__module__, self._folder.name],
            bufsize=0,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def _make_ready(self) -> None:
        if self._process.poll() is not None:  # ended after the last file, or between two
            self._end()
            self._process = self._start()
        if not self._ready:
            try:
                self._answer(LIMIT_S)
            except _Stopped as stop:
                hint = f"`python -m {serve.__module__}` says why"
                raise RuntimeError(f"the decoder does not start ({stop}): {hint}") from stop
            self._ready = True

    def _ask(self, question: str, limit_s: float) -> bytes:
        with contextlib.suppress(BrokenPipeError):  # it died since: there is no answer
            self._process.stdin.write(question.encode() + b"\n")
        return self._answer(limit_s)

    def _answer(self, limit_s: float) -> bytes:
        """A line of the process. Raises _Stopped, and ends it, if it dies or says nothing."""
        line, pipe, end = b"", self._process.stdout, time.monotonic() + limit_s
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([pipe], [], [], max(0, end - time.monotonic()))
            if not ready:
                self._end()
                raise _Stopped(f"after {limit_s:.0f} s")
            block = os.read(pipe.fileno(), 2**16)
            if not block:
                status = self._process.wait()
                self._end()
                raise _Stopped(f"signal {-status}" if status < 0 else f"exit status {status}")
            line += block
        return line

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


class _Stopped(Exception):
    """The process died, or was ended since it took too long; the text says which."""


def _loaded(path: Path, channels: int) -> np.ndarray:
    """The wave in a file of the process, as (channels, samples); the file's name is removed."""
    if path.stat().st_size >= MAPPED_BYTES:
        wave = np.memmap(path, np.float32, "c")  # what is changed stays in memory
    else:
        wave = np.fromfile(path, np.float32)
    path.unlink()
    return wave.reshape(channels, -1)


def serve() -> None:
    """Answer the questions on standard input until it ends; what `Decoder` starts."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they are for the caller:
        signal.signal(number, signal.SIG_IGN)  # when it has gone, its files are removed here
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    questions: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(questions,), daemon=True).start()
    for limit, size in ((resource.RLIMIT_DATA, DATA_BYTES), (resource.RLIMIT_AS, SPACE_BYTES)):
        with contextlib.suppress(OSError, ValueError):  # not all systems have them
            resource.setrlimit(limit, (size, size))
    print("ready", file=answers)
    while True:
        print(json.dumps(_decoded(*json.loads(questions.get()))), file=answers)


def _listen(questions: queue.SimpleQueue) -> None:
    """Pass questions on, and leave when the caller is gone, whatever is being decoded."""
    for line in sys.stdin:
        questions.put(line)
    for folder in sys.argv[1:]:  # the caller may have been killed
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _decoded(path: str, rate: int | None, longest_s: float, target: str) -> dict:
    """Decode a file, write its wave to `target`, and return what else there is to say."""
    try:
        recording = decode(Path(path), Path(path).name, rate, longest_s, long_to=Path(target))
        if not isinstance(recording.channels, np.memmap):  # else it lies there
            recording.channels.tofile(target)
    except AudioError as error:
        return {"error": str(error), "not audio": isinstance(error, NotAudio)}
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        return {"no room": error.strerror}
    except MemoryError:
        reason = f"needs more than {DATA_BYTES / 2**30:.0f} GB of memory"
        return {"error": f"{Path(path).name}: {reason}", "not audio": False}
    return {
        "channels": len(recording.channels),
        "rate": recording.rate,
        "notes": recording.notes,
        "damaged": recording.damaged,
    }


if __name__ == "__main__":
    serve()
