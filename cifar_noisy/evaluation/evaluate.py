"""Any label-error mask, score or probabilities against the true label errors.

Every count here follows from two tables over pairs of (given label, true label): how many examples
there are, and how many of them were flagged. Off the diagonal the label is wrong.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.confident_learning.label_errors import Problem, label_errors
from cifar_noisy.confident_learning.scores import label_error_scores
from cifar_noisy.errors import InvalidInputError, SuspectMaskWarning, UnavailableError
from cifar_noisy.loading.array_checks import as_array
from cifar_noisy.loading.artifact_loading import (
    default_edition,
    load_label_errors,
    load_noisy_labels,
    load_true_labels,
)
from cifar_noisy.loading.noise_matrices import N_CLASSES, N_EXAMPLES
from cifar_noisy.loading.row_order import in_order, in_published_order
from cifar_noisy.loading.train_masks import association
from cifar_noisy.settings import (
    CLASSES,
    EDITIONS,
    METHODS,
    Edition,
    Method,
    Order,
    Setting,
    check_choice,
)
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.registry import artifacts

By = Literal["given", "true", "pair"]

YOURS = "yours"
AT_BEST_CUT = "yours, at best F1"
"""The names of the row of a mask, and of a score that is cut where F1 is best."""

CALIBRATION_BINS = 15
"""Bins of equal width that the expected calibration error is taken over."""

# In standard deviations, as for train masks: what surely is no accident, and what may well be one.
_STRONG, _NONE = 10.0, 5.0

_COLUMNS = np.arange(N_CLASSES)

_BY: tuple[By, ...] = ("given", "true", "pair")

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]
Scores = NDArray[np.float64]
Found = NDArray[Any]  # a Mask or Scores
Judge = Callable[[NDArray[Any]], tuple[float, str | None]]
# What is None in rare cases alone need not be checked for None by whoever knows his case.
Rate = float | Any


@dataclass(frozen=True)
class Detection:
    """How well the label errors that were found are the true ones. None: has no meaning.

    Attributes
    ----------
    name : str
        A method, "yours" (of a score: "yours, at best F1"), or in a breakdown the class or pair.
    n_examples, n_errors, n_found, n_correct : int
        Examples, wrong labels among them, examples flagged, and wrong labels among these.
    precision : float or None
        n_correct / n_found; None where nothing was found, or there was nothing to find.
    recall : float or None
        n_correct / n_errors; None where there was nothing to find.
    f1 : float or None
        Harmonic mean of the two; 0 where nothing was found, None where there was nothing to find.
    accuracy : float or None
        Share of the examples rightly flagged or rightly not; None without examples.
    examples, found : (10, 10) int64
        n_examples and n_found by given label (row) and true label (column). Off the diagonal,
        found / examples is a pair's recall; on it, the share of right labels that were flagged.
    setting : Setting or None
        The noise setting; None for labels of another dataset.
    """

    name: str
    n_examples: int
    n_errors: int
    n_found: int
    n_correct: int
    precision: Rate
    recall: Rate
    f1: Rate
    accuracy: Rate
    examples: Counts = field(repr=False, compare=False)
    found: Counts = field(repr=False, compare=False)
    setting: Setting | None = None

    @classmethod
    def of(
        cls, name: str, examples: Counts, found: Counts, setting: Setting | None = None
    ) -> Detection:
        """Return the detection that these counts by given and true label make."""
        n_examples, n_found = int(examples.sum()), int(found.sum())
        is_error = ~np.eye(len(examples), dtype=np.bool_)
        n_errors, n_correct = int(examples[is_error].sum()), int(found[is_error].sum())
        n_wrongly_judged = n_found + n_errors - 2 * n_correct
        return cls(
            name,
            n_examples,
            n_errors,
            n_found,
            n_correct,
            precision=_ratio(n_correct, n_found) if n_errors else None,
            recall=_ratio(n_correct, n_errors),
            f1=_ratio(2 * n_correct, n_found + n_errors) if n_errors else None,
            accuracy=_ratio(n_examples - n_wrongly_judged, n_examples),
            examples=examples,
            found=found,
            setting=setting,
        )

    def breakdown(self, by: By) -> tuple[Detection, ...]:
        """Return the same per class or per pair.

        Parameters
        ----------
        by : {"given", "true", "pair"}
            A row per given label, per true label, or per pair of them ("given cat, true dog"),
            given labels outermost.

        Returns
        -------
        tuple of Detection

        Raises
        ------
        UnknownArtifactError
            If `by` is none of the three.

        Examples
        --------
        >>> found = load_noisy_labels(0.4, 0.2) != load_true_labels()
        >>> rows = evaluate(found, 0.4, 0.2).detection.breakdown("true")  # published files
        >>> rows[3].name, rows[3].n_errors  # published files
        ('cat', 3019)
        """
        return tuple(
            Detection.of(
                name,
                np.where(part, self.examples, 0),
                np.where(part, self.found, 0),
                self.setting,
            )
            for name, part in _parts(check_choice(by, _BY, "by"))
        )

    def row(self) -> dict[str, Any]:
        """Return setting, name, counts and rates without the tables, for a data frame or JSON."""
        return _row(self)


@dataclass(frozen=True)
class Ranking:
    """How well a score puts wrong labels first. All None where no label is wrong.

    Attributes
    ----------
    name : str
        Of the score.
    average_precision : float or None
        Mean of the precision over all wrong labels, by falling score.
    roc_auc : float or None
        Probability that a wrong label scores above a right one, ties counting half.
    precision_at_n_errors : float or None
        Precision of as many examples, by falling score, as there are wrong labels. Of examples that
        tie at that rank it takes their mean.
    best_f1 : float or None
        The highest F1 that any cut reaches; chosen knowing the truth, hence an upper bound.
    best_cut : float or None
        That cut: scores at least as high are flagged.
    setting : Setting or None
        As for `Detection`.
    """

    name: str
    average_precision: Rate
    roc_auc: Rate
    precision_at_n_errors: Rate
    best_f1: Rate
    best_cut: Rate
    setting: Setting | None = None

    def row(self) -> dict[str, Any]:
        """Return setting, name and rates, for a data frame or JSON."""
        return _row(self)


def _row(result: Detection | Ranking) -> dict[str, Any]:
    setting = asdict(result.setting) if result.setting else {}
    left_out = ("examples", "found", "setting")
    return setting | {name: value for name, value in vars(result).items() if name not in left_out}


@dataclass(frozen=True)
class Evaluation:
    """A mask or score against the true label errors, and the published methods beside it.

    Attributes
    ----------
    setting : Setting
        The noise setting.
    detection : Detection or None
        Of the mask, or of the score cut where F1 is best; None for a score where no label is wrong.
    ranking : Ranking or None
        Of the score; None for a mask.
    published : tuple of Detection
        The five published methods; empty where their masks cannot be had.
    edition : str or None
        The edition of those masks; None where there are none for the setting.
    published_missing : str or None
        Why `published` is empty; None where it is not.
    """

    setting: Setting
    detection: Detection | Any
    ranking: Ranking | Any
    published: tuple[Detection, ...]
    edition: Edition | None
    published_missing: str | None

    @property
    def detections(self) -> tuple[Detection, ...]:
        """The detection, if there is one, as a `PyxEvaluation` has them."""
        return (self.detection,) if self.detection else ()

    @property
    def rankings(self) -> tuple[Ranking, ...]:
        """The ranking, if there is one, as a `PyxEvaluation` has them."""
        return (self.ranking,) if self.ranking else ()

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as numbers, texts, lists and dicts, for JSON."""
        return {
            **asdict(self.setting),
            "detection": self.detection.row() if self.detection else None,
            "ranking": self.ranking.row() if self.ranking else None,
            **_published_dict(self),
        }


