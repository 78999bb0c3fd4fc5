"""Images and labels to train on: CIFAR-10, or the digits that ship with scikit-learn."""

import hashlib
import os
import re
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import ImagesError, InvalidInputError
from cifar_noisy.images.packs import load_images
from cifar_noisy.loading.given_labels import LabelSource, labels_of
from cifar_noisy.loading.noise_generation import generate_noisy_labels
from cifar_noisy.settings import Setting, check_choice

DatasetName = Literal["cifar10", "digits"]
DATASETS: tuple[DatasetName, ...] = get_args(DatasetName)
_N_DIGITS_TEST = 297


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with true labels of ten classes; the test set only if it was opened too.

    CIFAR-10's rows are in imagefolder order.
    """

    name: DatasetName
    pixels: NDArray[np.uint8]  # (N, H, W, C)
    labels: NDArray[np.int64]  # (N,)
    allow_flip: bool  # whether a mirror image shows the same class
    test_pixels: NDArray[np.uint8] | None = None
    test_labels: NDArray[np.int64] | None = None

    def digest(self) -> str:
        """Return the hex sha256 of all pixels and labels."""
        digest = hashlib.sha256()
        for array in (self.pixels, self.labels, self.test_pixels, self.test_labels):
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def check_row_order(self) -> None:
        """Raise `ImagesError` if CIFAR-10's rows are certainly not in imagefolder order."""
        if self.name != "cifar10":
            return
        from cifar_noisy.images.alignment import check_alignment

        found = check_alignment(SimpleNamespace(data=self.pixels, targets=self.labels))
        if found.verdict == "misaligned":
            raise ImagesError(
                f"these images are not the published rows ({found.mistake or 'unknown order'}): "
                "see cifar-noisy check-alignment, and name another root"
            )

    def noisy_labels(self, source: LabelSource) -> NDArray[np.int64]:
        """Return the (N,) int64 given labels; of the digits, only the paper's noise is drawn."""
        if self.name == "cifar10" or not isinstance(source, Setting):
            return labels_of(source)
        return generate_noisy_labels(source, self.labels)


def open_dataset(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    trust: str | None = None,
    load_test_set: bool = False,
) -> Dataset:
    """Open a dataset by name; `root` and `trust` are those of `load_images`.

    The digits have no test set, so their last 297 become it `load_test_set`.
    """
    if check_choice(name, DATASETS, "dataset") == "digits":
        return _load_digits(load_test_set)
    if root is not None and re.search(r"[\x00-\x1f\x7f-\x9f]", os.fspath(root)):
        raise InvalidInputError(
            f"root {os.fspath(root)!a} has control characters: name a path without them"
        )
    images = load_images(root, trust=trust)
    dataset = Dataset("cifar10", images.pixels, images.labels, allow_flip=True)
    if not load_test_set:
        return dataset
    test = load_images(root, train=False, trust=trust)
    return replace(dataset, test_pixels=test.pixels, test_labels=test.labels)


def folds_of(labels: NDArray[np.int64], n_folds: int) -> tuple[NDArray[np.int64], ...]:
    """Return the held-out rows of each fold, stratified over the *true* labels, as upstream did."""
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    return tuple(rows.astype(np.int64) for _, rows in folds.split(labels, labels))


def _load_digits(load_test_set: bool) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # 0 to 16 as shipped
    labels = digits.target.astype(np.int64)
    if not load_test_set:
        return Dataset("digits", pixels, labels, allow_flip=False)
    n = len(labels) - _N_DIGITS_TEST
    return Dataset("digits", pixels[:n], labels[:n], False, pixels[n:], labels[n:])
