"""The benchmark: detectors good and bad, its summary against plain loops, and other processes."""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from numpy.typing import NDArray

import cifar_noisy
from cifar_noisy import (
    SETTINGS,
    Benchmark,
    InvalidInputError,
    MissingExtraError,
    MissingInputError,
    Setting,
    SuspectMaskWarning,
    UnknownArtifactError,
    benchmark,
    evaluate,
    label_error_scores,
    label_errors,
    load_noisy_labels,
    load_pyx,
)
from cifar_noisy.benchmarking import baselines as baselines_module
from cifar_noisy.benchmarking.baselines import BASELINES, DEFAULT_BASELINES
from cifar_noisy.benchmarking.cases import all_cases, find_cases
from cifar_noisy.benchmarking.summary import bootstrap_interval, f1_by_case, summarize
from cifar_noisy.store.label_sets import find_label_set

N = 50_000
OVER = ("noise0.2-sparsity0", "noise0.4-sparsity0.2")
PAPER = [setting for setting in SETTINGS if setting.noise and setting.has_probabilities]
Labels = NDArray[np.int64]
Pyx = NDArray[np.floating[Any]]


def is_noisier(labels: Labels) -> bool:
    """Whether labels are those of the second case."""
    return bool((labels != cifar_noisy.load_true_labels()).mean() > 0.3)


def unlikely(labels: Labels, pyx: Pyx) -> NDArray[np.float64]:
    return label_error_scores(labels, pyx)["self_confidence"]


def disagree(labels: Labels, pyx: Pyx) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pyx.argmax(axis=1) != labels
    return found


def ends_its_process(labels: Labels, pyx: Pyx) -> NDArray[np.bool_]:
    if is_noisier(labels):
        os._exit(1)
    return disagree(labels, pyx)


def asks_to_stop(labels: Labels, pyx: Pyx) -> Labels:
    raise KeyboardInterrupt


def sleeps(labels: Labels, pyx: Pyx) -> Labels:
    time.sleep(600)
    return labels


def interrupts_and_sleeps() -> None:
    """Benchmark in a process that Ctrl-C reaches; run by a test."""
    print("started", flush=True)
    benchmark(sleeps, n_jobs=2)


def mine(result: Benchmark) -> Any:
    return result.frame[result.frame["method"] == "yours"].iloc[0]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is not at hand be absent at once."""
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")


def test_rates_are_those_of_evaluate(published: str) -> None:
    result = benchmark(unlikely, OVER)
    assert result.cases == OVER
    assert list(result.frame["method"][:8]) == ["yours", *DEFAULT_BASELINES]
    for row in result.frame.to_dict("records"):
        case, method = row["case"], row["method"]
        labels, pyx = load_noisy_labels(case), load_pyx(case)
        name = "self_confidence" if method == "yours" else method
        masks: dict[Any, Any] = dict(label_errors(labels, pyx))
        found = (masks | label_error_scores(labels, pyx))[name]
        expected = evaluate(found, case)
        assert row["noise_rate"] == (labels != cifar_noisy.load_true_labels()).mean()
        if row["kind"] == "mask":
            for rate in ("precision", "recall", "f1", "accuracy"):
                assert row[rate] == getattr(expected.detection, rate)
            assert np.isnan(row["best_f1"])
        else:
            for rate in ("average_precision", "roc_auc", "precision_at_n_errors", "best_f1"):
                assert row[rate] == getattr(expected.ranking, rate)
            assert np.isnan(row["f1"])


def test_false_negative_rate_against_a_plain_loop(published: str) -> None:
    generator = np.random.default_rng(0)
    scores = dict.fromkeys(OVER[:1], generator.permutation(N).astype(np.float64))
    row = mine(benchmark(scores, OVER[:1], "none"))
    is_error = load_noisy_labels(OVER[0]) != cifar_noisy.load_true_labels()
    flagged = np.argsort(-scores[OVER[0]])[: is_error.sum()]
    missed = set(np.flatnonzero(is_error).tolist()) - set(flagged.tolist())
    assert row["fnr_at_n_errors"] == pytest.approx(len(missed) / is_error.sum())


def made_up_frame(n_cases: int = 9, seed: int = 0) -> pd.DataFrame:
    """Return a frame of three methods, one of which failed twice, over label sets and networks."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(n_cases):
        for method in ("yours", "one", "two"):
            value = round(float(generator.random()), 1)  # with ties
            row: dict[str, Any] = {
                "case": f"case{i}",
                "labels": f"set{min(i, 6)}",
                "method": method,
            }
            row |= {"f1": None, "best_f1": None, "error": None, "kind": None}
            if method == "one" and i in (1, 7):
                row["error"] = "ValueError"
            elif method == "two":
                row |= {"best_f1": value, "kind": "score"}
            else:
                row |= {"f1": value, "kind": "mask"}
            rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.astype({"f1": "float64", "best_f1": "float64"})


