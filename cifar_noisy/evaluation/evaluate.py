"""Any label-error mask, score or probabilities against the true label errors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.confident_learning.array_checks import as_array
from cifar_noisy.confident_learning.label_errors import CheckedInput, label_errors
from cifar_noisy.confident_learning.scores import label_error_scores
from cifar_noisy.errors import InvalidInputError, SuspectMaskWarning, UnavailableError
from cifar_noisy.evaluation.metrics import GroundTruth, Scores, prediction_fit
from cifar_noisy.evaluation.plausibility import (
    check_mask,
    check_pyx,
    check_scores,
    input_problem,
)
from cifar_noisy.evaluation.results import (
    Detection as Detection,
    Evaluation as Evaluation,
    Mask,
    PyxEvaluation as PyxEvaluation,
    Ranking as Ranking,
    accuracy_bound as accuracy_bound,
    count_pairs as count_pairs,
)
from cifar_noisy.loading.artifact_loading import (
    computed_label_errors,
    default_edition,
    load_label_errors,
)
from cifar_noisy.loading.given_labels import LabelSource, Noise, OwnLabels, label_source
from cifar_noisy.loading.noise_generation import N_CLASSES, N_EXAMPLES
from cifar_noisy.loading.row_order import to_imagefolder_order
from cifar_noisy.records import Records
from cifar_noisy.settings import EDITIONS, METHODS, Edition, Method, Order, Setting, check_choice
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.label_sets import LabelSet
from cifar_noisy.store.registry import artifacts

YOURS = "yours"
AT_BEST_CUT = "yours, at best F1"
"""The names of the row of a mask, and of a score at the threshold where F1 is best."""


def evaluate(
    found: ArrayLike,
    noise: Noise,
    sparsity: float | None = None,
    *,
    order: Order = "imagefolder",
    edition: Edition | None = None,
    model: str | None = None,
) -> Evaluation:
    """Compare found label errors with the true ones, and with what the published methods found.

    Parameters
    ----------
    found : (50000,) bool or float array_like
        A mask, True = label error; or a score per example, higher = more likely wrong. The rows of
        a pandas Series are taken by its index, which must be 0 to 49999 in some order.
    noise, sparsity
        As for `load_noisy_labels`: a setting of the paper, a label set's name, or labels of your
        own in `order`.
    order : {"imagefolder", "torchvision"}, default "imagefolder"
        Order of `found`.
    edition : {"2019", "2021"}, optional
        Of the published masks beside it, as for `load_train_mask`.
    model : str, optional
        For a label set of another repository: compare with the masks computed from the published
        probabilities of this network.

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
        is. Sure is: a mask that equals a published train mask; one that flags right labels rather
        than wrong ones, or a score that ranks them so, by more than 10 standard deviations (the
        published methods: 21 to 154 the other way); or one that does so in the other order only.

    Examples
    --------
    >>> from cifar_noisy import load_label_errors
    >>> mine = load_label_errors("cl_pbc", 0.4, 0.2, edition="2021")  # published files
    >>> result = evaluate(mine, 0.4, 0.2)  # published files
    >>> result.detection.n_found, round(result.detection.f1, 4)  # published files
    (24336, 0.8356)
    >>> [(other.name, round(other.f1, 4)) for other in result.published][:2]  # published files
    [('argmax', 0.829), ('conf_joint_only', 0.8277)]
    """
    setting = label_source(noise, sparsity, order=order)
    truth = GroundTruth.of(setting)
    checked = check_found(found)
    rows = to_imagefolder_order(checked, order)
    masks, used, missing = _published_masks(setting, edition, model)
    if checked.dtype == np.bool_:
        problem = input_problem("found", check_mask, truth, checked, order)
        problem = _equal_train_mask(rows, masks) or problem
        detection, ranking = _evaluate_mask(truth, rows)
    else:
        problem = input_problem("found", check_scores, truth, checked, order)
        detection, ranking = _evaluate_scores(truth, rows)
    _warn(problem)
    return Evaluation(setting, detection, ranking, truth.detect_all(masks), used, missing)


_Results = tuple[Detection | None, Ranking | None]


def _evaluate_mask(truth: GroundTruth, flagged: Mask) -> _Results:
    return truth.detect(YOURS, flagged), None


def _evaluate_scores(truth: GroundTruth, scores: Scores) -> _Results:
    ranking = truth.rank(YOURS, scores)
    if ranking.best_cut is None:
        return None, ranking
    return truth.detect(AT_BEST_CUT, scores >= ranking.best_cut), ranking


@np.errstate(under="ignore")  # the caller may have it raise
def evaluate_pyx(
    pyx: ArrayLike,
    noise: Noise,
    sparsity: float | None = None,
    *,
    order: Order = "imagefolder",
    edition: Edition | None = None,
    model: str | None = None,
) -> PyxEvaluation:
    """Evaluate out-of-sample probabilities: as predictions, as scores, and by confident learning.

    Parameters
    ----------
    pyx : (50000, 10) float16, float32 or float64 array_like
        Out-of-sample predicted probabilities. Rows need not sum to 1 and are taken as they are.
    noise, sparsity, order, edition, model
        As for `evaluate`, which may raise the same.

    Returns
    -------
    PyxEvaluation

    Raises
    ------
    InvalidInputError
        If `pyx` has another shape or dtype, or an entry is NaN or outside 0 to 1, or all entries
        are equal.

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
    setting = label_source(noise, sparsity, order=order)
    truth = GroundTruth.of(setting)
    checked = _check_pyx(pyx, truth.given)
    rows = to_imagefolder_order(checked, order)
    masks, used, missing = _published_masks(setting, edition, model)
    problem = input_problem("pyx", check_pyx, truth, checked, order)
    _warn(problem, stacklevel=4)  # np.errstate's is one
    return PyxEvaluation(
        setting,
        prediction_fit(rows, truth.given),
        prediction_fit(rows, truth.true),
        accuracy_bound(truth.examples),
        Records(
            truth.rank(name, _check_scores(scores, f"its {name}"))
            for name, scores in label_error_scores(truth.given, rows).items()
        ),
        truth.detect_all(label_errors(truth.given, rows)),
        truth.detect_all(masks),
        used,
        missing,
    )


