"""Given labels, wherever they are from: the paper, other repositories, or an array of the caller.

What functions take as `noise` (and `sparsity`) is resolved here, once, to a `LabelSource`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.errors import InvalidInputError, UnavailableError, printable
from cifar_noisy.loading.label_files import LabelFile, check_labels, check_length, check_order
from cifar_noisy.loading.noise_generation import (
    N_CLASSES,
    N_EXAMPLES,
    shipped_noisy_labels,
    true_labels,
)
from cifar_noisy.loading.row_order import (
    published_torchvision_index,
    to_imagefolder_order,
)
from cifar_noisy.rendering import html_facts
from cifar_noisy.settings import ORDERS, Order, Setting, check_choice
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.label_sets import LabelSet, find_label_set
from cifar_noisy.store.registry import Artifact, array_digest, by_path

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class OwnLabels:
    """Labels of the caller, (50000,) int64 in the published order, read-only, known by digest."""

    name: str
    labels: Labels = field(repr=False, compare=False)
    has_probabilities = False

    def __str__(self) -> str:
        return f"labels of your own ({self.name})"

    def _repr_html_(self) -> str:
        rate = float((self.labels != true_labels()).mean())
        return html_facts({"labels of your own": self.name, "wrong labels": f"{rate:.2%}"})

    def __setstate__(self, state: dict[str, Any]) -> None:
        # What numpy unpickles or copies can be written into.
        vars(self).update(state)
        self.labels.flags.writeable = False

    @classmethod
    def of(cls, values: ArrayLike | LabelFile, order: Order) -> OwnLabels:
        """Check labels; those that make sense in the other order only are refused."""
        if isinstance(values, LabelFile):
            values, order = _complete(values), "imagefolder"
        labels = check_labels(values, "noise")
        check_length(len(labels), "noise")
        check_order(labels, order, "noise")
        labels = to_imagefolder_order(labels, order)
        labels.flags.writeable = False
        return cls(f"labels-{array_digest(labels)[:16]}", labels)


def _complete(file: LabelFile) -> Labels:
    """Return the labels of a file in the published order; it must have one for each image."""
    labels = file.in_order("imagefolder")
    n_absent = int((labels < 0).sum())
    if n_absent:
        raise InvalidInputError(
            f"noise, a {file.format}, has no labels for {n_absent:,} of {N_EXAMPLES:,} images: "
            "pass a file with all labels; a train mask says which images to keep"
        )
    return labels


LabelSource = Setting | LabelSet | OwnLabels
"""Where given labels come from. Each has a `name`, and `has_probabilities`."""

Noise = float | str | Setting | LabelSet | OwnLabels | LabelFile | ArrayLike
"""What functions take as `noise`."""


def label_source(
    noise: Noise | None, sparsity: float | None = None, *, order: Order = "imagefolder"
) -> LabelSource:
    """Return the labels that a function's arguments `noise` and `sparsity` mean.

    `noise` is a fraction of wrong labels beside `sparsity`, a `Setting`, a label set or its name,
    or 50,000 given labels in `order`: an array, or what `read_labels` returns.

    Examples
    --------
    >>> label_source(0.4, 0.2) == label_source("noise0.4-sparsity0.2")
    True
    >>> print(label_source("cifar10n-worst"))
    cifar10n-worst
    """
    check_choice(order, ORDERS, "order")
    if isinstance(noise, os.PathLike):
        raise InvalidInputError(
            f"noise is the path {printable(noise, 60)}: pass what read_labels reads from it"
        )
    if isinstance(noise, str) and not _is_number(noise):
        noise = find_label_set(noise)
    if not isinstance(noise, LabelSet | OwnLabels) and not _is_array(noise):
        return Setting.of(cast(Any, noise), sparsity)
    if sparsity is not None:
        what = "the labels are given" if _is_array(noise) else f"{noise} is a label set by itself"
        raise InvalidInputError(f"leave sparsity={sparsity!r} out: {what}")
    if isinstance(noise, LabelSet):
        return noise.setting or noise
    return noise if isinstance(noise, OwnLabels) else OwnLabels.of(cast(Any, noise), order)


def identity(source: LabelSource) -> dict[str, Any]:
    """Return `noise` and `sparsity` as a row of a table has them: the name, where there is one."""
    if isinstance(source, Setting):
        return {"noise": source.noise, "sparsity": source.sparsity}
    return {"noise": source.name, "sparsity": None}


def command_options(source: LabelSource) -> str:
    """Return the options that name given labels on the command line."""
    if isinstance(source, Setting):
        return f"--noise {source.noise:g} --sparsity {source.sparsity:g}"
    return f"--noise {source.name}" if isinstance(source, LabelSet) else "--labels FILE"


def labels_of(source: LabelSource, store: Store | None = None) -> Labels:
    """Return given labels, a new (50000,) int64 array in the published order.

    Those of other repositories are read from their file, and must be as registered.
    """
    match source:
        case Setting():
            return shipped_noisy_labels(source)
        case OwnLabels():
            return source.labels.copy()
        case _:
            return _published_labels(source, store or Store.from_environment()).astype(np.int64)


@functools.lru_cache(maxsize=32)
def _published_labels(source: LabelSet, store: Store) -> NDArray[np.uint8]:
    """Return a label set's labels; kept, since they are the same wherever the file is."""
    if source.name == BY_NUMBER:
        labels = labels_by_number()
    else:
        artifact = by_path()[source.path]
        content = store.read(artifact)
        labels = to_imagefolder_order(decode_labels(content, source), "torchvision")
    if array_digest(labels) != source.array_sha256:
        raise UnavailableError(f"{source} has other labels than registered: reinstall cifar-noisy")
    return labels.astype(np.uint8)