@pytest.mark.parametrize("seed", range(5))
def test_summary_against_a_plain_loop(seed: int) -> None:
    frame = made_up_frame(seed=seed)
    summary = summarize(frame, ("one", "two"))
    f1: dict[str, dict[str, float | None]] = {"yours": {}, "one": {}, "two": {}}
    for row in frame.to_dict("records"):
        value = row["f1"] if row["kind"] == "mask" else row["best_f1"]
        f1[row["method"]][row["case"]] = None if np.isnan(value) else value
    cases = list(f1["yours"])
    assert list(summary.index) == list(f1)
    for method, by_case in f1.items():
        values = [value for value in by_case.values() if value is not None]
        said: Any = summary.loc[method]
        assert said["cases"] == len(values)
        assert said["failed"] == len(cases) - len(values)
        assert said["mean"] == pytest.approx(sum(values) / len(values))
        assert (said["worst"], said["best"]) == (min(values), max(values))
        ranks = []
        for case in cases:
            own = by_case[case]
            others = [-1 if value is None else value for value in (f1[m][case] for m in f1)]
            reached = -1 if own is None else own
            better = sum(1 for other in others if other > reached)
            equal = sum(1 for other in others if other == reached)
            ranks.append(better + (equal + 1) / 2)
        assert said["mean_rank"] == pytest.approx(sum(ranks) / len(ranks))
        for baseline in ("one", "two"):
            pairs = [(by_case[case], f1[baseline][case]) for case in cases]
            wins = sum(1 for a, b in pairs if a is not None and b is not None and a > b)
            assert said[f"wins_{baseline}"] == wins
        of_set = [v for case, v in by_case.items() if case >= "case6" and v is not None]
        assert said["range_set6"] == pytest.approx(max(of_set) - min(of_set))
    assert [name for name in summary if str(name).startswith("range")] == ["range_set6"]
    pairs = [(f1["yours"][case], f1["two"][case]) for case in cases]
    differences = [a - b for a, b in pairs if a is not None and b is not None]
    assert summary["difference"]["yours"] == pytest.approx(np.mean(differences))
    # "two" is the best, since the other one failed
    assert summary["difference"].isna().to_dict() == {"yours": False, "one": False, "two": True}


def test_bootstrap_against_a_plain_loop() -> None:
    differences = np.random.default_rng(1).normal(0.1, 0.3, (12, 3))
    differences[4, 1] = np.nan
    differences[1:, 2] = np.nan
    low, high = bootstrap_interval(differences)
    generator = np.random.default_rng(7)
    for column in (0, 1):
        means = []
        for _ in range(4000):
            drawn = [differences[i, column] for i in generator.integers(0, 12, 12)]
            means.append(np.nanmean(drawn))
        expected = np.quantile(means, (0.025, 0.975))
        np.testing.assert_allclose((low[column], high[column]), expected, atol=0.02)
    assert np.isnan(low[2])
    assert np.isnan(high[2])
    np.testing.assert_array_equal(low, bootstrap_interval(differences)[0])  # seeded


def test_bootstrap_is_paired() -> None:
    shared = np.random.default_rng(0).random(12)
    low, high = bootstrap_interval(np.column_stack([(shared + 0.01) - shared]))
    assert low[0] == pytest.approx(0.01)
    assert high[0] == pytest.approx(0.01)


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def raising(error: BaseException) -> Callable[..., Any]:
    def detector(labels: Labels, pyx: Pyx) -> None:
        raise error

    return detector


async def later(labels: Labels, pyx: Pyx) -> Labels:
    return labels


LATER: Any = later


