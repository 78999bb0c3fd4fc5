"""Whether the rows of a dataset are the published rows.

Three tests, each of which sees what the ones before it cannot:

1. Are the labels those of the published rows? Exact, but blind to the order within a class.
2. Do the images of each class predict the published log-probabilities of their rows, better than
   chance? Sees any order within a class as a whole.
3. Do the images, row by row, have the fingerprint of CIFAR-10's train set? Sees a few rows of a
   class out of place.

The fingerprint of a class is a sum over its images of five features (mean red, green and blue, top
against bottom, contrast), each image with a sign of its own, for four series of signs. In another
order, features get other signs. A second part, the features' skewness and kurtosis, does not depend
on the order, so it separates altered images, such as random crops, from images out of place.
Features are standardised per class, so units and normalisation do not matter.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from cifar_noisy.confident_learning.array_checks import as_array, check_probabilities
from cifar_noisy.errors import InvalidInputError, UnavailableError, printable
from cifar_noisy.images.user_datasets import Rows, read_rows
from cifar_noisy.loading.artifact_loading import load_true_labels, published_pyx
from cifar_noisy.loading.noise_generation import EXAMPLES_PER_CLASS, N_CLASSES, N_EXAMPLES
from cifar_noisy.loading.row_order import published_torchvision_index
from cifar_noisy.progress_bars import Shown, check_progress
from cifar_noisy.rendering import Cell, html_facts
from cifar_noisy.settings import CLASSES, Setting
from cifar_noisy.store.label_sets import label_sets
from cifar_noisy.store.registry import array_digest

Float = TypeVar("Float", bound="np.floating[Any]")
Verdict = Literal["aligned", "misaligned", "unclear"]
Mistake = Literal["torchvision order", "numeric sort", "TFDS order", "shuffled", "another pyx"]

SIGNIFICANCE_LEVEL = 1e-6
"""A test rejects, or finds a relation, where its p-value is below this."""

TFDS_FIRST_LABELS = (7, 8, 4, 4, 6, 5, 2, 9, 6, 6, 9, 9)
"""True labels of the first rows of TensorFlow Datasets' cifar10."""

_N_SIGNS, _N_FEATURES = 4, 5
_N_SUMS = _N_SIGNS * _N_FEATURES
_RIDGE = 1000.0
_MIN_PROBABILITY = 1e-4
# Standard deviation of a fingerprint's number where images went through JPEG; measured to be 0.006
# to 0.021 at qualities 75 and 50.
_JPEG_STD = 0.02
# Skewness and kurtosis moved by up to 0.028 in JPEG of quality 50, by 0.055 and more in random
# crops of 2 pixels and in changes of brightness.
_SHAPE_TOLERANCE = 0.04
# Mean squared deviation of a class in random order; measured on 20 orders.
_SHUFFLED_MEAN_SQUARE = 1.9

FINGERPRINT = np.array([
    [-145, -116, -183, -52, -136, -98, -222, -40, -83, -59, -140, -46, -100, 4, 75,
     -46, 46, -97, -38, -201, 1, -8, -32, 31, 41, 301, 309, 291, 354, 286],
    [-124, -116, 148, 44, -35, -136, 135, 100, -33, -103, 125, 51, -128, 162, -37,
     75, -56, -31, -25, -20, 40, 42, 34, -10, 36, 318, 332, 303, 288, 297],
    [261, -236, 123, -37, 181, -197, 186, -40, 109, -176, 114, -143, 91, -62, -65,
     -35, -31, 40, -121, -268, 11, 12, 62, 23, 71, 306, 316, 307, 543, 345],
    [-122, -30, 1, 113, -71, -78, 62, 164, -69, -72, 103, 110, -11, 14, 189,
     42, 17, -8, -47, -146, 15, 30, 36, 7, 38, 302, 329, 315, 357, 298],
    [-22, -230, 233, -35, 18, -252, 117, -61, -70, -287, 63, -5, -5, 97, 41,
     17, 132, -40, 114, 7, 18, 9, 59, 10, 65, 321, 342, 353, 386, 323],
    [75, 54, -51, 141, 23, 103, -53, 158, 59, 169, -47, 183, 54, 127, -50,
     -40, -11, -26, -5, 8, 34, 33, 42, -12, 38, 327, 355, 342, 336, 297],
    [123, -3, 10, 65, 120, 8, -6, 22, 123, 108, 120, -14, 58, -168, -30,
     -141, 177, -59, -29, 29, 22, 41, 63, -24, 83, 308, 336, 335, 413, 349],
    [-59, -119, 138, 43, -111, -116, 152, 71, -120, -10, 85, 97, -2, -63, -76,
     63, 15, -85, -39, 115, -7, -10, 32, 6, 38, 378, 398, 366, 299, 305],
    [-86, 64, -10, -19, -60, 71, 2, -5, -7, 60, 20, -41, -74, -102, 33,
     3, -151, -133, 28, -142, 11, -4, -21, -35, 25, 312, 330, 318, 297, 288],
    [-34, -10, 97, 40, -28, -48, 28, -37, 9, -61, 53, -42, -178, -151, 53,
     15, -151, -179, 111, 71, 24, 26, 16, -17, 1, 317, 342, 319, 289, 256],
]) / 100  # fmt: skip
"""Per class: signed sums of the features, then their skewness and kurtosis.

Measured on a copy of the train set that went through JPEG.
"""


