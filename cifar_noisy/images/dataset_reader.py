"""What can be seen of somebody's dataset or image folder, read row by row as its owner would.

Of each row: its label, its image pooled to 8x8, and its file's name where it has one.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import ImagesError, InvalidInputError
from cifar_noisy.images.readers import (
    PIXELS,
    ImageTree,
    Source,
    find_sources,
    read_first,
    readable,
    split_folder,
)
from cifar_noisy.store.files import open_regular, reason, user_path

POOLED_SIDE = 8
_ROWS_AT_ONCE = 5_000
_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "labels", "fine_label")
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".ppm", ".bmp", ".webp")
_FORMATS = ("PNG", "JPEG", "PPM", "BMP", "WEBP", "TIFF")
_MAX_PIXELS = 1 << 22
_MAX_FOLDERS = 1_000


@dataclass(frozen=True)
class Rows:
    """The rows of a dataset.

    Attributes
    ----------
    labels : (N,) int64
    pooled : (N, 8, 8, 3) float32
        Mean of the image in each cell of an 8x8 grid, in the image's own units.
    """

    labels: NDArray[np.int64]
    pooled: NDArray[np.float32]


def read_rows(dataset: object) -> Rows:
    """Read a dataset.

    Parameters
    ----------
    dataset : object
        A path; or a dataset with the attributes of torchvision's ``CIFAR10`` (``data`` and
        ``targets``) or of its ``ImageFolder`` (``samples``), whose transforms are then not called;
        or anything with a length whose items are (image, label, ...) or a mapping of such names. A
        path of files and folders is read as ``ImageFolder`` reads it, one of batch files or an
        archive as ``CIFAR10`` does.

    Raises
    ------
    InvalidInputError
        If it cannot be read so.
    ImagesError
        If the path has no images, or broken ones.

    Examples
    --------
    >>> rows = read_rows([(np.full((32, 32, 3), 7), 3)])
    >>> rows.labels, float(rows.pooled.mean())
    (array([3]), 7.0)
    """
    if isinstance(dataset, str | os.PathLike):
        return _from_path(user_path(dataset))
    samples = getattr(dataset, "samples", None)
    if isinstance(samples, list):
        return _from_files(samples)
    data, targets = getattr(dataset, "data", None), getattr(dataset, "targets", None)
    if data is not None and targets is not None and np.ndim(data) == 4:
        data = np.asarray(data)
        return Rows(_as_labels(targets, len(data)), _pool_all(data))
    return _from_items(dataset)


def pool(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return the mean of an image in each cell of an 8x8 grid, for any size from 8x8 up.

    Parameters
    ----------
    image : (H, W, C), (C, H, W) or (H, W) array
        With 1 or 3 channels.

    Returns
    -------
    (8, 8, 3) float32

    Raises
    ------
    InvalidInputError
        If it is not such an array.

    Examples
    --------
    >>> pool(np.eye(16))[0, 0]
    array([0.5, 0.5, 0.5], dtype=float32)
    """
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3):
        image = image.transpose(1, 2, 0)
    if image.ndim != 3 or image.shape[2] not in (1, 3) or min(image.shape[:2]) < POOLED_SIDE:
        raise InvalidInputError(
            f"an image has shape {image.shape}: it should be (height, width, 3) or (3, height, "
            f"width), of {POOLED_SIDE} pixels at least"
        )
    sums = image.astype(np.float64)
    for axis in (0, 1):
        size = image.shape[axis]
        starts = np.arange(POOLED_SIDE) * size // POOLED_SIDE
        counts = np.diff(np.append(starts, size))
        shape = [-1 if axis == other else 1 for other in range(3)]
        sums = np.add.reduceat(sums, starts, axis=axis) / counts.reshape(shape)
    pooled = np.empty((POOLED_SIDE, POOLED_SIDE, 3), np.float32)
    pooled[:] = sums
    return pooled


