"""The command line: each command parses its options, calls one library function and prints.

Results go to stdout, notices and progress to stderr. `ExitCode` lists the exit codes; besides,
Ctrl-C ends a command with 130, a closed pipe with 141.
"""

import io
import sys
import warnings
from typing import Any

import typer.main

from cifar_noisy.cli import (  # noqa: F401 - each registers its commands
    artifact_commands,
    benchmark_command,
    cache_commands,
    demo_command,
    evaluate_command,
    export_command,
    generate_command,
    image_commands,
    recompute_commands,
    report_commands,
    verify_command,
)
from cifar_noisy.cli.app import app, in_cli_words
from cifar_noisy.cli.output import say
from cifar_noisy.errors import CifarNoisyWarning


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for paths it cannot encode
    warnings.simplefilter("always", CifarNoisyWarning)
    warnings.showwarning = _show_notice
    app()


def _show_notice(message: Warning | str, *_: Any, **__: Any) -> None:
    program = typer.main.get_command(app)
    say(f"cifar-noisy: {in_cli_words(str(message), program, program)}", err=True)
