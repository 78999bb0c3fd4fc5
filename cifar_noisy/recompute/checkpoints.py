"""Checkpoints of a training under way: the last one and, in case it is damaged, the one before."""

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


class BusyError(RecomputeError):
    """Another process of this machine works on a task."""


def save_checkpoint(paths: tuple[Path, Path], state: dict[str, Any]) -> None:
    """Write tensors and plain values to the first path; its old content goes to the second."""
    last, before = paths
    buffer = io.BytesIO()
    torch.save(state, buffer)
    if read_sealed(last) is not None:  # a damaged one does not replace a good one
        with contextlib.suppress(OSError):
            last.replace(before)
    write_sealed(last, [buffer.getbuffer()])


def load_checkpoint(paths: tuple[Path, Path], task_id: str) -> dict[str, Any] | None:
    """Read the task's last checkpoint, or the one before; None if there is neither."""
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
def exclusive_lock(folder: Path, task_id: str) -> Iterator[None]:
    """Raise BusyError if another process of this machine works in the folder of a task.

    The lock ends with the process.
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
            raise BusyError(
                f"{task_id} is being run by another process: wait for it, or run another task"
            ) from None
        except (ImportError, OSError):
            pass  # no locks here: two processes would only do the same work twice
        yield
