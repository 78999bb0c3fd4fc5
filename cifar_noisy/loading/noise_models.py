"""Noisy labels by the noise models of well-known repositories, each exactly as published.

A rate of 0.4 means different things: some models redraw a label among all classes, the true one
included, some flip five of the ten classes only, and one flips labels twice. So the share of wrong
labels that came out is returned beside the rate that was asked for. ``docs/noise_models.md`` has a
table.

The draws are those of the repositories' code: the same numbers in the same order, of Python's
`random` for DivideMix and of numpy's `RandomState` for the others. Tests pin digests of the labels,
which are the same with Python 3.11 to 3.13 and numpy 2.0 to 2.5.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.confident_learning.array_checks import as_array
from cifar_noisy.errors import InvalidInputError
from cifar_noisy.loading.noise_generation import (
    N_CLASSES,
    draw_labels,
    draw_noise_matrix,
    true_labels,
)
from cifar_noisy.loading.row_order import (
    from_imagefolder_order,
    to_imagefolder_order,
    torchvision_order_labels,
)
from cifar_noisy.rendering import Cell, html_facts
from cifar_noisy.settings import ORDERS, Order, check_choice

NoiseModel = Literal[
    "symmetric",
    "symmetric-exclusive",
    "pairflip",
    "asymmetric",
    "elr-asymmetric",
    "confident-learning",
]
NOISE_MODELS: tuple[NoiseModel, ...] = get_args(NoiseModel)

LOOKALIKES = {2: 0, 3: 5, 4: 7, 5: 3, 9: 1}
"""bird to airplane, cat to dog, deer to horse, dog to cat, truck to automobile."""

FLIPS_LOOKALIKES: tuple[NoiseModel, ...] = ("asymmetric", "elr-asymmetric")
"""The models that are defined for CIFAR-10's classes only."""

