"""The parts of a page besides its explorer: sections with paragraphs, tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A table cell: the text that is shown, and the number to sort by, if it has one."""

    text: str
    number: float | None = None

    @classmethod
    def count(cls, value: int) -> "Cell":
        """Return the cell of a whole number."""
        return cls(f"{value:,}", value)

    @classmethod
    def fraction(cls, value: float | None) -> "Cell":
        """Return the cell of a fraction; a dash if it is undefined."""
        return cls("–") if value is None else cls(f"{value:.4f}", value)


Row = list[Cell | str]


@dataclass(frozen=True)
class Table:
    """A table whose columns can be sorted; a head that begins with ">" is one of numbers."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Row]
    is_folded: bool = False


@dataclass(frozen=True)
class Figure:
    """A figure as SVG, with its caption, which is its text alternative too."""

    svg: str
    caption: str
    is_wide: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
