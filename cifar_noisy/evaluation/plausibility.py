"""Warnings about input that surely is not what it was passed as.

A check returns a z score, by how many standard deviations the input says which labels are wrong (or
which classes are likely), and the problem, if there is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.evaluation.metrics import GroundTruth, Scores, roc_auc
from cifar_noisy.evaluation.results import Mask
from cifar_noisy.loading.noise_generation import N_CLASSES
from cifar_noisy.loading.row_order import to_imagefolder_order
from cifar_noisy.loading.train_mask_input import Z_CERTAIN, Z_UNCORRELATED, association
from cifar_noisy.settings import ORDERS, Order

Result = tuple[float, str | None]
Check = Callable[[GroundTruth, NDArray[Any]], Result]

_COLUMNS = np.arange(N_CLASSES)


def input_problem(
    what: str, check: Check, truth: GroundTruth, rows: NDArray[Any], order: Order
) -> str | None:
    """Return a warning if rows look inverted, or as if they were in the other order."""
    z, problem = check(truth, to_imagefolder_order(rows, order))
    if problem:
        return f"{what} {problem}"
    if abs(z) > Z_UNCORRELATED:
        return None
    other = next(other for other in ORDERS if other != order)
    z, problem = check(truth, to_imagefolder_order(rows, other))
    if z < Z_CERTAIN and not problem:
        return None
    return (
        f"{what} has nothing to do with the labels unless its rows are in {other} order "
        f"(z = {z:.0f}): pass order={other!r}" + (f"; it also {problem}" if problem else "")
    )


def check_mask(truth: GroundTruth, flagged: Mask) -> Result:
    """Check that a mask flags wrong labels rather than right ones, within each class."""
    z = -association(flagged, truth.given, truth.true) if truth.is_error.any() else math.inf
    if z > -Z_CERTAIN:
        return z, None
    return z, (
        f"flags right labels rather than wrong ones (z = {z:.0f}): pass ~found if True means keep"
    )


def check_scores(truth: GroundTruth, scores: Scores) -> Result:
    """Check that scores rank wrong labels first, by the test of Mann and Whitney."""
    n, n_errors = len(scores), int(truth.is_error.sum())
    if not n_errors:
        return math.inf, None
    std = math.sqrt((n + 1) / (12 * n_errors * (n - n_errors)))
    z = (roc_auc(truth.is_error, scores) - 0.5) / std
    if z > -Z_CERTAIN:
        return z, None
    return z, (
        f"ranks first right labels rather than wrong ones (z = {z:.0f}): pass -found if higher "
        "means right"
    )


def check_pyx(truth: GroundTruth, pyx: NDArray[np.floating]) -> Result:
    """Check that each column of probabilities predicts its own class rather than another."""
    tables = _covariances(truth, pyx)
    own = tables.diagonal(axis1=1, axis2=2)
    z = float(own.sum(axis=1).max())
    # A model that learnt the noisy labels predicts given ones; one that did not, true ones.
    is_other = (own < tables.max(axis=1) / 2).all(axis=0)
    if not is_other.any():
        return z, None
    from scipy.optimize import linear_sum_assignment

    best = [linear_sum_assignment(table, maximize=True)[1] for table in tables]
    gains = [
        (table[order.argsort(), _COLUMNS] - table.diagonal())[is_other].sum()
        for table, order in zip(tables, best, strict=True)
    ]
    if min(gains) < Z_CERTAIN:
        return z, None

    def z_of(order: NDArray[np.intp]) -> float:
        return float(tables[:, _COLUMNS, order].sum(axis=1).max())

    order = max(best, key=z_of)
    lowest = own.sum(axis=1).min()
    if -lowest > z_of(order):
        return z, (
            "looks like 1 - p or a distance, which is lower where a class is likelier "
            f"(z = {lowest:.0f}): pass 1 - pyx"
        )
    simple, remedy = max(_simple_orders(), key=lambda simple: z_of(simple[0]))
    if z_of(simple) < z_of(order) / 2:
        simple, remedy = order, f"in another order: pass pyx[:, {order.tolist()}]"
    return z, f"looks as if its columns (z = {z_of(simple):.0f}) were {remedy}"


def _covariances(truth: GroundTruth, pyx: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return covariances of labels (rows), given and then true ones, and columns of `pyx`.

    The unit is one standard deviation of the sum of a diagonal. If probabilities are right about
    the given labels, the first matrix is the covariance of `pyx` itself. Then no other order of the
    columns has a larger diagonal.
    """
    deviations = pyx - pyx.mean(axis=0, dtype=np.float64)
    spread = math.sqrt(float(pyx.var(axis=1, dtype=np.float64).sum()))
    identity = np.eye(N_CLASSES)
    sums = [identity[labels].T @ deviations for labels in (truth.given, truth.true)]
    return np.stack(sums) / (spread or 1)


def _simple_orders() -> Iterator[tuple[NDArray[np.intp], str]]:
    """Yield which column has each class, and what that is called and needs."""
    yield _COLUMNS[::-1], "reversed: pass pyx[:, ::-1]"
    for shift in range(1, N_CLASSES):
        remedy = f"rolled by {shift}: pass np.roll(pyx, {-shift}, axis=1)"
        yield np.roll(_COLUMNS, -shift), remedy
