"""Readers of the four forms of CIFAR-10 on disk, each into arrays in the official order.

Nothing is extracted, executed or written. Archives are read as streams, and links, odd paths and
odd sizes in them are refused; pickles are read step by step. Each decoder is bounded in memory and
time, and reports whatever it cannot read as damaged.
"""

from __future__ import annotations

import abc
import contextlib
import gzip
import hashlib
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import ImagesError
from cifar_noisy.loading.pickles import Array, call, unpickle
from cifar_noisy.loading.row_order import OFFICIAL_LABELS_SHA256
from cifar_noisy.progress_bars import progress_bar
from cifar_noisy.settings import CLASSES
from cifar_noisy.store.files import open_regular, real_path, reason
from cifar_noisy.store.registry import artifacts
from cifar_noisy.store.tars import PLAIN_FILE, read_members

SIDE = 32
"""Height and width of an image, in pixels."""

PIXELS = "pixels"
"""What ``trust`` says to admit images whose bytes are not the official ones."""

BATCH_FOLDER = "cifar-10-batches-py"
REGISTERED_ARCHIVE = artifacts(kind="images")[0]
ARCHIVE = REGISTERED_ARCHIVE.source_path
PNG_FOLDER = "cifar10/dataset"

Content = TypeVar("Content")
Split = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Pixels (N, 32, 32, 3) and labels (N,), in the official order."""

_VALUES = SIDE * SIDE * 3
_GIT_BLOB_ID = "git blob id"
_MAX_PNG = 1 << 16
_MAX_BATCH = 1 << 26
_PAX_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE)
_REFUSED_IN_PAX = (b"GNU.sparse", b" path=", b" size=")


@dataclass(frozen=True)
class Release:
    """Sizes and checksums of a data set in CIFAR-10's formats; the defaults are CIFAR-10's.

    `batch_md5` has the official batch files, `png_blobs` the git blob ids of upstream's PNG
    archives. `records_sha256` has the batch files of CIFAR-10's *binary* version: a byte of label
    and 3,072 bytes of colour planes per image, and nothing else. They hold the same images in the
    same order, so these digests identify the official pixels, wherever they come from.
    """

    n_train: int = 50_000
    n_test: int = 10_000
    train_labels_sha256: str = OFFICIAL_LABELS_SHA256
    archive_size: int = REGISTERED_ARCHIVE.size
    archive_md5: str = "c58f30108f718f92721af3b95e74349a"
    archive_sha256: str = REGISTERED_ARCHIVE.sha256
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

    def problem_of(self, file: IO[bytes], name: str) -> str | None:
        """Return what is wrong with an archive or batch file of this name; None if nothing is."""
        if name in self.png_blobs:
            expected = {_GIT_BLOB_ID: self.png_blobs[name]}
        elif name in self.batch_md5:
            expected = {"md5": self.batch_md5[name]}
        else:
            expected = {"md5": self.archive_md5, "sha256": self.archive_sha256}
            size = file.seek(0, os.SEEK_END)
            if size != self.archive_size:
                return f"has {size:,} bytes, where the official file has {self.archive_size:,}"
        for algorithm, digest in expected.items():
            found = git_blob_id(file) if algorithm == _GIT_BLOB_ID else _digest(file, algorithm)
            if found != digest:
                return f"has {algorithm} {found}, where the official file has {digest}"
        return None


CIFAR10 = Release()


class Source(abc.ABC):
    """CIFAR-10 in one of its forms on disk."""

    needs_trust = True
    """Whether bytes that are not the official ones need ``trust="pixels"``."""

    official_name = ""
    """The official name of its one file, which may be called anything."""

    def __init__(self, path: Path, release: Release = CIFAR10) -> None:
        self.path = path
        self.release = release

    @abc.abstractmethod
    def files(self, train: bool) -> Iterable[os.PathLike[str]]:
        """Return the files that a split is read from."""

    @abc.abstractmethod
    def _read(self, train: bool, progress: bool | None) -> Split:
        """Read a split without checking its checksums or the order of its labels."""

    def _problem_of(self, train: bool) -> str | None:
        """Return which file has not the official checksum; None if all have it."""
        for file in map(Path, self.files(train)):
            with open_regular(file) as opened:
                problem = self.release.problem_of(opened, self.official_name or file.name)
            if problem:
                return f"{file} {problem}"
        return None

    def fingerprint(self, train: bool) -> str:
        """Return a digest of the names, sizes and times of a split's files.

        A missing file raises `ImagesError`.
        """
        with readable():
            lines = [f"{type(self).__name__} {real_path(self.path)} {train}"]
            for file in self.files(train):
                # Entries of os.scandir know their own, which counts with 50,000 of them.
                status = file.stat() if isinstance(file, os.DirEntry) else Path(file).stat()
                lines.append(f"{os.fspath(file)} {status.st_size} {status.st_mtime_ns}\n")
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def read(self, train: bool, trust: str | None = None, progress: bool | None = False) -> Split:
        """Return a split's pixels and labels; with a progress bar where there are many files.

        `ImagesError` is raised if the bytes are not the official ones and are not trusted, or if
        the labels are not CIFAR-10's.
        """
        with readable():
            problem = self._problem_of(train) if self.needs_trust else None
            if problem and trust != PIXELS:
                raise ImagesError(
                    f"{problem}: replace it, or pass trust='pixels' if it is a re-encoded copy "
                    "whose pixels are to be taken as they are"
                )
            pixels, labels = self._read(train, progress)
        _check_labels(labels, train, self)
        return pixels, labels


class BatchFolder(Source):
    """``cifar-10-batches-py``, as torchvision extracts the official archive."""

    def files(self, train: bool) -> list[Path]:  # noqa: D102, the base class has it
        return [self.path / name for name in self.release.batches(train)]

    def _read(self, train: bool, progress: bool | None) -> Split:
        batches = ((file.name, _read_file(file, _MAX_BATCH)) for file in self.files(train))
        return _from_batches(batches, train, self)


class OfficialArchive(Source):
    """``cifar-10-python.tar.gz``, read without extracting it."""

    official_name = ARCHIVE

    def files(self, train: bool) -> list[Path]:  # noqa: D102, the base class has it
        return [self.path]

    def _read(self, train: bool, progress: bool | None) -> Split:
        wanted = self.release.batches(train)
        batches = (
            (path.name, content)
            for path, content in _members(self.path, _MAX_BATCH)
            if path.parent.name == BATCH_FOLDER and path.name in wanted
        )
        return _from_batches(batches, train, self)


class PngArchives(Source):
    """Upstream's three archives of PNG files, read without extracting them."""

    def files(self, train: bool) -> list[Path]:  # noqa: D102, the base class has it
        names = self.release.png_blobs
        return [self.path / name for name in names if (name != "test.tar.gz") == train]

    def _read(self, train: bool, progress: bool | None) -> Split:
        pngs = (
            (path, content)
            for archive in self.files(train)
            for path, content in _members(archive, _MAX_PNG)
            # Archives made on a Mac have hidden files beside the real ones.
            if not path.name.startswith(".")
        )
        return _from_pngs(pngs, train, self, progress)