def is_as_registered(source: LabelSet, store: Store) -> bool:
    """Whether the labels in a label set's file, which is read, are the registered ones."""
    labels = decode_labels(store.read(by_path()[source.path]), source)
    if source.name == BY_NUMBER:
        return bool((labels == labels_of(source, store)[rows_of_folds(source, store)]).all())
    return array_digest(to_imagefolder_order(labels, "torchvision")) == source.array_sha256


def decode_labels(content: bytes | bytearray, source: LabelSet) -> Labels:
    """Return the labels in the checked bytes of a label set's file, in the order of the file."""
    from cifar_noisy.loading.torch_files import read_torch_file

    readers: dict[str, Callable[[], Any]] = {
        "pt": lambda: read_torch_file(bytes(content)),
        "npy": lambda: np.load(io.BytesIO(content), allow_pickle=False),
        "csv": lambda: np.loadtxt(io.BytesIO(content), np.int64, delimiter=",", skiprows=1).T,
    }
    found = readers[source.path.rpartition(".")[2]]()
    if source.key is not None:
        found = found[int(source.key) if source.path.endswith(".csv") else source.key]
    labels: Labels = np.asarray(found).astype(np.int64)
    return labels


BY_NUMBER = "cifar10s"
"""The label set whose labels are those of noise 0.2, sparsity 0.4 given to other images.

Its makers took the images of a class by their numbers, not by their names as text: the labels at
the same positions then belong to other images. So no file is needed; the published one is equal.
"""


def labels_by_number() -> Labels:
    """Return the labels of CIFAR-10S in the published order."""
    labels = np.empty(N_EXAMPLES, np.int64)
    labels[_rows_by_number()] = shipped_noisy_labels(Setting(0.2, 0.4))
    return labels


@functools.cache
def _rows_by_number() -> NDArray[np.intp]:
    """Return the published row of each image, by class and then by official index."""
    return np.lexsort((published_torchvision_index(), true_labels()))


def rows_of_folds(source: LabelSet, store: Store | None = None) -> NDArray[np.intp]:
    """Return the published row of each row of a label set's probabilities, (50000,).

    They are the held-out folds one after another, of five that scikit-learn's ``StratifiedKFold``
    makes without shuffling over the given labels, in torchvision's order or, of CIFAR-10S, by class
    and number.
    """
    labels = labels_of(source, store)
    if source.name == BY_NUMBER:
        return rows_of_folds_by_number(labels)
    return _rows_of_folds(labels, np.argsort(published_torchvision_index()))


def rows_of_folds_by_number(labels: Labels) -> NDArray[np.intp]:
    """Return `rows_of_folds` of CIFAR-10S, whose labels these are in the published order."""
    return _rows_of_folds(labels, _rows_by_number())


def _rows_of_folds(labels: Labels, row_of: NDArray[np.intp]) -> NDArray[np.intp]:
    return row_of[stratified_fold_order(labels[row_of])]


def stratified_fold_order(labels: Labels, n_folds: int = 5) -> NDArray[np.intp]:
    """Return the examples of the held-out folds, one fold after another, ascending in each.

    As scikit-learn does, the labels are sorted by their first occurrence and dealt out, which says
    how many of each class a fold has; a class's examples fill the folds in their order.

    >>> stratified_fold_order(np.array([0, 1, 0, 1, 0, 0]), 2).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    classes, first = np.unique(labels, return_index=True)
    classes = classes[np.argsort(first)]
    dealt = np.repeat(classes, [(labels == label).sum() for label in classes])
    folds = np.empty(len(labels), np.intp)
    for label in classes:
        sizes = [(dealt[fold::n_folds] == label).sum() for fold in range(n_folds)]
        folds[labels == label] = np.repeat(np.arange(n_folds), sizes)
    return np.argsort(folds, kind="stable")


def count_noise_matrix(source: LabelSource) -> NDArray[np.float64]:
    """Return the share of each given label (row) among the images of each true one (column)."""
    counts = np.zeros((N_CLASSES, N_CLASSES))
    np.add.at(counts, (labels_of(source), true_labels()), 1)
    shares: NDArray[np.float64] = counts / counts.sum(0)
    return shares


def pyx_artifact(source: LabelSet, model: str) -> Artifact:
    """Return the registered file of a model's probabilities."""
    rows = (a for a in by_path().values() if a.kind == "pyx" and source.name in a.label_sets)
    return next(artifact for artifact in rows if artifact.model == model)


def _is_array(values: object) -> bool:
    is_sequence = isinstance(values, Sequence) and not isinstance(values, str | bytes)
    return is_sequence or isinstance(values, LabelFile) or getattr(values, "ndim", 0) > 0


def _is_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        float(text)
        return True
    return False
