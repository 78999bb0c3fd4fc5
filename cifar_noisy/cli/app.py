"""The command line's root and groups, its global options, and what ends a command early."""

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import cifar_noisy
from cifar_noisy.cli.output import say
from cifar_noisy.errors import (
    CifarNoisyError,
    InterruptedRunError,
    RecomputeError,
    StorageError,
    UnavailableError,
)
from cifar_noisy.store.artifact_store import OFFLINE_VARIABLE
from cifar_noisy.store.files import reason

OK, WRONG, USAGE, NOT_REACHABLE = 0, 1, 2, 3
INTERRUPTED = 75  # sysexits.h: try again later; a scheduler can requeue on it
CTRL_C, CLOSED_PIPE = 130, 141  # 128 and the signal, as shells have it

_STATUS: dict[type[Exception], int] = {
    UnavailableError: NOT_REACHABLE,
    InterruptedRunError: INTERRUPTED,
    StorageError: WRONG,
    RecomputeError: WRONG,
    CifarNoisyError: USAGE,
    FileNotFoundError: USAGE,
    IsADirectoryError: USAGE,
    NotADirectoryError: USAGE,
    OSError: WRONG,
}
"""By the first type that fits."""


class Commands(TyperGroup):
    """A group of commands whose errors become a message and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _fail("interrupted", CTRL_C)
        except BrokenPipeError:
            _discard_output()
            sys.exit(CLOSED_PIPE)
        except (CifarNoisyError, OSError) as error:
            status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
            message = str(error)
            if not isinstance(error, CifarNoisyError):
                what = error.filename or "the output"
                message = f"{what} cannot be read or written ({reason(error)}): name another place"
                _discard_output()
            _fail(as_options(message, options_of(self)), status)


app = typer.Typer(
    name="cifar-noisy",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: cifar-noisy download --kind pyx --noise 0.4",
)
cache_app = typer.Typer(
    no_args_is_help=True,
    help="Look after the cache folder.",
    epilog="Example: cifar-noisy cache ls",
)
app.add_typer(cache_app, name="cache")
recompute_app = typer.Typer(invoke_without_command=True)
app.add_typer(recompute_app, name="recompute")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Open no socket, as CIFAR_NOISY_OFFLINE=1 does.")
    ] = False,
) -> None:
    """Serve the CIFAR-10 artifacts of the confident-learning paper, checked, recomputable."""
    if offline:
        os.environ[OFFLINE_VARIABLE] = "1"
    if version:
        typer.echo(f"cifar-noisy {cifar_noisy.__version__}")
        raise typer.Exit(OK)


def options_of(command: Any) -> Iterator[str]:
    """Yield the options of a command and its subcommands, without their dashes."""
    for parameter in command.params:
        yield from (name[2:] for name in parameter.opts if name.startswith("--"))
    for subcommand in getattr(command, "commands", {}).values():
        yield from options_of(subcommand)


def as_options(message: str, options: Iterable[str]) -> str:
    """Return a message with arguments of Python, ``trust='pixels'``, as options of these names.

    >>> as_options("pass trust='pixels', or download=True; x=1 stays", ["trust", "download"])
    'pass --trust pixels, or --download; x=1 stays'
    """
    names = "|".join(option.replace("-", "_") for option in options)
    return re.sub(
        rf"(?<!\S)(?P<name>{names})=(?:True|'(?P<text>[^']*)'|(?P<number>[\d.]*\d))?(?!\w)",
        lambda found: (
            f"--{found['name'].replace('_', '-')} {found['text'] or found['number'] or ''}".rstrip()
        ),
        message,
    )


def _fail(message: str, status: int) -> NoReturn:
    say(f"cifar-noisy: {message}", err=True)
    sys.exit(status)


def _discard_output() -> None:
    """Let nothing that is still to be written to stdout fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
