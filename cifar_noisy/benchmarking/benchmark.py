"""A label-error detector beside the baselines, over many noises, label sets and networks."""

from __future__ import annotations

import contextlib
import operator
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cifar_noisy.benchmarking.baselines import Baselines, find_baselines
from cifar_noisy.benchmarking.cases import Case, Over, find_cases, gather_files
from cifar_noisy.benchmarking.detectors import Detector, functions_by_case
from cifar_noisy.benchmarking.runs import MASK_RATES, SCORE_RATES, Job, Result, Row, run_jobs
from cifar_noisy.errors import InvalidInputError, SuspectMaskWarning
from cifar_noisy.evaluation.evaluate import YOURS
from cifar_noisy.progress_bars import Shown
from cifar_noisy.rendering import Cell, highest_bold, html_table

if TYPE_CHECKING:
    import pandas as pd

    from cifar_noisy.benchmarking.training import Training
    from cifar_noisy.images.packs import Images
    from cifar_noisy.recompute.probe import Probe

COLUMNS = (
    *("case", "labels", "model", "noise_kind", "noise_rate", "method", "kind"),
    *MASK_RATES,
    *SCORE_RATES,
    "error",
)


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
    training : pandas.DataFrame or None
        With `train`, a row per case and method: what the recipe `fast` reaches that was trained on
        the examples that the method keeps. Of a score, that is all but the highest, as many as
        there are wrong labels. Two references stand below: "keep all", which removes nothing, and
        "true errors", which removes exactly the wrong labels. Columns: case, method, n_kept; on
        the test set test_accuracy by CIFAR-10's labels, test_corrected and test_soft by the others
        of `test_accuracy`, NaN where these cannot be had or nothing is trained yet; and error, why
        it could not be trained.
    """

    cases: tuple[str, ...]
    frame: pd.DataFrame = field(repr=False)
    summary: pd.DataFrame = field(repr=False)
    best_baseline: str | None
    unreachable: Mapping[str, str]
    training: pd.DataFrame | None = field(default=None, repr=False)

    @property
    def errors(self) -> dict[str, str]:
        """Why yours has no rates, or could not be trained on, for each case where it failed."""
        return {
            str(case): str(error)
            for frame in (self.training, self.frame) if frame is not None
            for case, error in _mine(frame).set_index("case")["error"].dropna().items()
        }  # fmt: skip

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

    def training_table(self) -> tuple[list[str], list[list[str]]]:
        """Return heads and rows of the mean test accuracies, where `train` was asked for."""
        head = [
            "trained on what it keeps", ">cases", ">examples", ">test accuracy", ">corrected",
            ">soft",
        ]  # fmt: skip
        rows = []
        if self.training is not None:
            for method, found in self.training.groupby("method", sort=False):
                done = found[found["test_accuracy"].notna()]
                means = done[["test_accuracy", "test_corrected", "test_soft"]].mean()
                n_kept = f"{done['n_kept'].mean():,.0f}" if len(done) else "-"
                cells = (_short(mean, 4) for mean in means)
                rows.append([str(method), str(len(done)), n_kept, *cells])
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
        return notes + self._notes_of_training()

    def _notes_of_training(self) -> list[str]:
        if self.training is None:
            return []
        notes, failures = [], self.training.dropna(subset=["error"])
        for (method, error), rows in failures.groupby(["method", "error"], sort=False):
            notes.append(f"{method}: not trained in {_listed(rows['case'].tolist())}: {error}")
        n_done = self.training["test_accuracy"].notna().sum()
        n_left = len(self.training) - n_done - len(failures)
        if n_left:
            notes.append(
                f"{n_left} of {len(self.training)} are not trained yet: cifar-noisy recompute run "
                "--folder with the folder trains them; then do this again"
            )
        return notes

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as numbers, texts, lists and dicts, for JSON; None where undefined."""
        return {
            "cases": list(self.cases),
            "best_baseline": self.best_baseline,
            "summary": _records(self.summary.reset_index()),
            "results": _records(self.frame),
            "training": None if self.training is None else _records(self.training),
            "unreachable": dict(self.unreachable),
        }

    def __str__(self) -> str:
        from tabulate import tabulate

        texts = []
        for head, rows in (self.table(), self.training_table()):
            sides = ["right" if text.startswith(">") else "left" for text in head]
            heads = [text.removeprefix(">") for text in head]
            if rows:
                texts.append(tabulate(rows, heads, disable_numparse=True, colalign=sides))
        return "\n".join([*(texts or ["no case"]), *self.notes()])

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
        shown = html_table(columns, title=title, notes=self.notes())
        head, rows = self.training_table()
        if not rows:
            return shown
        cells = {name.removeprefix(">"): [row[i] for row in rows] for i, name in enumerate(head)}
        return f"<div>{shown}{html_table(cells)}</div>"


