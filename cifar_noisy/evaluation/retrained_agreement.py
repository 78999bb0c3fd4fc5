"""Recomputed probabilities against the published ones, by what can be compared.

Two trainings never give the same numbers, so nothing here is exact. Each quantity has a band, which
is made from the published network of the setting, and a verdict: below it, within it or above it.

- Accuracies and F1: the published value, a hundredth to either side. Two trainings of the recipe
  `fast` that differ in the seed alone differed by half of that at most, see ``docs/results.md``.
  That the width is twice this is a choice; of the published recipe one training is known.
- Agreement with the published network: more, by a hundredth, than what labels alone explain. That
  is what the published rows agree with others when shuffled among examples of the same given and
  true label: with the published rows in their order, or with the recomputed ones, whichever is
  more. So a bad network, which agrees with anything by little, is not let off. Not more than those
  two trainings agreed, where that was measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.confident_learning.label_errors import label_errors
from cifar_noisy.errors import UnknownArtifactError
from cifar_noisy.evaluation.evaluate import PyxEvaluation, evaluate_pyx
from cifar_noisy.loading.artifact_loading import load_noisy_labels, published_pyx
from cifar_noisy.loading.given_labels import LabelSource, Noise, label_source
from cifar_noisy.loading.noise_generation import true_labels
from cifar_noisy.loading.recomputed import read_pyx
from cifar_noisy.rendering import Cell, html_facts, html_table
from cifar_noisy.settings import METHODS, Setting
from cifar_noisy.store.files import user_path

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["below", "within", "above"]

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


_NEAR_PUBLISHED = (
    f"the published value, {_SEED_SPREAD} to either side: twice what two seeds of the recipe fast "
    "differed by at noise 0.4; a choice, since one training of the published recipe is known"
)
_ABOVE_CHANCE = (
    f"{_SEED_SPREAD} more than labels alone explain of two networks as good as the published one; "
)
_AT_MOST = {
    True: "at most what two seeds of the recipe fast agreed at this noise",
    False: "at most 1, since two seeds were not compared at this noise",
}


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
    band : (float, float)
        Within what a training as good as the published one should lie.
    band_source : str
        Where the band comes from.

    Examples
    --------
    >>> row = Comparison("F1 of argmax", 0.812, 0.903, (0.893, 0.913), "by hand")
    >>> print(row)
    F1 of argmax: 0.812, published 0.903, band 0.893 to 0.913: below
    """

    quantity: str
    recomputed: float
    published: float | None
    band: tuple[float, float]
    band_source: str

    def __str__(self) -> str:
        published = "" if self.published is None else f", published {self.published:.3f}"
        band = "{:.3f} to {:.3f}".format(*self.band)
        return f"{self.quantity}: {self.recomputed:.3f}{published}, band {band}: {self.verdict}"

    @property
    def verdict(self) -> Verdict:
        """Say "below", "within" or "above" the band."""
        low, high = self.band
        if not self.recomputed >= low:  # what is NaN is not within it
            return "below"
        return "above" if self.recomputed > high else "within"

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as numbers, texts and lists, for JSON."""
        return {**asdict(self), "band": list(self.band), "verdict": self.verdict}

    def shown(self) -> dict[str, Cell]:
        """Return what people look at, by name."""
        return {
            "quantity": self.quantity,
            "recomputed": self.recomputed,
            "published": self.published,
            "band": "{:.4f} to {:.4f}".format(*self.band),
            "verdict": self.verdict,
        }

    def _repr_html_(self) -> str:
        return html_facts(self.shown())


@dataclass(frozen=True)
class RecomputedComparison:
    """Recomputed probabilities of a setting against the published network; ``print`` shows all.

    Attributes
    ----------
    setting : Setting
    rows : tuple of Comparison
        Accuracies and, where labels are wrong, each method's F1; then by how much the two agree.
    """

    setting: Setting
    rows: tuple[Comparison, ...]

    @property
    def is_as_good(self) -> bool:
        """Whether no quantity is below its band."""
        return not self.below

    @property
    def below(self) -> tuple[Comparison, ...]:
        """The rows that are below their band."""
        return tuple(row for row in self.rows if row.verdict == "below")

    @property
    def verdict(self) -> str:
        """Say in a sentence whether the training is as good as the published one."""
        compared = f"{len(self.rows)} quantities against the published network of {self.setting}"
        n_above = sum(row.verdict == "above" for row in self.rows)
        if self.is_as_good:
            within = len(self.rows) - n_above
            return f"as good as published: of {compared}, {within} are within their band, " + (
                f"{n_above} above it and none below it"
            )
        named = ", ".join(row.quantity for row in self.below)
        return f"not as good as published: of {compared}, {len(self.below)} are below ({named})"

    @property
    def frame(self) -> pd.DataFrame:
        """A row per quantity: recomputed, published, band_low, band_high, verdict."""
        import pandas as pd

        rows = [
            (row.quantity, row.recomputed, row.published, *row.band, row.verdict)
            for row in self.rows
        ]
        columns = ["quantity", "recomputed", "published", "band_low", "band_high", "verdict"]
        return pd.DataFrame(rows, columns=columns).astype({"published": "float64"})

    def __str__(self) -> str:
        return "\n".join([*map(str, self.rows), *self.notes(), self.verdict])

    def notes(self) -> list[str]:
        """Say where the bands come from."""
        sources: dict[str, list[str]] = {}
        for row in self.rows:
            sources.setdefault(row.band_source, []).append(row.quantity)
        return [f"band of {', '.join(names)}: {source}" for source, names in sources.items()]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as numbers, texts, lists and dicts, for JSON."""
        return {
            "noise": self.setting.noise,
            "sparsity": self.setting.sparsity,
            "is_as_good": self.is_as_good,
            "verdict": self.verdict,
            "comparisons": [row.as_dict() for row in self.rows],
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.verdict})"

    def _repr_html_(self) -> str:
        rows = [row.shown() for row in self.rows]
        columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
        return html_table(columns, title=str(self.setting), notes=[self.verdict, *self.notes()])


