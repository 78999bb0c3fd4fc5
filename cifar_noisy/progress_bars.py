"""Progress bars, all of them tqdm's, on a terminal's stderr or in a notebook."""

from __future__ import annotations

import contextlib
import sys
import warnings
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from cifar_noisy.errors import InvalidInputError, printable

if TYPE_CHECKING:
    from tqdm.std import tqdm


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
    if progress is not None and not isinstance(progress, bool):
        if not callable(getattr(progress, "update", None)):
            raise InvalidInputError(
                f"progress={printable(repr(progress), 60)} shows nothing: pass True, False, None, "
                "or an object with update(n), such as a tqdm"
            )
        return contextlib.nullcontext(progress)
    if not is_shown(progress):
        return contextlib.nullcontext(_Silent())
    bar: AbstractContextManager[Progress] = tqdm_bar(
        progress, total=total, desc=what, unit=unit, unit_scale=unit == "B"
    )
    return bar


def only_bar(progress: Shown) -> bool | None:
    """Return the same for a second bar, of which an object that counts another unit is not told."""
    return progress if progress is None or isinstance(progress, bool) else False


def tqdm_bar(progress: bool | None, **options: Any) -> tqdm[Any]:
    """Return a bar of ``tqdm.auto``, which is removed at the end; disabled where none is shown."""
    with warnings.catch_warnings():
        # A notebook without ipywidgets has bars of text, which is no news to act on.
        warnings.filterwarnings("ignore", "IProgress not found")
        from tqdm.auto import tqdm
    return tqdm(leave=False, disable=not is_shown(progress), **options)


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
