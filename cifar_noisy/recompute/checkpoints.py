"""Files that are there whole or not at all, whatever kills the process that writes them."""

import contextlib
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from cifar_noisy.errors import RecomputeError, StorageError
from cifar_noisy.files import write_atomically


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole, and flush it to the disk: a checkpoint has no checksum to be fetched by.

    Raises
    ------
    StorageError
        If it cannot be written; what was at `path` is still there.
    """
    try:
        write_atomically(path, content, durable=True)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror}): make room or name another folder, and "
            "run again; what was saved before is kept"
        ) from error


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values whole.

    Raises
    ------
    StorageError
        If they cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: Path, configuration: str) -> dict[str, Any] | None:
    """Read what `save_checkpoint` wrote; None if there is nothing.

    Raises
    ------
    RecomputeError
        If it is damaged or of another configuration.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        written = state["configuration"]
    except FileNotFoundError:
        return None
    # torch reports a damaged file by whichever of these its reader meets first.
    except (
        RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError,
    ) as error:  # fmt: skip
        raise damaged(path, error) from error
    if written != configuration:
        raise RecomputeError(
            f"{path} is of another configuration ({written[:12]}, not {configuration[:12]}): "
            "name another folder"
        )
    return state


def damaged(path: Path, error: Exception) -> RecomputeError:
    """Return the error to raise on a file of a training that cannot be read."""
    return RecomputeError(
        f"{path} is damaged ({type(error).__name__}): remove it, and that task starts again"
    )


@contextlib.contextmanager
def only_one(folder: Path, what: str) -> Iterator[None]:
    """Let one process of this machine work in a folder; the lock ends with the process.

    Raises
    ------
    RecomputeError
        If another is at work.
    StorageError
        If the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a")
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written ({error.strerror}): name another folder"
        ) from error
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
