"""A label-error detector beside the baselines, over many noises, label sets and networks."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import operator
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import (
    InvalidInputError,
    SuspectMaskWarning,
    UnavailableError,
    printable,
)
from cifar_noisy.evaluation.baselines import Baselines, baseline_functions, find_baselines
from cifar_noisy.evaluation.benchmark_cases import Case, Over, find_cases, gather_files
from cifar_noisy.evaluation.detectors import (
    Detector,
    Function,
    describe_error,
    fail,
    functions_by_case,
)
from cifar_noisy.evaluation.evaluate import YOURS, check_found
from cifar_noisy.evaluation.metrics import GroundTruth
from cifar_noisy.evaluation.plausibility import check_mask, check_scores
from cifar_noisy.progress_bars import Shown, progress_bar
from cifar_noisy.rendering import Cell, highest_bold, html_table

if TYPE_CHECKING:
    import pandas as pd

MASK_RATES = ("precision", "recall", "f1", "accuracy")
SCORE_RATES = (
    "average_precision",
    "roc_auc",
    "precision_at_n_errors",
    "fnr_at_n_errors",
    "best_f1",
)
COLUMNS = (
    *("case", "labels", "model", "noise_kind", "noise_rate", "method", "kind"),
    *MASK_RATES,
    *SCORE_RATES,
    "error",
)
_ENDED = "its process ended before it returned: call it alone to see why"

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A detector, "yours", and the baselines in each case.

    Attributes
    ----------
    cases : tuple of str
        The cases that were evaluated, in order.
    frame : pandas.DataFrame
        A row per case and method, yours first. Columns: case, labels (the label set), model (the
        network of the probabilities), noise_kind, noise_rate (the share of wrong labels), method,
        kind ("mask" or "score"); of a mask precision, recall, f1, accuracy; of a score
        average_precision, roc_auc, precision_at_n_errors, fnr_at_n_errors (the false-negative rate
        at that fixed operating point, where as many are flagged as there are errors, as in Pickler,
        Kamassury and Silva 2025), best_f1; and error, why there are no rates. float64 with NaN
        where a rate does not apply or is undefined.
    summary : pandas.DataFrame
        A row per method. Its F1 (of a score the best F1, which is cut knowing the truth and so is
        an upper bound) as mean, worst and best over its cases; cases, how many had an F1; failed,
        how many raised or returned what is no mask or score; mean_rank by F1 in each case, 1 being
        the best and a failure the last; wins_NAME, in how many cases it was above that baseline;
        range_LABELS, the highest minus the lowest F1 over the networks of a label set with several;
        difference, its mean distance to the best baseline (that is known afterwards, so it is hard
        to beat) over the cases of both, and
        difference_low and difference_high, a 95 % percentile interval of that by a paired bootstrap
        over cases (10,000 resamples, seed 0; the networks of one label set count as cases of their
        own, so where these are many it is narrow).
    best_baseline : str or None
        The one that differences are taken from: of the highest mean F1. None without baselines.
    unreachable : dict of str to str
        Why, for each case whose files could not be had.
    """

    cases: tuple[str, ...]
    frame: pd.DataFrame = field(repr=False)
    summary: pd.DataFrame = field(repr=False)
    best_baseline: str | None
    unreachable: Mapping[str, str]

    @property
    def errors(self) -> dict[str, str]:
        """Why yours has no rates, for each case where it failed."""
        mine = self.frame[self.frame["method"] == YOURS].set_index("case")["error"]
        return {str(case): str(error) for case, error in mine.dropna().items()}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return heads and rows of the summary in short; a head with ">" is of numbers."""
        best = self.best_baseline
        head = ["method", ">cases", ">mean F1", ">worst", ">best", ">rank"]
        rows = []
        for method, row in self.summary.iterrows():
            f1 = (_short(row[name], 4) for name in ("mean", "worst", "best"))
            rows.append([str(method), str(row["cases"]), *f1, _short(row["mean_rank"], 2)])
        if best is not None:
            head += [">wins", ">difference in F1"]
            for cells, (_, row) in zip(rows, self.summary.iterrows(), strict=True):
                cells += [str(row[f"wins_{best}"]), _interval(row)]
        return head, rows

    def notes(self) -> list[str]:
        """Return what a reader of the table must know, failures and absent files among it."""
        notes = []
        if self.best_baseline is not None:
            notes.append(f"wins, difference: to {self.best_baseline}; 95 % bootstrap interval")
        if "score" in set(self.frame["kind"]):
            notes.append("F1 of a score: at the cut where it is best, so an upper bound")
        failures = self.frame.dropna(subset=["error"]).groupby(["method", "error"], sort=False)
        for (method, error), rows in failures:
            notes.append(f"{method} failed in {_listed(rows['case'].tolist())}: {error}")
        for reason in dict.fromkeys(self.unreachable.values()):
            cases = [case for case, why in self.unreachable.items() if why == reason]
            notes.append(f"not reachable: {_listed(cases)}: {reason}")
        return notes

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as numbers, texts, lists and dicts, for JSON; None where undefined."""
        return {
            "cases": list(self.cases),
            "best_baseline": self.best_baseline,
            "summary": _records(self.summary.reset_index()),
            "results": _records(self.frame),
            "unreachable": dict(self.unreachable),
        }

    def __str__(self) -> str:
        from tabulate import tabulate

        head, rows = self.table()
        sides = ["right" if text.startswith(">") else "left" for text in head]
        heads = [text.removeprefix(">") for text in head]
        table = tabulate(rows, heads, disable_numparse=True, colalign=sides) if rows else "no case"
        return "\n".join([table, *self.notes()])

    def __repr__(self) -> str:
        means = self.summary["mean"].dropna().sort_values(ascending=False)
        best = ", ".join(f"{name} {value:.4f}" for name, value in means.head(3).items())
        return f"{type(self).__name__}({len(self.cases)} cases, highest mean F1: {best or 'none'})"

    def _repr_html_(self) -> str:
        head, rows = self.table()
        columns: dict[str, list[Cell]] = {
            name.removeprefix(">"): [row[i] for row in rows] for i, name in enumerate(head)
        }
        for name, shown in (("mean", "mean F1"), ("worst", "worst"), ("best", "best")):
            if rows:
                columns[shown] = highest_bold(self.summary[name].tolist())
        title = f"{len(self.cases)} cases, {len(rows)} methods"
        return html_table(columns, title=title, notes=self.notes())


