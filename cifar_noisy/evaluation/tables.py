"""The paper's tables from the published masks and logs alone, each with the rule it follows.

Two tables: how well each method finds label errors, from either edition of the masks; and the test
accuracy after training, from the logs. What the files cannot give is said, never filled in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from cifar_noisy.errors import TrainingLogError
from cifar_noisy.evaluation.table_formats import Layout, format_tables
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
    check_noise,
    check_sparsity,
)
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.registry import Artifact, artifacts, require_nonempty

if TYPE_CHECKING:
    import pandas as pd

    from cifar_noisy.loading.training_logs import TrainingLog

Rule = Literal["last", "best"]
Network = Literal["max", "first", "second", "mean"]
Cell = tuple[str, Method | OtherMethod, Setting]
Value = TypeVar("Value")

RULES: tuple[Rule, ...] = ("last", "best")
NETWORKS: tuple[Network, ...] = ("max", "first", "second", "mean")

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
    edition : str or None
        Of the train masks; None where no mask was read.
    """

    title: str
    rule: str
    grouped_by: str
    cells: Mapping[Cell, float | None]
    missing: Mapping[Cell, str]
    notes: tuple[str, ...]
    decimals: int
    edition: Edition | None = None

    def __str__(self) -> str:
        return format_tables(self).rstrip("\n")

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
        """Yield a dict per cell: where it stands, its value, and why it is missing."""
        for (group, method, setting), value in self.cells.items():
            yield {
                "table": self.title,
                "edition": self.edition,
                "rule": self.rule,
                **cell_names((group, method, setting)),
                "value": value,
                "missing": self.missing.get((group, method, setting)),
            }

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as numbers, texts, lists and dicts, for JSON."""
        about = {"table": self.title, "edition": self.edition, "rule": self.rule}
        return about | {
            "notes": list(self.notes),
            "cells": [
                {name: value for name, value in record.items() if name not in about}
                for record in self.records()
            ],
        }

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.title!r}, {len(self.rows)} rows, "
            f"{len(self.settings)} settings, {len(self.missing)} missing)"
        )

    def _repr_html_(self) -> str:
        notes = ["columns: noise/sparsity; bold: the best of a group", f"rule: {self.rule}"]
        notes += [f"missing: {why}" for why in self.missing.values()]
        return html_table(_columns(self), title=self.title, notes=(*notes, *self.notes))

    def layouts(self) -> list[Layout]:
        """Return what `format_tables` shows."""
        rows = [
            (
                (shown_group(group), PAPER_NAMES.get(method, method)),
                [self._shown((group, method, setting)) for setting in self.settings],
            )
            for group, method in self.rows
        ]
        above = f"{self.title}. Rule: {self.rule}. Columns: noise/sparsity."
        missing = (f"missing: {why}" for why in self.missing.values())
        heads = (self.grouped_by, "method")
        return [Layout([above], heads, self.settings, rows, [*missing, *self.notes])]

    def _shown(self, cell: Cell) -> str:
        if cell not in self.cells:
            return "-"
        value = self.cells[cell]
        return "missing" if value is None else f"{value:.{self.decimals}f}"


def cell_names(cell: Cell) -> dict[str, Any]:
    """Return group, method, the paper's name of it, noise and sparsity of a cell."""
    group, method, setting = cell
    return {
        "group": group,
        "method": method,
        "paper_name": PAPER_NAMES.get(method, method),
        "noise": setting.noise,
        "sparsity": setting.sparsity,
    }


def shown_group(group: str) -> str:
    """Return a group's name in tables for people."""
    return _GROUP_NAMES.get(group, group)


