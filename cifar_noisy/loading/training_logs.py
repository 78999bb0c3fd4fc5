r"""The published training logs: the text that a training printed -> two tables.

Upstream published 168 logs in four formats. A format is a few kinds of rows, each with a regular
expression whose named groups are the columns. Whatever is no row (warnings, printed networks, the
trailer of ``time``) is passed over.

The same in all formats:

- epochs and batches are counted from 1, also where the log counts from 0;
- accuracies and pure ratios are fractions, also where the log prints percent, and equal the printed
  decimal exactly: 84.9058 % is ``0.849058``;
- everything else is as printed. Nothing is averaged, smoothed or filled in.

A number counts only in a whole row, and with all the decimals that its format prints. So a row that
is cut in the middle of its last number is dropped instead of read wrong.

Four things to know before using these numbers, all measured on the logs:

- The two-network formats evaluate epoch 1 before any training, so 250 epochs are 249 of training,
  and the pure ratios of epoch 1 are a printed 0, not a measurement. Their test accuracies are
  multiples of 1/9984: 16 test images were left out, though the line speaks of 10000.
- Their "Pure Ratio" compares labels of one example order with labels of another: values near 0.1
  are what chance gives. "Actual noise" is right on the whole training set, but on a pruned set it
  compares labels of different examples: 0.64 where 0.2 was meant. The accuracies are not affected.
- SCE's ``BEST_ACC`` is printed before it is updated: the best of the epochs *before* this one.
- ResNet-50 and SCE logs print running means over an epoch. Those of the training set stop at the
  epoch's last *logged* batch, which need not be its last batch.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import chain
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import TrainingLogError, TruncatedLogWarning, printable
from cifar_noisy.rendering import Cell, html_facts, html_table

if TYPE_CHECKING:
    import pandas as pd

LogFormat = Literal["resnet50", "coteaching", "coteaching_plus", "sceloss"]

RESNET50_EPOCHS = 350
"""Epochs of each published ResNet-50 training on a pruned set, which its log does not announce."""


@dataclass(frozen=True, eq=False)
class TrainingLog:
    """One training log as tables. Fractions, seconds, and epochs counted from 1 in every format.

    Attributes
    ----------
    format : {"resnet50", "coteaching", "coteaching_plus", "sceloss"}
        Which program printed the log.
    batches : pandas.DataFrame, one row per logged batch, in the order of the log
        ``epoch`` (int64) and then, float64 where nothing else is said:

        - resnet50: ``phase`` ("train" or "test"), ``batch`` and ``batch_count`` (int64),
          ``batch_seconds``, ``data_seconds`` (NaN in the test phase), ``loss``, ``accuracy`` and
          ``top5_accuracy``, each also as ``..._mean`` over the batches of this phase so far;
        - coteaching: ``batch`` and ``batch_count`` (int64), ``train_accuracy_1``,
          ``train_accuracy_2``, ``loss_1``, ``loss_2``, ``pure_ratio_1``, ``pure_ratio_2``, of this
          batch, except the ratios, which are means over the epoch so far;
        - coteaching_plus: the same without the ratios;
        - sceloss: ``phase``, ``global_step`` (int64, batches since the training began; in the test
          phase, those trained by then), ``loss``, ``loss_mean``, ``accuracy``, ``accuracy_mean``,
          ``top5_accuracy_mean``, ``learning_rate`` and ``gradient_norm`` (both NaN in the test
          phase), ``iterations_per_second``.
    epochs : pandas.DataFrame, one row per epoch with a test evaluation
        ``epoch`` (int64, always 1, 2, ..., without a gap) and, float64:

        - resnet50: ``learning_rate``, ``train_loss``, ``train_accuracy``, ``test_accuracy``,
          ``test_top5_accuracy``;
        - coteaching: ``test_accuracy_1``, ``test_accuracy_2``, ``pure_ratio_1``, ``pure_ratio_2``;
        - coteaching_plus: ``test_accuracy_1``, ``test_accuracy_2``;
        - sceloss: ``learning_rate``, ``train_loss``, ``train_accuracy``, ``test_loss``,
          ``test_accuracy`` (printed as curr_acc), ``previous_best_test_accuracy`` (BEST_ACC),
          ``test_top5_accuracy``, ``previous_best_test_top5_accuracy``.

        ``train_loss`` and ``train_accuracy`` are running means at the epoch's last logged batch.
    train_size : int or None
        Number of training examples, where the log says it.
    planned_epochs : int or None
        Number of epochs that the log announces; ResNet-50 logs announce none.
    is_complete : bool
        Whether the last planned epoch is evaluated. A ResNet-50 log does not say how many were
        planned. It is complete where it ends in the evaluation of an epoch, and either that is
        epoch 350, as in every published ``out``, or the trailer of ``time`` shows that the program
        ended there. (One that crashed between two epochs under ``time`` would look the same.)
    wall_seconds : float or None
        The line ``real`` of ``time``, where there is one.
    printed_noise : float or None
        The line "Actual noise" of the two-network formats **as printed**. On a pruned set it
        compares labels of different examples, so it is not the noise of that set.
    """

    format: LogFormat
    batches: pd.DataFrame
    epochs: pd.DataFrame
    train_size: int | None
    planned_epochs: int | None
    is_complete: bool
    wall_seconds: float | None
    printed_noise: float | None

    @property
    def frame(self) -> pd.DataFrame:
        """The same as `epochs`."""
        return self.epochs

    def _accuracies(self) -> dict[str, Cell]:
        """Return the test accuracy at the last and the best epoch, of two networks both."""
        names = [name for name in self.epochs if re.match(r"test_accuracy(_\d)?$", str(name))]
        if not names or self.epochs.empty:
            return {}
        networks = self.epochs[names].to_numpy()
        best = [
            f"{accuracy:.4f} (epoch {self.epochs['epoch'].iloc[row]})"
            for accuracy, row in zip(networks.max(axis=0), networks.argmax(axis=0), strict=True)
        ]
        last = [f"{accuracy:.4f}" for accuracy in networks[-1]]
        return {"last test accuracy": " and ".join(last), "best test accuracy": " and ".join(best)}

    def __repr__(self) -> str:
        facts = [printable(self.format), f"{len(self.epochs)} epochs"]
        facts += [f"{name} {value}" for name, value in self._accuracies().items()]
        facts += [] if self.is_complete else ["not complete"]
        return f"{type(self).__name__}({', '.join(facts)})"

    def _repr_html_(self) -> str:
        facts: dict[str, Cell] = {
            "trained by": self.format,
            "epochs": f"{len(self.epochs)}{'' if self.is_complete else ', not complete'}",
            **self._accuracies(),
            "training examples": self.train_size,
            "hours": None if self.wall_seconds is None else f"{self.wall_seconds / 3600:.1f}",
        }
        columns = {str(name): self.epochs[name].tolist() for name in self.epochs}
        return html_facts(facts, more=html_table(columns))


class _Kind(IntEnum):
    """What a row tells, in the order in which the rows of an epoch follow each other."""

    SCHEDULE = 0
    TRAIN = 1
    TEST = 2
    EVALUATION = 3


class _Row:
    """A kind of row: how it starts, the pattern of the rest, and its columns that count from 0."""

    def __init__(self, kind: _Kind, start: str, rest: str, from_0: tuple[str, ...] = ()) -> None:
        self.kind, self.start = kind, start
        # A literal newline instead of ^ lets the regex engine search for a literal prefix.
        pattern = "\n" + re.escape(start) + rest + "$"
        self.pattern = re.compile(pattern, re.MULTILINE | re.ASCII)
        self.columns = list(self.pattern.groupindex)
        self.offsets = np.isin(self.columns, from_0).astype(np.float64)
        self.may_be_percent = ["accuracy" in name or "pure" in name for name in self.columns]


@dataclass(frozen=True)
class _Layout:
    format: LogFormat
    marker: str  # in every log of this format, and in none of another
    rows: tuple[_Row, ...]
    carried: dict[str, tuple[_Kind, str]]  # column of epochs <- the epoch's last row of a kind
    percent_decimals: int | None  # decimals of accuracies and pure ratios that are percent

    def columns(self, *kinds: _Kind) -> list[str]:
        """Return the columns of all rows of some kinds, each once, epoch first."""
        columns = [name for row in self.rows if row.kind in kinds for name in row.columns]
        return list(dict.fromkeys(["epoch", *columns]))


_WHOLE_NUMBERS = ("epoch", "batch", "batch_count", "global_step")
_INT = r"\d{1,9}"
_DEC2, _DEC3, _DEC4, _DEC5 = (rf"-?(?:\d+\.\d{{{n}}}|nan|inf)" for n in (2, 3, 4, 5))

_RESNET50_METRICS = (
    rf"\tLoss (?P<loss>{_DEC4}) \((?P<loss_mean>{_DEC4})\)"
    rf"\tAcc@1 (?P<accuracy>{_DEC3}) \((?P<accuracy_mean>{_DEC3})\)"
    rf"\tAcc@5 (?P<top5_accuracy>{_DEC3}) \((?P<top5_accuracy_mean>{_DEC3})\)"
)
_RESNET50_TIME = rf"\tTime (?P<batch_seconds>{_DEC3}) \((?P<batch_seconds_mean>{_DEC3})\)"
_RESNET50 = _Layout(
    format="resnet50",
    marker="\nEpoch: [",
    rows=(
        _Row(
            _Kind.SCHEDULE,
            "epoch: ",  # a rate has any number of digits, so it counts only with a newline
            rf"(?P<epoch>{_INT}) \| lr: (?P<learning_rate>\d+(?:\.\d+)?(?:e[-+]\d+)?)(?=\n)",
        ),
        _Row(
            _Kind.TRAIN,
            "Epoch: [",
            rf"(?P<epoch>{_INT})\]\[(?P<batch>{_INT})/(?P<batch_count>{_INT})\]{_RESNET50_TIME}"
            rf"\tData (?P<data_seconds>{_DEC3}) \((?P<data_seconds_mean>{_DEC3})\)"
            + _RESNET50_METRICS,
            from_0=("epoch", "batch"),
        ),
        _Row(
            _Kind.TEST,
            "Test: [",
            rf"(?P<batch>{_INT})/(?P<batch_count>{_INT})\]{_RESNET50_TIME}{_RESNET50_METRICS}",
            from_0=("batch",),
        ),
        _Row(
            _Kind.EVALUATION,
            " * Acc@1 ",
            rf"(?P<test_accuracy>{_DEC3}) Acc@5 (?P<test_top5_accuracy>{_DEC3})",
        ),
    ),
    carried={
        "learning_rate": (_Kind.SCHEDULE, "learning_rate"),
        "train_loss": (_Kind.TRAIN, "loss_mean"),
        "train_accuracy": (_Kind.TRAIN, "accuracy_mean"),
    },
    percent_decimals=3,
)

_COTEACHING_TRAIN = (
    rf"(?P<epoch>{_INT})/{_INT}\], Iter \[(?P<batch>{_INT})/(?P<batch_count>{_INT})\]"
    rf" Training Accuracy1: (?P<train_accuracy_1>{_DEC4}),"
    rf" Training Accuracy2: (?P<train_accuracy_2>{_DEC4}),"
    rf" Loss1: (?P<loss_1>{_DEC4}), Loss2: (?P<loss_2>{_DEC4})"
)
_COTEACHING_TEST = (
    rf"(?P<epoch>{_INT})/{_INT}\] Test Accuracy on the 10000 test (?:images|data):"
    rf" Model1 (?P<test_accuracy_1>{_DEC4}) % Model2 (?P<test_accuracy_2>{_DEC4}) %"
)
_COTEACHING = _Layout(
    format="coteaching",
    marker=" test images: Model1 ",
    rows=(
        _Row(
            _Kind.TRAIN,
            "Epoch [",
            rf"{_COTEACHING_TRAIN},"
            rf" Pure Ratio1: (?P<pure_ratio_1>{_DEC4}), Pure Ratio2 (?P<pure_ratio_2>{_DEC4})",
        ),
        _Row(
            _Kind.EVALUATION,
            "Epoch [",
            rf"{_COTEACHING_TEST},?"  # epoch 1 has a spelling of its own
            rf" Pure Ratio ?1 (?P<pure_ratio_1>{_DEC4}) %,?"
            rf" Pure Ratio ?2 (?P<pure_ratio_2>{_DEC4}) %",
        ),
    ),
    carried={},
    percent_decimals=4,
)
_COTEACHING_PLUS = replace(
    _COTEACHING,
    format="coteaching_plus",
    marker=" test data: Model1 ",
    rows=(
        _Row(_Kind.TRAIN, "Epoch [", _COTEACHING_TRAIN),
        _Row(_Kind.EVALUATION, "Epoch [", _COTEACHING_TEST),
    ),
)

_SCELOSS_START = rf"(?P<epoch>{_INT})\tglobal_step=(?P<global_step>{_INT})\tloss=(?P<loss>{_DEC5})"
_SCELOSS_SPEED = rf"\ttime=(?P<iterations_per_second>{_DEC2})it/s"
_SCELOSS = _Layout(
    format="sceloss",
    marker="\tglobal_step=",
    rows=(
        _Row(
            _Kind.TRAIN,
            "epoch=",
            rf"{_SCELOSS_START}\tloss_avg=(?P<loss_mean>{_DEC5})\tacc=(?P<accuracy>{_DEC5})"
            rf"\tacc_top1_avg=(?P<accuracy_mean>{_DEC5})"
            rf"\tacc_top5_avg=(?P<top5_accuracy_mean>{_DEC5})"
            rf"\tlr=(?P<learning_rate>{_DEC5})\tgn=(?P<gradient_norm>{_DEC5}){_SCELOSS_SPEED}",
            from_0=("epoch",),
        ),
        _Row(
            _Kind.TEST,
            "epoch=",
            rf"{_SCELOSS_START}\ttest_loss_avg=(?P<loss_mean>{_DEC5})\tacc=(?P<accuracy>{_DEC5})"
            rf"\ttest_acc_avg=(?P<accuracy_mean>{_DEC5})"
            rf"\ttest_acc_top5_avg=(?P<top5_accuracy_mean>{_DEC5}){_SCELOSS_SPEED}",
            from_0=("epoch",),
        ),
        _Row(
            _Kind.EVALUATION,
            "curr_acc\t",
            rf"(?P<test_accuracy>{_DEC4})\nBEST_ACC\t(?P<previous_best_test_accuracy>{_DEC4})"
            rf"\ncurr_acc_top5\t(?P<test_top5_accuracy>{_DEC4})"
            rf"\nBEST_ACC_top5\t(?P<previous_best_test_top5_accuracy>{_DEC4})",
        ),
    ),
    carried=_RESNET50.carried
    | {"learning_rate": (_Kind.TRAIN, "learning_rate"), "test_loss": (_Kind.TEST, "loss_mean")},
    percent_decimals=None,
)

_LAYOUTS = (_RESNET50, _COTEACHING, _COTEACHING_PLUS, _SCELOSS)
_TRAIN_SIZE = re.compile(r"\n(?:\('Train size:', |Train size: |Num of train )(\d{1,9})[)\n]")
_PLANNED_EPOCHS = re.compile(r"\n(?:Epoch \[\d+/|epoch )(\d{1,9})[]\n]")
_PRINTED_NOISE = re.compile(r"\nActual noise (\d\.\d\d)\n")
_WALL_TIME = re.compile(r"\nreal\t(\d{1,9})m(\d{1,9}\.\d+)s$", re.MULTILINE | re.ASCII)


def parse_training_log(text: str, *, name: str = "<log>") -> TrainingLog:
    r"""Parse the text of one published training log; its format is recognised from the content.

    Parameters
    ----------
    text : str
        The whole log, of one training.
    name : str
        What warnings and errors call the log, such as its path.

    Returns
    -------
    TrainingLog
        All rows of the log, as printed.

    Raises
    ------
    TrainingLogError
        If the text is empty or holds no row of a known format. Also, since a table with a silent
        hole is worse than none, if a row inside it cannot be read, or an epoch is missing or comes
        twice.

    Warns
    -----
    TruncatedLogWarning
        If the log is not complete. It says where the log stops; the rows before are returned, and a
        last row that was cut is not.

    Notes
    -----
    Source: the ``out`` and ``*.log`` files of cgnorthcutt/confidentlearning-reproduce. One of them
    is empty there: ResNet-50, noise 0.2, sparsity 0.6, ``cl_both``.

    Examples
    --------
    >>> log = parse_training_log(
    ...     "Epoch [1/2] Test Accuracy on the 10000 test data: Model1 9.9860 % Model2 10.7973 %\n"
    ...     "Epoch [2/2], Iter [50/390] Training Accuracy1: 14.0625, Training Accuracy2: 12.5000, "
    ...     "Loss1: 0.0179, Loss2: 0.0178\n"
    ...     "Epoch [2/2] Test Accuracy on the 10000 test data: Model1 30.1482 % Model2 29.6074 %\n"
    ... )
    >>> log.format, log.is_complete, len(log.batches)
    ('coteaching_plus', True, 1)
    >>> print(log.epochs.to_string(index=False))
     epoch  test_accuracy_1  test_accuracy_2
         1         0.099860         0.107973
         2         0.301482         0.296074
    """
    if not isinstance(text, str):
        raise TrainingLogError(f"{name} is {type(text).__name__}, not text: decode it")
    text = "\n" + text.replace("\r\n", "\n")  # now a newline stands before every line
    layout = _recognise(text, name)
    rows = _read_rows(layout, text)
    cut = _find_truncated_row(layout, rows, text, name)
    epochs = _epoch_table(layout, rows)
    _check_order(rows, epochs, text, name)

    last = rows.iloc[-1]
    wall = _WALL_TIME.search(text, int(last["start"]))
    train_size, planned, noise = (
        pattern.search(text) for pattern in (_TRAIN_SIZE, _PLANNED_EPOCHS, _PRINTED_NOISE)
    )
    if planned:
        finished = len(epochs) == int(planned[1])
    else:
        ended = wall is not None or len(epochs) == RESNET50_EPOCHS
        finished = ended and int(last["kind"]) == _Kind.EVALUATION
    log = TrainingLog(
        format=layout.format,
        batches=_batch_table(layout, rows),
        epochs=epochs,
        train_size=int(train_size[1]) if train_size else None,
        planned_epochs=int(planned[1]) if planned else None,
        is_complete=finished and cut is None,
        wall_seconds=60 * int(wall[1]) + float(wall[2]) if wall else None,
        printed_noise=float(noise[1]) if noise else None,
    )
    if not log.is_complete:
        message = _where_it_stops(log, rows, cut, text, name)
        warnings.warn(message, TruncatedLogWarning, stacklevel=2)
    return log


def _recognise(text: str, name: str) -> _Layout:
    if not text.strip():
        raise TrainingLogError(f"{name} is empty: it holds no training log")
    layouts = [layout for layout in _LAYOUTS if layout.marker in text]
    if len(layouts) > 1:
        formats = " and ".join(layout.format for layout in layouts)
        raise TrainingLogError(f"{name} holds logs of {formats}: parse the text of each by itself")
    if not layouts or not any(row.pattern.search(text) for row in layouts[0].rows):
        formats = ", ".join(layout.format for layout in _LAYOUTS)
        raise TrainingLogError(
            f"{name} holds no row of a training log of a known format ({formats})"
        )
    return layouts[0]


def _read_rows(layout: _Layout, text: str) -> pd.DataFrame:
    """Find all rows in the order of the log: start, kind, and the columns of every kind."""
    import pandas as pd

    found = [_read(row, layout.percent_decimals, text) for row in layout.rows]
    starts = np.concatenate([starts for starts, _ in found])
    kinds = np.repeat([int(row.kind) for row in layout.rows], [len(values) for _, values in found])
    columns = layout.columns(*_Kind)
    table = np.full((len(starts), len(columns)), np.nan)
    for row, (_, values) in zip(layout.rows, found, strict=True):
        places = [columns.index(name) for name in row.columns]
        table[np.ix_(kinds == row.kind, places)] = values
    order = np.argsort(starts)
    rows = pd.DataFrame(table[order], columns=columns)
    # Rows that do not tell their epoch belong to that of the row before. 0: no row told one yet.
    rows["epoch"] = rows["epoch"].ffill().fillna(0)
    rows.insert(0, "start", starts[order])
    rows.insert(1, "kind", kinds[order])
    return rows


def _read(
    row: _Row, percent_decimals: int | None, text: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the rows of one kind: where they start, and a table of their numbers in our units."""
    # No Python statement runs per number.
    matches = list(row.pattern.finditer(text))
    tokens = chain.from_iterable(map(re.Match.groups, matches))
    values = np.fromiter(map(float, tokens), np.float64).reshape(-1, len(row.columns)) + row.offsets
    starts = np.fromiter(map(re.Match.start, matches), np.int64)
    if percent_decimals is not None:
        # Rounded to the decimals that are there, so that 84.9058 % is 0.849058 to the last bit.
        fractions = (values / 100).round(percent_decimals + 2)
        values = np.where(row.may_be_percent, fractions, values)
    return starts, values


