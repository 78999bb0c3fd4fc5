"""The state of a training under way: the last one and, should that be damaged, the one before."""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from cifar_noisy.errors import RecomputeError
from cifar_noisy.store.files import storage_errors
from cifar_noisy.store.sealed import read_sealed, write_sealed


def save_checkpoint(paths: tuple[Path, Path], state: dict[str, Any]) -> None:
    """Write tensors and plain values to the first path; what was there goes to the second."""
    last, before = paths
    buffer = io.BytesIO()
    torch.save(state, buffer)
    if read_sealed(last) is not None:  # a damaged one does not take the place of a right one
        with contextlib.suppress(OSError):
            last.replace(before)
    write_sealed(last, [buffer.getbuffer()])


def load_checkpoint(paths: tuple[Path, Path], task_id: str) -> dict[str, Any] | None:
    """Read the task's last state, else the one before; None if there is neither."""
    for path in paths:
        content = read_sealed(path)
        # Whatever a file that was sealed by hand leads to.
        with contextlib.suppress(Exception):
            if content is not None:
                state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
                if state["task"] == task_id:
                    return dict(state)
    return None


@contextlib.contextmanager
def only_one(folder: Path, what: str) -> Iterator[None]:
    """Let one process of this machine work in a folder; the lock ends with the process.

    Raises
    ------
    RecomputeError
        If another is at work.
    """
    with storage_errors(folder, "name another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        # For reading too, since opening a pipe for writing alone would wait.
        file = os.fdopen(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecomputeError(
                f"{what} is being run by another process: wait for it, or run another task"
            ) from None
        except (ImportError, OSError):
            pass  # no locks here: two processes would only do the same work twice
        yield