@dataclass(frozen=True)
class Alignment:
    """What `check_alignment` found.

    Attributes
    ----------
    verdict : {"aligned", "misaligned", "unclear"}
        "unclear" where the images fit as a whole but are altered, so that a few rows out of place
        could not be seen.
    detail : str
        The reason, for people.
    mistake : str or None
        What was likely done: "torchvision order", "numeric sort" (of file names, instead of sorting
        them as text), "TFDS order", "shuffled" (some or all rows, within classes or across), or
        "another pyx" (images in order, but the probabilities passed are not theirs).
    labels : str or None
        Which published labels the labels are, if any.
    r2 : float or None
        Share of the log-probabilities' variance within classes that the images predict, held out;
        0.03 where rows belong together, below 0 where not. None where labels decided before, or no
        pyx was at hand.
    r2_p_value : float or None
        Probability of so good a prediction if rows had nothing to do with each other, in the class
        where it is worst.
    deviation : float or None
        How far the images are from the fingerprint in the class that is farthest off: a root mean
        square, 0.02 or less for images in order and about 1.4 for a class in random order.
    deviation_p_value : float or None
        Probability of such a deviation if rows are in order, for images that went through JPEG.
    """

    verdict: Verdict
    detail: str
    mistake: Mistake | None = None
    labels: str | None = None
    r2: float | None = None
    r2_p_value: float | None = None
    deviation: float | None = None
    deviation_p_value: float | None = None

    @property
    def is_aligned(self) -> bool:
        """Whether the verdict is "aligned"."""
        return self.verdict == "aligned"

    def __str__(self) -> str:
        likely = f", likely {self.mistake}" if self.mistake else ""
        return f"{self.verdict}{likely}: {self.detail}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({printable(self)})"

    def _repr_html_(self) -> str:
        facts: dict[str, Cell] = {
            "likely mistake": self.mistake,
            "labels": self.labels,
            "R² of the images for log-probabilities": self.r2,
            "its p-value": self.r2_p_value,
            "deviation from the fingerprint": self.deviation,
            "its p-value, if in order": self.deviation_p_value,
        }
        known = {name: value for name, value in facts.items() if value is not None}
        return html_facts(known, title=f"{self.verdict}: {self.detail}")


