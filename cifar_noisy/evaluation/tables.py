"""The paper's tables from the published masks and logs alone, each with the rule it follows.

Two tables: how well each method finds label errors, from either edition of the masks; and the test
accuracy after training, from the logs. What the files cannot give is said, never filled in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cifar_noisy.errors import TrainingLogError, printable
from cifar_noisy.progress_bars import Shown, check_progress, only_bar, progress_bar
from cifar_noisy.rendering import Cell as CellShown, highest_bold, html_table
from cifar_noisy.settings import (
    EDITIONS,
    METHODS,
    OTHER_METHODS,
    PAPER_NAMES,
    SETTINGS,
    Edition,
    Method,
    OtherMethod,
    Setting,
    Trainer,
    check_choice,
)
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.registry import Artifact, artifacts, find

if TYPE_CHECKING:
    import pandas as pd

    from cifar_noisy.loading.training_logs import TrainingLog

Rule = Literal["last", "best"]
Network = Literal["max", "first", "second", "mean"]
Format = Literal["text", "markdown", "latex", "csv"]
Cell = tuple[str, Method | OtherMethod, Setting]

RULES: tuple[Rule, ...] = ("last", "best")
NETWORKS: tuple[Network, ...] = ("max", "first", "second", "mean")
FORMATS: tuple[Format, ...] = ("text", "markdown", "latex", "csv")

METRICS = ("accuracy", "f1", "precision", "recall")
ALL_EXAMPLES = "all examples"
"""The group of the methods that train on all examples; the others train on those kept."""

TEN_TRIALS = (
    "The final paper's Table 2 is a mean of ten trials whose logs were never published: no rule "
    "derives it from these files."
)

_GROUP_NAMES = {"f1": "F1", "coteaching": "Co-Teaching, kept", "resnet50": "ResNet-50, kept"}
_RULE_TEXTS = {
    "last": "at the last epoch",
    "best": "at the best epoch, which is chosen on the test set and hence flatters",
}


@dataclass(frozen=True, eq=False)
class Table:
    """One table of the paper.

    Attributes
    ----------
    title, rule : str
        What its numbers are, and how they were taken from the files.
    grouped_by : str
        What a group is: "metric", or what was "trained", and on what.
    cells : dict of (group, method, Setting) to float or None
        Fractions; None where the published file holds no number. In the order of the rows.
    missing : dict of (group, method, Setting) to str
        Why, for each cell that is None.
    notes : tuple of str
        What a reader must know.
    decimals : int
        As many as the paper prints.
    """

    title: str
    rule: str
    grouped_by: str
    cells: Mapping[Cell, float | None]
    missing: Mapping[Cell, str]
    notes: tuple[str, ...]
    decimals: int

    @property
    def settings(self) -> list[Setting]:
        """The settings, in the order of the columns."""
        return sorted({setting for _, _, setting in self.cells})

    @property
    def rows(self) -> list[tuple[str, Method | OtherMethod]]:
        """Group and method of each row."""
        return list(dict.fromkeys((group, method) for group, method, _ in self.cells))

    @property
    def frame(self) -> pd.DataFrame:
        """The cells as a data frame of float64, with NaN where nobody published a number.

        Rows: group and method; columns: noise and sparsity.
        """
        import pandas as pd

        rows, settings = self.rows, self.settings
        numbers = [(setting.noise, setting.sparsity) for setting in settings]
        return pd.DataFrame(
            [[self.cells.get((*row, setting)) for setting in settings] for row in rows],
            index=pd.MultiIndex.from_tuples(rows, names=(self.grouped_by, "method")),
            columns=pd.MultiIndex.from_tuples(numbers, names=("noise", "sparsity")),
            dtype="float64",
        )

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield a dict per cell: table, group, method, noise, sparsity, value, missing (why)."""
        for (group, method, setting), value in self.cells.items():
            yield {
                "table": self.title,
                "group": group,
                "method": method,
                "noise": setting.noise,
                "sparsity": setting.sparsity,
                "value": value,
                "missing": self.missing.get((group, method, setting)),
            }

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as numbers, texts, lists and dicts, for JSON."""
        return {
            "title": self.title,
            "rule": self.rule,
            "notes": list(self.notes),
            "cells": list(self.records()),
        }

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.title!r}, {len(self.rows)} rows, "
            f"{len(self.settings)} settings, {len(self.missing)} missing)"
        )

    def __str__(self) -> str:
        return format_tables(self).removesuffix("\n")

    def _repr_html_(self) -> str:
        notes = ["columns: noise/sparsity; bold: the best of a group", f"rule: {self.rule}"]
        notes += [f"missing: {why}" for why in self.missing.values()]
        return html_table(_columns(self), title=self.title, notes=(*notes, *self.notes))


def paper_tables(
    *,
    edition: Edition | None = None,
    rule: Rule = "last",
    network: Network = "max",
    progress: Shown = None,
) -> tuple[Table, Table]:
    """Make the tables of label errors and of test accuracy.

    Parameters
    ----------
    edition, rule, network, progress
        As for `label_error_table` and `accuracy_table`.

    Returns
    -------
    tuple of Table
        The tables of both functions, which also raise the same errors.

    Examples
    --------
    >>> [table.title for table in paper_tables()]  # published files
    ['Finding label errors', 'Test accuracy after training']
    """
    check_progress(progress)
    _check_choices(rule, network)  # before the first file is looked for
    files = [*_masks(_edition(edition)), *_logs().values()]
    Store.from_environment().fetch_absent(files, only_bar(progress))
    return label_error_table(edition=edition), accuracy_table(
        rule=rule, network=network, progress=progress
    )


def label_error_table(*, edition: Edition | None = None) -> Table:
    """Make the table of how well each method finds label errors.

    Parameters
    ----------
    edition : {"2019", "2021"}, optional
        Of the train masks. "2019", the default, gives the numbers of the February 2020 print,
        "2021" those of upstream's notebook of 2021; at two decimals they differ in two cells.

    Returns
    -------
    Table
        Accuracy, F1, precision and recall of the five methods for the 12 settings with noise 0.2,
        0.4 and 0.7, label errors being the positive class. (Without noise there is none to find.)

    Raises
    ------
    UnknownArtifactError, UnavailableError
        If the edition is unknown, or a mask cannot be had.

    Examples
    --------
    >>> table = label_error_table(edition="2021")  # published files
    >>> round(float(table.cells["precision", "cl_pbc", Setting(0.2, 0)]), 4)  # published files
    0.6349
    """
    from cifar_noisy.evaluation.evaluate import evaluate_published

    used = _edition(edition)
    Store.from_environment().fetch_absent(_masks(used))
    settings = [setting for setting in SETTINGS if setting.noise and setting.has_probabilities]
    detections = {setting: evaluate_published(setting, edition=used) for setting in settings}
    cells: dict[Cell, float | None] = {
        (metric, method, setting): getattr(detections[setting][i], metric)
        for metric in METRICS
        for setting in settings
        for i, method in enumerate(METHODS)
    }
    return Table(
        "Finding label errors",
        f"published train masks of edition {used} against the true label errors",
        "metric",
        cells,
        missing={},
        notes=(),
        decimals=2,
    )


def accuracy_table(
    *, rule: Rule = "last", network: Network = "max", progress: Shown = None
) -> Table:
    """Make the table of test accuracies after training, from all 161 logs.

    Parameters
    ----------
    rule : {"last", "best"}, default "last"
        The epoch: the last one, or the one with the highest test accuracy. The tables of February
        2020 follow "last", upstream's ResNet-50 evaluations "best".
    network : {"max", "first", "second", "mean"}, default "max"
        Of the two networks of Co-Teaching and Co-Teaching+, at each epoch: the better one, one of
        them, or their mean.
    progress : bool or object with ``update(n)``, optional
        Whether to show a progress bar; by default on a terminal and in a notebook. An object is
        told of each log instead.

    Returns
    -------
    Table
        Groups "coteaching" and "resnet50", trained on the examples that each of the five methods
        keeps, and "all examples": Co-Teaching, Co-Teaching+ and SCE without cleaning. Noise 0 was
        published for ResNet-50 only.

    Raises
    ------
    UnknownArtifactError, UnavailableError
        If the rule or network is unknown, or a log cannot be had.

    Examples
    --------
    >>> table = accuracy_table()  # published files
    >>> round(table.cells["coteaching", "cl_pbnr", Setting(0.4, 0.2)], 3)  # published files
    0.864
    >>> table.frame.shape  # published files
    (13, 13)
    >>> [str(setting) for _, _, setting in table.missing]  # published files
    ['noise 0.2, sparsity 0.6']
    """
    check_progress(progress)
    _check_choices(rule, network)
    from cifar_noisy.loading.artifact_loading import load_training_log

    cells: dict[Cell, float | None] = {}
    missing, logs = {}, _logs()
    Store.from_environment().fetch_absent(list(logs.values()), only_bar(progress))
    with progress_bar(progress, "reading", len(logs), "log") as bar:
        for cell, artifact in logs.items():
            _, method, setting = cell
            try:
                log = load_training_log(method, setting, trainer=artifact.trainer)
                cells[cell] = accuracy_of_log(log, rule=rule, network=network)
            except TrainingLogError as error:
                cells[cell] = None
                missing[cell] = str(error)
            bar.update()
    return Table(
        "Test accuracy after training",
        f"{_RULE_TEXTS[rule]}; of two networks the {'better one' if network == 'max' else network}",
        "trained",
        cells,
        missing,
        (TEN_TRIALS,),
        decimals=3,
    )


def accuracy_of_log(log: TrainingLog, *, rule: Rule = "last", network: Network = "max") -> float:
    r"""Return a training's test accuracy by a rule.

    Parameters
    ----------
    log : TrainingLog
    rule, network
        As for `accuracy_table`; the network is of no matter where the log is of one.

    Returns
    -------
    float
        A fraction.

    Raises
    ------
    TrainingLogError
        If the log is not complete: its last epoch is not that of the training.
    UnknownArtifactError
        If the rule or network is unknown.

    Examples
    --------
    >>> from cifar_noisy import parse_training_log
    >>> log = parse_training_log(
    ...     "Epoch [1/2] Test Accuracy on the 10000 test data: Model1 50.0000 % Model2 60.0000 %\n"
    ...     "Epoch [2/2] Test Accuracy on the 10000 test data: Model1 40.0000 % Model2 30.0000 %\n"
    ... )
    >>> accuracy_of_log(log), accuracy_of_log(log, rule="best", network="second")
    (0.4, 0.6)
    """
    _check_choices(rule, network)
    if not log.is_complete:
        planned = f" of {log.planned_epochs}" if log.planned_epochs else ""
        raise TrainingLogError(
            f"the log stops after epoch {len(log.epochs)}{planned}, so it has no accuracy by rule "
            f"{rule!r}: get the whole log"
        )
    networks = log.epochs.filter(regex=r"^test_accuracy(_\d)?$")  # one, or two
    accuracy = {
        "max": networks.max(axis=1),
        "first": networks.iloc[:, 0],
        "second": networks.iloc[:, -1],
        "mean": networks.mean(axis=1),
    }[network]
    return float(accuracy.iloc[-1] if rule == "last" else accuracy.max())


def format_tables(
    tables: Table | Sequence[Table],
    format: Format = "text",  # noqa: A002 - the option's name
    *,
    width: int | None = None,
) -> str:
    """Write tables as text.

    Parameters
    ----------
    tables : Table or sequence of Table
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

    Examples
    --------
    >>> text = format_tables([label_error_table()], "csv")  # published files
    >>> print(text[:101])  # published files
    table,group,method,noise,sparsity,value,missing
    Finding label errors,accuracy,argmax,0.2,0.0,0.84052,
    """
    tables = [tables] if isinstance(tables, Table) else tables
    if check_choice(format, FORMATS, "format") == "csv":
        import pandas as pd

        return pd.DataFrame(row for table in tables for row in table.records()).to_csv(index=False)
    return "\n".join(_formatted(table, format, width) for table in tables)


def _check_choices(rule: str, network: str) -> None:
    check_choice(rule, RULES, "rule")
    check_choice(network, NETWORKS, "network")


def _edition(edition: str | None) -> Edition:
    return "2019" if edition is None else check_choice(edition, EDITIONS, "edition")


def _masks(edition: Edition) -> list[Artifact]:
    masks = artifacts(kind="train_mask", edition=edition)
    return [mask for mask in masks if mask.setting.noise]


def _logs() -> dict[Cell, Artifact]:
    """Return the 161 logs by the cell that each gives."""
    rows: list[tuple[Trainer | None, Method | OtherMethod]] = [
        *(("coteaching", method) for method in METHODS),
        *(("resnet50", method) for method in METHODS),
        *((None, method) for method in OTHER_METHODS),
    ]
    return {
        (trainer or ALL_EXAMPLES, method, setting): find(
            "training_log", setting, method, trainer=trainer
        )
        for trainer, method in rows
        for setting in SETTINGS
        if setting.has_probabilities and (setting.noise or trainer == "resnet50")
    }


def _columns(table: Table) -> dict[str, list[CellShown]]:
    """Return the table as a notebook shows it, the best of each group and setting in bold."""
    rows = table.rows
    columns: dict[str, list[CellShown]] = {
        table.grouped_by: [_GROUP_NAMES.get(group, group) for group, _ in rows],
        "method": [PAPER_NAMES.get(method, method) for _, method in rows],
    }
    for setting in table.settings:
        cells = list[CellShown]([None] * len(rows))
        for group in dict.fromkeys(group for group, _ in rows):
            of_group = [i for i, row in enumerate(rows) if row[0] == group]
            values = (table.cells.get((*rows[i], setting)) for i in of_group)
            for i, text in zip(of_group, highest_bold(values, table.decimals), strict=True):
                cells[i] = text
        columns[f"{setting.noise:g}/{setting.sparsity:g}"] = cells
    return columns


def _formatted(table: Table, format: Format, width: int | None) -> str:  # noqa: A002
    shown = _for_markdown if format == "markdown" else printable  # tabulate escapes for LaTeX
    above = [f"{shown(table.title)}. Rule: {shown(table.rule)}. Columns: noise/sparsity."]
    below = [f"missing: {shown(why)}" for why in table.missing.values()]
    below += map(shown, table.notes)
    if format == "latex":
        above, below = ([f"% {line}" for line in lines] for lines in (above, below))
    elif format == "markdown":
        above, below = [*above, ""], ["", *below] if below else []
    for n_columns in range(max(len(table.settings), 1), 0, -1):
        body = _body(table, format, n_columns)
        if format != "text" or not width or max(map(len, body.splitlines()), default=0) <= width:
            break
    return "\n".join((*above, body, *below)) + "\n"


def _body(table: Table, format: Format, n_columns: int) -> str:  # noqa: A002
    """Write rules and cells, as tables of so many settings one below another."""
    from tabulate import tabulate

    shown = _for_markdown if format == "markdown" else printable
    style = {"text": "simple", "markdown": "github", "latex": "latex_booktabs"}[format]
    settings = table.settings
    parts = [settings[i : i + n_columns] for i in range(0, len(settings), n_columns)]
    return "\n\n".join(
        tabulate(
            [list(map(shown, row)) for row in _lines(table, part)],
            [shown(table.grouped_by), "method", *(f"{s.noise:g}/{s.sparsity:g}" for s in part)],
            tablefmt=style,
            disable_numparse=True,
            colalign=("left", "left", *("right" for _ in part)),
        )
        for part in parts
    )


def _lines(table: Table, settings: Sequence[Setting]) -> Iterator[list[str]]:
    """Yield the cells of each row as text; a group is named once."""
    previous = None
    for group, method in table.rows:
        cells = (_cell(table, (group, method, setting)) for setting in settings)
        name = "" if group == previous else _GROUP_NAMES.get(group, group)
        yield [name, PAPER_NAMES.get(method, method), *cells]
        previous = group


def _cell(table: Table, cell: Cell) -> str:
    if cell not in table.cells:
        return "-"
    value = table.cells[cell]
    return "missing" if value is None else f"{value:.{table.decimals}f}"


def _for_markdown(text: object) -> str:
    """Return a text for Markdown, in a table's cell too."""
    return re.sub(r"([\\`*_|~$&<>\[\]])", r"\\\1", printable(text))