@dataclass(frozen=True, eq=False)  # a detector need not be hashable
class _Job:
    """One case, and what is asked of it."""

    case: Case
    baselines: tuple[str, ...]
    function: Function


@dataclass(frozen=True)
class _Result:
    """The rows of a case, or why it has none; and what may be the matter with yours."""

    rows: tuple[Row, ...] = ()
    unreachable: str | None = None
    problem: str | None = None


def benchmark(
    detector: Detector,
    over: Over = "paper",
    baselines: Baselines = "default",
    *,
    model: str | None = None,
    n_jobs: int = 1,
    progress: Shown = None,
) -> Benchmark:
    """Compare a label-error detector with baselines over many noises, label sets and networks.

    Parameters
    ----------
    detector : callable, mapping or path
        A function of (labels, pyx): (50000,) int64 given labels and (50000, 10) float16 or float64
        out-of-sample probabilities, copies that are its own, in imagefolder order. It returns
        (50000,) bool, True = label error, or (50000,) float scores, higher = more likely wrong.
        Or such arrays, computed elsewhere, by the name of the case: a mapping, or a folder with
        a ``NAME.npy`` for each. What it prints goes to stderr.
    over : str, Setting, LabelSet or iterable of these, default "paper"
        The cases: "paper", the 12 settings that have noise and probabilities; "human", the two sets
        of CIFAR-10N with five networks each; "all", the paper's and the 15 of other repositories;
        the name of a label set (all its networks) or of a case, such as "noise0.4-sparsity0.2" or
        "cifar10n-worst-resnet18".
    baselines : str or iterable of str, default "default"
        "default": the five methods of `label_errors` and the two scores of `label_error_scores`;
        "all": also cleanlab's, where that is installed: "cleanlab-" and a ``filter_by`` of its
        ``find_label_issues`` or a method of its ``get_label_quality_scores`` (1 - quality is the
        score); "none"; or names.
    model : str, optional
        Only cases of this network, such as "resnet18".
    n_jobs : int, default 1
        Processes, each of which takes a case at a time. With more than one, the detector must
        be picklable: a function at the top of a module.
    progress : bool or object with ``update(n)``, optional
        Whether to show a progress bar; by default on a terminal and in a notebook. An object is
        told of each case.

    Returns
    -------
    Benchmark
        Where the detector raises, ends or returns what is no mask or score, the row of that case
        says so. Cases whose files cannot be had are in `Benchmark.unreachable`.

    Raises
    ------
    InvalidInputError
        If there is nothing to call or no array for any case, or the detector cannot be sent to
        other processes.
    MissingInputError
        If the folder does not exist.
    MissingExtraError
        If a baseline of cleanlab is named and that is not installed.
    UnknownArtifactError
        If a case, label set, network or baseline is unknown, or has no probabilities.

    Warns
    -----
    SuspectMaskWarning
        If the detector surely says the opposite, by more than 10 standard deviations.

    Examples
    --------
    >>> def doubtful(labels, pyx):
    ...     return 1 - pyx[range(len(labels)), labels]
    >>> over = ["noise0.2-sparsity0", "noise0.4-sparsity0"]
    >>> result = benchmark(doubtful, over, baselines=["cl_pbc"])  # published files
    >>> result.summary["mean"].round(3).to_dict()  # published files
    {'yours': 0.8, 'cl_pbc': 0.804}
    """
    import pandas as pd

    from cifar_noisy.evaluation.benchmark_summary import best_baseline, f1_by_case, summarize

    cases, names = find_cases(over, model), find_baselines(baselines)
    functions, n_jobs = functions_by_case(detector, cases), _check_n_jobs(n_jobs)
    unreachable = gather_files(cases)
    jobs = [_Job(case, names, functions[case]) for case in cases if case not in unreachable]
    found = _run(jobs, n_jobs, progress)
    unreachable |= {case: result.unreachable for case, result in found.items()
                    if result.unreachable is not None}  # fmt: skip
    _warn_of_problems([result.problem for result in found.values()])
    rows = [row for case in cases if case in found for row in found[case].rows]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame = frame.astype(dict.fromkeys(("noise_rate", *MASK_RATES, *SCORE_RATES), "float64"))
    return Benchmark(
        cases=tuple(case.name for case in cases if case not in unreachable),
        frame=frame,
        summary=summarize(frame, names),
        best_baseline=best_baseline(f1_by_case(frame), names) if rows else None,
        unreachable={case.name: unreachable[case] for case in cases if case in unreachable},
    )


