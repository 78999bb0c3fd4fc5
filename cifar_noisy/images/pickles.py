"""Pickles of plain data and arrays of uint8, followed step by step and never executed.

`pickle` hands states from the file to classes that trust them, numpy's among them, and takes as
much memory as an index in the file asks for. Here a step makes one small object or the text that
stands in the file, and names of classes and functions are only compared.
"""

import itertools
import pickletools
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
_TAKEN_BY = {"APPEND": 1, "BUILD": 1, "REDUCE": 2, "SETITEM": 2, "STACK_GLOBAL": 2}
_TAKEN_BY |= {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}  # items from the top of the stack
_TAKE_TO_MARK = {"APPENDS", "DICT", "LIST", "SETITEMS", "TUPLE"}
_NAMES = {"_codecs encode", "numpy dtype", "numpy ndarray"}
_NAMES |= {"numpy.core.multiarray _reconstruct", "numpy.core.numeric _frombuffer"}


@dataclass
class Bytes:
    """Stands for an array of uint8; text stands for its latin-1 bytes, as in protocol 2."""

    shape: Any = None
    content: str | bytes | bytearray = b""
    is_fortran: Any = False

    def array(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the array, which must have this shape."""
        if self.shape != shape or len(self.content) != np.prod(shape):
            raise UnpicklingError(f"it has an array of another shape than {shape}")
        text = self.content
        values = np.frombuffer(text.encode("latin-1") if isinstance(text, str) else text, np.uint8)
        return values.reshape(shape, order="F" if self.is_fortran else "C")


def unpickle(pickled: bytes, max_steps: int) -> Any:
    """Return the lists, tuples, dictionaries by name, numbers, texts and `Bytes` of a pickle.

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
                if name not in _NAMES:
                    raise UnpicklingError(f"the pickle asks for {name[:100]}, as data never does")
                stack.append(name)
            case "REDUCE":
                stack.append(_called(*items))
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


def _called(function: object, arguments: object) -> object:
    match function, arguments:
        case "_codecs encode", (str() as text, "latin1"):
            return text
        case "numpy dtype", ("u1", 0, 1):
            return np.uint8
        case "numpy.core.multiarray _reconstruct", ("numpy ndarray", (0,), "b" | b"b"):
            return Bytes()
        case "numpy.core.numeric _frombuffer", (
            bytes() | bytearray() as content, np.uint8, shape, "C" | "F" as order
        ):  # fmt: skip
            return Bytes(shape, content, order == "F")
    name = function if function in list(_NAMES) else "a value"
    raise UnpicklingError(f"the pickle calls {name} as no array of uint8 does")


def _set_state(target: object, state: object) -> None:
    match target, state:
        case np.uint8, (3, "|", None, None, None, -1, -1, 0):
            pass
        case Bytes(), (1, shape, np.uint8, 0 | 1 as is_fortran, str() | bytes() as content):
            target.shape, target.content, target.is_fortran = shape, content, is_fortran
        case _:
            raise UnpicklingError("the pickle has a state that no array of uint8 has")
