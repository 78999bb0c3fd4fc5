"""Print results on stdout as text or JSON; notices and progress go to stderr.

Off a terminal, a line is as long as its content. On a terminal, text and cells wrap between words,
and a table that is still too wide is printed as a list of facts for each row.
"""

import contextlib
import io
import json
import math
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import typer

from cifar_noisy.progress_bars import Progress, progress_bar
from cifar_noisy.store.files import output_file, storage_errors
from cifar_noisy.store.registry import Artifact

STDOUT = Path("/dev/stdout")
SCHEMA_VERSION = 1
"""Of the JSON that commands print; raised when a key comes, goes or changes its meaning."""

_UNLIMITED_WIDTH = 1_000_000


def print_json(value: Mapping[str, object], file: str = "-", *, err: bool = False) -> None:
    """Print an object as JSON, or write it to a file; "-" is stdout.

    ``docs/json_output.schema.json`` describes what each command prints. Numbers that are not
    finite, which JSON does not have, are null.
    """
    answer = _finite({"schema_version": SCHEMA_VERSION, **value})
    text = json.dumps(answer, indent=2, allow_nan=False) + "\n"
    if is_stdout(file):
        typer.echo(text, nl=False, err=err)
        return
    with storage_errors(file, "name another"), output_file(Path(file)) as out:
        out.write(text.encode())


def say(text: object = "", *, err: bool = False) -> None:
    """Print text above a progress bar, if there is one.

    Notices on stderr are not wrapped, so that commands in them can be copied.
    """
    width = None if err else terminal_width()
    fold = textwrap.TextWrapper(
        width or sys.maxsize, break_long_words=False, break_on_hyphens=False
    )
    lines = [part for line in str(text).split("\n") for part in fold.wrap(line) or [""]]
    _echo("\n".join(lines), err=err)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; a column whose head begins with ">" is aligned to the right."""
    from rich.box import Box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    heads, body, width = [head.lstrip(">") for head in header], list(rows), terminal_width()
    underlined = Box("    \n    \n -  \n    \n    \n    \n    \n    \n", ascii=True)
    table = Table(box=underlined, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for head, text, *cells in zip(header, heads, *body, strict=True):
        longest_word = max(len(word) for cell in (text, *cells) for word in cell.split())
        justify: Any = "right" if head.startswith(">") else "left"
        table.add_column(Text(text), justify=justify, min_width=longest_word)
    for row in body:
        table.add_row(*map(Text, row))
    console = Console(file=io.StringIO(), width=_UNLIMITED_WIDTH)
    if width is not None and console.measure(table).maximum > width:
        table.width = width
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    # Of a column's line, the last sign is under the gap to the next column.
    lines = [re.sub("-(?= -)", " ", line) if set(line) <= {"-", " "} else line for line in lines]
    if width is not None and max(map(len, lines)) > width:
        facts = (
            "\n".join(f"{head}: {cell}" for head, cell in zip(heads, row, strict=True) if cell)
            for row in body
        )
        say("\n\n".join(facts))
    else:
        _echo("\n".join(lines))


def terminal_width() -> int | None:
    """Return the number of columns of the terminal that stdout is; None if it is none."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if is_terminal else None


def output_path(path: Path) -> Path:
    """Return where to write; "-" is stdout."""
    return STDOUT if str(path) == "-" else path


def is_stdout(path: str | Path) -> bool:
    """Whether an output goes to stdout, so that nothing else may be printed there."""
    return str(path) in ("-", str(STDOUT), "/dev/fd/1", "/proc/self/fd/1")


@contextlib.contextmanager
def stdout_on_stderr() -> Iterator[None]:
    """Send to stderr what is printed meanwhile, by C libraries and other processes too."""
    if sys.stdout is None or sys.stderr is None:  # closed, so the numbers may be other files'
        yield
        return
    sys.stdout.flush()
    stdout = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 file, 2 files."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def format_fraction(value: float | None) -> str:
    """Return a fraction as shown in tables; a dash if it is undefined."""
    return "-" if value is None else f"{value:.4f}"


def spinner(what: str) -> AbstractContextManager[object]:
    """Show on stderr, if it is a terminal, that work of a few seconds is going on."""
    from rich.console import Console

    return Console(stderr=True).status(what)


def artifact_progress(what: str, artifacts: Sequence[Artifact]) -> AbstractContextManager[Progress]:
    """Return a bar on stderr, if it is a terminal, of the bytes of some artifacts."""
    return progress_bar(None, what, sum(artifact.size for artifact in artifacts))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(of) for of in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _echo(text: str, *, err: bool = False) -> None:
    with contextlib.ExitStack() as stack:
        if "tqdm" in sys.modules:
            from tqdm import tqdm

            stack.enter_context(tqdm.external_write_mode())
        typer.echo(text, err=err)
