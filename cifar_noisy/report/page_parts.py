"""The parts of a page besides its explorer: sections with paragraphs, tables and figures."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A table cell: the text that is shown, and the number to sort by, if it has one.

    `series` is the number of the colour that what it names has in figures.
    """

    text: str
    number: float | None = None
    series: int | None = None

    @classmethod
    def count(cls, value: int) -> "Cell":
        """Return the cell of a whole number."""
        return cls(f"{value:,}", value)

    @classmethod
    def fraction(cls, value: float | None) -> "Cell":
        """Return the cell of a fraction; a dash if it is undefined."""
        return cls("–") if value is None else cls(f"{value:.4f}", value)

    @classmethod
    def percent(cls, value: float) -> "Cell":
        """Return the cell of a number of percents."""
        return cls(f"{value:.2f}", value)


Row = list[Cell | str]


@dataclass(frozen=True)
class Table:
    """A table whose columns can be sorted.

    A head that begins with ">" is one of numbers of which the largest is best, with "<" the least:
    the best are first after the first click. By `sorted_by`, a column, the rows are sorted so
    already. `marked` rows stand out.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Row]
    is_folded: bool = False
    sorted_by: int | None = None
    marked: Collection[int] = ()


@dataclass(frozen=True)
class Figure:
    """A figure as SVG, its caption, which is its text alternative too, and its width in inches."""

    svg: str
    caption: str
    inches: float


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()


@dataclass(frozen=True)
class KeyNumber:
    """A number of the first screen: what it is of, the number, a note, and whose it is."""

    label: str
    number: str
    note: str
    name: str = ""
    series: int | None = None
