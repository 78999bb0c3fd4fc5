"""Recomputed probabilities and masks against the published ones, by what can be compared.

Two trainings never give the same numbers, so nothing here is exact. Accuracies and F1 may lie a
hundredth from the published ones, an assumption: what two seeds of one recipe differ by was not
measured yet, so nothing is said to be expected of how far two trainings agree row by row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.confident_learning import label_errors
from cifar_noisy.errors import InvalidInputError
from cifar_noisy.evaluation import PyxEvaluation, evaluate_pyx
from cifar_noisy.loaders import load_noisy_labels, published_pyx
from cifar_noisy.recomputed import read_pyx
from cifar_noisy.settings import METHODS, Setting

BETTER, AS_EXPECTED, WORSE = "better", "as expected", "worse"

_SEED_SPREAD = 0.01
"""By how much accuracies and F1 of two seeds are taken to differ at most; assumed, not measured."""


@dataclass(frozen=True)
class Comparison:
    """One quantity of recomputed probabilities, and of the published ones.

    Attributes
    ----------
    quantity : str
        What was measured; higher is better, or nearer.
    recomputed : float
        Its value.
    published : float or None
        The published value; None for the agreement of the two, which has one value.
    expected : (float, float) or None
        Within what it should lie between two honest trainings; None where that was not measured.
    """

    quantity: str
    recomputed: float
    published: float | None
    expected: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """Say "as expected", "better" or "worse" than that, or "-" where nothing is expected."""
        if self.expected is None:
            return "-"
        low, high = self.expected
        if self.recomputed < low:
            return WORSE
        return BETTER if self.recomputed > high else AS_EXPECTED


def compare_recomputed(
    folder: str | os.PathLike[str], noise: float, sparsity: float
) -> tuple[Comparison, ...]:
    """Compare the recomputed probabilities and masks of a folder with the published ones.

    Parameters
    ----------
    folder : path
        A folder of ``cifar-noisy recompute``.
    noise : {0, 0.2, 0.4, 0.7}
        Fraction of wrong labels.
    sparsity : {0, 0.2, 0.4, 0.6}
        Fraction of zero off-diagonal noise rates; 0 where noise is 0.

    Returns
    -------
    tuple of Comparison
        Accuracies and, where labels are wrong, each method's F1; then by how much the two agree,
        see `agreement`.

    Raises
    ------
    UnknownArtifactError
        If nothing was published for the setting.
    UnavailableError
        If either side is not there.
    InvalidInputError
        If the folder is of another dataset.

    Examples
    --------
    >>> for row in compare_recomputed("recomputed", 0.4, 0.2):  # doctest: +SKIP
    ...     print(row.quantity, row.verdict)
    """
    setting = Setting(noise, sparsity)
    theirs = published_pyx(setting)
    ours = read_pyx(Path(folder).expanduser(), setting)
    if ours.shape != theirs.shape:
        raise InvalidInputError(
            f"{folder} holds probabilities of shape {ours.shape}, where {theirs.shape} were "
            "published: name a folder of CIFAR-10"
        )
    evaluations = (evaluate_pyx(pyx, noise, sparsity) for pyx in (ours, theirs))
    agreements = agreement(setting, ours, theirs).items()
    return (
        *_accuracies(*evaluations),
        *(Comparison(quantity, value, None, None) for quantity, value in agreements),
    )


def _accuracies(ours: PyxEvaluation, theirs: PyxEvaluation) -> Iterator[Comparison]:
    yield _score("accuracy against given labels", ours.against_given.accuracy,
                 theirs.against_given.accuracy)  # fmt: skip
    yield _score("accuracy against true labels", ours.against_true.accuracy,
                 theirs.against_true.accuracy)  # fmt: skip
    for mine, published in zip(ours.detections, theirs.detections, strict=True):
        if mine.f1 is not None and published.f1 is not None:
            yield _score(f"F1 of {mine.name}", mine.f1, published.f1)


def _score(quantity: str, ours: float, theirs: float) -> Comparison:
    return Comparison(quantity, ours, theirs, (theirs - _SEED_SPREAD, theirs + _SEED_SPREAD))


def agreement(
    setting: Setting, one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]
) -> dict[str, float]:
    """Return by how much two arrays of probabilities agree.

    Parameters
    ----------
    setting : Setting
    one, other : (50000, 10) float
        Probabilities in the published order.

    Returns
    -------
    dict of str to float
        Share of rows with the same argmax, Spearman's correlation of the probability of the given
        label, and for each method the share of examples that both flag or both keep.
    """
    from scipy.stats import spearmanr

    given = load_noisy_labels(setting.noise, setting.sparsity)
    rows = np.arange(len(given))
    confidence = spearmanr(one[rows, given], other[rows, given]).statistic
    mine, yours = label_errors(given, one), label_errors(given, other)
    return {
        "same argmax": float((one.argmax(axis=1) == other.argmax(axis=1)).mean()),
        "rank correlation of self-confidence": float(confidence),
        **{f"agreement of {m}": float((mine[m] == yours[m]).mean()) for m in METHODS},
    }
