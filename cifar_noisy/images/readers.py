"""The forms in which people have CIFAR-10's images, each read into one array in the official order.

Nothing is ever extracted, executed or written. Archives are read as streams in which links, odd
paths and odd sizes are refused, and pickles step by step. Each decoder is bounded in memory and
time, and says of whatever it cannot read that it is damaged.
"""

from __future__ import annotations

import abc
import contextlib
import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import ImagesError
from cifar_noisy.images.pickles import Bytes, unpickle
from cifar_noisy.loading.row_order import OFFICIAL_LABELS_SHA256
from cifar_noisy.settings import CLASSES
from cifar_noisy.store.files import open_regular, reason
from cifar_noisy.store.tars import PLAIN_FILE, read_members

SIDE = 32
"""Height and width of an image, in pixels."""

PIXELS = "pixels"
"""What ``trust`` says to admit images whose bytes are not the official ones."""

BATCH_FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
PNG_FOLDER = "cifar10/dataset"

Content = TypeVar("Content")

_VALUES = SIDE * SIDE * 3
_MAX_PNG = 1 << 16
_MAX_BATCH = 1 << 26
_NOTES, _NOT_READ = (tarfile.XHDTYPE, tarfile.XGLTYPE), (b"GNU.sparse", b" path=", b" size=")


@dataclass(frozen=True)
class Release:
    """What is known of a data set in CIFAR-10's formats; the defaults are CIFAR-10.

    Attributes
    ----------
    n_train, n_test : int
        Images of each split, the same number of every class.
    train_labels_sha256 : str
        Hex digest of the train labels in the official order, a byte each.
    archive_size : int
        Bytes of the official archive.
    archive_md5, archive_sha256 : str
        Its hex digests.
    batch_md5 : dict
        Hex digests of the official batch files.
    png_blobs : dict
        Git blob ids of upstream's PNG archives.
    records_sha256 : dict
        Hex digests of the batch files of CIFAR-10's *binary* version, which hold a byte of label
        and 3,072 of colour planes for each image, and nothing else. They are the same images in
        the same order, so that these digests tell the official pixels, wherever they come from.
    """

    n_train: int = 50_000
    n_test: int = 10_000
    train_labels_sha256: str = OFFICIAL_LABELS_SHA256
    archive_size: int = 170_498_071
    archive_md5: str = "c58f30108f718f92721af3b95e74349a"
    archive_sha256: str = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
    batch_md5: dict[str, str] = field(
        default_factory=lambda: {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        }
    )
    png_blobs: dict[str, str] = field(
        default_factory=lambda: {
            "train_part_1_of_2.tar.gz": "2dca3f0eabe60264fc97f9b49825bd15b44d62b6",
            "train_part_2_of_2.tar.gz": "f5fba1235c7ae39f7f631563257cfa6b1ad9ec7c",
            "test.tar.gz": "6d2142c632e13e2554d7104b08a2ce120ba43ccc",
        }
    )
    records_sha256: dict[str, str] = field(
        default_factory=lambda: {
            "data_batch_1": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            "data_batch_2": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            "data_batch_3": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
            "data_batch_4": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
            "data_batch_5": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            "test_batch": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        }
    )

    def size(self, train: bool) -> int:
        """Return the number of images of a split."""
        return self.n_train if train else self.n_test

    def batches(self, train: bool) -> tuple[str, ...]:
        """Return the names of a split's batch files, in the official order."""
        return tuple(name for name in self.batch_md5 if (name != "test_batch") == train)

    def png_archives(self, train: bool) -> tuple[str, ...]:
        """Return the names of a split's PNG archives."""
        return tuple(name for name in self.png_blobs if (name != "test.tar.gz") == train)

    def complaint(self, file: IO[bytes], name: str) -> str | None:
        """Say what is wrong with an archive or batch file of this name; None if nothing is."""
        if name in self.png_blobs:
            blob, expected = git_blob_id(file), self.png_blobs[name]
            said = f"has git blob id {blob}, where upstream's is {expected}"
            return None if blob == expected else said
        if name in self.batch_md5:
            md5, expected = _digest(file, "md5"), self.batch_md5[name]
            said = f"has md5 {md5}, where the official file has {expected}"
            return None if md5 == expected else said
        size = file.seek(0, os.SEEK_END)
        if size != self.archive_size:
            return f"has {size:,} bytes, where the official archive has {self.archive_size:,}"
        for algorithm, expected in (("md5", self.archive_md5), ("sha256", self.archive_sha256)):
            digest = _digest(file, algorithm)
            if digest != expected:
                return f"has {algorithm} {digest}, where the official archive has {expected}"
        return None


