"""Tables and facts as HTML, which notebooks show, and as text.

The HTML takes colours and fonts from the page that it is shown in. Every text in it is escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence

from cifar_noisy.errors import printable

Cell = str | float | None
"""A text, a number (True and False are shown as yes and no), or None: undefined."""

UNDEFINED = "–"

_LEFT, _RIGHT = ' style="text-align: left"', ' style="text-align: right"'
_LONGEST_TEXT = 500
_MOST_ROWS, _ROWS_AT_AN_END = 40, 5


class Bold(str):
    """A text that stands out, such as the best number of a column."""

    __slots__ = ()


def cell_text(value: Cell) -> str:
    """Return a cell as it is shown: fractions with four decimals, a dash for what is undefined.

    >>> [cell_text(value) for value in (0.12345, 50_000, 3e-9, None, True, "a b")]
    ['0.1235', '50,000', '3.0e-09', '–', 'yes', 'a b']
    """
    if isinstance(value, str):
        return printable(value, _LONGEST_TEXT)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or math.isnan(value):
        return UNDEFINED
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-4 else f"{value:.1e}"


def highest_bold(values: Iterable[float | None], decimals: int = 4) -> list[Cell]:
    """Return numbers as text, the highest of them in bold.

    >>> highest_bold([0.25, None, 0.5]), highest_bold([0.25, None, 0.5])[2].__class__.__name__
    (['0.2500', None, '0.5000'], 'Bold')
    """
    numbers = [None if value is None or math.isnan(value) else value for value in values]
    highest = max((number for number in numbers if number is not None), default=None)
    return [
        None if n is None else (Bold if n == highest else str)(f"{n:.{decimals}f}") for n in numbers
    ]


def html_block(content: str, *, title: str = "", notes: Iterable[str] = ()) -> str:
    """Return HTML below a title and above notes, which are texts."""
    above = f"<p><b>{_escaped(title)}</b></p>" if title else ""
    lines = "<br />".join(map(_escaped, notes))
    below = f"<p><small>{lines}</small></p>" if lines else ""
    return f'<div style="overflow-x: auto">{above}{content}{below}</div>'


def html_table(
    columns: Mapping[str, Sequence[Cell]], *, title: str = "", notes: Iterable[str] = ()
) -> str:
    """Return a table as HTML, its columns by their heads; a long one is cut in the middle.

    A column is aligned to the right where all its cells begin with a digit or are undefined.

    >>> html_table({"a<b": ["x"]}).startswith('<div style="overflow-x: auto"><table><thead>')
    True
    """
    sides = [_side(cells) for cells in columns.values()]
    named = zip(columns, sides, strict=True)
    head = "".join(f"<th{side}>{_escaped(name)}</th>" for name, side in named)
    rows = ["".join(map(_data, row, sides)) for row in zip(*columns.values(), strict=True)]
    if len(rows) > _MOST_ROWS:
        left_out = "".join(f"<td{side}>…</td>" for side in sides)
        notes = (f"{len(rows):,} rows, of which the first and the last are shown", *notes)
        rows = [*rows[:_ROWS_AT_AN_END], left_out, *rows[-_ROWS_AT_AN_END:]]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return html_block(table, title=title, notes=notes)


def html_facts(
    facts: Mapping[str, Cell], *, title: str = "", notes: Iterable[str] = (), more: str = ""
) -> str:
    """Return names and values as HTML, a line each; `more` is HTML to put below."""
    body = "".join(
        f'<tr><th scope="row"{_LEFT}>{_escaped(name)}</th>{_data(value, _LEFT)}</tr>'
        for name, value in facts.items()
    )
    return html_block(f"<table><tbody>{body}</tbody></table>{more}", title=title, notes=notes)


def text_table(columns: Mapping[str, Sequence[Cell]]) -> str:
    """Return a table as text.

    >>> print(text_table({"name": ["a", "b"], "F1": [0.5, None]}))
    name        F1
    ------  ------
    a       0.5000
    b            –
    """
    from tabulate import tabulate

    texts = [list(map(cell_text, cells)) for cells in columns.values()]
    sides = ["right" if _side(cells) == _RIGHT else "left" for cells in columns.values()]
    return tabulate(
        list(zip(*texts, strict=True)),
        list(map(printable, columns)),
        disable_numparse=True,
        colalign=sides if texts and texts[0] else None,
    )


def _side(cells: Sequence[Cell]) -> str:
    texts = (cell_text(cell).lstrip("-+") for cell in cells)
    return _RIGHT if all(t == UNDEFINED or t[:1].isdecimal() for t in texts) else _LEFT


def _data(value: Cell, side: str) -> str:
    text = _escaped(value)
    return f"<td{side}>{f'<b>{text}</b>' if isinstance(value, Bold) else text}</td>"


def _escaped(value: Cell) -> str:
    return html.escape(cell_text(value))
