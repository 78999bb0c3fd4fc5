"""What an evaluation returns.

Every count follows from two tables over pairs of (given label, true label): how many examples there
are, and how many of them were flagged. Off the diagonal the label is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.loading.given_labels import LabelSource, identity
from cifar_noisy.loading.noise_generation import N_CLASSES
from cifar_noisy.records import Records
from cifar_noisy.rendering import (
    Cell,
    cell_text,
    highest_bold,
    html_block,
    html_facts,
    html_table,
    text_table,
)
from cifar_noisy.settings import CLASSES, Edition, check_choice

if TYPE_CHECKING:
    import pandas as pd

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

    def breakdown(self, by: By) -> Records[Detection]:
        """Return the same per class or per pair; ``.frame`` of it is a data frame.

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
        return Records(
            Detection.of(name, self.examples * part, self.found * part, self.setting)
            for name, part in _parts(check_choice(by, get_args(By), "by"))
        )

    def row(self) -> dict[str, Any]:
        """Return setting, name, counts and rates without the tables, for a data frame or JSON."""
        return _row(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the same as `row`."""
        return self.row()

    def shown(self) -> dict[str, Cell]:
        """Return what people look at, by name."""
        return {
            "found by": self.name,
            "found": self.n_found,
            "rightly": self.n_correct,
            **{name: getattr(self, attribute) for name, attribute in _RATES.items()},
        }

    def __repr__(self) -> str:
        rates = ", ".join(f"{k} {cell_text(getattr(self, a))}" for k, a in _RATES.items())
        return (
            f"{type(self).__name__}({self.name!r}, {rates}; {self.n_correct:,} of {self.n_found:,} "
            f"found are among {self.n_errors:,} errors, setting={self.setting!r})"
        )

    def _repr_html_(self) -> str:
        title = f"Label errors found in {self.setting or 'labels of another dataset'}"
        among = {"wrong labels": f"{self.n_errors:,} of {self.n_examples:,}"}
        return html_facts(self.shown() | among, title=title)


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

    def as_dict(self) -> dict[str, Any]:
        """Return the same as `row`."""
        return self.row()

    def shown(self) -> dict[str, Cell]:
        """Return what people look at, by name."""
        return {
            "score": self.name,
            "average precision": self.average_precision,
            "ROC AUC": self.roc_auc,
            "precision at the number of errors": self.precision_at_n_errors,
            "best F1": self.best_f1,
            "best cut": self.best_cut,
        }

    def _repr_html_(self) -> str:
        return html_facts(self.shown())


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
    published : Records of Detection
        A tuple: the five published methods, or for another repository's labels the five computed
        from the probabilities of a model; empty where their masks cannot be had.
    edition : str or None
        The edition of those masks; None where none were published.
    published_missing : str or None
        Why `published` is empty; None where it is not.
    """

    setting: LabelSource
    detection: Detection | Any
    ranking: Ranking | Any
    published: Records[Detection]
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

    @property
    def frame(self) -> pd.DataFrame:
        """All detections and rankings as a pandas.DataFrame, a row for each, yours first.

        Columns: noise and sparsity (for labels that are not the paper's, noise is their name); side
        ("yours" or "published"); name; kind ("mask" or "score"); the counts of a `Detection`
        (Int64, missing for a ranking); the rates of `Detection` and `Ranking` (float64, NaN where
        they do not apply or are undefined).
        """
        return _frame(self)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as numbers, texts, lists and dicts, for JSON."""
        return _as_dict(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.setting!r}: {_headline(self)})"

    def __str__(self) -> str:
        return _text(self)

    def _repr_html_(self) -> str:
        return _html(self)


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

    def _repr_html_(self) -> str:
        names = {"accuracy": self.accuracy, "calibration error (ECE)": self.ece}
        return html_facts({**names, "Brier score": self.brier})


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
    rankings : Records of Ranking
        By "self_confidence" and "normalized_margin", see `label_error_scores`.
    detections : Records of Detection
        The five methods of confident learning, computed from these probabilities.
    published, edition, published_missing
        As in `Evaluation`.
    """

    setting: LabelSource
    against_given: Fit
    against_true: Fit
    accuracy_bound: float
    rankings: Records[Ranking]
    detections: Records[Detection]
    published: Records[Detection]
    edition: Edition | None
    published_missing: str | None

    @property
    def frame(self) -> pd.DataFrame:
        """All detections and rankings as a pandas.DataFrame, as of an `Evaluation`."""
        return _frame(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.setting!r}: {_headline(self)})"

    def __str__(self) -> str:
        return _text(self)

    def _repr_html_(self) -> str:
        return _html(self)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as numbers, texts, lists and dicts, for JSON."""
        return _as_dict(self)


def _as_dict(result: Evaluation | PyxEvaluation) -> dict[str, Any]:
    values = {name: _plain(value) for name, value in vars(result).items() if name != "setting"}
    return identity(result.setting) | values


_RATES = {"precision": "precision", "recall": "recall", "F1": "f1", "accuracy": "accuracy"}
"""The rates of a `Detection` as people read them, with the attributes that they are."""

_Result = Evaluation | PyxEvaluation


def _frame(result: _Result) -> pd.DataFrame:
    import pandas as pd

    rows: list[dict[str, Any]] = [
        identity(result.setting) | {"side": side, "name": row.name, "kind": kind} | row.row()
        for side, kind, group in (
            ("yours", "mask", result.detections),
            ("yours", "score", result.rankings),
            ("published", "mask", result.published),
        )
        for row in group
    ]
    columns = ["noise", "sparsity", "side", "name", "kind", *_COUNTS, *_RATES.values(), *_SCORES]
    frame = pd.DataFrame(rows, columns=columns)
    types = dict.fromkeys(_COUNTS, "Int64") | dict.fromkeys((*_RATES.values(), *_SCORES), "float64")
    return frame.astype({"sparsity": "float64"} | types)


_COUNTS = ("n_examples", "n_errors", "n_found", "n_correct")
_SCORES = ("average_precision", "roc_auc", "precision_at_n_errors", "best_f1", "best_cut")


def _headline(result: _Result) -> str:
    """Say how well, and compared with what: the best F1 of either side."""
    mine, published = (_best(group) for group in (result.detections, result.published))
    beside = f"; the best method beside it has {published}" if published else ""
    return f"F1 {mine}{beside}" if mine else "no label is wrong, so none can be found"


def _best(detections: Sequence[Detection]) -> str:
    known = [detection for detection in detections if detection.f1 is not None]
    best = max(known, key=lambda detection: float(detection.f1), default=None)
    return "" if best is None else f"{best.f1:.4f} ({best.name})"


def _tables(result: _Result) -> Iterator[Mapping[str, Sequence[Cell]]]:
    """Yield the tables that people look at, yours in the first rows."""
    detections = (*result.detections, *result.published)
    if detections:
        shown = [detection.shown() for detection in detections]
        if len(result.detections) > 1:  # the same methods on both sides
            for row, _ in zip(shown, result.detections, strict=False):
                row["found by"] = f"yours, {row['found by']}"
        rates = {
            head: highest_bold(getattr(detection, attribute) for detection in detections)
            for head, attribute in _RATES.items()
        }
        yield {head: [row[head] for row in shown] for head in shown[0]} | rates
    if result.rankings:
        rankings = [ranking.shown() for ranking in result.rankings]
        yield {head: [row[head] for row in rankings] for head in rankings[0]}


def _notes(result: _Result) -> list[str]:
    """Return what a reader of the tables must know."""
    notes = []
    if result.detections:
        counts = result.detections[0]
        notes.append(f"{counts.n_errors:,} of {counts.n_examples:,} labels are wrong")
    if isinstance(result, PyxEvaluation):
        given, true, bound = result.against_given, result.against_true, result.accuracy_bound
        notes += [
            f"accuracy of the probabilities: {given.accuracy:.4f} against given labels "
            f"(knowing the true labels allows {bound:.4f}), {true.accuracy:.4f} against true ones",
            f"calibration against true labels: ECE {true.ece:.4f}, Brier score {true.brier:.4f}",
        ]
    elif result.ranking:
        notes.append("F1 of a score: at the cut where it is best, so an upper bound")
    if result.published_missing:
        notes.append(f"no methods beside it: {result.published_missing}")
    elif result.edition:
        notes.append(f"beside it: the published masks of edition {result.edition}")
    return notes


def _title(result: _Result) -> str:
    return f"Label errors of {result.setting}: {_headline(result)}"


def _text(result: _Result) -> str:
    tables = map(text_table, _tables(result))
    return "\n\n".join((_title(result), *tables, "\n".join(_notes(result))))


def _html(result: _Result) -> str:
    tables = "".join(map(html_table, _tables(result)))
    return html_block(tables, title=_title(result), notes=_notes(result))


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
