"""Pickles of plain data and arrays of bytes, read without an unpickler.

`pickle` hands states from the file to classes that trust them, numpy's among them, and takes as
much memory as an index in the file asks for. Here each step makes one small object, or the text
that stands in the file, and the caller says how many steps there may be. Classes and functions are
compared by name and never looked up.
"""

import itertools
import pickletools
from dataclasses import dataclass, field
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINBYTES", "SHORT_BINBYTES", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": -1, "TUPLE2": -2, "TUPLE3": -3}
_NAMES = {
    "_codecs encode": "encode",
    "numpy dtype": "dtype",
    "numpy ndarray": "ndarray",
    "numpy.core.multiarray _reconstruct": "reconstruct",
    "numpy._core.multiarray _reconstruct": "reconstruct",
    "numpy.core.numeric _frombuffer": "frombuffer",
    "numpy._core.numeric _frombuffer": "frombuffer",
}


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
        content = self.content
        content = content.encode("latin-1") if isinstance(content, str) else content
        return np.frombuffer(content, np.uint8).reshape(
            shape, order="F" if self.is_fortran else "C"
        )


def unpickle(content: bytes, max_steps: int) -> Any:
    """Return what a pickle of lists, tuples, dictionaries by name, numbers and text has.

    Arrays of uint8 come as `Bytes`.

    Raises
    ------
    UnpicklingError
        If it has anything else or takes more steps.
    Exception
        Of any kind, if it is damaged.

    Examples
    --------
    >>> import pickle
    >>> unpickle(pickle.dumps({"labels": [6, 9]}), max_steps=20)
    {'labels': [6, 9]}
    """
    state = _State(max_steps)
    for code, argument, _ in itertools.islice(pickletools.genops(content), max_steps):
        if code.name == "STOP":
            return state.stack[-1]
        state.step(code.name, argument)
    raise UnpicklingError(f"the pickle has more than {max_steps:,} steps")


@dataclass
class _State:
    max_steps: int
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, code: str, argument: Any) -> None:
        stack = self.stack
        if code in _VALUES:
            stack.append(argument)
            return
        match code:
            case "PUT" | "BINPUT" | "LONG_BINPUT" if 0 <= argument <= self.max_steps:
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "MARK":
                self.marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                stack.append(_CONSTANTS[code])
            case "TUPLE" | "LIST":
                items = self._popped(self.marks.pop())
                stack.append(tuple(items) if code == "TUPLE" else items)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._popped(_TUPLES[code])))
            case "EMPTY_LIST":
                stack.append([])
            case "APPEND" | "APPENDS":
                items = self._popped(-1 if code == "APPEND" else self.marks.pop())
                stack[-1].extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                stack.append(_dict(self._popped(self.marks.pop())))
            case "SETITEM" | "SETITEMS":
                items = self._popped(-2 if code == "SETITEM" else self.marks.pop())
                stack[-1].update(_dict(items))
            case "GLOBAL":
                stack.append(_known(argument))
            case "STACK_GLOBAL":
                stack.append(_known(" ".join(self._popped(-2))))
            case "REDUCE":
                stack.append(_called(*self._popped(-2)))
            case "BUILD":
                _set_state(stack[-2], stack.pop())
            case "PROTO" | "FRAME":
                pass
            case _:
                raise UnpicklingError(f"the pickle has a step {code}, which data never has")

    def _popped(self, start: int) -> list[Any]:
        items = self.stack[start:]
        del self.stack[start:]
        return items


def _dict(items: list[Any]) -> dict[str, Any]:
    """Pair names and values; other keys could be chosen to collide."""
    names = items[::2]
    if not all(type(name) is str for name in names):
        raise UnpicklingError("the pickle has a dictionary with keys that are no text")
    return dict(zip(names, items[1::2], strict=True))


def _known(name: str) -> str:
    if name not in _NAMES:
        raise UnpicklingError(f"the pickle asks for {name[:100]}, which data never does")
    return _NAMES[name]


def _called(function: object, arguments: object) -> object:
    """Do what a pickled array of uint8 calls a function for."""
    match function, arguments:
        case "encode", (str() as text, "latin1"):
            return text
        case "dtype", ("u1", 0, 1):
            return np.uint8
        case "reconstruct", ("ndarray", (0,), "b" | b"b"):
            return Bytes()
        case "frombuffer", (
            (bytes() | bytearray()) as content,
            np.uint8,
            shape,
            "C" | "F" as order,
        ):
            return Bytes(shape, content, order == "F")
    name = function if function in _NAMES.values() else "a value"
    raise UnpicklingError(f"the pickle calls {name} as no array of uint8 does")


def _set_state(target: object, state: object) -> None:
    match target, state:
        case np.uint8, (3, "|", None, None, None, -1, -1, 0):
            pass
        case Bytes(), (1, shape, np.uint8, 0 | 1 as is_fortran, (str() | bytes()) as content):
            target.shape, target.is_fortran, target.content = shape, is_fortran, content
        case _:
            raise UnpicklingError("the pickle has a state that no array of uint8 has")