def paper_tables(
    *,
    edition: Edition | None = None,
    rule: Rule = "last",
    network: Network = "max",
    noise: float | Setting | None = None,
    sparsity: float | None = None,
    method: Method | OtherMethod | None = None,
    progress: Shown = None,
) -> tuple[Table, ...]:
    """Make the tables of label errors and of test accuracy.

    Parameters
    ----------
    edition, rule, network, noise, sparsity, method, progress
        As for `label_error_table` and `accuracy_table`.

    Returns
    -------
    tuple of Table
        The tables of both functions, which also raise the same errors. A table without a cell that
        matches the filters is left out.

    Examples
    --------
    >>> [table.title for table in paper_tables()]  # published files
    ['Finding label errors', 'Test accuracy after training']
    >>> (table,) = paper_tables(method="sceloss", noise=0.4)  # published files
    >>> print(table)  # published files
    Test accuracy after training. Rule: at the last epoch; of two networks the better one. ...
    trained       method      0.4/0    0.4/0.2    0.4/0.4    0.4/0.6
    ------------  --------  -------  ---------  ---------  ---------
    all examples  SCE-loss    0.763      0.741      0.649      0.583
    The final paper's Table 2 is a mean of ten trials ...
    """
    used = _edition(edition)
    check_choices(rule, network)  # before the first file is looked for
    check_progress(progress)
    masks = chosen_cells(mask_cells(used), noise, sparsity, method)
    logs = chosen_cells(log_cells(), noise, sparsity, method)
    require_nonempty([*masks.values(), *logs.values()])
    fetch_absent(masks, logs, progress=progress)
    errors = [error_table(used, masks)] if masks else []
    accuracies = accuracy_tables((rule,), network, logs, progress) if logs else {}
    return (*errors, *accuracies.values())


def label_error_table(
    *,
    edition: Edition | None = None,
    noise: float | Setting | None = None,
    sparsity: float | None = None,
    method: Method | None = None,
) -> Table:
    """Make the table of how well each method finds label errors.

    Parameters
    ----------
    edition : {"2019", "2021"}, optional
        Of the train masks. "2019", the default, gives the numbers of the February 2020 print,
        "2021" those of upstream's notebook of 2021; at two decimals they differ in two cells.
    noise, sparsity, method : optional
        Only the cells that match, as for `artifacts`; only their files are read.

    Returns
    -------
    Table
        Accuracy, F1, precision and recall of the five methods for the 12 settings with noise 0.2,
        0.4 and 0.7, label errors being the positive class. (Without noise there is none to find.)

    Raises
    ------
    UnknownArtifactError, UnavailableError
        If the edition is unknown, no cell matches, or a mask cannot be had.

    Examples
    --------
    >>> table = label_error_table(edition="2021")  # published files
    >>> round(float(table.cells["precision", "cl_pbc", Setting(0.2, 0)]), 4)  # published files
    0.6349
    """
    used = _edition(edition)
    masks = chosen_cells(mask_cells(used), noise, sparsity, method)
    require_nonempty(list(masks.values()))
    fetch_absent(masks)
    return error_table(used, masks)


def error_table(edition: Edition, masks: Iterable[Cell]) -> Table:
    """Make the table of some cells from the masks of an edition; each mask is read once."""
    from cifar_noisy.evaluation.metrics import GroundTruth
    from cifar_noisy.loading.artifact_loading import load_label_errors

    chosen = dict.fromkeys((method, setting) for _, method, setting in masks)
    truths = {setting: GroundTruth.of(setting) for setting in {setting for _, setting in chosen}}
    found = {
        (method, setting): truths[setting].detect(
            method, load_label_errors(cast(Method, method), setting, edition=edition)
        )
        for method, setting in chosen
    }
    cells: dict[Cell, float | None] = {
        (metric, method, setting): getattr(found[method, setting], metric)
        for metric, method, setting in masks
    }
    return Table(
        "Finding label errors",
        f"published train masks of edition {edition} against the true label errors",
        "metric",
        cells,
        missing={},
        notes=(),
        decimals=2,
        edition=edition,
    )


