r"""The published training logs: the text that a training printed -> two tables.

Upstream published 168 logs in four formats. Each format is one table below: the rows that it
prints, written as they stand in the log, with the name of a column in the place of every number.
Whatever is no row (warnings, printed networks, the trailer of ``time``) is passed over.

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
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain
from string import Formatter
from typing import TYPE_CHECKING, Literal

from cifar_noisy.errors import TrainingLogError, TruncatedLogWarning

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

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


# The four formats. In a row, {column:spec} stands for one number:
#   d    whole number                        4    number printed with 4 decimals
#   d0   whole number counted from 0         4%   percent printed with 4 decimals, made a fraction
#   g    number of any length, which counts only where its line ends with a newline


class _Kind(IntEnum):
    """What a row tells, in the order in which the rows of an epoch follow each other."""

    SCHEDULE = 0
    TRAIN = 1
    TEST = 2
    EVALUATION = 3


@dataclass(frozen=True)
class _Row:
    kind: _Kind
    start: str
    pattern: re.Pattern[str]
    specs: dict[str, str]


@dataclass(frozen=True)
class _Layout:
    format: LogFormat
    marker: str  # in every log of this format, and in none of another
    rows: tuple[_Row, ...]
    facts: dict[str, str]  # attribute of TrainingLog -> regular expression of its value
    carried: dict[str, tuple[_Kind, str]]  # column of epochs <- the epoch's last row of a kind


def _row(kind: _Kind, template: str) -> _Row:
    parts = [(text, name, spec or "") for text, name, spec, _ in Formatter().parse(template)]
    # A literal newline instead of ^ lets the regex engine search for a literal prefix.
    pattern = "\n"
    for text, name, spec in parts:
        pattern += re.escape(text) + (_number(spec) if name else "")
    return _Row(
        kind=kind,
        start=parts[0][0],
        pattern=re.compile(pattern + "$", re.MULTILINE | re.ASCII),
        specs={name: spec for _, name, spec in parts if name},
    )


def _number(spec: str) -> str:
    if spec.startswith("d"):
        return r"(\d{1,9})"
    if spec == "g":
        return r"(\d+(?:\.\d+)?(?:e[-+]\d+)?)(?=\n)"
    return rf"(-?(?:\d+\.\d{{{spec[0]}}}|nan|inf))"


_RESNET50 = _Layout(
    format="resnet50",
    marker="\nEpoch: [",
    rows=(
        _row(_Kind.SCHEDULE, "epoch: {epoch:d} | lr: {learning_rate:g}"),
        _row(
            _Kind.TRAIN,
            "Epoch: [{epoch:d0}][{batch:d0}/{batch_count:d}]"
            "\tTime {batch_seconds:3} ({batch_seconds_mean:3})"
            "\tData {data_seconds:3} ({data_seconds_mean:3})"
            "\tLoss {loss:4} ({loss_mean:4})"
            "\tAcc@1 {accuracy:3%} ({accuracy_mean:3%})"
            "\tAcc@5 {top5_accuracy:3%} ({top5_accuracy_mean:3%})",
        ),
        _row(
            _Kind.TEST,
            "Test: [{batch:d0}/{batch_count:d}]"
            "\tTime {batch_seconds:3} ({batch_seconds_mean:3})"
            "\tLoss {loss:4} ({loss_mean:4})"
            "\tAcc@1 {accuracy:3%} ({accuracy_mean:3%})"
            "\tAcc@5 {top5_accuracy:3%} ({top5_accuracy_mean:3%})",
        ),
        _row(_Kind.EVALUATION, " * Acc@1 {test_accuracy:3%} Acc@5 {test_top5_accuracy:3%}"),
    ),
    facts={"train_size": r"\nTrain size: (\d{1,9})\n"},
    carried={
        "learning_rate": (_Kind.SCHEDULE, "learning_rate"),
        "train_loss": (_Kind.TRAIN, "loss_mean"),
        "train_accuracy": (_Kind.TRAIN, "accuracy_mean"),
    },
)

_COTEACHING = _Layout(
    format="coteaching",
    marker=" test images: Model1 ",
    rows=(
        _row(
            _Kind.TRAIN,
            "Epoch [{epoch:d}/{planned_epochs:d}], Iter [{batch:d}/{batch_count:d}]"
            " Training Accuracy1: {train_accuracy_1:4%}, Training Accuracy2: {train_accuracy_2:4%},"
            " Loss1: {loss_1:4}, Loss2: {loss_2:4},"
            " Pure Ratio1: {pure_ratio_1:4%}, Pure Ratio2 {pure_ratio_2:4%}",
        ),
        _row(  # epoch 1 has a spelling of its own
            _Kind.EVALUATION,
            "Epoch [{epoch:d}/{planned_epochs:d}] Test Accuracy on the 10000 test images:"
            " Model1 {test_accuracy_1:4%} % Model2 {test_accuracy_2:4%} %"
            " Pure Ratio1 {pure_ratio_1:4%} % Pure Ratio2 {pure_ratio_2:4%} %",
        ),
        _row(
            _Kind.EVALUATION,
            "Epoch [{epoch:d}/{planned_epochs:d}] Test Accuracy on the 10000 test images:"
            " Model1 {test_accuracy_1:4%} % Model2 {test_accuracy_2:4%} %,"
            " Pure Ratio 1 {pure_ratio_1:4%} %, Pure Ratio 2 {pure_ratio_2:4%} %",
        ),
    ),
    facts={
        "train_size": r"\n\('Train size:', (\d{1,9})\)",
        "planned_epochs": r"\nEpoch \[\d+/(\d{1,9})\]",
        "printed_noise": r"\nActual noise (\d\.\d\d)\n",
    },
    carried={},
)

_COTEACHING_PLUS = _Layout(
    format="coteaching_plus",
    marker=" test data: Model1 ",
    rows=(
        _row(
            _Kind.TRAIN,
            "Epoch [{epoch:d}/{planned_epochs:d}], Iter [{batch:d}/{batch_count:d}]"
            " Training Accuracy1: {train_accuracy_1:4%}, Training Accuracy2: {train_accuracy_2:4%},"
            " Loss1: {loss_1:4}, Loss2: {loss_2:4}",
        ),
        _row(
            _Kind.EVALUATION,
            "Epoch [{epoch:d}/{planned_epochs:d}] Test Accuracy on the 10000 test data:"
            " Model1 {test_accuracy_1:4%} % Model2 {test_accuracy_2:4%} %",
        ),
    ),
    facts=_COTEACHING.facts,
    carried={},
)

_SCELOSS = _Layout(
    format="sceloss",
    marker="\tglobal_step=",
    rows=(
        _row(
            _Kind.TRAIN,
            "epoch={epoch:d0}\tglobal_step={global_step:d}\tloss={loss:5}\tloss_avg={loss_mean:5}"
            "\tacc={accuracy:5}\tacc_top1_avg={accuracy_mean:5}\tacc_top5_avg={top5_accuracy_mean:5}"
            "\tlr={learning_rate:5}\tgn={gradient_norm:5}\ttime={iterations_per_second:2}it/s",
        ),
        _row(
            _Kind.TEST,
            "epoch={epoch:d0}\tglobal_step={global_step:d}\tloss={loss:5}\ttest_loss_avg={loss_mean:5}"
            "\tacc={accuracy:5}\ttest_acc_avg={accuracy_mean:5}"
            "\ttest_acc_top5_avg={top5_accuracy_mean:5}\ttime={iterations_per_second:2}it/s",
        ),
        _row(
            _Kind.EVALUATION,
            "curr_acc\t{test_accuracy:4}\nBEST_ACC\t{previous_best_test_accuracy:4}"
            "\ncurr_acc_top5\t{test_top5_accuracy:4}"
            "\nBEST_ACC_top5\t{previous_best_test_top5_accuracy:4}",
        ),
    ),
    facts={"train_size": r"\nNum of train (\d{1,9})\n", "planned_epochs": r"\nepoch (\d{1,9})\n"},
    carried={
        "learning_rate": (_Kind.TRAIN, "learning_rate"),
        "train_loss": (_Kind.TRAIN, "loss_mean"),
        "train_accuracy": (_Kind.TRAIN, "accuracy_mean"),
        "test_loss": (_Kind.TEST, "loss_mean"),
    },
)

_LAYOUTS = (_RESNET50, _COTEACHING, _COTEACHING_PLUS, _SCELOSS)
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
    rows = _read_rows(layout, text, name)
    cut = _find_cut(layout, rows, text, name)
    epochs = _epoch_table(layout, rows)
    _check_order(rows, epochs, text, name)

    last = rows.iloc[-1]
    wall = _WALL_TIME.search(text, int(last["start"]))
    planned = _fact(layout, "planned_epochs", text)
    if planned is not None:
        finished = len(epochs) == planned
    else:
        ended = wall is not None or len(epochs) == RESNET50_EPOCHS
        finished = ended and int(last["kind"]) == _Kind.EVALUATION
    is_complete = finished and cut is None
    log = TrainingLog(
        format=layout.format,
        batches=_batch_table(layout, rows),
        epochs=epochs,
        train_size=_as_int(_fact(layout, "train_size", text)),
        planned_epochs=_as_int(planned),
        is_complete=is_complete,
        wall_seconds=60 * int(wall[1]) + float(wall[2]) if wall else None,
        printed_noise=_fact(layout, "printed_noise", text),
    )
    if not is_complete:
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
    if not layouts:
        raise TrainingLogError(_unknown(name))
    return layouts[0]


def _unknown(name: str) -> str:
    formats = ", ".join(layout.format for layout in _LAYOUTS)
    return f"{name} holds no row of a training log of a known format ({formats})"


def _read_rows(layout: _Layout, text: str, name: str) -> pd.DataFrame:
    """Find all rows in the order of the log: start, kind, and the columns of every kind."""
    import pandas as pd

    names = dict.fromkeys(chain.from_iterable(row.specs for row in layout.rows))
    found = [_read(row, text) for row in layout.rows]
    if not any(len(rows) for rows in found):
        raise TrainingLogError(_unknown(name))
    rows = pd.concat([rows for rows in found if len(rows)]).sort_values("start", ignore_index=True)
    rows = rows.reindex(columns=["start", "kind", *names])
    # Rows that do not tell their epoch belong to that of the row before. 0: no row told one yet.
    rows["epoch"] = rows["epoch"].ffill().fillna(0)
    return rows


def _read(row: _Row, text: str) -> pd.DataFrame:
    """Find the rows of one kind, as float64 columns; no Python statement runs per number."""
    import numpy as np
    import pandas as pd

    matches = list(row.pattern.finditer(text))
    tokens = chain.from_iterable(map(re.Match.groups, matches))
    numbers = np.fromiter(map(float, tokens), np.float64, len(matches) * len(row.specs))
    values = numbers.reshape(len(matches), len(row.specs)).T
    columns = {
        name: _in_our_unit(column, spec)
        for (name, spec), column in zip(row.specs.items(), values, strict=True)
    }
    starts = np.fromiter(map(re.Match.start, matches), np.int64, len(matches))
    return pd.DataFrame({"start": starts, "kind": int(row.kind), **columns})


def _in_our_unit(values: NDArray[np.float64], spec: str) -> NDArray[np.float64]:
    if spec == "d0":
        return values + 1
    if spec.endswith("%"):
        # Rounded to the decimals that are there, so that 84.9058 % is 0.849058 to the last bit.
        return (values / 100).round(int(spec[0]) + 2)
    return values


def _find_cut(layout: _Layout, rows: pd.DataFrame, text: str, name: str) -> int | None:
    """Hold that every row is whole, or find where the last one starts, which is cut off."""
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
    """Hold that the log tells one training from its first epoch on, each epoch once."""
    step = rows[_step_column(rows)].fillna(0)
    forward = ((4 * rows["epoch"] + rows["kind"]) * 1e9 + step).diff()
    # The test rows of an epoch may all bear the same step: the number of batches trained.
    back = (forward < 0) | ((forward == 0) & (rows["kind"] != _Kind.TEST))
    if back.any():
        row = rows[back].iloc[0]
        raise TrainingLogError(
            f"{name}, line {_line(text, int(row['start']))}: epoch {int(row['epoch'])} begins "
            "again or comes out of order; if several trainings were appended, parse each by itself"
        )
    missing = epochs.index[epochs["epoch"] != epochs.index + 1]  # strictly increasing by now
    if len(missing):
        raise TrainingLogError(
            f"{name}: epoch {missing[0] + 1} has no test evaluation, but a later one has; "
            "use an undamaged copy, from its beginning on"
        )


def _batch_table(layout: _Layout, rows: pd.DataFrame) -> pd.DataFrame:
    phases = {int(_Kind.TRAIN): "train", int(_Kind.TEST): "test"}
    batches = _table(layout, rows, tuple(phases))
    if any(row.kind == _Kind.TEST for row in layout.rows):
        kinds = rows["kind"][rows["kind"].isin(phases)]
        batches.insert(1, "phase", kinds.map(phases).astype("str").reset_index(drop=True))
    return batches


def _epoch_table(layout: _Layout, rows: pd.DataFrame) -> pd.DataFrame:
    epochs = _table(layout, rows, (_Kind.EVALUATION,))
    for place, (column, (kind, source)) in enumerate(layout.carried.items(), start=1):
        last = rows[rows["kind"] == kind].drop_duplicates("epoch", keep="last").set_index("epoch")
        epochs.insert(place, column, last[source].reindex(epochs["epoch"]).to_numpy())
    return epochs


def _table(layout: _Layout, rows: pd.DataFrame, kinds: tuple[int, ...]) -> pd.DataFrame:
    """Take the rows of some kinds with the columns of those kinds, whole numbers as int64."""
    specs = {"epoch": "d"}
    for row in layout.rows:
        if row.kind in kinds:
            specs |= row.specs
    specs.pop("planned_epochs", None)
    table = rows.loc[rows["kind"].isin(kinds), list(specs)].reset_index(drop=True)
    return table.astype({name: "int64" for name, spec in specs.items() if spec.startswith("d")})


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


def _fact(layout: _Layout, attribute: str, text: str) -> float | None:
    match = re.search(layout.facts[attribute], text) if attribute in layout.facts else None
    return float(match[1]) if match else None


def _as_int(value: float | None) -> int | None:
    return None if value is None else int(value)