CIFAR10 = Release()


class Source(abc.ABC):
    """Images as somebody has them."""

    needs_trust = True
    """Whether bytes that are not the official ones need ``trust="pixels"``."""

    known_as = ""
    """The official name of its file, which may have any other."""

    def __init__(self, path: Path, release: Release = CIFAR10) -> None:
        self.path = path
        self.release = release

    @abc.abstractmethod
    def files(self, train: bool) -> Iterable[os.PathLike[str]]:
        """Return the files that a split is read from."""

    def _complaint(self, train: bool) -> str | None:
        """Say which bytes are not the official ones; None if all are."""
        for file in map(Path, self.files(train)):
            with open_regular(file) as opened:
                complaint = self.release.complaint(opened, self.known_as or file.name)
            if complaint:
                return f"{file} {complaint}"
        return None

    @abc.abstractmethod
    def _read(self, train: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return pixels and labels in the official order."""

    def fingerprint(self, train: bool) -> str:
        """Return a digest of the names, sizes and times of the files of a split.

        Raises
        ------
        ImagesError
            If one of them is missing.
        """
        with readable():
            name = f"{type(self).__name__} {self.path.resolve()} {train}"
            digest = hashlib.sha256(name.encode("utf-8", "surrogateescape"))
            for file in self.files(train):
                # Entries of os.scandir know their own, which counts with 50,000 of them.
                status = file.stat() if isinstance(file, os.DirEntry) else Path(file).stat()
                line = f"{os.fspath(file)} {status.st_size} {status.st_mtime_ns}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def read(
        self, train: bool, trust: str | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return a split's pixels (N, 32, 32, 3) and labels (N,) in the official order.

        Raises
        ------
        ImagesError
            If the bytes are not the official ones and are not trusted, or the images are not
            CIFAR-10's.
        """
        with readable():
            complaint = self._complaint(train)
            if complaint and self.needs_trust and trust != PIXELS:
                raise ImagesError(
                    f"{complaint}: replace it, or pass trust='pixels' if it is a re-encoded copy "
                    "whose pixels are to be taken as they are"
                )
            pixels, labels = self._read(train)
        _check_labels(labels, train, self)
        return pixels, labels


class BatchFolder(Source):
    """``cifar-10-batches-py``, as torchvision extracts the official archive."""

    def files(self, train: bool) -> list[Path]:  # noqa: D102, the base class says it
        return [self.path / name for name in self.release.batches(train)]

    def _read(self, train: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        def contents() -> Iterator[tuple[str, bytes]]:
            for file in self.files(train):
                yield file.name, _read_file(file, _MAX_BATCH)

        return _from_batches(contents(), train, self)


class OfficialArchive(Source):
    """``cifar-10-python.tar.gz``, read without extracting it."""

    known_as = ARCHIVE

    def files(self, train: bool) -> list[Path]:  # noqa: D102, the base class says it
        return [self.path]

    def _read(self, train: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        wanted = self.release.batches(train)

        def contents() -> Iterator[tuple[str, bytes]]:
            for name, content in _members(self.path, _MAX_BATCH):
                if name.parent.name == BATCH_FOLDER and name.name in wanted:
                    yield name.name, content

        return _from_batches(contents(), train, self)


class PngArchives(Source):
    """Upstream's three archives of PNG files, read without extracting them."""

    def files(self, train: bool) -> list[Path]:  # noqa: D102, the base class says it
        return [self.path / name for name in self.release.png_archives(train)]

    def _read(self, train: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        def contents() -> Iterator[tuple[PurePosixPath, bytes]]:
            for archive in self.files(train):
                for name, content in _members(archive, _MAX_PNG):
                    # Archives made on a Mac have hidden files beside the real ones.
                    if not name.name.startswith("."):
                        yield name, content

        return _from_pngs(contents(), train, self)


class ImageTree(Source):
    """A folder per class with upstream's file names, ``train/airplane/10008_airplane.png``."""

    needs_trust = False

    def files(  # noqa: D102, the base class says it
        self, train: bool
    ) -> Iterator[os.DirEntry[str]]:
        root = split_folder(self.path, train)
        missing = [name for name in CLASSES if not (root / name).is_dir()]
        if missing:
            raise ImagesError(
                f"{root} has no folder {', '.join(missing)}: an image tree has the ten folders "
                f"{', '.join(CLASSES)}"
            )
        for name in CLASSES:
            with os.scandir(root / name) as entries:
                # The order in which a folder is listed is not its files' affair.
                yield from sorted(
                    (e for e in entries if not e.name.startswith(".")), key=lambda e: e.name
                )

    def _complaint(self, train: bool) -> str | None:
        return f"{self.path} is a tree of files, which no checksum covers"

    def _read(self, train: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        def contents() -> Iterator[tuple[PurePosixPath, bytes]]:
            for entry in self.files(train):
                yield PurePosixPath(entry.path), _read_file(entry.path, _MAX_PNG)

        return _from_pngs(contents(), train, self)


def find_sources(root: Path, release: Release = CIFAR10) -> Iterator[Source]:
    """Yield the images that a path names or a folder has, in the order in which to try them.

    Parameters
    ----------
    root : Path
        A torchvision root (with ``cifar-10-batches-py`` or the official archive in it), that folder
        or archive itself, a folder with upstream's PNG archives, or an image tree.
    release : Release
        What the images should be.
    """
    first_batch, first_png = next(iter(release.batch_md5)), next(iter(release.png_blobs))
    for source, path, mark in (
        (BatchFolder, root / BATCH_FOLDER, ""),
        (BatchFolder, root, first_batch),
        (OfficialArchive, root / ARCHIVE, ""),
        (PngArchives, root, first_png),
        (PngArchives, root / PNG_FOLDER, first_png),
    ):
        if _exists(path / mark):
            yield source(path, release)
    if root.name.endswith(".tar.gz") and _exists(root) and not root.is_dir():
        yield OfficialArchive(root, release)
    if any(_exists(root / part / name) for part in ("train", "test", ".") for name in CLASSES):
        yield ImageTree(root, release)


def read_first(sources: Iterable[Source], read: Callable[[Source], Content]) -> Content | None:
    """Return what `read` makes of the first source that it can read, None if there is no source.

    What a broken download or extraction left is passed over where there is something whole.

    Raises
    ------
    ImagesError
        If there are sources and none can be read: what is wrong with each.
    """
    problems = []
    for source in sources:
        try:
            return read(source)
        except ImagesError as error:
            problems.append(str(error))
    if problems:
        raise ImagesError("; ".join(problems))
    return None


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110, False too where no file can have that name


def split_folder(tree: Path, train: bool) -> Path:
    """Return the folder that has the class folders of a split."""
    inner = tree / split_name(train)
    return inner if inner.is_dir() else tree


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Turn a file that is missing or cannot be read into an error that says so."""
    try:
        yield
    except OSError as error:
        raise ImagesError(
            f"{error.filename or 'a file'} cannot be read ({reason(error)}): put it there, or name "
            "another folder"
        ) from error


def git_blob_id(file: IO[bytes]) -> str:
    """Return what git calls a file's content: sha1 over a header with its size, and its bytes.

    Examples
    --------
    >>> git_blob_id(io.BytesIO())
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    size = file.seek(0, os.SEEK_END)
    digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    file.seek(0)
    for chunk in iter(lambda: file.read(1 << 20), b""):
        digest.update(chunk)
    return digest.hexdigest()


def _digest(file: IO[bytes], algorithm: str) -> str:
    file.seek(0)
    return hashlib.file_digest(
        file,  # type: ignore[arg-type]  # it asks for readinto, which open files have
        lambda: hashlib.new(algorithm, usedforsecurity=False),
    ).hexdigest()


def _read_file(path: str | os.PathLike[str], max_size: int) -> bytes:
    with open_regular(path) as file:
        content = file.read(max_size + 1)
    if len(content) > max_size:
        raise ImagesError(f"{os.fspath(path)} has more than {max_size:,} bytes, too many")
    return content


def _members(archive: Path, max_size: int) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield path and content of the files of a compressed archive; refuse anything odd."""
    try:
        with open_regular(archive) as file, gzip.GzipFile(fileobj=file) as tar:
            for header, chunks in read_members(tar):
                name = PurePosixPath(header.name)
                if name.is_absolute() or ".." in name.parts:
                    raise tarfile.ReadError(f"it has the path {header.name!r}")
                if header.isdir():
                    continue
                if header.size > max_size:
                    raise tarfile.ReadError(
                        f"it has {header.name!r} of {header.size:,} bytes, too many for an image"
                    )
                content = b"".join(chunks)
                if header.type in PLAIN_FILE:
                    yield name, content
                elif header.type not in _NOTES or any(word in content for word in _NOT_READ):
                    # Other notes tell times and the like, which concern no image.
                    raise tarfile.ReadError(
                        f"it has {header.name!r}, a link, device, sparse file or long name"
                    )
    except Exception as error:
        raise ImagesError(
            f"{archive} cannot be read to its end ({reason(error)}): get the official archive"
        ) from error


def _from_batches(
    contents: Iterable[tuple[str, bytes]], train: bool, source: Source
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    names, n_images = source.release.batches(train), source.release.size(train)
    size = n_images // len(names)
    # Straight from the planes of the file to rows of pixels, so that one copy is in memory.
    pixels = np.empty((n_images, SIDE, SIDE, 3), np.uint8)
    labels = np.empty(n_images, np.uint8)
    missing = list(names)
    for name, content in contents:
        if name not in missing:
            raise ImagesError(f"{source.path} has {name} twice: get it whole")
        planes, batch_labels = _decode_batch(content, size, f"{name} of {source.path}")
        rows = slice(names.index(name) * size, (names.index(name) + 1) * size)
        pixels[rows] = planes.reshape(size, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        labels[rows] = batch_labels
        missing.remove(name)
    if missing:
        raise ImagesError(f"{source.path} has no {', '.join(missing)}: get it whole")
    return pixels, labels


def _decode_batch(
    content: bytes, size: int, what: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    try:
        batch = unpickle(content, max_steps=10 * size + 1000)
        if not (isinstance(batch, dict) and isinstance(batch.get("data"), Bytes)):
            raise UnpicklingError("it has no data that is an array")
        planes, labels = batch["data"].array((size, _VALUES)), batch.get("labels")
    except Exception as error:
        raise ImagesError(f"{what} is no batch file: {reason(error)}") from error
    if not (
        isinstance(labels, list)
        and len(labels) == size
        and all(type(label) is int and 0 <= label < len(CLASSES) for label in labels)
    ):
        raise ImagesError(f"{what} has no list of {size:,} labels from 0 to {len(CLASSES) - 1}")
    return planes, np.array(labels, np.uint8)


def _from_pngs(
    contents: Iterable[tuple[PurePosixPath, bytes]], train: bool, source: Source
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    n_images = source.release.size(train)
    pixels = np.empty((n_images, SIDE, SIDE, 3), np.uint8)
    labels = np.full(n_images, len(CLASSES), np.uint8)

    for path, png in contents:
        index, label = _parse_name(path, n_images)
        if labels[index] != len(CLASSES):
            raise ImagesError(f"{source.path} has image {index} twice, again as {_shown(path)}")
        labels[index] = label
        pixels[index] = _decode_png(png, path)
    absent = np.flatnonzero(labels == len(CLASSES))
    if len(absent):
        raise ImagesError(
            f"{source.path} has {n_images - len(absent):,} {split_name(train)} images, where "
            f"CIFAR-10 has {n_images:,}: image {absent[0]} is missing"
        )
    return pixels, labels


def _parse_name(path: PurePosixPath, n_images: int) -> tuple[int, int]:
    """Return official index and label of ``.../<class>/<i>_<class>.png``."""
    number, _, rest = path.name.partition("_")
    name = path.parent.name
    if (
        name not in CLASSES
        or rest != f"{name}.png"
        or not (number.isascii() and number.isdecimal() and len(number) < 10)
        or str(int(number)) != number
        or int(number) >= n_images
    ):
        raise ImagesError(
            f"{_shown(path)} is not named like upstream's images, such as "
            f"airplane/29_airplane.png with a number below {n_images:,}"
        )
    return int(number), CLASSES.index(name)


def _shown(path: PurePosixPath) -> str:
    """Return a name out of an archive, with no control character for a terminal."""
    return repr(str(path))[1:-1]


def _decode_png(content: bytes, path: PurePosixPath) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.size == (SIDE, SIDE) and image.mode == "RGB":
                return np.asarray(image)
            found = f"{image.mode} of {image.width}x{image.height}"
    except Exception as error:
        raise ImagesError(f"{_shown(path)} is no PNG that can be read ({reason(error)})") from error
    raise ImagesError(f"{_shown(path)} is {found}, where RGB of {SIDE}x{SIDE} is expected")


def _check_labels(labels: NDArray[np.uint8], train: bool, source: Source) -> None:
    """Hold labels to what is known of them: for the train set, each one."""
    per_class = source.release.size(train) // len(CLASSES)
    counts = np.bincount(labels, minlength=len(CLASSES))
    for name, count in zip(CLASSES, counts.tolist(), strict=True):
        if count != per_class:
            raise ImagesError(
                f"{source.path} has {count:,} {split_name(train)} images of class {name}, where "
                f"CIFAR-10 has {per_class:,}"
            )
    if train and hashlib.sha256(labels.tobytes()).hexdigest() != source.release.train_labels_sha256:
        raise ImagesError(
            f"{source.path} has CIFAR-10's number of train images of each class, but not in the "
            "official order, so nothing says which row is which image: get the official data"
        )


def split_name(train: bool) -> str:
    """Return "train" or "test"."""
    return "train" if train else "test"
