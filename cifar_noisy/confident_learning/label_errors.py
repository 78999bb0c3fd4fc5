"""Confident learning: given labels and out-of-sample probabilities in, label errors out.

The five methods of Northcutt, Jiang and Chuang (JAIR 2021) in the arithmetic of the program that
made the published masks, so that these come out bit for bit. Where that arithmetic matters:

- a class threshold of float16 probabilities is accumulated in float32 and rounded to float16;
- the calibrated confident joint is rounded to counts row by row, and among equal remainders a
  *stable* sort decides which are taken;
- margins of float16 probabilities are taken in float32, where they are exact.

Wider probabilities are not rounded: their thresholds are float64, their margins of their own dtype.

What that program never met is as in cleanlab 2.9: a threshold is at least `LEAST_THRESHOLD`, a
class absent from the labels has none, and each class counts as rightly given at least once.

Everything here is a pure function of arrays. A joint has given labels as rows and true labels as
columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.confident_learning.array_checks import as_array, check_probabilities
from cifar_noisy.errors import InvalidInputError
from cifar_noisy.settings import Method

MIN_EXAMPLES_KEPT = 5
"""Examples kept in each class; a class with no more than these is left alone."""

CONFIDENCE_SLACK = 1e-6
"""How far below its class's threshold a probability still counts as confident."""

LEAST_THRESHOLD = 2 * CONFIDENCE_SLACK
"""So that no example is confident in a class of probability 0, though all of its class have 0."""

NOT_CONFIDENT = -1
"""The confident class of an example that is confident in none."""

Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]
Labels = NDArray[np.intp]
Probabilities = NDArray[np.floating]


@dataclass(frozen=True)
class CheckedInput:
    """Checked labels and probabilities, in the form that all methods share."""

    labels: Labels  # (N,) given labels
    pyx: Probabilities  # (N, K) float16, float32 or float64
    label_counts: Counts  # (K,) examples of each given label
    predicted: Labels  # (N,) the most probable class; the first of them where several tie

    @classmethod
    def of(cls, labels: ArrayLike, pyx: ArrayLike) -> "CheckedInput":
        """Check that these are labels and probabilities of the same examples."""
        probabilities = check_probabilities(as_array(pyx, "pyx", beside=labels))
        given = _checked_labels(as_array(labels, "labels", beside=pyx), *probabilities.shape)
        label_counts = np.bincount(given, minlength=probabilities.shape[1])
        return cls(given, probabilities, label_counts, probabilities.argmax(axis=1))

    @property
    def n_classes(self) -> int:
        """K, the number of classes."""
        return len(self.label_counts)


def label_errors(labels: ArrayLike, pyx: ArrayLike) -> dict[Method, Mask]:
    """Find label errors by each of the paper's five methods.

    Parameters
    ----------
    labels : (N,) int array_like
        Given labels, 0 to K - 1. In a class that is absent nobody is confident.
    pyx : (N, K) float16, float32 or float64 array_like
        Out-of-sample predicted probabilities of the same examples, K >= 2. Rows need not sum to 1.
        A pandas Series or DataFrame is aligned with the other array by an index of 0 to N - 1;
        where both carry the same index, their rows belong together as they stand.

    Returns
    -------
    dict of (N,) bool
        True = label error, by method: "argmax" (the paper's C_confusion), "conf_joint_only"
        (C_y~,y*), "cl_pbc" (prune by class), "cl_pbnr" (prune by noise rate) and "cl_both" (both
        agree). In the order of the examples 0 to N - 1; where `labels` and `pyx` carry the same
        index, in the order of their rows.

    Raises
    ------
    InvalidInputError
        If the arrays are of different length or empty, a label is out of range, a probability is
        NaN or outside 0 to 1 by more than 1e-5, or an index does not say which example a row is.

    Examples
    --------
    The last example is labelled 0 and looks like class 1:

    >>> labels = np.repeat([0, 1], 20)
    >>> labels[-1] = 0
    >>> pyx = np.repeat([[0.9, 0.1], [0.2, 0.8]], 20, axis=0)
    >>> {method: int(found.sum()) for method, found in label_errors(labels, pyx).items()}
    {'argmax': 1, 'conf_joint_only': 1, 'cl_pbc': 1, 'cl_pbnr': 1, 'cl_both': 1}
    """
    problem = CheckedInput.of(labels, pyx)
    confident = confident_classes(problem)
    kept_counts = keep_enough(calibrate(count_joint(problem, confident), problem.label_counts))
    by_class, by_noise_rate = prune(problem, kept_counts)
    disagree = problem.predicted != problem.labels
    return {
        "argmax": disagree,
        "conf_joint_only": (confident != problem.labels) & (confident != NOT_CONFIDENT),
        "cl_pbc": by_class & disagree,
        "cl_pbnr": by_noise_rate & disagree,
        "cl_both": by_class & by_noise_rate & disagree,
    }


