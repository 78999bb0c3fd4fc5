"""Accuracy on CIFAR-10's test set, against its own labels, corrected ones and people's votes."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.confident_learning.array_checks import as_array, check_probabilities
from cifar_noisy.errors import InvalidInputError
from cifar_noisy.loading.noise_generation import N_CLASSES
from cifar_noisy.loading.testset_labels import N_TEST_EXAMPLES, NO_CLASS, load_test_labels
from cifar_noisy.rendering import Cell, html_facts
from cifar_noisy.settings import ORDERS, Order, check_choice


@dataclass(frozen=True)
class AccuracyOnTestSet:
    """Accuracy of predictions on CIFAR-10's test set, by the labels that they are compared with.

    Attributes
    ----------
    original : float
        Share of the 10,000 images whose predicted class is CIFAR-10's label.
    corrected : float
        Share of the images that have a corrected label whose predicted class is that label.
    soft : float
        Mean share of people who chose the predicted class.
    soft_bound : float
        The highest `soft` that any predictions can have, since people disagree.
    n_without_class : int
        Images that count for neither side of `corrected`: most people saw another class in them.
    """

    original: float
    corrected: float
    soft: float
    soft_bound: float
    n_without_class: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, as JSON has them."""
        return asdict(self)

    def _repr_html_(self) -> str:
        facts: dict[str, Cell] = {
            "against CIFAR-10's labels": self.original,
            "against corrected labels": self.corrected,
            "share of people who agree": self.soft,
            "that share, at most": self.soft_bound,
            "images without a class": self.n_without_class,
        }
        return html_facts(facts, title="Accuracy on CIFAR-10's test set")


def test_accuracy(predictions: ArrayLike, *, order: Order) -> AccuracyOnTestSet:
    """Compare predictions for CIFAR-10's test set with three kinds of labels.

    Parameters
    ----------
    predictions : (10000,) int or (10000, 10) float16, float32 or float64 array_like
        Predicted classes 0 to 9, or predicted probabilities, of which the most probable class
        counts, the first where several tie.
    order : {"imagefolder", "torchvision"}
        Order of the rows; ``torchvision.datasets.CIFAR10(train=False)`` has "torchvision". There is
        no default, since accuracy in a wrong order is 10 %.

    Returns
    -------
    AccuracyOnTestSet

    Raises
    ------
    InvalidInputError
        If the predictions are neither, or not of 10,000 images.
    UnknownArtifactError
        If the order is unknown.
    UnavailableError
        If no source has the files of `load_test_labels`.

    Examples
    --------
    CIFAR-10's labels themselves, as if they were predictions:

    >>> labels = load_test_labels("original")
    >>> accuracy = test_accuracy(labels, order="imagefolder")  # doctest: +SKIP
    >>> accuracy.original, round(accuracy.corrected, 4), round(accuracy.soft, 4)  # doctest: +SKIP
    (1.0, 0.9982, 0.9523)
    """
    check_choice(order, ORDERS, "order")
    predicted = _predicted_classes(as_array(predictions, "predictions"))
    original = load_test_labels("original", order=order)
    corrected = load_test_labels("corrected", order=order)
    soft = load_test_labels("soft", order=order)
    has_class = corrected != NO_CLASS
    return AccuracyOnTestSet(
        original=float((predicted == original).mean()),
        corrected=float((predicted == corrected)[has_class].mean()),
        # fsum, so that the order of the rows does not matter
        soft=math.fsum(soft[np.arange(N_TEST_EXAMPLES), predicted]) / N_TEST_EXAMPLES,
        soft_bound=math.fsum(soft.max(axis=1)) / N_TEST_EXAMPLES,
        n_without_class=int(np.count_nonzero(~has_class)),
    )


test_accuracy.__test__ = False  # type: ignore[attr-defined]  # for pytest: it is no test


def _predicted_classes(predictions: NDArray[Any]) -> NDArray[np.intp]:
    classes: NDArray[Any]
    if predictions.ndim == 2:
        classes = check_probabilities(predictions, "predictions").argmax(axis=1)
        is_shaped = predictions.shape == (N_TEST_EXAMPLES, N_CLASSES)
    else:
        classes = predictions
        is_shaped = predictions.shape == (N_TEST_EXAMPLES,) and predictions.dtype.kind in "iu"
    if not is_shaped:
        raise InvalidInputError(
            f"predictions are {predictions.dtype} of shape {predictions.shape}: pass 10,000 whole "
            "numbers, or (10000, 10) probabilities"
        )
    if classes.min() < 0 or classes.max() >= N_CLASSES:
        raise InvalidInputError(
            f"predictions lie between {classes.min()} and {classes.max()}: pass classes, 0 to 9"
        )
    return classes.astype(np.intp, copy=False)
