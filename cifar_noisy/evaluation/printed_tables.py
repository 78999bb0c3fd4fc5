"""What the paper and upstream's notebooks printed, beside what the published files give.

``registry/printed_tables.csv`` has the printed numbers of every row that files were published for,
as they were printed, with the place that printed them. Each print follows a rule of its own: an
edition of the masks, or an epoch of the logs. Where a number differs, the reason is said if it is
known.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from cifar_noisy.errors import UnknownArtifactError
from cifar_noisy.evaluation.table_formats import Layout, format_tables
from cifar_noisy.evaluation.tables import (
    TEN_TRIALS,
    Cell,
    Network,
    Rule,
    Table,
    accuracy_tables,
    cell_names,
    check_choices,
    chosen_cells,
    error_table,
    fetch_absent,
    log_cells,
    mask_cells,
    shown_group,
)
from cifar_noisy.rendering import Cell as CellShown, html_table
from cifar_noisy.settings import (
    EDITIONS,
    PAPER_NAMES,
    SETTINGS,
    Edition,
    Method,
    OtherMethod,
    Setting,
    check_choice,
)
from cifar_noisy.store.registry import registry_folder

if TYPE_CHECKING:
    import pandas as pd

PRINTED_FILE = "printed_tables.csv"

FINAL_PAPER = "test accuracy, final paper"
NO_LOGS = (
    "Not compared: the rows INCV, Mixup, MentorNet, S-Model, Reed and Baseline, for which no file "
    "was published."
)
_KNOWN: dict[tuple[str, Cell], str] = {
    ("test accuracy of ResNet-50", ("resnet50", "argmax", Setting(0.7, 0.4))): (
        "two machines' logs of this training were swapped: the printed number is the best of a "
        "stray, 'out (richmond's conflicted copy 2019-09-12)'"
    )
}
_LISTED = 5  # differing cells of one reason that are listed, not counted


@dataclass(frozen=True)
class Print:
    """The numbers of one printed table, as printed.

    Attributes
    ----------
    name, source : str
        What they are, and where they were printed.
    edition : str or None
        Of the masks that they follow from; None for accuracies.
    rule : str or None
        By which they follow from the logs; None for label errors.
    in_percent : bool
        Whether 85.36 is printed, not .8536.
    cells : dict of (group, method, Setting) to str
        As printed.
    """

    name: str
    source: str
    edition: Edition | None
    rule: Rule | None
    in_percent: bool
    cells: Mapping[Cell, str]


@dataclass(frozen=True)
class PrintedCell:
    """A printed number and what the files give.

    Attributes
    ----------
    group, method : str
    setting : Setting
    printed : str
        As printed, such as ".875" or "85.36".
    recomputed : str
        The value, written like the printed one; "missing" where the file holds no number.
    value : float or None
        All digits of it, as a fraction.
    reason : str or None
        Why the two differ; None where they do not, or where that is not known.
    """

    group: str
    method: Method | OtherMethod
    setting: Setting
    printed: str
    recomputed: str
    value: float | None
    reason: str | None

    @property
    def agrees(self) -> bool:
        """Whether the value rounds to what is printed."""
        return self.printed == self.recomputed

    def record(self) -> dict[str, Any]:
        """Return the cell as numbers and texts."""
        return cell_names((self.group, self.method, self.setting)) | {
            "printed": self.printed,
            "recomputed": self.recomputed,
            "value": self.value,
            "agrees": self.agrees,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class ComparedPrint:
    """One printed table beside what the files give.

    Attributes
    ----------
    name, source : str
        What was printed, and where.
    edition : str or None
        Of the masks that were read; None for accuracies.
    rule : str
        How the numbers here were taken from the files.
    cells : tuple of PrintedCell
        In the order of the print.
    """

    name: str
    source: str
    edition: Edition | None
    rule: str
    cells: tuple[PrintedCell, ...]

    @property
    def n_agreeing(self) -> int:
        """Number of the cells that agree."""
        return sum(cell.agrees for cell in self.cells)

    @property
    def differing(self) -> tuple[PrintedCell, ...]:
        """The cells that do not agree."""
        return tuple(cell for cell in self.cells if not cell.agrees)

    def layout(self) -> Layout:
        """Return the printed numbers and those of the files, one above the other."""
        settings = sorted({cell.setting for cell in self.cells})
        by_row: dict[tuple[str, str], dict[Setting, PrintedCell]] = {}
        for cell in self.cells:
            by_row.setdefault((cell.group, cell.method), {})[cell.setting] = cell
        rows = []
        for (group, _), row in by_row.items():
            names = (shown_group(group), PAPER_NAMES[next(iter(row.values())).method])
            printed = [row[s].printed if s in row else "-" for s in settings]
            here = [_marked(row[s]) if s in row else "-" for s in settings]
            rows += [((*names, "printed"), printed), ((*names, "recomputed"), here)]
        above = [
            f"{self.name}: {self.n_agreeing} of {len(self.cells)} cells agree",
            f"printed in: {self.source}",
            f"recomputed: {self.rule}. Columns: noise/sparsity; *: differs.",
        ]
        return Layout(above, ("group", "method", "value"), settings, rows, self.reasons())

    def reasons(self) -> list[str]:
        """Say for each reason which cells differ for it, or of many how many."""
        by_reason: dict[str, list[PrintedCell]] = {}
        for cell in self.differing:
            by_reason.setdefault(cell.reason or "the reason is not known", []).append(cell)
        lines = []
        for reason, cells in by_reason.items():
            listed = "; ".join(
                f"{shown_group(cell.group)}, {PAPER_NAMES[cell.method]}, {cell.setting}: "
                f"printed {cell.printed}, recomputed {cell.recomputed}"
                for cell in cells
            )
            few = len(cells) <= _LISTED
            lines.append(f"{listed if few else f'{len(cells)} cells differ'}: {reason}")
        return lines


@dataclass(frozen=True)
class ComparisonWithPrint:
    """Printed tables beside what the published files give; ``print`` shows all of it.

    Attributes
    ----------
    prints : tuple of ComparedPrint
    """

    prints: tuple[ComparedPrint, ...]

    def __str__(self) -> str:
        return format_tables(self).rstrip("\n")

    def __repr__(self) -> str:
        n_agreeing = len(self.cells) - len(self.differing)
        return f"{type(self).__name__}({n_agreeing} of {len(self.cells)} cells agree)"

    def _repr_html_(self) -> str:
        columns: dict[str, list[CellShown]] = {
            "print": [compared.name for compared in self.prints],
            "cells": [len(compared.cells) for compared in self.prints],
            "agree": [compared.n_agreeing for compared in self.prints],
            "source": [compared.source for compared in self.prints],
        }
        reasons = (reason for compared in self.prints for reason in compared.reasons())
        return html_table(columns, title=repr(self), notes=[*reasons, NO_LOGS])

    @property
    def cells(self) -> tuple[PrintedCell, ...]:
        """The cells of all prints."""
        return tuple(cell for compared in self.prints for cell in compared.cells)

    @property
    def differing(self) -> tuple[PrintedCell, ...]:
        """The cells that do not agree."""
        return tuple(cell for cell in self.cells if not cell.agrees)

    @property
    def frame(self) -> pd.DataFrame:
        """A row per cell."""
        import pandas as pd

        return pd.DataFrame(self.records())

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield a dict per cell: the print, its source, the rule, both numbers, the reason."""
        for compared in self.prints:
            for cell in compared.cells:
                yield {
                    "print": compared.name,
                    "source": compared.source,
                    "edition": compared.edition,
                    "rule": compared.rule,
                    **cell.record(),
                }

    def layouts(self) -> list[Layout]:
        """Return what `format_tables` shows."""
        cells = self.cells
        n_agreeing = len(cells) - len(self.differing)
        total = f"All prints together: {n_agreeing} of {len(cells)} cells agree."
        first, *others = (compared.layout() for compared in self.prints)
        first = replace(first, above=[total, *first.above])
        *before, last = first, *others
        return [*before, replace(last, below=[*last.below, NO_LOGS])]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as numbers, texts, lists and dicts, for JSON."""
        return {
            "n_cells": len(self.cells),
            "n_agreeing": len(self.cells) - len(self.differing),
            "prints": [
                {
                    "print": compared.name,
                    "source": compared.source,
                    "edition": compared.edition,
                    "rule": compared.rule,
                    "n_cells": len(compared.cells),
                    "n_agreeing": compared.n_agreeing,
                    "cells": [cell.record() for cell in compared.cells],
                }
                for compared in self.prints
            ],
            "notes": [NO_LOGS],
        }


@functools.cache
def printed_tables() -> tuple[Print, ...]:
    """Return what was printed.

    Examples
    --------
    >>> label_errors, *_ = printed_tables()
    >>> label_errors.name, label_errors.edition, len(label_errors.cells)
    ('label errors, 2020', '2019', 120)
    >>> label_errors.cells["f1", "cl_pbc", Setting(0.2, 0)]
    '.76'
    """
    with (registry_folder() / PRINTED_FILE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {f"{s.noise:g}/{s.sparsity:g}": s for s in SETTINGS if s.has_probabilities}
    by_name: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_name.setdefault(row["print"], []).append(row)
    return tuple(
        Print(
            name,
            of[0]["source"],
            cast(Edition, of[0]["edition"]) or None,
            cast(Rule, of[0]["rule"]) or None,
            of[0]["unit"] == "percent",
            {
                (row["group"], cast(Method, row["method"]), setting): row[column]
                for row in of
                for column, setting in columns.items()
                if row[column]
            },
        )
        for name, of in by_name.items()
    )


def compare_with_print(
    *,
    edition: Edition | None = None,
    rule: Rule | None = None,
    network: Network = "max",
    noise: float | Setting | None = None,
    sparsity: float | None = None,
    method: Method | OtherMethod | None = None,
) -> ComparisonWithPrint:
    """Compare the numbers that were printed with those that the published files give.

    Parameters
    ----------
    edition : {"2019", "2021"}, optional
        Of the train masks; by default for each print the one that it follows.
    rule : {"last", "best"}, optional
        Test accuracy at which epoch; by default for each print the rule that it follows.
    network : {"max", "first", "second", "mean"}, default "max"
        Of two networks, as for `accuracy_table`; the prints take the better one.
    noise, sparsity, method : optional
        Only the cells that match, as for `artifacts`; only their files are read.

    Returns
    -------
    ComparisonWithPrint
        A number agrees if it rounds to the printed one, at as many decimals.

    Raises
    ------
    UnknownArtifactError, UnavailableError
        If a choice is unknown, nothing that was printed matches, or a file cannot be had.

    Examples
    --------
    >>> comparison = compare_with_print(noise=0.7, method="argmax")  # published files
    >>> for compared in comparison.prints:  # published files
    ...     print(f"{compared.name}: {compared.n_agreeing} of {len(compared.cells)}")
    label errors, 2020: 8 of 8
    label errors, 2021: 8 of 8
    test accuracy, 2020: 4 of 4
    test accuracy of ResNet-50: 3 of 4
    test accuracy, final paper: 0 of 4
    >>> cell = comparison.prints[3].differing[0]  # published files
    >>> cell.printed, cell.recomputed, cell.reason  # published files
    ('32.84', '32.18', "two machines' logs of this training were swapped: ...")
    """
    if edition is not None:
        check_choice(edition, EDITIONS, "edition")
    check_choices("last" if rule is None else rule, network)
    chosen = [
        replace(made, cells=chosen_cells(made.cells, noise, sparsity, method))
        for made in printed_tables()
    ]
    prints = [made for made in chosen if made.cells]
    if not prints:
        raise UnknownArtifactError(
            "nothing that was printed matches all filters: leave one of them out"
        )
    tables = _tables(prints, edition, rule, network)
    return ComparisonWithPrint(
        tuple(
            _compare(made, table, edition, rule, network)
            for made, table in zip(prints, tables, strict=True)
        )
    )


def _tables(
    prints: Sequence[Print], edition: Edition | None, rule: Rule | None, network: Network
) -> list[Table]:
    """Make for each print the table of its cells; each file is fetched and read once."""
    printed = {cell for made in prints for cell in made.cells}
    editions = dict.fromkeys(edition or made.edition for made in prints if made.edition)
    rules = dict.fromkeys(rule or made.rule for made in prints if made.rule)
    masks = {
        used: {cell: mask for cell, mask in mask_cells(used).items() if cell in printed}
        for used in editions
        if used
    }
    logs = {cell: log for cell, log in log_cells().items() if cell in printed}
    fetch_absent(*masks.values(), logs)
    errors = {used: error_table(used, cells) for used, cells in masks.items()}
    accuracies = accuracy_tables([used for used in rules if used], network, logs)
    return [
        errors[edition or made.edition]
        if made.edition
        else accuracies[rule or cast(Rule, made.rule)]
        for made in prints
    ]


def _compare(
    made: Print, table: Table, edition: Edition | None, rule: Rule | None, network: Network
) -> ComparedPrint:
    """Compare a print with a table that was made by these choices."""
    choice = None
    if made.edition and edition not in (None, made.edition):
        choice = f"the print follows edition {made.edition}"
    elif made.rule and rule not in (None, made.rule):
        choice = f"the print follows the rule {made.rule!r}"
    cells = []
    for cell, printed in made.cells.items():
        group, value = cell[0], table.cells[cell]
        recomputed = _as_printed(value, printed, made.in_percent)
        reason = table.missing.get(cell)
        if reason is None and recomputed != printed:
            one_network = group == "resnet50" or network == "max"
            reason = (
                (TEN_TRIALS if made.name == FINAL_PAPER else choice)
                or _KNOWN.get((made.name, cell))
                or (None if one_network else "the print takes the better network")
            )
        cells.append(PrintedCell(*cell, printed, recomputed, value, reason))
    return ComparedPrint(made.name, made.source, table.edition, table.rule, tuple(cells))


def _as_printed(value: float | None, printed: str, in_percent: bool) -> str:
    """Write a fraction as the printed number beside it is written."""
    if value is None:
        return "missing"
    decimals = len(printed.partition(".")[2])
    return f"{value * 100 if in_percent else value:.{decimals}f}".removeprefix("0")


def _marked(cell: PrintedCell) -> str:
    return cell.recomputed + ("" if cell.agrees else "*")