def confident_joint(labels: ArrayLike, pyx: ArrayLike) -> Counts:
    """Count examples by given label and confident class, calibrated to the given labels' totals.

    Parameters
    ----------
    labels, pyx
        As for `label_errors`, which raises the same errors.

    Returns
    -------
    (K, K) int64
        Row i sums to the number of examples with given label i; all entries sum to N.

    Examples
    --------
    >>> confident_joint([0, 0, 1, 1], [[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    array([[1, 1],
           [0, 2]])
    """
    problem = CheckedInput.of(labels, pyx)
    return calibrate(count_joint(problem, confident_classes(problem)), problem.label_counts)


def estimate_joint(labels: ArrayLike, pyx: ArrayLike) -> NDArray[np.float64]:
    """Estimate the joint distribution of given and true labels.

    Parameters
    ----------
    labels, pyx
        As for `label_errors`, which raises the same errors.

    Returns
    -------
    (K, K) float64
        Entry (i, j) estimates p(given = i, true = j); all entries sum to 1, row i to the share of
        given label i.

    Examples
    --------
    >>> estimate_joint([0, 0, 1, 1], [[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    array([[0.25, 0.25],
           [0.  , 0.5 ]])
    """
    counts = confident_joint(labels, pyx)
    joint: NDArray[np.float64] = counts / counts.sum()
    return joint


def estimate_noise_matrix(labels: ArrayLike, pyx: ArrayLike) -> NDArray[np.float64]:
    """Estimate the noise matrix, p(given | true).

    Parameters
    ----------
    labels, pyx
        As for `label_errors`, which raises the same errors.

    Returns
    -------
    (K, K) float64
        Entry (i, j) estimates p(given = i | true = j); columns sum to 1. A class that counts no
        example has a column of NaN: nothing is known of how it is labelled.

    Examples
    --------
    >>> pyx = [[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]
    >>> estimate_noise_matrix([0, 0, 1, 1], pyx).round(2)
    array([[1.  , 0.33],
           [0.  , 0.67]])
    """
    joint = estimate_joint(labels, pyx)
    totals = joint.sum(axis=0)
    noise_matrix: NDArray[np.float64] = joint / np.where(totals > 0, totals, np.nan)
    return noise_matrix


def confident_classes(problem: CheckedInput) -> Labels:
    """Return the class that each example confidently belongs to, or `NOT_CONFIDENT`.

    An example is confident in a class where its probability reaches the class's threshold; where
    that holds for several classes, its most probable class stands.
    """
    is_narrow = problem.pyx.dtype == np.float16
    means = class_means(problem, problem.pyx, np.float32 if is_narrow else np.float64)
    with np.errstate(under="ignore"):  # of float16, whatever the caller makes of it elsewhere
        thresholds = class_thresholds(means.astype(np.float16 if is_narrow else np.float64))
    reaches = problem.pyx >= thresholds
    n_reached = np.count_nonzero(reaches, axis=1)
    classes = np.where(n_reached == 1, reaches.argmax(axis=1), NOT_CONFIDENT)
    return np.where(n_reached > 1, problem.predicted, classes)


def class_means(
    problem: CheckedInput, pyx: Probabilities, dtype: type[np.floating]
) -> Probabilities:
    """Return each class's mean probability over its examples; infinity for an absent class."""
    means = np.full(problem.n_classes, np.inf, dtype)
    for k in np.flatnonzero(problem.label_counts):
        means[k] = pyx[problem.labels == k, k].mean(dtype=dtype)
    return means


def class_thresholds(means: Probabilities) -> Probabilities:
    """Return, per class, the least probability that counts as confident."""
    thresholds: Probabilities = np.maximum(means, LEAST_THRESHOLD) - CONFIDENCE_SLACK
    return thresholds


