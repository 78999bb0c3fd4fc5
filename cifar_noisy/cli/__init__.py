"""The command line: parses, calls one library function, prints; nothing else.

Results go to stdout, notices and progress to stderr. Exit status: 0 all well, 1 something is wrong,
2 a request that makes no sense, 3 nothing wrong but something could not be had (`errors` says which
error is which), 75 a run was told to stop and saved, and the same command continues it.
"""

import sys
import warnings
from typing import TextIO

import typer

from cifar_noisy.cli import (  # noqa: F401 - each registers its commands
    artifact_commands,
    cache_commands,
    evaluate_commands,
    image_commands,
    recompute_commands,
    verify_commands,
)
from cifar_noisy.cli.app import INTERRUPTED, NOT_REACHABLE, USAGE, WRONG, app
from cifar_noisy.errors import (
    CifarNoisyError,
    CifarNoisyWarning,
    InterruptedRunError,
    RecomputeError,
    StorageError,
    UnavailableError,
)
from cifar_noisy.files import reason


def main() -> None:
    """Run the command line: errors of this package become one line and an exit status."""
    warnings.simplefilter("always", CifarNoisyWarning)
    warnings.showwarning = _show_notice
    try:
        app()
    except UnavailableError as error:
        _fail(error, NOT_REACHABLE)
    except InterruptedRunError as error:
        _fail(error, INTERRUPTED)
    except (StorageError, RecomputeError) as error:
        _fail(error, WRONG)
    except CifarNoisyError as error:
        _fail(error, USAGE)
    except OSError as error:
        what = error.filename or "the output"
        _fail(f"{what} cannot be read or written ({reason(error)}): name another place", WRONG)


def _fail(error: object, status: int) -> None:
    typer.echo(f"cifar-noisy: {error}", err=True)
    sys.exit(status)


def _show_notice(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    typer.echo(f"cifar-noisy: {message}", err=True)
