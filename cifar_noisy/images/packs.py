"""CIFAR-10's pixels as one read-only memory map per split, whatever they came from.

A source is read once, checked, and packed into a sealed file of the cache:

    images/official-train.sealed           the official pixels, told by their digests in `Release`
    images/pixels-train-<digest>.sealed    pixels that only the caller vouches for
    images/sources/<digest>                which of these a source that was seen before is packed in

A pack has the pixels of a split, rows in the published order, and then the labels in the official
order, a byte each. It is hashed whenever it is opened; a damaged one counts as absent. Nothing is
written into the caller's folders, except the archive where ``download=True`` asks for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import (
    CorruptFileWarning,
    ImagesError,
    InvalidInputError,
    MissingInputError,
    StorageError,
    UnavailableError,
)
from cifar_noisy.images import readers
from cifar_noisy.images.archive_download import download_archive
from cifar_noisy.images.readers import (
    ARCHIVE,
    BATCH_FOLDER,
    PIXELS,
    SIDE,
    OfficialArchive,
    PngArchives,
    Release,
    Source,
    find_sources,
    read_first,
    split_name,
)
from cifar_noisy.images.thumbnails import first_of_each_label
from cifar_noisy.loading.row_order import torchvision_index_of
from cifar_noisy.progress_bars import Shown, check_progress, only_bar, progress_bar
from cifar_noisy.rendering import Cell, html_facts
from cifar_noisy.settings import CLASSES
from cifar_noisy.store.artifact_store import CACHE_VARIABLE, Folder, Store
from cifar_noisy.store.files import user_path
from cifar_noisy.store.locks import LockTimeout, locked
from cifar_noisy.store.sealed import map_sealed, read_sealed, write_sealed

IMAGES_FOLDER = "images"
"""Where images lie in the cache."""

_PACK = (
    r"(?:(?P<official>official)|pixels)-(?P<split>train|test)(?(official)|-[0-9a-f]{16})\.sealed"
)
_CHUNK_ROWS = 100  # what fits a processor's cache, which makes hashing twice as fast
_VALUES = SIDE * SIDE * 3


def renamed(old: str, new: str) -> property:
    """Return a read-only property that gives an attribute under its former name, with a warning."""

    def get(self: object) -> Any:
        warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=2)
        return getattr(self, new)

    return property(get, doc=f"Former name of `{new}`.")


@dataclass(frozen=True)
class Images:
    """A split of CIFAR-10, rows in the published order.

    Attributes
    ----------
    pixels : (N, 32, 32, 3) uint8
        A read-only memory map; processes that open it share its pages.
    labels : (N,) int64
        True labels; 0 x N/10, 1 x N/10, ...
    torchvision_index : (N,) int64
        Index of each row in ``torchvision.datasets.CIFAR10``.
    is_official : bool
        Whether these are the official pixels, bit for bit.
    path : Path
        The file that they are packed in; images of the same file are equal.
    """

    pixels: NDArray[np.uint8] = field(compare=False)
    labels: NDArray[np.int64] = field(compare=False)
    torchvision_index: NDArray[np.int64] = field(compare=False)
    is_official: bool
    path: Path

    indices = renamed("indices", "torchvision_index")

    @classmethod
    def open(cls, path: Path) -> Images:
        """Open a packed file and check it; `StorageError` if it is missing or damaged."""
        images = _opened(path, readers.CIFAR10)
        if images is None:
            state = "damaged, or not what its name says" if path.exists() else "not there"
            raise StorageError(f"{path} is {state}: cifar-noisy images packs the images again")
        return images

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes by path: pickled as they are, memory maps become copies."""
        return (_travelled, (self.path,))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        pixels = "official" if self.is_official else "unofficial"
        path = os.fspath(self.path)
        return f"{type(self).__name__}({len(self):,} images, {pixels} pixels, {path!r})"

    def _repr_html_(self) -> str:
        facts: dict[str, Cell] = {
            "images": len(self),
            "pixels": "official, bit for bit" if self.is_official else "not the official ones",
            "packed in": os.fspath(self.path),
        }
        return html_facts(facts, more=first_of_each_label(self.pixels, self.labels))


