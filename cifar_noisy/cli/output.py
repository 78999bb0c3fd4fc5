"""Tables and JSON on stdout; notices and signs of life on stderr."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cifar_noisy.errors import StorageError
from cifar_noisy.files import output_file
from cifar_noisy.registry import Artifact

if TYPE_CHECKING:
    from tqdm import tqdm

_WIDEST_TABLE = 400


def print_json(value: object, file: str = "-") -> None:
    """Print a value as JSON, or write it to a file."""
    text = json.dumps(value, indent=2) + "\n"
    if file == "-":
        typer.echo(text, nl=False)
        return
    try:
        with output_file(Path(file)) as out:
            out.write(text.encode())
    except OSError as error:
        raise StorageError(f"{file} cannot be written ({error.strerror}): name another") from error


def print_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table; a column whose head begins with ">" is set to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in header:
        is_right = head.startswith(">")
        table.add_column(head.lstrip(">"), justify="right" if is_right else "left")
    for row in rows:
        table.add_row(*row)
    # As wide as its cells, on a narrow terminal too: columns that are squeezed say less than lines
    # that the terminal wraps.
    Console(width=_WIDEST_TABLE, highlight=False, markup=False).print(table)


def rate(value: float | None) -> str:
    """Return a fraction as tables have it; a dash where it has no meaning."""
    return "-" if value is None else f"{value:.4f}"


@contextmanager
def byte_progress(what: str, files: Sequence[Artifact]) -> Iterator["tqdm[Any]"]:
    """Show a bar of the bytes of files on stderr where that is a terminal."""
    with bar(what, sum(artifact.size for artifact in files)) as progress:
        yield progress


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show on stderr, where that is a terminal, that work of a few seconds goes on."""
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


@contextmanager
def bar(what: str, n_bytes: int | None) -> Iterator["tqdm[Any]"]:
    """Show a bar of bytes on stderr where that is a terminal; None: how many is not known."""
    from tqdm import tqdm

    with tqdm(
        total=n_bytes, desc=what, unit="B", unit_scale=True, leave=False, disable=None
    ) as progress:
        yield progress
