"""The registered files in the cache: which are there, whether they are right, and removing them.

Whatever else lies in the folder is left alone; CIFAR-10's images are the affair of
`images.image_cache`. What cannot be removed raises `StorageError`.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cifar_noisy.errors import StorageError
from cifar_noisy.store.artifact_store import Store, file_problem, is_accessible_file
from cifar_noisy.store.files import real_path, reason, stale_partial_files
from cifar_noisy.store.locks import is_unheld, lock_path
from cifar_noisy.store.registry import Artifact, all_artifacts


@dataclass(frozen=True)
class CachedFile:
    """One registered file in the cache, and whether it has the published bytes."""

    artifact: Artifact
    path: Path
    is_right: bool


def cached_artifacts(store: Store) -> tuple[Artifact, ...]:
    """Return the artifacts other than images that are in the cache, their bytes not checked."""
    files = (artifact for artifact in all_artifacts() if artifact.kind != "images")
    return tuple(a for a in files if is_accessible_file(store.cache_path(a)))


def check_cache(store: Store) -> Iterator[CachedFile]:
    """Hash every registered file in the cache other than images, without a network."""
    for artifact in cached_artifacts(store):
        path = store.cache_path(artifact)
        yield CachedFile(artifact, path, file_problem(path, artifact) is None)


def prune_cache(store: Store, others: Iterable[Path] = ()) -> tuple[tuple[str, int], ...]:
    """Remove what killed processes left of registered and other files, and locks nobody holds.

    An unfinished file counts as left when it was not written for an hour. Return path in the cache
    and bytes of each file removed.
    """
    removed, root = [], real_path(store.cache)
    targets = {root / artifact.path for artifact in all_artifacts()}
    for target in sorted(targets.union(others)):
        if _is_behind_link(target):
            continue
        locks = [lock for lock in [lock_path(target)] if is_unheld(lock)]
        for path in (*stale_partial_files(target), *locks):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                size = path.stat().st_size
                _remove(path, store)
                removed.append((str(path.relative_to(root)), size))
    return tuple(removed)


def clear_cache(store: Store) -> tuple[Artifact, ...]:
    """Remove every registered file other than images, and the folders that this leaves empty.

    What a linked folder leads to is somebody else's, and stays. Return what was removed.
    """
    root = real_path(store.cache)
    cached = {root / artifact.path: artifact for artifact in cached_artifacts(store)}
    return tuple(cached[path] for path in remove_files(cached, root, store))


def remove_files(paths: Iterable[Path], root: Path, store: Store) -> list[Path]:
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
    return real_path(path.parent) != path.parent


def _remove(path: Path, store: Store) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be removed ({reason(error)}): ask the owner of {store.cache}"
        ) from error
