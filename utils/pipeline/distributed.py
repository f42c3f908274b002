"""One model trained by several processes at once: one a GPU of this machine, or one a core where there is none.

Each process takes its share of every batch and their gradients are added up, so the model is that of one process but for
rounding. PyTorch's launcher starts them, accelerate joins them.
"""

import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing.errors import record

from utils import parallel, paths
from utils.models import finetune


def size(config: finetune.Config) -> int:
    """Processes for one model: as many as GPUs, else as cores; a batch has no more shares than clips."""
    return min(config.batch, torch.cuda.device_count() or os.cpu_count() or 1)


def run_fold(*job, processes: int = 0) -> dict:
    """What `training.run_fold` does, by `processes` (default: `size`) at once; if one is killed, all start again, once. Raises
    RuntimeError with what they printed."""
    processes = processes or size(job[0])
    if (record := finetune.finished(job[-1], finetune.key_of(*job[:-1], processes))) is not None:
        return record
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "job.pickle"
        place.write_bytes(pickle.dumps(job))
        known = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(paths.ROOT), *sys.path]),
            "DFS_STARTED_BY": str(os.getpid()),
        }
        for _ in range(2):
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "torch.distributed.run",
                    "--standalone",
                    f"--nproc-per-node={processes}",
                    "-m",
                    "utils.pipeline.distributed",
                    str(place),
                ],
                env=known,
                text=True,
                capture_output=True,
            )
            if (
                "traceback : Signal" not in done.stderr.partition("Root Cause")[2]
            ):  # else one was killed
                break
    if done.returncode:
        raise RuntimeError(
            f"{job[-1]}: {processes} processes at once failed: {done.stderr.strip()[-2000:]}"
        )
    return paths.read_json(job[-1] / "done.json")


def run_folds(jobs: list, label: str = "") -> list[dict]:
    """Records of folds: side by side in processes or on the cluster or, with `--engine accelerate`, each by all processes."""
    if os.environ.get("DFS_ENGINE") != "accelerate":
        return parallel.run_in_processes(finetune.run_fold, jobs, label)
    return [run_fold(*job) for job in parallel.progress(jobs, label)]


def _leave_with(process: int) -> None:
    while Path(f"/proc/{process}").exists():
        time.sleep(1)
    os._exit(1)


@record  # what it raises is in what the launcher prints
def main(place: str) -> None:
    """One of the processes; the launcher has told each its rank by environment variables."""
    from accelerate import Accelerator

    threading.Thread(
        target=_leave_with, args=(int(os.environ["DFS_STARTED_BY"]),), daemon=True
    ).start()
    team = Accelerator(cpu=not torch.cuda.is_available())
    torch.set_num_threads(1)
    finetune.run_fold(*pickle.loads(Path(place).read_bytes()), team=team)
    team.wait_for_everyone()  # the first one writes while others are done
    team.end_training()


if __name__ == "__main__":
    main(sys.argv[1])
    os._exit(0)  # all is written: an interpreter that is taken down beside gloo's threads may abort