def check_alignment(
    dataset: object,
    *,
    pyx: NDArray[np.floating[Any]] | None = None,
    progress: Shown = None,
) -> Alignment:
    """Say whether the rows of a dataset are the rows of the published arrays.

    Parameters
    ----------
    dataset : object
        Anything with a length whose items are (image, label, ...) or mappings; best without random
        transforms. Or the path of an image folder, read as torchvision's ``ImageFolder`` does, or
        of official batch files or archive, read as ``CIFAR10`` does.
    pyx : (50000, 10) float array, optional
        Probabilities that should belong to the rows; by default the published ones of noise 0 where
        they can be had.
    progress : bool or object with ``update(n)``, optional
        Whether to show a progress bar where images are read one by one; by default on a terminal
        and in a notebook. An object is told of each image instead.

    Returns
    -------
    Alignment

    Raises
    ------
    InvalidInputError
        If the dataset cannot be read, or pyx has another shape.
    ImagesError
        If a path has no images or broken ones.

    Notes
    -----
    Of rows out of place within one class of 5,000, on CIFAR-10 through JPEG: 25 and more were
    rejected in 50 of 50 trials, 10 in 44, 5 in 32, a single pair in 11. There its power ends. Of
    images that were altered (cropped, recoloured) only the order as a whole is judged, and the
    verdict is "unclear" at best.

    Examples
    --------
    >>> check_alignment("cifar10/train").is_aligned  # doctest: +SKIP
    True
    """
    check_progress(progress)
    if pyx is not None:
        pyx = as_array(pyx, "pyx")
        if pyx.shape != (N_EXAMPLES, N_CLASSES):
            raise InvalidInputError(
                f"pyx has shape {pyx.shape}, where probabilities of {(N_EXAMPLES, N_CLASSES)} are "
                "expected"
            )
        check_probabilities(pyx)
    n_rows = len(dataset) if hasattr(dataset, "__len__") and not isinstance(dataset, str) else None
    rows = read_rows(dataset, progress) if n_rows in (None, N_EXAMPLES) else None
    if rows is None or len(rows.labels) != N_EXAMPLES:
        n_rows = n_rows if rows is None else len(rows.labels)
        return Alignment(
            "misaligned", f"it has {n_rows:,} rows, where the published arrays have {N_EXAMPLES:,}"
        )
    if not np.isfinite(rows.pooled).all():
        raise InvalidInputError("the images hold NaN or infinity: pass them as they were loaded")
    labels = published_labels(rows.labels)
    if labels is None:
        by_labels = _judge_by_labels(rows)
        if by_labels is not None:
            return by_labels
    return _judge_by_images(rows, labels, pyx)


def published_labels(labels: NDArray[np.int64]) -> str | None:
    """Return which published labels these are, such as "true labels"; None if they are none."""
    digest = array_digest(labels.astype(np.int64))
    for known in label_sets():
        if known.array_sha256 == digest:
            return (
                f"noisy labels of {known.setting or known}" if known.noise_rate else "true labels"
            )
    return None


def _judge_by_labels(rows: Rows) -> Alignment | None:
    """Return a verdict where labels decide it; None where they may be somebody's own noisy ones."""
    published = published_labels(rows.labels[published_torchvision_index()])
    agreement = float((rows.labels == load_true_labels()).mean())
    detail = f"its labels are no published ones; {agreement:.1%} equal the true label of their row"
    mistake: Mistake
    if published is not None:
        mistake = "torchvision order"
        detail = (
            f"its labels are the {published} in the official order; load arrays with "
            "order='torchvision' to go with it"
        )
    elif tuple(rows.labels[: len(TFDS_FIRST_LABELS)].tolist()) == TFDS_FIRST_LABELS:
        mistake, detail = "TFDS order", f"{detail}; they begin as TFDS' do"
    elif np.array_equal(np.unique(rows.labels), range(N_CLASSES)) and (
        (np.bincount(rows.labels) == EXAMPLES_PER_CLASS).all()
    ):
        mistake, detail = "shuffled", f"{detail}, though each class is whole"
    else:
        return None
    return Alignment("misaligned", detail, mistake)


@dataclass(frozen=True)
class _ImageStatistics:
    """What the images of a dataset say of its order."""

    r2: float | None
    r2_p_value: float | None
    mean_squares: NDArray[np.float64]  # deviation from the fingerprint, per class
    p_values: NDArray[np.float64]  # of these deviations
    is_altered: bool

    @classmethod
    def of(cls, rows: Rows, pyx: NDArray[np.floating[Any]] | None) -> _ImageStatistics:
        statistics = fingerprint(rows.pooled)
        r2, r2_p_value = (None, None) if pyx is None else predicts(rows.pooled, pyx)
        mean_squares = _mean_squares(statistics)
        shape_changes = np.abs(statistics - FINGERPRINT)[:, _N_SUMS:]
        is_altered = bool((shape_changes > _SHAPE_TOLERANCE).any())
        return cls(r2, r2_p_value, mean_squares, _p_values(mean_squares), is_altered)

    @property
    def predicts_pyx(self) -> bool | None:
        """Whether the images predict the probabilities of their rows; None without any."""
        return None if self.r2_p_value is None else self.r2_p_value < SIGNIFICANCE_LEVEL


