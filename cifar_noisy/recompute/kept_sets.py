"""Training data from the examples that a mask keeps: rows, class weights and test set."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.confident_learning.label_errors import estimate_joint
from cifar_noisy.errors import InvalidInputError
from cifar_noisy.recompute.datasets import Dataset
from cifar_noisy.recompute.training import TrainingData


def kept_training(
    dataset: Dataset, given: NDArray[np.int64], is_kept: NDArray[np.bool_], key: str
) -> TrainingData:
    """Return data to train on what a mask keeps, and to predict and monitor the test set.

    Raises InvalidInputError if no example of a class is kept, or there is no test set.
    """
    pixels, labels, test = append_test_set(dataset, given)
    return TrainingData(
        pixels=pixels,
        labels=labels,
        train=np.flatnonzero(is_kept),
        held_out=test,
        n_classes=int(dataset.labels.max()) + 1,
        allow_flip=dataset.allow_flip,
        key=key,
        monitored=test,
        class_weights=class_weights(dataset.labels, given[is_kept]),
        is_clean=given == dataset.labels,
    )


def append_test_set(
    dataset: Dataset, given: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Return images and given labels followed by those of the test set, and the test set's rows."""
    if dataset.test_pixels is None or dataset.test_labels is None:
        raise InvalidInputError(
            "this dataset was opened without a test set: pass load_test_set=True"
        )
    pixels = np.concatenate([dataset.pixels, dataset.test_pixels])
    labels = np.concatenate([given, dataset.test_labels])
    return pixels, labels, np.arange(len(given), len(labels))


def class_weights(
    true_labels: NDArray[np.int64], kept_labels: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return each class's true count in the full set, divided by its count among those kept.

    >>> class_weights(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])).tolist()
    [2.0, 0.6666666865348816]
    """
    n_true = np.bincount(true_labels)
    n_kept = np.bincount(kept_labels, minlength=len(n_true))
    missing = np.flatnonzero(n_kept == 0)
    if len(missing):
        raise InvalidInputError(
            f"the mask keeps no example of class {missing[0]} ({len(missing)} of {len(n_true)} "
            "classes are missing): a network cannot learn it; keep another method's set"
        )
    weights: NDArray[np.float32] = (n_true / n_kept).astype(np.float32)
    return weights


def estimated_error_rate(given: NDArray[np.int64], pyx: NDArray[np.floating[Any]]) -> float:
    """Return the share of label errors that confident learning estimates.

    >>> pyx = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.7, 0.3]], dtype=np.float32)
    >>> estimated_error_rate(np.array([0, 0, 1, 1]), pyx)
    0.0
    """
    joint = estimate_joint(given, pyx)
    return float(1 - np.trace(joint) / joint.sum())
