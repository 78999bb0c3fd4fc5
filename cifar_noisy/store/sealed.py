"""Files that no registry has a checksum of, and that carry their own.

A sealed file is its content and a last line with the sha256 of all that comes before. It is written
atomically and flushed to the disk. One that was cut, changed or never finished reads like one that
is not there. An ``.npy`` file stays one; a JSON object stays one too, with the checksum as its last
member. What cannot be written raises `StorageError`.
"""

import contextlib
import errno
import hashlib
import json
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cifar_noisy.errors import StorageError
from cifar_noisy.store.files import atomic_file, open_regular, reason, storage_errors

Content = bytes | bytearray | memoryview

_SEAL = b"\nsha256 %s\n"
_SEAL_SIZE = len(_SEAL % bytes(64))
_JSON_SEAL = b',\n  "sha256": "%s"\n}\n'
_JSON_SEAL_SIZE = len(_JSON_SEAL % bytes(64))
_LARGEST_JSON = 1 << 26  # many times what a record of the most folds has


def write_sealed(path: Path, chunks: Iterable[Content]) -> None:
    """Write content and its seal."""
    digest = hashlib.sha256()

    def with_seal() -> Iterator[Content]:
        for chunk in chunks:
            digest.update(chunk)
            yield chunk
        yield _SEAL % digest.hexdigest().encode()

    write_durably(path, with_seal())


def read_sealed(path: Path) -> bytes | None:
    """Return what `write_sealed` wrote; None if it is not there, or not as it was written."""
    content = _read(path)
    if content is None or content[-_SEAL_SIZE:] != _seal(memoryview(content)[:-_SEAL_SIZE]):
        return None
    return content[:-_SEAL_SIZE]


def map_sealed(path: Path, *, check: bool = True) -> memoryview | None:
    """Map what `write_sealed` wrote, read-only; None where `read_sealed` returns that.

    Processes that map a file share its memory. One that was handed the path by another, which has
    checked it, may leave out the check. Raises `StorageError` where the system maps no files.
    """
    try:
        with open_regular(path) as file:
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except ValueError:  # it has 0 bytes
        return None
    except OSError as error:
        if error.errno not in (errno.ENODEV, errno.ENOMEM):
            return None
        raise StorageError(
            f"{path} cannot be mapped into memory ({reason(error)}), which this file system or a "
            "limit on memory refuses: put it on a local disk, or raise the limit"
        ) from error
    content, seal = mapped[:-_SEAL_SIZE], mapped[-_SEAL_SIZE:]
    return content if not check or seal == _seal(content) else None


def write_sealed_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object that ends in the sha256 of the text before, the closing brace added."""
    content = json.dumps(value, indent=2).encode() + b"\n"
    write_durably(path, (content[:-3] + _JSON_SEAL % _digest(content),))


def read_sealed_json(path: Path) -> dict[str, Any] | None:
    """Return what `write_sealed_json` wrote; None if it is not there, or not as it was written."""
    text = _read(path, _LARGEST_JSON)
    if text is None:
        return None
    content = text[:-_JSON_SEAL_SIZE] + b"\n}\n"
    if text[-_JSON_SEAL_SIZE:] != _JSON_SEAL % _digest(content):
        return None
    with contextlib.suppress(ValueError, RecursionError):  # sealed by hand, that is
        value = json.loads(content)
        return value if isinstance(value, dict) else None
    return None


def write_durably(path: Path, chunks: Iterable[Content]) -> None:
    """Write a file of chunks and flush it to the disk."""
    remedy = "make room or name another folder, and run again; what was saved before is kept"
    with storage_errors(path, remedy), atomic_file(path, durable=True) as file:
        for chunk in chunks:
            file.write(chunk)


def _seal(content: Content) -> bytes:
    return _SEAL % _digest(content)


def _digest(content: Content) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _read(path: Path, most: int = -1) -> bytes | None:
    try:
        with open_regular(path) as file:
            return file.read(most)
    except (OSError, MemoryError):  # the latter of a file that was made large, such as a sparse one
        return None
