"""The cases of a benchmark one by one, in this process or in processes of their own."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.benchmarking.baselines import baseline_functions
from cifar_noisy.benchmarking.cases import Case
from cifar_noisy.benchmarking.detectors import Function, describe_error, fail
from cifar_noisy.errors import InvalidInputError, UnavailableError, printable
from cifar_noisy.evaluation.evaluate import YOURS, check_found
from cifar_noisy.evaluation.metrics import GroundTruth
from cifar_noisy.evaluation.plausibility import check_mask, check_scores
from cifar_noisy.progress_bars import Shown, progress_bar

MASK_RATES = ("precision", "recall", "f1", "accuracy")
SCORE_RATES = (
    "average_precision",
    "roc_auc",
    "precision_at_n_errors",
    "fnr_at_n_errors",
    "best_f1",
)

_ENDED = "its process ended before it returned: call it alone to see why"

Row = dict[str, Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)  # a detector need not be hashable
class Job:
    """One case, and what is asked of it; with `keeps`, also which examples each method keeps."""

    case: Case
    baselines: tuple[str, ...]
    function: Function
    keeps: bool = False


@dataclass(frozen=True, eq=False)
class Result:
    """The rows of a case, or why it has none; and what may be the matter with yours.

    `kept` has a train mask (50000,), True = keep, for each method that gave something.
    """

    rows: tuple[Row, ...] = ()
    kept: Mapping[str, Mask] = field(default_factory=dict)
    unreachable: str | None = None
    problem: str | None = None


def run_jobs(jobs: Sequence[Job], n_jobs: int, progress: Shown) -> dict[Case, Result]:
    """Return the result of each case, in any order."""
    here = ((job, run_job(job)) for job in jobs)
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


def run_job(job: Job) -> Result:
    """Return the rows of one case, computed here."""
    try:
        truth, pyx = job.case.load()
    except UnavailableError as error:
        return Result(unreachable=error.message)
    identity, problem = job.case.identity(), None
    methods: list[tuple[str, Function]] = [(YOURS, job.function)]
    rows, kept = [], {}
    for method, compute in [*methods, *baseline_functions(job.baselines).items()]:
        found = _call(compute, truth, pyx)
        if method == YOURS and not isinstance(found, str):
            problem = (check_mask if found.dtype == np.bool_ else check_scores)(truth, found)[1]
        if job.keeps and not isinstance(found, str):
            kept[method] = _kept(truth, found)
        rows.append(identity | {"method": method} | _rates(truth, found))
    return Result(tuple(rows), kept, problem=problem)


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


def _kept(truth: GroundTruth, found: NDArray[Any]) -> Mask:
    """Return what a mask of label errors keeps; of scores, all but the true number of errors."""
    if found.dtype == np.bool_:
        return ~found
    keep = np.ones(len(found), np.bool_)
    keep[np.argsort(-found, kind="stable")[: np.count_nonzero(truth.is_error)]] = False
    return keep


def _run_apart(jobs: Sequence[Job], n_jobs: int) -> Generator[tuple[Job, Result]]:
    """Run jobs in processes of their own; yield them as they end."""
    sent, ended = {job: _pickled(job) for job in jobs}, list[Job]()
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
                result = run_job(replace(job, function=functools.partial(fail, _ENDED)))
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


def _pickled(job: Job) -> bytes:
    try:
        return pickle.dumps(job)
    except Exception as error:
        raise _not_sent(error) from error


def _run_pickled(content: bytes) -> Result:
    try:
        job: Job = pickle.loads(content)  # noqa: S301, made by this program
    except Exception as error:
        raise _not_sent(error) from error
    return run_job(job)


def _not_sent(error: Exception) -> InvalidInputError:
    return InvalidInputError(
        "make detector a function at the top of a module that other processes can import, or leave "
        f"n_jobs= out: it cannot be sent to them ({printable(error, 200)})"
    )
