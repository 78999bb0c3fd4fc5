"""An array file of the caller's."""

import zipfile
from os import PathLike
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import InvalidInputError, MissingInputError


def read_array(path: str | PathLike[str]) -> NDArray[Any]:
    """Map the array of an ``.npy`` file; nothing is unpickled.

    Returns
    -------
    array
        Read-only; its bytes are read when they are used, so a file that is too large costs nothing.

    Raises
    ------
    InvalidInputError
        If the file is no ``.npy`` file of numbers.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.zeros(3))
    ...     read_array(file.name).shape
    (3,)
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise MissingInputError(f"{path} does not exist: name an .npy file") from None
    except (ValueError, EOFError, SyntaxError, TokenError, zipfile.BadZipFile) as error:
        raise InvalidInputError(
            f"{path} is no .npy file of numbers, or not a whole one: write it by numpy.save"
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise InvalidInputError(f"{path} is an archive of arrays: write one by numpy.save")
    return array
