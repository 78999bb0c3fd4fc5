"""Measure what the package promises about speed and memory; print one row a promise.

    CIFAR_NOISY_MIRRORS=UPSTREAM_FOLDER,LABEL_SETS_FOLDER python scripts/bench.py

Each row is taken in one run: the two sides of a ratio in turn, the median of several. Needs the
published files, in the cache or in a mirror folder.
"""

import hashlib
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import cifar_noisy
from cifar_noisy.settings import SETTINGS
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.registry import artifacts

PACKAGES = ("numpy", "cleanlab", "pandas", "pooch", "scikit-learn", "torch")


class Row(NamedTuple):
    """One promise and what was measured of it."""

    promise: str
    measured: str
    target: str
    is_met: bool


def seconds(run: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def medians(runs: Iterable[Iterable[float]]) -> list[float]:
    """Return the median of each number over several runs."""
    return [statistics.median(values) for values in zip(*runs, strict=True)]


def in_turn(ours: Callable[[], object], theirs: Callable[[], object], n: int) -> list[float]:
    """Return the median seconds of each side, taken in turn after one warm-up."""
    ours(), theirs()
    return medians((seconds(ours), seconds(theirs)) for _ in range(n))


def masks() -> Row:
    """Time all 65 masks from loaded arrays against cleanlab's function for the five filters."""
    from cleanlab.filter import find_label_issues

    settings = [setting for setting in SETTINGS if setting.has_probabilities]
    problems = [(cifar_noisy.load_noisy_labels(s), cifar_noisy.load_pyx(s)) for s in settings]
    pruning = ("prune_by_class", "prune_by_noise_rate", "both")
    filters = ("predicted_neq_given", "confident_learning", *pruning)
    ours, theirs = in_turn(
        lambda: [cifar_noisy.label_errors(*problem) for problem in problems],
        lambda: [
            find_label_issues(*problem, filter_by=name, n_jobs=1)
            for problem in problems
            for name in filters
        ],
        n=5,
    )
    measured = f"{theirs / ours:.1f} times ({ours:.3f} s against {theirs:.2f} s)"
    return Row("65 masks, faster than cleanlab", measured, "at least 10 times", theirs / ours >= 10)


def python(program: str, **environment: str) -> list[float]:
    """Run a program in a fresh interpreter and return the numbers that it prints."""
    argv, variables = [sys.executable, "-c", program], os.environ | environment
    result = subprocess.run(argv, env=variables, capture_output=True, text=True, check=True)
    return [float(word) for word in result.stdout.split()]


def hardly_slower(promise: str, ours: float, theirs: float) -> Row:
    measured = f"{ours / theirs:.2f} times ({ours * 1000:.2f} ms against {theirs * 1000:.2f} ms)"
    return Row(promise, measured, "at most 1.3 times", ours / theirs <= 1.3)


def importing() -> Row:
    """Time fresh processes that import the package against such that import numpy."""
    ours, theirs = (partial(python, f"import {name}") for name in ("cifar_noisy", "numpy"))
    promise = "import cifar_noisy, against import numpy"
    return hardly_slower(promise, *in_turn(ours, theirs, n=15))


def warm_load() -> Row:
    """Time a warm load_pyx against a bare np.load and one sha256 of the file."""
    path = Store.from_environment().path(artifacts(kind="pyx", noise=0.4, sparsity=0.2)[0])

    def bare() -> None:
        np.load(path)
        hashlib.sha256(path.read_bytes()).digest()

    taken = in_turn(lambda: cifar_noisy.load_pyx(0.4, 0.2), bare, n=200)
    return hardly_slower("load_pyx, warm, against np.load and sha256", *taken)


COMMAND = """
import resource, subprocess, sys, time
start = time.perf_counter()
command = [sys.executable, "-m", "cifar_noisy", *{!r}.split()]
subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
taken = time.perf_counter() - start
print(taken, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000)
"""


def commands() -> Iterator[Row]:
    """Take time and memory of commands as processes, imports included."""
    for words, limit, megabytes in (
        ("--help", 0.5, 100),
        ("list --labels", 0.3, 100),
        ("verify", 1.5, 250),
    ):
        taken, peak = medians(python(COMMAND.format(words)) for _ in range(7))
        yield Row(
            f"cifar-noisy {words}, as a process",
            f"{taken:.2f} s, {peak:.0f} MB",
            f"under {limit:g} s, {megabytes} MB",
            taken < limit and peak < megabytes,
        )


VERIFY = """
import resource, time
import cifar_noisy, cifar_noisy.evaluation.verification
start = time.perf_counter()
n = sum(1 for _ in cifar_noisy.verify())
taken = time.perf_counter() - start
print(n, taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
"""


def verify() -> Iterator[Row]:
    """Take time and memory of a verify of everything, files at hand, beyond imports."""
    n_checks, taken, peak = medians(python(VERIFY) for _ in range(5))
    yield Row(f"verify, {n_checks:.0f} checks", f"{taken:.2f} s", "under 3 s", taken < 3)
    yield Row("verify, peak memory of the process", f"{peak:.0f} MB", "under 600 MB", peak < 600)


def logs() -> Row:
    """Time the parsing of every published log."""
    found = [a for a in artifacts(kind="training_log") if a.size]
    store = Store.from_environment()
    texts = [store.read(artifact).decode() for artifact in found]
    taken = seconds(lambda: [cifar_noisy.parse_training_log(text) for text in texts])
    size = sum(artifact.size for artifact in found)
    measured = f"{taken:.2f} s ({size / 1e6 / taken:.0f} MB/s)"
    return Row(f"parsing all {len(found)} logs", measured, "under 5 s", taken < 5)


def evaluation() -> Iterator[Row]:
    """Time the evaluation of a mask and of a score, published methods beside, beyond imports."""
    scores = cifar_noisy.label_error_scores(
        cifar_noisy.load_noisy_labels(0.4, 0.2), cifar_noisy.load_pyx(0.4, 0.2)
    )["self_confidence"]
    for what, found, limit in (("mask", scores > 0.7, 0.02), ("score", scores, 0.1)):
        cifar_noisy.evaluate(found, 0.4, 0.2)
        run = partial(cifar_noisy.evaluate, found, 0.4, 0.2)
        taken = statistics.median(seconds(run) for _ in range(21))
        measured, target = f"{taken * 1000:.0f} ms", f"under {limit * 1000:.0f} ms"
        yield Row(f"evaluate a {what} of 50,000", measured, target, taken < limit)


def label_sets() -> Row:
    """Time the labels of a label set: the first call reads its file, later ones keep them."""
    cifar_noisy.load_noisy_labels("cifar10n-worst")
    run = partial(cifar_noisy.load_noisy_labels, "cifar10n-worst")
    taken = statistics.median(seconds(run) for _ in range(21))
    measured = f"{taken * 1000:.2f} ms"
    return Row("load_noisy_labels by name, warm", measured, "under 5 ms", taken < 0.005)


BENCHMARK = """
import os, sys
import cifar_noisy, cifar_noisy.benchmarking.benchmark, cifar_noisy.benchmarking.summary
import pandas, tqdm.auto
over, kind = {!r}, {!r}
scores = cifar_noisy.load_pyx(0.4, 0.2)[:, 0].astype(float)
found = scores if kind == "score" else scores > 0.5
start = os.times()
cifar_noisy.benchmark(lambda labels, pyx: found, over, "none")
print(os.times().user - start.user)
"""


def detector_benchmark() -> Iterator[Row]:
    """Take the CPU time of a benchmark around a detector that takes none, beyond imports."""
    for over, limit in (("paper", 2), ("all", 6)):
        for kind in ("mask", "score"):
            (taken,) = medians(python(BENCHMARK.format(over, kind)) for _ in range(5))
            promise = f"benchmark of a {kind} over {over}, user CPU time"
            yield Row(promise, f"{taken:.2f} s", f"under {limit} s", taken < limit)


def tables() -> Row:
    """Time the paper's tables from all masks of an edition and all logs."""
    taken = statistics.median(seconds(cifar_noisy.paper_tables) for _ in range(3))
    return Row("tables, 161 logs", f"{taken:.2f} s", "under 5 s", taken < 5)


def report(rows: Iterable[Row]) -> int:
    """Print the rows; return an exit status, 0 where all are met."""
    table, measured = Table("promise", "measured", "target", "met"), list(rows)
    for *texts, is_met in measured:
        table.add_row(*texts, "yes" if is_met else "NO")
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 0 if all(row.is_met for row in measured) else 1


def main() -> int:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"Python {platform.python_version()}, {packages}; {platform.machine()}, {cpu()}")
    arrays, sets = (masks(), importing(), warm_load()), (label_sets(), *detector_benchmark())
    return report([*arrays, *commands(), *verify(), logs(), *evaluation(), *sets, tables()])


def cpu() -> str:
    """Return the processor's name and how many cores this machine has."""
    described = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", described.read_text() if described.exists() else "")
    return f"{os.cpu_count()} cores of {names[0] if names else platform.processor()}"


if __name__ == "__main__":
    sys.exit(main())