def load_images(
    root: str | os.PathLike[str] | None = None,
    *,
    train: bool = True,
    download: bool = False,
    trust: str | None = None,
    progress: Shown = None,
) -> Images:
    """Open CIFAR-10's images as memory-mapped arrays, packing them first where that is to do.

    Parameters
    ----------
    root : path, optional
        Where the images are: a torchvision root, the folder ``cifar-10-batches-py``, the archive
        ``cifar-10-python.tar.gz``, a folder with upstream's PNG archives, or an image tree with
        upstream's file names. By default the cache, then mirror folders. With `trust`, images that
        were packed with `trust` before are in the cache too.
    train : bool, default True
        The train set, else the test set.
    download : bool, default False
        Download the official archive if no whole images are there: into `root`, where torchvision
        finds it too, else into the cache, where it is removed once packed. Mirrors of
        ``CIFAR_NOISY_MIRRORS`` are asked first. A download that broke off is continued.
    trust : {"pixels"}, optional
        Admit archives and batch files whose checksums are not the official ones, such as a
        re-encoded copy: the labels are still held to the official ones, the pixels are not.
    progress : bool or object with ``update(n_bytes)``, optional
        Whether to show progress bars of download and packing; by default on a
        terminal and in a notebook. An object, such as a ``tqdm`` of your own, is told of every byte
        that arrives instead.

    Returns
    -------
    Images

    Raises
    ------
    MissingInputError
        If `root` has none, and they are not to be downloaded there.
    UnavailableError
        If the cache has none, and they are not to be downloaded or cannot be.
    ImagesError
        If what is there is not CIFAR-10, or its checksums do not hold and it is not trusted.
    InvalidInputError
        If `trust` is unknown, or several packs in the cache could be meant.
    StorageError
        If the cache folder cannot be used.

    Examples
    --------
    >>> images = load_images("data", download=True)  # doctest: +SKIP
    >>> images.pixels.shape  # doctest: +SKIP
    (50000, 32, 32, 3)
    """
    if trust not in (None, PIXELS):
        raise InvalidInputError(f"trust {trust!r} is unknown: there is 'pixels', or leave it out")
    check_progress(progress)
    packs = _Packs(Store.from_environment(), readers.CIFAR10, train, trust, progress)
    if root is not None:
        return _from_root(packs, user_path(root), download)
    images = packs.official()
    if images is None:
        try:
            images = _from_cache(packs, download)
        except (ImagesError, UnavailableError, StorageError):
            # Another process may have packed what this one was to read, and removed it.
            images = packs.official()
            if images is None:
                raise
    return images


def _from_root(packs: _Packs, root: Path, download: bool) -> Images:
    # Torchvision looks for the archive beside the folder that it extracts.
    folder = root.parent if root.name in (ARCHIVE, BATCH_FOLDER) else root
    images = packs.first([root], download and not folder.is_file())
    if images is None and not download:
        raise MissingInputError(
            f"{root} has no CIFAR-10 images: pass a torchvision root, {BATCH_FOLDER}, {ARCHIVE}, "
            "a folder with upstream's PNG archives, an image tree, or download=True (cifar-noisy "
            "images --download)"
        )
    return images or packs.images(packs.download(folder))


def _from_cache(packs: _Packs, download: bool) -> Images:
    """Return images of which the cache has no official pack yet."""
    # An archive that was put into the cache, by hand or by an import, comes first.
    mirrors = [mirror.path for mirror in packs.store.mirrors if isinstance(mirror, Folder)]
    images = packs.first([packs.folder, *mirrors], download)
    if images is None and packs.trust == PIXELS:
        images = packs.only_unofficial()
    if images is None and not download:
        names = ", ".join(path.name for path in packs.unofficial())
        is_usable = names and packs.trust is None
        hint = f", or trust='pixels' to use {names} there" if is_usable else ""
        raise UnavailableError(
            f"CIFAR-10's images are not in the cache ({packs.folder}) and no mirror folder has "
            "them: pass root=, the folder that has them, or download=True (cifar-noisy images "
            f"--download){hint}"
        )
    return images or _download_and_pack(packs)


