"""What the float16 rounding of the probabilities leaves undecided in each mask.

The masks of edition 2019 came from full-precision probabilities that were never released. The
float16 number that each was rounded to is known, and so is the interval that it lay in. Carried
through confident learning, these intervals say of each example whether a method must flag it, may
flag it or cannot. Rounding explains a published mask where it lies within these bounds. On the
published probabilities they leave at most 0.45 % of a mask's examples open.

``_bound_<step>`` is the step of `label_errors` with that name, for intervals.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.confident_learning.label_errors import (
    CheckedInput,
    Counts,
    Mask,
    class_means,
    class_thresholds,
    keep_enough,
    kth_largest,
    others,
    pruned_classes,
    widen_float16,
)
from cifar_noisy.errors import InvalidInputError
from cifar_noisy.settings import Method

Reason = Literal["tie", "threshold", "cut"]

REASONS: dict[Reason, str] = {
    "tie": "two classes tie in float16",
    "threshold": "as near to a class threshold as float16 rounding reaches",
    "cut": "among the ranks around the cut that float16 rounding leaves open",
}

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bounds:
    """Which examples a method flags, over all probabilities that round to the given ones."""

    certain: Mask  # (N,) True = flagged whatever the probabilities were
    possible: Mask  # (N,) True = flagged for some of them; contains `certain`

    @property
    def undecided(self) -> Mask:
        """True = rounding decides whether the example is flagged."""
        return self.possible & ~self.certain

    def __and__(self, other: "Bounds") -> "Bounds":
        return Bounds(self.certain & other.certain, self.possible & other.possible)


@dataclass(frozen=True)
class Explanation:
    """Why rounding may have decided a bit."""

    reason: Reason
    ranks_from_cut: int | None = None  # between the example and the nearest cut, in float16


class RoundingAnalysis:
    """What the rounding of one setting's float16 probabilities leaves undecided.

    Attributes
    ----------
    bounds : dict of Bounds
        By method.
    fewest_kept, most_kept : (K, K) int64
        Bounds of the calibrated joint's counts that pruning works from.

    Examples
    --------
    The first row is a float16 tie, so full precision may have gone either way:

    >>> pyx = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]], dtype=np.float16)
    >>> analysis = RoundingAnalysis([0, 0, 1], pyx)
    >>> analysis.bounds["argmax"].undecided
    array([ True, False, False])
    >>> analysis.explain("argmax", 0)
    Explanation(reason='tie', ranks_from_cut=None)
    """

    def __init__(self, labels: ArrayLike, pyx: ArrayLike) -> None:
        self._problem = problem = CheckedInput.of(labels, pyx)
        if problem.pyx.dtype != np.float16:
            raise InvalidInputError(f"pyx has dtype {problem.pyx.dtype}: only float16 was rounded")
        low, high = half_ulp_interval(problem.pyx)
        # Rounding never turns an order round, so only what ties in float16 is open.
        may_be_top: Mask = problem.pyx == problem.pyx.max(axis=1, keepdims=True)
        confident = _bound_confident_classes(problem, low, high, may_be_top)
        self._near_threshold = confident.near_threshold
        # Each of the steps from the joint to the kept counts grows with every count.
        self.fewest_kept, self.most_kept = (
            keep_enough(counts)
            for counts in _bound_calibrate(problem, *_bound_count_joint(problem, confident))
        )
        self._by_class, self._by_noise_rate = _bound_prune(
            problem, low, high, self.fewest_kept, self.most_kept
        )
        disagree = Bounds(~_of_given(problem, may_be_top), _of_another(problem, may_be_top))
        self.bounds: dict[Method, Bounds] = {
            "argmax": disagree,
            "conf_joint_only": Bounds(
                ~(_of_given(problem, confident.may_be) | confident.may_be_none),
                _of_another(problem, confident.may_be),
            ),
            "cl_pbc": self._by_class & disagree,
            "cl_pbnr": self._by_noise_rate & disagree,
            "cl_both": self._by_class & self._by_noise_rate & disagree,
        }

    def explain(self, method: Method, index: int) -> Explanation | None:
        """Return why rounding may have decided an example's bit; None if it cannot have."""
        if not self.bounds[method].undecided[index]:
            return None
        if method == "argmax":
            return Explanation("tie")
        if method == "conf_joint_only":
            return Explanation("threshold" if self._near_threshold[index] else "tie")
        distances = []
        if method != "cl_pbnr" and self._by_class.undecided[index]:
            distances.append(self._ranks_from_class_cut(index))
        if method != "cl_pbc" and self._by_noise_rate.undecided[index]:
            distances.append(self._ranks_from_noise_rate_cut(index))
        return Explanation("cut", min(distances)) if distances else Explanation("tie")

    def _ranks_from_class_cut(self, index: int) -> int:
        labels, pyx = self._problem.labels, self._problem.pyx
        given = labels[index]
        rank = int(np.count_nonzero(pyx[labels == given, given] >= pyx[index, given]))
        return self._distance(rank, given, given)

    def _ranks_from_noise_rate_cut(self, index: int) -> int:
        labels = self._problem.labels
        given = int(labels[index])
        pyx = widen_float16(self._problem.pyx[labels == given])
        own = widen_float16(self._problem.pyx[index])
        distances = []
        for true in others(given, self.most_kept):
            is_above = pyx[:, true] - pyx[:, given] > own[true] - own[given]
            distances.append(self._distance(int(np.count_nonzero(is_above)), given, true))
        return min(distances)

    def _distance(self, rank: int, given: int, true: int) -> int:
        """Return how far a rank from the top lies from the range of cuts; 0 within it."""
        fewest, most = self.fewest_kept[given, true], self.most_kept[given, true]
        return int(max(fewest - rank, rank - most, 0))


