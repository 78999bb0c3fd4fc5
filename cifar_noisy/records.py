"""A tuple of results of one kind, which shows itself as a table and is one of pandas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cifar_noisy.rendering import Cell, html_table, text_table

if TYPE_CHECKING:
    import pandas as pd

_LONGEST_REPR = 1_000


class Record(Protocol):
    """What has a row in a table."""

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, for a data frame or JSON."""

    def shown(self) -> dict[str, Cell]:
        """Return what people look at, by name."""


R = TypeVar("R", bound=Record, covariant=True)


class Records(tuple[R, ...]):
    """A tuple of results of one kind; ``.frame`` is a data frame with a row for each.

    A notebook shows it as a table, and `print` does. A slice of it is a plain tuple.

    Examples
    --------
    >>> from cifar_noisy import SETTINGS
    >>> SETTINGS.frame.shape, len(SETTINGS)
    ((17, 5), 17)
    """

    __slots__ = ()

    @property
    def frame(self) -> pd.DataFrame:
        """A pandas.DataFrame: a row for each, and a column for each item of its ``as_dict()``."""
        import pandas as pd

        return pd.DataFrame([record.as_dict() for record in self])

    def _columns(self) -> dict[str, Sequence[Cell]]:
        """Return what is shown, by the head of its column."""
        rows = [record.shown() for record in self]
        return {head: [row[head] for row in rows] for head in (rows[0] if rows else ())}

    def __repr__(self) -> str:
        whole = super().__repr__()
        if len(whole) <= _LONGEST_REPR:
            return whole
        return f"({self[0]!r}, …, {self[-1]!r})  # {len(self):,} in all"

    def __str__(self) -> str:
        return text_table(self._columns()) if self else "none"

    def _repr_html_(self) -> str:
        return html_table(self._columns(), notes=() if self else ("none",))
