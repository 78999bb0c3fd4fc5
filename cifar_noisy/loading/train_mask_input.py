"""A train mask in any of its forms, checked, as the published rows that it keeps."""

from __future__ import annotations

import warnings
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.confident_learning.array_checks import as_array
from cifar_noisy.errors import InvalidInputError, SuspectMaskWarning
from cifar_noisy.loading.artifact_loading import load_train_mask
from cifar_noisy.loading.given_labels import LabelSource
from cifar_noisy.loading.noise_generation import N_CLASSES
from cifar_noisy.settings import Edition, Method

Z_CERTAIN = 10.0
"""The z score from which a mask surely has to do with which labels are wrong."""

Z_UNCORRELATED = 5.0
"""The z score below which it may have nothing to do with them."""


def resolve_train_mask(
    train_mask: str | ArrayLike,
    source: LabelSource,
    edition: str | None,
    model: str | None,
    given: NDArray[np.int64],
    true: NDArray[np.int64],
    torchvision_index: NDArray[np.int64],
) -> NDArray[np.intp]:
    """Return the published rows that a train mask keeps, ascending.

    A train mask is a method's name, for which the other arguments choose the mask; a bool mask in
    the published order; or rows of it. `association` decides whether to warn that it keeps the
    wrong labels: at noise 0.7, a right mask keeps the smaller part.
    """
    if isinstance(train_mask, str):
        method, year = cast(Method, train_mask), cast(Edition | None, edition)
        return np.flatnonzero(load_train_mask(method, source, edition=year, model=model))
    mask = _as_mask(as_array(train_mask, "train_mask"), len(given))
    agrees = association(mask, given, true)
    if abs(agrees) < Z_UNCORRELATED:
        # The same mask, if its rows were in torchvision's order.
        as_official = association(mask[torchvision_index], given, true)
        if abs(as_official) > Z_CERTAIN:
            raise InvalidInputError(
                f"train_mask seems to be in torchvision's order (z = {as_official:.1f} in that "
                f"order, {agrees:.1f} in the published one): pass it in the published order, as "
                "load_train_mask gives it without order="
            )
    if agrees < -Z_CERTAIN:
        warnings.warn(
            f"train_mask keeps wrong labels and removes right ones (z = {agrees:.0f}): if it holds "
            "label errors, where True means wrong, pass its complement ~mask",
            SuspectMaskWarning,
            stacklevel=4,
        )
    return np.flatnonzero(mask)


def association(
    mask: NDArray[np.bool_], given: NDArray[np.int64], true: NDArray[np.int64]
) -> float:
    """Return by which z score a mask keeps right labels rather than wrong ones.

    Kept and removed examples are compared within each true class and within each given class
    (Mantel and Haenszel), and the weaker of the two is returned, so that a mask that picks whole
    classes says nothing. A random mask gives about 0, the published masks 21 to 154, and their
    complements the same with a minus. Without wrong labels it is 0.
    """
    is_right = given == true
    values = [_mantel_haenszel(mask, is_right, labels) for labels in (given, true)]
    return min(values, key=abs) if values[0] * values[1] > 0 else 0.0


def _mantel_haenszel(
    mask: NDArray[np.bool_], is_right: NDArray[np.bool_], labels: NDArray[np.int64]
) -> float:
    n, kept, right, both = (
        np.bincount(labels[chosen], minlength=N_CLASSES).astype(float)
        for chosen in (np.ones_like(mask), mask, is_right, mask & is_right)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = kept * right / n
        variance = kept * (n - kept) * right * (n - right) / (n * n * (n - 1))
    counts = n > 1
    total = float(variance[counts].sum())
    return float((both - expected)[counts].sum()) / total**0.5 if total else 0.0


def _as_mask(array: NDArray[np.generic], n_examples: int) -> NDArray[np.bool_]:
    if array.ndim != 1 or not len(array):
        raise InvalidInputError(
            f"train_mask has shape {array.shape}: pass a bool array of ({n_examples:,},), or the "
            "rows to keep"
        )
    if array.dtype == np.bool_:
        if len(array) != n_examples:
            raise InvalidInputError(
                f"train_mask has {len(array):,} entries, where the train set has {n_examples:,}: a "
                "bool mask has one for each image"
            )
        mask = np.array(array, dtype=np.bool_)
        if not mask.any():
            raise InvalidInputError("train_mask keeps nothing: True means keep")
        return mask
    if not np.issubdtype(array.dtype, np.integer):
        raise InvalidInputError(
            f"train_mask has dtype {array.dtype}: pass bool, True = keep, or integer rows"
        )
    rows = array.astype(np.int64)
    if rows.min() < 0 or rows.max() >= n_examples:
        raise InvalidInputError(
            f"train_mask has row {rows.min() if rows.min() < 0 else rows.max()}: rows go from 0 to "
            f"{n_examples - 1:,}"
        )
    mask = np.zeros(n_examples, np.bool_)
    mask[rows] = True
    if mask.sum() != len(rows):
        raise InvalidInputError(
            f"train_mask names {len(rows):,} rows, but only {int(mask.sum()):,} different ones: "
            "pass each once, and a mask of 0 and 1 as bool"
        )
    return mask