def compare_recomputed(
    folder: str | os.PathLike[str], noise: Noise, sparsity: float | None = None
) -> RecomputedComparison:
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
    RecomputedComparison
        Accuracies against given and true labels and, where labels are wrong, each method's F1
        against those of the published network; then by how much the two agree: the share of rows
        with the same argmax, Spearman's correlation of the probability of the given label, and for
        each method the share of examples that both flag or both keep. Each with the band it should
        lie in, and where that comes from.

    Raises
    ------
    UnknownArtifactError, UnavailableError
        If nothing was published for the setting, or either side is not there.
    InvalidInputError
        If the folder is of another dataset.

    Examples
    --------
    >>> compared = compare_recomputed("recomputed", 0.4, 0.2)  # doctest: +SKIP
    >>> compared.is_as_good  # doctest: +SKIP
    True
    """
    setting, theirs = published_side(label_source(noise, sparsity))
    ours = read_pyx(user_path(folder), setting)
    evaluations = (evaluate_pyx(pyx, setting) for pyx in (ours, theirs))
    rows = (*_accuracies(*evaluations), *_agreements(setting, ours, theirs))
    return RecomputedComparison(setting, rows)


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
    band = (theirs - _SEED_SPREAD, theirs + _SEED_SPREAD)
    return Comparison(quantity, ours, theirs, band, _NEAR_PUBLISHED)


def _agreements(
    setting: Setting, ours: NDArray[np.floating[Any]], theirs: NDArray[np.floating[Any]]
) -> Iterator[Comparison]:
    shuffled = shuffled_among_alike(setting, theirs)
    by_labels = [agreement(setting, pyx, shuffled) for pyx in (ours, theirs)]
    highest = _TWO_SEEDS.get(setting.noise, {})
    for quantity, value in agreement(setting, ours, theirs).items():
        low = max(explained[quantity] for explained in by_labels) + _SEED_SPREAD
        source = _ABOVE_CHANCE + _AT_MOST[quantity in highest]
        yield Comparison(quantity, value, None, (low, highest.get(quantity, 1.0)), source)


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