def evaluate_published(
    noise: Noise,
    sparsity: float | None = None,
    *,
    edition: Edition | None = None,
    model: str | None = None,
) -> Records[Detection]:
    """Evaluate what the five methods found, as published or by published probabilities.

    Parameters
    ----------
    noise, sparsity, edition, model
        As for `load_train_mask`.

    Returns
    -------
    Records of Detection
        A tuple in the order of `METHODS`; ``.frame`` is a data frame with a row for each.

    Raises
    ------
    UnknownArtifactError, UnavailableError
        If there are no such masks, or one of them cannot be had.

    Examples
    --------
    >>> [round(found.f1, 2) for found in evaluate_published(0.4, 0.6)]  # published files
    [0.79, 0.8, 0.79, 0.8, 0.78]
    """
    setting = label_source(noise, sparsity)
    masks = _load_all_label_errors(setting, edition, model)
    return GroundTruth.of(setting).detect_all(masks)


def _load_all_label_errors(
    setting: LabelSource, edition: Edition | None, model: str | None
) -> dict[Method, Mask]:
    if not isinstance(setting, Setting):
        return computed_label_errors(setting, model, edition)
    used = edition or default_edition(setting)
    Store.from_environment().fetch_absent(artifacts(kind="train_mask", noise=setting, edition=used))
    return {
        method: load_label_errors(method, setting, edition=used, model=model) for method in METHODS
    }


def _published_masks(
    setting: LabelSource, edition: Edition | None, model: str | None
) -> tuple[dict[Method, Mask], Edition | None, str | None]:
    """Return what the five methods found, of which edition, and else why it is not there."""
    if not isinstance(setting, Setting):
        if model is None and edition is None:
            return {}, None, _none_published(setting)
        try:
            return computed_label_errors(setting, model, edition), None, None
        except UnavailableError as error:
            return {}, None, error.message
    check_choice(model or "resnet50", ("resnet50",), "model")
    used = default_edition(setting) if edition is None else edition
    used = check_choice(used, EDITIONS, "edition")
    if not setting.has_probabilities:
        return {}, None, f"no method was published at noise {setting.noise:g}"
    try:
        return _load_all_label_errors(setting, used, model), used, None
    except UnavailableError as error:
        return {}, used, error.message


def _none_published(source: LabelSet | OwnLabels) -> str:
    how = ""
    if isinstance(source, LabelSet) and source.models:
        how = "; name a model whose probabilities give them: " + ", ".join(source.models)
    return f"no masks were published for {source}{how}"


def _warn(problem: str | None, stacklevel: int = 3) -> None:
    if problem:
        warnings.warn(problem, SuspectMaskWarning, stacklevel)


def _equal_train_mask(found: Mask, masks: Mapping[Method, Mask]) -> str | None:
    for method, mask in masks.items():
        if not np.any(found == mask):
            return (
                f"found equals the published train mask of {method}, where True means keep: pass "
                "its complement ~found"
            )
    return None


def check_found(found: ArrayLike) -> NDArray[Any]:
    """Return a mask, or scores as float64, of all 50,000 examples; anything else is an error."""
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
    return CheckedInput.of(given, array).pyx