def half_ulp_interval(pyx: NDArray[np.float16]) -> tuple[_Floats, _Floats]:
    """Return the bounds of the numbers that round to each float16."""
    # Looked up among the 65,536 float16 numbers there are: each of them is met often.
    with np.errstate(all="ignore"):  # NaN and the largest are among them
        numbers = np.arange(2**16, dtype=np.uint16).view(np.float16)
        value = numbers.astype(np.float64)
        below, above = (np.nextafter(numbers, np.float16(end)) for end in (-np.inf, np.inf))
        low, high = (value + below) / 2, (value + above) / 2
    patterns = pyx.view(np.uint16)
    return low[patterns], high[patterns]


@dataclass(frozen=True)
class _ConfidentClasses:
    """Which class an example may be confident in."""

    may_be: Mask  # (N, K) the example may be confident in the class
    may_be_none: Mask  # (N,) the example may be confident in no class
    near_threshold: Mask  # (N,) the example may or may not reach the threshold of some class


def _bound_confident_classes(
    problem: CheckedInput, low: _Floats, high: _Floats, may_be_top: Mask
) -> _ConfidentClasses:
    # The bounds of a mean are the means of the bounds.
    lowest, highest = (
        class_thresholds(class_means(problem, bound, np.float64)) for bound in (low, high)
    )
    surely, maybe = low >= highest, high >= lowest
    n_surely, n_maybe = np.count_nonzero(surely, axis=1), np.count_nonzero(maybe, axis=1)
    alone = maybe & (n_surely[:, None] - surely == 0)
    among_several = may_be_top & (n_maybe > 1)[:, None]
    return _ConfidentClasses(
        may_be=alone | among_several,
        may_be_none=n_surely == 0,
        near_threshold=n_surely != n_maybe,
    )


def _bound_count_joint(
    problem: CheckedInput, confident: _ConfidentClasses
) -> tuple[_Floats, _Floats]:
    n_open = np.count_nonzero(confident.may_be, axis=1) + confident.may_be_none
    is_certain = confident.may_be & (n_open == 1)[:, None]
    members = np.eye(problem.n_classes)[problem.labels].T
    fewest, most = members @ is_certain, members @ confident.may_be
    for counts in (fewest, most):
        np.fill_diagonal(counts, np.maximum(counts.diagonal(), 1))
    return fewest, most


def _bound_calibrate(
    problem: CheckedInput, fewest: _Floats, most: _Floats
) -> tuple[Counts, Counts]:
    totals = problem.label_counts[:, None]
    others_fewest = fewest.sum(axis=1, keepdims=True) - fewest
    others_most = most.sum(axis=1, keepdims=True) - most
    lower = np.floor(totals * fewest / (fewest + others_most))
    upper = np.ceil(totals * most / (most + others_fewest))
    return lower.astype(np.int64), upper.astype(np.int64)


def _bound_prune(
    problem: CheckedInput, low: _Floats, high: _Floats, fewest: Counts, most: Counts
) -> tuple[Bounds, Bounds]:
    by_class, by_noise_rate = (
        Bounds(*np.zeros((2, len(problem.labels)), dtype=np.bool_)) for _ in range(2)
    )
    for given, rows in pruned_classes(problem):
        # What has a rank keeps it when all are rounded.
        own = problem.pyx[rows, given]
        lows, highs = (np.ascontiguousarray(bound[rows].T) for bound in (low, high))
        by_class.certain[rows] = own < kth_largest(own, most[given, given])
        by_class.possible[rows] = own <= kth_largest(own, fewest[given, given])
        for true in others(given, most):
            margin_low, margin_high = lows[true] - highs[given], highs[true] - lows[given]
            cut = kth_largest(margin_low, most[given, true])
            by_noise_rate.possible[rows] |= margin_high >= cut
            if fewest[given, true]:
                cut = kth_largest(margin_high, fewest[given, true])
                by_noise_rate.certain[rows] |= margin_low >= cut
    return by_class, by_noise_rate


def _of_given(problem: CheckedInput, classes: Mask) -> Mask:
    """Return whether the given label is marked."""
    is_marked: Mask = classes[np.arange(len(classes)), problem.labels]
    return is_marked


def _of_another(problem: CheckedInput, classes: Mask) -> Mask:
    """Return whether a class other than the given label is marked."""
    is_marked: Mask = np.count_nonzero(classes, axis=1) > _of_given(problem, classes)
    return is_marked
