"""Atomic and resumable writes, and reads of regular files only.

An atomic write goes to a file beside its target, ``.<name>.<8 hex digits>.part``, which is renamed
when it is complete. So the target is absent, as it was, or complete, whoever is killed, and any
number of processes may write it, with or without a lock. `atomic_file` removes its part after an
error. `resumable_file` leaves it, and the next one begins with a copy of the largest part that it
finds. It never writes into that part, which may be a link or another process's. A part that was not
written for `SECONDS_UNTIL_ABANDONED` counts as left over.

What cannot be opened or written raises `OSError`, and its path is as it was.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO

from cifar_noisy.errors import CifarNoisyError, InvalidInputError, MissingInputError, StorageError

WORTH_KEEPING = 1 << 16
"""Bytes from which the beginning of a file is worth another request for the rest."""

LARGEST = 1 << 30
"""Bytes beyond which nothing is read of a file, or fetched; a sparse one takes no room to plant."""

SECONDS_UNTIL_ABANDONED = 3600
"""A live download writes, or gives up, much more often than this."""

OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
"""Errors of a process or system that may open no more files, sockets included."""

_CHUNK = 1 << 20
_MAX_NAME = 240  # bytes; file systems allow 255, and a part's name has 15 more


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for writing that is renamed to `path` when the block ends without an error.

    The folder is made. A durable file is flushed to the disk before the rename, so that a loss of
    power finds it complete too; for files that no registry has a checksum of.
    """
    part = _new_part(path)
    try:
        with part.open("x+b") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            _rename_open(part, path, file, durable=durable)
        if durable:
            _sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | bytearray) -> None:
    """Write a file by `atomic_file`."""
    with atomic_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def resumable_file(path: Path, size: int | None = None) -> Iterator[IO[bytes]]:
    """Open a file for reading and writing that is renamed to `path` when the block ends well.

    It begins with a copy of the largest leftover, if any, of `size` bytes at most. After an error,
    a part of `WORTH_KEEPING` bytes or more stays; after an `OSError`, such as a full disk, only
    what there was before. When `path` is complete its leftovers are removed. One of them may be a
    live process's: that one writes its file again from what it holds open.
    """
    part = _new_part(path)
    n_kept = 0
    try:
        with part.open("x+b") as file:
            n_before = _copy_leftover(path, part, file, size)
            try:
                yield file
            except BaseException as error:
                is_of_disk = isinstance(error, OSError) and not isinstance(error, CifarNoisyError)
                n_kept = n_before if is_of_disk else file.seek(0, os.SEEK_END)
                file.truncate(n_kept)
                raise
            file.flush()
            _rename_open(part, path, file)
    finally:
        if n_kept < WORTH_KEEPING:
            part.unlink(missing_ok=True)
    for leftover, _ in partial_files(path):
        with contextlib.suppress(OSError):
            leftover.unlink()


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[IO[bytes]]:
    """Open for writing what a person named as an output; an existing file is replaced at the end.

    A link is followed and stays. A file keeps its mode and, where that is allowed, its owner. What
    is no regular file, such as ``/dev/null`` or a pipe, is written to; a folder is refused.
    """
    try:
        before = path.stat()
    except FileNotFoundError:
        before = None
    if before is not None and stat.S_ISDIR(before.st_mode):
        raise InvalidInputError(f"{path} is a folder: name a file in it")
    if before is not None and (not stat.S_ISREG(before.st_mode) or _is_descriptor(path)):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "wb") as file:
            yield file
        return
    with atomic_file(real_path(path)) as file:
        if before is not None and os.name == "posix":
            with contextlib.suppress(OSError):
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
        yield file


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file of `LARGEST` bytes at most; a pipe or a device is never waited for."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    _check_regular(Path(path).stat().st_mode, path)  # before opening, which a device may act on
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        _check_regular(status.st_mode, path)
        if status.st_size > LARGEST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), os.fspath(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def real_path(path: Path) -> Path:
    """Return a path without links; one of links that go in circles leads to itself."""
    return Path(os.path.realpath(path))  # Path.resolve raises RuntimeError for those


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` replaced by the home folder; raise where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise MissingInputError(f"{path} leads nowhere: write the path without ~") from None


@contextlib.contextmanager
def storage_errors(what: str | os.PathLike[str], remedy: str) -> Iterator[None]:
    """Raise a `StorageError` that says what cannot be written, in place of the system's error."""
    try:
        yield
    except (CifarNoisyError, BrokenPipeError):  # who reads the pipe has enough
        raise
    except OSError as error:
        if error.errno in OUT_OF_FILES:
            remedy = "let this process open more files (ulimit -n)"
        raise StorageError(f"{what} cannot be written ({reason(error)}): {remedy}") from error


def reason(error: Exception) -> str:
    """Return why reading or writing failed, for a message; what a decoder quotes is cut short."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:200]


def partial_files(path: Path) -> list[tuple[Path, os.stat_result]]:
    """Return the unfinished files of `path`, those of live processes included; links are none."""
    pattern = re.compile(rf"\.{re.escape(_short_name(path))}\.[0-9a-f]{{8}}\.part")
    parts = []
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in filter(lambda entry: pattern.fullmatch(entry.name), entries):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    parts.append((Path(entry.path), status))
    return parts


def stale_partial_files(path: Path) -> list[Path]:
    """Return the unfinished files of `path` that were not written for `SECONDS_UNTIL_ABANDONED`."""
    latest = time.time() - SECONDS_UNTIL_ABANDONED
    return [part for part, status in partial_files(path) if status.st_mtime < latest]


def _new_part(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            _check_regular(mode, path)  # nothing else is replaced
    return path.with_name(f".{_short_name(path)}.{secrets.token_hex(4)}.part")


def _rename_open(part: Path, path: Path, file: IO[bytes], *, durable: bool = False) -> None:
    if os.name != "posix":
        file.close()  # Windows renames no open file, and removes none either
    try:
        part.replace(path)
    except FileNotFoundError:
        # Another process took the part for a leftover; its bytes are still held open here.
        file.seek(0)
        with atomic_file(path, durable=durable) as again:
            shutil.copyfileobj(file, again, _CHUNK)


def _short_name(path: Path) -> str:
    """Return the file's name, or a digest of it where a part's name would be too long."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= _MAX_NAME else hashlib.sha256(name).hexdigest()


def _copy_leftover(path: Path, part: Path, file: IO[bytes], size: int | None) -> int:
    """Begin `file` with the largest leftover of `path`, and remove that; return its size."""
    sizes = {
        leftover: status.st_size for leftover, status in partial_files(path) if leftover != part
    }
    fitting = [leftover for leftover in sizes if size is None or sizes[leftover] <= size]
    if fitting:
        largest = max(fitting, key=sizes.__getitem__)
        with contextlib.suppress(OSError), open_regular(largest) as opened:
            shutil.copyfileobj(opened, file, _CHUNK)
            largest.unlink()
    return file.tell()


def _check_regular(mode: int, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a device or a socket", os.fspath(path))


def _is_descriptor(path: Path) -> bool:
    """Whether a path such as ``/dev/stdout`` names an open file, which others write to as well."""
    return re.fullmatch(r"/dev/(stdout|stderr|fd/\d+)|/proc/.+/fd/\d+", str(path)) is not None


def _sync_folder(folder: Path) -> None:
    """Flush a rename to the disk, where the system lets folders be opened."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
