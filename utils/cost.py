"""What a model costs to run: weights, memory, speed, measured in a process of its own."""
import json
import subprocess
import sys
from pathlib import Path

from utils import paths

_PROGRAM = """
import json, resource, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from utils import audio, backbones, training
folds, clips = [Path(p) for p in json.loads(sys.argv[1])], json.loads(sys.argv[2])
models = [training.load_fold(fold) for fold in folds]
waves = [audio.read(Path(c)) for c in clips]
training.score(models[0], waves[0])
began = time.perf_counter()
for wave in waves:
    for model in models:
        training.score(model, wave)
seconds = time.perf_counter() - began
print(json.dumps([sum(map(backbones.parameters, models)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
                  sum(map(len, waves)) / audio.RATE / seconds]))
"""


def measure(run: Path, model: str, folder: Path, clips: int) -> dict:
    """Score `clips` test clips with all folds of a model, one thread, in a fresh process.

    Returns model, parameters (M, all folds), peak RAM (GB), × real time (seconds of audio a second, all folds together).
    Raises subprocess.CalledProcessError if that process fails.
    """
    folds = sorted(str(p) for p in (run / "models" / model).glob("fold*") if (p / "done.json").exists())
    names = sorted(str(p) for p in Path(folder).glob("*.wav"))[:clips]
    done = subprocess.run([sys.executable, "-c", _PROGRAM, json.dumps(folds), json.dumps(names)], check=True, text=True,
                          stdout=subprocess.PIPE, cwd=paths.ROOT)
    weights, memory, speed = json.loads(done.stdout)
    return {"model": model, "parameters (M)": weights / 1e6, "peak RAM (GB)": memory / 1e6, "× real time": speed}
