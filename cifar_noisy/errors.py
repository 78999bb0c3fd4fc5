"""The few things that can go wrong, each said with its value, cause and remedy.

The command line's exit status follows from the type: 3 for what could not be had
(`UnavailableError`); 1 where data or machine are at fault, so that something is damaged, cannot be
written or does not hold (`StorageError`, `RecomputeError`); 2 for all others, a request that makes
no sense: an unknown value, a file or folder of the caller's that is missing or not what it should
be.
"""

import errno
import re
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line."""

    OK = 0
    FAILURE = 1  # data or machine are at fault, or a difference was found
    USAGE = 2  # invalid arguments
    UNAVAILABLE = 3  # nothing is wrong, but a file is unavailable
    INTERRUPTED = 75  # stopped by a signal; the same command continues (EX_TEMPFAIL of sysexits.h)


_SAID_WITHOUT_MEMORY = (
    "can't (allocate lock|start new thread)|error return without exception set"
    "|failed to map segment|Cannot allocate memory"
)


def printable(text: object, limit: int | None = None) -> str:
    r"""Return foreign text for a message: one line, cut at `limit`, unprintable characters escaped.

    Examples
    --------
    >>> printable("a\n cat\x1b\udc80")
    'a cat\\x1b\\udc80'
    """
    line = " ".join(str(text).split())
    cut = line if limit is None or len(line) <= limit else line[:limit] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


NO_MEMORY = "too little memory, or too many threads: end other programs, or raise ulimit -v and -u"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is what Python makes of memory, or address space, that ran out.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("can't allocate lock"))
    True
    """
    return (
        isinstance(error, MemoryError)
        or getattr(error, "errno", None) == errno.ENOMEM
        or re.search(_SAID_WITHOUT_MEMORY, str(error)) is not None
    )


class CifarNoisyError(Exception):
    """Anything that this package reports on purpose."""


class UnknownArtifactError(CifarNoisyError, ValueError):
    """A noise, sparsity, method, edition or order that was never published."""


class InvalidInputError(CifarNoisyError, ValueError):
    """Arguments that no function can work on."""


class MissingInputError(InvalidInputError, FileNotFoundError):
    """A file or folder that the caller named and that is not there."""


class ReadOnlyError(InvalidInputError, AttributeError):
    """An attribute that follows from others, and so cannot be assigned."""


class TrainingLogError(CifarNoisyError, ValueError):
    """A text that is none of the published log formats."""


class ImagesError(CifarNoisyError, ValueError):
    """An archive, folder or tree that does not hold CIFAR-10's images as they should be."""


class StorageError(CifarNoisyError, OSError):
    """A folder or file cannot be read or written as it should."""


class BundleError(CifarNoisyError, ValueError):
    """A tar that is no bundle of published files, or has other files in it."""


class ConfigurationError(CifarNoisyError, ValueError):
    """An environment variable of this package that cannot be understood."""


class RecomputeError(CifarNoisyError):
    """A training or its folder that cannot go on as it stands."""


class InterruptedRunError(RecomputeError):
    """A signal asked a run to stop; it saved, and the same command continues it."""


class MissingExtraError(CifarNoisyError, ImportError):
    """A library that only a part of this package needs, and that is not installed.

    Parameters
    ----------
    library : str
        Its name.
    remedy : str
        How to get it.
    """

    def __init__(
        self, library: str, remedy: str = "pip install 'cifar-noisy[report]' has it"
    ) -> None:
        super().__init__(f"{library} is not installed: {remedy}")


class UnavailableError(CifarNoisyError, FileNotFoundError):
    """A published file that no source could give with the right bytes.

    Shown as the message and a line for each cause.

    Attributes
    ----------
    message : str
        What is missing, and the remedy.
    causes : tuple of str
        What each source that was asked said, in order.
    """

    def __init__(self, message: str, causes: tuple[str, ...] = ()) -> None:
        super().__init__("\n  ".join((message, *causes)))
        self.message = message
        self.causes = causes


class CifarNoisyWarning(UserWarning):
    """Anything that this package warns of."""


class CorruptFileWarning(CifarNoisyWarning):
    """A file whose bytes are not the published ones; it was not used."""


class TruncatedLogWarning(CifarNoisyWarning):
    """A training log that stops before its training did."""


class SuspectMaskWarning(CifarNoisyWarning):
    """A mask or score that says the opposite of what it should, or is in another order."""


class CountedMatrixWarning(CifarNoisyWarning):
    """A noise matrix that was counted, since the labels were drawn from none."""
