"""Reads anybody's dataset or image folder for `check_alignment`: its labels and pooled images."""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.confident_learning.array_checks import as_array
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
from cifar_noisy.progress_bars import Shown, only_bar, progress_bar
from cifar_noisy.store.files import open_regular, reason, user_path

POOLED_SIDE = 8
_CHUNK_ROWS = 5_000
_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "labels", "fine_label")
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".ppm", ".bmp", ".webp")
_FORMATS = ("PNG", "JPEG", "PPM", "BMP", "WEBP", "TIFF")
_MAX_PIXELS = 1 << 22
_MAX_FOLDERS = 1_000


@dataclass(frozen=True)
class Rows:
    """Labels (N,) of a dataset, and its images pooled to (N, 8, 8, 3), in the images' own units."""

    labels: NDArray[np.int64]
    pooled: NDArray[np.float32]


def read_rows(dataset: object, progress: Shown = False) -> Rows:
    """Read a dataset.

    It is a path; or a dataset of torchvision or of this package, with ``data`` and ``targets`` or
    with ``samples``, whose transforms are then not called; or anything with a length whose items
    are (image, label, ...) or a mapping with these names. A path of an image tree is read as
    ``ImageFolder`` reads it, one of batch files or an archive as ``CIFAR10`` does. What cannot be
    read raises `InvalidInputError`, images that are missing or broken `ImagesError`.
    """
    if isinstance(dataset, str | os.PathLike):
        return _from_path(user_path(dataset), progress)
    samples, data, targets = (_raw(dataset, name) for name in ("samples", "data", "targets"))
    if isinstance(samples, list):
        items = ((_decode_image(file), label) for file, label in samples)
        return _from_items(items, len(samples), progress)
    if data is not None and targets is not None and np.ndim(data) == 4:
        data = _pixels(data, "data")
        return Rows(_as_labels(targets, len(data)), _pool_all(data))
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise InvalidInputError(
            f"a {type(dataset).__name__} cannot be checked: pass a path, or a dataset with a "
            "length and items (image, label)"
        )
    items = (_image_and_label(dataset[row]) for row in range(len(dataset)))
    return _from_items(items, len(dataset), progress)


def _raw(dataset: object, name: str) -> Any:
    """Return an attribute that the dataset's items come from; None where that is not sure.

    A class with a ``__getitem__`` of its own may give other items, and so may a wrapper that
    forwards attributes.
    """
    get_item = getattr(type(dataset), "__getitem__", None)
    package = getattr(get_item, "__module__", "").partition(".")[0]
    is_own = inspect.getattr_static(dataset, name, None) is not None
    known = get_item is None or package in ("torchvision", "cifar_noisy")
    return getattr(dataset, name, None) if known and is_own else None


def pool(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return the mean of an image in each cell of an 8x8 grid, (8, 8, 3) float32.

    The image is (H, W), (H, W, C) or (C, H, W), of 8x8 pixels or more, with 1 or 3 channels.
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
    rows, columns = (np.arange(POOLED_SIDE + 1) * size // POOLED_SIDE for size in image.shape[:2])
    sums = np.add.reduceat(image, rows[:-1], axis=0, dtype=np.float64)
    sums = np.add.reduceat(sums, columns[:-1], axis=1)
    means = sums / np.outer(np.diff(rows), np.diff(columns))[..., None]
    return np.broadcast_to(means, (POOLED_SIDE, POOLED_SIDE, 3)).astype(np.float32)


def _pool_all(data: NDArray[Any]) -> NDArray[np.float32]:
    """Pool images (N, H, W, C), many at once where the grid divides them evenly."""
    n_images, height, width, n_channels = data.shape
    if n_channels != 3 or height % POOLED_SIDE or width % POOLED_SIDE:
        return np.stack([pool(image) for image in data])
    pooled = np.empty((n_images, POOLED_SIDE, POOLED_SIDE, 3), np.float32)
    cells = (POOLED_SIDE, height // POOLED_SIDE, POOLED_SIDE, width // POOLED_SIDE, 3)
    for start in range(0, n_images, _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        data[rows].reshape(-1, *cells).mean((2, 4), dtype=np.float32, out=pooled[rows])
    return pooled


def _from_path(path: Path, progress: Shown) -> Rows:
    def rows(source: Source) -> Rows:
        if isinstance(source, ImageTree):
            # As its owner would read it, whatever its files are called.
            return _from_tree(path, progress)
        pixels, labels = source.read(True, PIXELS, only_bar(progress))
        return Rows(labels.astype(np.int64), _pool_all(pixels))

    with readable():
        return read_first(find_sources(path), rows) or _from_tree(path, progress)


def _from_tree(path: Path, progress: Shown) -> Rows:
    if not path.is_dir():
        raise ImagesError(f"{path} is no folder and no archive of images: name another")
    folder = split_folder(path, train=True)
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    files = [
        (file, label) for label, name in enumerate(classes) for file in _image_files(folder / name)
    ]
    if not files:
        raise ImagesError(f"{folder} has no images in folders by class: name another folder")
    items = ((_decode_image(file), label) for file, label in files)
    return _from_items(items, len(files), progress)


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


def _decode_image(file: str) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with open_regular(file) as opened, Image.open(opened, formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ValueError(f"it has {image.width}x{image.height} pixels")
            return np.asarray(image.convert("RGB"))
    except Exception as error:
        raise ImagesError(f"{file} is no image that can be read ({reason(error)})") from error


def _from_items(items: Iterable[tuple[Any, Any]], n_items: int, progress: Shown) -> Rows:
    labels, pooled = [], []
    with progress_bar(progress, "reading", n_items, "image") as bar:
        for image, label in items:
            pooled.append(pool(_pixels(image, "an image")))
            labels.append(label)
            bar.update()
    if not labels:
        raise InvalidInputError("the dataset is empty: there is nothing to check")
    return Rows(_as_labels(labels, len(pooled)), np.stack(pooled))


def _pixels(values: Any, name: str) -> NDArray[Any]:
    array = as_array(values, name)
    if array.dtype.kind not in "buif":
        raise InvalidInputError(f"{name} is a {type(values).__name__}, which is no array of pixels")
    return array


def _image_and_label(item: object) -> tuple[Any, Any]:
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
    array = as_array(labels, "labels")
    array = array.reshape(len(array)) if array.size == len(array) else array
    if array.shape != (n_rows,) or not np.issubdtype(array.dtype, np.integer):
        raise InvalidInputError(
            f"the labels are {array.dtype} of shape {array.shape}, where integers of "
            f"{(n_rows,)} are expected"
        )
    return array.astype(np.int64)
