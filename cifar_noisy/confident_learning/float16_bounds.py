"""What the float16 rounding of the probabilities leaves undecided in each mask.

The masks of edition 2019 came from full-precision probabilities that were never released; of each
we know the float16 number that it rounded to, so the interval that it lay in. Carried through
confident learning, those intervals say of every example whether a method must flag it, may flag it
or cannot. A published mask is explained by rounding where it lies within these bounds, and nowhere
else. Nothing is assumed of the rounding errors, and still the bounds are narrow: on the published
probabilities they leave at most 0.45 % of a mask's examples open.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.confident_learning.label_errors import (
    CONFIDENCE_SLACK,
    LEAST_THRESHOLD,
    MIN_EXAMPLES_KEPT,
    Counts,
    Mask,
    Problem,
    exact_probabilities,
    keep_enough,
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
    """Which examples a method flags, over all probabilities that round to the given ones.

    Attributes
    ----------
    certain : (N,) bool
        True = flagged whatever the probabilities were.
    possible : (N,) bool
        True = flagged for some of them; contains `certain`.
    """

    certain: Mask
    possible: Mask

    @property
    def undecided(self) -> Mask:
        """True = rounding decides whether the example is flagged."""
        return self.possible & ~self.certain

    def __and__(self, other: "Bounds") -> "Bounds":
        return Bounds(self.certain & other.certain, self.possible & other.possible)


@dataclass(frozen=True)
class Explanation:
    """Why rounding may have decided a bit.

    Attributes
    ----------
    reason : {"tie", "threshold", "cut"}
        See `REASONS`.
    ranks_from_cut : int or None
        For "cut": how many ranks lie between the example and the nearest cut, in float16.
    """

    reason: Reason
    ranks_from_cut: int | None = None


class RoundingAnalysis:
    """What the rounding of one setting's probabilities leaves undecided.

    Parameters
    ----------
    labels : (N,) int array_like
        Given labels, 0 to K - 1.
    pyx : (N, K) float16 array_like
        Out-of-sample predicted probabilities, rounded to nearest.

    Attributes
    ----------
    bounds : dict of Bounds
        By method.
    fewest_kept, most_kept : (K, K) int64
        Bounds of the calibrated joint's counts that pruning works from.

    Raises
    ------
    InvalidInputError
        As for `confident_learning.label_errors`, and if `pyx` is not float16.

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
        self._problem = problem = Problem.of(labels, pyx)
        if problem.pyx.dtype != np.float16:
            raise InvalidInputError(f"pyx has dtype {problem.pyx.dtype}: only float16 was rounded")
        intervals = _intervals(problem)
        # Every step from the counts of the joint to those kept only grows with each of them.
        self.fewest_kept, self.most_kept = _kept_count_bounds(problem, intervals)
        self._near_threshold = intervals.near_threshold
        self._disagreement = Bounds(
            ~intervals.may_be_top[np.arange(len(problem.labels)), problem.labels],
            _any_other(intervals.may_be_top, problem.labels),
        )
        self._by_class, self._by_noise_rate = _prune_bounds(
            problem, intervals, self.fewest_kept, self.most_kept
        )
        self.bounds: dict[Method, Bounds] = {
            "argmax": self._disagreement,
            "conf_joint_only": _counted_wrong(problem, intervals),
            "cl_pbc": self._by_class & self._disagreement,
            "cl_pbnr": self._by_noise_rate & self._disagreement,
            "cl_both": self._by_class & self._by_noise_rate & self._disagreement,
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
        own = pyx[labels == given, given]
        rank = int(np.count_nonzero(own < pyx[index, given]))
        return _distance(
            rank, len(own) - self.most_kept[given, given], len(own) - self.fewest_kept[given, given]
        )

    def _ranks_from_noise_rate_cut(self, index: int) -> int:
        labels = self._problem.labels
        given = labels[index]
        members = exact_probabilities(self._problem.pyx[labels == given])
        own = exact_probabilities(self._problem.pyx[index])
        distances = []
        for true in np.flatnonzero(self.most_kept[given]):
            if true != given:
                margins = members[:, true] - members[:, given]
                rank = int(np.count_nonzero(margins > own[true] - own[given]))
                distances.append(
                    _distance(rank, self.fewest_kept[given, true], self.most_kept[given, true])
                )
        return min(distances)


@dataclass(frozen=True)
class _Intervals:
    """Bounds of each probability, and what they leave open for each example.

    Arrays of (N, K), and of (N,) where an example is meant.
    """

    low: _Floats
    high: _Floats
    may_be_top: Mask  # the class may be the most probable one
    may_be_confident_class: Mask  # the class may be the one that the example is confident in
    may_be_unconfident: Mask  # the example may be confident in no class
    near_threshold: Mask  # the example may or may not reach the threshold of some class


def _intervals(problem: Problem) -> _Intervals:
    low, high = half_ulp_interval(problem.pyx)
    # Rounding never turns an order round, so only what ties in float16 is open.
    may_be_top: Mask = problem.pyx == problem.pyx.max(axis=1, keepdims=True)
    surely, maybe = _reached_cuts(problem, low, high)
    n_surely, n_maybe = np.count_nonzero(surely, axis=1), np.count_nonzero(maybe, axis=1)
    alone = maybe & (n_surely[:, None] - surely == 0)
    among_several = may_be_top & (n_maybe > 1)[:, None]
    return _Intervals(
        low,
        high,
        may_be_top,
        may_be_confident_class=alone | among_several,
        may_be_unconfident=n_surely == 0,
        near_threshold=n_surely != n_maybe,
    )


def half_ulp_interval(pyx: NDArray[np.float16]) -> tuple[_Floats, _Floats]:
    """Return the bounds of the numbers that round to each float16.

    Examples
    --------
    >>> low, high = half_ulp_interval(np.array([0.5], dtype=np.float16))
    >>> float(low[0]), float(high[0])
    (0.4998779296875, 0.500244140625)
    """
    value = pyx.astype(np.float64)
    below, above = (np.nextafter(pyx, np.float16(end)) for end in (-np.inf, np.inf))
    return (value + below) / 2, (value + above) / 2


def _reached_cuts(problem: Problem, low: _Floats, high: _Floats) -> tuple[Mask, Mask]:
    """Return where a probability surely, and where it maybe, reaches its class's threshold."""
    surely, maybe = np.zeros((2, *low.shape), np.bool_)
    for k in np.flatnonzero(problem.label_counts):
        members = problem.labels == k
        # The threshold is a mean or the least one, so those of the bounds bound it.
        lowest, highest = (
            max(bound[members, k].mean(), LEAST_THRESHOLD) - CONFIDENCE_SLACK
            for bound in (low, high)
        )
        surely[:, k], maybe[:, k] = low[:, k] >= highest, high[:, k] >= lowest
    return surely, maybe


def _any_other(classes: Mask, labels: NDArray[np.intp]) -> Mask:
    """Return whether a class other than the given label is marked."""
    marked = classes.copy()
    marked[np.arange(len(labels)), labels] = False
    any_marked: Mask = np.logical_or.reduce(marked, axis=1)
    return any_marked


def _counted_wrong(problem: Problem, intervals: _Intervals) -> Bounds:
    """Bound which examples are confident in a class other than their given label."""
    may_be = intervals.may_be_confident_class
    may_be_right = may_be[np.arange(len(problem.labels)), problem.labels]
    return Bounds(
        ~(may_be_right | intervals.may_be_unconfident), _any_other(may_be, problem.labels)
    )


def _kept_count_bounds(problem: Problem, intervals: _Intervals) -> tuple[Counts, Counts]:
    """Bound the counts of the calibrated joint that pruning works from."""
    may_be = intervals.may_be_confident_class
    is_certain = may_be & (may_be.sum(axis=1) + intervals.may_be_unconfident == 1)[:, None]
    members = np.eye(problem.n_classes)[problem.labels].T
    fewest, most = members @ is_certain, members @ may_be
    for counts in (fewest, most):
        np.fill_diagonal(counts, np.maximum(counts.diagonal(), 1))
    others_fewest = fewest.sum(axis=1, keepdims=True) - fewest
    others_most = most.sum(axis=1, keepdims=True) - most
    totals = problem.label_counts[:, None]
    lower = np.floor(totals * fewest / (fewest + others_most))
    upper = np.ceil(totals * most / (most + others_fewest))
    return keep_enough(lower.astype(np.int64)), keep_enough(upper.astype(np.int64))


def _prune_bounds(
    problem: Problem, intervals: _Intervals, fewest: Counts, most: Counts
) -> tuple[Bounds, Bounds]:
    """Bound pruning by class and by noise rate, before disagreement is asked of the prediction."""
    by_class, by_noise_rate = (
        Bounds(*np.zeros((2, len(problem.labels)), dtype=np.bool_)) for _ in range(2)
    )
    for given in np.flatnonzero(problem.label_counts > MIN_EXAMPLES_KEPT):
        rows = np.flatnonzero(problem.labels == given)
        low, high = intervals.low[rows], intervals.high[rows]
        # What stands at a rank keeps standing there when all are rounded.
        own = problem.pyx[rows, given]
        by_class.certain[rows] = own < _ranked(own, len(rows) - most[given, given])
        by_class.possible[rows] = own <= _ranked(own, len(rows) - fewest[given, given])
        for true in np.flatnonzero(most[given]):
            if true == given:
                continue
            margin_low = low[:, true] - high[:, given]
            margin_high = high[:, true] - low[:, given]
            cut = _ranked(margin_low, len(rows) - most[given, true])
            by_noise_rate.possible[rows] |= margin_high >= cut
            if fewest[given, true]:
                cut = _ranked(margin_high, len(rows) - fewest[given, true])
                by_noise_rate.certain[rows] |= margin_low >= cut
    return by_class, by_noise_rate


def _ranked(values: NDArray[np.floating], rank: int) -> float:
    """Return the value at a rank, from 0, in ascending order."""
    return float(np.partition(values, rank)[rank])


def _distance(rank: int, first_cut: int, last_cut: int) -> int:
    """Return how far a rank lies from a range of cuts; 0 within it."""
    return int(max(first_cut - rank, rank - last_cut, 0))
