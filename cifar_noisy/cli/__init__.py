"""The command line: parses, calls one library function, prints; nothing else.

Results go to stdout, notices and progress to stderr. Exit statuses follow one rule:

==== ==============================================================================================
0    all well
1    something is wrong with the data or with this machine: a checksum differs, a disk is full
2    the request makes no sense: an unknown value, or a file or folder of the caller's that is not
     there or is not what it should be
3    nothing is wrong, but something could not be had
75   a run was told to stop and saved; the same command continues it
130  Ctrl-C; 141 where what read the output had enough: 128 and the signal, as shells have it
==== ==============================================================================================
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
