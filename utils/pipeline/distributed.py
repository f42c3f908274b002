"""Train one model by several processes at once: one for each GPU or, without any, each CPU core.

Each process computes its part of every batch, and the gradients are added up: the model is that of
one process but for rounding. PyTorch's launcher (`torch.distributed.run`) starts the processes,
accelerate connects them.
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
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import record

from utils import parallel, paths
from utils.code_digest import code_digest
from utils.models import finetune


class Team:
    """The processes that train one model, as seen from one of them: process `rank` of `size`.

    `distribution` is what the function of that name gave the process that started this one.
    """

    def __init__(self, distribution: str):
        from accelerate import Accelerator

        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.rank = self.accelerator.process_index
        self.size = self.accelerator.num_processes
        self.device = self.accelerator.device
        self.distribution = distribution

    def own_clips(self, batch: list[torch.Tensor]) -> list[torch.Tensor]:
        """The clips of a batch that this process computes: every `size`-th.

        The last tensor of `batch` holds the clips' weights. A process for which no clip is left
        gets the first one with weight 0: without any its gradients would be missing.
        """
        if self.rank < len(batch[0]):
            return [tensor[self.rank :: self.size] for tensor in batch]
        *tensors, weight = [tensor[:1] for tensor in batch]
        return [*tensors, weight * 0.0]

    def sum_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its sum over all processes, in one message."""
        if self.size == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        sums = self.accelerator.reduce(flat, "sum").split([g.numel() for g in gradients])
        for gradient, summed in zip(gradients, sums, strict=True):
            gradient.copy_(summed.view_as(gradient))

    def sum(self, value: float) -> float:
        """Sum of a number over all processes."""
        if self.size == 1:
            return value
        return float(self.accelerator.reduce(torch.tensor(value, device=self.device), "sum"))

    def gather(self, scores: dict[int, float]) -> dict[int, float]:
        """The union of what each process has."""
        if self.size == 1:
            return scores
        from accelerate.utils import gather_object

        return dict(gather_object(list(scores.items())))


def distribution(processes: int) -> str:
    """What a model depends on if several processes train it (`finetune.key_of`); "" for one."""
    return f"{processes} processes, {code_digest(Team)}" if processes > 1 else ""


def size(config: finetune.Config) -> int:
    """Processes for one model: as many as GPUs or else cores, but no more than clips per batch."""
    return min(config.batch, torch.cuda.device_count() or parallel.cpu_count())


def run_fold(
    config: finetune.Config, fold: int, table, features: Path, folder: Path, processes: int = 0
) -> dict:
    """`finetune.run_fold` by several processes at once (default: `size`).

    If one of them is killed, all start again, once. Raises RuntimeError with their output if they
    fail.
    """
    processes = processes or size(config)
    job, way = (config, fold, table, features), distribution(processes)
    found = finetune.finished(folder, finetune.key_of(*job, way))
    if found is not None:
        return found
    with tempfile.TemporaryDirectory() as temporary:
        job_file = Path(temporary) / "job.pickle"
        job_file.write_bytes(pickle.dumps(((*job, folder), way)))
        for _ in range(2):
            done = _launch(job_file, processes)
            if "traceback : Signal" not in done.stderr.partition("Root Cause")[2]:
                break  # none was killed
    if done.returncode:
        output = done.stderr.strip()[-2000:]
        raise RuntimeError(f"{folder}: {processes} processes at once failed: {output}")
    return paths.read_json(folder / "done.json")


def _launch(job_file: Path, processes: int) -> subprocess.CompletedProcess:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(paths.ROOT), *sys.path]),
        "DFS_STARTED_BY": str(os.getpid()),
    }
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [sys.executable, "-m", *launcher, "-m", "utils.pipeline.distributed", str(job_file)],
        env=environment,
        text=True,
        capture_output=True,
    )


def run_folds(jobs: list[tuple], label: str = "") -> list[dict]:
    """Records of folds; `jobs` hold the arguments of `finetune.run_fold`.

    With `--engine accelerate` all processes train one fold at a time; otherwise folds
    run side by side, in processes of this machine or on a Ray cluster.
    """
    if os.environ.get("DFS_ENGINE") != "accelerate":
        return parallel.run_in_processes(finetune.run_fold, jobs, label)
    return [run_fold(*job) for job in parallel.progress(jobs, label)]


def _exit_with(process: int) -> None:
    while Path(f"/proc/{process}").exists():
        time.sleep(1)
    os._exit(1)


@record  # the launcher prints what it raises
def main(job_file: str) -> None:
    """One of the processes; environment variables of the launcher hold its rank."""
    started_by = int(os.environ["DFS_STARTED_BY"])
    threading.Thread(target=_exit_with, args=(started_by,), daemon=True).start()
    job, way = pickle.loads(Path(job_file).read_bytes())
    team = Team(way)
    torch.set_num_threads(1)
    finetune.run_fold(*job, team=team)
    team.accelerator.wait_for_everyone()  # the first one writes while others are done
    team.accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1])
    os._exit(0)  # all is written; a normal exit beside gloo's threads may abort