MAX_CLASSES = 1_000
_MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class GeneratedLabels:
    """Labels with generated noise, and how much noise was asked for and came out.

    Attributes
    ----------
    labels : (N,) int64
        The noisy labels.
    model : str
        The noise model.
    asked : float
        The rate that was asked for.
    got : float
        Share of `labels` that differ from the true ones.
    got_by_class : tuple of float or None
        The same share among the examples of each true class; None for a class without examples.
    seed : int
        The seed of the draws.
    sparsity : float or None
        Fraction of zero noise rates, of "confident-learning".
    """

    labels: NDArray[np.int64] = field(repr=False, compare=False)
    model: NoiseModel
    asked: float
    got: float
    got_by_class: tuple[float | None, ...] = field(repr=False)
    seed: int
    sparsity: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the labels, as JSON has it."""
        return {
            "model": self.model,
            "asked": self.asked,
            "got": self.got,
            "got_by_class": list(self.got_by_class),
            "seed": self.seed,
            "sparsity": self.sparsity,
        }

    def _repr_html_(self) -> str:
        shares = ["–" if share is None else f"{share:.2%}" for share in self.got_by_class]
        facts: dict[str, Cell] = {
            "noise model": self.model,
            "rate asked for": f"{self.asked:.2%}",
            "wrong labels": f"{self.got:.2%}",
            "by true class": ", ".join(shares),
            "labels": len(self.labels),
            "seed": str(self.seed),
            "sparsity": self.sparsity,
        }
        return html_facts(facts)


def generate_labels(
    model: NoiseModel,
    rate: float,
    *,
    seed: int,
    order: Order | None = None,
    sparsity: float | None = None,
    labels: ArrayLike | None = None,
) -> GeneratedLabels:
    """Generate noisy labels by a noise model.

    Parameters
    ----------
    model : str
        "symmetric": a share `rate` of the labels is drawn anew among all classes, the true one
        included (DivideMix, ELR). "symmetric-exclusive": each label becomes another one with
        probability `rate` (Co-teaching's symmetric). "pairflip": each becomes the next class, the
        last the first (Co-teaching). "asymmetric": a share `rate` of all labels is chosen, and of
        these truck becomes automobile, bird airplane, deer horse, and cats and dogs are exchanged
        (DivideMix). "elr-asymmetric": the same flips, a share `rate` of each class, class after
        class, so that cats that became dogs may be flipped back (ELR). "confident-learning": from a
        random noise matrix (the paper).
    rate : float
        From 0 to 1.
    seed : int
        From 0 to 2**32 - 1. "confident-learning" with seed 0 and a published setting gives the
        published labels.
    order : {"imagefolder", "torchvision"}, optional
        Order of CIFAR-10's examples in the result; "imagefolder" by default. Not with `labels`.
    sparsity : float, optional
        Of "confident-learning" only, and needed there: the fraction of noise rates that are zero,
        as of `load_noisy_labels`, or any from 0 to (K - 2) / (K - 1).
    labels : (N,) int array_like, optional
        True labels of another dataset, 0 to K - 1, of which the last class has an example. The two
        asymmetric models need CIFAR-10's ten classes. By default, CIFAR-10's train set.

    Returns
    -------
    GeneratedLabels
        With `labels`, (N,) int64, and the rates `asked` and `got`.

    Raises
    ------
    UnknownArtifactError
        If the model or order is unknown.
    InvalidInputError
        If rate, seed, sparsity or labels make no sense, or do not go together.

    Notes
    -----
    CIFAR-10's labels are drawn over the images in torchvision's order, as the repositories do, and
    those of "confident-learning" in imagefolder order, as upstream did. The labels equal those of
    DivideMix's code for a seed of Python's generator, and those of Co-teaching's for a seed of
    numpy's (which there is always 0). ELR seeds no generator that it draws labels from, and draws
    over 45,000 and 5,000 images apart; here it is all of them.

    Examples
    --------
    >>> generate_labels("symmetric", 0.4, seed=123)
    GeneratedLabels(model='symmetric', asked=0.4, got=0.35848, seed=123, sparsity=None)
    >>> generate_labels("asymmetric", 0.4, seed=123, order="torchvision").labels[:5]
    array([6, 1, 9, 4, 1])
    """
    check_choice(model, NOISE_MODELS, "model")
    rate, seed = _checked_fraction(rate, "rate"), _checked_seed(seed)
    if labels is not None and order is not None:
        raise InvalidInputError(f"leave order={order!r} out: labels= come back as they stand")
    order = check_choice("imagefolder" if order is None else order, ORDERS, "order")
    if labels is not None:
        true = _checked_labels(as_array(labels, "labels"), model)
    elif model == "confident-learning":
        true = true_labels()
    else:
        true = torchvision_order_labels().astype(np.int64)
    is_cifar = labels is None or model in FLIPS_LOOKALIKES
    n_classes = N_CLASSES if is_cifar else int(true.max()) + 1
    sparsity = _checked_sparsity(sparsity, model, rate, n_classes)
    noisy = _draw(model, true, rate, sparsity, seed, n_classes)
    is_wrong, counts = noisy != true, np.bincount(true, minlength=n_classes)
    wrong_counts = np.bincount(true[is_wrong], minlength=n_classes)
    if labels is None and model == "confident-learning":
        noisy = from_imagefolder_order(noisy, order)
    elif labels is None and order == "imagefolder":
        noisy = to_imagefolder_order(noisy, "torchvision")
    by_class = tuple(
        wrong / n if n else None
        for wrong, n in zip(wrong_counts.tolist(), counts.tolist(), strict=True)
    )
    return GeneratedLabels(
        noisy, model, rate, float(is_wrong.mean()), by_class, seed,
        sparsity if model == "confident-learning" else None,
    )  # fmt: skip


def noise_model_matrix(
    model: NoiseModel, rate: float, *, seed: int | None = None, sparsity: float | None = None
) -> NDArray[np.float64]:
    """Return the noise matrix that a noise model leads to on average, for CIFAR-10's classes.

    Parameters
    ----------
    model, rate, sparsity
        As for `generate_labels`.
    seed : int, optional
        Needed by "confident-learning", whose matrix is drawn; no other matrix depends on it.

    Returns
    -------
    (10, 10) float64
        Entry (i, j) is p(given label = i | true label = j); columns sum to 1.

    Raises
    ------
    UnknownArtifactError, InvalidInputError
        As `generate_labels`.

    Examples
    --------
    Of ELR's cats, 0.4 become dogs, and 0.4 of those become cats again:

    >>> matrix = noise_model_matrix("elr-asymmetric", 0.4)
    >>> matrix[[3, 5], 3].round(2)
    array([0.76, 0.24])
    """
    check_choice(model, NOISE_MODELS, "model")
    rate = _checked_fraction(rate, "rate")
    sparsity = _checked_sparsity(sparsity, model, rate, N_CLASSES)
    if model == "confident-learning" or seed is not None:
        seed = _checked_seed(seed)
    return _matrix(model, rate, sparsity, seed or 0, N_CLASSES)


def _draw(
    model: NoiseModel,
    true: NDArray[np.int64],
    rate: float,
    sparsity: float,
    seed: int,
    n_classes: int,
) -> NDArray[np.int64]:
    if rate == 0:
        return true.copy()
    if model == "symmetric":
        return _redraw(true, rate, seed, n_classes)
    if model == "asymmetric":
        return _flip_chosen(true, rate, seed)
    if model == "elr-asymmetric":
        return _flip_class_after_class(true, rate, seed)
    matrix = _matrix(model, rate, sparsity, seed, n_classes)
    return (draw_labels if model == "confident-learning" else _draw_each)(true, matrix, seed)


def _matrix(
    model: NoiseModel, rate: float, sparsity: float, seed: int, n_classes: int
) -> NDArray[np.float64]:
    kept = (1 - rate) * np.eye(n_classes)
    if model == "symmetric":
        return kept + rate / n_classes
    if model == "symmetric-exclusive":
        matrix = np.full((n_classes, n_classes), rate / (n_classes - 1))
        np.fill_diagonal(matrix, 1 - rate)
        return matrix
    if model == "pairflip":
        return kept + rate * np.roll(np.eye(n_classes), 1, axis=0)
    if model == "confident-learning" and rate:
        # Near rate 0 the drawn entries may leave 0 to 1, by less than 1e-5.
        return draw_noise_matrix(rate, sparsity, seed, n_classes).clip(0, 1)
    matrix = np.eye(n_classes)
    if model == "asymmetric":
        for k, other in LOOKALIKES.items():
            matrix[[k, other], k] = 1 - rate, rate
    elif model == "elr-asymmetric":
        for k, other in LOOKALIKES.items():  # of what is labelled k by then
            matrix[other] += rate * matrix[k]
            matrix[k] *= 1 - rate
    return matrix


def _redraw(true: NDArray[np.int64], rate: float, seed: int, n_classes: int) -> NDArray[np.int64]:
    noisy, rng = true.copy(), random.Random(seed)  # noqa: S311 - as DivideMix draws
    for row in _choose_rows(rng, len(true), rate):
        noisy[row] = rng.randint(0, n_classes - 1)
    return noisy


def _flip_chosen(true: NDArray[np.int64], rate: float, seed: int) -> NDArray[np.int64]:
    flipped = np.array([LOOKALIKES.get(k, k) for k in range(N_CLASSES)])
    rows = _choose_rows(random.Random(seed), len(true), rate)  # noqa: S311
    noisy = true.copy()
    noisy[rows] = flipped[true[rows]]
    return noisy


def _choose_rows(rng: random.Random, n: int, rate: float) -> list[int]:
    rows = list(range(n))
    rng.shuffle(rows)
    return sorted(rows[: int(rate * n)])


def _flip_class_after_class(true: NDArray[np.int64], rate: float, seed: int) -> NDArray[np.int64]:
    noisy, rng = true.copy(), np.random.RandomState(seed)
    for k in range(N_CLASSES):
        rows = np.flatnonzero(noisy == k)
        rng.shuffle(rows)  # of classes that stay, too: ELR draws for each
        noisy[rows[: math.ceil(rate * len(rows))]] = LOOKALIKES.get(k, k)
    return noisy


def _draw_each(
    true: NDArray[np.int64], noise_matrix: NDArray[np.float64], seed: int
) -> NDArray[np.int64]:
    """Draw each label from its class's column of the noise matrix.

    As `RandomState.multinomial` of numpy before 2.5, which Co-teaching calls; since then it draws
    for probabilities of 0 too.
    """
    uniform = np.random.RandomState(seed).random_sample
    chances = [_conditional_chances(column) for column in noise_matrix.T.tolist()]
    return np.array([_draw_one(uniform, chances[k]) for k in true.tolist()], dtype=np.int64)


def _conditional_chances(column: list[float]) -> list[tuple[int, float]]:
    """Return the classes that may be drawn, each with its chance if none before it was."""
    chances, left = [], 1.0
    for k, chance in enumerate(column[:-1]):
        if chance:
            chances.append((k, chance / left))
        left -= chance
    return [*chances, (len(column) - 1, 1.0)]


def _draw_one(uniform: Callable[[], float], chances: list[tuple[int, float]]) -> int:
    """Ask class after class, by one number each; nothing is drawn for the last."""
    for k, chance in chances[:-1]:
        is_drawn = uniform() <= chance if chance > 0.5 else uniform() > 1 - chance
        if is_drawn:
            return k
    return chances[-1][0]


def _checked_fraction(value: object, name: str) -> float:
    if isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) <= 1:
        return float(value)
    raise InvalidInputError(f"{name} {value!r} is no fraction: pass a number from 0 to 1")


def _checked_seed(seed: object) -> int:
    if isinstance(seed, Integral) and not isinstance(seed, bool) and 0 <= int(seed) <= _MAX_SEED:
        return int(seed)
    raise InvalidInputError(f"seed {seed!r} is none: pass a whole number from 0 to 2**32 - 1")


def _checked_sparsity(
    sparsity: float | None, model: NoiseModel, rate: float, n_classes: int
) -> float:
    if model != "confident-learning":
        if sparsity is not None:
            raise InvalidInputError(
                f"leave sparsity={sparsity!r} out: of the models only confident-learning has one"
            )
        return 0.0
    if sparsity is None:
        if rate:
            raise InvalidInputError("sparsity is missing: pass one, such as sparsity=0.2")
        return 0.0
    fraction = _checked_fraction(sparsity, "sparsity")
    if fraction and not rate:
        raise InvalidInputError(
            f"sparsity {fraction:g} means nothing at rate 0, where there are no noise rates: "
            "pass sparsity=0"
        )
    highest = (n_classes - 2) / (n_classes - 1)
    if fraction > highest:
        raise InvalidInputError(
            f"sparsity {fraction:g} leaves a class without another to be taken for: pass at most "
            f"{highest:.4f} for {n_classes} classes"
        )
    return fraction


def _checked_labels(labels: NDArray[Any], model: NoiseModel) -> NDArray[np.int64]:
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise InvalidInputError(
            f"labels are {labels.dtype} of shape {labels.shape}: pass a whole number per example, "
            "one example at least"
        )
    least, largest = int(labels.min()), int(labels.max())
    limit = N_CLASSES if model in FLIPS_LOOKALIKES else MAX_CLASSES
    if least < 0 or not 1 <= largest < limit:
        raise InvalidInputError(
            f"labels lie between {least} and {largest}: {model} takes 0 to K - 1, K from 2 to "
            f"{limit:,}"
        )
    return labels.astype(np.int64)