def _find_truncated_row(layout: _Layout, rows: pd.DataFrame, text: str, name: str) -> int | None:
    """Return where the log's last row starts if it is cut off; raise if another one is damaged."""
    starts = {row.start for row in layout.rows}
    if sum(map(text.count, starts)) == len(rows):
        return None
    # Looked for in the middle of lines too: what another program printed may stand before a row.
    begun = re.finditer("|".join(map(re.escape, starts)), text)
    first = min({match.start() - 1 for match in begun}.difference(rows["start"]))
    if first < rows["start"].iloc[-1]:
        raise TrainingLogError(
            f"{name}, line {_line(text, first)}: a row that cannot be read, inside the log: "
            f"{text[first + 1 : first + 61]!r}...; use an undamaged copy"
        )
    return first


def _check_order(rows: pd.DataFrame, epochs: pd.DataFrame, text: str, name: str) -> None:
    """Require that the log tells one training from its first epoch on, each epoch once."""
    places = rows[["epoch", "kind", _step_column(rows)]].fillna(0).to_numpy()
    steps = np.diff(places, axis=0)
    step = np.where(steps[:, 0] != 0, steps[:, 0], steps[:, 1])
    step = np.where(step != 0, step, steps[:, 2])
    # The test rows of an epoch may all bear the same step: the number of batches trained.
    is_wrong = (step < 0) | ((step == 0) & (places[1:, 1] != _Kind.TEST))
    if is_wrong.any():
        i = int(is_wrong.argmax()) + 1
        raise TrainingLogError(
            f"{name}, line {_line(text, rows['start'][i])}: epoch {int(places[i, 0])} begins again "
            "or comes out of order; if several trainings were appended, parse each by itself"
        )
    missing = epochs.index[epochs["epoch"] != epochs.index + 1]  # strictly increasing by now
    if len(missing):
        raise TrainingLogError(
            f"{name}: epoch {missing[0] + 1} has no test evaluation, but a later one has; "
            "use an undamaged copy, from its beginning on"
        )


