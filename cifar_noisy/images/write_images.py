"""CIFAR-10's images in the folders that other programs read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cifar_noisy.errors import InvalidInputError
from cifar_noisy.images import readers
from cifar_noisy.images.packs import Images, load_images
from cifar_noisy.images.readers import BATCH_FOLDER, SIDE, split_name
from cifar_noisy.settings import CLASSES, check_choice
from cifar_noisy.store.files import storage_errors, user_path

if TYPE_CHECKING:
    from cifar_noisy.store.http_download import Progress

Layout = Literal["imagefolder", "torchvision"]
LAYOUTS: tuple[Layout, ...] = ("imagefolder", "torchvision")


def write_images(
    to: str | os.PathLike[str],
    layout: str = "imagefolder",
    *,
    root: str | os.PathLike[str] | None = None,
    trust: str | None = None,
    download: bool = False,
    progress: Progress | None = None,
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
        Where the images come from, as for `load_images`.

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
        if (target / part).exists():
            raise InvalidInputError(f"{target / part} is there already: name another folder")
    splits = {
        train: load_images(root, train=train, trust=trust, download=download, progress=progress)
        for train in (True, False)
    }
    write = _write_tree if layout == "imagefolder" else _write_batches
    with storage_errors(target, "make room, or name another folder"):
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".", suffix=".part", dir=target, ignore_cleanup_errors=True
        ) as temporary:
            write(splits, Path(temporary))
            for part in parts:
                try:
                    Path(temporary, part).rename(target / part)
                except OSError:
                    if not (target / part).is_dir():  # no other process was faster
                        raise
    return target


def _write_tree(splits: dict[bool, Images], folder: Path) -> None:
    from PIL import Image

    for train, images in splits.items():
        tree = folder / split_name(train)
        for name in CLASSES:
            (tree / name).mkdir(parents=True)
        rows = zip(images.pixels, images.labels, _file_names(images), strict=True)
        for pixels, label, name in rows:
            Image.fromarray(pixels).save(tree / CLASSES[label] / name)


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
