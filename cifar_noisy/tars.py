"""Tars read one block at a time, so that none takes more memory or time than it may.

tarfile reads as much as a header asks for, and more where links, sparse files and extended headers
want it. Here a header says a name, a type and a size, and no more.
"""

import tarfile
from collections.abc import Iterator
from io import BufferedIOBase
from typing import NamedTuple

MAX_SIZE = 1 << 29
"""Bytes of a tar, decompressed, beyond which nothing is read of it."""

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 18


class Member(NamedTuple):
    """A member of a tar.

    Attributes
    ----------
    name : str
    type : bytes
        As `tarfile` has it, such as `tarfile.REGTYPE`.
    size : int
    chunks : iterator of bytes
        Its content, to be read before the next member is asked for.
    """

    name: str
    type: bytes
    size: int
    chunks: Iterator[bytes]

    @property
    def is_file(self) -> bool:
        """Whether it is a plain file: no link, folder, device, sparse file or header."""
        return self.type in (tarfile.REGTYPE, tarfile.AREGTYPE)


def read_members(file: BufferedIOBase) -> Iterator[Member]:
    """Yield the members of an open tar; the file may be one that decompresses as it is read.

    Raises
    ------
    tarfile.ReadError
        If it is cut off, too large or no tar.
    """
    left = MAX_SIZE
    while (block := file.read(_BLOCK)) != bytes(_BLOCK):
        if len(block) < _BLOCK:
            raise tarfile.ReadError("it is cut off")
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except Exception as error:
            raise tarfile.ReadError(f"it is no plain tar ({error})") from error
        left -= _BLOCK + header.size
        if header.size < 0 or left < 0:
            raise tarfile.ReadError(f"{header.name!r} in it has a size of {header.size:,} bytes")
        chunks = _chunks(file, header.size)
        yield Member(header.name, header.type, header.size, chunks)
        for _ in chunks:
            pass  # what was not read of it
        file.read(-header.size % _BLOCK)
    while left > 0 and (rest := file.read(_CHUNK)):  # a compressed file ends in its checksum
        left -= len(rest)


def _chunks(file: BufferedIOBase, size: int) -> Iterator[bytes]:
    while size:
        chunk = file.read(min(size, _CHUNK))
        if not chunk:
            raise tarfile.ReadError("it is cut off")
        size -= len(chunk)
        yield chunk
