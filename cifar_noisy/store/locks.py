"""Locks on files that are being fetched or packed, so that many processes do that work once.

A lock only saves work here; no file is right because of one. File systems of clusters grant locks
to everyone or to nobody, and a stopped process may hold one for long. So a lock that cannot be had
is done without, after `LOCK_SECONDS` at most.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_noisy.store.files import partial_files

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK_SECONDS = 60.0
"""How long to wait for a process that holds a lock while nothing of its file arrives."""


@dataclass
class LockTimeout:
    """How long to wait for locks that others hold; after one timeout, there is no more waiting."""

    seconds: float = field(default_factory=lambda: LOCK_SECONDS)


@contextlib.contextmanager
def locked(target: Path, timeout: LockTimeout, *others: Path) -> Iterator[None]:
    """Hold the lock on `target`, or go on without it where it cannot be had in time.

    Waiting goes on as long as `target` grows, or one of the `others` that its holder writes too.
    """
    import filelock

    lock = filelock.FileLock(lock_path(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, (target, *others), timeout)
    except filelock.Timeout:
        timeout.seconds = 0
    except (OSError, NotImplementedError):
        pass  # a folder that cannot be written, a file system without locks
    try:
        yield
    finally:
        if lock.is_locked:
            # Whoever waits for the removed lock gets it, finds the target there, and is done.
            with contextlib.suppress(OSError):
                lock_path(target).unlink()
            lock.release()


def lock_path(target: Path) -> Path:
    """Return the lock file of a target."""
    return target.with_name(f".{target.name}.lock")


def is_unheld(lock: Path) -> bool:
    """Whether a lock file is there and no process holds it."""
    import filelock

    with contextlib.suppress(filelock.Timeout, OSError, NotImplementedError):
        if lock.is_file() and not lock.is_symlink():
            with filelock.FileLock(lock, timeout=0):
                return True
    return False


def _acquire(lock: "BaseFileLock", targets: Sequence[Path], timeout: LockTimeout) -> None:
    import filelock

    n_before, deadline = _bytes_arrived(targets), time.monotonic() + timeout.seconds
    while not lock.is_locked:
        try:
            lock.acquire(timeout=min(1, timeout.seconds))
        except filelock.Timeout:
            n_bytes = _bytes_arrived(targets)
            if n_bytes != n_before:
                n_before, deadline = n_bytes, time.monotonic() + timeout.seconds
            elif time.monotonic() >= deadline:
                raise


def _bytes_arrived(targets: Sequence[Path]) -> int:
    """Return how much of the targets lies in parts: grows while some process writes them."""
    return sum(status.st_size for target in targets for _, status in partial_files(target))