def benchmark(
    detector: Detector,
    over: Over = "paper",
    baselines: Baselines = "default",
    *,
    model: str | None = None,
    images: Images | None = None,
    train: str | os.PathLike[str] | Training | None = None,
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
    images : Images, optional
        The train set, as `load_images` gives it, for a detector that trains: it is then a function
        of (images, labels), the (50000, 32, 32, 3) uint8 pixels, read-only, in the place of pyx.
    train : path or Training, optional
        A folder in which to train the recipe `fast` on what each method and two references keep in
        each case, and to test; see `Benchmark.training`. It needs CIFAR-10's images, in the cache
        or where `Training` says, and takes minutes to an hour for each. What is done is kept: the
        same call continues after an interruption, and several machines or Slurm can share the work.
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
        If there is nothing to call or no array for any case, the detector cannot be sent to other
        processes, or `images` goes with arrays.
    MissingInputError
        If the folder does not exist.
    MissingExtraError
        If a baseline of cleanlab is named and that is not installed.
    UnknownArtifactError
        If a case, label set, network or baseline is unknown, or has no probabilities.
    RecomputeError
        If `train` names a folder with another plan, or a device that is not there.
    InterruptedRunError
        If a signal stops the training; what was trained is saved.
    ImagesError, UnavailableError
        If there are no images to train with.

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

    from cifar_noisy.benchmarking.summary import best_baseline, f1_by_case, summarize

    cases, names = find_cases(over, model), find_baselines(baselines)
    functions = functions_by_case(detector, cases, images)
    n_jobs, training = _check_n_jobs(n_jobs), _training(train)
    probe = None if training is None else _check_training(training, cases)
    unreachable = gather_files(cases)
    keeps = training is not None
    jobs = [Job(case, names, functions[case], keeps) for case in cases if case not in unreachable]
    found = run_jobs(jobs, n_jobs, progress)
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
        training=None if training is None else _training_frame(training, probe, cases, found),
    )


def _training(train: str | os.PathLike[str] | Training | None) -> Training | None:
    if train is None:
        return None
    from cifar_noisy.benchmarking.training import Training

    if isinstance(train, str | os.PathLike):
        train = Training(train)
    if not isinstance(train, Training):
        raise InvalidInputError(f"train is {train!r:.60}: pass a folder, or a Training")
    return train


def _check_training(training: Training, cases: Sequence[Case]) -> Probe | None:
    from cifar_noisy.benchmarking.training import check_training

    return check_training(training, cases)


def _training_frame(
    training: Training, probe: Probe | None, cases: Sequence[Case], found: Mapping[Case, Result]
) -> pd.DataFrame:
    import pandas as pd

    from cifar_noisy.benchmarking.training import TRAINING_COLUMNS, train_and_test

    kept = {(c, name): keep for c in cases if c in found for name, keep in found[c].kept.items()}
    rows = [
        {"case": case.name, "method": name} | row
        for (case, name), row in train_and_test(kept, training, probe).items()
    ]
    frame = pd.DataFrame(rows, columns=["case", "method", *TRAINING_COLUMNS])
    rates = ("test_accuracy", "test_corrected", "test_soft")
    return frame.astype(dict.fromkeys(rates, "float64"))


def _mine(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["method"] == YOURS]


def _check_n_jobs(n_jobs: object) -> int:
    with contextlib.suppress(TypeError):
        number = operator.index(n_jobs)  # type: ignore[arg-type]
        if number >= 1 and not isinstance(n_jobs, bool):
            return number
    raise InvalidInputError(f"n_jobs={n_jobs!r} is no number of processes: pass 1 or more")


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
