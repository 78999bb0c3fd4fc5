"""The cache folder as a whole: what is in it, whether it is right, and emptying it.

Only files of the registry and CIFAR-10's images are looked at or removed; whatever else lies in the
folder is left alone. What cannot be removed raises `StorageError`.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cifar_noisy.errors import StorageError
from cifar_noisy.images.packs import IMAGES_FOLDER, Images, image_files
from cifar_noisy.images.readers import ARCHIVE, CIFAR10
from cifar_noisy.store.artifact_store import Store, is_there
from cifar_noisy.store.files import abandoned_parts_of, open_regular, reason
from cifar_noisy.store.locks import is_unheld, lock_path
from cifar_noisy.store.registry import Artifact, all_artifacts


@dataclass(frozen=True)
class CachedFile:
    """One registered file in the cache.

    Attributes
    ----------
    artifact : Artifact
        What it should be.
    path : Path
        Where it lies.
    is_right : bool
        Whether its bytes can be read and have the published sha256.
    """

    artifact: Artifact
    path: Path
    is_right: bool


def cached_artifacts(store: Store) -> tuple[Artifact, ...]:
    """Return the artifacts that lie in the cache, their bytes not checked."""
    return tuple(a for a in all_artifacts() if is_there(store.cache_path(a)))


def check_cache(store: Store) -> Iterator[CachedFile]:
    """Hash every registered file in the cache, without a network."""
    for artifact in cached_artifacts(store):
        path = store.cache_path(artifact)
        yield CachedFile(artifact, path, _is_right(path, artifact))


def _is_right(path: Path, artifact: Artifact) -> bool:
    try:
        with open_regular(path) as file:
            content = file.read(artifact.size + 1)  # enough to see that a file is too long
    except OSError:
        return False
    return hashlib.sha256(content).hexdigest() == artifact.sha256


@dataclass(frozen=True)
class CachedImages:
    """CIFAR-10's images in the cache, packed or as the official archive.

    Attributes
    ----------
    path : Path
        The file that a split is packed in, or the archive.
    complaint : str or None
        What is wrong with them; None if all bytes are those that were packed, or the archive's.
    """

    path: Path
    complaint: str | None


def cached_images(store: Store) -> tuple[Path, ...]:
    """Return the packed images in the cache, and archives of them."""
    return tuple(path for path in image_files(store.cache) if path.parent.name == IMAGES_FOLDER)


def check_images(store: Store) -> Iterator[CachedImages]:
    """Hash CIFAR-10's images in the cache, without a network."""
    for path in cached_images(store):
        try:
            complaint = None
            if path.name == ARCHIVE or path.name in CIFAR10.png_blobs:
                with open_regular(path) as file:
                    complaint = CIFAR10.complaint(file, path.name)
            else:
                Images.open(path)
        except OSError as error:  # a StorageError is one
            complaint = str(error)
        yield CachedImages(path, complaint)


def prune_cache(store: Store) -> tuple[tuple[str, int], ...]:
    """Remove what killed processes left of registered files and images, and locks nobody holds.

    An unfinished file counts as left when it was not written for an hour.

    Returns
    -------
    tuple of (str, int)
        Path in the cache and bytes of each file removed.
    """
    removed, root = [], store.cache.resolve()
    targets = (root / artifact.path for artifact in all_artifacts())
    for target in (*targets, *image_files(root, unfinished=True)):
        if _is_behind_link(target):
            continue
        locks = [lock for lock in [lock_path(target)] if is_unheld(lock)]
        for path in (*abandoned_parts_of(target), *locks):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                size = path.stat().st_size
                _remove(path, store)
                removed.append((str(path.relative_to(root)), size))
    return tuple(removed)


def clear_cache(store: Store) -> tuple[Artifact, ...]:
    """Remove every registered file from the cache, then the folders that this leaves empty.

    What a linked folder leads to is somebody else's, and stays.

    Returns
    -------
    tuple of Artifact
        What was removed.
    """
    root = store.cache.resolve()
    removed, folders = [], set[Path]()
    for artifact in cached_artifacts(store):
        path = root / artifact.path
        if _is_behind_link(path):
            continue
        _remove(path, store)
        removed.append(artifact)
        folders.update(parent for parent in path.parents if root in parent.parents)
    _remove_empty(folders)
    return tuple(removed)


def clear_images(store: Store) -> tuple[Path, ...]:
    """Remove CIFAR-10's images from the cache, packed ones and the archive; all else stays.

    What a link leads to is somebody else's, and stays too.

    Returns
    -------
    tuple of Path
        What was removed.
    """
    root = store.cache.resolve()
    removed = [path for path in image_files(root) if not _is_behind_link(path)]
    for path in removed:
        _remove(path, store)
    _remove_empty({path.parent for path in removed})
    return tuple(path for path in removed if path.parent.name == IMAGES_FOLDER)


def _is_behind_link(path: Path) -> bool:
    """Whether a path below a resolved folder leads out of it, to what is somebody else's."""
    return path.parent.resolve() != path.parent


def _remove(path: Path, store: Store) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be removed ({reason(error)}): ask the owner of {store.cache}"
        ) from error


def _remove_empty(folders: set[Path]) -> None:
    for folder in sorted(folders, reverse=True):
        with contextlib.suppress(OSError):  # something else lies there, or another was faster
            folder.rmdir()
