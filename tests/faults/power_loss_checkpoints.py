"""Loss of power and bad disks in the middle of a training: every file of it cut or changed."""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from cifar_noisy import Setting
from cifar_noisy.errors import InterruptedRunError, RecomputeError
from cifar_noisy.recompute.checkpoints import load_checkpoint
from cifar_noisy.recompute.datasets import Dataset, open_dataset
from cifar_noisy.recompute.plan_file import save_plan
from cifar_noisy.recompute.run_config import RunConfig, Task, make_run_config, tasks_of
from cifar_noisy.recompute.task_files import checkpoint_files
from cifar_noisy.recompute.task_runner import run_tasks
from cifar_noisy.recompute.training import Trainer


@dataclass
class PowerLosses:
    """What came of it, over all damages."""

    n_flips: int = 0
    n_resumes: int = 0
    n_wrong: int = 0
    n_stuck: int = 0


def power_losses(folder: Path, n_flips: int, n_resumes: int, seed: int = 0) -> PowerLosses:
    """Flip single bits of a checkpoint and load it; cut and change all files, and run again.

    A fold is done and another begun when the power goes. Each file is cut to nothing and to half,
    then each of `n_resumes` times one bit of some file is another.
    """
    digits = open_dataset("digits")
    request = make_run_config(
        [Setting(0.4, 0.2)], digits.digest(), dataset="digits", n_folds=2,
        overrides={"epochs": 3, "width": 4},
    )  # fmt: skip
    expected = _finished(request, digits, folder / "undisturbed")
    begun = folder / "begun"
    _begin(request, digits, begun)
    outcome, rng = PowerLosses(), random.Random(seed)
    _flip_checkpoints(begun, tasks_of(request)[1], rng, n_flips, outcome)
    files = [path.relative_to(begun) for path in sorted(begun.rglob("*")) if path.is_file()]
    files = [path for path in files if path.name != ".lock"]
    damages: list[tuple[Path, float | None]] = [(path, s) for path in files for s in (0.0, 0.5)]
    damages += [(rng.choice(files), None) for _ in range(n_resumes)]
    for path, share in damages:
        copy = folder / "copy"
        shutil.copytree(begun, copy)
        content = bytearray((copy / path).read_bytes())
        if share is None:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            del content[int(share * len(content)) :]
        (copy / path).write_bytes(content)
        outcome.n_resumes += 1
        try:
            outcome.n_wrong += _finished(request, digits, copy) != expected
        except RecomputeError:
            outcome.n_stuck += 1
        shutil.rmtree(copy)
    return outcome


def _finished(request: RunConfig, digits: Dataset, folder: Path) -> dict[str, bytes]:
    save_plan(request, folder)
    list(run_tasks(request, digits, folder, threads=1))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.npy")}


def _begin(request: RunConfig, digits: Dataset, folder: Path) -> None:
    """Train one fold, and of the other two epochs and a step."""
    save_plan(request, folder)

    def stop(task: Task, trainer: Trainer) -> None:
        if task.fold == 1 and trainer.step == 2 * trainer.steps_per_epoch + 1:
            raise InterruptedRunError

    try:
        list(run_tasks(request, digits, folder, threads=1, on_step=stop))
    except InterruptedRunError:
        return
    raise AssertionError("it should have been interrupted")


def _flip_checkpoints(
    begun: Path, task: Task, rng: random.Random, n_flips: int, outcome: PowerLosses
) -> None:
    last, before = checkpoint_files(task, begun)
    right = load_checkpoint((last, before), task.id)
    fallback = load_checkpoint((before, last), task.id)
    assert right is not None
    assert fallback is not None
    assert right["step"] == 2 * fallback["step"]
    content = last.read_bytes()
    for _ in range(n_flips):
        flipped = bytearray(content)
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        last.write_bytes(flipped)
        loaded = load_checkpoint((last, before), task.id)
        outcome.n_flips += 1
        outcome.n_stuck += loaded is None
        outcome.n_wrong += loaded is not None and loaded["step"] != fallback["step"]
    last.write_bytes(content)
