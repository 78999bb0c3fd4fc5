"""Tables as plain text, Markdown, LaTeX and CSV."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal, Protocol, get_args

from cifar_noisy.errors import printable
from cifar_noisy.settings import Setting, check_choice

Format = Literal["text", "markdown", "latex", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)

_STYLES = {"text": "simple", "markdown": "github", "latex": "latex_booktabs"}


@dataclass(frozen=True)
class Layout:
    """What one table shows: lines above it, its rows with their names, lines below it.

    Attributes
    ----------
    above, below : sequence of str
        Lines of text.
    name_heads : sequence of str
        Heads of the columns that name a row.
    settings : sequence of Setting
        The other columns.
    rows : sequence of (names, cells)
        Both texts: a name per head, a cell per setting. What names a row as the one before is left
        out.
    """

    above: Sequence[str]
    name_heads: Sequence[str]
    settings: Sequence[Setting]
    rows: Sequence[tuple[Sequence[str], Sequence[str]]]
    below: Sequence[str]


class Tabular(Protocol):
    """What can be written as tables, as `Table` and `ComparisonWithPrint` can."""

    def layouts(self) -> Iterable[Layout]:
        """Return what each of its tables shows."""

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield a dict per cell."""


def format_tables(
    tables: Tabular | Iterable[Tabular],
    format: Format = "text",  # noqa: A002 - the option's name
    *,
    width: int | None = None,
) -> str:
    """Write tables as text.

    Parameters
    ----------
    tables : Table, ComparisonWithPrint or iterable of them
    format : {"text", "markdown", "latex", "csv"}, default "text"
        "csv" gives one row per number, all tables below one head, with all digits; the others one
        table after another with the paper's decimals, the rule and the notes. "latex" needs the
        package booktabs.
    width : int, optional
        Characters in a line of "text" tables: what does not fit goes to further tables below.

    Returns
    -------
    str
        Ends with a newline.

    Raises
    ------
    UnknownArtifactError
        If the format is unknown.

    Examples
    --------
    >>> from cifar_noisy import label_error_table
    >>> table = label_error_table(noise=0.2, sparsity=0.6)  # published files
    >>> text = format_tables(table, "csv")  # published files
    >>> print(text[:71])  # published files
    table,edition,rule,group,method,paper_name,noise,sparsity,value,missing
    >>> text.splitlines()[1].rpartition("errors,")[2]  # published files
    'accuracy,argmax,C_confusion,0.2,0.6,0.85208,'
    """
    check_choice(format, FORMATS, "format")
    listed = list(tables) if isinstance(tables, Iterable) else [tables]
    if format == "csv":
        import pandas as pd

        return pd.DataFrame(row for table in listed for row in table.records()).to_csv(index=False)
    layouts = [layout for table in listed for layout in table.layouts()]
    return "\n".join(_formatted(layout, format, width) for layout in layouts)


def _formatted(layout: Layout, format: Format, width: int | None) -> str:  # noqa: A002
    shown = _for_markdown if format == "markdown" else printable  # tabulate escapes for LaTeX
    above, below = (list(map(shown, lines)) for lines in (layout.above, layout.below))
    if format == "latex":
        above, below = ([f"% {line}" for line in lines] for lines in (above, below))
    elif format == "markdown":
        above, below = [*above, ""], ["", *below] if below else []
    for n_columns in range(max(len(layout.settings), 1), 0, -1):
        body = _body(layout, format, n_columns)
        if format != "text" or not width or max(map(len, body.splitlines()), default=0) <= width:
            break
    return "\n".join((*above, body, *below)) + "\n"


def _body(layout: Layout, format: Format, n_columns: int) -> str:  # noqa: A002
    """Write names and cells, as tables of so many settings one below another."""
    from tabulate import tabulate

    shown = _for_markdown if format == "markdown" else printable
    heads = [f"{setting.noise:g}/{setting.sparsity:g}" for setting in layout.settings]
    parts = [slice(i, i + n_columns) for i in range(0, len(heads), n_columns)]
    return "\n\n".join(
        tabulate(
            [list(map(shown, (*names, *cells[part]))) for names, cells in _named_once(layout)],
            [*map(shown, layout.name_heads), *heads[part]],
            tablefmt=_STYLES[format],
            disable_numparse=True,
            colalign=["left"] * len(layout.name_heads) + ["right"] * len(heads[part]),
        )
        for part in parts
    )


def _named_once(layout: Layout) -> Iterator[tuple[list[str], Sequence[str]]]:
    """Yield the rows, without the first names that the row before has too."""
    previous: Sequence[str] = ()
    for names, cells in layout.rows:
        pairs = zip(names[:-1], previous, strict=False)
        n_same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        yield ["" if i < n_same else name for i, name in enumerate(names)], cells
        previous = names


def _for_markdown(text: object) -> str:
    """Return a text for Markdown, in a table's cell too."""
    return re.sub(r"([\\`*_|~$&<>\[\]])", r"\\\1", printable(text))