def _batch_table(layout: _Layout, rows: pd.DataFrame) -> pd.DataFrame:
    phases = {int(_Kind.TRAIN): "train", int(_Kind.TEST): "test"}
    batches = _table(layout, rows, _Kind.TRAIN, _Kind.TEST)
    if any(row.kind == _Kind.TEST for row in layout.rows):
        names = rows["kind"].map(phases).dropna()
        batches.insert(1, "phase", names.astype("str").reset_index(drop=True))
    return batches


def _epoch_table(layout: _Layout, rows: pd.DataFrame) -> pd.DataFrame:
    epochs = _table(layout, rows, _Kind.EVALUATION)
    for place, (column, (kind, source)) in enumerate(layout.carried.items(), start=1):
        epochs.insert(place, column, _last_of_epochs(rows[rows["kind"] == kind], source, epochs))
    return epochs


def _last_of_epochs(rows: pd.DataFrame, column: str, epochs: pd.DataFrame) -> NDArray[np.float64]:
    """Take a column from the last of the rows of each epoch; NaN where an epoch has none."""
    if rows.empty:
        return np.full(len(epochs), np.nan)
    told, wanted = rows["epoch"].to_numpy(), epochs["epoch"].to_numpy()
    last = np.searchsorted(told, wanted, side="right") - 1  # epochs rise, or it is refused later
    return np.where(told[last] == wanted, rows[column].to_numpy()[last], np.nan)


