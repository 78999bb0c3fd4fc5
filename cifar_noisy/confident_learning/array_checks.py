"""Checks of arrays that callers pass: row order by their index, and range of probabilities."""

from collections.abc import Mapping, Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.errors import InvalidInputError
from cifar_noisy.settings import CLASSES

PROBABILITY_SLACK = 1e-5
"""How far outside 0 to 1 a probability may lie, as means of softmax outputs do by rounding."""


def as_array(values: ArrayLike, name: str, beside: object = None) -> NDArray[Any]:
    """Return an array whose row i is example i, by the index that the rows carry, if any.

    The index of a Series or DataFrame that holds 0 to N - 1 in any order says which example each
    row is. Other whole numbers that rise, as those of a subset do, leave the rows as they stand.
    Columns are put in order likewise if they are numbered, also by text as of a CSV's header, or
    have the names of CIFAR-10's classes. If what the rows stand `beside` carries an index as
    well, equal ones leave the rows of both as they stand, and others must hold 0 to N - 1.

    Examples
    --------
    >>> import pandas as pd
    >>> as_array(pd.Series([0.7, 0.8, 0.9], index=[2, 0, 1]), "scores")
    array([0.8, 0.9, 0.7])
    """
    if isinstance(values, AbstractSet | Mapping):
        raise InvalidInputError(
            f"{name} is a {type(values).__name__}, which has no order: pass a list or an array"
        )
    if np.ma.is_masked(values):
        raise InvalidInputError(f"{name} has masked entries: fill them, or drop those examples")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, foreign tensors
        raise InvalidInputError(f"{name} is no array ({error}): pass a numpy array") from error
    if not array.dtype.isnative:  # as other machines and formats write numbers
        array = array.astype(array.dtype.newbyteorder("="))
    index, other = _index(values), _index(beside)
    if index is not None and not index.equals(other):
        array = array[_positions(index, name, "rows", may_skip=other is None)]
    columns = getattr(values, "columns", None) if index is not None else None
    if columns is not None and (numbers := _class_numbers(columns)) is not None:
        array = array[:, _positions(numbers, name, "columns", may_skip=True)]
    return array


def check_probabilities(pyx: NDArray[Any], name: str = "pyx") -> NDArray[np.floating]:
    """Check that an array holds probabilities, a row per example, and return it."""
    if pyx.dtype not in (np.float16, np.float32, np.float64):
        raise InvalidInputError(
            f"{name} has dtype {pyx.dtype}: pass probabilities as float16, float32 or float64"
        )
    if pyx.ndim != 2 or pyx.shape[1] < 2 or not len(pyx):
        raise InvalidInputError(
            f"{name} has shape {pyx.shape}: pass a row per example, 1 at least, and a column per "
            "class, 2 at least"
        )
    # False for NaN too
    in_range = (pyx >= -PROBABILITY_SLACK) & (pyx <= 1 + PROBABILITY_SLACK)
    if not in_range.all():
        row, column = np.argwhere(~in_range)[0]
        raise InvalidInputError(
            f"{name}[{row}, {column}] is {pyx[row, column]}: probabilities lie between 0 and 1; "
            f"pass np.exp({name}) of log-probabilities, the softmax of logits"
        )
    return pyx


def _index(values: object) -> Any:
    """Return the index of a Series or DataFrame, known by `iloc`, so that pandas is not needed."""
    return getattr(values, "index", None) if hasattr(values, "iloc") else None


def _class_numbers(columns: Any) -> Any:
    """Return the classes that columns are named after, an index; None for other names."""
    if columns.nlevels == 1 and set(columns) == set(CLASSES):
        return columns.map(CLASSES.index)
    try:
        numbers = columns.astype("float64")
        return numbers.astype("int64") if (numbers % 1 == 0).all() else None
    except (TypeError, ValueError):
        return None


def _positions(index: Any, name: str, what: str, *, may_skip: bool) -> slice | NDArray[np.intp]:
    """Return where the examples stand, from the first to the last."""
    if index.dtype.kind in "iu" and not index.hasnans:
        if may_skip and index.is_monotonic_increasing and index.is_unique:
            return slice(None)
        positions: NDArray[np.intp] = np.argsort(index.to_numpy())
        if np.array_equal(index[positions], np.arange(len(index))):
            return positions
    labels = ", ".join(map(str, index[:3].tolist()))
    raise InvalidInputError(
        f"the {what} of {name} carry the index {labels}, …, which is not 0 to {len(index) - 1:,} "
        f"in some order: pass {name}.to_numpy() if they stand in order"
    )