RUBBISH: dict[str, tuple[Callable[..., Any], str]] = {
    "raises": (
        raising(RuntimeError("no\nluck")),
        r"RuntimeError: no luck \(test_benchmark.py, line",
    ),
    "ends": (raising(SystemExit(2)), "SystemExit: 2"),
    "recurses": (raising(RecursionError()), "RecursionError"),
    "cannot say": (raising(SpeechlessError()), "SpeechlessError"),
    "takes nothing": (lambda: None, "TypeError: .*positional"),
    "nothing": (lambda labels, pyx: None, "found has dtype object"),
    "short": (lambda labels, pyx: labels[1:] > 3, r"shape \(49999,\)"),
    "table": (lambda labels, pyx: pyx, r"shape \(50000, 10\)"),
    "NaN": (lambda labels, pyx: np.where(labels > 3, np.nan, labels), "found.*is nan"),
    "infinite": (lambda labels, pyx: 1.0 / (labels > 3), "found.*is inf"),
    "constant": (lambda labels, pyx: np.zeros(N), "found is constant"),
    "integers": (lambda labels, pyx: labels, "found holds int64"),
    "zeros and ones": (lambda labels, pyx: (labels > 3).astype(int), r"pass found.astype\(bool\)"),
    "complex": (lambda labels, pyx: pyx[:, 0] * 1j, "dtype complex"),
    "words": (lambda labels, pyx: labels.astype(str), "dtype <U"),
    "ragged": (lambda labels, pyx: [[1], [1, 2]], "found is no array"),
    "set": (lambda labels, pyx: {1, 2}, "found is a set"),
    "a generator": (lambda labels, pyx: (x > 3 for x in labels), "dtype object"),
    "masked": (lambda labels, pyx: np.ma.masked_greater(pyx[:, 0], 0.5), "masked entries"),
    "an index of others": (
        lambda labels, pyx: pd.Series(pyx[:, 0], np.arange(N)[::-1] + 1),
        "carry the index",
    ),
}


@pytest.mark.parametrize("kind", RUBBISH)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_rubbish_costs_its_cell(kind: str, published: str) -> None:
    detector, says = RUBBISH[kind]
    result = benchmark(detector, OVER[:1], ["argmax"])
    rows: Any = result.frame.set_index("method")
    assert pd.Series([rows.loc["yours", "error"]]).str.contains(says, regex=True).all(), rows
    assert "\n" not in result.errors[OVER[0]]
    assert rows.loc["yours", ["f1", "best_f1", "precision", "roc_auc"]].isna().all()
    assert rows.loc["argmax", "f1"] > 0.7
    assert result.summary.loc["yours", "failed"] == 1
    assert f"yours failed in {OVER[0]}: " in str(result)
    assert "NaN" not in json.dumps(result.as_dict(), allow_nan=False)


