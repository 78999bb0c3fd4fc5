"""What an evaluation returns.

Every count follows from two tables over pairs of (given label, true label): how many examples there
are, and how many of them were flagged. Off the diagonal the label is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.loading.given_labels import LabelSource, identity
from cifar_noisy.loading.noise_generation import N_CLASSES
from cifar_noisy.settings import CLASSES, Edition, check_choice

By = Literal["given", "true", "pair"]

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]
# None in rare cases only, so that a caller who knows his case need not check for None.
Rate = float | Any


@dataclass(frozen=True)
class Detection:
    """How well the label errors that were found are the true ones. None: undefined.

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
    setting : Setting, LabelSet, OwnLabels or None
        Where the given labels are from; None for labels of another dataset.
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
    setting: LabelSource | None = None

    @classmethod
    def of(
        cls, name: str, examples: Counts, found: Counts, setting: LabelSource | None = None
    ) -> Detection:
        """Return the detection of these counts by given and true label."""
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

        Examples
        --------
        >>> from cifar_noisy import evaluate, load_noisy_labels, load_true_labels
        >>> found = load_noisy_labels(0.4, 0.2) != load_true_labels()
        >>> rows = evaluate(found, 0.4, 0.2).detection.breakdown("true")  # published files
        >>> rows[3].name, rows[3].n_errors  # published files
        ('cat', 3019)
        """
        return tuple(
            Detection.of(name, self.examples * part, self.found * part, self.setting)
            for name, part in _parts(check_choice(by, get_args(By), "by"))
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
    setting : Setting, LabelSet, OwnLabels or None
        As for `Detection`.
    """

    name: str
    average_precision: Rate
    roc_auc: Rate
    precision_at_n_errors: Rate
    best_f1: Rate
    best_cut: Rate
    setting: LabelSource | None = None

    def row(self) -> dict[str, Any]:
        """Return setting, name and rates, for a data frame or JSON."""
        return _row(self)


def _row(result: Detection | Ranking) -> dict[str, Any]:
    setting = identity(result.setting) if result.setting else {}
    left_out = ("examples", "found", "setting")
    return setting | {name: value for name, value in vars(result).items() if name not in left_out}


@dataclass(frozen=True)
class Evaluation:
    """A mask or score against the true label errors, and the published methods beside it.

    Attributes
    ----------
    setting : Setting, LabelSet or OwnLabels
        Where the given labels are from.
    detection : Detection or None
        Of the mask, or of the score cut where F1 is best; None for a score where no label is wrong.
    ranking : Ranking or None
        Of the score; None for a mask.
    published : tuple of Detection
        The five published methods, or for another repository's labels the five computed from the
        probabilities of a model; empty where their masks cannot be had.
    edition : str or None
        The edition of those masks; None where none were published.
    published_missing : str or None
        Why `published` is empty; None where it is not.
    """

    setting: LabelSource
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
        return _as_dict(self)


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
    setting : Setting, LabelSet or OwnLabels
        Where the given labels are from.
    against_given, against_true : Fit
        How well they predict the noisy and the true labels.
    accuracy_bound : float
        The best accuracy against given labels that a learner can have, even if it knows every true
        label: the mean of the column maxima of the noise matrix as drawn. In the paper's settings
        which labels are wrong depends on the class alone, so no image tells more; where it depends
        on the image, a learner may do better.
    rankings : tuple of Ranking
        By "self_confidence" and "normalized_margin", see `label_error_scores`.
    detections : tuple of Detection
        The five methods of confident learning, computed from these probabilities.
    published, edition, published_missing
        As in `Evaluation`.
    """

    setting: LabelSource
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
        return _as_dict(self)


def _as_dict(result: Evaluation | PyxEvaluation) -> dict[str, Any]:
    values = {name: _plain(value) for name, value in vars(result).items() if name != "setting"}
    return identity(result.setting) | values


def _plain(value: Any) -> Any:
    if isinstance(value, Detection | Ranking):
        return value.row()
    if isinstance(value, Fit):
        return asdict(value)
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def count_pairs(given: NDArray[np.integer], true: NDArray[np.integer], n_classes: int) -> Counts:
    """Count examples by given label (row) and true label (column)."""
    pairs = given.astype(np.int64) * n_classes + true
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def accuracy_bound(examples: Counts) -> float:
    """Return the best accuracy against given labels that knowing all true ones allows.

    >>> accuracy_bound(np.array([[3, 1], [1, 5]]))
    0.8
    """
    return float(examples.max(axis=0).sum() / examples.sum())


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
