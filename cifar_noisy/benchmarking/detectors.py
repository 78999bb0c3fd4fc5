"""What callers benchmark: a function, a function by name, or arrays that they computed."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.benchmarking.cases import Case, all_cases
from cifar_noisy.errors import CifarNoisyError, InvalidInputError, MissingInputError, printable
from cifar_noisy.loading.npy_files import open_npy
from cifar_noisy.settings import check_choice
from cifar_noisy.store.files import user_path

if TYPE_CHECKING:
    from cifar_noisy.images.packs import Images

Function = Callable[[NDArray[np.int64], NDArray[np.floating[Any]]], ArrayLike]
ImagesFunction = Callable[[NDArray[np.uint8], NDArray[np.int64]], ArrayLike]
Detector = Function | ImagesFunction | Mapping[str, ArrayLike] | str | os.PathLike[str]
"""What a benchmark takes as `detector`."""

_LONGEST_ERROR = 200  # characters


@dataclass(frozen=True)
class ImportedFunction:
    """A function by module and name, which each process imports for itself."""

    module: str
    name: str

    @classmethod
    def of(cls, spec: str) -> ImportedFunction:
        """Import the function of a text such as "my_module:detector", and check it."""
        module, _, name = spec.partition(":")
        if not module or not name:
            raise InvalidInputError(
                f"detector {spec!r} is neither a folder nor a function: write module:function, "
                "such as my_module:detector"
            )
        if module.endswith(".py") or "/" in module:
            raise InvalidInputError(
                f"{module} is a file: write its module, {Path(module).stem}:{name}, and run in its "
                "folder or name that in PYTHONPATH"
            )
        imported = cls(module, name)
        if not callable(imported.load()):
            raise InvalidInputError(
                f"{spec} is of type {type(imported.load()).__name__}, which cannot be called: name "
                "a function of (labels, pyx)"
            )
        return imported

    def load(self) -> Any:
        """Import the module; return what has that name in it."""
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what it prints is no result
                found: Any = importlib.import_module(self.module)
        except (Exception, SystemExit) as error:
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            if missing and f"{self.module}.".startswith(f"{missing}."):
                raise MissingInputError(
                    f"there is no module {missing}: run in its folder, or name that in PYTHONPATH"
                ) from None
            raise InvalidInputError(
                f"{self.module} cannot be imported, put it right first: {describe_error(error)}"
            ) from None
        for name in self.name.split("."):
            if not hasattr(found, name):
                near = difflib.get_close_matches(name, dir(found), n=2)
                hint = f"did you mean {' or '.join(near)}?" if near else "name a function in it"
                raise InvalidInputError(f"{self.module} has no {self.name}: {hint}")
            found = getattr(found, name)
        return found

    def __call__(self, labels: NDArray[np.int64], pyx: NDArray[Any]) -> Any:
        """Call the function."""
        return self.load()(labels, pyx)


def functions_by_case(
    detector: Detector, cases: Sequence[Case], images: Images | None = None
) -> dict[Case, Function]:
    """Return the function that gives a detector's mask or score in each case.

    That of a case without an array raises, as a detector may. With images, the detector is a
    function of their pixels and labels.
    """
    if images is not None:
        if isinstance(detector, Mapping | str | os.PathLike) or not callable(detector):
            raise InvalidInputError(
                "leave images= out: they are for a detector that is a function of (images, labels)"
            )
        if not hasattr(images, "pixels"):
            raise InvalidInputError(
                f"images is a {type(images).__name__}: pass what load_images returns"
            )
        return dict.fromkeys(cases, functools.partial(_on_images, detector, images))
    if isinstance(detector, Mapping):
        _check_names(detector, cases)
        return {case: _from_mapping(detector, case) for case in cases}
    if isinstance(detector, str | os.PathLike):
        return _from_folder(user_path(detector), cases)
    if callable(detector):
        return dict.fromkeys(cases, cast(Function, detector))
    raise InvalidInputError(
        f"detector is a {type(detector).__name__}: pass a function of (labels, pyx), or a mapping "
        "or folder that has an array for the name of each case"
    )


def describe_error(error: BaseException) -> str:
    """Return one line that says what went wrong in code of the caller, and where."""
    try:
        said = printable(error.msg if isinstance(error, SyntaxError) else error, _LONGEST_ERROR)
    except Exception:  # its __str__ raises
        said = ""
    if isinstance(error, CifarNoisyError):
        return said
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_of_import(frame.filename)]
    file, line = (own[-1].filename, own[-1].lineno) if own else (None, None)
    if isinstance(error, SyntaxError) and error.filename:
        file, line = error.filename, error.lineno
    where = f" ({Path(file).name}, line {line})" if file else ""
    return f"{type(error).__name__}{': ' if said else ''}{said}{where}"


def _is_of_import(file: str) -> bool:
    return file in (__file__, importlib.__file__) or file.startswith("<frozen importlib")


def _check_names(arrays: Mapping[str, Any], cases: Sequence[Case]) -> None:
    known = tuple(case.name for case in all_cases())
    for name in arrays:
        check_choice(name, known, "case")
    names = set(arrays)
    if not any(case.name in names for case in cases):
        raise InvalidInputError(
            f"detector has no array for any of the {len(cases)} cases: name the first one "
            f"{cases[0].name!r}, and the others likewise"
        )


def _from_mapping(arrays: Mapping[str, Any], case: Case) -> Function:
    """Take an array out in this process, since what holds it may not go to another one."""
    if case.name not in set(arrays):
        return functools.partial(fail, f"no array is named {case.name!r}")
    try:
        return functools.partial(_given, arrays[case.name])
    except Exception as error:  # of a mapping that computes or reads its values
        return functools.partial(fail, describe_error(error))


def _from_folder(folder: Path, cases: Sequence[Case]) -> dict[Case, Function]:
    if not folder.is_dir():
        raise MissingInputError(
            f"{folder} is no folder: name one that has a file such as {cases[0].name}.npy for each "
            "case"
        )
    files = {case: folder / f"{case.name}.npy" for case in cases}
    if not any(file.exists() for file in files.values()):
        raise MissingInputError(
            f"{folder} has no array for any of the {len(cases)} cases: name the first one "
            f"{cases[0].name}.npy, and the others likewise"
        )
    return {case: functools.partial(_read, file) for case, file in files.items()}


def fail(text: str, labels: object, pyx: object) -> ArrayLike:
    """Raise what stands in the table where a detector gives nothing."""
    raise InvalidInputError(text)


def _on_images(function: Any, images: Images, labels: NDArray[np.int64], pyx: object) -> Any:
    return function(images.pixels, labels)


def _given(array: Any, labels: object, pyx: object) -> Any:
    return array


def _read(file: Path, labels: object, pyx: object) -> NDArray[Any]:
    return open_npy(file)