def test_a_coroutine_costs_its_cell(published: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it is never awaited
        assert "dtype object" in benchmark(LATER, OVER[:1], "none").errors[OVER[0]]


def test_what_fails_in_one_case_runs_in_the_others(published: str) -> None:
    def picky(labels: Labels, pyx: Pyx) -> NDArray[np.bool_]:
        if is_noisier(labels):
            raise ValueError("too many")
        return disagree(labels, pyx)

    result = benchmark(picky, OVER, "none")
    assert list(result.errors) == [OVER[1]]
    assert list(result.frame["error"].isna()) == [True, False]
    assert result.summary.loc["yours", "cases"] == 1


def test_input_is_each_ones_own(published: str) -> None:
    held: list[NDArray[Any]] = []

    def spoils(labels: Labels, pyx: Pyx) -> NDArray[Any]:
        held.extend((labels, pyx))
        found = disagree(labels, pyx)
        np.seterr(all="raise")
        labels[:], pyx[:] = 0, 0
        return found

    before = np.geterr()
    result = benchmark(spoils, OVER, "default")
    assert np.geterr() == before
    expected = benchmark(disagree, OVER, "default")
    pd.testing.assert_frame_equal(result.frame, expected.frame)
    assert len({id(array) for array in held}) == 4


def test_what_is_printed_is_no_result(published: str, capsys: pytest.CaptureFixture[str]) -> None:
    def talks(labels: Labels, pyx: Pyx) -> NDArray[np.bool_]:
        print("here")
        time.sleep(1)  # a bar appears after half of that
        return disagree(labels, pyx)

    benchmark(talks, OVER[:1], "none", progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert "here\n" in said.err
    assert "1/1 [" in said.err
    benchmark(disagree, OVER[:1], "none")
    assert capsys.readouterr().err == ""  # no terminal


def test_ctrl_c_ends_the_run(published: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        benchmark(asks_to_stop, OVER)


def test_an_inverted_mask_is_said_once(published: str) -> None:
    with pytest.warns(SuspectMaskWarning, match="in 2 of 2 cases the detector flags right") as said:
        benchmark(lambda labels, pyx: ~disagree(labels, pyx), OVER)
    assert len(said) == 1
    assert said[0].filename == __file__


def test_groups_of_cases() -> None:
    assert [case.name for case in find_cases("paper")] == [setting.name for setting in PAPER]
    human = [case.name for case in find_cases("human")]
    assert len(human) == 10
    assert {name.split("-")[1] for name in human} == {"aggregate", "worst"}
    assert find_cases(["human", "cifar10s"]) == find_cases("all")[12:]
    assert find_cases(find_label_set("cifar10s")) == find_cases("cifar10s")
    assert find_cases(Setting(0.4, 0.2)) == find_cases("noise0.4-sparsity0.2")
    assert find_cases(setting for setting in [PAPER[0]] * 2) == find_cases(PAPER[0])
    assert [case.name for case in find_cases("cifar10s", "resnet18")] == ["cifar10s-resnet18"]
    assert len({case.name for case in all_cases()}) == len(all_cases()) == 28


@pytest.mark.parametrize(
    ("over", "error", "says"),
    [
        ("papers", UnknownArtifactError, "did you mean paper"),
        ("cifar10n-random1", UnknownArtifactError, "no probabilities were published"),
        (Setting(0.9, 0.2), UnknownArtifactError, "no probabilities were published"),
        ("cifar10n-worst-resnet50", UnknownArtifactError, "did you mean cifar10n-worst-resnet"),
        ([], InvalidInputError, "over names no case"),
        (0.4, InvalidInputError, "over has 0.4"),
        (None, InvalidInputError, "over has None"),
        (b"paper", InvalidInputError, "over has b'paper'"),
        ([("cifar10s", "resnet18")], InvalidInputError, "over has"),
    ],
)
def test_cases_that_are_none(over: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        benchmark(disagree, over)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"detector": None}, InvalidInputError, "detector is a NoneType"),
        ({"detector": np.zeros(N)}, InvalidInputError, "detector is a ndarray"),
        ({"detector": "nowhere"}, MissingInputError, "nowhere is no folder"),
        ({"detector": {}}, InvalidInputError, "no array for any of the 12 cases"),
        ({"detector": {"noise0.4": []}}, UnknownArtifactError, "did you mean noise0.4-"),
        ({"baselines": "cl_pcb"}, UnknownArtifactError, "did you mean cl_pbc"),
        ({"baselines": [None]}, UnknownArtifactError, "baseline None is unknown"),
        ({"baselines": 3}, InvalidInputError, "baselines is 3"),
        ({"model": "resnet18"}, UnknownArtifactError, "there are resnet50"),
        *(
            ({"n_jobs": n_jobs}, InvalidInputError, "is no number of processes")
            for n_jobs in (0, -1, 1.5, "2", None, True)
        ),
    ],
)
def test_arguments_that_are_none(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        benchmark(**{"detector": disagree} | arguments)


def test_baselines(published: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = benchmark(disagree, OVER[:1], "all")
    assert list(result.summary.index) == ["yours", *BASELINES]
    assert result.frame["error"].isna().all()
    by_method = result.frame.set_index("method")
    for ours, theirs, rate in (
        ("argmax", "cleanlab-predicted_neq_given", "f1"),
        ("cl_pbc", "cleanlab-prune_by_class", "f1"),
        ("cl_pbnr", "cleanlab-prune_by_noise_rate", "f1"),
        ("cl_both", "cleanlab-both", "f1"),
        ("self_confidence", "cleanlab-self_confidence", "roc_auc"),
        ("normalized_margin", "cleanlab-normalized_margin", "roc_auc"),
    ):
        assert by_method.loc[ours, rate] == pytest.approx(by_method.loc[theirs, rate], abs=2e-4)
    monkeypatch.setattr(baselines_module, "find_spec", lambda name: None)
    assert list(benchmark(disagree, OVER[:1], "all").summary.index[1:]) == [*DEFAULT_BASELINES]
    with pytest.raises(MissingExtraError, match="cleanlab is not installed: pip install cleanlab"):
        benchmark(disagree, OVER[:1], ["argmax", "cleanlab-both"])
    none = benchmark(disagree, OVER[:1], [])
    assert none.best_baseline is None
    assert "difference" not in none.summary


class Lazy(Mapping[str, Any]):
    """A mapping that reads its values when they are asked for, as an `.npz` file does."""

    def __getitem__(self, name: str) -> Any:
        raise OSError("disk on fire")

    def __iter__(self) -> Iterator[str]:
        return iter(OVER)

    def __len__(self) -> int:
        return len(OVER)


def test_arrays_that_were_computed_elsewhere(published: str, tmp_path: Path) -> None:
    found = {case: disagree(load_noisy_labels(case), load_pyx(case)) for case in OVER}
    expected = benchmark(disagree, OVER).frame
    for case, array in found.items():
        np.save(tmp_path / f"{case}.npy", array)
    np.savez(tmp_path / "all.npz", **found)  # type: ignore[arg-type]  # the names are dynamic
    pd.testing.assert_frame_equal(benchmark(found, OVER).frame, expected)
    pd.testing.assert_frame_equal(benchmark(tmp_path, OVER).frame, expected)
    with np.load(tmp_path / "all.npz") as arrays:
        pd.testing.assert_frame_equal(benchmark(arrays, OVER, n_jobs=2).frame, expected)
    (tmp_path / f"{OVER[1]}.npy").write_bytes(b"\x93NUMPY")
    assert "is no .npy file" in benchmark(str(tmp_path), OVER).errors[OVER[1]]
    (tmp_path / f"{OVER[1]}.npy").unlink()
    assert "does not exist" in benchmark(str(tmp_path), OVER).errors[OVER[1]]
    del found[OVER[1]]
    assert benchmark(found, OVER).errors == {OVER[1]: f"no array is named '{OVER[1]}'"}
    assert set(benchmark(Lazy(), OVER).errors) == set(OVER)
    with pytest.raises(MissingInputError, match="has no array for any of the 1 cases"):
        benchmark(tmp_path, "noise0.7-sparsity0")


def test_files_that_cannot_be_had(upstream: Path, tmp_path: Path, monkeypatch: Any) -> None:
    file = cifar_noisy.artifacts(kind="pyx", noise=OVER[0])[0].path
    (tmp_path / file).parent.mkdir(parents=True)
    shutil.copy(upstream / file, tmp_path / file)
    monkeypatch.setenv("CIFAR_NOISY_MIRRORS", str(tmp_path))
    result = benchmark(disagree, [*OVER, "cifar10s-resnet18"])
    assert result.cases == OVER[:1]
    assert list(result.unreachable) == [OVER[1], "cifar10s-resnet18"]
    assert "not reachable: 2 cases, the first noise0.4-sparsity0.2: 2 files" in str(result)
    (tmp_path / file).write_bytes(b"damaged")
    with pytest.warns(cifar_noisy.CorruptFileWarning):
        result = benchmark(disagree, OVER)
    assert result.cases == ()
    assert set(result.unreachable) == set(OVER)
    assert len(result.frame) == len(result.summary) == 0
    assert str(result).startswith("no case")
    assert json.dumps(result.as_dict())
    assert "<table" in result._repr_html_()


def test_where_no_label_is_wrong(published: str) -> None:
    result = benchmark(unlikely, ["noise0-sparsity0", OVER[0]])
    assert np.isnan(mine(result)["best_f1"])
    assert result.errors == {}
    assert result.summary.loc["yours", "cases"] == 1
    assert benchmark(unlikely, "noise0-sparsity0").best_baseline is None


def test_networks_of_a_label_set(label_sets: Path) -> None:
    result = benchmark(disagree, "cifar10s", ["cl_pbc"])
    f1 = f1_by_case(result.frame)
    assert len(f1) == 5
    spread = f1["yours"].max() - f1["yours"].min()
    assert result.summary.loc["yours", "range_cifar10s"] == spread > 0
    assert set(result.frame["noise_kind"]) == {"class-dependent"}


def test_shown(published: str) -> None:
    result = benchmark(unlikely, OVER, ["cl_pbc"])
    assert "yours " in str(result)
    assert "wins, difference: to cl_pbc" in str(result)
    assert "\n" not in repr(result)
    assert "cl_pbc" in result._repr_html_()
    values = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert values["cases"] == list(OVER)
    assert values["summary"][0]["method"] == "yours"
    assert len(values["results"]) == 4


@dataclass
class Above:
    """A detector that is an object, and not hashable."""

    threshold: float

    def __call__(self, labels: Labels, pyx: Pyx) -> NDArray[np.bool_]:
        return unlikely(labels, pyx) > self.threshold


@pytest.mark.parametrize("detector", [unlikely, Above(0.7), functools.partial(Above(0.7))])
def test_processes_give_the_same(detector: Any, published: str) -> None:
    result = benchmark(detector, OVER, n_jobs=2)
    assert result.errors == {}
    pd.testing.assert_frame_equal(result.frame, benchmark(detector, OVER).frame)


def test_a_detector_that_ends_its_process_costs_its_cell(published: str) -> None:
    result = benchmark(ends_its_process, OVER, ["argmax"], n_jobs=2)
    assert "its process ended before it returned" in result.errors[OVER[1]]
    assert list(result.errors) == [OVER[1]]
    assert result.summary.loc["argmax", "cases"] == 2


def test_ctrl_c_in_another_process_ends_the_run(published: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        benchmark(asks_to_stop, OVER, n_jobs=2)


def is_alive_in(session: int, process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        is_member = os.getsid(process.pid) == session
        return is_member and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_run(stop: signal.Signals, published: str) -> None:
    program = "from tests.benchmarking.test_benchmark import *\ninterrupts_and_sleeps()\n"
    run = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert run.stdout is not None
    assert run.stdout.readline() == "started\n"
    time.sleep(3)
    if stop == signal.SIGINT:
        os.killpg(run.pid, stop)  # as a terminal does
    else:
        run.send_signal(stop)
    _, said = run.communicate(timeout=60)  # its processes hold the pipe too, so they have ended
    if stop == signal.SIGINT:
        assert said.rstrip().endswith("KeyboardInterrupt")
        assert said.count("Traceback") == 1
    deadline = time.monotonic() + 60
    while any(is_alive_in(run.pid, process) for process in psutil.process_iter()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("detector", [lambda labels, pyx: labels > 3, sys.stdout.write])
def test_what_cannot_go_to_other_processes_is_said(detector: Any, published: str) -> None:
    with pytest.raises(InvalidInputError, match="make detector a function at the top of a module"):
        benchmark(detector, OVER, n_jobs=2)


GUARD = "if __name__ == '__main__':\n    "
SCRIPT = """
import cifar_noisy
def detector(labels, pyx):
    return pyx.argmax(axis=1) != labels
{}print(cifar_noisy.benchmark(detector, "noise0.2-sparsity0", "none", n_jobs=2).errors)
"""


def test_scripts(published: str, tmp_path: Path) -> None:
    (tmp_path / "guarded.py").write_text(SCRIPT.format(GUARD))
    (tmp_path / "bare.py").write_text(SCRIPT.format(""))
    for arguments, text, says in (
        (["guarded.py"], "", "{}"),
        (["bare.py"], "", "other processes cannot start: .*"),
        (["-"], SCRIPT.format(GUARD), "other processes cannot start: .*"),
        (["-c", SCRIPT.format("")], "", "make detector a function at the top of a module .*"),
    ):
        run = subprocess.run(
            [sys.executable, *arguments], input=text, cwd=tmp_path, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        last = (run.stdout or run.stderr).splitlines()[-1]
        assert pd.Series([last]).str.contains(says).all() or last == says, run.stderr


PRINTS = """
import os, subprocess
print("imported")
os.write(1, b"by number\\n")
def detector(labels, pyx):
    print("called")
    subprocess.run(["echo", "by another process"], check=True)
    return pyx.argmax(axis=1) != labels
"""


@pytest.mark.parametrize("n_jobs", ["1", "2"])
def test_json_has_nothing_that_a_detector_prints(
    n_jobs: str, published: str, tmp_path: Path
) -> None:
    (tmp_path / "prints.py").write_text(PRINTS)
    run = subprocess.run(
        [sys.executable, "-m", "cifar_noisy", "benchmark", "prints:detector", "--json", "--over",
         "noise0.2-sparsity0", "--baselines", "none", "--jobs", n_jobs],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(run.stdout)["cases"] == ["noise0.2-sparsity0"]
    for printed in ("imported", "by number", "called", "by another process"):
        assert printed in run.stderr
