"""CIFAR-10's images in the cache: which are there, whether they are right, and removing them.

Only names that this package gives are looked at or removed; links are left alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cifar_noisy.images import readers
from cifar_noisy.images.packs import IMAGES_FOLDER, Images, image_files
from cifar_noisy.images.readers import ARCHIVE
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.cache import prune_cache, remove_files
from cifar_noisy.store.files import open_regular, real_path


@dataclass(frozen=True)
class CachedImages:
    """An archive of images or a packed split in the cache, and what is wrong with it, if anything.

    A pack is right if its pixels and labels are those that its name says.
    """

    path: Path
    problem: str | None


def cached_images(store: Store) -> tuple[Path, ...]:
    """Return the packed images in the cache, and archives of them."""
    return tuple(path for path in image_files(store.cache) if path.parent.name == IMAGES_FOLDER)


def check_images(store: Store) -> Iterator[CachedImages]:
    """Hash CIFAR-10's images in the cache, without a network."""
    for path in cached_images(store):
        try:
            problem = None
            if path.name == ARCHIVE or path.name in readers.CIFAR10.png_blobs:
                with open_regular(path) as file:
                    problem = readers.CIFAR10.problem_of(file, path.name)
                if problem:
                    problem += ": remove it, and cifar-noisy images --download gets it again"
            else:
                Images.open(path)
        except OSError as error:  # a StorageError is one
            problem = str(error)
        yield CachedImages(path, problem)


def prune(store: Store) -> tuple[tuple[str, int], ...]:
    """Remove what killed processes left of registered files and images, as `prune_cache` does."""
    return prune_cache(store, image_files(real_path(store.cache), unfinished=True))


def clear_images(store: Store) -> tuple[Path, ...]:
    """Remove CIFAR-10's images, packed ones and archives; return what was removed.

    What a link leads to is somebody else's, and stays too.
    """
    root = real_path(store.cache)
    removed = remove_files(image_files(root), root, store)
    return tuple(path for path in removed if path.parent.name == IMAGES_FOLDER)
