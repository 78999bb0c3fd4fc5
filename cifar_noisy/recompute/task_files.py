"""The files of a plan's folder, and what they say about its tasks.

    plan.json                                            the configuration, and where the images are
    labels/<name>.npy                                    given labels of the user
    masks/<digest>.npy                                   a given train mask, True = keep
    work/<task>/checkpoint.pt, checkpoint.before.pt      of a training under way
    work/<task>/{log.txt,probabilities.npy,about.json}   of a training that is done
    cifar10/cifar10_noisy_labels__.../                   pyx, five masks and provenance.json, as
                                                         upstream has them
    .../train_pruned_<method>/                           log and test_accuracy.json of a training
                                                         on a kept set
    work/<task>/{log.txt,probabilities.npy,test_accuracy.json}
                                                         of a training on what a given mask keeps;
                                                         the probabilities are those of the test set

The state of a task follows from these files alone. A task writes its record, the JSON file, last. A
record of another configuration raises `RecomputeError`.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cifar_noisy.errors import RecomputeError, printable
from cifar_noisy.loading.given_labels import LabelSource
from cifar_noisy.loading.recomputed import (
    provenance_path,
    read_record,
    recomputed_log_path,
    recomputed_mask_path,
    recomputed_pyx_path,
)
from cifar_noisy.recompute.run_config import GivenMask, RunConfig, Task, find_tasks
from cifar_noisy.settings import METHODS
from cifar_noisy.store.files import stale_partial_files

LABELS_FILE = "labels/{}.npy"
MASK_FILE = "masks/{}.npy"

State = Literal["done", "started", "ready", "waiting"]


def state_of(task: Task, config: RunConfig, folder: Path) -> State:
    """Return the state of a task; it is done only if all its files are as they were written."""
    if record_of(task, config, folder) is not None:
        return "done"
    if any(path.is_file() for path in checkpoint_files(task, folder)):
        return "started"
    needed = find_tasks(config, task.depends_on) if task.depends_on else []
    is_ready = all(record_of(other, config, folder) is not None for other in needed)
    return "ready" if is_ready else "waiting"


def record_of(task: Task, config: RunConfig, folder: Path) -> dict[str, Any] | None:
    """Return the record of a task; None if the task is not done."""
    path = record_path(task)
    record = read_record(folder, path, file_paths(task))
    if record is not None:
        check_configuration(folder / path, record, config)
    return record


def check_configuration(path: Path, content: Mapping[str, Any], config: RunConfig) -> None:
    """Raise if what was read from a file is of another configuration."""
    found = content.get("configuration")
    if found != config.config_sha256():
        raise RecomputeError(
            f"{path} is of another configuration ({printable(found)[:12]}, not "
            f"{config.config_sha256()[:12]}): name another folder"
        )


def remove_leftovers(task: Task, folder: Path) -> None:
    """Remove partly written files of a task, and of the plan, that killed processes left."""
    names = ["plan.json", *file_paths(task), record_path(task), labels_path(task.setting)]
    names += [mask_path(task.mask)] if task.mask is not None else []
    for path in [*(folder / name for name in names), *checkpoint_files(task, folder)]:
        for part in stale_partial_files(path):
            with contextlib.suppress(OSError):
                part.unlink()


def labels_path(source: LabelSource) -> str:
    """Return the path of a plan's copy of the user's own labels."""
    return LABELS_FILE.format(source.name)


def mask_path(mask: GivenMask) -> str:
    """Return the path of the array of a given mask."""
    return MASK_FILE.format(mask.digest)


def work_folder(task: Task, folder: Path) -> Path:
    """Return the folder of files that only other tasks read."""
    return folder / "work" / task.id


def checkpoint_files(task: Task, folder: Path) -> tuple[Path, Path]:
    """Return the paths of the last checkpoint and of the one before."""
    work = work_folder(task, folder)
    return work / "checkpoint.pt", work / "checkpoint.before.pt"


def record_path(task: Task) -> str:
    """Return the path of the file that a task writes last."""
    if task.kind == "train":
        return f"work/{task.id}/about.json"
    if task.kind == "collect":
        return provenance_path(task.setting)
    return file_paths(task)[0].rpartition("/")[0] + "/test_accuracy.json"


def probabilities_path(task: Task) -> str | None:
    """Return the path of the predicted probabilities, if a task keeps them."""
    return f"work/{task.id}/probabilities.npy" if task.kind in ("train", "mask") else None


def file_paths(task: Task) -> tuple[str, ...]:
    """Return the paths of the other files that a task leaves; the log comes first."""
    if probabilities := probabilities_path(task):
        return f"work/{task.id}/log.txt", probabilities
    if task.kind == "collect":
        masks = (recomputed_mask_path(task.setting, method) for method in METHODS)
        return recomputed_pyx_path(task.setting), *masks
    trainer: Literal["resnet50", "coteaching"] = "resnet50" if task.kind == "kept" else "coteaching"
    return (recomputed_log_path(task.setting, task.kept_method, trainer),)