@dataclass(frozen=True)
class Fit:
    """How well probabilities predict labels.

    Attributes
    ----------
    accuracy : float
        Share of the examples whose most probable class is their label.
    ece : float
        Expected calibration error: mean distance of confidence and accuracy over 15 bins of equal
        width of the highest probability.
    brier : float
        Mean over the examples of the squared distance of their row from the label's, 0 to 2.
    """

    accuracy: float
    ece: float
    brier: float


@dataclass(frozen=True)
class PyxEvaluation:
    """Probabilities against given and true labels, and the label errors that follow from them.

    Attributes
    ----------
    setting : Setting
        The noise setting.
    against_given, against_true : Fit
        How well they predict the noisy and the true labels.
    accuracy_bound : float
        The best accuracy against given labels that a learner can have, even if it knows every true
        label: the mean of the column maxima of the noise matrix as drawn. Which labels are wrong
        depends on the class alone, so no image tells more.
    rankings : tuple of Ranking
        By "self_confidence" and "normalized_margin", see `label_error_scores`.
    detections : tuple of Detection
        The five methods of confident learning, computed from these probabilities.
    published, edition, published_missing
        As in `Evaluation`.
    """

    setting: Setting
    against_given: Fit
    against_true: Fit
    accuracy_bound: float
    rankings: tuple[Ranking, ...]
    detections: tuple[Detection, ...]
    published: tuple[Detection, ...]
    edition: Edition | None
    published_missing: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as numbers, texts, lists and dicts, for JSON."""
        return {
            **asdict(self.setting),
            "against_given": asdict(self.against_given),
            "against_true": asdict(self.against_true),
            "accuracy_bound": self.accuracy_bound,
            "rankings": [ranking.row() for ranking in self.rankings],
            "detections": [detection.row() for detection in self.detections],
            **_published_dict(self),
        }


def _published_dict(result: Evaluation | PyxEvaluation) -> dict[str, Any]:
    return {
        "published": [detection.row() for detection in result.published],
        "edition": result.edition,
        "published_missing": result.published_missing,
    }


def count_pairs(
    given: NDArray[np.integer], true: NDArray[np.integer], n_classes: int
) -> NDArray[np.int64]:
    """Count examples by given label (row) and true label (column).

    Examples
    --------
    >>> count_pairs(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    pairs = given.astype(np.int64) * n_classes + true
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def accuracy_bound(examples: Counts) -> float:
    """Return the best accuracy against given labels that knowing all true ones allows.

    Parameters
    ----------
    examples : (K, K) int64
        As `count_pairs` returns them.

    Examples
    --------
    >>> accuracy_bound(np.array([[3, 1], [1, 5]]))
    0.8
    """
    return float(examples.max(axis=0).sum() / examples.sum())


def evaluate(
    found: ArrayLike,
    noise: float | Setting,
    sparsity: float | None = None,
    *,
    order: Order = "imagefolder",
    edition: Edition | None = None,
) -> Evaluation:
    """Compare found label errors with the true ones, and with what the published methods found.

    Parameters
    ----------
    found : (50000,) bool or float array_like
        A mask, True = label error; or a score per example, higher = more likely wrong. The rows of
        a pandas Series are taken by its index, which must be 0 to 49999 in some order.
    noise : {0, 0.2, 0.4, 0.7, 0.9} or Setting
        Fraction of wrong labels. A Setting stands for both numbers.
    sparsity : {0, 0.2, 0.4, 0.6}, optional
        Fraction of zero off-diagonal noise rates; may be left out where noise is 0.
    order : {"imagefolder", "torchvision"}, default "imagefolder"
        Order of `found`.
    edition : {"2019", "2021"}, optional
        Of the published masks beside it, as for `load_train_mask`.

    Returns
    -------
    Evaluation
        The published methods are left out, with the reason, where their files cannot be had: the
        labels ship with the package, so the evaluation itself needs no file.

    Raises
    ------
    InvalidInputError
        If `found` has another length or dtype, its scores are NaN, infinite or all equal, or its
        index does not say which example a row is.
    UnknownArtifactError
        If the setting, edition or order was never published, or sparsity is missing.

    Warns
    -----
    SuspectMaskWarning
        If what is passed surely says the opposite, or is in the other order; it is evaluated as it
        is. Sure is: a mask that equals a published train mask, in which True means keep; a mask
        that flags right labels rather than wrong ones, or a score that ranks them so, by more than
        10 standard deviations (a random one: 1; the published methods: 21 to 154 the other way); or
        one that has nothing to do with the truth as it is but does by 10 in the other order.

    Examples
    --------
    >>> mine = load_label_errors("cl_pbc", 0.4, 0.2, edition="2021")  # published files
    >>> result = evaluate(mine, 0.4, 0.2)  # published files
    >>> result.detection.n_found, round(result.detection.f1, 4)  # published files
    (24336, 0.8356)
    >>> [(other.name, round(other.f1, 4)) for other in result.published][:2]  # published files
    [('argmax', 0.829), ('conf_joint_only', 0.8277)]
    """
    setting = Setting.of(noise, sparsity)
    truth = _Truth.of(setting)
    checked = in_published_order(_check_found(found), order)
    masks, used, missing = _published_masks(setting, edition)
    _warn(_equal_train_mask(checked, masks) or _doubt("found", checked, truth.judge, order))
    is_mask = checked.dtype == np.bool_
    ranking = None if is_mask else truth.rank(YOURS, checked)
    return Evaluation(
        setting,
        truth.detect(YOURS, checked) if ranking is None else truth.detect_at_cut(checked, ranking),
        ranking,
        truth.detect_all(masks),
        used,
        missing,
    )


@np.errstate(under="ignore")  # the caller may have it raise
def evaluate_pyx(
    pyx: ArrayLike,
    noise: float | Setting,
    sparsity: float | None = None,
    *,
    order: Order = "imagefolder",
    edition: Edition | None = None,
) -> PyxEvaluation:
    """Evaluate out-of-sample probabilities: as predictions, as scores, and by confident learning.

    Parameters
    ----------
    pyx : (50000, 10) float16, float32 or float64 array_like
        Out-of-sample predicted probabilities. Rows need not sum to 1 and are taken as they are.
    noise, sparsity, order, edition
        As for `evaluate`.

    Returns
    -------
    PyxEvaluation

    Raises
    ------
    InvalidInputError
        If `pyx` has another shape or dtype, or an entry is NaN or outside 0 to 1, or all entries
        are equal.
    UnknownArtifactError
        As for `evaluate`.

    Warns
    -----
    SuspectMaskWarning
        If what is passed surely is something else, of which it names what it looks like: rows in
        the other order, columns that are reversed, rolled or in another order, or numbers that are
        the lower, the more likely a class is, such as 1 - p. Sure is what predicts given or true
        labels by 10 standard deviations more than what was passed, where that predicts neither.

    Examples
    --------
    >>> from cifar_noisy import load_pyx
    >>> result = evaluate_pyx(load_pyx(0.4, 0), 0.4, 0)  # published files
    >>> round(result.against_true.accuracy, 3), round(result.accuracy_bound, 3)  # published files
    (0.754, 0.601)
    >>> result.rankings[0].name, round(result.rankings[0].roc_auc, 3)  # published files
    ('self_confidence', 0.924)
    """
    setting = Setting.of(noise, sparsity)
    truth = _Truth.of(setting)
    checked = in_published_order(_check_pyx(pyx, truth.given), order)
    masks, used, missing = _published_masks(setting, edition)
    _warn(_doubt("pyx", checked, truth.judge_pyx, order), stacklevel=4)  # np.errstate's is one
    return PyxEvaluation(
        setting,
        _fit(checked, truth.given),
        _fit(checked, truth.true),
        accuracy_bound(truth.examples),
        tuple(
            truth.rank(name, _check_scores(scores, f"its {name}"))
            for name, scores in label_error_scores(truth.given, checked).items()
        ),
        truth.detect_all(label_errors(truth.given, checked)),
        truth.detect_all(masks),
        used,
        missing,
    )


def evaluate_published(
    noise: float | Setting, sparsity: float | None = None, *, edition: Edition | None = None
) -> tuple[Detection, ...]:
    """Evaluate what the five published methods found.

    Parameters
    ----------
    noise, sparsity, edition
        As for `load_train_mask`.

    Returns
    -------
    tuple of Detection
        In the order of `METHODS`.

    Raises
    ------
    UnknownArtifactError
        If there are no such masks.
    UnavailableError
        If one of them cannot be had.

    Examples
    --------
    >>> [round(found.f1, 2) for found in evaluate_published(0.4, 0.6)]  # published files
    [0.79, 0.8, 0.79, 0.8, 0.78]
    """
    setting = Setting.of(noise, sparsity)
    return _Truth.of(setting).detect_all(_load_all_label_errors(setting, edition))


@dataclass(frozen=True)
class _Truth:
    """Given and true labels of a setting, in the published order, and what follows of them."""

    setting: Setting
    given: NDArray[np.int64]
    true: NDArray[np.int64]
    is_error: Mask
    examples: Counts

    @classmethod
    def of(cls, setting: Setting) -> _Truth:
        given, true = load_noisy_labels(setting.noise, setting.sparsity), load_true_labels()
        return cls(setting, given, true, given != true, count_pairs(given, true, N_CLASSES))

    def detect(self, name: str, flagged: Mask) -> Detection:
        n_found = count_pairs(self.given[flagged], self.true[flagged], N_CLASSES)
        return Detection.of(name, self.examples, n_found, self.setting)

    def detect_at_cut(self, scores: Scores, ranking: Ranking) -> Detection | None:
        if ranking.best_cut is None:
            return None
        return self.detect(AT_BEST_CUT, scores >= ranking.best_cut)

    def detect_all(self, masks: Mapping[Method, Mask]) -> tuple[Detection, ...]:
        return tuple(self.detect(name, flagged) for name, flagged in masks.items())

    def rank(self, name: str, scores: Scores) -> Ranking:
        if not self.is_error.any():
            return Ranking(name, None, None, None, None, None, self.setting)
        from sklearn.metrics import average_precision_score, roc_auc_score

        best_f1, best_cut = _best_cut(self.is_error, scores)
        return Ranking(
            name,
            float(average_precision_score(self.is_error, scores)),
            float(roc_auc_score(self.is_error, scores)),
            _precision_at_n_errors(self.is_error, scores),
            best_f1,
            best_cut,
            self.setting,
        )

    def judge(self, found: Found) -> tuple[float, str | None]:
        """Return how strongly a mask or score says which labels are wrong, and what is amiss."""
        strength = self.strength(found) if self.is_error.any() else math.inf
        if strength > -_STRONG:
            return strength, None
        is_mask = found.dtype == np.bool_
        remedy = "~found if True means keep" if is_mask else "-found if higher means right"
        return strength, (
            f"{'flags' if is_mask else 'ranks first'} right labels rather than wrong ones "
            f"(z = {strength:.0f}): pass {remedy}"
        )

    def strength(self, found: Found) -> float:
        """Return by how many standard deviations wrong labels, rather than right ones, stand out.

        For a mask within each class (see `association`), for a score as Mann and Whitney have it.
        """
        if found.dtype == np.bool_:
            return -association(found, self.given, self.true)
        from sklearn.metrics import roc_auc_score

        n, n_errors = len(self.is_error), int(self.is_error.sum())
        spread = math.sqrt((n + 1) / (12 * n_errors * (n - n_errors)))
        return (float(roc_auc_score(self.is_error, found)) - 0.5) / spread

    def judge_pyx(self, pyx: NDArray[np.floating]) -> tuple[float, str | None]:
        """Return how strongly probabilities predict labels, and what is amiss with the columns."""
        tables = self.covariances(pyx)
        own = tables.diagonal(axis1=1, axis2=2)
        strength = float(own.sum(axis=1).max())
        # Who learns noisy labels predicts given ones; who sees through the noise, true ones.
        is_other = (own < tables.max(axis=1) / 2).all(axis=0)
        if not is_other.any():
            return strength, None
        from scipy.optimize import linear_sum_assignment

        best = [linear_sum_assignment(table, maximize=True)[1] for table in tables]
        gains = [
            (table[order.argsort(), _COLUMNS] - table.diagonal())[is_other].sum()
            for table, order in zip(tables, best, strict=True)
        ]
        if min(gains) < _STRONG:
            return strength, None

        def z_of(order: NDArray[np.intp]) -> float:
            return float(tables[:, _COLUMNS, order].sum(axis=1).max())

        order = max(best, key=z_of)
        if -own.sum(axis=1).min() > z_of(order):
            return strength, (
                "looks like 1 - p or a distance, which is lower where a class is likelier "
                f"(z = {own.sum(axis=1).min():.0f}): pass 1 - pyx"
            )
        simple, remedy = max(_simple_orders(), key=lambda simple: z_of(simple[0]))
        if z_of(simple) < z_of(order) / 2:
            simple, remedy = order, f"in another order: pass pyx[:, {order.tolist()}]"
        return strength, f"looks as if its columns (z = {z_of(simple):.0f}) were {remedy}"

    def covariances(self, pyx: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return covariances of labels (rows), given and then true ones, and columns of `pyx`.

        In standard deviations of the sum of a diagonal. Of probabilities that are right about the
        given labels the first matrix is the covariance of `pyx` itself, so no order of the columns
        has a larger diagonal, however often a class has another's label.
        """
        deviations = pyx - pyx.mean(axis=0, dtype=np.float64)
        spread = math.sqrt(float(pyx.var(axis=1, dtype=np.float64).sum()))
        identity = np.eye(N_CLASSES)
        sums = [identity[labels].T @ deviations for labels in (self.given, self.true)]
        return np.stack(sums) / (spread or 1)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _parts(by: By) -> Iterator[tuple[str, Mask]]:
    """Yield the name of each part and the cells, by given and true label, that belong to it."""
    given, true = np.indices((N_CLASSES, N_CLASSES))
    if by != "pair":
        for k, name in enumerate(CLASSES):
            yield name, (given if by == "given" else true) == k
        return
    for i, given_name in enumerate(CLASSES):
        for j, true_name in enumerate(CLASSES):
            yield f"given {given_name}, true {true_name}", (given == i) & (true == j)


def _best_cut(is_error: Mask, scores: Scores) -> tuple[float, float]:
    """Return the best F1 of all cuts and the lowest cut that reaches it."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, cuts = precision_recall_curve(is_error, scores)
    # The curve's last point flags nothing and has no cut. At the first, everything is flagged.
    total = precision[:-1] + recall[:-1]
    f1 = np.divide(
        2 * precision[:-1] * recall[:-1], total, out=np.zeros_like(total), where=total > 0
    )
    best = int(f1.argmax())
    return float(f1[best]), float(cuts[best])


def _precision_at_n_errors(is_error: Mask, scores: Scores) -> float:
    n_errors = int(is_error.sum())
    rank = len(scores) - n_errors
    cut = np.partition(scores, rank)[rank]
    above, tied = scores > cut, scores == cut
    n_of_tied = n_errors - int(above.sum())
    return float(is_error[above].sum() + n_of_tied * is_error[tied].mean()) / n_errors


def _fit(pyx: NDArray[np.floating], labels: NDArray[np.int64]) -> Fit:
    probabilities = pyx.astype(np.float64)
    confidence = probabilities.max(axis=1)
    is_hit = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=confidence - is_hit)
    own = probabilities[np.arange(len(labels)), labels]
    # (p - onehot)^2 summed over a row is the row's squares with the label's own p^2 put right.
    distances = (probabilities**2).sum(axis=1) - 2 * own + 1
    return Fit(
        float(is_hit.mean()), float(np.abs(gaps).sum() / len(labels)), float(distances.mean())
    )


def _load_all_label_errors(setting: Setting, edition: Edition | None) -> dict[Method, Mask]:
    used = edition or default_edition(setting)
    Store.from_environment().fetch_absent(artifacts(kind="train_mask", noise=setting, edition=used))
    return {
        method: load_label_errors(method, setting.noise, setting.sparsity, edition=used)
        for method in METHODS
    }


def _published_masks(
    setting: Setting, edition: str | None
) -> tuple[dict[Method, Mask], Edition | None, str | None]:
    """Return what the five methods found, of which edition, and else why it is not there."""
    chosen = None if edition is None else check_choice(edition, EDITIONS, "edition")
    if not setting.has_probabilities:
        return {}, None, f"no method was published at noise {setting.noise:g}"
    used = chosen or default_edition(setting)
    try:
        return _load_all_label_errors(setting, used), used, None
    except UnavailableError as error:
        return {}, used, error.message


def _warn(doubt: str | None, stacklevel: int = 3) -> None:
    if doubt:
        warnings.warn(doubt, SuspectMaskWarning, stacklevel)


def _equal_train_mask(found: Found, masks: Mapping[Method, Mask]) -> str | None:
    for method, mask in masks.items():
        if found.dtype == np.bool_ and not np.any(found == mask):
            return (
                f"found equals the published train mask of {method}, where True means keep: pass "
                "its complement ~found"
            )
    return None


def _doubt(what: str, rows: NDArray[Any], judge: Judge, order: str) -> str | None:
    """Return what surely is the matter with rows, as they are or in the other order."""
    strength, amiss = judge(rows)
    if amiss:
        return f"{what} {amiss}"
    if abs(strength) > _NONE:
        return None
    other = "imagefolder" if order == "torchvision" else "torchvision"
    # The rows stand in the published order if `order` is right; undone if it is not.
    undone = in_order(rows, order) if order == "torchvision" else in_published_order(rows, other)
    strength, amiss = judge(undone)
    if strength < _STRONG and not amiss:
        return None
    return (
        f"{what} has nothing to do with the labels unless its rows are in {other} order "
        f"(z = {strength:.0f}): pass order={other!r}" + (f"; it also {amiss}" if amiss else "")
    )


def _simple_orders() -> Iterator[tuple[NDArray[np.intp], str]]:
    """Yield which column has each class, and what that is called and needs."""
    yield _COLUMNS[::-1], "reversed: pass pyx[:, ::-1]"
    for shift in range(1, N_CLASSES):
        remedy = f"rolled by {shift}: pass np.roll(pyx, {-shift}, axis=1)"
        yield np.roll(_COLUMNS, -shift), remedy


def _check_found(found: ArrayLike) -> Found:
    array = as_array(found, "found")
    expected = f"pass a bool mask or float scores of shape ({N_EXAMPLES},)"
    if np.issubdtype(array.dtype, np.integer):
        if array.shape == (N_EXAMPLES,) and array.min() >= 0 and array.max() <= 1:
            raise InvalidInputError(
                f"found has dtype {array.dtype} and holds 0 and 1: pass found.astype(bool), "
                "True = label error"
            )
        raise InvalidInputError(
            f"found holds {array.dtype} of shape {array.shape}: if these are indices of label "
            f"errors, make a mask of them (mask = np.zeros({N_EXAMPLES}, bool); mask[found] = "
            "True); if they are scores, pass them as float"
        )
    if array.dtype != np.bool_ and not np.issubdtype(array.dtype, np.floating):
        raise InvalidInputError(f"found has dtype {array.dtype}: {expected}")
    if array.shape != (N_EXAMPLES,):
        raise InvalidInputError(f"found has shape {array.shape}: {expected}, one entry per example")
    return array if array.dtype == np.bool_ else _check_scores(array.astype(np.float64), "found")


def _check_scores(scores: Scores, what: str) -> Scores:
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise InvalidInputError(
            f"{what}[{wrong[0]}] is {scores[wrong[0]]}, as are {len(wrong) - 1:,} others not "
            "finite: give every example a finite score (np.nan_to_num makes infinities finite)"
        )
    if scores.min() == scores.max():
        raise InvalidInputError(
            f"{what} is constant: a score of {scores[0]:g} for every example ranks none before "
            "another; pass scores that differ"
        )
    return scores


def _check_pyx(pyx: ArrayLike, given: NDArray[np.int64]) -> NDArray[np.floating]:
    array = as_array(pyx, "pyx")
    if array.shape != (N_EXAMPLES, N_CLASSES):
        raise InvalidInputError(
            f"pyx has shape {array.shape}: pass a row for each of the {N_EXAMPLES:,} examples and "
            f"a column for each of the {N_CLASSES} classes"
        )
    return Problem.of(given, array).pyx
