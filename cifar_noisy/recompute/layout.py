"""Where the folder of a plan holds what, and what that says of its tasks.

    plan.json                                            the request, and where the images are
    work/<task>/checkpoint.pt, checkpoint.before.pt      of a training under way
    work/<task>/{log.txt,probabilities.npy,about.json}   of a training that is done
    cifar10/cifar10_noisy_labels__.../                   pyx, five masks and provenance.json, as
                                                         upstream has them
    .../train_pruned_<method>/                           log and test_accuracy.json of a training
                                                         on a kept set

How far a task is follows from these files alone. A task writes its record, the JSON file, last. One
of another configuration raises `RecomputeError`.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cifar_noisy.errors import RecomputeError
from cifar_noisy.loading.recomputed import provenance_path, read_record
from cifar_noisy.recompute.run_config import Request, Task
from cifar_noisy.settings import METHODS, pyx_path, train_mask_path, training_log_path
from cifar_noisy.store.files import abandoned_parts_of

State = Literal["done", "started", "ready", "waiting"]


def state_of(task: Task, request: Request, folder: Path) -> State:
    """Say how far a task is: done only if all that it wrote is as it was written."""
    if record_of(task, request, folder) is not None:
        return "done"
    if any(path.is_file() for path in checkpoint_files(task, folder)):
        return "started"
    needed = (record_of(other, request, folder) for other in request.needs(task))
    return "waiting" if None in needed else "ready"


def record_of(task: Task, request: Request, folder: Path) -> dict[str, Any] | None:
    """Return what a task that is done wrote about itself; None if it is not done.

    Of a collected setting the provenance record, summary included; of a training on a kept set its
    test accuracy.
    """
    path = record_path(task)
    record = read_record(folder, path, file_paths(task))
    if record is not None:
        hold_configuration(folder / path, record, request)
    return record


def hold_configuration(path: Path, content: Mapping[str, Any], request: Request) -> None:
    """Hold what was read from a file of the folder to the request.

    Raises
    ------
    RecomputeError
        If it is of another configuration.
    """
    if content.get("configuration") != request.digest():
        raise RecomputeError(
            f"{path} is of another configuration ({str(content.get('configuration'))[:12]}, not "
            f"{request.digest()[:12]}): name another folder"
        )


def remove_leftovers(task: Task, folder: Path) -> None:
    """Remove what killed processes left of the files of a task, and of the plan."""
    names = ["plan.json", *file_paths(task), record_path(task)]
    for path in [*(folder / name for name in names), *checkpoint_files(task, folder)]:
        for part in abandoned_parts_of(path):
            with contextlib.suppress(OSError):
                part.unlink()


def work_folder(task: Task, folder: Path) -> Path:
    """Return where a task keeps what only other tasks read."""
    return folder / "work" / task.id


def checkpoint_files(task: Task, folder: Path) -> tuple[Path, Path]:
    """Return where the state of a training under way is, and the one saved before."""
    work = work_folder(task, folder)
    return work / "checkpoint.pt", work / "checkpoint.before.pt"


def record_path(task: Task) -> str:
    """Return the path of the file that a task writes last."""
    if task.kind == "train":
        return f"work/{task.id}/about.json"
    if task.kind == "collect":
        return provenance_path(task.setting)
    return file_paths(task)[0].rpartition("/")[0] + "/test_accuracy.json"


def file_paths(task: Task) -> tuple[str, ...]:
    """Return the paths of the other files that are left of a task; logs come first."""
    if task.kind == "train":
        return f"work/{task.id}/log.txt", f"work/{task.id}/probabilities.npy"
    if task.kind == "collect":
        masks = (train_mask_path(task.setting, method, "2021") for method in METHODS)
        return pyx_path(task.setting), *masks
    trainer: Literal["resnet50", "coteaching"] = "resnet50" if task.kind == "kept" else "coteaching"
    return (training_log_path(task.setting, task.kept_method, trainer),)
