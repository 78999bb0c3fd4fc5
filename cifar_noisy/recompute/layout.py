"""Where the folder of a plan holds what, and what that says of its tasks.

    plan.json                                            the request
    work/<task>/checkpoint.pt                            of a training under way
    work/<task>/{about.json,log.txt,probabilities.npy}   of a training that is done
    cifar10/cifar10_noisy_labels__.../                   pyx, five masks and provenance.json, as
                                                         upstream has them
    .../train_pruned_<method>/                           log and test_accuracy.json of a training
                                                         on a kept set

How far a task is follows from these files alone.
"""

import json
from pathlib import Path
from typing import Any, Literal

from cifar_noisy.recompute.checkpoints import damaged
from cifar_noisy.recompute.plan import Task
from cifar_noisy.recomputed import provenance_path
from cifar_noisy.settings import training_log_path

State = Literal["done", "started", "ready", "waiting"]


def state_of(task: Task, folder: Path) -> State:
    """Say how far a task is, from its files."""
    if last_file(task, folder).is_file():
        return "done"
    if checkpoint_file(task, folder).is_file():
        return "started"
    if task.kind == "collect":
        needed = [work_folder(need, folder) / "probabilities.npy" for need in task.needs]
    else:
        needed = [folder / provenance_path(task.setting)] if task.needs else []
    return "ready" if all(path.is_file() for path in needed) else "waiting"


def read_record(task: Task, folder: Path) -> dict[str, Any]:
    """Return what a task that is done wrote about itself.

    Of a collected setting the provenance record, summary included; of a training on a kept set its
    test accuracy.

    Raises
    ------
    RecomputeError
        If it cannot be read.
    """
    path = last_file(task, folder)
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    return record


def work_folder(task_id: str, folder: Path) -> Path:
    """Return where a task keeps what only other tasks read."""
    return folder / "work" / task_id


def checkpoint_file(task: Task, folder: Path) -> Path:
    """Return where the state of a training under way is."""
    return work_folder(task.id, folder) / "checkpoint.pt"


def last_file(task: Task, folder: Path) -> Path:
    """Return the file that a task writes last, so that where it is, all is."""
    if task.kind == "train":
        return work_folder(task.id, folder) / "probabilities.npy"
    if task.kind == "collect":
        return folder / provenance_path(task.setting)
    return published_log(task, folder).with_name("test_accuracy.json")


def published_log(task: Task, folder: Path) -> Path:
    """Return where upstream has the log of a training on a kept set."""
    trainer: Literal["resnet50", "coteaching"] = "resnet50" if task.kind == "kept" else "coteaching"
    return folder / training_log_path(task.setting, task.kept_method, trainer)
