"""Files that are, whenever one looks or kills, absent, as they were, or complete.

Whatever is being written lies beside its target under a name that tells machine and process, and is
renamed when it is complete. So any number of processes may write the same file, with or without a
lock, and whoever comes later sees whose a leftover was: that of a dead process is continued by the
next one that wants the file, or removed by ``cifar-noisy cache prune``.

Nothing is flushed to the disk before the rename. What a power failure garbles no longer has its
checksum, and is fetched again.
"""

import contextlib
import functools
import os
import platform
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

WORTH_KEEPING = 1 << 16
"""Bytes from which the beginning of a file is worth another request for the rest."""

SECONDS_UNTIL_ABANDONED = 24 * 3600
"""After this long without a write, a leftover of another machine counts as a dead process's."""

_NOBODY = 0
_PART = re.compile(r"\.(?P<name>.+)\.(?P<machine>[\w-]+)\.(?P<pid>\d+)\.[0-9a-f]{8}\.part")


def write_atomically(path: Path, content: bytes | bytearray | memoryview) -> None:
    """Write a file that is, whenever one looks or kills, absent, as it was, or complete.

    Raises
    ------
    OSError
        If it cannot be written; nothing of it is left then.
    """
    with whole(path) as file:
        file.write(content)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that is renamed to `path` when the block ends without an error.

    Raises
    ------
    OSError
        If it cannot be written; nothing of it is left then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of this process's own, so that others may write the same file at the same time.
    part = _part(path, os.getpid())
    try:
        with part.open("xb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def continued(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that is renamed to `path` when the block ends without an error.

    It begins with what a dead process had written of it, if any. After an error, a beginning worth
    keeping is left for the next process; after an `OSError`, such as a full disk, only what there
    was before.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path, os.getpid())
    _claim_leftover(path, part)
    file = part.open("a+b")
    n_before = part.stat().st_size
    try:
        yield file
        file.close()
        part.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            file.close()
        _leave(part, path, n_before if isinstance(error, OSError) else part.stat().st_size)
        raise
    finally:
        part.unlink(missing_ok=True)
    for leftover in _abandoned_parts_of(path):
        leftover.unlink(missing_ok=True)


def _leave(part: Path, path: Path, size: int) -> None:
    """Give the first bytes of a part to whoever wants `path` next, if there are enough of them."""
    if size >= WORTH_KEEPING:
        os.truncate(part, size)
        part.rename(_part(path, _NOBODY))


def abandoned_parts(folder: Path) -> Iterator[Path]:
    """Yield what dead processes left unfinished in a folder and those below.

    A process of this machine is dead if it does not run. Whether one of another machine does cannot
    be seen from here; its leftovers count as abandoned a day after they were last written.
    """
    for path in folder.rglob(".*.part"):
        if _is_abandoned(path):
            yield path


def _part(path: Path, pid: int) -> Path:
    return path.with_name(f".{path.name}.{_machine()}.{pid}.{secrets.token_hex(4)}.part")


@functools.cache
def _machine() -> str:
    """Return a name of this machine; containers count process ids on their own, so each is one."""
    name = re.sub(r"[^\w-]", "-", platform.node())
    try:
        return f"{name}-{Path('/proc/self/ns/pid').stat().st_ino:x}"
    except OSError:
        return name


def _claim_leftover(path: Path, part: Path) -> None:
    """Rename the largest leftover of a dead process to `part`, if there is one."""
    leftovers = sorted(_abandoned_parts_of(path), key=_size, reverse=True)
    for leftover in leftovers:
        # Another process may claim it first: a rename succeeds for one of them.
        with contextlib.suppress(OSError):
            leftover.rename(part)
            return


def _abandoned_parts_of(path: Path) -> Iterator[Path]:
    for sibling in path.parent.iterdir():
        match = _PART.fullmatch(sibling.name)
        if match and match["name"] == path.name and _is_abandoned(sibling):
            yield sibling


def _is_abandoned(path: Path) -> bool:
    match = _PART.fullmatch(path.name)
    if match is None:
        return False
    pid = int(match["pid"])
    if pid == _NOBODY:
        return True
    # On Windows os.kill would end the process instead of asking for it.
    if match["machine"] == _machine() and os.name == "posix":
        return not _runs(pid)
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime > SECONDS_UNTIL_ABANDONED
    return False


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it runs under another user
    return True


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0
