"""CIFAR-10's images in the folders that other programs read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.errors import InvalidInputError
from cifar_noisy.images import readers
from cifar_noisy.images.packs import Images, load_images
from cifar_noisy.images.readers import BATCH_FOLDER, SIDE, split_name
from cifar_noisy.loading.label_exports import checked_labels_and_mask
from cifar_noisy.progress_bars import Shown, check_progress, only_bar, progress_bar
from cifar_noisy.settings import CLASSES, ORDERS, Order, check_choice
from cifar_noisy.store.files import storage_errors, user_path

Layout = Literal["imagefolder", "torchvision"]
LAYOUTS: tuple[Layout, ...] = ("imagefolder", "torchvision")


def write_images(
    to: str | os.PathLike[str],
    layout: str = "imagefolder",
    *,
    root: str | os.PathLike[str] | None = None,
    trust: str | None = None,
    download: bool = False,
    progress: Shown = None,
) -> Path:
    """Write CIFAR-10 as other programs read it.

    Parameters
    ----------
    to : path
        The folder to write into; it may exist, what is to be written in it may not.
    layout : {"imagefolder", "torchvision"}, default "imagefolder"
        "imagefolder" writes ``train/airplane/10008_airplane.png`` and so on, 60,000 PNG files with
        upstream's names, for ``torchvision.datasets.ImageFolder``. "torchvision" writes the folder
        ``cifar-10-batches-py``; its files hold the official arrays, not the official bytes, so
        torchvision's own integrity check does not pass on them, and ``trust="pixels"`` reads them.
    root, trust, download, progress
        Where the images come from and whether bars are shown, as for `load_images`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UnknownArtifactError
        If the layout is neither.
    InvalidInputError
        If something of that name is there already.
    UnavailableError, ImagesError, StorageError
        As `load_images` does.

    Examples
    --------
    >>> write_images("cifar10", root="data")  # doctest: +SKIP
    PosixPath('cifar10')
    """
    check_choice(layout, LAYOUTS, "layout")
    target = user_path(to)
    parts = ("train", "test") if layout == "imagefolder" else (BATCH_FOLDER,)
    for part in parts:
        if os.path.lexists(target / part):
            raise InvalidInputError(f"{target / part} is there already: name another folder")
    splits = {
        train: load_images(root, train=train, trust=trust, download=download, progress=progress)
        for train in (True, False)
    }
    with storage_errors(target, "make room, or name another folder"):
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".", suffix=".part", dir=target, ignore_cleanup_errors=True
        ) as temporary:
            if layout == "imagefolder":
                _write_tree(splits, Path(temporary), only_bar(progress))
            else:
                _write_batches(splits, Path(temporary))
            for part in parts:
                try:
                    Path(temporary, part).rename(target / part)
                except OSError:
                    if not (target / part).is_dir():  # no other process was faster
                        raise
    return target


def export_images(
    folder: str | os.PathLike[str],
    labels: ArrayLike,
    *,
    order: Order = "imagefolder",
    keep: ArrayLike | None = None,
    root: str | os.PathLike[str] | None = None,
    trust: str | None = None,
    progress: Shown = None,
) -> Path:
    """Write the train images into a folder for each given label, as ``ImageFolder`` reads them.

    Parameters
    ----------
    folder : path
        The folder to make, such as ``cifar10-noisy/train``. Image 29, an airplane that is labelled
        cat, becomes ``cat/29_airplane.png`` in it: upstream's name, which tells the true class.
    labels : (50000,) array of int
        Labels from 0 to 9.
    order : {"imagefolder", "torchvision"}, default "imagefolder"
        The order of `labels` and `keep`.
    keep : (50000,) bool array, optional
        True = write this image. Some image of each class must be left, since ``ImageFolder``
        numbers the classes that it finds.
    root, trust
        Where the images come from, as for `load_images`.
    progress : bool or object with ``update(n)``, optional
        Whether to show progress bars; by default on a terminal and in a notebook. An object is told
        of each image that is written instead.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UnknownArtifactError
        If the order is neither.
    InvalidInputError
        If labels or mask do not fit, or are plainly in the other order; or if the folder is there.
    UnavailableError, ImagesError, StorageError
        As `load_images` does.

    Examples
    --------
    >>> import cifar_noisy
    >>> labels = cifar_noisy.load_noisy_labels(0.4, 0.2)
    >>> export_images("noisy/train", labels, root="data")  # doctest: +SKIP
    PosixPath('noisy/train')
    """
    check_choice(order, ORDERS, "order")
    check_progress(progress)
    noisy, kept = checked_labels_and_mask(labels, keep, order)
    absent = set(range(len(CLASSES))).difference(noisy[kept].tolist())
    if absent:
        raise InvalidInputError(
            f"keep an image with the label {CLASSES[min(absent)]}: without one, ImageFolder would "
            "give the other classes other numbers"
        )
    target = user_path(folder)
    if os.path.lexists(target):
        raise InvalidInputError(f"{target} is there already: name another folder")
    images = load_images(root, trust=trust, progress=only_bar(progress))
    if len(images) != len(noisy):
        raise InvalidInputError(f"{images.path} has {len(images):,} images: name all 50,000")
    rows = np.flatnonzero(kept[images.torchvision_index])
    with storage_errors(target, "make room, or name another folder"):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".", suffix=".part", dir=target.parent, ignore_cleanup_errors=True
        ) as temporary:
            tree = Path(temporary, "tree")
            _write_class_folders(tree, images, noisy[images.torchvision_index], rows, progress)
            tree.rename(target)
    return target


def _write_tree(splits: dict[bool, Images], folder: Path, progress: bool | None) -> None:
    for train, images in splits.items():
        tree = folder / split_name(train)
        _write_class_folders(tree, images, images.labels, np.arange(len(images)), progress)


def _write_class_folders(
    tree: Path,
    images: Images,
    labels: NDArray[np.integer[Any]],
    rows: NDArray[np.intp],
    progress: Shown,
) -> None:
    """Write some rows of the images, each into the folder of its label."""
    from PIL import Image

    names = _file_names(images)
    for name in CLASSES:
        (tree / name).mkdir(parents=True)
    with progress_bar(progress, "writing", len(rows), "image") as bar:
        for row in rows:
            image = Image.fromarray(images.pixels[row])
            image.save(tree / CLASSES[labels[row]] / names[row])
            bar.update()


def _write_batches(splits: dict[bool, Images], folder: Path) -> None:
    import pickle

    release, folder = readers.CIFAR10, folder / BATCH_FOLDER
    folder.mkdir()
    for train, images in splits.items():
        names, file_names = release.batches(train), _file_names(images)
        in_batches = np.split(np.argsort(images.torchvision_index), len(names))
        for name, rows in zip(names, in_batches, strict=True):
            batch = {
                "batch_label": name,
                "labels": images.labels[rows].tolist(),
                "data": images.pixels[rows].transpose(0, 3, 1, 2).reshape(len(rows), -1),
                "filenames": [file_names[row] for row in rows],
            }
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {
        "num_cases_per_batch": release.n_train // len(release.batches(True)),
        "label_names": list(CLASSES),
        "num_vis": SIDE * SIDE * 3,
    }
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))


def _file_names(images: Images) -> list[str]:
    """Return upstream's name of each row's file, such as ``10008_airplane.png``."""
    rows = zip(images.torchvision_index, images.labels, strict=True)
    return [f"{index}_{CLASSES[label]}.png" for index, label in rows]
