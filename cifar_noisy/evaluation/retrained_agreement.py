"""Recomputed probabilities and masks against the published ones, by what can be compared.

Two trainings never give the same numbers, so nothing here is exact. What is expected comes from
two trainings of the recipe `fast` that differ in the seed alone, see ``docs/results.md``:
accuracies and F1 lie within a hundredth of the published ones, and two trainings agree on more than
they would if each erred by itself, but on no more than those two did.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.confident_learning.label_errors import label_errors
from cifar_noisy.errors import UnknownArtifactError
from cifar_noisy.evaluation.evaluate import PyxEvaluation, evaluate_pyx
from cifar_noisy.loading.artifact_loading import load_noisy_labels, published_pyx
from cifar_noisy.loading.given_labels import LabelSource, Noise, label_source
from cifar_noisy.loading.noise_generation import true_labels
from cifar_noisy.loading.recomputed import read_pyx
from cifar_noisy.records import Records
from cifar_noisy.rendering import Cell, html_facts
from cifar_noisy.settings import METHODS, Setting
from cifar_noisy.store.files import user_path

BETTER, AS_EXPECTED, WORSE = "better", "as expected", "worse"

_SEED_SPREAD = 0.01
"""Accuracies and F1 of the two seeds differ by half of it at most."""

_TWO_SEEDS = {
    0.4: {
        "same argmax": 0.8858,
        "rank correlation of self-confidence": 0.9788,
        "agreement of argmax": 0.9496,
        "agreement of conf_joint_only": 0.9182,
        "agreement of cl_pbc": 0.9504,
        "agreement of cl_pbnr": 0.935,
        "agreement of cl_both": 0.9321,
    }
}
"""By noise, how far two seeds of `fast` agreed on fold 0 at sparsity 0, when it had 21 epochs at
width 24; others were not measured."""


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
    expected : (float, float)
        Within what it should lie between two honest trainings; up to 1 where that was not measured.
    """

    quantity: str
    recomputed: float
    published: float | None
    expected: tuple[float, float]

    @property
    def verdict(self) -> str:
        """Say "as expected", "better" or "worse" than that."""
        low, high = self.expected
        if self.recomputed < low:
            return WORSE
        return BETTER if self.recomputed > high else AS_EXPECTED

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes and the verdict, for a data frame or JSON."""
        return {**asdict(self), "verdict": self.verdict}

    def shown(self) -> dict[str, Cell]:
        """Return what people look at, by name."""
        return {
            "quantity": self.quantity,
            "recomputed": self.recomputed,
            "published": self.published,
            "expected": "{:.4f} to {:.4f}".format(*self.expected),
            "verdict": self.verdict,
        }

    def _repr_html_(self) -> str:
        return html_facts(self.shown())


def compare_recomputed(
    folder: str | os.PathLike[str], noise: Noise, sparsity: float | None = None
) -> Records[Comparison]:
    """Compare recomputed probabilities, and the masks that follow, with the published ones.

    Parameters
    ----------
    folder : path
        A folder of ``cifar-noisy recompute``.
    noise : {0, 0.2, 0.4, 0.7} or Setting
        Fraction of wrong labels. A Setting stands for both numbers.
    sparsity : {0, 0.2, 0.4, 0.6}, optional
        Fraction of zero off-diagonal noise rates; may be left out where noise is 0.

    Returns
    -------
    Records of Comparison
        A tuple, of which ``.frame`` is a data frame: accuracies and, where labels are wrong, each
        method's F1; then by how much the two agree, see `agreement`. "worse" there means that they
        hardly agree more than the labels make them.

    Raises
    ------
    UnknownArtifactError, UnavailableError
        If nothing was published for the setting, or either side is not there.
    InvalidInputError
        If the folder is of another dataset.

    Examples
    --------
    >>> for row in compare_recomputed("recomputed", 0.4, 0.2):  # doctest: +SKIP
    ...     print(row.quantity, row.verdict)
    """
    setting, theirs = published_side(label_source(noise, sparsity))
    ours = read_pyx(user_path(folder), setting)
    evaluations = (evaluate_pyx(pyx, setting) for pyx in (ours, theirs))
    return Records((*_accuracies(*evaluations), *_agreements(setting, ours, theirs)))


def published_side(source: LabelSource) -> tuple[Setting, NDArray[np.floating[Any]]]:
    """Return the setting and what was published for it; raise where nothing can be compared."""
    if not isinstance(source, Setting):
        raise UnknownArtifactError(
            f"no training of the recipe was published for {source}: train with cifar-noisy "
            "recompute; evaluate_pyx (cifar-noisy evaluate) compares with the true labels"
        )
    return source, published_pyx(source)


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


def _agreements(
    setting: Setting, ours: NDArray[np.floating[Any]], theirs: NDArray[np.floating[Any]]
) -> Iterator[Comparison]:
    independent = agreement(setting, ours, shuffled_among_alike(setting, theirs))
    highest = _TWO_SEEDS.get(setting.noise, {})
    for quantity, value in agreement(setting, ours, theirs).items():
        expected = (independent[quantity] + _SEED_SPREAD, highest.get(quantity, 1.0))
        yield Comparison(quantity, value, None, expected)


def shuffled_among_alike(
    setting: Setting, pyx: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """Return the rows, shuffled among examples of the same given and the same true label.

    The shuffled rows are equally accurate. They agree with other probabilities only as far as the
    labels make them.
    """
    given = load_noisy_labels(setting)
    alike = given * pyx.shape[1] + true_labels()
    by_chance = np.random.default_rng(0).random(len(alike))
    shuffled = np.empty_like(pyx)
    shuffled[np.argsort(alike, kind="stable")] = pyx[np.lexsort((by_chance, alike))]
    return shuffled


def agreement(
    setting: Setting, one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]
) -> dict[str, float]:
    """Return by how much two arrays of probabilities, in the published order, agree.

    By the share of rows with the same argmax, Spearman's correlation of the probability of the
    given label, and for each method the share of examples that both flag or both keep.
    """
    from scipy.stats import spearmanr

    given = load_noisy_labels(setting)
    rows = np.arange(len(given))
    confidence = spearmanr(one[rows, given], other[rows, given]).statistic
    mine, yours = label_errors(given, one), label_errors(given, other)
    return {
        "same argmax": float((one.argmax(axis=1) == other.argmax(axis=1)).mean()),
        "rank correlation of self-confidence": float(confidence),
        **{f"agreement of {m}": float((mine[m] == yours[m]).mean()) for m in METHODS},
    }
