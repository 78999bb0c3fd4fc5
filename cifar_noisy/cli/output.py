"""Results on stdout, as text or JSON; notices and progress on stderr.

Off a terminal a line is as long as what it says. On one, text and cells fold between words, and a
table that cannot be folded that far is printed as a list of facts for each row.
"""

import contextlib
import itertools
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cifar_noisy.store.files import output_file, storage_errors
from cifar_noisy.store.registry import Artifact

if TYPE_CHECKING:
    from tqdm import tqdm

_GAP = "  "


def print_json(value: object, file: str = "-") -> None:
    """Print a value as JSON, or write it to a file."""
    text = json.dumps(value, indent=2) + "\n"
    if file == "-":
        typer.echo(text, nl=False)
        return
    with storage_errors(file, "name another"), output_file(Path(file)) as out:
        out.write(text.encode())


def say(text: object = "", *, err: bool = False) -> None:
    """Print text; a bar of progress that is on the terminal stays below it.

    Notices on stderr are not folded, since they have commands in them that people copy.
    """
    lines = _folded(str(text), None if err else terminal_width())
    with contextlib.ExitStack() as stack:
        if "tqdm" in sys.modules:
            from tqdm import tqdm

            stack.enter_context(tqdm.external_write_mode())
        typer.echo("\n".join(lines), err=err)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; a column whose head begins with ">" is set to the right."""
    heads, body = [head.lstrip(">") for head in header], list(rows)
    widths = _column_widths([heads, *body], terminal_width())
    if widths is None:
        facts = (
            "\n".join(f"{head}: {cell}" for head, cell in zip(heads, row, strict=True) if cell)
            for row in body
        )
        say("\n\n".join(facts))
        return
    align = [str.rjust if head.startswith(">") else str.ljust for head in header]
    for row in (heads, ["-" * width for width in widths], *body):
        cells = (_folded(cell, width) for cell, width in zip(row, widths, strict=True))
        for parts in itertools.zip_longest(*cells, fillvalue=""):
            line = [put(part, width) for put, part, width in zip(align, parts, widths, strict=True)]
            say(_GAP.join(line).rstrip())


def terminal_width() -> int | None:
    """Return how many columns the terminal has that stdout goes to; None where it is none."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if is_terminal else None


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


def _column_widths(table: Sequence[Sequence[str]], width: int | None) -> list[int] | None:
    """Return widths at which a table fits and no word is broken; None if there are none."""
    columns = list(zip(*table, strict=True))
    widths, longest_words = (
        [
            max((len(part) for cell in column for part in split(cell)), default=0)
            for column in columns
        ]
        for split in (str.splitlines, str.split)
    )
    while width is not None and sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        slack = [wide - word for wide, word in zip(widths, longest_words, strict=True)]
        if max(slack) == 0:
            return None
        widths[slack.index(max(slack))] -= 1
    return widths


def _folded(text: str, width: int | None) -> list[str]:
    """Split a text into lines of a width, between words; a word that is longer stays whole."""
    fold = textwrap.TextWrapper(
        width or sys.maxsize, break_long_words=False, break_on_hyphens=False
    )
    return [part for line in text.split("\n") for part in fold.wrap(line) or [""]]
