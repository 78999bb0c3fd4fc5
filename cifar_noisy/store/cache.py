"""The cache folder as a whole: what is in it, whether it is right, and emptying it.

Only files of the registry and CIFAR-10's images are looked at or removed; whatever else lies in the
folder is left alone. What cannot be removed raises `StorageError`.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cifar_noisy.errors import StorageError
from cifar_noisy.store.artifact_store import Store, file_problem, is_there
from cifar_noisy.store.files import abandoned_parts_of, reason
from cifar_noisy.store.locks import is_unheld, lock_path
from cifar_noisy.store.registry import Artifact, all_artifacts, artifacts
from cifar_noisy.store.sealed import map_sealed

IMAGES_FOLDER = "images"
"""Where images lie in the cache."""

PACK_NAME = (
    r"(?:(?P<official>official)|pixels)-(?P<split>train|test)(?(official)|-[0-9a-f]{16})\.sealed"
)
"""Names of the files in it that images are packed in."""

_PNG_ARCHIVE_NAME = r"(?:train_part_[12]_of_2|test)\.tar\.gz"
_NOTE_NAME = "[0-9a-f]{64}"


@dataclass(frozen=True)
class CachedFile:
    """One registered file in the cache, and whether it has the published bytes."""

    artifact: Artifact
    path: Path
    is_right: bool


@dataclass(frozen=True)
class CachedImages:
    """The image archive or a packed split in the cache, and what is wrong with it, if anything."""

    path: Path
    complaint: str | None


def cached_artifacts(store: Store) -> tuple[Artifact, ...]:
    """Return the artifacts other than images that are in the cache, their bytes not checked."""
    return tuple(a for a in artifacts() if is_there(store.cache_path(a)))


def check_cache(store: Store) -> Iterator[CachedFile]:
    """Hash every registered file in the cache other than images, without a network."""
    for artifact in cached_artifacts(store):
        path = store.cache_path(artifact)
        yield CachedFile(artifact, path, file_problem(path, artifact) is None)


def cached_images(store: Store) -> tuple[Path, ...]:
    """Return the image archives and packed images in the cache."""
    return tuple(path for path in _images(store.cache) if path.parent.name == IMAGES_FOLDER)


def check_images(store: Store) -> Iterator[CachedImages]:
    """Hash the image archive and the packed images in the cache, without a network.

    Upstream's PNG archives, of which no sha256 is known, are checked where they are read.
    """
    archives = {store.cache_path(artifact): artifact for artifact in artifacts(kind="images")}
    for path in cached_images(store):
        if path in archives:
            yield CachedImages(path, file_problem(path, archives[path]))
        elif re.fullmatch(PACK_NAME, path.name):
            try:
                is_right = map_sealed(path) is not None
                yield CachedImages(path, None if is_right else f"{path} is damaged")
            except StorageError as error:
                yield CachedImages(path, str(error))


def image_files(cache: Path, *, unfinished: bool = False) -> Iterator[Path]:
    """Yield the files in a cache that have names which only `images` gives; links are none.

    With `unfinished`, those of which a lock or a part is there instead.
    """
    form = r"\.(%s)\.(?:lock|[0-9a-f]{8}\.part)" if unfinished else "(%s)"
    folder = cache / IMAGES_FOLDER
    names = {folder: f"{PACK_NAME}|{_PNG_ARCHIVE_NAME}", folder / "sources": _NOTE_NAME}
    for place, known in names.items():
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                match = re.fullmatch(form % known, entry.name)
                if match and entry.is_file(follow_symlinks=False):
                    yield place / match[1]


def prune_cache(store: Store) -> tuple[tuple[str, int], ...]:
    """Remove what killed processes left of registered files and images, and locks nobody holds.

    An unfinished file counts as left when it was not written for an hour. Return path in the cache
    and bytes of each file removed.
    """
    removed, root = [], store.cache.resolve()
    targets = {root / artifact.path for artifact in all_artifacts()}
    for target in sorted(targets.union(image_files(root, unfinished=True))):
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
    """Remove every registered file other than images, and the folders that this leaves empty.

    What a linked folder leads to is somebody else's, and stays. Return what was removed.
    """
    root = store.cache.resolve()
    cached = {root / artifact.path: artifact for artifact in cached_artifacts(store)}
    return tuple(cached[path] for path in _clear(cached, root, store))


def clear_images(store: Store) -> tuple[Path, ...]:
    """Remove CIFAR-10's images, packed ones and archives; return what was removed.

    What a link leads to is somebody else's, and stays too.
    """
    root = store.cache.resolve()
    removed = _clear(_images(root), root, store)
    return tuple(path for path in removed if path.parent.name == IMAGES_FOLDER)


def _images(cache: Path) -> list[Path]:
    archives = (cache / artifact.path for artifact in artifacts(kind="images"))
    there = (path for path in archives if is_there(path) and not path.is_symlink())
    return sorted({*there, *image_files(cache)})


def _clear(paths: Iterable[Path], root: Path, store: Store) -> list[Path]:
    """Remove files below a folder, and the folders that this leaves empty; return the files."""
    removed = [path for path in paths if not _is_behind_link(path)]
    for path in removed:
        _remove(path, store)
    folders = {parent for path in removed for parent in path.parents if root in parent.parents}
    for folder in sorted(folders, reverse=True):
        with contextlib.suppress(OSError):  # something else lies there, or another was faster
            folder.rmdir()
    return removed


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
