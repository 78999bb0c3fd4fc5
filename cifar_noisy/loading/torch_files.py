"""Arrays from files of `torch.save`, without torch and without unpickling.

Such a file is a zip with a pickle, ``<name>/data.pkl``, which names the bytes of each tensor,
``<name>/data/<key>``. Arrays of numpy are in the pickle itself.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import InvalidInputError, MissingInputError, printable
from cifar_noisy.loading.pickles import NAMES, Array, call, checked_shape, unpickle
from cifar_noisy.store.files import open_regular, reason

MAX_BYTES = 1 << 24
"""Bytes of a file, and of all that it unpacks to, beyond which it is refused."""

_MAX_STEPS = 200_000  # a list of 50,000 numbers takes as many
_MAX_MEMBERS = 1000
_MEMBER = b"PK\x01\x02"  # begins each entry of a zip's list
_BEFORE_ZIPS = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number of torch before 1.6
_STORAGES = {
    "BoolStorage": "b1", "ByteStorage": "u1", "CharStorage": "i1", "ShortStorage": "i2",
    "IntStorage": "i4", "LongStorage": "i8", "HalfStorage": "f2", "FloatStorage": "f4",
    "DoubleStorage": "f8",
}  # fmt: skip
_REBUILD = "torch._utils _rebuild_tensor_v2"
_DICT = "collections OrderedDict"
_NAMES = NAMES | {_REBUILD, _DICT} | {f"torch {name}" for name in _STORAGES}


def read_torch_file(file: str | os.PathLike[str] | bytes) -> dict[str, NDArray[Any]] | NDArray[Any]:
    """Read the arrays of a file of `torch.save`: one, or a dictionary of them by name.

    Arrays may be numpy's, tensors, or lists of whole numbers; a single number is an array without
    dimensions. Nothing that the file names is called.

    Parameters
    ----------
    file : path or bytes
        The file, or its content.

    Returns
    -------
    array, or dict of str to array
        Some of them read-only.

    Raises
    ------
    InvalidInputError
        If it is no such file, is damaged, has anything else in it, or unpacks to over 16 MiB.
    MissingInputError
        If it does not exist.
    """
    what = "the file" if isinstance(file, bytes) else os.fspath(file)
    content = file if isinstance(file, bytes) else read_bounded(file, MAX_BYTES)
    if content.startswith(_BEFORE_ZIPS):
        raise InvalidInputError(
            f"{what} is in the format of torch before 1.6: torch.load it and torch.save it again"
        )
    try:
        return _Archive(content).read()
    except Exception as error:
        problem = printable(reason(error), 200)
        raise InvalidInputError(
            f"{what} is no file of torch.save with plain arrays ({problem}): save numpy arrays or "
            "tensors, alone or in a dictionary by name"
        ) from error


def is_torch_file(content: bytes) -> bool:
    """Whether a file begins as those of `torch.save` do; other zips do so too."""
    return content.startswith((b"PK", _BEFORE_ZIPS))


def read_bounded(file: str | os.PathLike[str], most: int) -> bytes:
    """Return the content of a regular file of `most` bytes at most."""
    try:
        with open_regular(file) as opened:
            size = os.fstat(opened.fileno()).st_size
            content = opened.read(min(size, most) + 1)  # which takes as much memory, filled or not
    except FileNotFoundError:
        raise MissingInputError(f"{os.fspath(file)} does not exist: name a file") from None
    except (OSError, ValueError) as error:  # a path may have a zero byte
        raise InvalidInputError(
            f"{printable(file)} cannot be read ({reason(error)}): name a file"
        ) from error
    if len(content) > most:
        raise InvalidInputError(
            f"{os.fspath(file)} has more than {most >> 20} MiB, too many for labels: name another"
        )
    return content


@dataclass
class _Storage:
    """Stands for the numbers of one or several tensors."""

    numbers: NDArray[Any]


class _Archive:
    """The zip; each member is unpacked once, all of them together to `MAX_BYTES` at most."""

    def __init__(self, content: bytes) -> None:
        # zipfile makes an object of each member before it can be asked how many there are.
        if content.count(_MEMBER) > _MAX_MEMBERS:
            raise zipfile.BadZipFile("it has too many members")
        self.zip = zipfile.ZipFile(io.BytesIO(content))
        pickles = [name for name in self.zip.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(pickles) != 1:
            raise zipfile.BadZipFile("it is a zip without one data.pkl")
        self.folder = pickles[0].removesuffix("data.pkl")
        self.storages: dict[tuple[str, str], _Storage] = {}
        self.n_left = MAX_BYTES

    def read(self) -> dict[str, NDArray[Any]] | NDArray[Any]:
        order = self.member("byteorder") if self.has("byteorder") else b"little"
        self.byte_order = {b"little": "<", b"big": ">"}[order]
        found = unpickle(
            self.member("data.pkl"),
            _MAX_STEPS,
            names=_NAMES,
            call=_call,
            persistent_load=self.storage,
        )
        if isinstance(found, dict):
            if len(found) > _MAX_MEMBERS:
                raise UnpicklingError("it has too many names")
            return {name: self.array(value) for name, value in found.items()}
        return self.array(found)

    def has(self, name: str) -> bool:
        return self.folder + name in self.zip.NameToInfo

    def member(self, name: str) -> bytes:
        member = self.zip.getinfo(self.folder + name)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile("it is compressed in a way that torch never does")
        with self.zip.open(member) as opened:
            content = opened.read(self.n_left + 1)
        self.count(len(content))
        return content

    def count(self, n_bytes: int) -> None:
        self.n_left -= n_bytes
        if self.n_left < 0:
            raise UnpicklingError(f"it unpacks to more than {MAX_BYTES >> 20} MiB")

    def storage(self, place: object) -> _Storage:
        match place:
            case ("storage", str() as kind, str() as key, str(), int() as n_numbers):
                code = _STORAGES[kind.removeprefix("torch ")]
            case _:
                raise UnpicklingError("it refers to something that is no storage of numbers")
        if (kind, key) not in self.storages:
            numbers = np.frombuffer(self.member(f"data/{key}"), self.byte_order + code)
            if len(numbers) != n_numbers:
                raise UnpicklingError("it has a storage of another size than it says")
            self.storages[kind, key] = _Storage(numbers)
        return self.storages[kind, key]

    def array(self, value: object) -> NDArray[Any]:
        """Return what was in the pickle as an array."""
        if isinstance(value, np.ndarray):
            return value
        if isinstance(value, Array):
            self.count(len(value.content))  # one that is named often is decoded often
            return value.decoded()
        if type(value) in (int, float, bool) or (
            isinstance(value, list) and all(type(number) is int for number in value)
        ):
            self.count(8 * len(value) if isinstance(value, list) else 8)
            array = np.asarray(value)
            if array.dtype.kind in "biuf":
                return array
        raise UnpicklingError(f"it has a {type(value).__name__}, which is no array of numbers")


def _call(function: object, arguments: object) -> object:
    match function, arguments:
        case "collections OrderedDict", ():
            return {}
        case "torch._utils _rebuild_tensor_v2", (
            _Storage(numbers), int() as offset, shape, strides, bool(), dict(), *_
        ):  # fmt: skip
            return _view(numbers, offset, shape, strides)
    return call(function, arguments)


def _view(numbers: NDArray[Any], offset: int, shape: object, strides: object) -> NDArray[Any]:
    """Return the tensor in a storage, which has as many numbers at least."""
    shape, strides = checked_shape(shape, len(numbers)), checked_shape(strides, len(numbers))
    n_before = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    has_numbers = all(shape)
    if (
        not 0 <= offset <= len(numbers)
        or np.prod(shape, dtype=object) > len(numbers)
        or (has_numbers and offset + n_before >= len(numbers))
    ):
        raise UnpicklingError("it has a tensor that does not lie in its storage")
    in_bytes = tuple(stride * numbers.itemsize for stride in strides)
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, in_bytes, writeable=False)
