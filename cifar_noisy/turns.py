"""Taking turns at fetching a file, so that many processes fetch it once.

A lock only saves work here; no file is right because of one. File systems of clusters grant locks
to everyone or to nobody, and a dead machine may hold one for long. So a lock that cannot be had is
done without, after `LOCK_SECONDS` at most.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK_SECONDS = 60.0
"""How long to wait for a process that holds a lock while nothing of its file arrives."""

_LOCK = re.compile(r"\..+\.lock")


@dataclass
class Patience:
    """How long to wait for locks that others hold; one that was waited for in vain ends it."""

    seconds: float = field(default_factory=lambda: LOCK_SECONDS)


@contextlib.contextmanager
def turn(target: Path, patience: Patience) -> Iterator[None]:
    """Wait until no other process fetches `target`, or until waiting has been in vain."""
    import filelock

    path = target.with_name(f".{target.name}.lock")
    lock = filelock.FileLock(path)
    with contextlib.ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _wait(lock, target, patience)
        except filelock.Timeout:
            patience.seconds = 0
        except (OSError, NotImplementedError):
            pass  # a folder that cannot be written, a file system without locks
        else:
            held.callback(lock.release)
            # Whoever waits for the removed lock gets it, finds the target there, and is done.
            held.callback(_remove, path)
        yield


def unheld_locks(folder: Path) -> Iterator[Path]:
    """Yield the lock files in a folder and those below that no process holds."""
    import filelock

    for path in folder.rglob(".*.lock"):
        if _LOCK.fullmatch(path.name):
            with (
                contextlib.suppress(filelock.Timeout, OSError, NotImplementedError),
                filelock.FileLock(path, timeout=0),
            ):
                yield path


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _wait(lock: "BaseFileLock", target: Path, patience: Patience) -> None:
    import filelock

    seen, deadline = _bytes_arrived(target), time.monotonic() + patience.seconds
    while True:
        try:
            lock.acquire(timeout=min(1, patience.seconds))
        except filelock.Timeout:
            arrived = _bytes_arrived(target)
            if arrived != seen:
                seen, deadline = arrived, time.monotonic() + patience.seconds
            elif time.monotonic() >= deadline:
                raise
        else:
            return


def _bytes_arrived(target: Path) -> int:
    """Return how much of the target lies in parts: grows while some process fetches it."""
    total = 0
    for part in target.parent.glob(f".{target.name}.*.part"):
        with contextlib.suppress(OSError):
            total += part.stat().st_size
    return total