def _check_n_jobs(n_jobs: object) -> int:
    with contextlib.suppress(TypeError):
        number = operator.index(n_jobs)  # type: ignore[arg-type]
        if number >= 1 and not isinstance(n_jobs, bool):
            return number
    raise InvalidInputError(f"n_jobs={n_jobs!r} is no number of processes: pass 1 or more")


def _run(jobs: Sequence[_Job], n_jobs: int, progress: Shown) -> dict[Case, _Result]:
    """Return the result of each case, in any order."""
    here = ((job, _run_job(job)) for job in jobs)
    results = _run_apart(jobs, n_jobs) if n_jobs > 1 else here
    found = {}
    with (
        contextlib.closing(results),
        progress_bar(progress, "benchmark", len(jobs), "case") as bar,
    ):
        for job, result in results:
            found[job.case] = result
            bar.update()
    return found


def _run_job(job: _Job) -> _Result:
    try:
        truth, pyx = job.case.load()
    except UnavailableError as error:
        return _Result(unreachable=error.message)
    identity, problem = job.case.identity(), None
    methods: list[tuple[str, Function]] = [(YOURS, job.function)]
    rows = []
    for method, compute in [*methods, *baseline_functions(job.baselines).items()]:
        found = _call(compute, truth, pyx)
        if method == YOURS and not isinstance(found, str):
            problem = (check_mask if found.dtype == np.bool_ else check_scores)(truth, found)[1]
        rows.append(identity | {"method": method} | _rates(truth, found))
    return _Result(tuple(rows), problem=problem)


