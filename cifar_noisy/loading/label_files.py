"""Label files as other repositories have them, checked and lined up with the images."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.confident_learning.array_checks import as_array
from cifar_noisy.errors import InvalidInputError, printable
from cifar_noisy.loading.label_columns import IMAGE_NAME, Column, Columns, read_columns
from cifar_noisy.loading.noise_generation import N_CLASSES, N_EXAMPLES, true_labels
from cifar_noisy.loading.row_order import (
    from_imagefolder_order,
    to_imagefolder_order,
    torchvision_order_labels,
)
from cifar_noisy.rendering import Cell, html_facts
from cifar_noisy.settings import CLASSES, ORDERS, Order, check_choice
from cifar_noisy.store.files import user_path

Polarity = Literal["True = wrong label", "True = right label"]

Z_CERTAIN = 20.0
"""The z score from which labels agree with the true ones of an order for another reason than
chance; reached by 87 % noise."""

Z_CHANCE = 6.0
"""The z score below which they may agree by chance."""

MOST_UNEVEN = 2.0
"""How unevenly wrong labels may lie. Measured: 0.9 to 1.2 in 25 label sets, human ones among them,
6.5 and more in labels of concatenated folds."""

_N_STRETCHES = 50
_NO_LABEL = -1
_TRUE_NAMES = ("clean_label", "clean_label_train", "true_label")
_N_TEST, _N_SPLIT = 10_000, 45_000
_MASK_AGREEMENT = 0.9


@dataclass(frozen=True, eq=False)
class LabelFile:
    """The noisy labels of a file, and what was found out about them.

    Attributes
    ----------
    labels : (50000,) int64, read-only
        Labels from 0 to 9, rows in `order`; -1 for images that the file leaves out, which only
        files with file names may do.
    order : {"imagefolder", "torchvision"}
        The order of `labels`: that of the file's rows, "imagefolder" where it has file names.
    noise_rate : float
        Share of the labels, without the -1, that are not CIFAR-10's own.
    format : str
        What the file is, such as "JSON list" or "torch dict, key worse_label".
    polarity : str or None
        What a mask in the file says, counted against its labels: "True = wrong label" (as CIFAR-N
        and ProMix have it) or "True = right label" (Co-teaching); None without a mask.
    """

    labels: NDArray[np.int64] = field(repr=False)
    order: Order
    noise_rate: float
    format: str
    polarity: Polarity | None = None

    def in_order(self, order: Order) -> NDArray[np.int64]:
        """Return the labels in an order.

        Parameters
        ----------
        order : {"imagefolder", "torchvision"}

        Returns
        -------
        (50000,) int64, read-only
        """
        if check_choice(order, ORDERS, "order") == self.order:
            return self.labels
        labels = from_imagefolder_order(to_imagefolder_order(self.labels, self.order), order)
        labels.flags.writeable = False
        return labels

    def _repr_html_(self) -> str:
        facts: dict[str, Cell] = {
            "labels": int((self.labels != _NO_LABEL).sum()),
            "format": self.format,
            "order": self.order,
            "wrong labels": f"{self.noise_rate:.2%}",
            "mask": self.polarity,
        }
        return html_facts(facts)


def read_labels(
    file: str | os.PathLike[str], *, order: Order | None = None, key: str | None = None
) -> LabelFile:
    """Read the noisy labels of a file of another repository.

    The format is recognised by the content, the order of the rows by the labels: it is the one in
    which they agree with CIFAR-10's own far more often than by chance, and everywhere as often,
    while they agree by chance in the other. Nothing is unpickled or called.

    Parameters
    ----------
    file : path
        A JSON list (DivideMix, ProMix), a JSON object of file names and labels (the paper), an
        ``.npy`` file, a ``.pt`` file with an array, a tensor or a dictionary of them (CIFAR-N, SOP,
        CORES), or a CSV with a header, with or without file names.
    order : {"imagefolder", "torchvision"}, optional
        The order of the rows, where the labels cannot tell; an error if they say the contrary.
    key : str, optional
        Which labels to take of a file that has several, such as "worse_label".

    Returns
    -------
    LabelFile

    Raises
    ------
    InvalidInputError
        If the file has no labels of CIFAR-10's train set, is damaged or is larger than 16 MiB (8
        MiB of text), or if nothing says which order its rows are in.
    MissingInputError
        If there is no such file.
    UnknownArtifactError
        If the order is neither.

    Examples
    --------
    >>> import cifar_noisy
    >>> labels = cifar_noisy.load_noisy_labels(noise=0.4, sparsity=0.2)
    >>> file = getfixture("tmp_path") / "noise.json"
    >>> _ = cifar_noisy.export_labels(file, labels, format="dividemix")
    >>> found = read_labels(file)
    >>> found.format, found.order, found.noise_rate
    ('JSON list', 'torchvision', 0.39934)
    >>> bool((found.in_order("imagefolder") == labels).all())
    True
    """
    if not isinstance(file, str | os.PathLike):
        raise InvalidInputError(f"a {type(file).__name__} is no path: pass that of a label file")
    if order is not None:
        check_choice(order, ORDERS, "order")
    path = user_path(file)
    columns = read_columns(path)
    name, true_name = _choose(columns, key, str(path))
    what = f"{path}, {name}," if name else str(path)
    labels = check_labels(_numbers(columns.by_name[name], what), what)
    true, what_is_true = None, f"{path}, {true_name},"
    if true_name is not None:
        true = check_labels(_numbers(columns.by_name[true_name], what_is_true), what_is_true)
    if columns.file_names is not None:
        labels = _placed(labels, true, columns.file_names, str(path))
        if order is not None:
            raise InvalidInputError(
                f"leave order={order!r} out: the file names of {path} say which image has a label"
            )
        order = "imagefolder"
    else:
        check_length(len(labels), str(path))
        found = order if true is None else _order_of_true(true, order, what_is_true)
        found = check_order(labels, found, what)
        if order is None:
            _check_evenness(labels, found, what)
        order = found
    labels.flags.writeable = False
    has_label = labels != _NO_LABEL
    is_wrong = labels != from_imagefolder_order(true_labels(), order)
    form = f"{columns.format}, key {name}" if name and len(columns.by_name) > 1 else columns.format
    return LabelFile(
        labels, order, float(is_wrong[has_label].mean()), form, _polarity(columns, is_wrong)
    )


def check_labels(values: ArrayLike, what: str) -> NDArray[np.int64]:
    """Return labels of any number type as a new (N,) int64 array from 0 to 9."""
    array = as_array(values, what)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype == np.bool_:
        raise InvalidInputError(
            f"{what} is a mask ({int(array.sum()):,} of {array.size:,} are True), not labels: pass "
            f"the labels, 0 to {N_CLASSES - 1}"
        )
    if array.dtype.kind not in "iuf":
        raise InvalidInputError(
            f"{what} has dtype {array.dtype}, where labels are numbers from 0 to {N_CLASSES - 1}: "
            f"pass the index of each class, {CLASSES[0]} = 0"
        )
    if array.ndim != 1 or not len(array):
        remedy = "pass one label for each image"
        if array.ndim == 2 and array.shape[1] == N_CLASSES:
            remedy = "these are one-hot labels or probabilities; pass their argmax over axis 1"
        raise InvalidInputError(f"{what} has shape {array.shape}: {remedy}")
    with np.errstate(invalid="ignore"):
        odd = np.flatnonzero(~(np.isfinite(array) & (array == np.floor(array))))
    if len(odd):
        raise InvalidInputError(
            f"{what} has {array[odd[0]]} in row {odd[0]:,}: labels are whole numbers from 0 to "
            f"{N_CLASSES - 1}; pass class indices"
        )
    _check_range(array, what)
    return array.astype(np.int64)


def _check_range(array: NDArray[Any], what: str) -> None:
    low, high = array.min(), array.max()
    if low == 1 and high == N_CLASSES:
        raise InvalidInputError(
            f"{what} has labels from 1 to {N_CLASSES}: subtract 1, classes count from 0"
        )
    if low < 0 or high >= N_CLASSES:
        odd = low if low < 0 else high
        value = f"{odd.item():{'d' if array.dtype.kind in 'iu' else 'g'}}"
        row = int((array == odd).argmax())
        raise InvalidInputError(
            f"{what} has {value} in row {row:,}: pass CIFAR-10's labels, 0 to {N_CLASSES - 1}"
        )


def check_order(labels: NDArray[np.int64], order: Order | None, what: str) -> Order:
    """Return the order of 50,000 labels: the one that is given, unless they say the contrary."""
    right = {each: labels == from_imagefolder_order(true_labels(), each) for each in ORDERS}
    scores = {each: _z_of_agreement(right[each]) for each in ORDERS}
    likely = max(ORDERS, key=scores.__getitem__)
    is_sure = scores[likely] > Z_CERTAIN and min(scores.values()) < Z_CHANCE
    shares = " and ".join(f"{right[each].mean():.1%} in {each}" for each in ORDERS)
    agreement = f"they agree with CIFAR-10's in {shares} order, where chance gives 10%"
    if order is not None:
        if is_sure and order != likely:
            raise InvalidInputError(f"pass order={likely!r} for {what}: {agreement}")
        return order
    if not is_sure:
        raise InvalidInputError(
            f"pass order= if you know it: the labels of {what} do not tell ({agreement}), since "
            "they are very noisy, shuffled or in a third order"
        )
    return likely


def _z_of_agreement(is_right: NDArray[np.bool_]) -> float:
    chance = 1 / N_CLASSES
    expected = len(is_right) * chance
    return (int(is_right.sum()) - expected) / math.sqrt(expected * (1 - chance))


def _check_evenness(labels: NDArray[np.int64], order: Order, what: str) -> None:
    """Raise where labels are wrong in stretches, as those of rows out of place are.

    Counted is chi-squared per degree of freedom of the right labels in 50 stretches of each class:
    about 1 if none is worse than others of its class. Classes with too few wrong (or right) labels
    for that, fewer than one a stretch, are left out.
    """
    true = from_imagefolder_order(true_labels(), order)
    is_right = labels == true
    stretches = is_right[np.argsort(true, kind="stable")].reshape(N_CLASSES, _N_STRETCHES, -1)
    counts, size = stretches.sum(axis=2), stretches.shape[2]
    rates = stretches.mean(axis=(1, 2))[:, np.newaxis]
    varies = size * np.minimum(rates, 1 - rates)[:, 0] >= 1
    if not varies.any():
        return
    squares = (counts - size * rates)[varies] ** 2 / (size * rates * (1 - rates))[varies]
    if squares.mean() * _N_STRETCHES / (_N_STRETCHES - 1) > MOST_UNEVEN:
        raise InvalidInputError(
            f"{what} has rows out of place: in {order} order its labels are right in some "
            "stretches and at chance in others, as where the folds of a cross-validation were put "
            f"one after another; restore the order, or pass order={order!r} if the noise is so"
        )


def _order_of_true(true: NDArray[np.int64], order: Order | None, what: str) -> Order:
    """Return the order in which a file's own true labels are CIFAR-10's."""
    found = [
        each for each in ORDERS
        if np.array_equal(true, from_imagefolder_order(true_labels(), each))
    ]  # fmt: skip
    if not found:
        raise InvalidInputError(
            f"{what} has not CIFAR-10's labels in either order: it is of other data, or its rows "
            "were shuffled; use the original file"
        )
    if order not in (None, found[0]):
        raise InvalidInputError(f"{what} is in {found[0]} order: pass order={found[0]!r}")
    return found[0]


def _choose(columns: Columns, key: str | None, path: str) -> tuple[str, str | None]:
    """Return the names of the noisy labels and, if there are any, of the true ones."""
    names = [
        name for name, column in columns.by_name.items() if isinstance(column, list) or column.ndim
    ]
    true = [name for name in names if name in _TRUE_NAMES]
    if not true and "label" in names and any("nois" in name for name in names):
        true = ["label"]  # Chen et al.: label,label_noisy
    noisy = [name for name in names if name not in true and not _is_mask(columns.by_name[name])]
    shown = ", ".join(printable(name, 60) for name in noisy[:10])
    if key is not None:
        if key not in noisy or "" in names:
            choice = f"pass one of {shown}" if any(noisy) else "leave it out"
            raise InvalidInputError(f"{path} has no noisy labels key={key!r}: {choice}")
        noisy = [key]
    if not noisy:
        if len(names) == 1 and not true:
            return names[0], None  # a mask, which is refused by what it is
        held = ", ".join(printable(name, 60) for name in names[:10]) or "nothing"
        raise InvalidInputError(f"{path} has no noisy labels, only {held}: name another file")
    first = columns.by_name[noisy[0]]
    if any(not np.array_equal(first, columns.by_name[name]) for name in noisy[1:]):
        raise InvalidInputError(f"{path} has several labels: pass key= with one of {shown}")
    return noisy[0], true[0] if true else None


def _is_mask(column: Column) -> bool:
    return isinstance(column, np.ndarray) and column.dtype == np.bool_


def _polarity(columns: Columns, is_wrong: NDArray[np.bool_]) -> Polarity | None:
    """Count what a mask beside the labels says, if it says either."""
    for column in columns.by_name.values():
        if _is_mask(column) and np.shape(column) == is_wrong.shape:
            share = float((np.asarray(column) == is_wrong).mean())
            if max(share, 1 - share) > _MASK_AGREEMENT:
                return "True = wrong label" if share > _MASK_AGREEMENT else "True = right label"
    return None


def _numbers(column: Column, what: str) -> NDArray[Any]:
    """Return a column as an array; what stands in a list must be numbers."""
    if isinstance(column, np.ndarray):
        return column
    for row, value in enumerate(column):
        if type(value) not in (int, float):
            kind = "text" if isinstance(value, str) else "no number"
            raise InvalidInputError(
                f"{what} has {printable(repr(value), 60)} in row {row:,}, which is {kind}: write "
                f"each label as a number from 0 to {N_CLASSES - 1}"
            )
    try:
        return np.array(column, np.float64)
    except OverflowError:
        raise InvalidInputError(
            f"{what} has a number of hundreds of digits: labels go from 0 to {N_CLASSES - 1}"
        ) from None


def check_length(n_labels: int, what: str) -> None:
    """Require as many labels as the train set has, and say what others look like."""
    if n_labels == N_EXAMPLES:
        return
    problem = {
        _N_TEST: "as many as the test set has: pass labels of the train set",
        _N_TEST + N_EXAMPLES: "those of both sets: pass those of the train set",
        _N_SPLIT: "a part of the train set, and nothing says which images it has: pass a file with "
        "file names, or all labels",
    }.get(n_labels, "use the whole file")
    raise InvalidInputError(
        f"{what} has {n_labels:,} labels, where the train set has {N_EXAMPLES:,}: {problem}"
    )


def _placed(
    labels: NDArray[np.int64], true: NDArray[np.int64] | None, file_names: list[str], path: str
) -> NDArray[np.int64]:
    """Return the labels of named images in imagefolder order, -1 where an image has none."""
    official = torchvision_order_labels()
    rows = np.full(N_EXAMPLES, _NO_LABEL, np.int64)
    for i, name in enumerate(file_names):
        match = IMAGE_NAME.fullmatch(name)
        image = int(match[1]) if match else N_EXAMPLES
        if match is None or image >= N_EXAMPLES or CLASSES[official[image]] != match[2]:
            raise InvalidInputError(
                f"{path} has {printable(repr(name), 80)}, which is no image of the train set such "
                "as 0_frog.png: pass labels of the train set with upstream's file names"
            )
        if rows[image] != _NO_LABEL:
            raise InvalidInputError(
                f"{path} has image {image} twice, again as {printable(repr(name), 80)}: leave one"
            )
        if true is not None and true[i] != official[image]:
            raise InvalidInputError(
                f"{path} says that {printable(repr(name), 80)} is truly of class {true[i]}: its "
                "columns do not belong together; use the original file"
            )
        rows[image] = labels[i]
    return to_imagefolder_order(rows, "torchvision")