def _table(layout: _Layout, rows: pd.DataFrame, *kinds: _Kind) -> pd.DataFrame:
    """Take the rows of some kinds with the columns of those kinds, whole numbers as int64."""
    import pandas as pd

    is_meant = np.isin(rows["kind"], kinds)
    return pd.DataFrame(
        {
            name: rows[name]
            .to_numpy()[is_meant]
            .astype(np.int64 if name in _WHOLE_NUMBERS else np.float64)
            for name in layout.columns(*kinds)
        }
    )


def _where_it_stops(
    log: TrainingLog, rows: pd.DataFrame, cut: int | None, text: str, name: str
) -> str:
    last = rows.iloc[-1]
    line = _line(text, int(last["start"]) if cut is None else cut)
    place = f"epoch {int(last['epoch'])}"
    if last["kind"] in (_Kind.TRAIN, _Kind.TEST):
        step = _step_column(rows)
        place += f", {_Kind(last['kind']).name.lower()} {step} {int(last[step])}"
    planned = "" if log.planned_epochs is None else f" of {log.planned_epochs}"
    return (
        f"{name} stops at line {line}{'' if cut is None else ', inside a row'}: the last row read "
        f"is of {place}, and {len(log.epochs)}{planned} epochs are evaluated; for the rest get the "
        "whole log"
    )


def _step_column(rows: pd.DataFrame) -> str:
    return "batch" if "batch" in rows else "global_step"


def _line(text: str, start: int) -> int:
    """Return the number, in the caller's text, of the line after the newline at `start`."""
    return text.count("\n", 0, start + 1)
