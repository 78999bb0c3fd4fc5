"""Open ``.npy`` files of the user."""

import io
import math
from os import PathLike
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import InvalidInputError, MissingInputError
from cifar_noisy.store.files import open_regular, reason

_MAX_HEADER = 1 << 13


def open_npy(path: str | PathLike[str]) -> NDArray[Any]:
    """Map the array of an ``.npy`` file, read-only; nothing is unpickled.

    Its bytes are read when they are used, so a file that is too large costs nothing.
    """
    try:
        opened = open_regular(path)
    except FileNotFoundError:
        raise MissingInputError(f"{path} does not exist: name an .npy file") from None
    with opened as file:
        if file.peek().startswith(b"PK"):
            raise InvalidInputError(f"{path} is an archive of arrays: write one by numpy.save")
        try:
            return _map(file)
        except OSError:
            raise
        except Exception as error:
            raise InvalidInputError(
                f"{path} is no .npy file of numbers, or not a whole one ({reason(error)}): write "
                "it by numpy.save"
            ) from error


def _map(file: IO[bytes]) -> NDArray[Any]:
    header = io.BytesIO(file.read(_MAX_HEADER))
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, is_fortran, dtype = read[np.lib.format.read_magic(header)](header)
    offset, n_bytes = header.tell(), math.prod(shape) * dtype.itemsize
    if dtype.kind not in "biufc":
        raise ValueError("its elements are no numbers")
    if min(shape, default=0) < 0 or offset + n_bytes > file.seek(0, 2):
        raise ValueError("its shape is not that of its bytes")
    order: Literal["C", "F"] = "F" if is_fortran else "C"
    try:
        return np.memmap(file, dtype, "r", offset, shape, order)
    except OSError:  # a file system that maps no files
        file.seek(offset)
        return np.ndarray(shape, dtype, file.read(n_bytes), order=order)
