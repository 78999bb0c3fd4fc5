"""Pickles of plain data and arrays of numbers, followed step by step and never executed.

`pickle` hands states from the file to classes that trust them, numpy's among them, and takes as
much memory as an index in the file asks for. Here a step makes one small object or the text that
stands in the file, and names of classes and functions are only compared.
"""

import itertools
import math
import pickletools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINBYTES", "SHORT_BINBYTES", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TAKEN_BY = {"APPEND": 1, "BINPERSID": 1, "BUILD": 1, "REDUCE": 2, "SETITEM": 2, "STACK_GLOBAL": 2}
_TAKEN_BY |= {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}  # items from the top of the stack
_TAKE_TO_MARK = {"APPENDS", "DICT", "LIST", "SETITEMS", "TUPLE"}
NAMES = frozenset(
    (
        *("_codecs encode", "numpy dtype", "numpy ndarray"),
        *("numpy.core.multiarray _reconstruct", "numpy.core.numeric _frombuffer"),
    )
)
"""What a pickle of arrays names; those of ``numpy._core`` count as these."""

NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_MAX_DIMENSIONS = 8


@dataclass
class Number:
    """Stands for a dtype, which a pickle makes first and tells the byte order afterwards."""

    code: str
    byte_order: str = "|"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of numpy."""
        return np.dtype(self.byte_order + self.code)


@dataclass
class Array:
    """Stands for an array; text stands for its latin-1 bytes, as in protocol 2."""

    number: Number | None = None
    shape: Any = None
    content: str | bytes | bytearray = b""
    is_fortran: Any = False

    def decoded(self, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
        """Return the array, which must have this shape, if one is given."""
        if self.number is None:
            raise UnpicklingError("it has an array without numbers")
        if shape is not None and self.shape != shape:
            raise UnpicklingError(f"it has an array of another shape than {shape}")
        dtype, sizes = self.number.dtype, checked_shape(self.shape, len(self.content))
        if math.prod(sizes) * dtype.itemsize != len(self.content):
            raise UnpicklingError("it has an array whose shape is not that of its bytes")
        text = self.content
        values = np.frombuffer(text.encode("latin-1") if isinstance(text, str) else text, dtype)
        return values.reshape(sizes, order="F" if self.is_fortran else "C")


def checked_shape(shape: object, most: int) -> tuple[int, ...]:
    """Return what a file has as a shape if it is a short tuple of numbers from 0 to `most`."""
    if (
        isinstance(shape, tuple)
        and len(shape) <= _MAX_DIMENSIONS
        and all(type(size) is int and 0 <= size <= most for size in shape)
    ):
        return shape
    raise UnpicklingError("it has an array whose shape is not that of its bytes")


def call(function: object, arguments: object, codes: Collection[str] = NUMBERS) -> object:
    """Return what stands for a call as arrays of these dtypes need it; refuse others."""
    match function, arguments:
        case "_codecs encode", (str() as text, "latin1"):
            return text
        case "numpy dtype", (str() as code, 0, 1) if code in codes:
            return Number(code)
        case "numpy.core.multiarray _reconstruct", ("numpy ndarray", (0,), "b" | b"b"):
            return Array()
        case "numpy.core.numeric _frombuffer", (
            bytes() | bytearray() as content, Number() as number, shape, "C" | "F" as order
        ):  # fmt: skip
            return Array(number, shape, content, order == "F")
    name = function if function in list(NAMES) else "a value"
    raise UnpicklingError(f"the pickle calls {name} as no array of numbers does")


def refuse_persistent(_: object) -> object:
    """Raise: plain data has nothing outside the pickle."""
    raise UnpicklingError("the pickle refers to something outside of it, as plain data never does")


def unpickle(
    pickled: bytes,
    max_steps: int,
    *,
    names: Collection[str] = NAMES,
    call: Callable[[object, object], object] = call,
    persistent_load: Callable[[object], object] = refuse_persistent,
) -> Any:
    """Return the lists, tuples, dictionaries by name, numbers, texts and `Array` of a pickle.

    `names` are the classes and functions that it may name, and stay texts. `call` returns what
    stands for a call of one of them, `persistent_load` what stands for something outside of it.

    Raises an `Exception` of any kind if it has anything else, takes more steps or is damaged.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in itertools.islice(pickletools.genops(pickled), max_steps):
        code, items = opcode.name, []
        if code in _TAKEN_BY or code in _TAKE_TO_MARK:
            start = marks.pop() if code in _TAKE_TO_MARK else -_TAKEN_BY[code]
            items = stack[start:]
            del stack[start:]
        match code:
            case "STOP":
                return stack[-1]
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                marks.append(len(stack))
            case "PUT" | "BINPUT" | "LONG_BINPUT" if 0 <= argument <= max_steps:
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "EMPTY_LIST" | "LIST":
                stack.append(items)
            case "APPEND" | "APPENDS":
                stack[-1].extend(items)
            case "EMPTY_DICT" | "DICT":
                stack.append(_dict(items))
            case "SETITEM" | "SETITEMS":
                stack[-1].update(_dict(items))
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(items))
            case "GLOBAL" | "STACK_GLOBAL":
                name = (argument or " ".join(items)).replace("numpy._core.", "numpy.core.")
                if name not in names:
                    raise UnpicklingError(f"the pickle asks for {name[:100]}, as data never does")
                stack.append(name)
            case "REDUCE":
                stack.append(call(*items))
            case "BINPERSID":
                stack.append(persistent_load(*items))
            case "BUILD":
                _set_state(stack[-1], *items)
            case _ if code in _VALUES:
                stack.append(argument)
            case _ if code in _CONSTANTS:
                stack.append(_CONSTANTS[code])
            case _:
                raise UnpicklingError(f"the pickle has a step {code}, which data never has")
    raise UnpicklingError(f"the pickle has more than {max_steps:,} steps")


def _dict(items: list[Any]) -> dict[str, Any]:
    """Pair names and values; keys of other types could be chosen to collide."""
    if not all(type(name) is str for name in items[::2]):
        raise UnpicklingError("the pickle has a dictionary with keys that are no text")
    return dict(zip(items[::2], items[1::2], strict=True))


def _set_state(target: object, state: object) -> None:
    match target, state:
        case Number(), (3, "<" | ">" | "|" as order, None, None, None, -1, -1, 0) if (
            order == "|"
        ) == target.code.endswith("1"):
            target.byte_order = order
        case Array(), (1, shape, Number() as number, 0 | 1 as is_fortran, str() | bytes() as text):
            target.number, target.shape = number, shape
            target.content, target.is_fortran = text, is_fortran
        case _:
            raise UnpicklingError("the pickle has a state that no array of numbers has")
