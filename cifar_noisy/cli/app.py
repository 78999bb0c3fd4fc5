"""The command line's root and groups, what its exit statuses mean, its global options."""

import os
from typing import Annotated

import typer

import cifar_noisy
from cifar_noisy.store import OFFLINE_VARIABLE

OK, WRONG, USAGE, NOT_REACHABLE = 0, 1, 2, 3
INTERRUPTED = 75  # sysexits.h: try again later; a scheduler can requeue on it

app = typer.Typer(
    name="cifar-noisy",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
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