class ImageTree(Source):
    """A folder per class with upstream's file names, ``train/airplane/10008_airplane.png``."""

    needs_trust = False  # no checksum covers its files

    def files(self, train: bool) -> Iterator[os.DirEntry[str]]:  # noqa: D102, the base class has it
        root = split_folder(self.path, train)
        missing = [name for name in CLASSES if not (root / name).is_dir()]
        if missing:
            raise ImagesError(
                f"{root} has no folder {', '.join(missing)}: an image tree has the ten folders "
                f"{', '.join(CLASSES)}"
            )
        for name in CLASSES:
            with os.scandir(root / name) as entries:
                shown = (entry for entry in entries if not entry.name.startswith("."))
                yield from sorted(shown, key=lambda entry: entry.name)

    def _read(self, train: bool, progress: bool | None) -> Split:
        entries = self.files(train)
        pngs = ((PurePosixPath(entry.path), _read_file(entry.path, _MAX_PNG)) for entry in entries)
        return _from_pngs(pngs, train, self, progress)


def find_sources(root: Path, release: Release = CIFAR10) -> Iterator[Source]:
    """Yield the sources that a path names or a folder contains, in the order to try them in."""
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
    """Return what `read` makes of the first source that it can read; None if there is no source.

    If there are sources and none can be read, `ImagesError` says what is wrong with each.
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
    """Return git's hash of a file: sha1 over a header with its size, and its bytes."""
    size = file.seek(0, os.SEEK_END)
    return _digest(file, "sha1", f"blob {size}\0".encode())