def _download_and_pack(packs: _Packs) -> Images:
    """Download into the cache, pack both splits and remove what was downloaded."""
    with packs.lock():
        # Another process may have packed them while this one waited.
        images = packs.official()
        if images is None:
            source = packs.download(packs.folder)
            replace(packs, train=not packs.train, trust=None).pack(source)
            images = replace(packs, trust=None).pack(source)
            for file in {*source.files(True), *source.files(False)}:
                with contextlib.suppress(OSError):  # another user's
                    file.unlink()
    return images


def image_files(cache: Path, *, unfinished: bool = False) -> tuple[Path, ...]:
    """Return the files in a cache whose names only this module gives; links are left out.

    With `unfinished`, those of which a lock or an unfinished file is there.
    """
    names = "|".join([_PACK, *map(re.escape, (ARCHIVE, *readers.CIFAR10.png_blobs))])
    form = r"\.(%s)\.(?:lock|[0-9a-f]{8}\.part)" if unfinished else "(%s)"
    found = set()
    for folder, known in (("", names), ("sources", "[0-9a-f]{64}")):
        with contextlib.suppress(OSError), os.scandir(cache / IMAGES_FOLDER / folder) as entries:
            for entry in entries:
                match = re.fullmatch(form % known, entry.name)
                if match and entry.is_file(follow_symlinks=False):
                    found.add(Path(entry.path).with_name(match[1]))
    return tuple(sorted(found))