def _pool_all(data: NDArray[Any]) -> NDArray[np.float32]:
    height, width = data.shape[1:3]
    if data.shape[3] != 3 or height % POOLED_SIDE or width % POOLED_SIDE:
        return np.stack([pool(image) for image in data])
    pooled = np.empty((len(data), POOLED_SIDE, POOLED_SIDE, 3), np.float32)
    cells = (POOLED_SIDE, height // POOLED_SIDE, POOLED_SIDE, width // POOLED_SIDE, 3)
    for start in range(0, len(data), _ROWS_AT_ONCE):
        some = data[start : start + _ROWS_AT_ONCE]
        some.reshape(-1, *cells).mean(
            (2, 4), dtype=np.float32, out=pooled[start : start + len(some)]
        )
    return pooled


def _from_path(path: Path) -> Rows:
    def rows(source: Source) -> Rows:
        if isinstance(source, ImageTree):
            return _from_tree(path)  # as its owner would read it, whatever its files are called
        pixels, labels = source.read(train=True, trust=PIXELS)
        return Rows(labels.astype(np.int64), _pool_all(pixels))

    with readable():
        return read_first(find_sources(path), rows) or _from_tree(path)


def _from_tree(path: Path) -> Rows:
    if not path.is_dir():
        raise ImagesError(f"{path} is no folder and no archive of images: name another")
    folder = split_folder(path, train=True)
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    samples = [
        (file, label) for label, name in enumerate(classes) for file in _image_files(folder / name)
    ]
    if not samples:
        raise ImagesError(f"{folder} has no images in folders by class: name another folder")
    return _from_files(samples)


def _image_files(folder: Path) -> Iterator[str]:
    """Yield a class's files in the order of ``ImageFolder``."""
    walked = list(itertools.islice(os.walk(folder, followlinks=True), _MAX_FOLDERS))
    if len(walked) == _MAX_FOLDERS:
        raise ImagesError(
            f"{folder} has {_MAX_FOLDERS:,} folders in it or more: remove links that lead in a "
            "circle"
        )
    for root, _, files in sorted(walked):
        for file in sorted(files):
            if file.lower().endswith(_IMAGE_SUFFIXES):
                yield os.path.join(root, file)  # noqa: PTH118, 50,000 times


def _from_files(samples: Iterable[tuple[str, int]]) -> Rows:
    labels, pooled = [], []
    for file, label in samples:
        pooled.append(pool(_decode_image(file)))
        labels.append(label)
    return Rows(np.array(labels, np.int64), np.stack(pooled))


def _decode_image(file: str) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with open_regular(file) as opened, Image.open(opened, formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ValueError(f"it has {image.width}x{image.height} pixels")
            return np.asarray(image.convert("RGB"))
    except Exception as error:
        raise ImagesError(f"{file} is no image that can be read ({reason(error)})") from error


def _from_items(dataset: object) -> Rows:
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise InvalidInputError(
            f"a {type(dataset).__name__} cannot be checked: pass a path, or a dataset with a "
            "length and items (image, label)"
        )
    if not len(dataset):
        raise InvalidInputError("the dataset is empty: there is nothing to check")
    labels, pooled = [], []
    for row in range(len(dataset)):
        image, label = _fields(dataset[row])
        array = np.asarray(image)
        if array.dtype == object:
            raise InvalidInputError(f"an image is a {type(image).__name__}, which is no array")
        pooled.append(pool(array))
        labels.append(label)
    return Rows(_as_labels(labels, len(pooled)), np.stack(pooled))


def _fields(item: object) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        image = next((item[name] for name in _IMAGE_NAMES if name in item), None)
        label = next((item[name] for name in _LABEL_NAMES if name in item), None)
        if image is not None and label is not None:
            return image, label
    elif isinstance(item, tuple | list) and len(item) >= 2:
        return item[0], item[1]
    raise InvalidInputError(
        "an item of the dataset is neither (image, label, ...) nor a mapping with image and label"
    )


def _as_labels(labels: Any, n_rows: int) -> NDArray[np.int64]:
    array = np.asarray(labels)
    array = array.reshape(len(array)) if array.size == len(array) else array
    if array.shape != (n_rows,) or not np.issubdtype(array.dtype, np.integer):
        raise InvalidInputError(
            f"the labels are {array.dtype} of shape {array.shape}, where integers of "
            f"{(n_rows,)} are expected"
        )
    return array.astype(np.int64)
