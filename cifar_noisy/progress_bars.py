"""Progress bars, all of them tqdm's, on a terminal's stderr or in a notebook."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from cifar_noisy.errors import InvalidInputError, printable

if TYPE_CHECKING:
    from tqdm.std import tqdm as std_tqdm


_DELAY = 0.5
"""Seconds before a bar appears: what is done by then needs none."""


class Progress(Protocol):
    """What is told of progress, in bytes or in items; a tqdm bar is one."""

    def update(self, n: float | None = 1) -> object:
        """Count `n` more, or fewer where it is negative."""


Shown = bool | Progress | None
"""What functions take as `progress`: whether to show a bar, or what to tell instead."""


class _Silent:
    def update(self, n: float | None = 1) -> None:
        """Count nothing."""


def progress_bar(
    progress: Shown, what: str, total: int | None, unit: str = "B"
) -> AbstractContextManager[Progress]:
    """Return a context that gives what to tell of progress: a bar, the caller's object or nothing.

    `total` is None where it is not known. A bar is removed at the end.

    >>> with progress_bar(False, "reading", 10) as bar:
    ...     bar.update(3)
    """
    check_progress(progress)
    if progress is not None and not isinstance(progress, bool):
        return contextlib.nullcontext(progress)
    if not is_shown(progress):
        return contextlib.nullcontext(_Silent())
    bar: AbstractContextManager[Progress] = tqdm_bar(
        progress, total=total, desc=what, unit=unit, unit_scale=unit == "B", delay=_DELAY
    )
    return bar


def check_progress(progress: object) -> None:
    """Raise if something is neither a bool, None nor an object that can be told."""
    is_told = callable(getattr(progress, "update", None)) and not isinstance(progress, type)
    if progress is not None and not isinstance(progress, bool) and not is_told:
        raise InvalidInputError(
            f"progress={printable(repr(progress), 60)} shows nothing: pass True, False, None, or "
            "an object with update(n), such as a tqdm"
        )


def only_bar(progress: Shown) -> bool | None:
    """Return the same for a second bar, of which an object that counts another unit is not told."""
    return progress if progress is None or isinstance(progress, bool) else False


@contextlib.contextmanager
def without_tqdm_warning() -> Iterator[None]:
    """Import what imports tqdm, without a warning that a notebook lacks ipywidgets.

    It then has bars of text, and nothing to act on.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        yield


def tqdm_bar(progress: bool | None, **options: Any) -> std_tqdm[Any]:
    """Return a bar of ``tqdm.auto``, which is removed at the end; disabled where none is shown."""
    with without_tqdm_warning():
        from tqdm.auto import tqdm
    if not is_shown(progress):  # else the caller's TQDM_DISABLE counts
        options["disable"] = True
    bar: std_tqdm[Any] = tqdm(leave=False, **options)
    return bar


def is_shown(progress: bool | None) -> bool:
    """Whether to show a bar; by default where somebody watches.

    That is on a terminal or in a notebook, and not in a process that another one started to work
    for it, such as a worker of a ``DataLoader``.
    """
    if progress is not None:
        return progress
    if _is_worker():
        return False
    is_terminal = getattr(sys.stderr, "isatty", bool)
    return _is_notebook() or (not getattr(sys.stderr, "closed", False) and bool(is_terminal()))


def _is_worker() -> bool:
    processes = sys.modules.get("multiprocessing.process")  # there in each process that it starts
    return processes is not None and processes.parent_process() is not None


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config
