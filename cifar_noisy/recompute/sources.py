"""Images and labels to train on: CIFAR-10, or the digits that ship with scikit-learn."""

import hashlib
import os
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.alignment import check_alignment
from cifar_noisy.errors import ImagesError
from cifar_noisy.images import load_images
from cifar_noisy.noise import generate_noisy_labels, shipped_noisy_labels
from cifar_noisy.settings import Setting, check_choice

DatasetName = Literal["cifar10", "digits"]
DATASETS: tuple[DatasetName, ...] = get_args(DatasetName)


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
    """

    name: DatasetName
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    is_mirrored: bool

    def digest(self) -> str:
        """Return the hex sha256 of the pixels and labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.pixels).data)
        digest.update(np.ascontiguousarray(self.labels).data)
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
    name: str, root: str | os.PathLike[str] | None = None, *, trust: str | None = None
) -> Dataset:
    """Open a dataset by name.

    Parameters
    ----------
    name : {"cifar10", "digits"}
    root, trust
        Where CIFAR-10's images are, as for `load_images`.

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
        return _digits()
    images = load_images(root, trust=trust)
    return Dataset("cifar10", images.pixels, images.labels, is_mirrored=True)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # 0 to 16 as shipped
    return Dataset("digits", pixels, digits.target.astype(np.int64), is_mirrored=False)
