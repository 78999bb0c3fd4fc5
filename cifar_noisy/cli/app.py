"""The root of the command line: groups, global options, and how errors become exit codes."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import cifar_noisy
from cifar_noisy.cli.output import say
from cifar_noisy.errors import (
    NO_MEMORY,
    CifarNoisyError,
    ExitCode,
    InterruptedRunError,
    RecomputeError,
    StorageError,
    UnavailableError,
    is_out_of_memory,
)
from cifar_noisy.recompute.stop_signals import stop_signals
from cifar_noisy.store.artifact_store import OFFLINE_VARIABLE
from cifar_noisy.store.files import reason

CTRL_C, CLOSED_PIPE = 130, 141  # 128 and the number of the signal, as in shells

_EXIT_CODES: dict[type[Exception], ExitCode] = {
    UnavailableError: ExitCode.UNAVAILABLE,
    InterruptedRunError: ExitCode.INTERRUPTED,
    StorageError: ExitCode.FAILURE,
    RecomputeError: ExitCode.FAILURE,
    CifarNoisyError: ExitCode.USAGE,
    FileNotFoundError: ExitCode.USAGE,
    IsADirectoryError: ExitCode.USAGE,
    NotADirectoryError: ExitCode.USAGE,
    OSError: ExitCode.FAILURE,
}
"""The first type that an error is an instance of decides."""


class Commands(TyperGroup):
    """A group of commands whose errors become a message and an exit code."""

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
            message = str(error)
            if not isinstance(error, CifarNoisyError):
                what = error.filename or "the output"
                message = f"{what} cannot be read or written ({reason(error)}): name another place"
                _discard_output()
            command = self.commands.get(ctx.invoked_subcommand or "", self)
            message = in_cli_words(message, command, ctx.find_root().command)
            _fail(message, next(code for kind, code in _EXIT_CODES.items()
                                if isinstance(error, kind)))  # fmt: skip
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            _fail(NO_MEMORY, ExitCode.FAILURE)


class StoppableCommands(Commands):
    """Commands that end with `ExitCode.INTERRUPTED` on a stop signal, even during imports."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        with stop_signals([], _exit_stopped):
            return super().invoke(ctx)


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
    cls=Commands,
    no_args_is_help=True,
    help="Look after the cache folder.",
    epilog="Example: cifar-noisy cache ls",
)
app.add_typer(cache_app, name="cache")
recompute_app = typer.Typer(cls=StoppableCommands, invoke_without_command=True)
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
        raise typer.Exit(ExitCode.OK)


def in_cli_words(message: str, command: Any, root: Any) -> str:
    """Return a message in which Python's ``trust='pixels'`` is written ``--trust pixels``.

    The name in Python is that of the command's parameter: ``root=`` is ``--images`` for `report`.
    Names that the command does not have are written as options of other commands of `root`.
    """
    own = {
        parameter.name: parameter.opts[0] if parameter.param_type_name == "option"
        else parameter.name.upper()
        for parameter in command.params
    }  # fmt: skip
    spelling = {option[2:].replace("-", "_"): option for option in _options_of(root)} | own

    def spell(found: re.Match[str]) -> str:
        other_command = found["other_command"]
        if other_command and found["name"] not in own:
            return f"run {other_command}"
        words = f"{spelling[found['name']]} {found['text'] or found['number'] or ''}".rstrip()
        return f"{words} ({other_command})" if other_command else words

    return re.sub(
        rf"(?<!\S)(?P<name>{'|'.join(spelling)})"
        r"=(?:True|'(?P<text>[^']*)'|(?P<number>[\d.]*\d))?"
        r"(?: \((?P<other_command>cifar-noisy [^)]*)\))?(?!\w)",
        spell,
        message,
    )


def _options_of(command: Any) -> Iterator[str]:
    """Yield the long options of a command and its subcommands."""
    for parameter in command.params:
        yield from (name for name in parameter.opts if name.startswith("--"))
    for subcommand in getattr(command, "commands", {}).values():
        yield from _options_of(subcommand)


def _fail(message: str, exit_code: int) -> NoReturn:
    say(f"cifar-noisy: {message}", err=True)
    sys.exit(exit_code)


def _exit_stopped(_: int) -> NoReturn:
    """End at once, since an exception could come up in an import or while a lock is taken."""
    with contextlib.suppress(OSError):
        os.write(2, b"cifar-noisy: stopped by a signal: run the same command again to continue\n")
    os._exit(ExitCode.INTERRUPTED)


def _discard_output() -> None:
    """Redirect stdout to nowhere, so that Python's flush at exit does not fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