@dataclass(frozen=True)
class _Packs:
    """The packed images in the cache, and which of them a call of `load_images` asks for."""

    store: Store
    release: Release
    train: bool
    trust: str | None
    progress: Shown = False

    @property
    def folder(self) -> Path:
        return self.store.cache / IMAGES_FOLDER

    def official(self) -> Images | None:
        return _opened(self._official_path(self.train), self.release)

    def _official_path(self, train: bool) -> Path:
        return self.folder / f"official-{split_name(train)}.sealed"

    def unofficial(self) -> list[Path]:
        """Return the packs of unofficial pixels, of both splits."""
        return [path for path in image_files(self.store.cache) if path.name.startswith("pixels-")]

    def only_unofficial(self) -> Images | None:
        """Return the images of the only pack of unofficial pixels, if there is one."""
        start = f"pixels-{split_name(self.train)}-"
        paths = (path for path in self.unofficial() if path.name.startswith(start))
        found = [images for path in paths if (images := _opened(path, self.release))]
        if len(found) > 1:
            names = ", ".join(images.path.name for images in found)
            raise InvalidInputError(
                f"pass root= to say which images you mean: {self.folder} has several that are not "
                f"official, {names}"
            )
        return found[0] if found else None

    def first(self, folders: list[Path], may_download: bool) -> Images | None:
        """Return the images of the first readable source in some folders; None without sources.

        If there are sources and none is readable, a download may replace them, after a warning.
        """
        sources = (source for each in folders for source in find_sources(each, self.release))
        try:
            return read_first(sources, self.images)
        except ImagesError as problem:
            # What another process has packed meanwhile spares the download.
            if not may_download or (self.folder in folders and self.official()):
                raise
            warnings.warn(f"downloaded again, since {problem}", CorruptFileWarning, stacklevel=4)
            return None

    def images(self, source: Source) -> Images:
        """Return a source's images, packing them if they are not packed or have changed."""
        note = self.folder / "sources" / source.fingerprint(self.train)
        images = self._noted(note, source)
        if images is None:
            with self.lock():
                images = self._noted(note, source) or self.pack(source)
            with contextlib.suppress(StorageError):  # without a note the source is read again
                write_sealed(note, [images.path.name.encode()])
        return images

    def _noted(self, note: Path, source: Source) -> Images | None:
        """Return the images that a source was packed in, as a note says."""
        name = (read_sealed(note) or b"").decode("ascii", "replace")
        match = re.fullmatch(_PACK, name)
        if not match or match["split"] != split_name(self.train):
            return None
        images = _opened(self.folder / name, self.release)
        # Without trust the source is read again, and its error says what is wrong with it.
        is_trusted = self.trust == PIXELS or not source.needs_trust
        return images if images and (images.is_official or is_trusted) else None

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Let one process read, or download, a source at a time."""
        official, *others = (self._official_path(train) for train in (True, False))
        downloads = (self.folder / name for name in (ARCHIVE, *self.release.png_blobs))
        return locked(official, LockTimeout(), *others, *downloads)

    def download(self, folder: Path) -> OfficialArchive | PngArchives:
        """Download the archive into a folder."""
        with progress_bar(self.progress, "downloading", self.release.archive_size) as bar:
            return download_archive(self.store, self.release, folder, bar)

    def pack(self, source: Source) -> Images:
        """Read a source and pack it, unless the same images are packed."""
        pixels, labels = source.read(self.train, self.trust, only_bar(self.progress))
        rows = np.arange(len(labels))
        digests = _record_digests(pixels, labels, rows, self.release, self.train)
        path = self._official_path(self.train)
        if digests != _official_digests(self.release, self.train):
            digest = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
            path = self.folder / f"pixels-{split_name(self.train)}-{digest}.sealed"
        images = _opened(path, self.release)
        if images is None:
            try:
                write_sealed(path, _chunks(pixels, labels))
            except StorageError as error:
                raise StorageError(f"set {CACHE_VARIABLE} to another folder: {error}") from error
            images = _opened(path, self.release, check=False)
        return images or Images.open(path)


def _opened(path: Path, release: Release, *, check: bool = True) -> Images | None:
    """Open a packed file; None if it is not there, or not as it should be."""
    match = re.fullmatch(_PACK, path.name)
    if not match:
        return None
    train, is_official = match["split"] == "train", match["official"] is not None
    # The digests of the official pixels cover all of a pack but the seal.
    content = map_sealed(path, check=check and not is_official)
    n_images = release.size(train)
    if content is None or len(content) != n_images * (_VALUES + 1):
        return None
    values = np.frombuffer(content, np.uint8)
    pixels, given = values[:-n_images].reshape(-1, SIDE, SIDE, 3), values[-n_images:]
    index = torchvision_index_of(given).astype(np.int64)
    labels = np.repeat(np.arange(len(CLASSES)), n_images // len(CLASSES))
    if check and is_official:
        digests = _record_digests(pixels, given, np.argsort(index), release, train)
        if digests != _official_digests(release, train):
            return None
    elif check:
        digest = hashlib.sha256(given.data).hexdigest()
        if (given[index] != labels).any() or (train and digest != release.train_labels_sha256):
            return None
    labels.flags.writeable = index.flags.writeable = False
    return Images(pixels, labels, index, is_official, path)


def _travelled(path: Path) -> Images:
    """Open a pack that another process had checked, or else the one of this machine's cache."""
    here = Store.from_environment().cache / IMAGES_FOLDER / path.name
    images = _opened(path, readers.CIFAR10, check=False)
    images = images or _opened(here, readers.CIFAR10)
    if images is None:
        state = "damaged" if path.exists() else "not on this machine"
        raise StorageError(
            f"pack the images here (cifar-noisy images), or set {CACHE_VARIABLE} to the cache that "
            f"has them: {path}, where they were pickled from, is {state}, and {here.parent} has no "
            "copy"
        )
    return images


def _chunks(pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Iterator[memoryview]:
    """Yield the content of a pack, without a second copy of it in memory."""
    indices = torchvision_index_of(labels)
    for start in range(0, len(indices), _CHUNK_ROWS):
        yield pixels[indices[start : start + _CHUNK_ROWS]].data
    yield labels.data


def _official_digests(release: Release, train: bool) -> list[str]:
    return [release.records_sha256[name] for name in release.batches(train)]


def _record_digests(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    rows: NDArray[np.intp],
    release: Release,
    train: bool,
) -> list[str]:
    """Return the digests of the kind of `Release.records_sha256`; image i is row ``rows[i]``."""
    digests = []
    for batch in np.split(np.arange(len(labels)), len(release.batches(train))):
        digest = hashlib.sha256()
        for start in range(0, len(batch), _CHUNK_ROWS):
            chunk = batch[start : start + _CHUNK_ROWS]
            planes = pixels[rows[chunk]].transpose(0, 3, 1, 2).reshape(len(chunk), -1)
            digest.update(np.column_stack([labels[chunk], planes]).data)
        digests.append(digest.hexdigest())
    return digests