def _digest(file: IO[bytes], algorithm: str, header: bytes = b"") -> str:
    file.seek(0)
    start = partial(hashlib.new, algorithm, header, usedforsecurity=False)
    return hashlib.file_digest(file, start).hexdigest()  # type: ignore[arg-type]


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
                elif header.type not in _PAX_HEADERS or any(
                    word in content for word in _REFUSED_IN_PAX
                ):  # other pax headers have times and the like, which concern no image
                    raise tarfile.ReadError(
                        f"it has {header.name!r}, a link, device, sparse file or long name"
                    )
    except Exception as error:
        raise ImagesError(
            f"{archive} cannot be read to its end ({reason(error)}): get the official archive"
        ) from error


def _from_batches(contents: Iterable[tuple[str, bytes]], train: bool, source: Source) -> Split:
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


def _decode_batch(content: bytes, size: int, what: str) -> Split:
    """Return planes (size, 3072) and labels of a batch file."""
    try:
        batch = unpickle(content, 10 * size + 1000, call=partial(call, codes=("u1",)))
        if not (isinstance(batch, dict) and isinstance(batch.get("data"), Array)):
            raise UnpicklingError("it has no data that is an array")
        planes, labels = batch["data"].decoded((size, _VALUES)), batch.get("labels")
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
    contents: Iterable[tuple[PurePosixPath, bytes]],
    train: bool,
    source: Source,
    progress: bool | None,
) -> Split:
    n_images = source.release.size(train)
    pixels = np.empty((n_images, SIDE, SIDE, 3), np.uint8)
    labels = np.full(n_images, len(CLASSES), np.uint8)
    with progress_bar(progress, "reading", n_images, "image") as bar:
        for path, png in contents:
            index, label = _parse_name(path, n_images)
            if labels[index] != len(CLASSES):
                raise ImagesError(f"{source.path} has image {index} twice, again as {_shown(path)}")
            labels[index] = label
            pixels[index] = _decode_png(png, path)
            bar.update()
    absent = np.flatnonzero(labels == len(CLASSES))
    if len(absent):
        raise ImagesError(
            f"{source.path} has {n_images - len(absent):,} {split_name(train)} images, where "
            f"CIFAR-10 has {n_images:,}: image {absent[0]} is missing"
        )
    return pixels, labels


def _parse_name(path: PurePosixPath, n_images: int) -> tuple[int, int]:
    """Return official index and label of ``.../<class>/<i>_<class>.png``."""
    name = path.parent.name
    match = re.fullmatch(r"(0|[1-9][0-9]{0,8})_(.*)\.png", path.name)
    if name not in CLASSES or not match or match[2] != name or int(match[1]) >= n_images:
        raise ImagesError(
            f"{_shown(path)} is not named like upstream's images, such as "
            f"airplane/29_airplane.png with a number below {n_images:,}"
        )
    return int(match[1]), CLASSES.index(name)


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
    """Check the number of labels of each class; those of the train set one by one."""
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