def _call(compute: Function, truth: GroundTruth, pyx: NDArray[Any]) -> NDArray[Any] | str:
    """Return the mask or scores that a function gives for copies of its own, or what went wrong."""
    labels, probabilities = truth.given.copy(), pyx.copy()
    try:
        # What it prints is no result; how it treats floating-point errors stays its own.
        with contextlib.redirect_stdout(sys.stderr), np.errstate():
            return check_found(compute(labels, probabilities))
    except (Exception, SystemExit) as error:
        return describe_error(error)


def _rates(truth: GroundTruth, found: NDArray[Any] | str) -> Row:
    if isinstance(found, str):
        return {"error": found}
    if found.dtype == np.bool_:
        mask = truth.detect(YOURS, found)
        return {"kind": "mask"} | {name: getattr(mask, name) for name in MASK_RATES}
    row = truth.rank(YOURS, found).row()
    at_n_errors = row["precision_at_n_errors"]
    # As many are flagged as there are errors, so precision and recall there are the same number.
    row["fnr_at_n_errors"] = None if at_n_errors is None else 1 - at_n_errors
    return {"kind": "score"} | {name: row[name] for name in SCORE_RATES}


def _run_apart(jobs: Sequence[_Job], n_jobs: int) -> Generator[tuple[_Job, _Result]]:
    """Run jobs in processes of their own; yield them as they end."""
    sent, ended = {job: _pickled(job) for job in jobs}, list[_Job]()
    with _processes(min(n_jobs, len(jobs) or 1)) as pool:
        futures = {}
        for job, content in sent.items():
            try:
                futures[pool.submit(_run_pickled, content)] = job
            except BrokenProcessPool:  # by one before it
                ended.append(job)
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:  # also of jobs that had no part in it
                ended.append(futures[future])
    for job in ended:
        with _processes(1) as pool:
            _check_start(pool)
            try:
                result = pool.submit(_run_pickled, sent[job]).result()
            except BrokenProcessPool:
                result = _run_job(replace(job, function=functools.partial(fail, _ENDED)))
        yield job, result


@contextlib.contextmanager
def _processes(number: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes, and end them at once where the block is left by an error or Ctrl-C."""
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(number, context, _begin)
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Leave Ctrl-C to the process that started this one, and end when that one does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # the pool would wait for work for ever


def _check_start(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(int).result()
    except BrokenProcessPool:
        raise InvalidInputError(
            "other processes cannot start: they import the script that calls this, so call it from "
            "a file, below if __name__ == '__main__', or leave n_jobs= out"
        ) from None


def _pickled(job: _Job) -> bytes:
    try:
        return pickle.dumps(job)
    except Exception as error:
        raise _not_sent(error) from error


def _run_pickled(content: bytes) -> _Result:
    try:
        job: _Job = pickle.loads(content)  # noqa: S301, made by this program
    except Exception as error:
        raise _not_sent(error) from error
    return _run_job(job)


def _not_sent(error: Exception) -> InvalidInputError:
    return InvalidInputError(
        "make detector a function at the top of a module that other processes can import, or leave "
        f"n_jobs= out: it cannot be sent to them ({printable(error, 200)})"
    )


def _warn_of_problems(problems: Sequence[str | None]) -> None:
    found = [problem for problem in problems if problem]
    if found:
        warnings.warn(
            f"in {len(found)} of {len(problems)} cases the detector {found[0]}",
            SuspectMaskWarning,
            stacklevel=3,
        )


def _records(frame: pd.DataFrame) -> list[Row]:
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in records]


def _listed(cases: Sequence[str]) -> str:
    return cases[0] if len(cases) == 1 else f"{len(cases)} cases, the first {cases[0]}"


def _short(value: float, decimals: int) -> str:
    return "-" if np.isnan(value) else f"{value:.{decimals}f}"


def _interval(row: pd.Series[Any]) -> str:
    mean, low, high = (row[f"difference{end}"] for end in ("", "_low", "_high"))
    if np.isnan(mean):
        return "-"
    between = "" if np.isnan(low) else f" ({low:+.4f} to {high:+.4f})"
    return f"{mean:+.4f}{between}"