def count_joint(problem: CheckedInput, confident: Labels) -> Counts:
    """Count the confident examples by given label (row) and confident class (column).

    A diagonal count is at least 1, so that no row is empty.
    """
    is_confident = confident != NOT_CONFIDENT
    pairs = problem.labels[is_confident] * problem.n_classes + confident[is_confident]
    counts = np.bincount(pairs, minlength=problem.n_classes**2).reshape(problem.n_classes, -1)
    np.fill_diagonal(counts, np.maximum(counts.diagonal(), 1))
    return counts


def calibrate(counts: Counts, label_counts: Counts) -> Counts:
    """Scale each row of a joint to its given label's total, in whole numbers.

    The order of the operations is upstream's: it decides between remainders that are nearly equal.
    """
    scaled = (counts.T / counts.sum(axis=1) * label_counts).T
    scaled = scaled / np.sum(scaled) * label_counts.sum()
    return np.stack([_round_keeping_sum(row) for row in scaled])


def keep_enough(counts: Counts) -> Counts:
    """Raise each diagonal count to `MIN_EXAMPLES_KEPT`, taking evenly from the rest of its row."""
    diagonal = np.maximum(counts.diagonal(), MIN_EXAMPLES_KEPT)
    lacking = diagonal - counts.diagonal()
    n_donors = np.maximum(np.count_nonzero(counts, axis=1) - 1, 1)
    kept: Counts = np.maximum(counts - (lacking / n_donors)[:, None], 0).astype(np.int64)
    np.fill_diagonal(kept, diagonal)
    return kept


def widen_float16(pyx: Probabilities) -> Probabilities:
    """Return float16 probabilities as float32, in which their differences are exact."""
    return pyx.astype(np.float32) if pyx.dtype == np.float16 else pyx


def _round_keeping_sum(row: NDArray[np.float64]) -> Counts:
    whole = row.round()
    missing = int(row.sum().round() - whole.sum().round())
    by_remainder = np.argsort(row - whole, kind="stable")
    # All that is missing is less than one per entry, since each was rounded to the nearest.
    if missing > 0:
        whole[by_remainder[::-1][:missing]] += 1
    else:
        whole[by_remainder[:-missing]] -= 1
    return whole.astype(np.int64)


def prune(problem: CheckedInput, kept_counts: Counts) -> tuple[Mask, Mask]:
    """Return the masks of pruning by class and of pruning by noise rate.

    By class: the `kept_counts[i, i]` examples with the highest own probability are kept, and those
    that tie with the last one. By noise rate: the `kept_counts[i, j]` examples with the largest
    margins are removed, and those that tie with the last one.
    """
    by_class, by_noise_rate = np.zeros((2, len(problem.labels)), dtype=np.bool_)
    pyx = widen_float16(problem.pyx)
    for given, rows in pruned_classes(problem):
        own = pyx[rows, given]
        by_class[rows] = own < kth_largest(own, kept_counts[given, given])
        for true in others(given, kept_counts):
            margins = pyx[rows, true] - own
            by_noise_rate[rows] |= margins >= kth_largest(margins, kept_counts[given, true])
    return by_class, by_noise_rate


def pruned_classes(problem: CheckedInput) -> Iterator[tuple[int, Labels]]:
    """Yield each class that is large enough to prune, and the rows of its examples."""
    for given in np.flatnonzero(problem.label_counts > MIN_EXAMPLES_KEPT).tolist():
        yield given, np.flatnonzero(problem.labels == given)


def others(given: int, counts: Counts) -> list[int]:
    """Return the other classes that some example of a class is counted for."""
    return [true for true in np.flatnonzero(counts[given]).tolist() if true != given]


def kth_largest(values: NDArray[np.floating], k: int) -> np.floating:
    """Return the value at rank `k` from the top; the largest has rank 1."""
    largest: np.floating = np.partition(values, len(values) - k)[len(values) - k]
    return largest


def _checked_labels(labels: NDArray[Any], n_examples: int, n_classes: int) -> Labels:
    if labels.shape != (n_examples,):
        raise InvalidInputError(
            f"labels have shape {labels.shape}, pyx has {n_examples} rows: pass one label per row"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise InvalidInputError(f"labels have dtype {labels.dtype}: pass integers, 0 to K - 1")
    wrong = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(wrong):
        raise InvalidInputError(
            f"labels[{wrong[0]}] is {labels[wrong[0]]}: pyx has {n_classes} columns, so labels lie "
            f"between 0 and {n_classes - 1}"
        )
    return labels.astype(np.intp, copy=False)
