"""Images and labels to train on: CIFAR-10, or the digits that ship with scikit-learn."""

import hashlib
import os
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import ImagesError
from cifar_noisy.images.alignment import check_alignment
from cifar_noisy.images.packs import load_images
from cifar_noisy.loading.noise_matrices import generate_noisy_labels, shipped_noisy_labels
from cifar_noisy.settings import Setting, check_choice

DatasetName = Literal["cifar10", "digits"]
DATASETS: tuple[DatasetName, ...] = get_args(DatasetName)
_DIGITS_TESTED = 297


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with true labels, ten classes.

    Attributes
    ----------
    name : {"cifar10", "digits"}
    pixels : (N, H, W, C) uint8
    labels : (N,) int64
        True labels; CIFAR-10's rows are in the published order.
    is_mirrored : bool
        Whether a mirror image shows the same class.
    test_pixels : (M, H, W, C) uint8, optional
    test_labels : (M,) int64, optional
        The test set, where it was asked for.
    """

    name: DatasetName
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    is_mirrored: bool
    test_pixels: NDArray[np.uint8] | None = None
    test_labels: NDArray[np.int64] | None = None

    def digest(self) -> str:
        """Return the hex sha256 of the pixels and labels, and of the test set's."""
        digest = hashlib.sha256()
        for array in (self.pixels, self.labels, self.test_pixels, self.test_labels):
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def hold_aligned(self) -> None:
        """Hold CIFAR-10's rows to the published order, as far as `check_alignment` can tell.

        Raises
        ------
        ImagesError
            If they are in another.
        """
        if self.name != "cifar10":
            return
        found = check_alignment(SimpleNamespace(data=self.pixels, targets=self.labels))
        if found.verdict == "misaligned":
            raise ImagesError(
                f"these images are not the published rows ({found.mistake or 'unknown order'}): "
                "see cifar-noisy check-alignment, and name another root"
            )

    def noisy_labels(self, setting: Setting) -> NDArray[np.int64]:
        """Return the (N,) int64 given labels; CIFAR-10's are the published ones."""
        if self.name == "cifar10":
            return shipped_noisy_labels(setting)
        return generate_noisy_labels(setting, self.labels)


def open_dataset(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    trust: str | None = None,
    with_test: bool = False,
) -> Dataset:
    """Open a dataset by name.

    Parameters
    ----------
    name : {"cifar10", "digits"}
    root, trust
        Where CIFAR-10's images are, as for `load_images`.
    with_test : bool, default False
        Whether to open the test set too. The digits have none, so their last 297 become it.

    Raises
    ------
    UnknownArtifactError
        If the name is neither.
    UnavailableError, ImagesError, StorageError
        As `load_images` does.

    Examples
    --------
    >>> digits = open_dataset("digits")
    >>> digits.pixels.shape, digits.pixels.dtype
    ((1797, 8, 8, 1), dtype('uint8'))
    """
    if check_choice(name, DATASETS, "dataset") == "digits":
        return _digits(with_test)
    images = load_images(root, trust=trust)
    dataset = Dataset("cifar10", images.pixels, images.labels, is_mirrored=True)
    if not with_test:
        return dataset
    test = load_images(root, train=False, trust=trust)
    return replace(dataset, test_pixels=test.pixels, test_labels=test.labels)


def folds_of(labels: NDArray[np.int64], n_folds: int) -> tuple[NDArray[np.int64], ...]:
    """Return the held-out rows of each fold, stratified over the *true* labels, as upstream did.

    Examples
    --------
    >>> [len(rows) for rows in folds_of(np.repeat([0, 1], 8), 4)]
    [4, 4, 4, 4]
    """
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    return tuple(rows.astype(np.int64) for _, rows in folds.split(labels, labels))


def _digits(with_test: bool) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # 0 to 16 as shipped
    labels = digits.target.astype(np.int64)
    if not with_test:
        return Dataset("digits", pixels, labels, is_mirrored=False)
    n = len(labels) - _DIGITS_TESTED
    return Dataset("digits", pixels[:n], labels[:n], False, pixels[n:], labels[n:])