def _judge_by_images(
    rows: Rows, labels: str | None, pyx: NDArray[np.floating[Any]] | None
) -> Alignment:
    is_own_pyx = pyx is not None
    if pyx is None:
        with contextlib.suppress(UnavailableError):
            pyx = published_pyx(Setting(0, 0))
    found = _ImageStatistics.of(rows, pyx)
    is_in_order = bool(found.p_values.min() >= SIGNIFICANCE_LEVEL)
    what = labels or "labels that are not published"
    verdict: Verdict
    mistake: Mistake | None = None
    match is_in_order, found.predicts_pyx, found.is_altered:
        case True, False, _:
            verdict, mistake = "misaligned", "another pyx" if is_own_pyx else None
            detail = "the images are in order, but do not predict the probabilities of their rows"
        case True, _, _:
            verdict, detail = "aligned", f"{what}, and images in the published order"
        case False, True | None, True:
            verdict = "unclear"
            fit = "fit their rows as a whole" if found.predicts_pyx else "cannot be held to a pyx"
            detail = (
                f"{what}, and images that {fit} but are altered, as by a random transform: check "
                "them without transforms to see whether some are out of place"
            )
        case _:
            verdict = "misaligned"
            mistake, reason = _mistake_within_classes(rows, found)
            detail = f"{what}, but {reason}"
    return Alignment(
        verdict=verdict,
        detail=detail,
        mistake=mistake,
        labels=labels,
        r2=found.r2,
        r2_p_value=found.r2_p_value,
        deviation=math.sqrt(found.mean_squares.max()),
        deviation_p_value=float(found.p_values.min()),
    )


def _mistake_within_classes(rows: Rows, found: _ImageStatistics) -> tuple[Mistake, str]:
    """Name what was done to the order, by undoing it; else say how much is out of place."""
    indices = published_torchvision_index()
    by_class = indices.reshape(N_CLASSES, EXAMPLES_PER_CLASS)
    starts = np.arange(N_CLASSES)[:, None] * EXAMPLES_PER_CLASS
    # For each mistake, the rows of a dataset that made it, in the published order.
    orders: dict[Mistake, NDArray[np.intp]] = {
        "numeric sort": (by_class.argsort(1).argsort(1) + starts).ravel(),
        "torchvision order": indices,
    }
    for mistake, order in orders.items():
        if _mean_squares(fingerprint(rows.pooled[order])).max() < _SHUFFLED_MEAN_SQUARE / 2:
            return mistake, f"the images are in another order: {mistake}"
    which = []
    for label in np.flatnonzero(found.p_values < SIGNIFICANCE_LEVEL):
        n_off = min(found.mean_squares[label] / _SHUFFLED_MEAN_SQUARE, 1) * EXAMPLES_PER_CLASS
        roughly = f"roughly {float(f'{n_off:.1g}'):,.0f} of {EXAMPLES_PER_CLASS:,}"
        which.append(f"{CLASSES[label]} ({roughly})")
    return "shuffled", f"images are out of place in {', '.join(which)}"


