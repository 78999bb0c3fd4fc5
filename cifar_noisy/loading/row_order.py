"""The two example orders, and the map between them.

*imagefolder* is the order of every published array: classes in alphabetical order and, in a class,
the file names ``<i>_<class>.png`` sorted as text, where i is the image's official index.
*torchvision* is the official order, that of ``torchvision.datasets.CIFAR10``. Both follow from the
official labels alone, and these ship with the package.
"""

import functools
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.settings import ORDERS, check_choice
from cifar_noisy.store.registry import registry_folder

Scalar = TypeVar("Scalar", bound=np.generic)

OFFICIAL_LABELS_FILE = "official_labels.npz"
"""The shipped labels, written by ``scripts/build_registry.py``."""

OFFICIAL_LABELS_SHA256 = "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253"
"""Hex digest of the train set's, a byte each, as the published label file of noise 0 gives them."""

OFFICIAL_TEST_LABELS_SHA256 = "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5"
"""Hex digest of the test set's, a byte each, as cleanlab/label-errors has them."""


def torchvision_index_of(official_labels: ArrayLike) -> NDArray[np.intp]:
    """Return the (N,) official index of each row of the published order.

    ``official_array[torchvision_index_of(official_labels)]`` is in the published order.

    Examples
    --------
    Images 2 and 10 are of class 0, and as text "10_" comes before "2_":

    >>> labels = [1] * 11
    >>> labels[2] = labels[10] = 0
    >>> torchvision_index_of(labels)[:3].tolist()
    [10, 2, 0]
    """
    labels = np.asarray(official_labels)
    # Within a class all names end alike, so the text up to "_" decides.
    names = np.char.add(np.arange(len(labels)).astype(str), "_")
    return np.lexsort((names, labels))


@functools.cache
def published_torchvision_index() -> NDArray[np.intp]:
    """Return the official index of each published row, (50000,) intp, read-only.

    >>> published_torchvision_index()[:3]
    array([10008, 10010, 10020])
    """
    indices = torchvision_index_of(torchvision_order_labels())
    indices.flags.writeable = False
    return indices


def torchvision_order_labels(*, train: bool = True) -> NDArray[np.uint8]:
    """Return CIFAR-10's labels in the official order, which are shipped.

    (50000,) uint8 of the train set, or (10000,) uint8 of the test set.

    >>> torchvision_order_labels()[:5]
    array([6, 9, 9, 4, 1], dtype=uint8)
    """
    with np.load(registry_folder() / OFFICIAL_LABELS_FILE, allow_pickle=False) as arrays:
        labels: NDArray[np.uint8] = arrays["train" if train else "test"]
    return labels


def from_imagefolder_order(published: NDArray[Scalar], order: str) -> NDArray[Scalar]:
    """Return an array of the published order in the order asked for.

    "imagefolder" returns the array itself, "torchvision" a copy.
    """
    if check_choice(order, ORDERS, "order") == "imagefolder":
        return published
    reordered = np.empty_like(published)
    reordered[published_torchvision_index()] = published
    return reordered


def to_imagefolder_order(array: NDArray[Scalar], order: str) -> NDArray[Scalar]:
    """Return an array of some order in the published order; undoes `from_imagefolder_order`.

    "imagefolder" returns the array itself, "torchvision" a copy.
    """
    if check_choice(order, ORDERS, "order") == "imagefolder":
        return array
    return array[published_torchvision_index()]
