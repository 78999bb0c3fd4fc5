"""Files that no registry has a checksum of, and that carry their own.

A sealed file is its content and a last line with the sha256 of all that comes before. It is flushed
to the disk and renamed, and read back it is right or absent: one that was cut, changed or never
finished reads like one that is not there. An ``.npy`` file stays one; a JSON object stays one too,
with the checksum as its last member.
"""

import contextlib
import hashlib
import json
import mmap
from pathlib import Path
from typing import Any

from cifar_noisy.errors import StorageError
from cifar_noisy.files import open_regular, reason, write_atomically

_SEAL = b"\nsha256 %s\n"
_SEAL_SIZE = len(_SEAL % bytes(64))
_JSON_SEAL = b',\n  "sha256": "%s"\n}\n'
_JSON_SEAL_SIZE = len(_JSON_SEAL % bytes(64))


def write_sealed(path: Path, content: bytes | bytearray | memoryview) -> None:
    """Write content and its seal; what was at `path` is there until both are on the disk.

    Raises
    ------
    StorageError
        If they cannot be written.
    """
    write_durably(path, b"".join((content, _seal(content))))


def read_sealed(path: Path) -> bytes | None:
    """Return what `write_sealed` wrote; None if it is not there, or not as it was written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_sealed(Path(folder) / "file", b"content")
    ...     read_sealed(Path(folder) / "file")
    b'content'
    """
    content = _read(path)
    if content is None or content[-_SEAL_SIZE:] != _seal(memoryview(content)[:-_SEAL_SIZE]):
        return None
    return content[:-_SEAL_SIZE]


def map_sealed(path: Path, *, check: bool = True) -> memoryview | None:
    """Map what `write_sealed` wrote, read-only; None where `read_sealed` returns that.

    Processes that map a file share its memory. One to which another has handed the path after
    checking it may leave out the check of the seal.
    """
    with contextlib.suppress(OSError, ValueError), open_regular(path) as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        content, seal = mapped[:-_SEAL_SIZE], mapped[-_SEAL_SIZE:]
        if not check or seal == _seal(content):
            return content
    return None


def write_sealed_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object that ends in the sha256 of the text before, the closing brace added.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    content = json.dumps(value, indent=2).encode() + b"\n"
    write_durably(path, content[:-3] + _JSON_SEAL % _digest(content))


def read_sealed_json(path: Path) -> dict[str, Any] | None:
    """Return what `write_sealed_json` wrote; None if it is not there, or not as it was written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_sealed_json(Path(folder) / "file", {"n": 1})
    ...     read_sealed_json(Path(folder) / "file")
    {'n': 1}
    """
    text = _read(path)
    if text is None:
        return None
    content = text[:-_JSON_SEAL_SIZE] + b"\n}\n"
    if text[-_JSON_SEAL_SIZE:] != _JSON_SEAL % _digest(content):
        return None
    with contextlib.suppress(ValueError, RecursionError):  # sealed by hand, that is
        value = json.loads(content)
        return value if isinstance(value, dict) else None
    return None


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and flush it to the disk.

    Raises
    ------
    StorageError
        If it cannot be written; what was at `path` is still there.
    """
    try:
        write_atomically(path, content, durable=True)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({reason(error)}): make room or name another folder, and "
            "run again; what was saved before is kept"
        ) from error


def _seal(content: bytes | bytearray | memoryview) -> bytes:
    return _SEAL % _digest(content)


def _digest(content: bytes | bytearray | memoryview) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _read(path: Path) -> bytes | None:
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError:
        return None