def predicts(pooled: NDArray[np.float32], pyx: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Test whether images predict the log-probabilities of their rows within each class.

    A ridge regression on pooled pixels and their squares is fitted to one half of a class and
    applied to the other, and the other way round. Its sum of products with the log-probabilities is
    compared with the distribution for rows permuted within class and half, whose mean (0) and
    variance are known.

    Returns the held-out coefficient of determination over all classes, and the p-value of the class
    that is predicted worst.
    """
    errors, total, p_value = 0.0, 0.0, 0.0
    for label in range(N_CLASSES):
        of_class = slice(label * EXAMPLES_PER_CLASS, (label + 1) * EXAMPLES_PER_CLASS)
        pixels = pooled[of_class].reshape(EXAMPLES_PER_CLASS, -1)
        features = _standardised(np.concatenate([pixels, pixels**2], axis=1))
        log_pyx = np.log(np.maximum(pyx[of_class].astype(np.float32), _MIN_PROBABILITY))
        predicted, actual = _cross_fitted(features, _standardised(log_pyx))
        errors += float(((actual - predicted) ** 2).sum())
        total += float((actual**2).sum())
        p_value = max(p_value, _permutation_p_value(predicted, actual))
    return 1 - errors / total if total else 0.0, p_value


def _cross_fitted(
    features: NDArray[np.float32], scores: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return predicted and actual scores, (2, n / 2, 10): each half predicted from the other."""
    halves = np.random.RandomState(0).permutation(len(features)).reshape(2, -1)
    predicted = []
    for fitted, held_out in (halves, halves[::-1]):
        known = features[fitted]
        gram = known.T @ known + _RIDGE * np.eye(known.shape[1], dtype=np.float32)
        weights = np.linalg.solve(gram, known.T @ scores[fitted])
        predicted.append(features[held_out] @ weights)
    return np.stack(predicted), scores[halves[::-1]]


def _permutation_p_value(predicted: NDArray[np.float32], actual: NDArray[np.float32]) -> float:
    """Return the probability that rows permuted within halves match as well, by a normal law."""
    product = variance = 0.0
    for ours, theirs in zip(predicted, actual, strict=True):
        ours, theirs = ours - ours.mean(0), theirs - theirs.mean(0)
        product += float((ours * theirs).sum())
        variance += float(((ours.T @ ours) * (theirs.T @ theirs)).sum()) / (len(ours) - 1)
    return math.erfc(product / math.sqrt(2 * variance)) / 2 if variance > 0 else 1.0


def fingerprint(pooled: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the fingerprint of 50,000 pooled images, rows 5,000 k to 5,000 k + 4,999 of class k.

    Its shape is (10, 30): per class 20 signed sums, then skewness and kurtosis of five features.
    """
    grey = pooled.mean(3)
    half = pooled.shape[1] // 2
    top_bottom = grey[:, :half].mean((1, 2)) - grey[:, half:].mean((1, 2))
    features = np.column_stack([pooled.mean((1, 2)), top_bottom, grey.std((1, 2))])
    features = features.astype(np.float64).reshape(N_CLASSES, EXAMPLES_PER_CLASS, -1)
    features = np.stack([_standardised(of_class) for of_class in features])
    sums = np.einsum("cnf,sn->cfs", features, _signs()) / math.sqrt(EXAMPLES_PER_CLASS)
    shapes = [(features**3).mean(1), (features**4).mean(1)]
    whole: NDArray[np.float64] = np.concatenate([sums.reshape(N_CLASSES, -1), *shapes], axis=1)
    return whole


def _signs() -> NDArray[np.float64]:
    """Return the series of signs: random, and the same for ever."""
    n_bits = _N_SIGNS * EXAMPLES_PER_CLASS
    bits = np.frombuffer(hashlib.shake_256(b"cifar-noisy").digest(n_bits // 8), np.uint8)
    return np.unpackbits(bits).reshape(_N_SIGNS, -1).astype(np.float64) * 2 - 1


def _standardised(array: NDArray[Float]) -> NDArray[Float]:
    """Return columns of mean 0 and standard deviation 1; constant ones 0."""
    spread = array.std(0)
    standardised: NDArray[Float] = (array - array.mean(0)) / np.where(spread > 1e-6, spread, 1)
    return standardised


def _mean_squares(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each class the mean squared deviation of its sums from the fingerprint."""
    mean_squares: NDArray[np.float64] = ((statistics - FINGERPRINT)[:, :_N_SUMS] ** 2).mean(1)
    return mean_squares


def _p_values(mean_squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the p-value of each class's deviation, corrected for testing ten classes."""
    p_values: NDArray[np.float64] = chdtrc(_N_SUMS, mean_squares * _N_SUMS / _JPEG_STD**2)
    return np.minimum(1.0, N_CLASSES * p_values)