def accuracy_table(
    *,
    rule: Rule = "last",
    network: Network = "max",
    noise: float | Setting | None = None,
    sparsity: float | None = None,
    method: Method | OtherMethod | None = None,
    progress: Shown = None,
) -> Table:
    """Make the table of test accuracies after training, from the logs, of which there are 161.

    Parameters
    ----------
    rule : {"last", "best"}, default "last"
        The epoch: the last one, or the one with the highest test accuracy. The tables of February
        2020 follow "last", upstream's ResNet-50 evaluations "best".
    network : {"max", "first", "second", "mean"}, default "max"
        Of the two networks of Co-Teaching and Co-Teaching+, at each epoch: the better one, one of
        them, or their mean.
    noise, sparsity, method : optional
        Only the cells that match, as for `artifacts`; only their files are read.
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
        If the rule or network is unknown, no cell matches, or a log cannot be had.

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
    check_choices(rule, network)
    check_progress(progress)
    logs = chosen_cells(log_cells(), noise, sparsity, method)
    require_nonempty(list(logs.values()))
    fetch_absent(logs, progress=progress)
    return accuracy_tables((rule,), network, logs, progress)[rule]


def accuracy_tables(
    rules: Sequence[Rule],
    network: Network,
    logs: Mapping[Cell, Artifact],
    progress: Shown = None,
) -> dict[Rule, Table]:
    """Make the table of some logs by each rule; each log is read once."""
    from cifar_noisy.loading.artifact_loading import load_training_log

    cells: dict[Rule, dict[Cell, float | None]] = {rule: {} for rule in rules}
    missing = {}
    with progress_bar(progress, "reading", len(logs), "log") as bar:
        for cell, artifact in logs.items():
            _, method, setting = cell
            for rule in rules:
                cells[rule][cell] = None
            try:
                log = load_training_log(method, setting, trainer=artifact.trainer)
                for rule in rules:
                    cells[rule][cell] = accuracy_of_log(log, rule=rule, network=network)
            except TrainingLogError as error:
                missing[cell] = str(error)
            bar.update()
    return {
        rule: Table(
            "Test accuracy after training",
            rule_text(rule, network),
            "trained",
            cells[rule],
            missing,
            (TEN_TRIALS,),
            decimals=3,
        )
        for rule in rules
    }


def rule_text(rule: Rule, network: Network) -> str:
    """Say how accuracies are taken from a log."""
    return f"{_RULE_TEXTS[rule]}; of two networks the " + (
        "better one" if network == "max" else network
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
    check_choices(rule, network)
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


def check_choices(rule: str, network: str) -> None:
    """Require a known rule and network."""
    check_choice(rule, RULES, "rule")
    check_choice(network, NETWORKS, "network")


def _edition(edition: str | None) -> Edition:
    return "2019" if edition is None else check_choice(edition, EDITIONS, "edition")


def mask_cells(edition: Edition) -> dict[Cell, Artifact]:
    """Return the 60 masks by the 240 cells that they give, four of each."""
    masks = {(a.method, a.setting): a for a in artifacts(kind="train_mask", edition=edition)}
    return {
        (metric, method, setting): masks[method, setting]
        for metric in METRICS
        for setting in SETTINGS
        if setting.noise and setting.has_probabilities
        for method in METHODS
    }


def log_cells() -> dict[Cell, Artifact]:
    """Return the 161 logs by the cell that each gives."""
    logs = {
        (a.trainer, a.method, a.setting): a
        for a in artifacts(kind="training_log")
        if not a.is_stray
    }
    rows: list[tuple[Trainer | None, Method | OtherMethod]] = [
        *(("coteaching", method) for method in METHODS),
        *(("resnet50", method) for method in METHODS),
        *((None, method) for method in OTHER_METHODS),
    ]
    return {
        (trainer or ALL_EXAMPLES, method, setting): logs[trainer, method, setting]
        for trainer, method in rows
        for setting in SETTINGS
        if setting.has_probabilities and (setting.noise or trainer == "resnet50")
    }


def chosen_cells(
    cells: Mapping[Cell, Value],
    noise: float | Setting | None,
    sparsity: float | None,
    method: str | None,
) -> dict[Cell, Value]:
    """Return the cells that match every filter given."""
    if isinstance(noise, Setting):
        setting = Setting.of(noise, sparsity)
        noise, sparsity = setting.noise, setting.sparsity
    level = None if noise is None else check_noise(noise)
    share = None if sparsity is None else check_sparsity(sparsity)
    if method is not None:
        check_choice(method, (*METHODS, *OTHER_METHODS), "method")
    return {
        cell: value
        for cell, value in cells.items()
        for _, of, setting in [cell]
        if method in (None, of)
        and level in (None, setting.noise)
        and share in (None, setting.sparsity)
    }


def fetch_absent(*files: Mapping[Cell, Artifact], progress: Shown = None) -> None:
    """Fetch what is not on this machine, all at once, or say at once what cannot be had."""
    wanted = dict.fromkeys(artifact for mapping in files for artifact in mapping.values())
    Store.from_environment().fetch_absent(list(wanted), only_bar(progress))


def _columns(table: Table) -> dict[str, list[CellShown]]:
    """Return the table as a notebook shows it, the best of each group and setting in bold."""
    rows = table.rows
    columns: dict[str, list[CellShown]] = {
        table.grouped_by: [shown_group(group) for group, _ in rows],
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
