"""Tars read one block at a time, so that none takes more memory or time than it may.

tarfile reads as much as a header asks for, and more where long names and sparse files want it.
"""

import tarfile
from collections.abc import Iterator
from io import BufferedIOBase

MAX_SIZE = 1 << 29
"""Bytes of a tar, decompressed, beyond which nothing is read of it."""

PLAIN_FILE = (tarfile.REGTYPE, tarfile.AREGTYPE)
"""Types of members that are files: no link, folder, device, sparse file or further header."""

_CHUNK = 1 << 18
_TIME_OF_HEADER = 1 << 12  # in bytes that are read as fast


def read_members(file: BufferedIOBase) -> Iterator[tuple[tarfile.TarInfo, Iterator[bytes]]]:
    """Yield each header of a tar and the bytes after it; read those before asking for the next.

    Raises `tarfile.ReadError` if it is cut off, too large or no tar.
    """
    left = MAX_SIZE
    while (block := file.read(tarfile.BLOCKSIZE)) != bytes(tarfile.BLOCKSIZE):
        if len(block) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it is cut off")
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except Exception as error:
            raise tarfile.ReadError(f"it is no plain tar ({error})") from error
        left -= _TIME_OF_HEADER + header.size
        if header.size < 0 or left < 0:
            raise tarfile.ReadError(f"{header.name!r} in it has a size of {header.size:,} bytes")
        chunks = _chunks(file, header.size)
        yield header, chunks
        for _ in chunks:
            pass  # what was not read of it
        file.read(-header.size % tarfile.BLOCKSIZE)
    while left > 0 and (rest := file.read(_CHUNK)):  # a compressed file ends in its checksum
        left -= len(rest)


def _chunks(file: BufferedIOBase, size: int) -> Iterator[bytes]:
    while size:
        chunk = file.read(min(size, _CHUNK))
        if not chunk:
            raise tarfile.ReadError("it is cut off")
        size -= len(chunk)
        yield chunk
