"""Merge trained folds into the files that were published, with a record of their origin."""

import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import cifar_noisy
from cifar_noisy.confident_learning.array_checks import check_probabilities
from cifar_noisy.confident_learning.label_errors import label_errors
from cifar_noisy.errors import RecomputeError, printable
from cifar_noisy.evaluation.evaluate import Detection, accuracy_bound, count_pairs
from cifar_noisy.loading.given_labels import identity
from cifar_noisy.loading.recomputed import recomputed_mask_path, recomputed_pyx_path, write_record
from cifar_noisy.recompute.datasets import Dataset, folds_of
from cifar_noisy.recompute.run_config import RunConfig, Task, find_tasks
from cifar_noisy.recompute.task_files import file_paths, record_of, record_path, work_folder
from cifar_noisy.store.registry import npy_bytes


def merge_folds(task: Task, config: RunConfig, dataset: Dataset, folder: Path) -> None:
    """Write pyx, masks and last the record of the setting of a "collect" task."""
    started = time.monotonic()
    folds = folds_of(dataset.labels, config.n_folds)
    pyx = np.empty((len(dataset.labels), int(dataset.labels.max()) + 1), dtype=config.dtype)
    trainings = {}
    for fold, rows in zip(find_tasks(config, task.depends_on), folds, strict=True):
        trainings[fold.id] = record_of(fold, config, folder)
        if trainings[fold.id] is None:
            raise RecomputeError(f"{fold.id} is not done, or damaged: run it first")
        pyx[rows] = _fold_probabilities(fold, folder, (len(rows), pyx.shape[1]))
    given = dataset.noisy_labels(task.setting)
    errors = label_errors(given, pyx)
    files = {recomputed_pyx_path(task.setting): npy_bytes(pyx)}
    for method, is_error in errors.items():
        files[recomputed_mask_path(task.setting, method)] = npy_bytes(~is_error)
    record = {
        "configuration": config.config_sha256(),
        "request": config.to_dict(),
        "setting": identity(task.setting),
        "versions": {
            "cifar-noisy": cifar_noisy.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
        },
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
        "trainings": trainings,
        "collect_seconds": round(time.monotonic() - started, 3),
        "summary": summarize(dataset, pyx, given, errors, folds),
    }
    write_record(folder, record_path(task), record, files)


def _fold_probabilities(task: Task, folder: Path, shape: tuple[int, int]) -> NDArray[Any]:
    """Read what a fold predicted; a file that was sealed by hand may hold anything."""
    path = folder / file_paths(task)[1]
    try:
        with path.open("rb") as file:
            found = check_probabilities(np.lib.format.read_array(file, allow_pickle=False))
        if found.shape != shape:
            raise ValueError(f"it has shape {found.shape}, not {shape}")
    except Exception as error:
        raise RecomputeError(
            f"{path} does not hold the probabilities of its fold ({printable(error)}): remove "
            f"{work_folder(task, folder)} and run {task.id} again"
        ) from error
    return found


def summarize(
    dataset: Dataset,
    pyx: NDArray[np.floating[Any]],
    given: NDArray[np.int64],
    errors: dict[Any, NDArray[np.bool_]],
    folds: tuple[NDArray[np.int64], ...],
) -> dict[str, Any]:
    """Measure probabilities and masks against given and true labels.

    "given_bound" is the highest possible accuracy against given labels: the mean of the noise
    matrix's column maxima, as drawn. A fold has its accuracies against given and true labels.
    """
    predicted = pyx.argmax(axis=1)
    is_given, is_true = predicted == given, predicted == dataset.labels
    n_classes = pyx.shape[1]
    pairs = count_pairs(given, dataset.labels, n_classes)
    return {
        "given_accuracy": float(is_given.mean()),
        "true_accuracy": float(is_true.mean()),
        "given_bound": accuracy_bound(pairs),
        "fold_accuracies": [
            (float(is_given[rows].mean()), float(is_true[rows].mean())) for rows in folds
        ],
        "scores": {
            method: Detection.of(
                method, pairs, count_pairs(given[found], dataset.labels[found], n_classes)
            ).row()
            for method, found in errors.items()
        },
    }
