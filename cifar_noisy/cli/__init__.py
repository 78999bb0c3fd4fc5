"""The command line: parses, calls one library function, prints; nothing else.

Results go to stdout, notices and progress to stderr. Exit status: 0 all well, 1 data or machine are
at fault, 2 a request that makes no sense, 3 nothing wrong but something could not be had, 75 a run
was told to stop and saved, and the same command continues it, 130 Ctrl-C, 141 a closed pipe.
"""

import io
import sys
import warnings
from typing import TextIO

from cifar_noisy.cli import (  # noqa: F401 - each registers its commands
    artifact_commands,
    cache_commands,
    evaluate_commands,
    image_commands,
    recompute_commands,
    verify_commands,
)
from cifar_noisy.cli.app import app
from cifar_noisy.cli.output import say
from cifar_noisy.errors import CifarNoisyWarning


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path or sign it cannot encode
    warnings.simplefilter("always", CifarNoisyWarning)
    warnings.showwarning = _show_notice
    app()


def _show_notice(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"cifar-noisy: {message}", err=True)
