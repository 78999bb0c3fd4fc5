"""The two example orders, and the map between them.

*imagefolder* is the order of every published array: classes in alphabetical order and, in a class,
the file names ``<i>_<class>.png`` sorted as text, where i is the image's official index.
*torchvision* is the official order, that of ``torchvision.datasets.CIFAR10``. Both follow from the
official labels alone.
"""

import functools
import hashlib
import json
import warnings
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.errors import CorruptFileWarning, UnavailableError
from cifar_noisy.registry import find
from cifar_noisy.settings import ORDERS, Setting, check_choice
from cifar_noisy.store import Store

Scalar = TypeVar("Scalar", bound=np.generic)

OFFICIAL_LABELS_FILE = "images/official_train_labels"
"""In the cache: the train set's labels in the official order, a byte each; packing writes it."""

OFFICIAL_LABELS_SHA256 = "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253"
"""Hex digest of those bytes, as the published label file of noise 0 gives them."""


def official_indices(official_labels: ArrayLike) -> NDArray[np.intp]:
    """Return the official index of each row of the published order.

    Parameters
    ----------
    official_labels : (N,) int array_like
        True labels in the official order.

    Returns
    -------
    (N,) intp
        ``official_array[official_indices(labels)]`` is in the published order.

    Examples
    --------
    Images 2 and 10 are of class 0, and as text "10_" comes before "2_":

    >>> labels = [1] * 11
    >>> labels[2] = labels[10] = 0
    >>> official_indices(labels)[:3].tolist()
    [10, 2, 0]
    """
    labels = np.asarray(official_labels)
    # Within a class all names end alike, so the text up to "_" decides.
    names = np.char.add(np.arange(len(labels)).astype(str), "_")
    return np.lexsort((names, labels))


def official_indices_of(file_names: Iterable[str]) -> NDArray[np.intp]:
    """Return the official index in each file name of the form ``.../<i>_<class>.png``.

    Examples
    --------
    >>> official_indices_of(["train/airplane/10008_airplane.png"])
    array([10008])
    """
    return np.array(
        [int(name.rpartition("/")[2].partition("_")[0]) for name in file_names], dtype=np.intp
    )


def official_indices_published(store: Store | None = None) -> NDArray[np.intp]:
    """Return the official index of each published row.

    It follows from the official labels, which come with CIFAR-10's images once they are packed in
    the cache, else from the file names in the published label file of noise 0.

    Returns
    -------
    (50000,) intp, read-only

    Raises
    ------
    UnavailableError
        If there are no packed images, and the label file is not at hand and no source has it.
    """
    return _official_indices_published(store or Store.from_environment())


@functools.lru_cache(maxsize=1)
def _official_indices_published(store: Store) -> NDArray[np.intp]:
    labels = _packed_official_labels(store)
    indices = _from_label_file(store) if labels is None else official_indices(labels)
    indices.flags.writeable = False
    return indices


def _packed_official_labels(store: Store) -> NDArray[np.uint8] | None:
    path = store.cache / OFFICIAL_LABELS_FILE
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest = hashlib.sha256(content).hexdigest()
    if digest != OFFICIAL_LABELS_SHA256:
        warnings.warn(
            f"{path} holds {len(content):,} bytes of sha256 {digest[:12]}…, which are not the "
            "official labels: not used",
            CorruptFileWarning,
            stacklevel=2,
        )
        return None
    return np.frombuffer(content, dtype=np.uint8)


def _from_label_file(store: Store) -> NDArray[np.intp]:
    try:
        content = store.read(find("noisy_labels", Setting(0, 0)))
    except UnavailableError as error:
        raise UnavailableError(
            "order='torchvision' needs CIFAR-10's labels in the official order, which CIFAR-10's "
            "images supply once cifar_noisy.load_images has packed them, or the published label "
            f"file of noise 0: {error.message}",
            error.causes,
        ) from None
    return official_indices_of(json.loads(content))


def in_order(published: NDArray[Scalar], order: str, store: Store | None = None) -> NDArray[Scalar]:
    """Return an array of the published order in the order asked for.

    Parameters
    ----------
    published : (50000, ...) array
        Rows in the published order.
    order : {"imagefolder", "torchvision"}
        "imagefolder" returns the array itself, "torchvision" a copy in the official order.
    store : Store, optional
        Where to look for the official labels; by default what the environment says.

    Returns
    -------
    (50000, ...) array

    Raises
    ------
    UnknownArtifactError
        If the order is neither.
    UnavailableError
        If the official labels are needed and not at hand.

    Examples
    --------
    >>> in_order(np.arange(50_000), "imagefolder")[:3]
    array([0, 1, 2])
    """
    if check_choice(order, ORDERS, "order") == "imagefolder":
        return published
    reordered = np.empty_like(published)
    reordered[official_indices_published(store)] = published
    return reordered


def in_published_order(
    array: NDArray[Scalar], order: str, store: Store | None = None
) -> NDArray[Scalar]:
    """Return an array whose rows are in some order in the published one: `in_order` undone.

    Parameters
    ----------
    array : (50000, ...) array
        Rows in the order named.
    order : {"imagefolder", "torchvision"}
        "imagefolder" returns the array itself, "torchvision" a copy.
    store : Store, optional
        Where to look for the official labels; by default what the environment says.

    Returns
    -------
    (50000, ...) array

    Raises
    ------
    UnknownArtifactError, UnavailableError
        As for `in_order`.

    Examples
    --------
    >>> in_published_order(np.arange(50_000), "imagefolder")[:3]
    array([0, 1, 2])
    """
    if check_choice(order, ORDERS, "order") == "imagefolder":
        return array
    return array[official_indices_published(store)]
