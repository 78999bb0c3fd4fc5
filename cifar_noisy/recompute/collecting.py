"""Combining trained folds into the files that were published, with a record of their origin."""

import hashlib
import io
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import cifar_noisy
from cifar_noisy.confident_learning import label_errors
from cifar_noisy.evaluation import Detection, accuracy_bound, count_pairs
from cifar_noisy.recompute.checkpoints import damaged, write_whole
from cifar_noisy.recompute.layout import last_file, work_folder
from cifar_noisy.recompute.plan import Request, Task
from cifar_noisy.recompute.sources import Dataset, folds_of
from cifar_noisy.registry import npy_bytes
from cifar_noisy.settings import pyx_path, train_mask_path


@dataclass(frozen=True)
class Summary:
    """What the probabilities of a setting are worth.

    Attributes
    ----------
    given_accuracy, true_accuracy : float
        Of the out-of-sample argmax, against given and true labels.
    given_bound : float
        The best that `given_accuracy` can be: the mean of the noise matrix's column maxima, as
        drawn.
    fold_accuracies : tuple of (float, float)
        Against given and true labels, fold by fold.
    scores : dict from method to dict
        Its `Detection.row`.
    """

    given_accuracy: float
    true_accuracy: float
    given_bound: float
    fold_accuracies: tuple[tuple[float, float], ...]
    scores: dict[str, dict[str, Any]]


def collect(task: Task, request: Request, dataset: Dataset, folder: Path) -> None:
    """Combine the folds, and write pyx, masks and last the record of where they came from."""
    started = time.monotonic()
    folds = folds_of(dataset.labels, request.n_folds)
    pyx = np.empty((len(dataset.labels), int(dataset.labels.max()) + 1), dtype=request.dtype)
    trainings = {}
    for need, rows in zip(task.needs, folds, strict=True):
        pyx[rows], trainings[need] = _read_fold(work_folder(need, folder))
    given = dataset.noisy_labels(task.setting)
    errors = label_errors(given, pyx)
    files = {pyx_path(task.setting): npy_bytes(pyx)}
    for method, is_error in errors.items():
        files[train_mask_path(task.setting, method, "2021")] = npy_bytes(~is_error)
    for path, content in files.items():
        write_whole(folder / path, content)
    record = {
        "configuration": request.digest(),
        "request": request.as_json(),
        "setting": asdict(task.setting),
        "versions": versions(),
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
        "trainings": trainings,
        "collect_seconds": round(time.monotonic() - started, 3),
        "sha256": {path: hashlib.sha256(content).hexdigest() for path, content in files.items()},
        "summary": asdict(summarise(task, dataset, pyx, given, errors, folds)),
    }
    text = json.dumps(record, indent=2) + "\n"
    write_whole(last_file(task, folder), text.encode())


def _read_fold(work: Path) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Return the probabilities of a fold as they were written, and what is known of its training.

    Raises
    ------
    RecomputeError
        If they are not as they were written.
    """
    path = work / "probabilities.npy"
    try:
        about: dict[str, Any] = json.loads((work / "about.json").read_bytes())
        content, expected = path.read_bytes(), about["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise damaged(path, ValueError("another sha256"))
    return np.load(io.BytesIO(content), allow_pickle=False), about


def summarise(
    task: Task,
    dataset: Dataset,
    pyx: NDArray[np.floating[Any]],
    given: NDArray[np.int64],
    errors: dict[Any, NDArray[np.bool_]],
    folds: tuple[NDArray[np.int64], ...],
) -> Summary:
    """Measure probabilities and masks against given and true labels."""
    top = pyx.argmax(axis=1)
    is_given, is_true = top == given, top == dataset.labels
    n_classes = pyx.shape[1]
    pairs = count_pairs(given, dataset.labels, n_classes)
    return Summary(
        given_accuracy=float(is_given.mean()),
        true_accuracy=float(is_true.mean()),
        given_bound=accuracy_bound(pairs),
        fold_accuracies=tuple(
            (float(is_given[rows].mean()), float(is_true[rows].mean())) for rows in folds
        ),
        scores={
            method: Detection.of(
                method, pairs, count_pairs(given[found], dataset.labels[found], n_classes)
            ).row()
            for method, found in errors.items()
        },
    )


def versions() -> dict[str, str]:
    """Return the versions that numbers depend on."""
    return {
        "cifar-noisy": cifar_noisy.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }
